//! Deploys as Python carries them out: orders of the admin listener, and versions beside the one in service.

use std::{sync::Arc, time::Duration};

use edgerouter_core::trial::{Share, TrialThresholds};
use edgerouter_engine::{NewDeploy, NoDeploy};
use edgerouter_functions::Functions;
use pyo3::{
    exceptions::{PyLookupError, PyValueError},
    prelude::*,
};

use crate::{engine::PyEngine, errors, plan::compiled, runner::CallableTable};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EngineDeploys>()
}

/// The deploys of an engine.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct EngineDeploys(Py<PyEngine>);

fn no_deploy(error: NoDeploy) -> PyErr {
    PyLookupError::new_err(error.to_string())
}

#[pymethods]
impl EngineDeploys {
    #[new]
    fn create(engine: Py<PyEngine>) -> Self {
        Self(engine)
    }

    /// From now on orders are taken.
    fn open(&self) -> PyResult<()> {
        self.0.get().engine()?.deploy_orders().open();
        Ok(())
    }

    /// The next order as its number and JSON. Waits for one, half a second at most. Raises `RuntimeError` when the
    /// engine does not run.
    fn next_order(&self, py: Python<'_>) -> PyResult<Option<(u64, String)>> {
        let running = self.0.get().engine()?;
        let patience = Duration::from_millis(500);
        Ok(py.detach(|| running.deploy_orders().take(patience)))
    }

    /// The answer to an order: a status of HTTP, and JSON.
    fn answer(&self, number: u64, status: u16, body: String) -> PyResult<()> {
        let running = self.0.get().engine()?;
        running.deploy_orders().answer(number, status, body);
        Ok(())
    }

    /// Puts a version beside the one in service, for a share of the clients; the id of the deploy. Raises
    /// `ConfigError`.
    #[pyo3(signature = (plan, callables, ended, running, *, file, hash, author, percent, cookie, min_responses, max_errors, max_latency))]
    #[allow(clippy::too_many_arguments)] // keywords on Python's side
    fn begin(
        &self,
        py: Python<'_>,
        plan: &[u8],
        callables: &Bound<'_, PyAny>,
        ended: Py<PyAny>,
        running: &[u8],
        file: String,
        hash: String,
        author: String,
        percent: f64,
        cookie: Option<&str>,
        min_responses: u64,
        max_errors: f64,
        max_latency: Option<f64>,
    ) -> PyResult<u64> {
        let own = self.0.get();
        let engine = own.engine()?;
        let share = Share::new(&hash, percent, cookie)
            .ok_or_else(|| PyValueError::new_err("percent must be from 0.01 to 100"))?;
        let thresholds = TrialThresholds {
            min_responses,
            max_errors,
            max_latency: max_latency.map(|seconds| (seconds * 1e6) as u64),
        };
        let read = |data: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(data)
                .map_err(|error| PyValueError::new_err(error.to_string()))
        };
        let data = (read(plan)?, read(running)?);
        let plan = compiled(py, plan)?;
        let runner = own.runner();
        let bindings = py
            .detach(|| own.bindings().succeed(&plan))
            .map_err(|problems| errors::config(py, &problems))?;
        let table = CallableTable::new(&runner.shared, &bindings, callables, Some(ended))?;
        if !table.is_empty() {
            own.runtime(py)?;
        }
        let functions: Arc<dyn Functions> = Arc::new(table);
        let new = NewDeploy {
            file,
            hash,
            author,
            share,
            thresholds,
        };
        py.detach(|| {
            let data = (&data.0, &data.1);
            engine.deploy(plan, data, (functions, bindings), new)
        })
        .map_err(|problems| errors::config(py, &problems))
    }

    /// Puts the version of the deploy under way in service for all clients; its number. Raises `LookupError`.
    #[pyo3(signature = (id=None))]
    fn promote(&self, py: Python<'_>, id: Option<u64>) -> PyResult<u64> {
        let own = self.0.get();
        let engine = own.engine()?;
        let (version, bindings) = py.detach(|| engine.promote(id)).map_err(no_deploy)?;
        own.promoted(bindings, &engine);
        Ok(version)
    }

    /// Ends the deploy under way, or the one of this id. Raises `LookupError`.
    #[pyo3(signature = (id=None, reason=""))]
    fn roll_back(&self, py: Python<'_>, id: Option<u64>, reason: &str) -> PyResult<()> {
        let engine = self.0.get().engine()?;
        py.detach(|| engine.roll_back(id, reason))
            .map_err(no_deploy)
    }

    /// Notes a deploy that was refused before it served.
    fn refused(&self, file: &str, hash: &str, author: &str, reason: &str) -> PyResult<()> {
        let engine = self.0.get().engine()?;
        engine.deploy_refused((file, hash, author), reason);
        Ok(())
    }

    /// The id of the deploy under way.
    #[getter]
    fn under_way(&self) -> PyResult<Option<u64>> {
        Ok(self.0.get().engine()?.deploy_under_way())
    }
}
