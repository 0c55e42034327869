//! Failures of writing: removals in place, one line in the log, and a probe at intervals.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use edgerouter_core::record::frame::{DEAD, STATE_AT};

use super::Writer;
use crate::disk::{index::Slot, segment::Segment};

/// Room that a probe must find, so that the tier does not recover for the last free block.
const PROBE: usize = 256 << 10;
/// Time to the first probe; doubled after each failed one.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LAST_PROBE: Duration = Duration::from_secs(30);
/// A failure so soon after a recovery is the same trouble, and is not logged again.
const SAME_TROUBLE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Failing {
    pub(super) probe_at: Instant,
    pause: Duration,
}

impl Writer {
    /// Removes a record in place. If not even that can be written, all records are dropped: the files cannot be
    /// corrected any more.
    pub(super) fn kill(&mut self, slot: &Slot) {
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
            inner.folder.remove(id);
        }
        inner.bytes.store(0, Ordering::Relaxed);
    }

    /// Notes that writing does not work.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.inner.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.inner.failing.store(true, Ordering::Relaxed);
        if self.failing.is_none() {
            self.failing = Some(Failing {
                probe_at: Instant::now() + FIRST_PROBE,
                pause: FIRST_PROBE,
            });
            if self.logged.is_none_or(|at| at.elapsed() > SAME_TROUBLE) {
                tracing::error!(
                    %error,
                    path = %self.inner.folder.path.display(),
                    "the disk cache cannot be written; stored responses are served, new ones are kept in memory only until there is room again"
                );
            }
            self.logged = Some(Instant::now());
        }
        // After the last record there may be a part of another, or a whole one that does not count.
        if let Some(segment) = self.active_segment() {
            let cut = segment
                .file
                .set_len(self.end)
                .and_then(|()| self.recount(&segment));
            if cut.is_err() {
                self.give_up_everything();
            }
        }
    }

    /// The segment that records are appended to.
    fn active_segment(&self) -> Option<Arc<Segment>> {
        let active = self.inner.active.lock();
        active.as_ref().map(|(segment, _)| Arc::clone(segment))
    }

    /// Restores the contents to the records written before an append that failed.
    fn recount(&mut self, segment: &Segment) -> io::Result<()> {
        let scan = segment.scan(self.inner.folder.seed)?;
        if let Some((_, own)) = &mut *self.inner.active.lock() {
            *own = scan.contents;
        }
        Ok(())
    }

    /// While writing does not work: tests whether it works again.
    pub(super) fn probe(&mut self) {
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
        // Files that are still open would take everything, and lose it.
        self.inner.folder.check()?;
        self.make_room(PROBE as u64)?;
        self.begin(0)?;
        let segment = self.active_segment().ok_or(io::ErrorKind::NotFound)?;
        let written = segment.file.write_all_at(&vec![0; PROBE], self.end);
        segment.file.set_len(self.end)?;
        written
    }
}
