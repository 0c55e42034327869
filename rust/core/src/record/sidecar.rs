//! The sidecar of a full segment: its table of contents, so that a start reads no record.
//!
//! ```text
//!  0  magic "edX1"   4  version   8  bytes of the segment
//! 16  number of lines            24  bytes of the names
//! 32  checksum of the lines      40  checksum of the names
//! 48  checksum of bytes 0 to 47
//! 56  lines of 40 bytes: hash, sequence, last_purge, offset (u32), length (u32), kind, zeros, names' offset (u32)
//!     names, for each line: key and tags, each behind its length (u32)
//! ```
//!
//! A start needs the lines only; a purge that wants to know what there is reads the names as well.

use super::{Damage, RecordKind, Take, checksum};

/// Bytes of the fixed part.
pub const FIXED_BYTES: usize = 56;
/// Bytes of each line.
pub const LINE_BYTES: usize = 40;

const MAGIC: [u8; 4] = *b"edX1";
const VERSION: u32 = 2;

/// A record as listed in its segment's sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarLine {
    /// The store's hash of the key.
    pub hash: u64,
    /// Order among records under the same hash; the largest is valid.
    pub sequence: u64,
    /// Number of the newest purge when it was stored.
    pub last_purge: u64,
    /// Position of the record in its segment, in bytes.
    pub offset: u32,
    /// Bytes of the whole record, with the zeros behind its body.
    pub length: u32,
    /// The kind of its content.
    pub kind: RecordKind,
    names: u32,
}

/// A table of contents while its segment is being written.
#[derive(Debug, Clone, Default)]
pub struct SegmentContents {
    lines: Vec<SidecarLine>,
    names: Vec<u8>,
}

impl SegmentContents {
    /// Notes a record; `None` when the names have become too long for one sidecar.
    pub fn push(
        &mut self,
        front: super::frame::Label,
        (offset, length): (u32, u32),
        (key, tags): (&[u8], &[u8]),
    ) -> Option<()> {
        let names = u32::try_from(self.names.len()).ok()?;
        let (key_length, tags_length) = (
            u32::try_from(key.len()).ok()?,
            u32::try_from(tags.len()).ok()?,
        );
        self.lines.push(SidecarLine {
            hash: front.hash,
            sequence: front.sequence,
            last_purge: front.last_purge,
            offset,
            length,
            kind: front.kind,
            names,
        });
        self.names.extend_from_slice(&key_length.to_le_bytes());
        self.names.extend_from_slice(key);
        self.names.extend_from_slice(&tags_length.to_le_bytes());
        self.names.extend_from_slice(tags);
        Some(())
    }

    /// Drops the first `number` records.
    pub fn leave_out(&mut self, number: usize) {
        self.lines.drain(..number.min(self.lines.len()));
    }

    /// The records in the order of the segment.
    pub fn lines(&self) -> &[SidecarLine] {
        &self.lines
    }

    /// Key and tags of a line.
    pub fn names(&self, line: &SidecarLine) -> Result<(&[u8], &[u8]), Damage> {
        names(&self.names, line)
    }

    /// The length of the sidecar.
    pub fn bytes(&self) -> u64 {
        (FIXED_BYTES + self.lines.len() * LINE_BYTES + self.names.len()) as u64
    }

    /// The sidecar of a segment of `length` bytes.
    pub fn write(&self, seed: u64, length: u64) -> Vec<u8> {
        let mut lines = Vec::with_capacity(self.lines.len() * LINE_BYTES);
        for line in &self.lines {
            for number in [line.hash, line.sequence, line.last_purge] {
                lines.extend_from_slice(&number.to_le_bytes());
            }
            lines.extend_from_slice(&line.offset.to_le_bytes());
            lines.extend_from_slice(&line.length.to_le_bytes());
            lines.extend_from_slice(&[line.kind.0, 0, 0, 0]);
            lines.extend_from_slice(&line.names.to_le_bytes());
        }
        let mut out = Vec::with_capacity(FIXED_BYTES + lines.len() + self.names.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for number in [
            length,
            self.lines.len() as u64,
            self.names.len() as u64,
            checksum(seed, &lines),
            checksum(seed, &self.names),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(seed, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.append(&mut lines);
        out.extend_from_slice(&self.names);
        out
    }

    /// Reads a whole sidecar.
    pub fn read(seed: u64, bytes: &[u8]) -> Result<(SidecarHead, Self), Damage> {
        let head = SidecarHead::read(seed, bytes)?;
        let (lines, names) = bytes
            .get(FIXED_BYTES..)
            .unwrap_or_default()
            .split_at_checked(head.lines_bytes)
            .ok_or(Damage::Short)?;
        let lines = head.lines(seed, lines)?.collect();
        if names.len() as u64 != head.names_bytes {
            return Err(Damage::Lengths);
        }
        if checksum(seed, names) != head.names_sum {
            return Err(Damage::Checksum);
        }
        let names = names.to_vec();
        Ok((head, Self { lines, names }))
    }
}

/// The fixed part of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarHead {
    /// Length of the segment for which it was written.
    pub segment_bytes: u64,
    /// Bytes of all lines; they follow the fixed part.
    pub lines_bytes: usize,
    /// Bytes of all keys and tags; they follow the lines.
    pub names_bytes: u64,
    lines_sum: u64,
    names_sum: u64,
}

impl SidecarHead {
    /// Reads the fixed part. `seed` is that of the store's checksums.
    pub fn read(seed: u64, bytes: &[u8]) -> Result<Self, Damage> {
        let fixed = bytes.first_chunk::<FIXED_BYTES>().ok_or(Damage::Short)?;
        let mut from = Take(fixed);
        if from.array()? != MAGIC {
            return Err(Damage::NoMagic);
        }
        if from.u32()? != VERSION {
            return Err(Damage::Version);
        }
        let (segment_bytes, count, names_bytes) = (from.u64()?, from.u64()?, from.u64()?);
        let (lines_sum, names_sum) = (from.u64()?, from.u64()?);
        let checked = fixed.get(..FIXED_BYTES - 8).unwrap_or_default();
        if from.u64()? != checksum(seed, checked) {
            return Err(Damage::Checksum);
        }
        let lines_bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(LINE_BYTES))
            .ok_or(Damage::Lengths)?;
        Ok(Self {
            segment_bytes,
            lines_bytes,
            names_bytes,
            lines_sum,
            names_sum,
        })
    }

    /// The lines, from the bytes behind the fixed part; every line lies within the segment.
    pub fn lines<'a>(
        &self,
        seed: u64,
        bytes: &'a [u8],
    ) -> Result<impl DoubleEndedIterator<Item = SidecarLine> + use<'a>, Damage> {
        if bytes.len() != self.lines_bytes {
            return Err(Damage::Short);
        }
        if checksum(seed, bytes) != self.lines_sum {
            return Err(Damage::Checksum);
        }
        let segment = self.segment_bytes;
        Ok(bytes
            .chunks_exact(LINE_BYTES)
            .filter_map(|line| SidecarLine::read(line).ok())
            .filter(move |line| u64::from(line.offset) + u64::from(line.length) <= segment))
    }
}

impl SidecarLine {
    fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let mut from = Take(bytes);
        let (hash, sequence, last_purge) = (from.u64()?, from.u64()?, from.u64()?);
        let (offset, length) = (from.u32()?, from.u32()?);
        let kind = RecordKind(from.u8()?);
        from.bytes(3)?;
        Ok(Self {
            hash,
            sequence,
            last_purge,
            offset,
            length,
            kind,
            names: from.u32()?,
        })
    }
}

fn names<'a>(all: &'a [u8], line: &SidecarLine) -> Result<(&'a [u8], &'a [u8]), Damage> {
    let mut from = Take(all.get(line.names as usize..).ok_or(Damage::Short)?);
    Ok((from.long()?, from.long()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::record::frame::Label;

    fn contents() -> SegmentContents {
        let mut contents = SegmentContents::default();
        for i in 0..5u32 {
            let label = Label {
                kind: RecordKind(i as u8),
                sequence: u64::from(i) + 100,
                last_purge: u64::from(i) + 200,
                hash: u64::from(i) + 300,
            };
            let key = format!("key-{i}");
            contents
                .push(label, (i * 64, 64), (key.as_bytes(), b"tag"))
                .unwrap();
        }
        contents
    }

    #[test]
    fn a_sidecar_reads_as_it_was_written() {
        let contents = contents();
        let bytes = contents.write(1, 5 * 64);
        assert_eq!(bytes.len() as u64, contents.bytes());
        let (head, read) = SegmentContents::read(1, &bytes).unwrap();
        assert_eq!(head.segment_bytes, 320);
        assert_eq!(read.lines(), contents.lines());
        for (i, line) in read.lines().iter().enumerate() {
            let key = format!("key-{i}");
            assert_eq!(read.names(line).unwrap(), (key.as_bytes(), &b"tag"[..]));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_missing_byte_goes_unnoticed() {
        let bytes = contents().write(1, 320);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(SegmentContents::read(1, &flipped).is_err(), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(
                SegmentContents::read(1, &bytes[..length]).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn a_line_beyond_its_segment_is_left_out() {
        let bytes = contents().write(1, 319);
        assert_eq!(SegmentContents::read(1, &bytes).unwrap().1.lines().len(), 4);
    }
}
