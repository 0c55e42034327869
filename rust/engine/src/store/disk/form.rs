//! Entries as records, and records as entries.

use bytes::Bytes;
use edgerouter_core::record::{
    Damage, Kind, Record,
    frame::{self, Label},
    stored::{self, Cut, HeadRef},
};

use crate::store::{Content, Entry, Object, Slices, Variants, entry::Chunks};

/// Bodies up to this are copied out of what was read, so that nothing but them is kept; beyond it the few bytes in front
/// of the body are worth less than the copy.
const COPIED: usize = 64 << 10;

/// The kind of an entry's record; `None` for what is not worth writing.
pub fn kind(content: &Content) -> Option<Kind> {
    match content {
        Content::Object(_) => Some(Kind::OBJECT),
        Content::Variants(_) => Some(Kind::VARIANTS),
        Content::Slice(_) => Some(Kind::SLICE),
        Content::Unshared { .. } => None,
    }
}

/// The pieces of an entry's body.
pub fn body(content: &Content) -> &[Bytes] {
    match content {
        Content::Object(object) => &object.body,
        Content::Slice(bytes) => std::slice::from_ref(bytes),
        Content::Variants(_) | Content::Unshared { .. } => &[],
    }
}

/// Appends everything of an entry's record but body and zeros. `None` when it cannot be written as a record.
pub fn write(out: &mut Vec<u8>, seed: u64, entry: &Entry, label: Label) -> Option<()> {
    let mut head = Vec::with_capacity(512);
    match &entry.content {
        Content::Object(object) => {
            let head_ref = HeadRef {
                status: object.status,
                headers: &object.headers,
                freshness: &object.freshness,
                took: object.took,
                refresh_from: object.refresh_from,
                upstream_status: object.upstream_status.as_ref(),
                set_aside: &object.set_aside,
                has_validator: object.has_validator,
                cut: object.slices.map(|slices| Cut {
                    size: slices.size,
                    nonce: slices.nonce,
                    length: object.length,
                }),
            };
            stored::write_head(&mut head, &head_ref)?;
        }
        Content::Variants(variants) => {
            stored::write_variants(&mut head, &variants.names, variants.nonce)?;
        }
        Content::Slice(_) => {}
        Content::Unshared { .. } => return None,
    }
    let pieces = body(&entry.content).iter().map(|piece| &piece[..]);
    frame::write_front(out, seed, label, (&entry.key, &[], &head), pieces)
}

/// Reads the entry of `key` from a record's bytes. `Ok(None)` when the record is another key's, was removed in place, or
/// is of a kind that this release does not know.
pub fn read(seed: u64, bytes: &Bytes, key: &[u8]) -> Result<Option<Entry>, Damage> {
    let Record { front, body } = Record::read(seed, bytes)?;
    if front.dead || front.key != key {
        return Ok(None);
    }
    let content = match front.label.kind {
        Kind::OBJECT => {
            let head = stored::read_head(front.head)?;
            let length = head.cut.map_or(body.len() as u64, |cut| cut.length);
            Content::Object(Object {
                status: head.status,
                headers: head.headers,
                freshness: head.freshness,
                took: head.took,
                refresh_from: head.refresh_from,
                length,
                upstream_status: head.upstream_status,
                set_aside: head.set_aside,
                has_validator: head.has_validator,
                slices: head.cut.map(|cut| Slices {
                    size: cut.size,
                    nonce: cut.nonce,
                }),
                body: chunks(body, bytes),
            })
        }
        Kind::VARIANTS => {
            let (names, nonce) = stored::read_variants(front.head)?;
            Content::Variants(Variants { names, nonce })
        }
        Kind::SLICE => Content::Slice(own(body, bytes)),
        _ => return Ok(None),
    };
    Ok(Some(Entry::new(key, content)))
}

fn chunks(body: &[u8], record: &Bytes) -> Chunks {
    let mut chunks = Chunks::new();
    if !body.is_empty() {
        chunks.push(own(body, record));
    }
    chunks
}

fn own(body: &[u8], record: &Bytes) -> Bytes {
    if body.len() <= COPIED {
        Bytes::copy_from_slice(body)
    } else {
        record.slice_ref(body)
    }
}
