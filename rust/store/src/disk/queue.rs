//! The queue from the workers to the writer: bounded in bytes and number, and never waited for.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::index::Slot;

/// A change of the disk, in the order of the index.
#[derive(Debug)]
pub(super) enum DiskOp {
    /// The pending entry of this hash, if it still is the one with this ticket.
    Put { hash: u64, ticket: u64, size: u64 },
    /// This hash has no entry any more; the record that it had, if known.
    Remove { hash: u64, over: Option<Slot> },
}

#[derive(Debug)]
pub(super) struct ChangeQueue {
    state: Mutex<State>,
    filled: Condvar,
    most_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<DiskOp>,
    /// Of changes that wait or are being made.
    bytes: u64,
    puts: usize,
    ended: bool,
}

/// Entries that may wait, however small they are.
const MOST_PUTS: usize = 65_536;

/// Changes that the writer takes at once.
const BATCH: usize = 512;

impl ChangeQueue {
    pub(super) fn new(most_bytes: u64) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            most_bytes,
        }
    }

    /// Bytes that a waiting removal counts as.
    pub(super) const REMOVAL_BYTES: u64 = size_of::<DiskOp>() as u64;

    /// False when there is no room for an entry of this size.
    pub(super) fn put(&self, hash: u64, ticket: u64, size: u64) -> bool {
        let mut state = self.state.lock();
        if state.ended || state.puts >= MOST_PUTS || state.bytes + size > self.most_bytes {
            return false;
        }
        state.bytes += size;
        state.puts += 1;
        state.changes.push_back(DiskOp::Put { hash, ticket, size });
        self.filled.notify_one();
        true
    }

    /// Always has room: a removal is sent only for an entry of the index, so there are no more of them than entries.
    pub(super) fn remove(&self, hash: u64, over: Option<Slot>) {
        let mut state = self.state.lock();
        state.bytes += Self::REMOVAL_BYTES;
        state.changes.push_back(DiskOp::Remove { hash, over });
        self.filled.notify_one();
    }

    /// Waits for changes, at most `patience`. `None` when all are done and no more will come.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<DiskOp>> {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.changes.is_empty() {
            if state.ended {
                return None;
            }
            if self.filled.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let number = state.changes.len().min(BATCH);
        Some(state.changes.drain(..number).collect())
    }

    /// Notes that the writer has finished changes: their bytes are free.
    pub(super) fn done(&self, bytes: u64, puts: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.puts = state.puts.saturating_sub(puts);
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.filled.notify_all();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}
