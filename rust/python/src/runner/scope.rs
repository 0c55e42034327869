//! The context (`contextvars`) of a call, a copy for each, and how what is logged is known to be the call's.
//!
//! A value that one call sets is not seen by the next on its thread. A sync callable has its thread to itself, so the
//! thread knows the call. Tasks share theirs: a variable of their context names it. All that a task starts
//! inherits the variable, as `asyncio.create_task` and `asyncio.to_thread` copy the context; so does the awaitable of
//! `wait_until`.

use std::cell::RefCell;

use pyo3::{prelude::*, sync::PyOnceLock};

use crate::context::CallContext;

static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Sets the variable that names the call.
fn setter(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let set = SET.get_or_try_init(py, || {
        py.import("edgerouter.functions.logs")?
            .getattr("CURRENT")?
            .getattr("set")
            .map(Bound::unbind)
    })?;
    Ok(set.bind(py))
}

/// A copy of this thread's context.
pub(crate) fn copy(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    COPY.import(py, "contextvars", "copy_context")?.call0()
}

/// `contextvars.Context.run`, whose first argument is the context. Looking it up on each copy would make a bound
/// method.
pub(crate) fn run(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let run = RUN.get_or_try_init(py, || {
        py.import("contextvars")?
            .getattr("Context")?
            .getattr("run")
            .map(Bound::unbind)
    })?;
    Ok(run.bind(py))
}

thread_local! {
    static CALL: RefCell<Option<Py<CallContext>>> = const { RefCell::new(None) };
}

/// While it lives, this thread runs for a call.
pub(crate) struct Named(());

pub(crate) fn name(call: &Bound<'_, CallContext>) -> Named {
    CALL.set(Some(call.clone().unbind()));
    Named(())
}

impl Drop for Named {
    fn drop(&mut self) {
        drop(CALL.take());
    }
}

/// The call that a sync callable on this thread runs for.
#[pyfunction]
pub(crate) fn current_call(py: Python<'_>) -> Option<Py<CallContext>> {
    CALL.with_borrow(|call| call.as_ref().map(|call| call.clone_ref(py)))
}

/// Names the call in a context, in which a coroutine of the call goes on elsewhere.
pub(crate) fn enter_in(scope: &Bound<'_, PyAny>, call: &Bound<'_, CallContext>) -> PyResult<()> {
    let py = call.py();
    run(py)?.call1((scope, setter(py)?, call)).map(drop)
}

/// Names the call in the context that this thread is in: a task has a copy of its own.
pub(crate) fn enter(call: &Bound<'_, CallContext>) -> PyResult<()> {
    setter(call.py())?.call1((call,)).map(drop)
}
