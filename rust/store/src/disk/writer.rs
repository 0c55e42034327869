//! The only thread that changes files.
//!
//! It takes changes in their order, gathers records in a buffer, appends the buffer to the active segment, and only
//! then points the index at them. `room` begins and seals segments, and drops the oldest when the tier is full.
//!
//! When writing fails, the tier stops taking entries and continues to serve the existing ones. `trouble` then removes
//! in place: one byte of the record, for which there is always room. At intervals a probe tests whether writing works
//! again.

mod room;
mod trouble;

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use edgerouter_core::record::{
    Front, RecordKind,
    frame::{self, ALIGNMENT, Label},
    sidecar::SegmentContents,
};
use hashbrown::HashMap;

use self::trouble::Failing;
use super::{
    Inner, form,
    index::Slot,
    queue::{ChangeQueue, DiskOp},
    segment,
};

/// Bytes of records that are gathered before they are written.
const BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    inner: Arc<Inner>,
    sequence: u64,
    next_segment: u32,
    /// Bytes of the active segment.
    end: u64,
    batch: Batch,
    /// Records that were replaced or removed before the index could point at them. The change that did it is still
    /// queued.
    orphans: HashMap<u64, Slot, foldhash::fast::RandomState>,
    failing: Option<Failing>,
    logged: Option<Instant>,
}

/// Records that are written at once.
#[derive(Debug, Default)]
struct Batch {
    buffer: Vec<u8>,
    records: Vec<Gathered>,
}

impl Batch {
    /// Closes the record that begins at `offset` of the buffer.
    fn close(&mut self, label: Label, offset: usize, what: What) {
        let end = self.buffer.len().next_multiple_of(ALIGNMENT);
        self.buffer.resize(end, 0);
        self.records.push(Gathered {
            label,
            offset,
            length: end - offset,
            what,
        });
    }
}

/// A record of a batch.
#[derive(Debug)]
struct Gathered {
    label: Label,
    offset: usize,
    length: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Put {
        ticket: u64,
        over: Option<Slot>,
    },
    Remove {
        over: Option<Slot>,
    },
    /// A second chance for the record at this slot.
    Move {
        from: Slot,
    },
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, sequence: u64, next_segment: u32) -> Self {
        Self {
            inner,
            sequence,
            next_segment,
            end: 0,
            batch: Batch::default(),
            orphans: HashMap::default(),
            failing: None,
            logged: None,
        }
    }

    pub(super) fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        if let Err(error) = self.make_room(0) {
            self.fail(&error);
        }
        while let Some(changes) = inner.queue.take(self.patience()) {
            let (mut bytes, mut puts) = (0, 0);
            for change in changes {
                match change {
                    DiskOp::Put { hash, ticket, size } => {
                        bytes += size;
                        puts += 1;
                        self.put(hash, ticket);
                    }
                    DiskOp::Remove { hash, over } => {
                        bytes += ChangeQueue::REMOVAL_BYTES;
                        self.remove(hash, over);
                    }
                }
                if self.batch.buffer.len() >= self.buffer_bytes() {
                    self.flush();
                }
            }
            self.flush();
            inner.queue.done(bytes, puts);
            self.probe();
        }
        if let Err(error) = self.seal() {
            self.fail(&error);
        }
    }

    fn patience(&self) -> Duration {
        match &self.failing {
            Some(failing) => failing.probe_at.saturating_duration_since(Instant::now()),
            None => Duration::from_secs(3_600),
        }
    }

    fn buffer_bytes(&self) -> usize {
        BUFFER.min(self.inner.segment_bytes() as usize / 4)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn put(&mut self, hash: u64, ticket: u64) {
        let inner = Arc::clone(&self.inner);
        let pending = match inner.index.lock(hash).pending() {
            Some(pending) if pending.ticket == ticket => pending.clone(),
            // Removed or replaced while it waited: that change follows in the queue.
            _ => return,
        };
        let what = What::Put {
            ticket,
            over: pending.over,
        };
        let Some(kind) = form::kind(&pending.entry) else {
            return;
        };
        let label = Label {
            kind,
            sequence: self.next_sequence(),
            last_purge: pending.entry.last_purge(),
            hash,
        };
        if self.failing.is_some() {
            return self.give_up(label, &what);
        }
        let offset = self.batch.buffer.len();
        let seed = inner.folder.seed;
        if form::write(&mut self.batch.buffer, seed, &pending.entry, label).is_none() {
            self.batch.buffer.truncate(offset);
            // It cannot be written, but the previous entry can still be removed.
            if self.drop_pending(hash, ticket) {
                self.remove(hash, pending.over);
            }
            return;
        }
        self.batch.close(label, offset, what);
    }

    fn remove(&mut self, hash: u64, over: Option<Slot>) {
        let label = Label {
            kind: RecordKind::REMOVED,
            sequence: self.next_sequence(),
            last_purge: 0,
            hash,
        };
        let what = What::Remove { over };
        if self.failing.is_some() {
            return self.give_up(label, &what);
        }
        let offset = self.batch.buffer.len();
        let (seed, nothing) = (self.inner.folder.seed, (&b""[..], &b""[..], &b""[..]));
        let _ = frame::write_front(&mut self.batch.buffer, seed, label, nothing, []);
        self.batch.close(label, offset, what);
    }

    /// Writes the gathered records, after making room for them.
    fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        if !batch.records.is_empty() {
            let written = self
                .make_room(batch.buffer.len() as u64)
                .and_then(|()| self.write(&batch));
            if let Err(error) = written {
                self.fail(&error);
                for one in &batch.records {
                    self.give_up(one.label, &one.what);
                }
            }
        }
        batch.records.clear();
        batch.buffer.clear();
        batch.buffer.shrink_to(BUFFER);
        self.batch = batch;
    }

    /// Appends a batch to the active segment and points the index at its records.
    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.begin(batch.buffer.len() as u64)?;
        let inner = Arc::clone(&self.inner);
        let start = self.end;
        let (segment, added) = {
            let mut active = inner.active.lock();
            let (segment, contents) = active.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let before = contents.bytes();
            // Contents first: a record found by the index has its names there, too.
            for one in &batch.records {
                let record = batch.buffer.get(one.offset..one.offset + one.length);
                let (key, tags) = Front::read(inner.folder.seed, record.unwrap_or_default())
                    .map(|front| (front.key, front.tags))
                    .unwrap_or_default();
                let place = ((start + one.offset as u64) as u32, one.length as u32);
                let _ = contents.push(one.label, place, (key, tags));
            }
            (Arc::clone(segment), contents.bytes() - before)
        };
        segment.file.write_all_at(&batch.buffer, start)?;
        let length = batch.buffer.len() as u64;
        self.end += length;
        inner.bytes.fetch_add(length + added, Ordering::Relaxed);
        for one in &batch.records {
            let offset = (start + one.offset as u64) as u32;
            let slot = Slot::new(one.label.hash, segment.id, offset, one.length as u64);
            self.point(one, slot);
        }
        Ok(())
    }

    /// Points the index at a written record, unless it was overtaken.
    fn point(&mut self, one: &Gathered, slot: Slot) {
        let hash = one.label.hash;
        let counters = &self.inner.counters;
        let mut place = self.inner.index.lock(hash);
        let taken = match &one.what {
            What::Remove { .. } => {
                self.orphans.remove(&hash);
                return;
            }
            What::Put { ticket, .. } => {
                counters.written.fetch_add(1, Ordering::Relaxed);
                counters
                    .written_bytes
                    .fetch_add(one.length as u64, Ordering::Relaxed);
                let own = place.pending().is_some_and(|own| own.ticket == *ticket);
                if own {
                    place.take_pending();
                }
                own
            }
            What::Move { from } => place.points_at(from),
        };
        if taken {
            place.put(slot);
            self.orphans.remove(&hash);
        } else {
            self.orphans.insert(hash, slot);
        }
    }

    /// Gives up a change that cannot be written. The previous record must not come back because of that.
    fn give_up(&mut self, label: Label, what: &What) {
        let over = match what {
            What::Put { ticket, over } => {
                self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
                self.drop_pending(label.hash, *ticket);
                *over
            }
            What::Remove { over } => *over,
            What::Move { .. } => return,
        };
        let orphan = self.orphans.remove(&label.hash);
        for slot in [over, orphan].into_iter().flatten() {
            self.kill(&slot);
        }
    }

    fn drop_pending(&self, hash: u64, ticket: u64) -> bool {
        let mut place = self.inner.index.lock(hash);
        let own = place.pending().is_some_and(|own| own.ticket == ticket);
        own && place.take_pending().is_some()
    }
}

/// The contents of a full segment: from its sidecar, or from the segment itself if that is damaged.
pub(super) fn contents(inner: &Inner, id: u32) -> io::Result<SegmentContents> {
    let folder = &inner.folder;
    match segment::read_sidecar(&folder.path, id, folder.seed) {
        Ok((_, contents)) => Ok(contents),
        Err(_) => {
            let segment = inner.segment(id).ok_or(io::ErrorKind::NotFound)?;
            Ok(segment.scan(folder.seed)?.contents)
        }
    }
}
