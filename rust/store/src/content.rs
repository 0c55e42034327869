//! What an entry is made of, and what comes out of it again.

use bytes::Bytes;
use edgerouter_core::cache::{freshness::Freshness, vary};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::pieces::Chunks;

/// What purges are compared with.
#[derive(Debug, Clone, Default)]
pub struct Birth {
    /// The newest purge when the fetch departed that brought it.
    pub born: u64,
    /// The path that the viewer asked for, where it is not the one in the key.
    pub viewer: Option<Box<str>>,
    /// As `edgerouter_core::cache::tags` gives them.
    pub tags: Box<[u64]>,
}

/// What an entry is made of.
#[derive(Debug)]
pub enum Content {
    Object(Object),
    /// The primary key has variants; the response itself is stored under the secondary key.
    Variants(Variants),
    /// The last response under this key could not be stored: until `until` (Unix seconds) requests are not collapsed,
    /// as waiting for one another would serialise them for nothing.
    Unshared {
        until: u64,
    },
    /// Part of a large object's body; found by way of the object only.
    Slice(Bytes),
}

/// What an entry is, without unpacking it.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    Object,
    Variants(&'a Variants),
    Unshared { until: u64 },
    Slice(&'a Bytes),
}

/// A response, unpacked. Values and body share the memory of the entry that it comes from.
#[derive(Debug)]
pub struct Object {
    pub status: StatusCode,
    /// As it will be sent: hop-by-hop fields gone, `Via` appended. `Age` and `Cache-Status` are not stored; out of an
    /// entry they come as placeholders, so that setting them does not make the map grow.
    pub headers: HeaderMap,
    pub freshness: Freshness,
    /// Milliseconds that it took to get from the origin.
    pub took: u32,
    /// Age in seconds from which on a hit may refresh it ahead of expiry; `u32::MAX`: none does.
    pub refresh_from: u32,
    /// On the way into an entry as [`super::pieces::compact_body`] makes it. Empty where the body is in slices.
    pub body: Chunks,
    /// Of the whole body.
    pub length: u64,
    /// Where the body is kept in entries of its own.
    pub slices: Option<Slices>,
    /// The origin's own `Cache-Status` members, which ours is appended to (RFC 9211 §2).
    pub upstream_status: Option<HeaderValue>,
    /// Fields named by `no-cache="…"`/`private="…"`: never sent from the store.
    pub set_aside: SmallVec<[HeaderName; 2]>,
    /// Whether the response may be checked with the origin by a conditional request.
    pub has_validator: bool,
}

/// How a large object's body is cut, and the part of its slices' names that no other object shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    pub size: u64,
    pub nonce: u64,
}

impl Slices {
    /// The key of the slice that begins at `index * size`.
    pub fn key(&self, object: &[u8], index: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(object.len() + 17);
        key.extend_from_slice(object);
        // No dimension of a key begins with this letter.
        key.push(b's');
        key.extend_from_slice(&self.nonce.to_le_bytes());
        key.extend_from_slice(&index.to_le_bytes());
        key
    }
}

/// The names that select among variants (RFC 9111 §4.1), and a nonce that is part of every variant's key: a new
/// nonce makes all variants of before unreachable at once. What leads to the responses that dimensions tell apart has no
/// names.
#[derive(Debug)]
pub struct Variants {
    pub names: SmallVec<[HeaderName; 4]>,
    pub nonce: u64,
}

impl Variants {
    /// Extends the key of a URL and its dimensions to that of the variant which a request selects. `reduced` as for
    /// [`vary::secondary`].
    pub fn select(&self, key: &mut Vec<u8>, request: &HeaderMap, reduced: vary::Reduced) {
        key.push(0);
        key.extend_from_slice(&self.nonce.to_le_bytes());
        vary::secondary(key, &self.names, request, reduced);
    }
}

/// The way from a URL to the response that a request selects: at most one entry that leads to the responses with
/// dimensions, and one that names the selecting fields of `Vary`.
#[derive(Debug)]
pub struct Descent<'a> {
    request: &'a HeaderMap,
    reduced: vary::Reduced,
    hops: u8,
}

impl<'a> Descent<'a> {
    /// `reduced` as for [`vary::secondary`].
    pub fn new(has_dimensions: bool, request: &'a HeaderMap, reduced: vary::Reduced) -> Self {
        Self {
            request,
            reduced,
            hops: if has_dimensions { 2 } else { 1 },
        }
    }

    /// Extends `key`, which begins as the key of a URL with its dimensions, to what `view` leads to; false where it leads
    /// to nothing.
    pub fn descend(&mut self, view: View<'_>, key: &mut Vec<u8>) -> bool {
        let View::Variants(variants) = view else {
            return false;
        };
        let Some(hops) = self.hops.checked_sub(1) else {
            return false;
        };
        self.hops = hops;
        variants.select(key, self.request, self.reduced);
        true
    }
}

#[cfg(test)]
impl Object {
    /// A response without a body.
    pub(super) fn sample(headers: HeaderMap) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            headers,
            freshness: Freshness {
                lifetime: 60,
                rule: edgerouter_core::cache::freshness::LifetimeRule::MaxAge,
                initial_age: 1,
                stored_at: 1_000_000,
                stale_while_revalidate: 5,
                stale_if_error: 6,
                must_revalidate: true,
                always_validate: false,
                immutable: true,
                when_disconnected: true,
            },
            took: 7,
            refresh_from: 8,
            body: Chunks::new(),
            length: 0,
            slices: None,
            upstream_status: None,
            set_aside: SmallVec::new(),
            has_validator: true,
        }
    }
}
