//! What a callable knows about its own call, and what it may use besides.

use std::time::Instant;

use edgerouter_engine::{function_cache::FunctionCaches, functions::Phase};
use pyo3::prelude::*;

use crate::{
    cache::{self, Caches},
    runner::{Caller, wait_until},
};

/// What a callable knows about its call.
#[pyclass(frozen, subclass, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Context {
    caller: Caller,
    phase: Phase,
    deadline: Instant,
    /// The request's id.
    request: u64,
    caches: FunctionCaches,
}

/// The same for an async callable, which awaits what others call.
#[pyclass(frozen, extends = Context, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct AsyncContext;

impl Context {
    pub(crate) fn of(
        py: Python<'_>,
        caller: Caller,
        phase: Phase,
        deadline: Instant,
        request: u64,
        caches: FunctionCaches,
    ) -> PyResult<Bound<'_, Self>> {
        let awaits = caller.awaits;
        let context = Self {
            caller,
            phase,
            deadline,
            request,
            caches,
        };
        if awaits {
            let made = PyClassInitializer::from(context).add_subclass(AsyncContext);
            return Ok(Bound::new(py, made)?.into_super());
        }
        Bound::new(py, context)
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn name(&self) -> &str {
        &self.caller.name
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.phase.as_str()
    }

    /// The id of its request, as `request.id`.
    #[getter]
    fn request_id(&self) -> String {
        format!("{:016x}", self.request)
    }

    /// Seconds left for the call; its time in the queue counts.
    fn remaining(&self) -> f64 {
        self.deadline
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }

    /// A logger for functions.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("logging")?.call_method1(
            "getLogger",
            (format!("edgerouter.functions.{}", self.caller.name),),
        )
    }

    /// The cache of functions.
    #[getter]
    fn cache(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        cache::default(py, &self.caches, self.caller.awaits)
    }

    /// Caches by name.
    #[getter]
    fn caches(&self) -> Caches {
        Caches::new(self.caches.clone(), self.caller.awaits)
    }

    /// Goes on with an awaitable, or with a callable on a thread of its own, after the response; false when too many
    /// go on already.
    fn wait_until(&self, work: &Bound<'_, PyAny>) -> PyResult<bool> {
        wait_until(&self.caller.shared, &self.caller.name, work)
    }

    fn __repr__(&self) -> String {
        format!("<Context {} {}>", self.caller.name, self.phase.as_str())
    }
}
