//! What a callable knows about its own call.

use std::{sync::Arc, time::Instant};

use edgerouter_engine::functions::Phase;
use pyo3::prelude::*;

/// What a callable knows about its call.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Context {
    name: Arc<str>,
    phase: Phase,
    deadline: Instant,
}

impl Context {
    pub(crate) fn new(name: Arc<str>, phase: Phase, deadline: Instant) -> Self {
        Self {
            name,
            phase,
            deadline,
        }
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.phase.as_str()
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
            (format!("edgerouter.functions.{}", self.name),),
        )
    }

    fn __repr__(&self) -> String {
        format!("<Context {} {}>", self.name, self.phase.as_str())
    }
}
