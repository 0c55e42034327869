//! Segment files: records one after the other, and beside each full segment its sidecar.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use edgerouter_core::record::{
    Damage, Front, RecordKind,
    frame::{ALIGNMENT, FRONT_BYTES},
    sidecar::{self, SegmentContents, SidecarLine},
};

/// Bound on key, tags and head of a record together.
pub(super) const MOST_FRONT: u64 = 16 << 20;

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub id: u32,
    pub file: File,
}

pub(super) fn segment_path(folder: &Path, id: u32) -> PathBuf {
    folder.join(format!("{id:08x}.seg"))
}

pub(super) fn sidecar_path(folder: &Path, id: u32) -> PathBuf {
    folder.join(format!("{id:08x}.idx"))
}

/// The number in one of our file names, and whether it is a sidecar's.
pub(super) fn parse_name(name: &str) -> Option<(u32, bool)> {
    let (number, kind) = name.split_once('.')?;
    let sidecar = match kind {
        "seg" => false,
        "idx" => true,
        _ => return None,
    };
    let ours = number.len() == 8
        && number
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(number, 16).ok()?;
    ours.then_some((id, sidecar))
}

/// Opens or makes a file that only its owner may read.
pub(super) fn private(path: &Path, make: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(make)
        .mode(0o600)
        .open(path)
}

impl Segment {
    pub(super) fn create(folder: &Path, id: u32) -> io::Result<Self> {
        // A leftover sidecar of an earlier segment is not this one's.
        let _ = std::fs::remove_file(sidecar_path(folder, id));
        let file = private(&segment_path(folder, id), true)?;
        Ok(Self { id, file })
    }

    pub(super) fn open(folder: &Path, id: u32) -> io::Result<Self> {
        let file = private(&segment_path(folder, id), false)?;
        Ok(Self { id, file })
    }

    pub(super) fn read(&self, offset: u32, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, u64::from(offset))?;
        Ok(bytes)
    }

    /// Reads the beginning of every record, in place of a missing sidecar. Torn or damaged ones are left out; the
    /// search continues after them.
    pub(super) fn scan(&self, seed: u64) -> io::Result<Scan> {
        let length = self.file.metadata()?.len();
        let mut window = Window::new(&self.file);
        let mut scan = Scan::default();
        let mut at = 0;
        while at + FRONT_BYTES as u64 <= length {
            match record_at(&mut window, &mut scan.contents, seed, at, length)? {
                Some(record) => {
                    if at > scan.end {
                        scan.sure_from = scan.contents.lines().len() - 1;
                        scan.damaged = true;
                    }
                    at += record;
                    scan.end = at;
                }
                None => at += ALIGNMENT as u64,
            }
        }
        // An interrupted write ends with the file. A record that lies wholly within the file and cannot be read is
        // damaged.
        if !scan.damaged_tail(&mut window, seed, length)? {
            return Ok(scan);
        }
        scan.sure_from = scan.contents.lines().len();
        scan.damaged = true;
        Ok(scan)
    }
}

/// The content of a segment without a sidecar.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub contents: SegmentContents,
    /// End of the last whole record.
    pub end: u64,
    /// Something before a whole record, or a whole record, cannot be read.
    pub damaged: bool,
    /// Index of the first line after the last damage: earlier lines may have been removed or replaced by the damaged
    /// records.
    pub sure_from: usize,
}

impl Scan {
    /// True if something that was once whole follows the last whole record.
    fn damaged_tail(&self, window: &mut Window<'_>, seed: u64, length: u64) -> io::Result<bool> {
        let rest = length.saturating_sub(self.end);
        if rest < FRONT_BYTES as u64 {
            return Ok(false);
        }
        let fixed = window.get(self.end, FRONT_BYTES)?;
        if ends_in_zeros(fixed) {
            return Ok(false);
        }
        let Ok(front) = Front::length(fixed) else {
            return Ok(true);
        };
        // Longer than the rest of the file: interrupted.
        if front > rest {
            return Ok(false);
        }
        if front > MOST_FRONT {
            return Ok(true);
        }
        let front = window.get(self.end, front as usize)?;
        Ok(!ends_in_zeros(front) && Front::read(seed, front).is_err())
    }
}

/// A probe for room, or the trace of a write that a power failure interrupted: no record begins so.
fn ends_in_zeros(front: &[u8]) -> bool {
    front.iter().rev().take(16).all(|byte| *byte == 0)
}

/// Notes the whole record at `at`, if there is one, and gives its length.
fn record_at(
    window: &mut Window<'_>,
    contents: &mut SegmentContents,
    seed: u64,
    at: u64,
    length: u64,
) -> io::Result<Option<u64>> {
    let Ok(front) = Front::length(window.get(at, FRONT_BYTES)?) else {
        return Ok(None);
    };
    if front > MOST_FRONT {
        return Ok(None);
    }
    let Ok(front) = Front::read(seed, window.get(at, front as usize)?) else {
        return Ok(None);
    };
    let bytes = front.record_bytes();
    let (Ok(offset), Ok(record)) = (u32::try_from(at), u32::try_from(bytes)) else {
        return Ok(None);
    };
    if at + bytes > length {
        return Ok(None);
    }
    let mut label = front.label;
    if front.dead {
        label.kind = RecordKind::REMOVED;
    }
    let noted = contents.push(label, (offset, record), (front.key, front.tags));
    Ok(noted.map(|()| bytes))
}

/// A file read forwards, piece by piece.
struct Window<'a> {
    file: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    const BYTES: usize = 256 << 10;

    fn new(file: &'a File) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// `length` bytes at `at`; fewer at the end of the file.
    fn get(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let within = at
            .checked_sub(self.start)
            .is_some_and(|from| from + length as u64 <= self.bytes.len() as u64);
        if !within {
            self.start = at;
            self.bytes.resize(length.max(Self::BYTES), 0);
            let mut filled = 0;
            while let Some(rest) = self.bytes.get_mut(filled..)
                && !rest.is_empty()
            {
                match self.file.read_at(rest, at + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.bytes.truncate(filled);
        }
        let from = (at - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }
}

/// The whole sidecar of a segment.
pub(super) fn read_sidecar(
    folder: &Path,
    id: u32,
    seed: u64,
) -> io::Result<(sidecar::SidecarHead, SegmentContents)> {
    let bytes = std::fs::read(sidecar_path(folder, id))?;
    SegmentContents::read(seed, &bytes).map_err(damaged)
}

/// The lines of a sidecar, without the names, and the length of the sidecar. If the segment was truncated, the lines
/// beyond its end are dropped; records that they removed or replaced stay so.
pub(super) fn read_lines(
    folder: &Path,
    id: u32,
    seed: u64,
    segment_bytes: u64,
) -> io::Result<(Vec<SidecarLine>, u64)> {
    let file = File::open(sidecar_path(folder, id))?;
    let length = file.metadata()?.len();
    let mut fixed = [0; sidecar::FIXED_BYTES];
    file.read_exact_at(&mut fixed, 0)?;
    let head = sidecar::SidecarHead::read(seed, &fixed).map_err(damaged)?;
    let whole = (sidecar::FIXED_BYTES + head.lines_bytes) as u64 + head.names_bytes;
    if whole != length {
        return Err(damaged(Damage::Lengths));
    }
    let mut bytes = vec![0; head.lines_bytes];
    file.read_exact_at(&mut bytes, sidecar::FIXED_BYTES as u64)?;
    let mut lines: Vec<SidecarLine> = head.lines(seed, &bytes).map_err(damaged)?.collect();
    for line in &mut lines {
        if u64::from(line.offset) + u64::from(line.length) > segment_bytes {
            line.kind = RecordKind::REMOVED;
        }
    }
    Ok((lines, length))
}

pub(super) fn damaged(damage: Damage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_taken_for_segments() {
        assert_eq!(parse_name("0000001f.seg"), Some((31, false)));
        assert_eq!(parse_name("0000001f.idx"), Some((31, true)));
        for name in [
            "1f.seg",
            "0000001F.seg",
            "0000001f.txt",
            "+000001f.seg",
            "0000001f",
            "lock",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
