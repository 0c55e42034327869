//! Reading from disk: a few threads, a bounded queue, one shared read for all requests of an entry.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use hashbrown::{HashMap, hash_map};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    Inner, form,
    index::{PendingWrite, Slot},
};
use crate::Entry;

/// Threads that read. The page cache answers most reads in microseconds; the others wait for the device, which is
/// fastest with a few at a time.
pub(super) const READERS: usize = 4;

/// Reads that may wait; beyond that a look-up goes to the origin.
const MOST_WAITING: usize = 4_096;

/// Bound on the wait for a read; then the request goes to the origin.
const PATIENCE: Duration = Duration::from_secs(5);

type Waiter = oneshot::Sender<Option<Arc<Entry>>>;

#[derive(Debug, Default)]
pub(super) struct Readers {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<ReadJob>,
    /// By the record's place: a look-up after a replacement must not get the previous record.
    waiting: HashMap<(u32, u32), Vec<Waiter>, foldhash::fast::RandomState>,
    ended: bool,
}

#[derive(Debug)]
struct ReadJob {
    slot: Slot,
    key: Box<[u8]>,
}

impl Readers {
    /// Queues a read; the receiver gets the entry. `None` when there is no room for another read.
    fn request(&self, slot: Slot, key: &[u8]) -> Option<oneshot::Receiver<Option<Arc<Entry>>>> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        let full = state.jobs.len() >= MOST_WAITING;
        match state.waiting.entry((slot.segment, slot.offset)) {
            hash_map::Entry::Occupied(mut reading) => {
                reading.get_mut().push(answer);
                return Some(answered);
            }
            hash_map::Entry::Vacant(_) if full => return None,
            hash_map::Entry::Vacant(first) => {
                first.insert(vec![answer]);
            }
        }
        state.jobs.push_back(ReadJob {
            slot,
            key: key.into(),
        });
        self.filled.notify_one();
        Some(answered)
    }

    fn next(&self) -> Option<ReadJob> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.ended {
                return None;
            }
            self.filled.wait(&mut state);
        }
    }

    fn answer(&self, slot: &Slot, entry: Option<&Arc<Entry>>) {
        let waiters = self
            .state
            .lock()
            .waiting
            .remove(&(slot.segment, slot.offset));
        for waiter in waiters.into_iter().flatten() {
            let _ = waiter.send(entry.cloned());
        }
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.jobs.clear();
        state.waiting.clear();
        self.filled.notify_all();
    }
}

/// The loop of a reading thread.
pub(super) fn run(inner: &Inner) {
    while let Some(job) = inner.readers.next() {
        let entry = read(inner, &job);
        inner.readers.answer(&job.slot, entry.as_ref());
    }
}

/// Waits for an entry to be read.
pub(super) async fn load(inner: &Inner, slot: Slot, key: &[u8]) -> Option<Arc<Entry>> {
    let Some(answered) = inner.readers.request(slot, key) else {
        inner.counters.unread.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let entry = match tokio::time::timeout(PATIENCE, answered).await {
        Ok(entry) => entry.ok().flatten()?,
        Err(_) => {
            inner.counters.unread.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    };
    // Another key of the same hash may have been read instead.
    (entry.key() == key).then_some(entry)
}

fn read(inner: &Inner, job: &ReadJob) -> Option<Arc<Entry>> {
    let slot = &job.slot;
    // A segment that was removed meanwhile took its slots with it.
    let segment = inner.segment(slot.segment)?;
    let read = segment
        .read(slot.offset, slot.length())
        .map_err(|error| error.to_string())
        .and_then(|bytes| {
            form::read(inner.folder.seed, &Bytes::from(bytes), &job.key)
                .map_err(|damage| damage.to_string())
        });
    match read {
        Ok(Some(entry)) => {
            inner.counters.hits.fetch_add(1, Ordering::Relaxed);
            Some(promote(inner, slot, Arc::new(entry)))
        }
        Ok(None) => None,
        Err(error) => {
            let mut place = inner.index.lock(slot.hash());
            if place.points_at(slot) {
                place.take();
                drop(place);
                inner.counters.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    %error,
                    path = %inner.folder.path.display(),
                    segment = slot.segment,
                    offset = slot.offset,
                    "a record of the disk cache is damaged, and its response is fetched again; look at the disk if there are more"
                );
            }
            None
        }
    }
}

/// Puts an entry into memory, unless it was removed or replaced while it was being read: the index shows that, and
/// cannot change in between.
fn promote(inner: &Inner, slot: &Slot, entry: Arc<Entry>) -> Arc<Entry> {
    let mut place = inner.index.lock(slot.hash());
    if place.points_at(slot) {
        place.touch();
        inner.memory.insert(Arc::clone(&entry));
    }
    entry
}

/// Puts an entry that is still to be written back into memory as it is.
pub(super) fn promote_pending(inner: &Inner, hash: u64, entry: &Arc<Entry>) {
    let place = inner.index.lock(hash);
    if place
        .pending()
        .is_some_and(|PendingWrite { entry: own, .. }| Arc::ptr_eq(own, entry))
    {
        inner.memory.insert(Arc::clone(entry));
    }
}
