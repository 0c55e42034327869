//! The memory store: shards behind short locks, counted in bytes.
//!
//! A look-up takes a shared lock, compares the whole key, and clones a pointer. Keys come from clients, so the hash is
//! seeded at start.

use std::{
    fmt,
    hash::BuildHasher,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    entry::Entry,
    evictable::Evictable,
    pinned::Pinned,
    shard::{Gone, Shard},
};

/// Shards: enough that two cores rarely meet in one.
const MOST_SHARDS: u64 = 64;
/// With less per shard, chance would decide how many entries it gets.
const LEAST_SHARD_BYTES: u64 = 4 << 20;
/// Below this a slice costs more to keep than it holds.
const LEAST_SLICE: u64 = 4 << 10;
/// Evictions under one lock.
const TURN: usize = 32;

/// The tier in memory: sharded by the hash of the key, bounded by bytes.
#[derive(Debug)]
pub struct MemoryStore<E = Entry> {
    shards: Box<[RwLock<Shard<E>>]>,
    hasher: foldhash::fast::RandomState,
    capacity: AtomicU64,
    largest: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicUsize,
    evicted: AtomicU64,
    pinned: Pinned<E>,
}

/// The bytes of the largest entry: at most all of the store, and a tenth of it unless they are given.
fn largest_of(capacity: u64, given: Option<u64>) -> u64 {
    given.unwrap_or(capacity / 10).min(capacity)
}

/// The position of a walk through the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct WalkStep {
    shard: usize,
    slot: usize,
}

/// A position in the store from which a walk continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryCursor {
    shard: usize,
    place: usize,
}

impl MemoryCursor {
    /// The next position.
    pub fn after(self) -> Self {
        Self {
            place: self.place.saturating_add(1),
            ..self
        }
    }
}

impl fmt::Display for MemoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.shard, self.place)
    }
}

impl FromStr for MemoryCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, place) = text.split_once('.').ok_or(())?;
        Ok(Self {
            shard: shard.parse().map_err(drop)?,
            place: place.parse().map_err(drop)?,
        })
    }
}

impl<E: Evictable> MemoryStore<E> {
    /// A store of at most `capacity` bytes, in which no entry is larger than `largest` (`None`: a tenth).
    pub fn new(capacity: u64, largest: Option<u64>) -> Self {
        let shards = (capacity / LEAST_SHARD_BYTES).clamp(1, MOST_SHARDS);
        let shards = 1 << shards.ilog2();
        Self {
            shards: (0..shards).map(|_| RwLock::new(Shard::default())).collect(),
            hasher: foldhash::fast::RandomState::default(),
            capacity: AtomicU64::new(capacity),
            largest: AtomicU64::new(largest_of(capacity, largest)),
            bytes: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            pinned: Pinned::default(),
        }
    }

    /// The least capacity with which each shard has enough entries to choose between. Their number never changes.
    pub fn least_capacity(&self) -> u64 {
        match self.shards.len() as u64 {
            0 | 1 => 0,
            shards => shards * LEAST_SHARD_BYTES,
        }
    }

    /// Sets both bounds, and evicts until the first one holds.
    pub fn bound(&self, capacity: u64, largest: Option<u64>) {
        self.capacity.store(capacity, Ordering::Relaxed);
        self.largest
            .store(largest_of(capacity, largest), Ordering::Relaxed);
        self.make_room(0);
    }

    /// Bytes that were evicted and are still being read.
    pub fn pinned(&self) -> u64 {
        self.pinned.bytes()
    }

    /// The part of the hash of `key` that its shard uses, and the number of the shard.
    fn locate(&self, key: &[u8]) -> (u32, usize) {
        let hash = self.hasher.hash_one(key);
        (hash as u32, (hash >> 40) as usize & (self.shards.len() - 1))
    }

    /// Finds an entry, and counts a use of it.
    pub fn get(&self, key: &[u8]) -> Option<Arc<E>> {
        let entry = self.peek(key)?;
        entry.touch();
        Some(entry)
    }

    /// Looks up an entry without counting a use.
    pub fn peek(&self, key: &[u8]) -> Option<Arc<E>> {
        let (hash, at) = self.locate(key);
        self.shards.get(at)?.read().get(hash, key).cloned()
    }

    /// Stores the entry; false when it is larger than any entry may be (the entry that it would have replaced is
    /// removed, because it is outdated).
    pub fn insert(&self, entry: Arc<E>) -> bool {
        let size = entry.size();
        if size > self.largest() {
            self.remove(entry.key());
            return false;
        }
        let (hash, at) = self.locate(entry.key());
        let Some(shard) = self.shards.get(at) else {
            return false;
        };
        // Counted first: the count is never less than the number of entries.
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let replaced = shard.write().insert(hash, entry);
        self.leave(replaced.as_slice());
        self.make_room(at);
        true
    }

    /// Removes an entry; true if there was one.
    pub fn remove(&self, key: &[u8]) -> bool {
        let (hash, at) = self.locate(key);
        let removed = self
            .shards
            .get(at)
            .and_then(|shard| shard.write().remove(hash, key));
        self.leave(removed.as_slice());
        removed.is_some()
    }

    /// Removes exactly this entry; false when it is no longer stored.
    pub fn remove_same(&self, entry: &Arc<E>) -> bool {
        let (hash, at) = self.locate(entry.key());
        let removed = self.shards.get(at).and_then(|shard| {
            let mut shard = shard.write();
            let known = shard.get(hash, entry.key())?;
            if !Arc::ptr_eq(known, entry) {
                return None;
            }
            shard.remove(hash, entry.key())
        });
        self.leave(removed.as_slice());
        removed.is_some()
    }

    /// Replaces an entry by another; false when it is no longer stored.
    pub fn replace(&self, old: &Arc<E>, new: Arc<E>) -> bool {
        let size = new.size();
        let (hash, at) = self.locate(old.key());
        let replaced = self.shards.get(at).and_then(|shard| {
            let mut shard = shard.write();
            let known = shard.get(hash, old.key())?;
            if !Arc::ptr_eq(known, old) {
                return None;
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size, Ordering::Relaxed);
            shard.insert(hash, new)
        });
        self.leave(replaced.as_slice());
        self.make_room(at);
        replaced.is_some()
    }

    /// A step of a walk, which holds one lock for as long as it takes to copy `most` pointers. Entries stored during
    /// the walk may be left out.
    pub fn step(&self, at: WalkStep, most: usize, found: &mut Vec<Arc<E>>) -> Option<WalkStep> {
        let shard = self.shards.get(at.shard)?.read();
        let more = shard.slots(at.slot, most, found);
        drop(shard);
        Some(if more {
            WalkStep {
                slot: at.slot + most,
                ..at
            }
        } else {
            WalkStep {
                shard: at.shard + 1,
                slot: 0,
            }
        })
    }

    fn leave(&self, entries: &[Arc<E>]) {
        let bytes: u64 = entries.iter().map(|entry| entry.size()).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.entries.fetch_sub(entries.len(), Ordering::Relaxed);
    }

    /// Evicts until the bound holds, from shard `at` on. The bytes are bounded for all shards together, so that a large
    /// object may be larger than a shard's share. The shards' numbers of entries are kept equal, as hashing makes them
    /// equal, so the shards evict at the pace of one common queue.
    fn make_room(&self, mut at: usize) {
        let mut idle = 0;
        while self.bytes() > self.capacity() && idle < 2 * self.shards.len() {
            let fair = self.entries.load(Ordering::Relaxed) / self.shards.len();
            let mut gone = Gone::new();
            if let Some(shard) = self.shards.get(at) {
                let over = self.bytes().saturating_sub(self.capacity());
                let mut freed = 0;
                let mut shard = shard.write();
                while freed < over
                    && gone.len() < TURN
                    && shard.len() >= fair
                    && shard.evict(&mut gone)
                {
                    freed += gone.last().map_or(0, |entry| entry.size());
                }
            }
            idle = if gone.is_empty() { idle + 1 } else { 0 };
            self.leave(&gone);
            self.pinned.add(&gone);
            self.evicted.fetch_add(gone.len() as u64, Ordering::Relaxed);
            at = (at + 1) % self.shards.len();
        }
    }

    /// Collects the entries of the next `most` slots from `cursor` on, under one lock; returns where to continue,
    /// `None` at the end. Entries inserted, removed or moved meanwhile may be seen or not; all others are seen once.
    pub fn page(
        &self,
        cursor: MemoryCursor,
        most: usize,
        into: &mut Vec<(MemoryCursor, Arc<E>)>,
    ) -> Option<MemoryCursor> {
        let shard = self.shards.get(cursor.shard)?.read();
        let Some(places) = shard.places(cursor.place, most) else {
            return Some(MemoryCursor {
                shard: cursor.shard + 1,
                place: 0,
            })
            .filter(|next| next.shard < self.shards.len());
        };
        let mut last = cursor;
        for (place, entry) in places {
            last.place = place;
            if let Some(entry) = entry {
                into.push((last, Arc::clone(entry)));
            }
        }
        Some(last.after())
    }

    /// Visits every entry, one shard after another under its lock; changes in between may be missed.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<E>)) {
        for shard in &self.shards {
            shard.read().iter().for_each(&mut visit);
        }
    }

    /// Bytes that the entries together may take.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Bytes of the largest entry that is stored.
    pub fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    /// The size of slices of large objects: `wanted`, or less if no entry of that size is stored. `None` if that is too
    /// small for slices to make sense.
    pub fn slice_bytes(&self, wanted: u64) -> Option<u64> {
        let size = wanted.min(self.largest() / 2);
        (size >= LEAST_SLICE).then_some(size)
    }

    /// Bytes that the entries take now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Entries stored now, markers and slices included.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed) as u64
    }

    /// Entries evicted since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Object};

    fn entry(key: &str) -> Arc<Entry> {
        Arc::new(Entry::marker(
            key.as_bytes(),
            Content::Unshared { until: 0 },
        ))
    }

    #[test]
    fn bytes_are_bounded_and_counted_exactly() {
        let one = entry("key-000000").size();
        let store = MemoryStore::new(one * 100, Some(one * 2));
        for i in 0..10_000 {
            store.insert(entry(&format!("key-{i:06}")));
            assert!(store.bytes() <= store.capacity());
        }
        let mut sum = 0;
        store.for_each(|e| sum += e.size());
        assert_eq!(store.bytes(), sum);
        assert_eq!(store.entries() * one, sum);
        assert!(sum > one * 90, "the capacity is used");
    }

    #[test]
    fn a_scan_does_not_evict_what_is_used() {
        let one = entry("key-000000").size();
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
    fn an_object_larger_than_a_shard_has_room_and_leaves_the_others_theirs() {
        let store = MemoryStore::new(256 << 20, None);
        assert_eq!(store.shards.len(), 64);
        let large = |key: &str, length: usize| {
            let mut object = Object::sample(edgerouter_core::http::Fields::new());
            object.body.push(bytes::Bytes::from(vec![0; length]));
            Arc::new(Entry::marker(key.as_bytes(), Content::Object(object)))
        };
        for round in 0..3 {
            for i in 0..4000 {
                store.insert(large(&format!("{round} {i}"), 64 << 10));
            }
            assert!(store.insert(large(&format!("large {round}"), 20 << 20)));
            assert!(store.peek(format!("large {round}").as_bytes()).is_some());
            assert!(store.bytes() <= store.capacity());
            assert!(store.bytes() > store.capacity() * 9 / 10);
        }
        let lengths: Vec<usize> = store.shards.iter().map(|s| s.read().len()).collect();
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!(
            lengths.iter().all(|&n| n >= mean / 2 && n <= mean * 2),
            "{lengths:?}"
        );
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
        store.for_each(|e| sum += e.size());
        assert_eq!(store.bytes(), sum);
    }
}
