//! The disk tier: entries that survive a restart, and entries that memory has no room for.
//!
//! Records are appended to segment files by one thread (`writer`) that takes changes from a bounded `queue`; a few
//! others read (`readers`). The places of all records are known in memory (`index`), so a look-up costs no I/O, and no
//! worker ever does any. `segment` is the files, `folder` their directory and its content at the start, `form` entries
//! as records; the format of records is `edgerouter_core::record`'s. `walk` visits every entry. The oldest segment is
//! dropped when there is no room, and its entries that were used since get a second chance.
//!
//! After any failure of process or disk, a served response was checked against its checksum and its whole key, and a
//! record that was removed or replaced stays so: of two records of one key the later one is valid, also at the next
//! start.

mod figures;
mod folder;
mod form;
mod index;
mod queue;
mod readers;
mod segment;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgerouter_core::{
    plan::DiskCache,
    record::{self, sidecar::SegmentContents},
};
use edgerouter_telemetry::life::joined;
use parking_lot::{Mutex, RwLock};

use figures::Counters;
pub use figures::DiskFigures;
use folder::{Folder, Sealed};
pub use folder::{FolderError, private_or_new};
use index::{FoundRecord, Index, PendingWrite, Slot};
use queue::ChangeQueue;
use readers::Readers;
use segment::Segment;
pub use walk::{DiskCursor, DiskResponse, Meta};

use super::{entry::Entry, memory::MemoryStore};

const MOST_SEGMENT: u64 = 1 << 30;

/// The disk tier. Dropping it writes waiting changes and releases the directory.
#[derive(Debug)]
pub struct Disk {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Time that the threads have to end in: to write what waits, and to seal the segment.
const ENDING: Duration = Duration::from_secs(10);

/// The place of an entry on disk.
#[derive(Debug, Clone)]
pub struct Location(FoundRecord);

/// The state that the threads share.
#[derive(Debug)]
struct Inner {
    settings: DiskCache,
    folder: Folder,
    memory: Arc<MemoryStore>,
    index: Index,
    queue: ChangeQueue,
    readers: Readers,
    /// Full segments, oldest first.
    sealed: RwLock<BTreeMap<u32, Sealed>>,
    /// The segment that is being written, and its contents so far.
    active: Mutex<Option<(Arc<Segment>, SegmentContents)>>,
    /// Of all files.
    bytes: AtomicU64,
    tickets: AtomicU64,
    failing: AtomicBool,
    counters: Counters,
    /// The oldest and the newest `last_purge` found at the start.
    purges_found: (u64, u64),
}

impl Inner {
    /// The active one first: a segment that is being sealed is in both places for a moment, never in neither.
    fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        if let Some((segment, _)) = &*self.active.lock()
            && segment.id == id
        {
            return Some(Arc::clone(segment));
        }
        let sealed = self.sealed.read();
        Some(Arc::clone(&sealed.get(&id)?.segment))
    }

    /// Bytes of a segment: a 128th, unless the plan says otherwise, so that dropping one leaves the tier filled to more
    /// than 98 %.
    fn segment_bytes(&self) -> u64 {
        const LEAST: u64 = 64 << 10;
        let wanted = self
            .settings
            .segment_bytes
            .unwrap_or(self.settings.size / 128);
        wanted.clamp(LEAST, MOST_SEGMENT).min(self.settings.size)
    }

    /// The longest record: a tenth of the whole.
    fn longest(&self) -> u64 {
        (self.settings.size / 10).min(MOST_SEGMENT)
    }

    fn hash(&self, key: &[u8]) -> u64 {
        record::key_hash(self.folder.seed, key)
    }
}

impl Disk {
    /// Takes the directory, reads its content back and starts the threads.
    pub fn open(settings: &DiskCache, memory: Arc<MemoryStore>) -> Result<Self, FolderError> {
        let started = Instant::now();
        let folder = Folder::open(&settings.path)?;
        let index = Index::default();
        let unusable = |error| FolderError::Unusable {
            path: settings.path.clone(),
            error,
        };
        let found = folder::recover(&folder, &index).map_err(unusable)?;
        let (entries, entry_bytes) = index.held();
        tracing::info!(
            path = %settings.path.display(),
            entries,
            entry_bytes,
            segments = found.segments.len(),
            scanned = found.scanned,
            millis = started.elapsed().as_millis() as u64,
            "the disk cache is open"
        );
        let bytes = found.segments.values().map(|sealed| sealed.bytes).sum();
        let inner = Arc::new(Inner {
            queue: ChangeQueue::new(settings.queue_bytes),
            settings: settings.clone(),
            folder,
            memory,
            index,
            readers: Readers::default(),
            sealed: RwLock::new(found.segments),
            active: Mutex::new(None),
            bytes: AtomicU64::new(bytes),
            tickets: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            counters: Counters::default(),
            purges_found: (found.oldest_purge, found.newest_purge),
        });
        let mut threads = Vec::new();
        let mut spawn = |name: String, life: Box<dyn FnOnce() + Send>| {
            threads.push(std::thread::Builder::new().name(name).spawn(life)?);
            Ok(())
        };
        let writer =
            writer::Writer::new(Arc::clone(&inner), found.next_sequence, found.next_segment);
        let mut started: io::Result<()> =
            spawn("edge-disk-write".to_owned(), Box::new(move || writer.run()));
        for number in 0..readers::READERS {
            let inner = Arc::clone(&inner);
            started = started.and_then(|()| {
                let name = format!("edge-disk-read-{number}");
                spawn(name, Box::new(move || readers::run(&inner)))
            });
        }
        let disk = Self {
            inner,
            threads: Mutex::new(threads),
        };
        started.map_err(unusable)?;
        Ok(disk)
    }

    /// The directory that the disk cache has locked.
    pub fn path(&self) -> &Path {
        &self.inner.folder.path
    }

    /// Bytes that all files together may have.
    pub fn size(&self) -> u64 {
        self.inner.settings.size
    }

    /// The oldest `last_purge` found at the start; `u64::MAX` when nothing was found.
    pub fn oldest_purge(&self) -> u64 {
        self.inner.purges_found.0
    }

    /// The newest `last_purge` found at the start.
    pub fn newest_purge(&self) -> u64 {
        self.inner.purges_found.1
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Location> {
        self.inner.index.find(self.inner.hash(key)).map(Location)
    }

    /// Reads an entry and puts it into memory.
    pub(super) async fn load(&self, location: Location, key: &[u8]) -> Option<Arc<Entry>> {
        match location.0 {
            FoundRecord::Pending(entry) => {
                if entry.key() != key {
                    return None;
                }
                readers::promote_pending(&self.inner, self.inner.hash(key), &entry);
                Some(entry)
            }
            FoundRecord::Stored(slot) => readers::load(&self.inner, slot, key).await,
        }
    }

    /// Sends an entry to the disk. If it cannot be queued, the previous entry is removed all the same.
    pub(super) fn insert(&self, entry: &Arc<Entry>) {
        if form::kind(entry).is_none() {
            return;
        }
        let inner = &*self.inner;
        let hash = inner.hash(entry.key());
        let ticket = inner.tickets.fetch_add(1, Ordering::Relaxed);
        let fits = entry.size() <= inner.longest() && !inner.failing.load(Ordering::Relaxed);
        let mut place = inner.index.lock(hash);
        let stored = place.take();
        let waiting = place.take_pending();
        let before = stored.is_some() || waiting.is_some();
        let over = stored.or(waiting.and_then(|pending| pending.over));
        if fits && inner.queue.put(hash, ticket, entry.size()) {
            place.set_pending(PendingWrite {
                ticket,
                entry: Arc::clone(entry),
                over,
            });
        } else {
            inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
            if before {
                inner.queue.remove(hash, over);
            }
        }
    }

    /// Removes an entry; false when the disk did not have it.
    pub(super) fn remove(&self, key: &[u8]) -> bool {
        self.remove_if(self.inner.hash(key), |_| true).is_some()
    }

    /// Removes the entry of a hash if `matches` accepts its slot (`None` for an entry still to be written), and returns
    /// its size.
    fn remove_if(&self, hash: u64, matches: impl Fn(Option<&Slot>) -> bool) -> Option<u64> {
        let inner = &*self.inner;
        let mut place = inner.index.lock(hash);
        let slot = place.slot();
        if (slot.is_none() && place.pending().is_none()) || !matches(slot.as_ref()) {
            return None;
        }
        let stored = place.take();
        let waiting = place.take_pending();
        let bytes = match (&stored, &waiting) {
            (Some(slot), _) => slot.length(),
            (None, Some(pending)) => pending.entry.size(),
            (None, None) => 0,
        };
        inner
            .queue
            .remove(hash, stored.or(waiting.and_then(|pending| pending.over)));
        Some(bytes)
    }

    /// Writes waiting changes, seals the segment, and releases the directory. A disk that does not answer is not waited
    /// for: the thread that it holds keeps the directory until the process ends.
    pub fn close(&self) {
        self.inner.queue.end();
        self.inner.readers.end();
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        let deadline = Instant::now() + ENDING;
        let mut ended = true;
        for thread in threads {
            ended &= joined(thread, deadline);
        }
        if ended {
            let _ = self.inner.folder.lock.unlock();
        } else {
            tracing::error!(
                path = %self.inner.settings.path.display(),
                "a thread of the disk cache did not end: the disk does not answer, and what was not written is lost"
            );
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}
