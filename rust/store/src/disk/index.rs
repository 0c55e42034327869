//! The entries on disk and their places: a table in memory, one small slot an entry.
//!
//! Sharded, so that a worker's look-up never waits for more than a few instructions of another thread's change or for
//! the growth of one small table. An entry that is still to be written is found here too, as itself.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::{HashMap, HashTable, hash_table};
use parking_lot::{Mutex, MutexGuard};

use crate::Entry;

const SHARDS: usize = 64;

/// The place of a record: twenty bytes, however long the key is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    hash: [u32; 2],
    pub segment: u32,
    pub offset: u32,
    /// Length in units of [`UNIT`], and above it the number of uses since the record was written.
    length: u32,
}

const UNIT: u64 = 8;
const LENGTH_BITS: u32 = 30;
const MOST_USES: u32 = 3;

impl Slot {
    /// `length` is a multiple of eight and at most 4 GiB, as every record's is.
    pub(super) fn new(hash: u64, segment: u32, offset: u32, length: u64) -> Self {
        let units = (length / UNIT).min((1 << LENGTH_BITS) - 1);
        Self {
            hash: [hash as u32, (hash >> 32) as u32],
            segment,
            offset,
            length: units as u32,
        }
    }

    pub(super) fn hash(&self) -> u64 {
        u64::from(self.hash[0]) | u64::from(self.hash[1]) << 32
    }

    pub(super) fn length(&self) -> u64 {
        u64::from(self.length & ((1 << LENGTH_BITS) - 1)) * UNIT
    }

    pub(super) fn used(&self) -> bool {
        self.length >> LENGTH_BITS > 0
    }

    fn touch(&mut self) {
        if self.length >> LENGTH_BITS < MOST_USES {
            self.length += 1 << LENGTH_BITS;
        }
    }

    /// True if both are the same record.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.segment, self.offset) == (other.segment, other.offset)
    }
}

/// An entry on its way to the disk.
#[derive(Debug, Clone)]
pub(super) struct PendingWrite {
    /// The number of this write among those of its key.
    pub ticket: u64,
    pub entry: Arc<Entry>,
    /// The record that it replaces.
    pub over: Option<Slot>,
}

/// The result of a look-up.
#[derive(Debug, Clone)]
pub(super) enum FoundRecord {
    Pending(Arc<Entry>),
    Stored(Slot),
}

#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Mutex<IndexShard>]>,
    entries: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct IndexShard {
    slots: HashTable<Slot>,
    pending: HashMap<u64, PendingWrite, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Index {
    /// Entries that have a record on disk, and the bytes of these.
    pub(super) fn held(&self) -> (u64, u64) {
        (
            self.entries.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// The locked shard of a hash, with the counters that a change updates.
    pub(super) fn lock(&self, hash: u64) -> Locked<'_> {
        // The hash is seeded and well mixed; the table hashes it again with another seed.
        #[allow(clippy::indexing_slicing)] // below SHARDS
        let shard = self.shards[(hash >> 58) as usize % SHARDS].lock();
        Locked {
            shard,
            index: self,
            hash,
        }
    }

    pub(super) fn find(&self, hash: u64) -> Option<FoundRecord> {
        let locked = self.lock(hash);
        if let Some(pending) = locked.shard.pending.get(&hash) {
            return Some(FoundRecord::Pending(Arc::clone(&pending.entry)));
        }
        locked.slot().map(FoundRecord::Stored)
    }

    /// Drops every slot of one segment.
    pub(super) fn forget(&self, segment: u32) {
        self.retain(|slot| slot.segment != segment);
    }

    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl Fn(&Slot) -> bool) {
        for shard in &self.shards {
            let (mut entries, mut bytes) = (0, 0);
            shard.lock().slots.retain(|slot| {
                let stays = keep(slot);
                if !stays {
                    entries += 1;
                    bytes += slot.length();
                }
                stays
            });
            self.entries.fetch_sub(entries, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Entries that are still to be written.
    pub(super) fn pending(&self) -> Vec<Arc<Entry>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.pending.values().map(|one| Arc::clone(&one.entry)));
        }
        all
    }
}

/// One hash's place in the index, for a change that must not be seen half done.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    shard: MutexGuard<'a, IndexShard>,
    index: &'a Index,
    hash: u64,
}

impl Locked<'_> {
    fn hashed(&self) -> u64 {
        self.shard.hasher.hash_one(self.hash)
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        let slot = self
            .shard
            .slots
            .find(self.hashed(), |slot| slot.hash() == self.hash)?;
        Some(*slot)
    }

    /// True if the index still points at this record.
    pub(super) fn points_at(&self, slot: &Slot) -> bool {
        self.slot().is_some_and(|own| own.is(slot))
    }

    /// Counts a use, for the second chance.
    pub(super) fn touch(&mut self) {
        let hashed = self.hashed();
        if let Some(slot) = self
            .shard
            .slots
            .find_mut(hashed, |slot| slot.hash() == self.hash)
        {
            slot.touch();
        }
    }

    /// Removes the slot.
    pub(super) fn take(&mut self) -> Option<Slot> {
        let hashed = self.hashed();
        let hash = self.hash;
        let found = self
            .shard
            .slots
            .find_entry(hashed, |slot| slot.hash() == hash);
        let (slot, _) = found.ok()?.remove();
        self.index.entries.fetch_sub(1, Ordering::Relaxed);
        self.index.bytes.fetch_sub(slot.length(), Ordering::Relaxed);
        Some(slot)
    }

    /// Inserts a slot; `slot.hash()` is this place's hash.
    pub(super) fn put(&mut self, slot: Slot) {
        let hashed = self.hashed();
        let hash = self.hash;
        let IndexShard { slots, hasher, .. } = &mut *self.shard;
        let old = match slots.entry(
            hashed,
            |slot| slot.hash() == hash,
            |slot| hasher.hash_one(slot.hash()),
        ) {
            hash_table::Entry::Occupied(mut found) => {
                Some(std::mem::replace(found.get_mut(), slot))
            }
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(slot);
                None
            }
        };
        self.index.bytes.fetch_add(slot.length(), Ordering::Relaxed);
        match old {
            Some(old) => {
                self.index.bytes.fetch_sub(old.length(), Ordering::Relaxed);
            }
            None => {
                self.index.entries.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn pending(&self) -> Option<&PendingWrite> {
        self.shard.pending.get(&self.hash)
    }

    pub(super) fn set_pending(&mut self, pending: PendingWrite) {
        let hash = self.hash;
        self.shard.pending.insert(hash, pending);
    }

    pub(super) fn take_pending(&mut self) -> Option<PendingWrite> {
        let hash = self.hash;
        self.shard.pending.remove(&hash)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slots_are_small_and_keep_what_they_are_given() {
        assert_eq!(size_of::<Slot>(), 20);
        let mut slot = Slot::new(u64::MAX - 5, 7, u32::MAX, (4 << 30) - 8);
        for _ in 0..9 {
            slot.touch();
        }
        assert_eq!(slot.hash(), u64::MAX - 5);
        assert_eq!(slot.length(), (4 << 30) - 8);
        assert!(slot.used());
    }

    #[test]
    fn the_account_follows_every_change() {
        let index = Index::default();
        for hash in 0..1000u64 {
            let hash = hash << 54 | hash;
            index.lock(hash).put(Slot::new(hash, 1, 0, 64));
            index.lock(hash).put(Slot::new(hash, 2, 0, 128));
        }
        assert_eq!(index.held(), (1000, 128_000));
        assert!(index.lock(0).take().is_some());
        assert!(index.lock(0).take().is_none());
        assert_eq!(index.held(), (999, 999 * 128));
        index.forget(1);
        assert_eq!(index.held().0, 999);
        index.forget(2);
        assert_eq!(index.held(), (0, 0));
    }
}
