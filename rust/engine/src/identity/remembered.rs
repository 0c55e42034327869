//! Verified tokens of one worker: a repeated token costs a hash, a look-up and a comparison (docs/design.md §8).
//!
//! An entry holds the token itself. The hash only finds it; a request is admitted only if every byte is the same, so no
//! collision can forge anything. An entry also holds the context that the token was verified for: another policy, or a
//! changed set of keys, finds nothing. Times are checked on each use.
//!
//! Two generations bound it: new entries go to the young one; when that is full it becomes the old one, and the
//! previous old one is dropped. Used entries move to the young one.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    mem,
    sync::Arc,
};

use edgerouter_core::identity::{
    jwks::KeySet,
    jwt::{Claims, JwtPolicy},
};
use hashbrown::HashTable;

/// Average bytes of an entry, so that many long tokens count as more.
const AVERAGE_BYTES: usize = 2048;

/// A bounded memory of verified tokens.
#[derive(Debug)]
pub(crate) struct Remembered {
    young: Generation,
    old: Generation,
    /// Bound of one generation.
    most: usize,
    hasher: foldhash::quality::RandomState,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashTable<KnownToken>,
    bytes: usize,
}

#[derive(Debug)]
struct KnownToken {
    hash: u64,
    context: TokenContext,
    token: TokenBytes,
    claims: Arc<Claims>,
}

/// The context that a token was verified for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenContext {
    policy: u128,
    keys: u128,
}

/// A token's bytes, which `Debug` never shows.
struct TokenBytes(Box<[u8]>);

impl std::fmt::Debug for TokenBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl KnownToken {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.token.0.len() + self.claims.bytes()
    }

    /// The hash is keyed and compared first, so an outsider cannot choose the entry that a guess is compared with: the
    /// duration of the last comparison reveals nothing about a token that the client does not have.
    fn is(&self, hash: u64, context: TokenContext, token: &[u8]) -> bool {
        self.hash == hash && self.context == context && *self.token.0 == *token
    }
}

impl Remembered {
    /// A memory of at most `tokens` tokens; 0 remembers none.
    pub(crate) fn new(tokens: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            most: tokens.div_ceil(2),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    /// The claims of `token` if it was verified for this policy with these keys and its times still allow it.
    pub(crate) fn get(
        &mut self,
        policy: &JwtPolicy,
        keys: &KeySet,
        token: &[u8],
        now: u64,
    ) -> Option<Arc<Claims>> {
        let (hash, context) = self.locate(policy, keys, token);
        let same = |entry: &KnownToken| entry.is(hash, context, token);
        if let Some(entry) = self.young.entries.find(hash, same) {
            if entry.claims.current(now, policy.leeway) {
                return Some(Arc::clone(&entry.claims));
            }
            self.young.take(hash, same);
            return None;
        }
        let entry = self.old.take(hash, same)?;
        if !entry.claims.current(now, policy.leeway) {
            return None;
        }
        let claims = Arc::clone(&entry.claims);
        self.add(entry);
        Some(claims)
    }

    /// Remembers a token that was just verified for `policy` with `keys`.
    pub(crate) fn put(
        &mut self,
        policy: &JwtPolicy,
        keys: &KeySet,
        token: &[u8],
        claims: Arc<Claims>,
    ) {
        if self.most == 0 {
            return;
        }
        let (hash, context) = self.locate(policy, keys, token);
        let same = |entry: &KnownToken| entry.is(hash, context, token);
        self.young.take(hash, same);
        self.old.take(hash, same);
        self.add(KnownToken {
            hash,
            context,
            token: TokenBytes(token.into()),
            claims,
        });
    }

    fn locate(&self, policy: &JwtPolicy, keys: &KeySet, token: &[u8]) -> (u64, TokenContext) {
        let context = TokenContext {
            policy: policy.fingerprint(),
            keys: keys.fingerprint(),
        };
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token);
        // Fingerprints are evenly spread already.
        (context.policy ^ context.keys).hash(&mut hasher);
        (hasher.finish(), context)
    }

    fn add(&mut self, entry: KnownToken) {
        let full = self.young.entries.len() >= self.most
            || self.young.bytes + entry.bytes() > self.most.saturating_mul(AVERAGE_BYTES);
        if full {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += entry.bytes();
        self.young
            .entries
            .insert_unique(entry.hash, entry, |entry| entry.hash);
    }
}

impl Generation {
    fn take(&mut self, hash: u64, same: impl FnMut(&KnownToken) -> bool) -> Option<KnownToken> {
        let (entry, _) = self.entries.find_entry(hash, same).ok()?.remove();
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
