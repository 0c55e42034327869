//! An async call: a coroutine around the callable's own, which an asyncio task drives.
//!
//! It sits between the task and the callable for three reasons: each step is watched, so a coroutine that loops
//! without awaiting is interrupted like a sync callable; the answer goes out in the very step that ends it; and no
//! failure reaches the task, which would log it a second time.
//!
//! An application that was mounted answers before its end ([`AnswersEarly`]), and goes on in the same task.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use edgerouter_core::http::Fields;
use edgerouter_functions::{FunctionError, FunctionOutput, Phase};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    intern,
    prelude::*,
    types::{PyIterator, PyTuple, iterator::PySendResult},
};

use super::{
    Deadline, PythonCallable,
    answers::AnswerTo,
    background::wait_until,
    call::{Settled, Views},
    job::Job,
    loop_queue::LoopState,
    outcome::{CallSite, cancelled},
    queue::Running,
    scope, thread_end, wake,
    watched_thread::GRACE,
};

/// The coroutine that a task drives.
#[pyclass(frozen, module = "edgerouter._core")]
pub(crate) struct TaskCall {
    loop_state: Arc<LoopState>,
    key: (Instant, u64),
    state: Mutex<State>,
}

enum State {
    Waiting(Box<Job>, Running),
    Going(Arc<Going>),
    Over,
}

/// A call between two steps.
struct Going {
    callables: Arc<[PythonCallable]>,
    index: usize,
    phase: Phase,
    timeout: std::time::Duration,
    deadline: Deadline,
    views: Views,
    coroutine: Py<PyIterator>,
    end: Mutex<Option<(AnswerTo, Running)>>,
    key: (Instant, u64),
    loop_state: Arc<LoopState>,
    /// It was answered with a whole response before its end: what it still does is work after the response.
    after: AtomicBool,
}

/// A call that can be answered before it is over.
#[derive(Debug, Clone)]
pub(crate) struct AnswersEarly(Weak<Going>);

impl AnswersEarly {
    /// `None`: it is over.
    pub(crate) fn upgrade(&self) -> Option<EarlyAnswer> {
        self.0.upgrade().map(EarlyAnswer)
    }
}

/// The answer of a call that goes on.
#[derive(Debug)]
pub(crate) struct EarlyAnswer(Arc<Going>);

impl EarlyAnswer {
    /// Answers; only the first answer counts. The call has no time limit from then on.
    pub(crate) fn answer(&self, response: &Bound<'_, PyAny>) {
        let (going, py) = (&*self.0, response.py());
        let Some(site) = going.site().filter(|_| !going.is_answered()) else {
            return;
        };
        let settled = site.settled(py, &going.views, response);
        let streams = matches!(settled, Ok(FunctionOutput::Stream(_)));
        going.after.store(!streams, Ordering::Relaxed);
        going.loop_state.forget(going.key);
        going.conclude(settled, |answer, settled| {
            going.loop_state.answer(py, answer, settled);
        });
    }
}

impl EarlyAnswer {
    /// Sends early hints ahead of the answer; false if the call was answered, nobody waits, or for too many.
    pub(crate) fn hint(&self, fields: Fields) -> bool {
        let mut end = self.0.end.lock();
        end.as_mut().is_some_and(|(answer, _)| answer.hint(fields))
    }

    /// Has `call()` made, once, when the client is gone before the call was answered; false when it is already.
    pub(crate) fn when_gone(&self, call: Py<PyAny>) -> bool {
        let waker = wake::waker(call);
        let mut end = self.0.end.lock();
        let polled = end
            .as_mut()
            .map(|(answer, _)| answer.poll_closed(&mut Context::from_waker(&waker)));
        polled != Some(Poll::Ready(()))
    }
}

impl std::fmt::Debug for Going {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Going")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Going {
    fn site(&self) -> Option<CallSite<'_>> {
        Some(CallSite {
            callable: self.callables.get(self.index)?,
            phase: self.phase,
            timeout: self.timeout,
        })
    }

    fn is_answered(&self) -> bool {
        self.end.lock().is_none()
    }

    /// The end of a step. Its clean-up after its time, when it was cancelled, has to be short as well.
    fn limit(&self, now: Instant) -> Instant {
        let deadline = self.deadline.at();
        if deadline > now {
            deadline
        } else if self.is_answered() {
            now + self.timeout
        } else {
            now + GRACE
        }
    }

    /// Bounds the task that runs, once it was answered and goes on.
    fn bound(&self, py: Python<'_>, name: &Arc<str>) -> PyResult<()> {
        if !self.after.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let task = py
            .import(intern!(py, "asyncio"))?
            .call_method0(intern!(py, "current_task"))?;
        if !wait_until(&self.loop_state.shared, name, &task)? {
            task.call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    fn conclude(&self, settled: Settled, send: impl FnOnce(AnswerTo, Settled)) {
        let end = self.end.lock().take();
        self.views.end_after(&settled);
        if let Some((answer, running)) = end {
            send(answer, settled);
            drop(running);
        }
    }
}

enum CoroutineStep<'py> {
    Send(Bound<'py, PyAny>),
    Throw(Bound<'py, PyTuple>),
}

impl TaskCall {
    pub(crate) fn new(
        loop_state: Arc<LoopState>,
        key: (Instant, u64),
        job: Box<Job>,
        running: Running,
    ) -> Self {
        Self {
            loop_state,
            key,
            state: Mutex::new(State::Waiting(job, running)),
        }
    }

    /// True while its time limit is to be watched: it waits for an answer.
    pub(crate) fn is_limited(&self) -> bool {
        match &*self.state.lock() {
            State::Waiting(..) => true,
            State::Going(going) => !going.is_answered(),
            State::Over => false,
        }
    }

    fn finish(&self) {
        *self.state.lock() = State::Over;
        self.loop_state.forget(self.key);
    }

    /// The call as it goes on; begins it in the first step.
    fn going(&self, py: Python<'_>) -> PyResult<Option<Arc<Going>>> {
        let taken = std::mem::replace(&mut *self.state.lock(), State::Over);
        let going = match taken {
            State::Over => return Ok(None),
            State::Going(going) => going,
            State::Waiting(job, running) => match self.begin(py, job, running) {
                Some(going) => going,
                None => return Ok(None),
            },
        };
        *self.state.lock() = State::Going(Arc::clone(&going));
        Ok(Some(going))
    }

    /// Calls the callable, which only makes its coroutine. `None`: that failed, and was answered.
    fn begin(&self, py: Python<'_>, job: Box<Job>, running: Running) -> Option<Arc<Going>> {
        let callables = Arc::clone(&job.callables);
        let Some(callable) = callables.get(job.index) else {
            job.answer.send(Err(FunctionError::Gone));
            return None;
        };
        let site = CallSite {
            callable,
            phase: job.phase,
            timeout: job.timeout,
        };
        let (views, begun) = match job.work.views(py, &self.loop_state.shared.streams) {
            Ok(views) => views,
            Err(error) => {
                job.answer.send(Err(site.raised(py, None, &error)));
                return None;
            }
        };
        let made = match begun {
            Some(made) => Ok(made.into_bound(py)),
            None => views
                .context(py, callable, job.phase, &job.deadline)
                .and_then(|context| {
                    scope::enter(&context)?;
                    views.call(callable, &context)
                }),
        };
        match made.and_then(steps_of) {
            Ok(coroutine) => {
                let going = Arc::new(Going {
                    callables: Arc::clone(&callables),
                    index: job.index,
                    phase: job.phase,
                    timeout: job.timeout,
                    deadline: job.deadline,
                    views,
                    coroutine: coroutine.unbind(),
                    end: Mutex::new(Some((job.answer, running))),
                    key: self.key,
                    loop_state: Arc::clone(&self.loop_state),
                    after: AtomicBool::new(false),
                });
                if let Some(context) = going.views.function_context() {
                    context.goes_on(AnswersEarly(Arc::downgrade(&going)));
                }
                Some(going)
            }
            Err(error) => {
                let ended = site.ended(py, &views, &error);
                views.end();
                job.answer.send(ended);
                None
            }
        }
    }

    /// The object that the callable waits for; `None`: it is over.
    fn step(&self, py: Python<'_>, step: CoroutineStep<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(going) = self.going(py)? else {
            self.loop_state.forget(self.key);
            return Ok(None);
        };
        let Some(site) = going.site() else {
            return Ok(None);
        };
        let callable = site.callable;
        let now = Instant::now();
        let limit = going.limit(now);
        let coroutine = going.coroutine.bind(py);
        let now = self.loop_state.thread.announce_before(Some(callable), now);
        self.loop_state.thread.enter(limit);
        let stepped = match step {
            CoroutineStep::Send(value) => thread_end::send(coroutine, &value),
            CoroutineStep::Throw(what) => thrown(coroutine, what),
        };
        self.loop_state.thread.leave(py);
        let took = now.elapsed();
        callable.took(took);
        callable.held_loop(py, took);
        let ended = match stepped {
            Ok(PySendResult::Next(yielded)) => {
                going.bound(py, &callable.caller.name)?;
                return Ok(Some(yielded.unbind()));
            }
            Ok(PySendResult::Return(result)) => Ok(result),
            Err(error) => Err(error),
        };
        if going.is_answered() {
            self.finish();
            return ended.map(|_| None);
        }
        let mut passed_on = None;
        let settled = match ended {
            Ok(result) => site.settled(py, &going.views, &result),
            Err(error) if cancelled(py, &error) => {
                let why = if self.loop_state.shared.stopped() {
                    FunctionError::Gone
                } else if Instant::now() >= going.deadline.at() {
                    site.timed_out(py, &going.views)
                } else {
                    site.failed(py, &going.views, &error)
                };
                passed_on = Some(error);
                Err(why)
            }
            Err(error) => site.ended(py, &going.views, &error),
        };
        going.conclude(settled, |answer, settled| {
            self.loop_state.answer(py, answer, settled)
        });
        self.finish();
        passed_on.map_or(Ok(None), Err)
    }
}

/// The steps of an awaitable. By `__await__` rather than `send` their end needs no exception, which is made in more
/// time than a small function takes.
fn steps_of(made: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyIterator>> {
    let name = intern!(made.py(), "__await__");
    if made.cast::<PyIterator>().is_ok() && !made.hasattr(name)? {
        // A generator that `types.coroutine` has made awaitable.
        return Ok(made.cast_into()?);
    }
    Ok(made.call_method0(name)?.cast_into()?)
}

/// A step in which an exception is raised at the place where the coroutine waits.
fn thrown<'py>(
    coroutine: &Bound<'py, PyIterator>,
    what: Bound<'py, PyTuple>,
) -> PyResult<PySendResult<'py>> {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "throw"), what) {
        Ok(yielded) => Ok(PySendResult::Next(yielded)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            let result = error.value(py).getattr(intern!(py, "value"))?;
            Ok(PySendResult::Return(result))
        }
        Err(error) => Err(error),
    }
}

/// For those who do not take the end from `__next__`.
fn or_stop(yielded: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    yielded.ok_or_else(|| PyStopIteration::new_err(()))
}

#[pymethods]
impl TaskCall {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py, CoroutineStep::Send(py.None().into_bound(py)))
    }

    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, CoroutineStep::Send(value)).and_then(or_stop)
    }

    #[pyo3(signature = (*what))]
    fn throw(&self, py: Python<'_>, what: Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.step(py, CoroutineStep::Throw(what)).and_then(or_stop)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        self.loop_state.forget(self.key);
        if let State::Going(going) = state {
            let closed = going.coroutine.call_method0(py, intern!(py, "close"));
            going.conclude(Err(FunctionError::Gone), AnswerTo::send);
            if closed.is_err() {
                return Err(PyRuntimeError::new_err("the coroutine ignored its end"));
            }
        }
        Ok(())
    }

    /// For asyncio's own messages.
    #[getter]
    fn __name__(&self) -> &'static str {
        "edge function"
    }
}
