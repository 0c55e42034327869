//! The memory store: shards behind short locks, counted in bytes.
//!
//! A look-up takes a shared lock, compares the whole key, and clones a pointer. Keys come from clients, so the hash is
//! seeded at start.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    entry::Entry,
    shard::{Change, Shard},
};

/// Shards: enough that two cores rarely meet in one, few enough that each holds large objects.
const MOST_SHARDS: u64 = 64;
/// A shard below this could not hold an object of ordinary size.
const LEAST_SHARD_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[RwLock<Shard>]>,
    hasher: foldhash::fast::RandomState,
    capacity: u64,
    largest: u64,
    bytes: AtomicU64,
    entries: AtomicI64,
    evicted: AtomicU64,
}

/// Where a walk through the store has come to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step {
    shard: usize,
    slot: usize,
}

impl MemoryStore {
    /// A store of at most `capacity` bytes, in which no entry is larger than `largest` (`None`: a tenth).
    pub fn new(capacity: u64, largest: Option<u64>) -> Self {
        let largest = largest.unwrap_or(capacity / 10).min(capacity);
        // A shard must hold the largest object, and a few of them, or its share of the bytes could not be used.
        let shards =
            (capacity / LEAST_SHARD_BYTES.max(largest.saturating_mul(2))).clamp(1, MOST_SHARDS);
        let shards = 1 << shards.ilog2();
        Self {
            shards: (0..shards).map(|_| RwLock::new(Shard::default())).collect(),
            hasher: foldhash::fast::RandomState::default(),
            capacity,
            largest,
            bytes: AtomicU64::new(0),
            entries: AtomicI64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    fn locate(&self, key: &[u8]) -> (u64, Option<&RwLock<Shard>>) {
        let hash = self.hasher.hash_one(key);
        // The table uses the low and the top seven bits: take the shard from between.
        let shard = (hash >> 40) as usize & (self.shards.len() - 1);
        (hash, self.shards.get(shard))
    }

    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let (hash, shard) = self.locate(key);
        let entry = shard?.read().get(hash, key)?.clone();
        entry.touch();
        Some(entry)
    }

    /// Looks without counting as a use.
    pub fn peek(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let (hash, shard) = self.locate(key);
        shard?.read().get(hash, key).cloned()
    }

    /// Stores the entry; false when it is larger than any entry may be.
    pub fn insert(&self, entry: Arc<Entry>) -> bool {
        if entry.size > self.largest {
            self.remove(&entry.key);
            return false;
        }
        let (hash, Some(shard)) = self.locate(&entry.key) else {
            return false;
        };
        let share = self.capacity / self.shards.len() as u64;
        let change = shard.write().insert(hash, entry, share);
        self.count(change);
        true
    }

    pub fn remove(&self, key: &[u8]) -> bool {
        let (hash, Some(shard)) = self.locate(key) else {
            return false;
        };
        let change = shard.write().remove(hash, key);
        self.count(change);
        change.removed > 0
    }

    /// Removes this very entry; false when it is no longer there.
    pub fn remove_same(&self, entry: &Arc<Entry>) -> bool {
        let (hash, Some(shard)) = self.locate(&entry.key) else {
            return false;
        };
        let mut shard = shard.write();
        if !shard
            .get(hash, &entry.key)
            .is_some_and(|known| Arc::ptr_eq(known, entry))
        {
            return false;
        }
        let change = shard.remove(hash, &entry.key);
        drop(shard);
        self.count(change);
        change.removed > 0
    }

    /// Puts an entry in the place of another; false when that is no longer there.
    pub fn replace(&self, old: &Arc<Entry>, new: Arc<Entry>) -> bool {
        let (hash, Some(shard)) = self.locate(&old.key) else {
            return false;
        };
        let share = self.capacity / self.shards.len() as u64;
        let mut shard = shard.write();
        if !shard
            .get(hash, &old.key)
            .is_some_and(|known| Arc::ptr_eq(known, old))
        {
            return false;
        }
        let change = shard.insert(hash, new, share);
        drop(shard);
        self.count(change);
        true
    }

    /// A walk in small steps, each of which holds one lock for as long as it takes to copy `most` pointers. What is
    /// stored meanwhile may be left out.
    pub fn step(&self, at: Step, most: usize, found: &mut Vec<Arc<Entry>>) -> Option<Step> {
        let shard = self.shards.get(at.shard)?.read();
        let more = shard.slots(at.slot, most, found);
        drop(shard);
        Some(if more {
            Step {
                slot: at.slot + most,
                ..at
            }
        } else {
            Step {
                shard: at.shard + 1,
                slot: 0,
            }
        })
    }

    fn count(&self, change: Change) {
        self.bytes
            .fetch_add(change.added.wrapping_sub(change.removed), Ordering::Relaxed);
        self.entries
            .fetch_add(change.entries_added, Ordering::Relaxed);
        self.evicted
            .fetch_add(change.evicted_entries, Ordering::Relaxed);
    }

    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Entry>)) {
        for shard in &self.shards {
            shard.read().iter().for_each(&mut visit);
        }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }
    pub fn largest(&self) -> u64 {
        self.largest
    }
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed).max(0) as u64
    }
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::Content;

    fn entry(key: &str) -> Arc<Entry> {
        Arc::new(Entry::marker(
            key.as_bytes(),
            Content::Unshared { until: 0 },
        ))
    }

    #[test]
    fn bytes_are_bounded_and_counted_exactly() {
        let one = entry("key-000000").size;
        let store = MemoryStore::new(one * 100, Some(one * 2));
        for i in 0..10_000 {
            store.insert(entry(&format!("key-{i:06}")));
            assert!(store.bytes() <= store.capacity());
        }
        let mut sum = 0;
        store.for_each(|e| sum += e.size);
        assert_eq!(store.bytes(), sum);
        assert_eq!(store.entries() * one, sum);
        assert!(sum > one * 90, "the capacity is used");
    }

    #[test]
    fn a_scan_does_not_evict_what_is_used() {
        let one = entry("key-000000").size;
        let store = MemoryStore::new(one * 100, Some(one * 2));
        let hot: Vec<String> = (0..50).map(|i| format!("hot-{i:06}")).collect();
        for key in &hot {
            store.insert(entry(key));
        }
        for _ in 0..2 {
            for key in &hot {
                store.get(key.as_bytes());
            }
        }
        for i in 0..100_000 {
            store.insert(entry(&format!("key-{i:06}")));
        }
        let kept = hot
            .iter()
            .filter(|key| store.peek(key.as_bytes()).is_some())
            .count();
        assert_eq!(kept, hot.len());
    }

    #[test]
    fn removal_and_replacement_keep_the_account() {
        let store = MemoryStore::new(1 << 20, None);
        store.insert(entry("a"));
        store.insert(entry("a"));
        assert_eq!(store.entries(), 1);
        assert!(store.remove(b"a"));
        assert!(!store.remove(b"a"));
        assert_eq!((store.entries(), store.bytes()), (0, 0));
        for round in 0..1000 {
            store.insert(entry(&format!("{}", round % 7)));
            store.remove(format!("{}", (round + 3) % 7).as_bytes());
        }
        let mut sum = 0;
        store.for_each(|e| sum += e.size);
        assert_eq!(store.bytes(), sum);
    }
}
