//! The content of an entry, before it is packed and after it is unpacked.

use std::time::Duration;

use bytes::Bytes;
use edgerouter_core::{
    cache::{arrival::SharedHead, freshness::Freshness, levels::Variants, refresh_ahead, validate},
    http::{FieldName, Fields, range::Range},
};
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::pieces::Chunks;

/// The data that purges are compared with.
#[derive(Debug, Clone, Default)]
pub struct PurgeFacts {
    /// The newest purge when its fetch started.
    pub last_purge: u64,
    /// The path that the viewer requested, if it differs from the one in the key.
    pub viewer: Option<Box<str>>,
    /// As `edgerouter_core::cache::tags` makes them.
    pub tags: Box<[u64]>,
}

/// The content of a new entry.
#[derive(Debug)]
pub enum Content {
    /// A response, with its body or with the size of its slices.
    Object(Object),
    /// The primary key has variants; the response itself is stored under the secondary key.
    Variants(Variants),
    /// The last response under this key could not be stored: until `until` (Unix seconds) requests are not collapsed,
    /// because waiting for one another would serialise them for nothing.
    Unshared {
        /// Unix seconds.
        until: u64,
    },
    /// Part of a large object's body; found only through the object.
    Slice(Bytes),
}

/// Seconds for which an answer that could not be stored switches coalescing off for its URL.
pub const UNSHARED_FOR: u64 = 10;

/// The kind of an entry, without unpacking it.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// A response; [`super::Entry::object`] unpacks it.
    Object,
    /// The names and the nonce that lead to the responses.
    Variants(&'a Variants),
    /// The last response could not be stored: no collapsing until then.
    Unshared {
        /// Unix seconds.
        until: u64,
    },
    /// Part of a large object's body.
    Slice(&'a Bytes),
}

/// An unpacked response. The body shares the memory of its entry.
#[derive(Debug)]
pub struct Object {
    /// The response's own status, before conditions and ranges.
    pub status: StatusCode,
    /// As they will be sent: without hop-by-hop fields, with `Via`. `Age` and `Cache-Status` are not stored.
    pub headers: Fields,
    /// Its times, computed on arrival.
    pub freshness: Freshness,
    /// Milliseconds that its fetch took.
    pub took: u32,
    /// Age in seconds from which on a hit may refresh it ahead of expiry; `u32::MAX`: never.
    pub refresh_from: u32,
    /// For a new entry as [`super::pieces::compact_body`] makes it. Empty if the body is in slices.
    pub body: Chunks,
    /// Of the whole body.
    pub length: u64,
    /// Set if the body is stored in separate entries.
    pub slices: Option<Slices>,
    /// The part of the keys of its coded variants that no other response shares; set if it may have any. The variants
    /// are found only through it, so they go when it goes.
    pub variants: Option<u64>,
    /// The origin's own `Cache-Status` members, before ours (RFC 9211 §2).
    pub upstream_status: Option<HeaderValue>,
    /// Fields named by `no-cache="…"`/`private="…"`: never sent from the store.
    pub set_aside: SmallVec<[FieldName; 2]>,
    /// True if the response can be revalidated with the origin by a conditional request.
    pub has_validator: bool,
}

impl Object {
    /// All of its body.
    pub fn range(&self) -> Range {
        Range {
            first: 0,
            last: self.length.saturating_sub(1),
        }
    }

    /// A response without its body yet, which took this long to get. `beta` as for [`refresh_ahead::begins`].
    pub fn new(
        status: StatusCode,
        head: SharedHead,
        freshness: Freshness,
        took: Duration,
        beta: Option<f64>,
    ) -> Self {
        let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        Self {
            status,
            has_validator: validate::has_validator(&head.headers),
            headers: head.headers,
            freshness,
            took,
            refresh_from: refresh_ahead::begins(&freshness, took, beta),
            body: Chunks::new(),
            length: 0,
            slices: None,
            variants: None,
            upstream_status: head.upstream_status,
            set_aside: head.set_aside,
        }
    }
}

/// The size of a large object's slices, and the part of their keys that no other object shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    /// Bytes of each slice but the last.
    pub size: u64,
    /// Random, and new for each representation.
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

#[cfg(test)]
impl Object {
    /// A response without a body.
    pub(super) fn sample(headers: Fields) -> Self {
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
            variants: None,
            upstream_status: None,
            set_aside: SmallVec::new(),
            has_validator: true,
        }
    }
}
