//! An operation on a binding, from its begin to the value that Python gets.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_data::{
    Bound as Binding, Constraint, DataCall, DataError, DataReply, DataResult, Session, SqlCall,
};
use edgerouter_telemetry::trace::{OpenSpan, SpanParent, Work};
use parking_lot::{Condvar, Mutex};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration, PyValueError},
    prelude::*,
};

use crate::{
    errors,
    runner::{Queues, Waiter},
};

/// Time that a plain callable waits past the end of its call, which its own time limit then ends.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// A binding, as one call of a callable has it.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) bound: Arc<Binding>,
    pub(super) shared: Arc<Queues>,
    /// The callable runs on a worker, where nothing may wait.
    pub(super) inline: bool,
    /// The end of the call's time.
    pub(super) deadline: Instant,
    /// The span of the call.
    pub(super) trace: Option<SpanParent>,
    /// Of a database with replicas.
    pub(super) session: Option<Arc<Session>>,
}

/// Makes Python's value of a result.
pub(super) type Convert = Box<dyn FnOnce(Python<'_>, DataReply) -> PyResult<Py<PyAny>> + Send>;

/// An operation that has begun.
pub(super) enum Begun {
    Ended(DataResult),
    GoesOn(Arc<Slot>),
}

impl Handle {
    /// A call of a database, in its session.
    pub(super) fn sql(&self, call: SqlCall) -> DataCall {
        DataCall::Sql(call, self.session.clone())
    }

    /// Begins an operation. Raises `BindingError` where it would have to wait on a worker.
    pub(super) fn begin(&self, py: Python<'_>, call: DataCall) -> PyResult<Begun> {
        if self.inline && !self.bound.is_immediate() {
            let name = self.bound.name();
            return Err(errors::binding(
                py,
                &format!(
                    "{name}: a callable with inline=True cannot wait for a file or server; remove inline=True, or bind memory:"
                ),
            ));
        }
        let slot = Arc::new(Slot {
            state: Mutex::new(SlotState::Waiting(None)),
            arrived: Condvar::new(),
            shared: Arc::clone(&self.shared),
            span: Mutex::new(self.span(&call)),
        });
        let delivered = Arc::clone(&slot);
        let ended = self
            .bound
            .call(call, move |result| delivered.deliver(result));
        Ok(match ended {
            Some(result) => {
                slot.end_span(&result);
                Begun::Ended(result)
            }
            None => Begun::GoesOn(slot),
        })
    }

    /// The span of an operation, if it is recorded.
    fn span(&self, call: &DataCall) -> Option<Box<OpenSpan>> {
        let trace = self.trace.as_ref().filter(|trace| trace.records())?;
        let (name, operation) = (self.bound.name(), call.word());
        let mut span = Box::new(trace.begin(Work::Binding, format!("{name} {operation}")));
        span.note("edgerouter.binding", name.to_string());
        span.note("db.operation.name", operation);
        Some(span)
    }

    /// Python's value, or the exception for a failure.
    pub(super) fn value(
        &self,
        py: Python<'_>,
        result: DataResult,
        convert: Convert,
    ) -> PyResult<Py<PyAny>> {
        match result {
            Ok(reply) => convert(py, reply),
            Err(error) => {
                let text = format!("{}: {error}", self.bound.name());
                let constraint = error.constraint().map(Constraint::as_str);
                Err(match &error {
                    DataError::Invalid(_) => PyValueError::new_err(text),
                    _ => errors::undone(py, &text, constraint, error.is_in_doubt()),
                })
            }
        }
    }

    /// Does an operation while the callable waits.
    pub(super) fn wait(
        &self,
        py: Python<'_>,
        call: DataCall,
        convert: Convert,
    ) -> PyResult<Py<PyAny>> {
        let result = match self.begin(py, call)? {
            Begun::Ended(result) => result,
            Begun::GoesOn(slot) => py.detach(|| slot.wait(self.deadline)),
        };
        self.value(py, result, convert)
    }

    /// Begins an operation that is awaited.
    pub(super) fn awaitable(
        &self,
        py: Python<'_>,
        call: DataCall,
        convert: Convert,
    ) -> PyResult<Operation> {
        let slot = match self.begin(py, call)? {
            Begun::GoesOn(slot) => slot,
            Begun::Ended(result) => Arc::new(Slot {
                state: Mutex::new(SlotState::Arrived(result)),
                arrived: Condvar::new(),
                shared: Arc::clone(&self.shared),
                span: Mutex::new(None),
            }),
        };
        Ok(Operation {
            handle: self.clone(),
            slot,
            convert: Mutex::new(Some(convert)),
        })
    }
}

/// The place where a result arrives.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    arrived: Condvar,
    shared: Arc<Queues>,
    span: Mutex<Option<Box<OpenSpan>>>,
}

#[derive(Debug)]
enum SlotState {
    Waiting(Option<Waiter>),
    Arrived(DataResult),
    Taken,
}

impl Slot {
    fn deliver(&self, result: DataResult) {
        self.end_span(&result);
        let before = std::mem::replace(&mut *self.state.lock(), SlotState::Arrived(result));
        self.arrived.notify_all();
        if let SlotState::Waiting(Some(waiter)) = before {
            self.shared.arrived(waiter);
        }
    }

    fn end_span(&self, result: &DataResult) {
        if let Some(span) = self.span.lock().take() {
            let error = result.as_ref().err().map(DataError::word);
            span.end(error.map(Cow::Borrowed));
        }
    }

    fn take(&self) -> Option<DataResult> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Arrived(result) => Some(result),
            before => {
                *state = before;
                None
            }
        }
    }

    /// Has a task that waits already go on waiting, or wakes it where the result has come meanwhile.
    fn wait_on(&self, waiter: Waiter) {
        let mut state = self.state.lock();
        if let SlotState::Waiting(waiting) = &mut *state {
            *waiting = Some(waiter);
            return;
        }
        drop(state);
        self.shared.arrived(waiter);
    }

    /// Waits without the interpreter. The binding delivers within the time of an operation.
    fn wait(&self, deadline: Instant) -> DataResult {
        let now = Instant::now();
        // Work after the response has a time limit of its own.
        let until = if deadline > now {
            deadline
        } else {
            now + LONGEST_WAIT
        };
        let mut state = self.state.lock();
        while matches!(*state, SlotState::Waiting(_)) {
            if self.arrived.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        drop(state);
        let late = Err(DataError::TimedOut(until.saturating_duration_since(now)));
        self.take().unwrap_or(late)
    }
}

/// An operation that is awaited. It has begun already.
#[pyclass(frozen, module = "edgerouter._core")]
pub(crate) struct Operation {
    handle: Handle,
    slot: Arc<Slot>,
    convert: Mutex<Option<Convert>>,
}

#[pymethods]
impl Operation {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(result) = self.slot.take() {
            return Err(self.ended(py, result));
        }
        let (waiter, future) = Waiter::current(py)?;
        let mut state = self.slot.state.lock();
        let before = match &mut *state {
            SlotState::Waiting(waiting) => waiting.replace(waiter),
            SlotState::Taken => {
                drop(state);
                return Err(PyRuntimeError::new_err("this was awaited before"));
            }
            SlotState::Arrived(_) => {
                drop(state);
                let result = self.slot.take().unwrap_or(Err(DataError::Closed));
                return Err(self.ended(py, result));
            }
        };
        drop(state);
        // One that was cancelled leaves the operation to the next.
        if let Some(before) = before
            && before.waits(py)
        {
            self.slot.wait_on(before);
            return Err(PyRuntimeError::new_err(
                "another task awaits this already: await it once, and share its value",
            ));
        }
        Ok(future)
    }
}

impl Operation {
    fn ended(&self, py: Python<'_>, result: DataResult) -> PyErr {
        let Some(convert) = self.convert.lock().take() else {
            return PyRuntimeError::new_err("this was awaited before");
        };
        match self.handle.value(py, result, convert) {
            Ok(value) => PyStopIteration::new_err((value,)),
            Err(error) => error,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.convert.lock().is_some()
            && let Some(Err(error)) = self.slot.take()
        {
            let binding = self.handle.bound.name();
            tracing::warn!(%binding, %error, "an operation on a binding failed, and was not awaited");
        }
    }
}
