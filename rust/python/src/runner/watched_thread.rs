//! A thread on which callables run one at a time, as the watchdog sees it.
//!
//! An interrupt is an exception that Python raises at the thread's next bytecode. It may be on its way when the
//! callable returns, and must not hit whatever the thread does next: `leave` waits for an interrupt that is being sent
//! and takes back one that has not arrived.

use std::{
    cell::RefCell,
    ffi::c_ulong,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{
    PythonCallable,
    answers::{AnswerTo, Unannounced},
    call::Settled,
    job::Kind,
    queue::Queues,
    thread_state,
};

/// Time for an interrupted callable to end before its thread is abandoned.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// A callable that swallowed an interrupt gets another one after this long.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct WatchedThread {
    shared: Weak<Queues>,
    /// `threading.get_ident()`.
    ident: c_ulong,
    /// The pool that the thread belongs to.
    pool: Option<Kind>,
    now: Mutex<Now>,
    unannounced: Mutex<Unannounced>,
}

#[derive(Debug, Default)]
struct Now {
    /// A callable runs, until then at most.
    deadline: Option<Instant>,
    /// An interrupt is being sent.
    sending: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    abandoned: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<WatchedThread>>> = const { RefCell::new(None) };
}

impl WatchedThread {
    /// This thread, registered at the first call; `foreign`: Python has not started it.
    pub(crate) fn current(
        py: Python<'_>,
        shared: &Arc<Queues>,
        foreign: bool,
        pool: Option<Kind>,
    ) -> PyResult<Arc<Self>> {
        let found = CURRENT.with_borrow(|thread| {
            thread
                .clone()
                .filter(|thread| std::ptr::eq(thread.shared.as_ptr(), Arc::as_ptr(shared)))
        });
        if let Some(thread) = found {
            return Ok(thread);
        }
        if foreign {
            thread_state::keep(py);
        }
        let ident = py.import("threading")?.call_method0("get_ident")?;
        let ident = ident.extract()?;
        let thread = Arc::new(Self {
            shared: Arc::downgrade(shared),
            ident,
            pool,
            now: Mutex::default(),
            unannounced: Mutex::new(Unannounced::new(pool.is_some())),
        });
        let mut watched = shared.watched.lock();
        watched.retain(|thread| thread.strong_count() > 0);
        watched.push(Arc::downgrade(&thread));
        drop(watched);
        CURRENT.set(Some(Arc::clone(&thread)));
        Ok(thread)
    }

    /// Answers a call; true if its worker is woken by the next [`WatchedThread::announce`] and none is due yet.
    pub(crate) fn answer(&self, to: AnswerTo, settled: Settled) -> bool {
        self.unannounced.lock().put(to, settled)
    }

    /// Wakes the workers whose calls this thread has answered.
    pub(crate) fn announce(&self) {
        self.unannounced.lock().announce();
    }

    /// The same before a step that answers should not wait for; gives the time at which the step begins: a worker that
    /// was woken may have taken the core meanwhile. `None`: not of a callable that is known.
    pub(crate) fn announce_before(
        &self,
        callable: Option<&PythonCallable>,
        now: Instant,
    ) -> Instant {
        let quick = callable.is_some_and(|callable| callable.quick.load(Ordering::Relaxed));
        let mut unannounced = self.unannounced.lock();
        if (!quick || unannounced.is_due(now)) && unannounced.announce() {
            return Instant::now();
        }
        now
    }

    pub(crate) fn enter(&self, deadline: Instant) {
        *self.now.lock() = Now {
            deadline: Some(deadline),
            ..Now::default()
        };
    }

    pub(crate) fn leave(&self, py: Python<'_>) {
        let left = loop {
            let mut now = self.now.lock();
            if !now.sending {
                break std::mem::take(&mut *now);
            }
            drop(now);
            py.detach(|| std::thread::sleep(Duration::from_micros(50)));
        };
        if left.first.is_some() {
            // After it no interrupt is on its way any more.
            thread_state::raise_in(py, self.ident, None);
        }
        if left.abandoned
            && let Some(shared) = self.shared.upgrade()
        {
            shared.gave_up(self.pool, -1);
        }
    }

    /// The interrupt to send when the callable is past its time; [`Interrupt::sent`] must follow.
    pub(crate) fn overdue(self: &Arc<Self>, at: Instant) -> Option<Interrupt> {
        let mut now = self.now.lock();
        let due = now.deadline.is_some_and(|deadline| deadline <= at)
            && !now.sending
            && now.last.is_none_or(|last| last + AGAIN <= at);
        if !due {
            return None;
        }
        if now.first.is_some_and(|first| first + GRACE <= at) && !now.abandoned {
            now.abandoned = true;
            if let Some(shared) = self.shared.upgrade() {
                shared.gave_up(self.pool, 1);
            }
        }
        now.sending = true;
        Some(Interrupt {
            thread: Arc::clone(self),
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.now.lock().deadline.is_some()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.now.lock().abandoned
    }
}

/// A thread whose callable is past its time.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Interrupt {
    thread: Arc<WatchedThread>,
}

#[pymethods]
impl Interrupt {
    /// The identity of the thread.
    #[getter]
    fn thread(&self) -> c_ulong {
        self.thread.ident
    }

    /// Must be called, whether it worked or not.
    fn sent(&self) {
        let mut now = self.thread.now.lock();
        now.sending = false;
        let at = Instant::now();
        now.last = Some(at);
        now.first.get_or_insert(at);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // Were it forgotten, the thread would wait for ever.
        let mut now = self.thread.now.lock();
        if now.sending {
            now.sending = false;
            now.first.get_or_insert_with(Instant::now);
        }
    }
}
