//! The frame of a record: what is the same for every kind.
//!
//! ```text
//!  0  magic "edR1"         4  version  5  kind  6  state  7  zero
//!  8  key, 12 tags, 16 head, 20 body: lengths
//! 24  sequence            32  last_purge
//! 40  hash of the key     48  checksum of the body
//! 56  checksum of bytes 0 to 55 (state as zero), key, tags and head
//! 64  key, tags, head, body; zeros up to a multiple of 8
//! ```
//!
//! `state` is outside of the checksum: writing one byte kills a record where there is no room to write that it is gone.

use super::{Damage, Take, checksum_of};

/// Bytes of the fixed part with which each record begins.
pub const FRONT_BYTES: usize = 64;
/// Records begin at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Offset of the state in a record.
pub const STATE_AT: u64 = 6;
/// The state of a record that was removed in place.
pub const DEAD: u8 = 0xdd;

const MAGIC: [u8; 4] = *b"edR1";
const VERSION: u8 = 3;

/// The kind of a record. Kinds that a release does not know are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// Anything stored under this hash before is removed.
    pub const REMOVED: Self = Self(0);
    /// A stored response, with its body unless that is in slices.
    pub const OBJECT: Self = Self(1);
    /// The names that select among variants of a URL; no response itself.
    pub const VARIANTS: Self = Self(2);
    /// Part of a large object's body.
    pub const SLICE: Self = Self(3);
    /// No content: written to test whether writing works.
    pub const PROBE: Self = Self(255);
}

/// Key hash and order of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The kind of its content.
    pub kind: RecordKind,
    /// Of two records under one hash the one with the larger number is valid.
    pub sequence: u64,
    /// The number of the newest purge when it was stored.
    pub last_purge: u64,
    /// The store's hash of the key.
    pub hash: u64,
}

/// The beginning of a record, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front<'a> {
    /// Its key hash and order.
    pub label: Label,
    /// Removed in place.
    pub dead: bool,
    /// The whole cache key, compared because hashes may collide.
    pub key: &'a [u8],
    /// The path that the viewer requested, and the hashes of the tags, as [`super::stored::read_facts`] reads them.
    pub tags: &'a [u8],
    /// The packed head: its form depends on the kind.
    pub head: &'a [u8],
    /// Bytes of the body, which follows the front.
    pub body_length: u32,
    body_sum: u64,
}

/// A whole record, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The fixed part, key, tags and head.
    pub front: Front<'a>,
    /// The body, whose checksum matches.
    pub body: &'a [u8],
}

/// Appends everything of a record but its body and the zeros behind it. `None` when a part is too long for a record.
pub fn write_front<'a>(
    out: &mut Vec<u8>,
    seed: u64,
    label: Label,
    (key, tags, head): (&[u8], &[u8], &[u8]),
    body: impl IntoIterator<Item = &'a [u8]> + Clone,
) -> Option<()> {
    let body_length: usize = body.clone().into_iter().map(<[u8]>::len).sum();
    let lengths = [key.len(), tags.len(), head.len(), body_length];
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, label.kind.0, 0, 0]);
    for length in lengths {
        match u32::try_from(length) {
            Ok(length) => out.extend_from_slice(&length.to_le_bytes()),
            Err(_) => {
                out.truncate(start);
                return None;
            }
        }
    }
    let body_sum = checksum_of(seed, body);
    for number in [label.sequence, label.last_purge, label.hash, body_sum] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let sum = checksum_of(
        seed,
        [out.get(start..).unwrap_or_default(), key, tags, head],
    );
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(tags);
    out.extend_from_slice(head);
    Some(())
}

/// Length of a record from its first byte to the end of the padding after its body.
pub fn record_bytes(key: usize, tags: usize, head: usize, body: u64) -> u64 {
    let whole = (FRONT_BYTES + key + tags + head) as u64 + body;
    whole.next_multiple_of(ALIGNMENT as u64)
}

impl<'a> Front<'a> {
    /// Reads and checks the beginning of a record; bytes after it are not read. `Short` when `bytes` end before the
    /// head does: [`Front::length`] gives the number needed.
    pub fn read(seed: u64, bytes: &'a [u8]) -> Result<Self, Damage> {
        let fixed = bytes.first_chunk::<FRONT_BYTES>().ok_or(Damage::Short)?;
        let Fixed {
            label,
            state,
            key,
            tags,
            head,
            body_length,
            body_sum,
            sum,
        } = Fixed::read(fixed)?;
        let mut rest = Take(bytes.get(FRONT_BYTES..).unwrap_or_default());
        let key = rest.bytes(key as usize)?;
        let tags = rest.bytes(tags as usize)?;
        let head = rest.bytes(head as usize)?;
        let (before, after) = (
            fixed.get(..STATE_AT as usize).unwrap_or_default(),
            fixed
                .get(STATE_AT as usize + 1..FRONT_BYTES - 8)
                .unwrap_or_default(),
        );
        if checksum_of(seed, [before, &[0], after, key, tags, head]) != sum {
            return Err(Damage::Checksum);
        }
        Ok(Self {
            label,
            // Any other value is a damaged one of these two: in doubt the record counts as removed.
            dead: state != 0,
            key,
            tags,
            head,
            body_length,
            body_sum,
        })
    }

    /// Number of bytes that `read` needs, from the first [`FRONT_BYTES`]; unchecked, so the caller must bound it.
    pub fn length(fixed: &[u8]) -> Result<u64, Damage> {
        let fixed = fixed.first_chunk::<FRONT_BYTES>().ok_or(Damage::Short)?;
        let Fixed {
            key, tags, head, ..
        } = Fixed::read(fixed)?;
        Ok(FRONT_BYTES as u64 + u64::from(key) + u64::from(tags) + u64::from(head))
    }

    /// Distance from the record's first byte to the next record's.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(
            self.key.len(),
            self.tags.len(),
            self.head.len(),
            u64::from(self.body_length),
        )
    }

    /// Offset of the body from the record's first byte.
    pub fn body_at(&self) -> usize {
        FRONT_BYTES + self.key.len() + self.tags.len() + self.head.len()
    }
}

impl<'a> Record<'a> {
    /// Reads and checks a whole record.
    pub fn read(seed: u64, bytes: &'a [u8]) -> Result<Self, Damage> {
        let front = Front::read(seed, bytes)?;
        let start = front.body_at();
        let body = bytes
            .get(start..start + front.body_length as usize)
            .ok_or(Damage::Short)?;
        if checksum_of(seed, [body]) != front.body_sum {
            return Err(Damage::Checksum);
        }
        Ok(Self { front, body })
    }
}

struct Fixed {
    label: Label,
    state: u8,
    key: u32,
    tags: u32,
    head: u32,
    body_length: u32,
    body_sum: u64,
    sum: u64,
}

impl Fixed {
    fn read(bytes: &[u8; FRONT_BYTES]) -> Result<Self, Damage> {
        let mut from = Take(bytes);
        if from.array()? != MAGIC {
            return Err(Damage::NoMagic);
        }
        if from.u8()? != VERSION {
            return Err(Damage::Version);
        }
        let kind = RecordKind(from.u8()?);
        let state = from.u8()?;
        from.u8()?;
        let (key, tags, head) = (from.u32()?, from.u32()?, from.u32()?);
        let body_length = from.u32()?;
        let (sequence, last_purge, hash) = (from.u64()?, from.u64()?, from.u64()?);
        Ok(Self {
            label: Label {
                kind,
                sequence,
                last_purge,
                hash,
            },
            state,
            key,
            tags,
            head,
            body_length,
            body_sum: from.u64()?,
            sum: from.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const LABEL: Label = Label {
        kind: RecordKind::OBJECT,
        sequence: 7,
        last_purge: 3,
        hash: 11,
    };

    fn written(body: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        write_front(
            &mut out,
            42,
            LABEL,
            (b"key", b"tags", b"head"),
            body.iter().copied(),
        )
        .unwrap();
        body.iter().for_each(|piece| out.extend_from_slice(piece));
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let bytes = written(&[b"one ", b"two"]);
        assert_eq!(bytes, written(&[b"one two"]), "pieces make no difference");
        let record = Record::read(42, &bytes).unwrap();
        assert_eq!(record.front.label, LABEL);
        assert_eq!(
            (record.front.key, record.front.tags, record.front.head),
            (&b"key"[..], &b"tags"[..], &b"head"[..])
        );
        assert_eq!(record.body, b"one two");
        assert_eq!(record.front.record_bytes(), bytes.len() as u64);
        assert!(!record.front.dead);
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let bytes = written(&[b"body"]);
        let end = Record::read(42, &bytes).unwrap().front.body_at() + 4;
        for at in 0..end * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            if at / 8 == STATE_AT as usize {
                assert_eq!(Record::read(42, &flipped).unwrap().body, b"body");
            } else {
                assert!(Record::read(42, &flipped).is_err(), "bit {at}");
            }
        }
    }

    #[test]
    fn a_torn_record_and_another_caches_record_are_refused() {
        let bytes = written(&[b"body"]);
        let end = Record::read(42, &bytes).unwrap().front.body_at() + 4;
        for length in 0..end {
            assert_eq!(Record::read(42, &bytes[..length]), Err(Damage::Short));
        }
        assert_eq!(Record::read(43, &bytes), Err(Damage::Checksum));
    }

    #[test]
    fn one_byte_kills_a_record() {
        let mut bytes = written(&[b"body"]);
        bytes[STATE_AT as usize] = DEAD;
        assert!(Front::read(42, &bytes).unwrap().dead);
    }
}
