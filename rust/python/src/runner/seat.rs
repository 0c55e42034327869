//! A seat: a thread on which callables run one at a time, as the watchdog sees it.
//!
//! An interrupt is an exception that Python raises at the thread's next bytecode. It may be on its way when the
//! callable returns, and must not hit whatever the thread does next: leaving the seat waits for an interrupt that is
//! being sent and calls off one that has not arrived.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{pool::Kind, queue::Shared, runtime};

/// How long an interrupted callable may take to end before its thread is given up.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// A callable that swallowed an interrupt gets another one after this long.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Seat {
    shared: Weak<Shared>,
    /// `threading.get_ident()`.
    thread: u64,
    /// The pool that the thread belongs to.
    pool: Option<Kind>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// Somebody sits here, until then.
    deadline: Option<Instant>,
    /// An interrupt is being sent.
    sending: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    abandoned: bool,
}

thread_local! {
    static HERE: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
}

impl Seat {
    /// The seat of this thread, made when it is asked for first; `foreign`: Python has not started the thread.
    pub(crate) fn here(
        py: Python<'_>,
        shared: &Arc<Shared>,
        foreign: bool,
        pool: Option<Kind>,
    ) -> PyResult<Arc<Self>> {
        let found = HERE.with_borrow(|seat| {
            seat.clone()
                .filter(|seat| std::ptr::eq(seat.shared.as_ptr(), Arc::as_ptr(shared)))
        });
        if let Some(seat) = found {
            return Ok(seat);
        }
        let thread = runtime(py)?.call_method1("settle", (foreign,))?.extract()?;
        let seat = Arc::new(Self {
            shared: Arc::downgrade(shared),
            thread,
            pool,
            now: Mutex::default(),
        });
        let mut seats = shared.seats.lock();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        drop(seats);
        HERE.set(Some(Arc::clone(&seat)));
        Ok(seat)
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
            // Whether it raises does not matter: after that, nothing is on its way any more.
            let _ =
                runtime(py).and_then(|runtime| runtime.call_method1("call_off", (self.thread,)));
        }
        if left.abandoned
            && let Some(shared) = self.shared.upgrade()
        {
            shared.gave_up(self.pool, -1);
        }
    }

    /// Whether it is time to interrupt. Then [`Interrupt::sent`] must be told.
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
            seat: Arc::clone(self),
        })
    }

    pub(crate) fn taken(&self) -> bool {
        self.now.lock().deadline.is_some()
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.now.lock().abandoned
    }
}

/// A seat whose callable is past its time.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Interrupt {
    seat: Arc<Seat>,
}

#[pymethods]
impl Interrupt {
    /// Whom to interrupt.
    #[getter]
    fn thread(&self) -> u64 {
        self.seat.thread
    }

    /// Must be called, whether it worked or not.
    fn sent(&self) {
        let mut now = self.seat.now.lock();
        now.sending = false;
        let at = Instant::now();
        now.last = Some(at);
        now.first.get_or_insert(at);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // Were it forgotten, the thread would wait for ever.
        let mut now = self.seat.now.lock();
        if now.sending {
            now.sending = false;
            now.first.get_or_insert_with(Instant::now);
        }
    }
}
