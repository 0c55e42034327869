//! The way of a result back to its caller: an operation is answered once, by its engine or by the end of its time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

use crate::{error::DataError, reply::DataReply};

/// The result of an operation.
pub type DataResult = Result<DataReply, DataError>;

type Deliver = Box<dyn FnOnce(DataResult) + Send>;

/// One operation that is under way.
pub(crate) struct Outstanding {
    deliver: Mutex<Option<Deliver>>,
    patience: Duration,
    key: (Instant, u64),
    deadlines: Arc<Deadlines>,
}

impl std::fmt::Debug for Outstanding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outstanding")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Outstanding {
    fn end(&self, result: DataResult) -> bool {
        let deliver = self.deliver.lock().take();
        let first = deliver.is_some();
        if let Some(deliver) = deliver {
            deliver(result);
        }
        first
    }
}

/// The engine's end of an operation. Dropped without a result, the operation fails as [`DataError::Closed`].
#[derive(Debug)]
pub(crate) struct Answer(Arc<Outstanding>);

impl Answer {
    /// Delivers the result, unless the time of the operation has ended.
    pub(crate) fn send(self, result: DataResult) {
        self.0.end(result);
    }

    /// Delivers the result of `work`, which an event loop does. Past its time the operation is answered by the end of
    /// its time, and the work ends here, with its connection if it has one.
    pub(crate) fn after<T: Into<DataReply>>(
        self,
        events: &Handle,
        work: impl Future<Output = Result<T, DataError>> + Send + 'static,
    ) {
        events.spawn(async move {
            let deadline = self.deadline();
            if let Ok(done) = tokio::time::timeout_at(deadline.into(), work).await {
                self.send(done.map(Into::into));
            }
        });
    }

    /// True if nobody waits any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.deliver.lock().is_none()
    }

    /// The time at which the operation fails.
    pub(crate) fn deadline(&self) -> Instant {
        self.0.key.0
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.end(Err(DataError::Closed));
        self.0.deadlines.entries.lock().remove(&self.0.key);
    }
}

/// The operations under way by the end of their time.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: Mutex<BTreeMap<(Instant, u64), Weak<Outstanding>>>,
    numbers: AtomicU64,
    /// An operation ends before those that were known.
    sooner: Notify,
}

impl Deadlines {
    /// An operation that is delivered within `patience`.
    pub(crate) fn answer(
        self: &Arc<Self>,
        patience: Duration,
        deliver: impl FnOnce(DataResult) + Send + 'static,
    ) -> Answer {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let key = (Instant::now() + patience, number);
        let outstanding = Arc::new(Outstanding {
            deliver: Mutex::new(Some(Box::new(deliver))),
            patience,
            key,
            deadlines: Arc::clone(self),
        });
        let mut entries = self.entries.lock();
        entries.insert(key, Arc::downgrade(&outstanding));
        let first = entries.first_key_value().map(|(key, _)| *key) == Some(key);
        drop(entries);
        if first {
            self.sooner.notify_one();
        }
        Answer(outstanding)
    }

    /// Ends operations whose time is over, for as long as it is polled.
    pub(crate) async fn enforce(&self) {
        loop {
            let first = self.entries.lock().first_key_value().map(|(key, _)| key.0);
            match first {
                None => self.sooner.notified().await,
                Some(at) if at <= Instant::now() => self.expire(),
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => self.expire(),
                        () = self.sooner.notified() => {}
                    }
                }
            }
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        loop {
            let expired = {
                let mut entries = self.entries.lock();
                match entries.first_entry().filter(|entry| entry.key().0 <= now) {
                    Some(entry) => entry.remove(),
                    None => return,
                }
            };
            if let Some(outstanding) = expired.upgrade() {
                let patience = outstanding.patience;
                outstanding.end(Err(DataError::TimedOut(patience)));
            }
        }
    }
}
