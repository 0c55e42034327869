//! The context (`contextvars`) of a call: a copy for each, in which a variable names the call.
//!
//! A value that one call sets is not seen by the next on its thread. Tasks and threads that a call starts inherit the
//! variable, as `asyncio.create_task` and `asyncio.to_thread` copy the context: what they log is known to be the call's.

use pyo3::{intern, prelude::*, sync::PyOnceLock};

use crate::context::CallContext;

static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
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

/// A copy of this thread's context for one call.
pub(crate) fn of<'py>(call: &Bound<'py, CallContext>) -> PyResult<Bound<'py, PyAny>> {
    let py = call.py();
    let scope = copy(py)?;
    scope.call_method1(intern!(py, "run"), (setter(py)?, call))?;
    Ok(scope)
}

/// Names the call in the context that this thread is in: a task has a copy of its own.
pub(crate) fn enter(call: &Bound<'_, CallContext>) -> PyResult<()> {
    setter(call.py())?.call1((call,)).map(drop)
}
