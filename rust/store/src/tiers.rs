//! The store as the rest of the engine sees it: memory in front, and a disk behind it if configured.
//!
//! `get` looks in memory only, so a hit costs the same with and without a disk. After a miss `find` looks in the disk's
//! index, which is in memory too; only `load` reads, on separate threads.
//!
//! Order of changes: an insertion and a removal change the disk's index first and memory second, and a load puts an
//! entry into memory only while the index still points at it. So a response that was removed or replaced never comes
//! back from the other tier.

use std::sync::Arc;

use edgerouter_telemetry::text;

use super::{
    disk::{Disk, Location},
    entry::Entry,
    memory::MemoryStore,
};

/// Both tiers as one store: entries are found in memory first, then on disk.
#[derive(Debug)]
pub struct Store {
    memory: Arc<MemoryStore>,
    disk: Option<Arc<Disk>>,
}

impl Store {
    /// `disk`: `None` for a store in memory only.
    pub fn new(memory: Arc<MemoryStore>, disk: Option<Arc<Disk>>) -> Self {
        Self { memory, disk }
    }

    /// Both tiers as metrics.
    pub fn render(&self, out: &mut String) {
        let memory = &self.memory;
        for (name, help, value) in [
            (
                "edgerouter_cache_bytes",
                "Bytes in the memory cache.",
                memory.bytes(),
            ),
            (
                "edgerouter_cache_capacity_bytes",
                "Bytes that the memory cache may hold.",
                memory.capacity(),
            ),
            (
                "edgerouter_cache_entries",
                "Entries in the memory cache.",
                memory.entries(),
            ),
            (
                "edgerouter_cache_evicted_total",
                "Entries evicted from the memory cache.",
                memory.evicted(),
            ),
        ] {
            text::one(out, name, help, value);
        }
        if let Some(disk) = &self.disk {
            disk.figures().render(out);
        }
    }

    /// Looks in memory, and counts a use.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    /// Looks in memory without counting a use.
    pub fn peek(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.memory.peek(key)
    }

    /// The place of the entry on disk. Reads nothing; `None` at once without a disk.
    pub fn find(&self, key: &[u8]) -> Option<Location> {
        self.disk.as_ref()?.find(key)
    }

    /// Reads an entry from the disk into memory. `None` when it is damaged, removed meanwhile, or not readable in time.
    /// Concurrent loads of one entry share one read.
    pub async fn load(&self, location: Location, key: &[u8]) -> Option<Arc<Entry>> {
        self.disk.as_ref()?.load(location, key).await
    }

    /// Stores the entry in both tiers; false when it is larger than any entry may be.
    pub fn insert(&self, entry: Arc<Entry>) -> bool {
        if let Some(disk) = &self.disk {
            disk.insert(&entry);
        }
        self.memory.insert(entry)
    }

    /// Removes the entry from both tiers; false when neither had it.
    pub fn remove(&self, key: &[u8]) -> bool {
        let on_disk = self.disk.as_ref().is_some_and(|disk| disk.remove(key));
        self.memory.remove(key) || on_disk
    }

    /// Removes exactly this entry; false when memory does not have it.
    pub fn remove_same(&self, entry: &Arc<Entry>) -> bool {
        let removed = self.memory.remove_same(entry);
        // A newer one in memory implies that the disk has the newer one too.
        if let Some(disk) = &self.disk
            && self.memory.peek(entry.key()).is_none()
        {
            disk.remove(entry.key());
        }
        removed
    }

    /// Replaces an entry by another state of it; false when it is no longer stored.
    pub fn replace(&self, old: &Arc<Entry>, new: Arc<Entry>) -> bool {
        let replaced = self.memory.replace(old, Arc::clone(&new));
        if replaced && let Some(disk) = &self.disk {
            disk.insert(&new);
        }
        replaced
    }

    /// Visits the entries in memory.
    pub fn for_each(&self, visit: impl FnMut(&Arc<Entry>)) {
        self.memory.for_each(visit);
    }

    /// The tier in memory.
    pub fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// The tier on disk; `None` if the configuration has none.
    pub fn disk(&self) -> Option<&Arc<Disk>> {
        self.disk.as_ref()
    }

    /// The least capacity that the tier in memory can be given now.
    pub fn least_capacity(&self) -> u64 {
        self.memory.least_capacity()
    }

    /// Sets the bounds of the tier in memory, as [`MemoryStore::bound`] does.
    pub fn bound(&self, capacity: u64, largest: Option<u64>) {
        self.memory.bound(capacity, largest);
    }

    /// Size of the largest entry that is stored.
    pub fn largest(&self) -> u64 {
        self.memory.largest()
    }
}
