//! One stored response, immutable and packed: values that a hit needs are computed in advance, everything else is left
//! out.

mod thawed;

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use bytes::Bytes;
use edgerouter_core::cache::{
    freshness::{Freshness, LifetimeRule},
    levels::{Level, Variants},
};
use http::StatusCode;
use smallvec::SmallVec;

use super::{
    coded::CodedVariants,
    content::{Content, Object, PurgeFacts, Slices, View},
    extra::{Extra, compact_value},
    fields,
    pieces::{Chunks, SMALL, allocated, in_pieces},
};

/// The value that the store keeps under a key.
///
/// A million small responses must not cost more than their bytes and a few hundred more each, so this is an `Arc` with
/// two exact allocations (key with fields, body) and a third one only for rare parts.
#[derive(Debug)]
pub struct Entry {
    /// The key, then the fields as [`fields::pack`] writes them.
    text: Box<[u8]>,
    /// The body, unless it is in pieces.
    body: Box<[u8]>,
    extra: Option<Box<Extra>>,
    /// As in [`PurgeFacts`].
    last_purge: u64,
    /// All purges up to this number are known not to match it, for requests like the one it was stored for.
    cleared: AtomicU64,
    /// The parts of a [`Freshness`], whose flags are among `flags`. For a [`Content::Unshared`] the time `until`.
    stored_at: u64,
    lifetime: u32,
    initial_age: u32,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    took: u32,
    refresh_from: u32,
    /// The key's length, and above it the number of the lifetime's rule: a separate byte would cost 16.
    key_length_and_rule: u32,
    status: StatusCode,
    flags: u8,
    /// Uses since the eviction hand last passed it, saturating at [`Entry::MOST_USES`].
    uses: AtomicU8,
}

/// Largest key length; no request's head is as long.
const KEY_LENGTH: u32 = (1 << RULE_SHIFT) - 1;
const RULE_SHIFT: u32 = 29;

const OBJECT: u8 = 1;
const HAS_VALIDATOR: u8 = 2;
const MUST_REVALIDATE: u8 = 4;
const ALWAYS_VALIDATE: u8 = 8;
const SLICE: u8 = 16;
const IMMUTABLE: u8 = 32;
const WHEN_DISCONNECTED: u8 = 64;

impl Level for Entry {
    fn variants(&self) -> Option<&Variants> {
        self.extra.as_ref()?.variants.as_deref()
    }
}

impl Entry {
    /// More uses make no difference to eviction; below this number a hit writes to the entry.
    pub const MOST_USES: u8 = 3;

    /// An entry that no purge matches, because it is not a response.
    pub fn marker(key: &[u8], content: Content) -> Self {
        Self::new(key, content, PurgeFacts::default())
    }

    /// Packs an entry. `facts`: its facts for purges.
    pub fn new(key: &[u8], content: Content, facts: PurgeFacts) -> Self {
        let mut entry = Self {
            text: Box::default(),
            body: Box::default(),
            extra: None,
            last_purge: facts.last_purge,
            cleared: AtomicU64::new(facts.last_purge),
            stored_at: 0,
            lifetime: 0,
            initial_age: 0,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            took: 0,
            refresh_from: u32::MAX,
            key_length_and_rule: key.len() as u32 & KEY_LENGTH,
            status: StatusCode::OK,
            flags: 0,
            uses: AtomicU8::new(0),
        };
        let mut text = Vec::from(key);
        let mut extra = Extra {
            viewer: facts.viewer,
            tags: facts.tags,
            ..Extra::default()
        };
        match content {
            Content::Object(object) => {
                fields::pack(&object.headers, &mut text);
                let freshness = &object.freshness;
                entry.status = object.status;
                entry.stored_at = freshness.stored_at;
                entry.lifetime = freshness.lifetime;
                entry.key_length_and_rule |= (freshness.rule as u32) << RULE_SHIFT;
                entry.initial_age = freshness.initial_age;
                entry.stale_while_revalidate = freshness.stale_while_revalidate;
                entry.stale_if_error = freshness.stale_if_error;
                entry.took = object.took;
                entry.refresh_from = object.refresh_from;
                entry.flags = OBJECT
                    | flag(HAS_VALIDATOR, object.has_validator)
                    | flag(MUST_REVALIDATE, freshness.must_revalidate)
                    | flag(ALWAYS_VALIDATE, freshness.always_validate)
                    | flag(IMMUTABLE, freshness.immutable)
                    | flag(WHEN_DISCONNECTED, freshness.when_disconnected);
                extra.slices = object.slices.map(|slices| (slices, object.length));
                extra.coded = object.variants.map(CodedVariants::new);
                extra.upstream_status = object
                    .upstream_status
                    .as_ref()
                    .and_then(compact_value)
                    .map(Box::new);
                extra.set_aside = object.set_aside.into_vec().into_boxed_slice();
                if object.body.iter().map(Bytes::len).sum::<usize>() <= SMALL {
                    entry.body = object.body.concat().into_boxed_slice();
                } else {
                    extra.pieces = object.body.into_vec().into_boxed_slice();
                }
            }
            Content::Variants(variants) => {
                extra.variants = Some(Box::new(variants));
            }
            Content::Unshared { until } => {
                entry.stored_at = until;
            }
            Content::Slice(bytes) => {
                entry.flags = SLICE;
                extra.pieces = Box::new([bytes]);
            }
        }
        if !extra.is_empty() {
            entry.extra = Some(Box::new(extra));
        }
        // A copy of exactly its length: the vector has spare capacity.
        entry.text = text.as_slice().into();
        entry
    }

    /// The whole cache key.
    pub fn key(&self) -> &[u8] {
        self.text.get(..self.key_length()).unwrap_or_default()
    }

    fn key_length(&self) -> usize {
        (self.key_length_and_rule & KEY_LENGTH) as usize
    }

    fn rule(&self) -> LifetimeRule {
        let number = (self.key_length_and_rule >> RULE_SHIFT) as usize;
        LifetimeRule::ALL
            .get(number)
            .copied()
            .unwrap_or(LifetimeRule::None)
    }

    /// The packed header section.
    pub(super) fn fields(&self) -> &[u8] {
        self.text.get(self.key_length()..).unwrap_or_default()
    }

    /// Number of the newest purge when it was stored; only later purges can match it.
    pub fn last_purge(&self) -> u64 {
        self.last_purge
    }

    /// The path that the viewer requested, if it differs from the one in the key.
    pub fn viewer(&self) -> Option<&str> {
        self.extra.as_ref()?.viewer.as_deref()
    }

    /// Hashes of its tags, sorted; empty if it has none.
    pub fn tags(&self) -> &[u64] {
        self.extra.as_ref().map_or(&[], |extra| &extra.tags)
    }

    /// A copy of its facts for purges, for an entry that replaces it.
    pub fn facts(&self) -> PurgeFacts {
        PurgeFacts {
            last_purge: self.last_purge,
            viewer: self.viewer().map(Box::from),
            tags: self.tags().into(),
        }
    }

    /// Number of the newest purge that is known not to match it.
    pub fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::Relaxed)
    }

    /// Notes that no purge up to `sequence` matches it.
    pub fn clear(&self, sequence: u64) {
        self.cleared.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The same response, stale from `at` on; `None` if it is stale by then already.
    pub fn softened(self: &Arc<Self>, at: u64) -> Option<Self> {
        let known = self.freshness()?;
        let freshness = known.softened(at);
        if freshness == known {
            return None;
        }
        let softened = Object {
            freshness,
            refresh_from: u32::MAX,
            ..self.object()?
        };
        let entry = Self::new(self.key(), Content::Object(softened), self.facts());
        entry.set_uses(self.uses());
        entry.clear(self.cleared());
        Some(entry)
    }

    /// Bytes that this entry is charged for: all memory that it keeps allocated.
    pub fn size(&self) -> u64 {
        let own = allocated(size_of::<Self>() + 2 * size_of::<usize>());
        let extra = self.extra.as_deref().map_or(0, Extra::allocated);
        (own + allocated(self.text.len()) + allocated(self.body.len()) + extra + INDEX) as u64
    }

    /// Bytes that this entry, which has no body, would be charged for with a body of `length` bytes, or as a slice of
    /// them.
    pub fn size_with(&self, length: u64) -> u64 {
        if length <= SMALL as u64 || self.is(SLICE) {
            return self.size() + allocated(usize::try_from(length).unwrap_or(SMALL)) as u64;
        }
        let extra = match self.extra {
            Some(_) => 0,
            None => allocated(size_of::<Extra>()),
        };
        let (pieces, count) = in_pieces(length);
        self.size() + pieces + (extra + allocated(count * size_of::<Bytes>())) as u64
    }

    /// The kind, with the small parts; an object is not unpacked.
    pub fn view(&self) -> View<'_> {
        if self.is_object() {
            return View::Object;
        }
        if let Some(bytes) = self.slice() {
            return View::Slice(bytes);
        }
        match self.variants() {
            Some(variants) => View::Variants(variants),
            None => View::Unshared {
                until: self.stored_at,
            },
        }
    }

    /// The times of a stored response; `None` if this is not a response.
    pub fn freshness(&self) -> Option<Freshness> {
        self.is_object().then(|| Freshness {
            lifetime: self.lifetime,
            rule: self.rule(),
            initial_age: self.initial_age,
            stored_at: self.stored_at,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            must_revalidate: self.is(MUST_REVALIDATE),
            always_validate: self.is(ALWAYS_VALIDATE),
            immutable: self.is(IMMUTABLE),
            when_disconnected: self.is(WHEN_DISCONNECTED),
        })
    }

    /// Bytes of a slice; `None` for other kinds.
    pub fn slice(&self) -> Option<&Bytes> {
        let extra = self.extra.as_ref().filter(|_| self.is(SLICE))?;
        extra.pieces.first()
    }

    /// Bytes of the body that have other holders.
    pub fn read_bytes(&self) -> u64 {
        let pieces = self.extra.iter().flat_map(|extra| extra.pieces.iter());
        pieces
            .filter(|piece| !piece.is_unique())
            .map(|piece| piece.len() as u64)
            .sum()
    }

    /// True for a response, with its body or with slices.
    pub fn is_object(&self) -> bool {
        self.is(OBJECT)
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The response, ready to be sent; only the positions of its fields are copied.
    pub fn object(self: &Arc<Self>) -> Option<Object> {
        Some(self.unpack(self.freshness()?))
    }

    /// As `object`, for a response whose times have been read.
    pub fn unpack(self: &Arc<Self>, freshness: Freshness) -> Object {
        let headers = thawed::headers(self).unwrap_or_else(|| fields::unpack(self.fields()));
        let mut object = Object {
            status: self.status,
            headers,
            freshness,
            took: self.took,
            refresh_from: self.refresh_from,
            body: Chunks::new(),
            length: self.body.len() as u64,
            slices: None,
            variants: None,
            upstream_status: None,
            set_aside: SmallVec::new(),
            has_validator: self.is(HAS_VALIDATOR),
        };
        if !self.body.is_empty() {
            object.body.push(Bytes::from_owner(Body(Arc::clone(self))));
        }
        if let Some(extra) = &self.extra {
            object.upstream_status = extra.upstream_status.as_deref().cloned();
            object.set_aside = SmallVec::from(&*extra.set_aside);
            object.variants = extra.coded.as_ref().map(CodedVariants::nonce);
            if !extra.pieces.is_empty() {
                object.body = Chunks::from(&*extra.pieces);
                object.length = extra.pieces.iter().map(|piece| piece.len() as u64).sum();
            }
            if let Some((slices, length)) = extra.slices {
                object.slices = Some(slices);
                object.length = length;
            }
        }
        object
    }

    /// The size of the slices that hold the body, if any do.
    pub fn slices(&self) -> Option<Slices> {
        let (slices, _) = self.extra.as_ref()?.slices?;
        Some(slices)
    }

    /// The coded variants that it may have.
    pub fn coded(&self) -> Option<&CodedVariants> {
        self.extra.as_ref()?.coded.as_ref()
    }

    /// Milliseconds that the response's fetch took.
    pub fn took(&self) -> u32 {
        self.took
    }

    /// The age in seconds from which on a hit may refresh it ahead of its expiry.
    pub fn refresh_from(&self) -> u32 {
        self.refresh_from
    }

    /// Notes a use. A hot entry is only read, so that cores do not contend for its cache line.
    pub fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < Self::MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Uses since the last eviction round, up to a small bound; entries with some are evicted later.
    pub fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    pub(crate) fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed);
    }
}

fn flag(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}

/// Bytes of an entry in the table and in the queue of its shard, and its share of the ghosts: 33 to 49 bytes, because
/// all of them grow in steps.
pub(super) const INDEX: usize = 42;

/// The body of an entry, as memory that responses share.
struct Body(Arc<Entry>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0.body
    }
}

#[cfg(test)]
mod tests;
