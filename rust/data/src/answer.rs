//! The way of a result back to its caller: an operation is answered once, by its engine or by the end of its time.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

use crate::{error::DataError, reply::DataReply};

/// The result of an operation.
pub type DataResult = Result<DataReply, DataError>;

type Deliver = Box<dyn FnOnce(DataResult) + Send>;

tokio::task_local! {
    /// The operation that a task of the event loop does.
    static DONE_HERE: Arc<Outstanding>;
}

/// While it lives, the operation of this task waits for a connection, and has done nothing.
pub(crate) struct WaitsForConnection(Option<Arc<Outstanding>>);

impl WaitsForConnection {
    pub(crate) fn begin() -> Self {
        let operation = DONE_HERE.try_with(Arc::clone).ok();
        if let Some(operation) = &operation {
            operation.waits.store(true, Ordering::Relaxed);
        }
        Self(operation)
    }
}

impl Drop for WaitsForConnection {
    fn drop(&mut self) {
        if let Some(operation) = &self.0 {
            operation.waits.store(false, Ordering::Relaxed);
        }
    }
}

/// One operation that is under way.
pub(crate) struct Outstanding {
    deliver: Mutex<Option<Deliver>>,
    patience: Duration,
    /// It waits for a connection.
    waits: AtomicBool,
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

    /// Ends it, as its time is over.
    fn expire(&self) {
        let error = match self.waits.load(Ordering::Relaxed) {
            true => DataError::NoConnection(self.patience),
            false => DataError::TimedOut(self.patience),
        };
        self.end(Err(error));
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
        let operation = Arc::clone(&self.0);
        events.spawn(DONE_HERE.scope(operation, async move {
            let deadline = self.deadline();
            let mut work = pin!(work);
            match tokio::time::timeout_at(deadline.into(), work.as_mut()).await {
                Ok(done) => self.send(done.map(Into::into)),
                // Before the work is dropped, which would no longer say whether it waited.
                Err(_) => self.0.expire(),
            }
        }));
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
            waits: AtomicBool::new(false),
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
                outstanding.expire();
            }
        }
    }
}
