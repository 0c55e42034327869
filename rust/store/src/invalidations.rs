//! URLs that unsafe requests have invalidated, and when, for responses that are still being fetched: one that was
//! requested before may be outdated (RFC 9111 §4.4).
//!
//! Stored responses are removed at once and need no mark. A mark is compared only when a fetch begins and when its
//! response is stored, never on a hit. The number of marks is bounded: a fetch that started before the oldest of them
//! counts as invalidated, which costs a fetch and is never wrong.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Marks of a generation; two generations are kept.
const GENERATION: usize = 32_768;

/// The keys that unsafe requests invalidated (RFC 9111 §4.4), numbered: a fetch that began before is not stored.
#[derive(Debug, Default)]
pub struct Invalidations {
    newest: AtomicU64,
    marks: Mutex<Marks>,
    hasher: foldhash::fast::RandomState,
}

type Generation = HashMap<u64, u64, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct Marks {
    young: Generation,
    old: Generation,
    /// The newest forgotten mark.
    floor: u64,
}

impl Invalidations {
    /// The number of marks so far: a fetch remembers it when it starts.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Makes responses to earlier requests outdated. Must be called before the URL is removed from the store, so that
    /// such a response either meets the mark or is removed.
    pub fn mark(&self, url_key: &[u8]) {
        let hash = self.hasher.hash_one(url_key);
        let mut marks = self.marks.lock();
        let number = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        if marks.young.len() >= GENERATION {
            let old = std::mem::take(&mut marks.young);
            let forgotten = std::mem::replace(&mut marks.old, old);
            let newest = forgotten.into_values().max().unwrap_or(0);
            marks.floor = marks.floor.max(newest);
        }
        marks.young.insert(hash, number);
    }

    /// True if the response of a fetch that started at mark `departed` may be outdated.
    pub fn outdate(&self, url_key: &[u8], departed: u64) -> bool {
        if self.newest() <= departed {
            return false;
        }
        let hash = self.hasher.hash_one(url_key);
        let marks = self.marks.lock();
        let since =
            |generation: &Generation| generation.get(&hash).is_some_and(|&at| at > departed);
        marks.floor > departed || since(&marks.young) || since(&marks.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_departed_before_is_out_of_date_and_nothing_else() {
        let invalidations = Invalidations::default();
        let before = invalidations.newest();
        invalidations.mark(b"a");
        let after = invalidations.newest();
        assert!(invalidations.outdate(b"a", before));
        assert!(!invalidations.outdate(b"a", after));
        assert!(!invalidations.outdate(b"b", before));
    }

    #[test]
    fn forgotten_marks_count_for_all_that_departed_before_them() {
        let invalidations = Invalidations::default();
        let before = invalidations.newest();
        invalidations.mark(b"first");
        for number in 0..2 * GENERATION {
            invalidations.mark(&number.to_le_bytes());
        }
        let marks = invalidations.marks.lock();
        assert!(marks.young.len() + marks.old.len() <= 2 * GENERATION);
        drop(marks);
        assert!(invalidations.outdate(b"first", before));
        assert!(invalidations.outdate(b"other", before));
        assert!(!invalidations.outdate(b"other", invalidations.newest()));
    }
}
