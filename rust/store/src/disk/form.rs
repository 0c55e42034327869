//! Entries as records, and records as entries.

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::record::{
    Damage, Front, Record, RecordKind,
    frame::{self, Label},
    stored::{self, HeadRef, StoredSlices},
};

use crate::{Chunks, Content, Entry, Object, PurgeFacts, Slices, Variants, View, compact_body};

/// The kind of an entry's record; `None` for entries that are not worth writing.
pub(super) fn kind(entry: &Entry) -> Option<RecordKind> {
    match entry.view() {
        View::Object => Some(RecordKind::OBJECT),
        View::Variants(_) => Some(RecordKind::VARIANTS),
        View::Slice(_) => Some(RecordKind::SLICE),
        View::Unshared { .. } => None,
    }
}

/// Appends an entry's record without its padding. `None` when it cannot be written as a record.
pub(super) fn write(out: &mut Vec<u8>, seed: u64, entry: &Arc<Entry>, label: Label) -> Option<()> {
    let mut head = Vec::with_capacity(512);
    let mut body = Chunks::new();
    match entry.view() {
        View::Object => {
            let object = entry.object()?;
            let head_ref = HeadRef {
                status: object.status,
                headers: &object.headers,
                freshness: &object.freshness,
                took: object.took,
                refresh_from: object.refresh_from,
                upstream_status: object.upstream_status.as_ref(),
                set_aside: &object.set_aside,
                has_validator: object.has_validator,
                cut: object.slices.map(|slices| StoredSlices {
                    size: slices.size,
                    nonce: slices.nonce,
                    length: object.length,
                }),
                variants: object.variants,
            };
            stored::write_head(&mut head, &head_ref)?;
            body = object.body;
        }
        View::Variants(variants) => {
            stored::write_variants(&mut head, &variants.names, variants.nonce)?;
        }
        View::Slice(bytes) => body.push(bytes.clone()),
        View::Unshared { .. } => return None,
    }
    let mut facts = Vec::new();
    stored::write_facts(&mut facts, entry.viewer(), entry.tags())?;
    let pieces = body.iter().map(|piece| &piece[..]);
    frame::write_front(out, seed, label, (entry.key(), &facts, &head), pieces)?;
    for piece in &body {
        out.extend_from_slice(piece);
    }
    Some(())
}

/// Bytes of a record up to its body, from the first of them.
pub(super) fn front_bytes(bytes: &[u8]) -> Option<u64> {
    Front::length(bytes).ok()
}

/// Reads the response of `key` without its body, and the length of that.
pub(super) fn read_head(seed: u64, bytes: &[u8], key: &[u8]) -> Option<(Entry, u64)> {
    let front = Front::read(seed, bytes).ok()?;
    if front.dead || front.key != key || front.label.kind != RecordKind::OBJECT {
        return None;
    }
    let object = object(&front, Chunks::new(), u64::from(front.body_length)).ok()?;
    let entry = Entry::new(key, Content::Object(object), facts(&front).ok()?);
    Some((entry, u64::from(front.body_length)))
}

fn object(front: &Front<'_>, body: Chunks, body_bytes: u64) -> Result<Object, Damage> {
    let head = stored::read_head(front.head)?;
    Ok(Object {
        status: head.status,
        headers: head.headers,
        freshness: head.freshness,
        took: head.took,
        refresh_from: head.refresh_from,
        length: head.cut.map_or(body_bytes, |cut| cut.length),
        upstream_status: head.upstream_status,
        set_aside: head.set_aside,
        has_validator: head.has_validator,
        slices: head.cut.map(|cut| Slices {
            size: cut.size,
            nonce: cut.nonce,
        }),
        variants: head.variants,
        body,
    })
}

fn facts(front: &Front<'_>) -> Result<PurgeFacts, Damage> {
    let (viewer, tags) = stored::read_facts(front.tags)?;
    Ok(PurgeFacts {
        last_purge: front.label.last_purge,
        viewer: viewer.map(Into::into),
        tags,
    })
}

/// Reads the entry of `key` from a record's bytes. `Ok(None)` when the record is another key's, was removed in place,
/// or is of a kind that this release does not know.
pub(super) fn read(seed: u64, bytes: &Bytes, key: &[u8]) -> Result<Option<Entry>, Damage> {
    let Record { front, body } = Record::read(seed, bytes)?;
    if front.dead || front.key != key {
        return Ok(None);
    }
    let content = match front.label.kind {
        RecordKind::OBJECT => {
            let pieces = compact_body(vec![bytes.slice_ref(body)], body.len());
            Content::Object(object(&front, pieces, body.len() as u64)?)
        }
        RecordKind::VARIANTS => {
            let (names, nonce) = stored::read_variants(front.head)?;
            Content::Variants(Variants::new(names, nonce))
        }
        RecordKind::SLICE => Content::Slice(Bytes::copy_from_slice(body)),
        _ => return Ok(None),
    };
    Ok(Some(Entry::new(key, content, facts(&front)?)))
}
