//! One stored response, immutable, ready to be sent.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;
use edgerouter_core::cache::freshness::Freshness;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

/// What the store keeps under a key.
#[derive(Debug)]
pub struct Entry {
    pub key: Box<[u8]>,
    pub content: Content,
    pub birth: Birth,
    /// All purges up to this number are known not to concern it, for requests like the one it was stored for.
    cleared: AtomicU64,
    /// Bytes that this entry is charged for: itself, key, fields and body.
    pub size: u64,
    /// Uses since it was last passed by the eviction hand, saturating at [`Entry::MOST_USES`].
    uses: AtomicU8,
}

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

/// A response.
#[derive(Debug)]
pub struct Object {
    pub status: StatusCode,
    /// As it will be sent: hop-by-hop fields gone, `Via` appended, `Age` and `Cache-Status` present as placeholders so
    /// that replacing them on a hit does not make a clone grow.
    pub headers: HeaderMap,
    pub freshness: Freshness,
    /// Milliseconds that it took to get from the origin.
    pub took: u32,
    /// Age in seconds from which on a hit may refresh it ahead of expiry; `u32::MAX`: none does.
    pub refresh_from: u32,
    /// Empty where the body is in slices.
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

/// A body as it arrived. Nearly always one piece.
pub type Chunks = SmallVec<[Bytes; 1]>;

/// The names that select among variants (RFC 9111 §4.1), and a nonce that is part of every variant's key: a new
/// nonce makes all variants of before unreachable at once.
#[derive(Debug)]
pub struct Variants {
    pub names: SmallVec<[HeaderName; 4]>,
    pub nonce: u64,
}

/// What a map entry of a `HeaderMap` costs besides its text: name, value, hash and links, and its share of the index.
const FIELD_OVERHEAD: usize = 112;

impl Entry {
    /// Uses beyond this make no difference to eviction; below it a hit writes to the entry.
    pub const MOST_USES: u8 = 3;

    /// What no purge concerns: what is under the key is not a response.
    pub fn marker(key: &[u8], content: Content) -> Self {
        Self::new(key, content, Birth::default())
    }

    pub fn new(key: &[u8], content: Content, birth: Birth) -> Self {
        let purging = birth.tags.len() * size_of::<u64>()
            + birth.viewer.as_ref().map_or(0, |viewer| viewer.len());
        let size =
            (size_of::<Self>() + 2 * size_of::<usize>() + key.len() + content.heap() + purging)
                as u64;
        Self {
            key: key.into(),
            content,
            cleared: AtomicU64::new(birth.born),
            birth,
            size,
            uses: AtomicU8::new(0),
        }
    }

    pub fn object(&self) -> Option<&Object> {
        match &self.content {
            Content::Object(object) => Some(object),
            Content::Variants(_) | Content::Unshared { .. } | Content::Slice(_) => None,
        }
    }

    pub fn slice(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Slice(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::Relaxed)
    }

    /// Notes that no purge up to `sequence` concerns it.
    pub fn clear(&self, sequence: u64) {
        self.cleared.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The same response, stale from `at` on; `None` when it is so already.
    pub fn softened(&self, at: u64) -> Option<Self> {
        let object = self.object()?;
        let freshness = object.freshness.softened(at);
        if freshness == object.freshness {
            return None;
        }
        let softened = Object {
            freshness,
            refresh_from: u32::MAX,
            headers: object.headers.clone(),
            body: object.body.clone(),
            upstream_status: object.upstream_status.clone(),
            set_aside: object.set_aside.clone(),
            ..*object
        };
        let entry = Self::new(&self.key, Content::Object(softened), self.birth.clone());
        entry.set_uses(self.uses());
        entry.clear(self.cleared());
        Some(entry)
    }

    /// Notes a use. A hot entry is only read, so cores do not fight for its cache line.
    pub fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < Self::MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    pub fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    pub fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed);
    }
}

impl Content {
    fn heap(&self) -> usize {
        match self {
            Self::Object(object) => {
                let fields: usize = object
                    .headers
                    .iter()
                    .map(|(name, value)| FIELD_OVERHEAD + name.as_str().len() + value.len())
                    .sum();
                let body: usize = object.body.iter().map(Bytes::len).sum();
                fields + body + object.body.len().saturating_sub(1) * size_of::<Bytes>()
            }
            Self::Variants(variants) => variants.names.iter().map(|n| n.as_str().len()).sum(),
            Self::Unshared { .. } => 0,
            Self::Slice(bytes) => bytes.len(),
        }
    }
}

/// Copies every value into one allocation of exactly their length. Values parsed from the wire are slices of the
/// connection's read buffer: keeping them would keep that buffer, which no accounting would see.
pub fn compact(headers: &HeaderMap) -> HeaderMap {
    let total = headers.values().map(HeaderValue::len).sum();
    let mut text = Vec::with_capacity(total);
    for value in headers.values() {
        text.extend_from_slice(value.as_bytes());
    }
    let text = Bytes::from(text);
    let mut compacted = HeaderMap::with_capacity(headers.len() + 2);
    let mut start = 0;
    for (name, value) in headers {
        let end = start + value.len();
        let slice = text.slice(start..end);
        // The bytes were a header value a moment ago, so they are one still.
        if let Ok(mut copied) = HeaderValue::from_maybe_shared(slice) {
            copied.set_sensitive(value.is_sensitive());
            compacted.append(own_name(name), copied);
        }
        start = end;
    }
    compacted
}

/// A name with its own text: a custom name parsed from the wire may share the read buffer too.
fn own_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// Joins a body of many pieces into one of exactly its length; a single piece that wastes little is kept as it is.
pub fn compact_body(pieces: Vec<Bytes>, length: usize) -> Chunks {
    let mut chunks = Chunks::new();
    if length == 0 {
        return chunks;
    }
    const PIECE: usize = 256 << 10;
    if length <= PIECE {
        let mut whole = Vec::with_capacity(length);
        for piece in &pieces {
            whole.extend_from_slice(piece);
        }
        chunks.push(Bytes::from(whole));
        return chunks;
    }
    let mut rest = length;
    let mut current = Vec::with_capacity(rest.min(PIECE));
    for piece in &pieces {
        let mut piece = piece.as_ref();
        while !piece.is_empty() {
            let room = current.capacity() - current.len();
            let (now, later) = piece.split_at(room.min(piece.len()));
            current.extend_from_slice(now);
            piece = later;
            if current.len() == current.capacity() {
                rest -= current.len();
                let full = std::mem::replace(&mut current, Vec::with_capacity(rest.min(PIECE)));
                chunks.push(Bytes::from(full));
            }
        }
    }
    if !current.is_empty() {
        chunks.push(Bytes::from(current));
    }
    chunks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_compacted_body_is_the_same_bytes() {
        for length in [0usize, 1, 1000, 256 << 10, (256 << 10) + 1, 700_000] {
            let whole: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let pieces: Vec<Bytes> = whole.chunks(1009).map(Bytes::copy_from_slice).collect();
            let chunks = compact_body(pieces, length);
            let joined: Vec<u8> = chunks.iter().flat_map(|c| c.iter().copied()).collect();
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn compacted_fields_keep_order_and_repeats() {
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        headers.append("x-one", HeaderValue::from_static("3"));
        let compacted = compact(&headers);
        assert_eq!(compacted, headers);
        let all: Vec<_> = compacted
            .get_all("x-one")
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect();
        assert_eq!(all, ["1", "3"]);
    }
}
