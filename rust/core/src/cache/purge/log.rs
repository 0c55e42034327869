//! Purges as they are written down beside the disk cache: frames of length, checksum and JSON, one after another.
//!
//! A frame that reaches beyond the end of the file, or is the last and damaged, is a write that was cut off: that purge
//! was never acknowledged. Damage before the end means that purges are lost, and the reader says so.

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::cache::tags;

/// A purge as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub sequence: u64,
    /// Unix milliseconds.
    pub created: u64,
    pub soft: bool,
    pub scopes: Vec<Scope>,
    /// Hashes of the URLs' keys.
    pub keys: Vec<u64>,
    pub reference: Option<String>,
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// The last write was cut off.
    Torn,
    /// Something before the end is damaged.
    Damaged,
}

const HEAD: usize = 12;

/// Appends a record's frame.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let payload = serde_json::to_vec(record).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, &payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

fn checksum(length: u32, payload: &[u8]) -> u64 {
    tags::hash(payload) ^ tags::hash(&length.to_le_bytes())
}

/// The records up to the end or the first damage, and the length of what is good.
pub fn decode(bytes: &[u8]) -> (Vec<Record>, usize, End) {
    let mut records = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return (records, at, End::Whole);
        }
        let Some((head, after)) = rest.split_at_checked(HEAD) else {
            return (records, at, End::Torn);
        };
        let (length, sum) = head.split_at(4);
        let length = length.try_into().map_or(0, u32::from_le_bytes);
        let sum = sum.try_into().map_or(0, u64::from_le_bytes);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = after.get(..size) else {
            return (records, at, End::Torn);
        };
        let record = (checksum(length, payload) == sum)
            .then(|| serde_json::from_slice::<Record>(payload).ok())
            .flatten();
        let Some(record) = record else {
            let last = after.len() == size;
            return (records, at, if last { End::Torn } else { End::Damaged });
        };
        records.push(record);
        at += HEAD + size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        Record {
            sequence,
            created: 1,
            soft: sequence.is_multiple_of(2),
            scopes: vec![Scope::Everything, Scope::Tag("é".to_owned())],
            keys: vec![7, u64::MAX],
            reference: Some("r".to_owned()),
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let mut whole = Vec::new();
        let mut starts = Vec::new();
        let records: Vec<Record> = (1..4).map(record).collect();
        for record in &records {
            starts.push(whole.len());
            encode(record, &mut whole);
        }
        assert_eq!(decode(&whole), (records.clone(), whole.len(), End::Whole));
        for cut in 0..whole.len() {
            let (read, good, end) = decode(whole.get(..cut).unwrap_or_default());
            let complete = starts.iter().skip(1).filter(|&&start| start <= cut).count();
            assert_eq!(read.len(), complete, "cut at {cut}");
            assert!(good <= cut);
            assert_eq!(
                end == End::Whole,
                cut == 0 || starts.contains(&cut),
                "cut at {cut}"
            );
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let (read, _, end) = decode(&flipped);
            assert!(read.len() < records.len() && end != End::Whole, "bit {bit}");
            assert!(records.starts_with(&read), "bit {bit}");
        }
    }
}
