//! Rotation of segments: a full one gets its sidecar, and when the tier is full the oldest is dropped.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use edgerouter_core::record::{
    Record,
    frame::{self, Label},
    sidecar::SegmentContents,
};

use super::{Batch, What, Writer, contents};
use crate::disk::{
    folder::{self, Sealed},
    index::Slot,
    segment::Segment,
};

/// Records of one segment, so that its contents stay small in memory.
const MOST_RECORDS: usize = 1 << 18;
/// Segments, each an open file.
const MOST_SEGMENTS: usize = 4_096;

impl Writer {
    /// Makes sure that there is an active segment with room for `length` bytes.
    pub(super) fn begin(&mut self, length: u64) -> io::Result<()> {
        let most = self.inner.segment_bytes();
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
            self.inner.folder.check()?;
            let segment = Segment::create(&self.inner.folder.path, self.next_segment)?;
            let contents = SegmentContents::default();
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
    pub(super) fn seal(&mut self) -> io::Result<()> {
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
            inner.folder.remove(segment.id);
            return Ok(());
        }
        inner.folder.check()?;
        folder::write_sidecar(&inner.folder.path, segment.id, &sidecar)?;
        let id = segment.id;
        let bytes = self.end + sidecar.len() as u64;
        // In both for a moment: a reader must find it in one of them.
        inner.sealed.write().insert(id, Sealed { segment, bytes });
        *inner.active.lock() = None;
        self.end = 0;
        Ok(())
    }

    /// Drops the oldest segments until `length` more bytes fit.
    pub(super) fn make_room(&mut self, length: u64) -> io::Result<()> {
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

    /// Drops a segment. Records used since they were written, or in memory, are written once more, up to half of the
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
        inner.folder.remove(id);
        inner.bytes.fetch_sub(sealed.bytes, Ordering::Relaxed);
        moved
    }

    /// The records of a segment that get a second chance. The others are removed from the index.
    fn survivors(&self, id: u32, sealed: &Sealed, contents: &SegmentContents) -> Vec<Slot> {
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
