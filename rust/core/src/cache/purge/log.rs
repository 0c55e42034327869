//! Purges as they are written beside the disk cache: frames of length, checksums and JSON, one after another.
//!
//! A frame that reaches beyond the end of the file is an interrupted write: that purge was never acknowledged. The
//! length has its own checksum, so that a damaged length is not mistaken for an interrupted write. Any other mismatch
//! means that purges may be lost, and the reader reports it.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::cache::tags;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLine {
    /// A purge, with everything that a restart needs to apply it again.
    Ordered(PurgeRecord),
    /// The end of a purge's sweep; a purge without one is swept again after a restart.
    Completed(Completion),
    /// Purges up to this number may be forgotten: responses from before it count as purged.
    Floor(u64),
}

/// A purge as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeRecord {
    /// Number of the purge: 1 for the first, each larger than the one before.
    pub sequence: u64,
    /// Unix milliseconds.
    pub created: u64,
    /// Matching responses became stale instead of being removed.
    pub soft: bool,
    /// The things that it purged, normalised.
    pub scopes: Vec<Scope>,
    /// Each scope as the caller spelled it.
    pub given: Vec<String>,
    /// Hashes of the URLs' keys.
    pub keys: Vec<u64>,
    /// The caller's own name for it (at most 128 bytes); makes a repeated order the same
    /// purge.
    pub reference: Option<String>,
}

/// The sweep of a purge has ended with this number of matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Number of the purge whose sweep ended.
    pub sequence: u64,
    /// Stored responses that matched, in memory and on disk.
    pub objects: u64,
    /// Their size, as the store counts it.
    pub bytes: u64,
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    /// Every frame could be read.
    Whole,
    /// The last write was interrupted.
    Torn,
    /// A frame is damaged, and the frames after it cannot be read.
    Damaged,
}

/// Length, its checksum, the payload's checksum.
const HEAD: usize = 16;

/// Appends a line's frame.
pub fn encode(line: &LogLine, out: &mut Vec<u8>) {
    let payload = serde_json::to_vec(line).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&length_sum(length).to_le_bytes());
    out.extend_from_slice(&tags::hash(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

fn length_sum(length: u32) -> u32 {
    tags::hash(&length.to_le_bytes()) as u32
}

/// The lines up to the end or the first damage, and the length of the undamaged part.
pub fn decode(bytes: &[u8]) -> (Vec<LogLine>, usize, LogEnd) {
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return (lines, at, LogEnd::Whole);
        }
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return (lines, at, LogEnd::Torn);
        };
        let Some((sum, after)) = after.split_first_chunk::<4>() else {
            return (lines, at, LogEnd::Torn);
        };
        let length = u32::from_le_bytes(*length);
        if u32::from_le_bytes(*sum) != length_sum(length) {
            return (lines, at, LogEnd::Damaged);
        }
        let Some((sum, after)) = after.split_first_chunk::<8>() else {
            return (lines, at, LogEnd::Torn);
        };
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = after.get(..size) else {
            return (lines, at, LogEnd::Torn);
        };
        let line = (tags::hash(payload) == u64::from_le_bytes(*sum))
            .then(|| serde_json::from_slice::<LogLine>(payload).ok())
            .flatten();
        let Some(line) = line else {
            return (lines, at, LogEnd::Damaged);
        };
        lines.push(line);
        at += HEAD + size;
    }
}

/// The content of a log, in the order of the purges.
#[derive(Debug, Default)]
pub struct LogContents {
    /// Purges that have not been forgotten.
    pub records: Vec<PurgeRecord>,
    /// The ends of sweeps, by number of the purge.
    pub completions: HashMap<u64, Completion, foldhash::fast::RandomState>,
    /// Purges up to this number have been forgotten; 0 if none.
    pub floor: u64,
}

impl LogContents {
    /// Collects the lines of a log. The highest floor holds.
    pub fn of(lines: Vec<LogLine>) -> Self {
        let mut contents = Self::default();
        for line in lines {
            match line {
                LogLine::Ordered(record) => contents.records.push(record),
                LogLine::Completed(completion) => {
                    contents.completions.insert(completion.sequence, completion);
                }
                LogLine::Floor(floor) => contents.floor = contents.floor.max(floor),
            }
        }
        contents
    }

    /// The same log without purges that no response needs: of the purges up to `oldest`, the start of the oldest stored
    /// response, only the newest `remembered` are kept. At most `most` bytes of purges: those that do not fit, and are
    /// not the newest, raise the floor.
    pub fn compacted(&self, oldest: u64, remembered: usize, most: usize) -> Vec<u8> {
        let mut floor = self.floor;
        let mut bytes = 0;
        let mut frames = Vec::new();
        for (age, record) in self.records.iter().rev().enumerate() {
            if record.sequence <= oldest && age >= remembered {
                continue;
            }
            let mut frame = Vec::new();
            encode(&LogLine::Ordered(record.clone()), &mut frame);
            if let Some(completion) = self.completions.get(&record.sequence) {
                encode(&LogLine::Completed(*completion), &mut frame);
            }
            bytes += frame.len();
            if bytes > most && age > 0 {
                floor = floor.max(record.sequence);
                break;
            }
            frames.push(frame);
        }
        let mut out = Vec::new();
        if floor > oldest {
            encode(&LogLine::Floor(floor), &mut out);
        }
        frames.reverse();
        out.extend(frames.into_iter().flatten());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> PurgeRecord {
        PurgeRecord {
            sequence,
            created: 1,
            soft: sequence.is_multiple_of(2),
            scopes: vec![Scope::Everything, Scope::Tag("é".to_owned())],
            given: vec!["/*".to_owned(), "é".to_owned()],
            keys: vec![7, u64::MAX],
            reference: Some("r".to_owned()),
        }
    }

    fn completion(sequence: u64) -> Completion {
        Completion {
            sequence,
            objects: 3,
            bytes: 4,
        }
    }

    #[test]
    fn a_cut_is_a_torn_write_and_every_flipped_bit_is_damage() {
        let mut whole = Vec::new();
        let mut starts = Vec::new();
        let lines = [
            LogLine::Ordered(record(1)),
            LogLine::Completed(completion(1)),
            LogLine::Floor(1),
            LogLine::Ordered(record(2)),
        ];
        for line in &lines {
            starts.push(whole.len());
            encode(line, &mut whole);
        }
        assert_eq!(decode(&whole), (lines.to_vec(), whole.len(), LogEnd::Whole));
        for cut in 0..whole.len() {
            let (read, good, end) = decode(whole.get(..cut).unwrap_or_default());
            let complete = starts.iter().skip(1).filter(|&&start| start <= cut).count();
            assert_eq!(read.len(), complete, "cut at {cut}");
            assert!(good <= cut);
            let boundary = starts.contains(&cut);
            let want = if boundary {
                LogEnd::Whole
            } else {
                LogEnd::Torn
            };
            assert_eq!(end, want, "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let (read, _, end) = decode(&flipped);
            assert_eq!(end, LogEnd::Damaged, "bit {bit}");
            assert!(lines.starts_with(&read), "bit {bit}");
        }
    }

    #[test]
    fn compaction_forgets_what_concerns_nothing_and_raises_the_floor_for_what_has_no_room() {
        let contents = |floor| LogContents {
            records: (1..=5).map(record).collect(),
            completions: [(2, completion(2)), (5, completion(5))]
                .into_iter()
                .collect(),
            floor,
        };
        let kept = |bytes: &[u8]| {
            let (lines, _, end) = decode(bytes);
            assert_eq!(end, LogEnd::Whole);
            let contents = LogContents::of(lines);
            let numbers: Vec<u64> = contents.records.iter().map(|r| r.sequence).collect();
            (numbers, contents.floor, contents.completions.len())
        };
        let most = usize::MAX;
        let all = contents(0).compacted(0, 0, most);
        assert_eq!(kept(&all), (vec![1, 2, 3, 4, 5], 0, 2));
        let one = all.len() / 5;
        for (oldest, remembered, most, floor, want) in [
            (3, 0, most, 0, (vec![4, 5], 0, 1)),
            (3, 3, most, 0, (vec![3, 4, 5], 0, 1)),
            (9, 0, most, 7, (vec![], 0, 0)),
            (9, 1, most, 7, (vec![5], 0, 1)),
            (0, 0, most, 7, (vec![1, 2, 3, 4, 5], 7, 2)),
            (0, 0, 2 * one + one / 2, 0, (vec![4, 5], 3, 1)),
            (3, 5, 2 * one + one / 2, 0, (vec![4, 5], 0, 1)),
            (0, 0, 1, 0, (vec![5], 4, 1)),
        ] {
            let bytes = contents(floor).compacted(oldest, remembered, most);
            assert_eq!(kept(&bytes), want, "{oldest} {remembered} {most} {floor}");
        }
    }
}
