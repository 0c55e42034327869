//! The one thread that changes files.
//!
//! It takes changes in their order, gathers records in a buffer, appends the buffer to the active segment, and only then
//! points the index at them. A full segment gets its sidecar and a new one is begun; where the tier is full, the oldest
//! segment leaves first.
//!
//! When writing fails, the tier stops taking entries and goes on serving what it has. Removals then happen in place: one
//! byte of the record, for which there is always room. Every now and then a probe finds out whether writing works again.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use edgerouter_core::record::{
    Front, Kind, Record,
    frame::{self, ALIGNMENT, DEAD, Label, STATE_AT},
    sidecar::Contents,
};
use hashbrown::HashMap;

use super::{
    Inner,
    folder::{self, Sealed},
    form,
    index::Slot,
    queue::{Change, Queue},
    segment::{self, Segment},
};

/// Records are gathered up to this before they are written.
const BUFFER: usize = 1 << 20;
/// Records of one segment, so that its contents stay small in memory.
const MOST_RECORDS: usize = 1 << 18;
/// Segments, each an open file.
const MOST_SEGMENTS: usize = 4_096;
/// A probe must find room for this, so that the tier does not come back for the last free block.
const PROBE: usize = 256 << 10;
/// Time to the first probe; doubled with each that fails.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LAST_PROBE: Duration = Duration::from_secs(30);
/// A failure so soon after a recovery is the same trouble, and is not told again.
const SAME_TROUBLE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Writer {
    inner: Arc<Inner>,
    sequence: u64,
    next_segment: u32,
    /// Bytes of the active segment.
    end: u64,
    batch: Batch,
    /// Records that were replaced or removed before they could be pointed at. The change that did it is still to come.
    orphans: HashMap<u64, Slot, foldhash::fast::RandomState>,
    failing: Option<Failing>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Failing {
    probe_at: Instant,
    pause: Duration,
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
    /// A second chance for what was at this slot.
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
            told: None,
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
                    Change::Put { hash, ticket, size } => {
                        bytes += size;
                        puts += 1;
                        self.put(hash, ticket);
                    }
                    Change::Remove { hash, over } => {
                        bytes += Queue::REMOVAL_BYTES;
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
        BUFFER.min(self.inner.settings.segment_bytes() as usize / 4)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn put(&mut self, hash: u64, ticket: u64) {
        let inner = Arc::clone(&self.inner);
        let pending = match inner.index.lock(hash).pending() {
            Some(pending) if pending.ticket == ticket => pending.clone(),
            // Removed or replaced while it waited: that change is behind it in the queue.
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
            born: pending.entry.born(),
            hash,
        };
        if self.failing.is_some() {
            return self.give_up(label, &what);
        }
        let offset = self.batch.buffer.len();
        let seed = inner.folder.seed;
        if form::write(&mut self.batch.buffer, seed, &pending.entry, label).is_none() {
            self.batch.buffer.truncate(offset);
            // It cannot be written; that what was there before is gone can.
            if self.drop_pending(hash, ticket) {
                self.remove(hash, pending.over);
            }
            return;
        }
        self.batch.close(label, offset, what);
    }

    fn remove(&mut self, hash: u64, over: Option<Slot>) {
        let label = Label {
            kind: Kind::REMOVED,
            sequence: self.next_sequence(),
            born: 0,
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

    /// Writes what has been gathered, and makes room for it first.
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

    /// Appends a batch to the active segment and points the index at what is in it.
    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.begin(batch.buffer.len() as u64)?;
        let inner = Arc::clone(&self.inner);
        let start = self.end;
        let (segment, added) = {
            let mut active = inner.active.lock();
            let (segment, contents) = active.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let before = contents.bytes();
            // Contents first: whoever finds a record by the index finds its names too.
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

    /// A record is written: the index takes it, unless it was overtaken.
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

    /// A change cannot be written. Nothing of before may come back for that.
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

    /// Removes a record in place. Where not even that can be written, everything has to go: what the files say cannot be
    /// corrected any more.
    fn kill(&mut self, slot: &Slot) {
        let Some(segment) = self.inner.segment(slot.segment) else {
            return;
        };
        let at = u64::from(slot.offset) + STATE_AT;
        if segment.file.write_all_at(&[DEAD], at).is_err() {
            self.give_up_everything();
        }
    }

    fn give_up_everything(&mut self) {
        let inner = Arc::clone(&self.inner);
        inner.index.clear();
        *inner.active.lock() = None;
        self.end = 0;
        self.orphans.clear();
        let sealed = std::mem::take(&mut *inner.sealed.write());
        let ids = sealed
            .keys()
            .copied()
            .chain(self.next_segment.checked_sub(1));
        for id in ids {
            folder::remove(&inner.folder.path, id);
        }
        inner.bytes.store(0, Ordering::Relaxed);
    }

    /// Notes that writing does not work.
    fn fail(&mut self, error: &io::Error) {
        self.inner.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.inner.failing.store(true, Ordering::Relaxed);
        if self.failing.is_none() {
            self.failing = Some(Failing {
                probe_at: Instant::now() + FIRST_PROBE,
                pause: FIRST_PROBE,
            });
            if self.told.is_none_or(|told| told.elapsed() > SAME_TROUBLE) {
                tracing::error!(
                    %error,
                    path = %self.inner.folder.path.display(),
                    "the disk cache cannot be written; what it has is served, new responses are kept in memory only until there is room again"
                );
            }
            self.told = Some(Instant::now());
        }
        // Behind the last record there may be half of another, or a whole one that counts for nothing.
        let active = self
            .inner
            .active
            .lock()
            .as_ref()
            .map(|(segment, _)| Arc::clone(segment));
        if let Some(segment) = active {
            let cut = segment
                .file
                .set_len(self.end)
                .and_then(|()| self.recount(&segment));
            if cut.is_err() {
                self.give_up_everything();
            }
        }
    }

    /// Contents again as what has been written, after an append that failed.
    fn recount(&mut self, segment: &Segment) -> io::Result<()> {
        let scan = segment.scan(self.inner.folder.seed)?;
        if let Some((_, own)) = &mut *self.inner.active.lock() {
            *own = scan.contents;
        }
        Ok(())
    }

    /// While writing does not work: finds out whether it does again.
    fn probe(&mut self) {
        let Some(failing) = &mut self.failing else {
            return;
        };
        if Instant::now() < failing.probe_at {
            return;
        }
        let pause = (failing.pause * 2).min(LAST_PROBE);
        match self.try_to_write() {
            Ok(()) => {
                self.failing = None;
                self.inner.failing.store(false, Ordering::Relaxed);
                tracing::info!(path = %self.inner.folder.path.display(), "the disk cache can be written again");
            }
            Err(_) => {
                self.inner.counters.errors.fetch_add(1, Ordering::Relaxed);
                self.failing = Some(Failing {
                    probe_at: Instant::now() + pause,
                    pause,
                });
            }
        }
    }

    fn try_to_write(&mut self) -> io::Result<()> {
        self.make_room(PROBE as u64)?;
        self.begin(0)?;
        let active = self
            .inner
            .active
            .lock()
            .as_ref()
            .map(|(segment, _)| Arc::clone(segment));
        let segment = active.ok_or(io::ErrorKind::NotFound)?;
        let written = segment.file.write_all_at(&vec![0; PROBE], self.end);
        segment.file.set_len(self.end)?;
        written
    }

    /// Makes sure that there is an active segment with room for `length` bytes.
    fn begin(&mut self, length: u64) -> io::Result<()> {
        let most = self.inner.settings.segment_bytes();
        let full = self
            .inner
            .active
            .lock()
            .as_ref()
            .is_some_and(|(_, contents)| {
                let after = self.end + contents.bytes() + length;
                self.end > 0 && (after > most || contents.lines().len() >= MOST_RECORDS)
            });
        if full {
            self.seal()?;
        }
        if self.inner.active.lock().is_none() {
            let segment = Segment::create(&self.inner.folder.path, self.next_segment)?;
            let contents = Contents::default();
            self.inner
                .bytes
                .fetch_add(contents.bytes(), Ordering::Relaxed);
            self.next_segment += 1;
            self.end = 0;
            *self.inner.active.lock() = Some((Arc::new(segment), contents));
        }
        Ok(())
    }

    /// Gives the active segment its sidecar.
    fn seal(&mut self) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let Some((segment, sidecar)) = inner.active.lock().as_ref().map(|(segment, contents)| {
            let sidecar = contents.write(inner.folder.seed, self.end);
            (Arc::clone(segment), sidecar)
        }) else {
            return Ok(());
        };
        if self.end == 0 {
            *inner.active.lock() = None;
            inner
                .bytes
                .fetch_sub(sidecar.len() as u64, Ordering::Relaxed);
            folder::remove(&inner.folder.path, segment.id);
            return Ok(());
        }
        folder::write_sidecar(&inner.folder.path, segment.id, &sidecar)?;
        let id = segment.id;
        let bytes = self.end + sidecar.len() as u64;
        // In both for a moment: a reader must find it in one of them.
        inner.sealed.write().insert(id, Sealed { segment, bytes });
        *inner.active.lock() = None;
        self.end = 0;
        Ok(())
    }

    /// Gives up the oldest segments until `length` more bytes fit.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        loop {
            let (oldest, number) = {
                let sealed = self.inner.sealed.read();
                let oldest = sealed
                    .first_key_value()
                    .map(|(id, sealed)| (*id, sealed.clone()));
                (oldest, sealed.len())
            };
            let bytes = self.inner.bytes.load(Ordering::Relaxed);
            if bytes + length <= self.inner.settings.size && number < MOST_SEGMENTS {
                return Ok(());
            }
            match oldest {
                Some((id, sealed)) => self.evict(id, &sealed)?,
                // Only the active one is left.
                None if self.end > 0 => self.seal()?,
                None => return Ok(()),
            }
        }
    }

    /// Gives a segment up. What was used since it was written, or is in memory, is written once more, up to half of the
    /// segment.
    fn evict(&mut self, id: u32, sealed: &Sealed) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let mut moved = Ok(());
        if let Ok(contents) = contents(&inner, id) {
            let survivors = self.survivors(id, sealed, &contents);
            moved = self.write_again(&sealed.segment, &survivors);
        }
        inner.sealed.write().remove(&id);
        inner.index.forget(id);
        folder::remove(&inner.folder.path, id);
        inner.bytes.fetch_sub(sealed.bytes, Ordering::Relaxed);
        moved
    }

    /// The records of a segment that get a second chance. The others leave the index.
    fn survivors(&self, id: u32, sealed: &Sealed, contents: &Contents) -> Vec<Slot> {
        let inner = &self.inner;
        let mut room = if self.failing.is_some() {
            0
        } else {
            sealed.bytes / 2
        };
        let mut survivors = Vec::new();
        for line in contents.lines() {
            let slot = Slot::new(line.hash, id, line.offset, u64::from(line.length));
            let mut place = inner.index.lock(line.hash);
            let Some(own) = place.slot().filter(|own| own.is(&slot)) else {
                continue;
            };
            let wanted = || {
                own.used()
                    || contents
                        .names(line)
                        .is_ok_and(|(key, _)| inner.memory.peek(key).is_some())
            };
            if room >= slot.length() && wanted() {
                room -= slot.length();
                survivors.push(slot);
            } else {
                place.take();
                inner.counters.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        survivors
    }

    fn write_again(&mut self, segment: &Segment, slots: &[Slot]) -> io::Result<()> {
        let mut batch = Batch::default();
        for slot in slots {
            let bytes = segment.read(slot.offset, slot.length())?;
            let Ok(Record { front, body }) = Record::read(self.inner.folder.seed, &bytes) else {
                continue;
            };
            let label = Label {
                sequence: self.next_sequence(),
                ..front.label
            };
            let offset = batch.buffer.len();
            let parts = (front.key, front.tags, front.head);
            let seed = self.inner.folder.seed;
            if frame::write_front(&mut batch.buffer, seed, label, parts, [body]).is_none() {
                continue;
            }
            batch.buffer.extend_from_slice(body);
            batch.close(label, offset, What::Move { from: *slot });
            if batch.buffer.len() >= self.buffer_bytes() {
                self.write(&batch)?;
                batch = Batch::default();
            }
        }
        if !batch.records.is_empty() {
            self.write(&batch)?;
        }
        Ok(())
    }
}

/// What is in a full segment: from its sidecar, or where that is damaged from the segment.
pub(super) fn contents(inner: &Inner, id: u32) -> io::Result<Contents> {
    let folder = &inner.folder;
    match segment::read_sidecar(&folder.path, id, folder.seed) {
        Ok((_, contents)) => Ok(contents),
        Err(_) => {
            let segment = inner.segment(id).ok_or(io::ErrorKind::NotFound)?;
            Ok(segment.scan(folder.seed)?.contents)
        }
    }
}
