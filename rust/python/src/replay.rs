//! Predictions for the traffic of a log, beside the interpreter.

use std::{path::PathBuf, sync::atomic::Ordering};

use edgerouter_core::plan::{PathPattern, Plan, Scheme};
use edgerouter_replay::{Assumed, Assumption, Format, Progress, ReplayOrder};
use edgerouter_telemetry::system_error::without_number;
use http::HeaderValue;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{json, plan::compiled};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Replay>()
}

/// A run of the requests of access logs through the decisions of a plan.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Replay {
    plan: Plan,
    order: ReplayOrder,
    progress: Progress,
}

fn format_of(name: &str) -> PyResult<Format> {
    serde_json::from_value(name.into())
        .map_err(|_| PyValueError::new_err(format!("{name:?} is no form of a log")))
}

fn assumption((pattern, value): (String, String)) -> PyResult<Assumption> {
    Ok(Assumption {
        cache_control: HeaderValue::from_str(&value).map_err(|_| {
            PyValueError::new_err(format!("{value:?} is not a value of Cache-Control"))
        })?,
        pattern: PathPattern::parse(&pattern)
            .map_err(|error| PyValueError::new_err(format!("{pattern:?} {error}")))?,
    })
}

#[pymethods]
impl Replay {
    /// `tiers`: bytes of memory for each prediction; none: that which the plan has on this machine. `lifetimes`:
    /// patterns of paths, each with the `Cache-Control` that is assumed.
    #[new]
    #[pyo3(signature = (plan, files, *, tiers, format, host, scheme, lifetimes, sample, most_entries))]
    #[allow(clippy::too_many_arguments)] // they are keywords to Python
    fn new(
        py: Python<'_>,
        plan: &[u8],
        files: Vec<PathBuf>,
        tiers: Vec<u64>,
        format: Option<&str>,
        host: &str,
        scheme: &str,
        lifetimes: Vec<(String, String)>,
        sample: u64,
        most_entries: u64,
    ) -> PyResult<Self> {
        let plan = compiled(py, plan)?;
        let order = ReplayOrder {
            files,
            format: format.map(format_of).transpose()?,
            host: HeaderValue::from_str(host)
                .map_err(|_| PyValueError::new_err(format!("{host:?} is no host")))?,
            scheme: if scheme == "http" {
                Scheme::Http
            } else {
                Scheme::Https
            },
            tiers,
            assumed: Assumed {
                lifetimes: lifetimes
                    .into_iter()
                    .map(assumption)
                    .collect::<PyResult<_>>()?,
            },
            sample,
            most_entries,
        };
        Ok(Self {
            plan,
            order,
            progress: Progress::default(),
        })
    }

    /// Bytes of the plan's memory cache on a machine with the memory of this one.
    #[staticmethod]
    fn memory(py: Python<'_>, plan: &[u8]) -> PyResult<u64> {
        let plan = compiled(py, plan)?;
        let given = plan.limits.cache.memory_bytes;
        Ok(given.unwrap_or_else(edgerouter_engine::default_capacity))
    }

    /// Reads the logs to their end. `ValueError` if there is no prediction.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let run = || edgerouter_replay::run(&self.plan, &self.order, &self.progress);
        let prediction = py.detach(run).map_err(|error| {
            PyValueError::new_err(without_number(&error.to_string()).into_owned())
        })?;
        let prediction = serde_json::to_value(prediction)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        json::python(py, &prediction)
    }

    /// Bytes and lines that have been read, from any thread.
    fn progress(&self) -> (u64, u64) {
        let Progress { read, lines, .. } = &self.progress;
        (read.load(Ordering::Relaxed), lines.load(Ordering::Relaxed))
    }

    /// Ends the run soon, from any thread.
    fn stop(&self) {
        self.progress.stopped.store(true, Ordering::Relaxed);
    }
}
