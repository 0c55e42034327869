//! Work after the response: `ctx.wait_until`.
//!
//! It never delays a response: an awaitable is a task of the event loop, a plain callable has a thread of its own
//! small pool. Both are counted, bounded in number and time, watched like calls, and waited for when the edge drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::FunctionLimits;
use edgerouter_functions::BackgroundLoad;
use parking_lot::{Condvar, Mutex};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration, PyTypeError},
    intern,
    prelude::*,
    types::PyTuple,
};

use super::{
    HOLD, held_loop, notify,
    outcome::{cancelled, is_time_limit},
    queue::Queues,
    runtime, scope, thread_end,
    watched_thread::{GRACE, WatchedThread},
};

#[derive(Debug, Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    /// Notified when the last work ends.
    idle: Condvar,
    /// Starts work in Python: `(call, awaited)`.
    start: Mutex<Option<Py<PyAny>>>,
    finished: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    most: usize,
    timeout: Duration,
}

impl Background {
    pub(crate) fn bound(&self, limits: &FunctionLimits) {
        let mut state = self.state.lock();
        state.most = limits.background_tasks;
        state.timeout = limits.background_timeout;
    }

    pub(crate) fn attach(&self, start: Option<Py<PyAny>>) {
        // The old value is freed after the lock.
        let before = std::mem::replace(&mut *self.start.lock(), start);
        drop(before);
    }

    pub(crate) fn load(&self) -> BackgroundLoad {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BackgroundLoad {
            running: self.state.lock().running,
            finished: read(&self.finished),
            failed: read(&self.failed),
            timed_out: read(&self.timed_out),
            refused: read(&self.refused),
        }
    }

    /// Waits until all work has ended; false when that takes longer.
    pub(crate) fn drain(&self, patience: Duration) -> bool {
        const MOST: Duration = Duration::from_secs(86_400);
        let deadline = Instant::now() + patience.min(MOST);
        let mut state = self.state.lock();
        while state.running > 0 {
            if self.idle.wait_until(&mut state, deadline).timed_out() {
                return state.running == 0;
            }
        }
        true
    }
}

/// A place among the tasks that may run at a time.
#[derive(Debug)]
struct Place(Arc<Queues>);

impl Drop for Place {
    fn drop(&mut self) {
        let background = &self.0.background;
        let mut state = background.state.lock();
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            background.idle.notify_all();
        }
    }
}

/// Takes an awaitable or a callable; false, after a line in the log, when too many run already.
pub(crate) fn wait_until(
    shared: &Arc<Queues>,
    name: &Arc<str>,
    work: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = work.py();
    let awaited = work.hasattr(intern!(py, "__await__"))?;
    if !awaited && !work.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "wait_until takes an awaitable or a callable without arguments, not {}",
            work.get_type().name()?
        )));
    }
    let background = &shared.background;
    let timeout = {
        let mut state = background.state.lock();
        (state.running < state.most).then(|| {
            state.running += 1;
            state.timeout
        })
    };
    let Some(timeout) = timeout else {
        background.refused.fetch_add(1, Ordering::Relaxed);
        if work.hasattr(intern!(py, "close"))? {
            // Python would complain that it was never awaited.
            work.call_method0(intern!(py, "close"))?;
        }
        runtime(py)?.call_method1("crowded", (&**name,))?;
        return Ok(false);
    };
    let place = Place(Arc::clone(shared));
    let call = BackgroundCall {
        name: Arc::clone(name),
        timeout,
        deadline: Instant::now() + timeout,
        work: Mutex::new(Some(work.clone().unbind())),
        scope: scope::copy(py)?.unbind(),
        warned: AtomicBool::new(false),
        coroutine: Mutex::new(None),
        place: Mutex::new(Some(place)),
        shared: Arc::clone(shared),
    };
    start(py, Py::new(py, call)?, awaited)?;
    Ok(true)
}

fn start(py: Python<'_>, call: Py<BackgroundCall>, awaited: bool) -> PyResult<()> {
    let start = call
        .get()
        .shared
        .background
        .start
        .lock()
        .as_ref()
        .map(|start| start.clone_ref(py))
        .ok_or_else(|| PyRuntimeError::new_err("the edge has stopped"))?;
    start.call1(py, (call, awaited)).map(drop)
}

/// Work after the response: a coroutine for a task, or a call for a thread.
#[pyclass(frozen, module = "edgerouter._core")]
pub(crate) struct BackgroundCall {
    shared: Arc<Queues>,
    name: Arc<str>,
    timeout: Duration,
    deadline: Instant,
    work: Mutex<Option<Py<PyAny>>>,
    /// The context of the call that started it; a task copies it by itself.
    scope: Py<PyAny>,
    /// A warning that it held the event loop was logged.
    warned: AtomicBool,
    /// Once it has begun.
    coroutine: Mutex<Option<Py<PyAny>>>,
    place: Mutex<Option<Place>>,
}

impl BackgroundCall {
    /// Notes the end; the first one counts.
    fn end(&self, py: Python<'_>, error: Option<&PyErr>) {
        let Some(place) = self.place.lock().take() else {
            return;
        };
        let background = &self.shared.background;
        let count = match error {
            None => &background.finished,
            Some(error) if self.out_of_time(py, error) => {
                let seconds = self.timeout.as_secs_f64();
                // In the context of the call that started it: the log names that call's request.
                let scope = self.scope.bind(py);
                let arguments = (scope, "interrupted", &*self.name, "wait_until", seconds);
                notify(py, "within", arguments);
                &background.timed_out
            }
            Some(error) => {
                let kind = error
                    .get_type(py)
                    .name()
                    .map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
                let raised = error.clone_ref(py).into_value(py);
                let happened = format!("raised {kind}");
                let scope = self.scope.bind(py);
                let arguments = (scope, "report", &*self.name, "wait_until", happened, raised);
                notify(py, "within", arguments);
                &background.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        drop(place);
    }

    fn out_of_time(&self, py: Python<'_>, error: &PyErr) -> bool {
        is_time_limit(py, error) || (cancelled(py, error) && Instant::now() >= self.deadline)
    }

    /// The time limit of the next step: cancelled work may clean up, shortly.
    fn limit(&self) -> Instant {
        let now = Instant::now();
        if self.deadline > now {
            self.deadline
        } else {
            now + GRACE
        }
    }

    /// The coroutine that is stepped; made of the awaitable in the first step.
    fn going<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(coroutine) = &*self.coroutine.lock() {
            return Ok(Some(coroutine.bind(py).clone()));
        }
        let Some(work) = self.work.lock().take() else {
            return Ok(None);
        };
        let work = work.into_bound(py);
        let coroutine = if work.hasattr(intern!(py, "send"))? {
            work
        } else {
            work.call_method0(intern!(py, "__await__"))?
        };
        *self.coroutine.lock() = Some(coroutine.clone().unbind());
        Ok(Some(coroutine))
    }

    fn step(
        &self,
        py: Python<'_>,
        advance: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let over = || PyStopIteration::new_err(());
        let stepped = match self.going(py) {
            Ok(None) => return Err(over()),
            Ok(Some(coroutine)) => {
                let thread = WatchedThread::current(py, &self.shared, false, None)?;
                let now = Instant::now();
                let now = thread.announce_before(None, now);
                thread.enter(self.limit());
                let stepped = advance(&coroutine);
                thread.leave(py);
                let held = now.elapsed();
                if held > HOLD && !self.warned.swap(true, Ordering::Relaxed) {
                    held_loop(py, &self.name, held);
                }
                stepped
            }
            Err(error) => Err(error),
        };
        let error = match stepped {
            Ok(yielded) => return Ok(yielded),
            Err(error) => error,
        };
        let coroutine = self.coroutine.lock().take();
        drop(coroutine);
        if error.is_instance_of::<PyStopIteration>(py) {
            self.end(py, None);
            return Err(over());
        }
        self.end(py, Some(&error));
        // A task has to know that it was cancelled; any other failure it would log a second time.
        Err(if cancelled(py, &error) { error } else { over() })
    }
}

#[pymethods]
impl BackgroundCall {
    /// Seconds that are left.
    fn remaining(&self) -> f64 {
        self.deadline
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }

    /// Runs a plain callable; its result may have to be awaited.
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let Some(work) = this.work.lock().take() else {
            return Ok(());
        };
        let thread = WatchedThread::current(py, &this.shared, false, None)?;
        thread.enter(this.limit());
        let run = this.scope.bind(py).getattr(intern!(py, "run"))?;
        let result = thread_end::call(&run, (work,));
        thread.leave(py);
        match result {
            Ok(result) if result.hasattr(intern!(py, "__await__"))? => {
                *this.work.lock() = Some(result.unbind());
                start(py, slf.clone().unbind(), true)?;
            }
            Ok(_) => this.end(py, None),
            Err(error) => this.end(py, Some(&error)),
        }
        Ok(())
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.send(py, py.None().into_bound(py))
    }

    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, |coroutine| {
            // The result of `__await__` may be a plain iterator.
            let stepped = match coroutine.getattr_opt(intern!(py, "send"))? {
                Some(send) => thread_end::call(&send, (value,)),
                None => coroutine.call_method0(intern!(py, "__next__")),
            };
            stepped.map(Bound::unbind)
        })
    }

    #[pyo3(signature = (*what))]
    fn throw(&self, py: Python<'_>, what: Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.step(py, |coroutine| {
            if coroutine.hasattr(intern!(py, "throw"))? {
                return coroutine
                    .call_method1(intern!(py, "throw"), what)
                    .map(Bound::unbind);
            }
            Err(PyErr::from_value(what.get_item(0)?))
        })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (work, coroutine) = (self.work.lock().take(), self.coroutine.lock().take());
        let begun = coroutine.or(work);
        if let Some(begun) = begun
            && begun.bind(py).hasattr(intern!(py, "close"))?
        {
            begun.call_method0(py, intern!(py, "close"))?;
        }
        let stopped = PyRuntimeError::new_err("the edge stopped before it was done");
        self.end(py, Some(&stopped));
        Ok(())
    }

    /// For asyncio's own messages.
    #[getter]
    fn __name__(&self) -> &'static str {
        "wait_until"
    }
}
