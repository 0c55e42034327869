//! The way of a result from the thread of an engine of data to the task that waits for it.
//!
//! The thread that has the result, or the worker that has room for a piece, never takes the interpreter: it leaves the
//! task's future here and wakes the event loop, once for all results that it has not come to yet.

use std::{
    sync::{Arc, Weak},
    task::{Wake, Waker},
};

use parking_lot::Mutex;
use pyo3::{intern, prelude::*};

use super::runtime;

/// A task that waits: its event loop, and the future that wakes it.
#[derive(Debug)]
pub(crate) struct Waiter {
    event_loop: Py<PyAny>,
    future: Py<PyAny>,
}

impl Waiter {
    /// For the task that runs now, which yields the future. Raises `RuntimeError` where no event loop runs.
    pub(crate) fn current(py: Python<'_>) -> PyResult<(Self, Bound<'_, PyAny>)> {
        let (waiter, future) = Self::awaited(py)?;
        // As `await` on the future would set it.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok((waiter, future))
    }

    /// For the task that runs now, which awaits the future.
    pub(crate) fn awaited(py: Python<'_>) -> PyResult<(Self, Bound<'_, PyAny>)> {
        let asyncio = py.import(intern!(py, "asyncio"))?;
        let event_loop = asyncio.call_method0(intern!(py, "get_running_loop"))?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let waiter = Self {
            event_loop: event_loop.unbind(),
            future: future.clone().unbind(),
        };
        Ok((waiter, future))
    }
}

/// The place where tasks are left that may go on.
pub(crate) trait TakesArrivals: Send + Sync {
    /// Has a task of the event loop wake up. Needs no interpreter.
    fn arrived(&self, waiter: Waiter);
}

/// Wakes a task by the event loop's own descriptor, once.
struct WakeTask {
    waiter: Mutex<Option<Waiter>>,
    place: Weak<dyn TakesArrivals>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let waiter = self.waiter.lock().take();
        if let (Some(waiter), Some(place)) = (waiter, self.place.upgrade()) {
            place.arrived(waiter);
        }
    }
}

impl Waiter {
    /// True if the task has neither been woken nor cancelled.
    pub(crate) fn waits(&self, py: Python<'_>) -> bool {
        let done = self.future.bind(py).call_method0(intern!(py, "done"));
        done.and_then(|done| done.extract())
            .is_ok_and(|done: bool| !done)
    }

    /// A waker that wakes the task.
    pub(crate) fn waker(self, place: Weak<dyn TakesArrivals>) -> Waker {
        Waker::from(Arc::new(WakeTask {
            waiter: Mutex::new(Some(self)),
            place,
        }))
    }
}

/// Tasks whose result has come, at most one for each task of the event loop.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiters: Mutex<Vec<Waiter>>,
}

impl Arrivals {
    /// Keeps a task; true if the event loop has to be woken for it.
    pub(super) fn keep(&self, waiter: Waiter) -> bool {
        let mut waiters = self.waiters.lock();
        waiters.push(waiter);
        waiters.len() == 1
    }

    /// Wakes the tasks, on the thread of the event loop.
    pub(crate) fn settle(&self, py: Python<'_>) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters {
            let settled = runtime(py).and_then(|runtime| {
                runtime.call_method1(intern!(py, "settle"), (&waiter.event_loop, &waiter.future))
            });
            if let Err(error) = settled {
                error.write_unraisable(py, None);
            }
        }
    }
}
