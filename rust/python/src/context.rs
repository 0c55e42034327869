//! The context of a call: its facts, and the services that a callable may use.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use edgerouter_functions::{FunctionCaches, Notes, Phase};
use pyo3::prelude::*;

use crate::{
    cache::{self, Caches},
    data::Env,
    message::request,
    runner::{Caller, enter, wait_until},
};

/// The call of a callable, async or not.
#[pyclass(frozen, subclass, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct CallContext {
    caller: Caller,
    phase: Phase,
    deadline: Instant,
    /// The request's id.
    request: u64,
    /// Records that the id was read, as on the request itself.
    notes: Option<Arc<Notes>>,
    caches: Weak<dyn FunctionCaches>,
}

/// Of a plain callable.
#[pyclass(frozen, extends = CallContext, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Context;

/// Of an async callable, which awaits what others call.
#[pyclass(frozen, extends = CallContext, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct AsyncContext;

impl CallContext {
    pub(crate) fn of(
        py: Python<'_>,
        caller: Caller,
        phase: Phase,
        deadline: Instant,
        (request, notes): (u64, Option<Arc<Notes>>),
        caches: Weak<dyn FunctionCaches>,
    ) -> PyResult<Bound<'_, Self>> {
        let awaits = caller.awaits;
        let made = PyClassInitializer::from(Self {
            caller,
            phase,
            deadline,
            request,
            notes,
            caches,
        });
        if awaits {
            return Ok(Bound::new(py, made.add_subclass(AsyncContext))?.into_super());
        }
        Ok(Bound::new(py, made.add_subclass(Context))?.into_super())
    }
}

#[pymethods]
impl Context {
    /// The cache of functions. No route is served from it, and it is not filled by any.
    #[getter]
    fn cache(slf: PyRef<'_, Self>) -> PyResult<Py<PyAny>> {
        cache::default(slf.py(), &slf.as_super().caches, false)
    }

    /// Caches by name, each apart from all others.
    #[getter]
    fn caches(slf: PyRef<'_, Self>) -> Caches {
        Caches::new(slf.as_super().caches.clone(), false)
    }
}

#[pymethods]
impl AsyncContext {
    /// The cache of functions, to be awaited. No route is served from it, and it is not filled by any.
    #[getter]
    fn cache(slf: PyRef<'_, Self>) -> PyResult<Py<PyAny>> {
        cache::default(slf.py(), &slf.as_super().caches, true)
    }

    /// Caches by name, each apart from all others, to be awaited.
    #[getter]
    fn caches(slf: PyRef<'_, Self>) -> Caches {
        Caches::new(slf.as_super().caches.clone(), true)
    }
}

#[pymethods]
impl CallContext {
    /// The callable's name, as `app.page`.
    #[getter]
    fn name(&self) -> &str {
        &self.caller.name
    }

    /// The phase in which it is called; "function" for a function.
    #[getter]
    fn phase(&self) -> &'static str {
        self.phase.as_str()
    }

    /// The id of its request, as `request.id`.
    #[getter]
    fn request_id(&self) -> String {
        if let Some(notes) = &self.notes {
            notes.lock().personal = true;
        }
        request::id(self.request)
    }

    /// The id of its request for the log, on which nothing that is stored depends.
    #[getter]
    fn log_id(&self) -> String {
        request::id(self.request)
    }

    /// The data that the edge is bound to, by name. An async callable awaits its operations.
    #[getter]
    fn env(&self) -> Env {
        Env::new(&self.caller, self.deadline)
    }

    /// Seconds left for the call; its time in the queue counts.
    fn remaining(&self) -> f64 {
        self.deadline
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }

    /// A logger with the callable's name; what it writes is in the edge's log, with function and request id.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("logging")?.call_method1(
            "getLogger",
            (format!("edgerouter.functions.{}", self.caller.name),),
        )
    }

    /// Goes on with an awaitable, or with a callable on a thread of its own, after the response; false when too many
    /// go on already.
    fn wait_until(slf: &Bound<'_, Self>, work: &Bound<'_, PyAny>) -> PyResult<bool> {
        enter(slf)?;
        let caller = &slf.get().caller;
        wait_until(&caller.shared, &caller.name, work)
    }

    fn __repr__(&self) -> String {
        let kind = if self.caller.awaits {
            "AsyncContext"
        } else {
            "Context"
        };
        format!("<{kind} {} {}>", self.caller.name, self.phase.as_str())
    }
}
