//! Counters and sizes of the disk tier, as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use edgerouter_telemetry::text;

use super::Disk;

/// Figures of the disk tier.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFigures {
    /// Bytes that the disk cache may take.
    pub capacity: u64,
    /// Of all files.
    pub bytes: u64,
    /// Entries that can be found, slices included.
    pub entries: u64,
    /// Of the records of these entries.
    pub entry_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of entries that wait to be written.
    pub waiting_bytes: u64,
    /// True while the disk cannot be written.
    pub failing: bool,
    /// Entries read from disk since the start.
    pub hits: u64,
    /// Look-ups that did not wait for the disk, as too many reads were waiting or one took too long.
    pub unread: u64,
    /// Records that were damaged, and dropped.
    pub damaged: u64,
    /// Entries written since the start.
    pub written: u64,
    /// Bytes of these.
    pub written_bytes: u64,
    /// Entries kept in memory only: the queue was full, the disk could not be written, or they were too large for it.
    pub dropped: u64,
    /// Entries evicted since the start.
    pub evicted: u64,
    /// Failures to write since the start.
    pub errors: u64,
}

impl DiskFigures {
    /// The figures as metrics.
    pub fn render(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "capacity_bytes",
                "Bytes that the disk cache may take.",
                self.capacity,
            ),
            ("bytes", "Bytes of all files of the disk cache.", self.bytes),
            ("entries", "Entries in the disk cache.", self.entries),
            (
                "entry_bytes",
                "Bytes of the records of these entries.",
                self.entry_bytes,
            ),
            (
                "segments",
                "Segment files of the disk cache.",
                self.segments,
            ),
            (
                "waiting_bytes",
                "Bytes of entries that wait to be written.",
                self.waiting_bytes,
            ),
            (
                "failing",
                "1 while the disk cache cannot be written.",
                u64::from(self.failing),
            ),
            ("hits_total", "Entries read from disk.", self.hits),
            (
                "unread_total",
                "Look-ups that did not wait for the disk, because too many reads were waiting or one took too long.",
                self.unread,
            ),
            (
                "damaged_total",
                "Damaged records that were dropped.",
                self.damaged,
            ),
            ("written_total", "Entries written to disk.", self.written),
            (
                "written_bytes_total",
                "Bytes of entries written to disk.",
                self.written_bytes,
            ),
            (
                "dropped_total",
                "Entries kept in memory only, because the queue was full, the disk could not be written, or the entry was too large.",
                self.dropped,
            ),
            (
                "evicted_total",
                "Entries evicted from the disk cache.",
                self.evicted,
            ),
            (
                "errors_total",
                "Failures to write to the disk cache.",
                self.errors,
            ),
        ] {
            let name = format!("edgerouter_disk_{name}");
            text::one(out, &name, help, value);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub hits: AtomicU64,
    /// Look-ups that went to the origin because the read would have taken too long.
    pub unread: AtomicU64,
    pub damaged: AtomicU64,
    pub written: AtomicU64,
    pub written_bytes: AtomicU64,
    /// Entries that were not written: the queue was full, or the disk was.
    pub dropped: AtomicU64,
    pub evicted: AtomicU64,
    pub errors: AtomicU64,
}

impl Disk {
    /// The figures at this moment; each is read on its own, so they need not add up.
    pub fn figures(&self) -> DiskFigures {
        let inner = &*self.inner;
        let (entries, entry_bytes) = inner.index.held();
        let counters = &inner.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskFigures {
            capacity: inner.settings.size,
            bytes: of(&inner.bytes),
            entries,
            entry_bytes,
            segments: inner.sealed.read().len() as u64 + u64::from(inner.active.lock().is_some()),
            waiting_bytes: inner.queue.bytes(),
            failing: inner.failing.load(Ordering::Relaxed),
            hits: of(&counters.hits),
            unread: of(&counters.unread),
            damaged: of(&counters.damaged),
            written: of(&counters.written),
            written_bytes: of(&counters.written_bytes),
            dropped: of(&counters.dropped),
            evicted: of(&counters.evicted),
            errors: of(&counters.errors),
        }
    }
}
