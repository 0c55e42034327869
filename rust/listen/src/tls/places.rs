//! Places of handshakes: the bound on those that have begun and not ended, on all listeners and workers together.
//!
//! When all are taken, the handshake that has waited longest for its client, or for a certificate on demand, gives its
//! place to the next one. Otherwise a few clients that begin handshakes and fall silent would keep everybody else out.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem::replace,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};

/// Time that a client has for its part before its handshake can lose its place: a round trip on a slow network. The
/// wait for its turn does not count, that for an issuer of certificates does.
const PATIENCE: Duration = Duration::from_millis(500);

/// The places, and the handshakes in them that wait for their clients, or for an issuer.
#[derive(Debug)]
pub(crate) struct Places {
    free: Semaphore,
    awaited: Mutex<Awaited>,
}

#[derive(Debug, Default)]
struct Awaited {
    /// By the time since which each waits, and its number. A sender that is dropped ends its handshake.
    by_time: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    last: u64,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Semaphore::new(most),
            awaited: Mutex::default(),
        }
    }

    /// Waits for a place, and takes one from a handshake that waits for its client. The caller bounds the time.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        let mut free = pin!(self.free.acquire());
        let mut earliest = Instant::now();
        loop {
            match timeout_at(self.next_loss().max(earliest), &mut free).await {
                Ok(place) => return place.ok(),
                Err(_) => {
                    let now = Instant::now();
                    if self.end_one(now) {
                        // Its place goes to those who wait, one after another: no second one for the same wait.
                        earliest = now + PATIENCE;
                    }
                }
            }
        }
    }

    /// The time from which a handshake can lose its place.
    fn next_loss(&self) -> Instant {
        let awaited = self.awaited.lock();
        let first = awaited.by_time.first_key_value();
        first.map_or_else(Instant::now, |((since, _), _)| *since) + PATIENCE
    }

    /// Ends the handshake that has waited longest for its client, if that is long enough.
    fn end_one(&self, now: Instant) -> bool {
        let mut awaited = self.awaited.lock();
        let first = awaited.by_time.first_entry();
        let first = first.filter(|first| first.key().0 + PATIENCE <= now);
        first.map(|first| first.remove()).is_some()
    }

    /// Waits until the task is woken, as by its client, after it has waited for a time. `None`: another handshake has got
    /// the place.
    pub(crate) async fn until_woken(&self, waited: &mut Duration) -> Option<()> {
        let began = Instant::now();
        let (place, mut lost) = oneshot::channel();
        let _waiting = Waiting::new(self, began.checked_sub(*waited).unwrap_or(began), place);
        let mut is_woken = false;
        let woken = poll_fn(|cx| match Pin::new(&mut lost).poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending if replace(&mut is_woken, true) => Poll::Ready(Some(())),
            Poll::Pending => Poll::Pending,
        })
        .await;
        *waited += began.elapsed();
        woken
    }

    /// A step that ends when an issuer of certificates has done its part. `None`: another handshake has got the place.
    pub(crate) async fn awaiting<F: Future>(&self, step: F) -> Option<F::Output> {
        let (place, lost) = oneshot::channel();
        let _waiting = Waiting::new(self, Instant::now(), place);
        tokio::select! {
            biased;
            ended = step => Some(ended),
            _ = lost => None,
        }
    }
}

/// A handshake that waits for its client, until this is dropped.
struct Waiting<'p> {
    places: &'p Places,
    key: (Instant, u64),
}

impl<'p> Waiting<'p> {
    fn new(places: &'p Places, since: Instant, place: oneshot::Sender<()>) -> Self {
        let mut awaited = places.awaited.lock();
        awaited.last += 1;
        let key = (since, awaited.last);
        awaited.by_time.insert(key, place);
        Self { places, key }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.places.awaited.lock().by_time.remove(&self.key);
    }
}
