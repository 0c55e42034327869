//! A plan for inspection: the table, advice and explanations of the core as Python's own values.

use edgerouter_core::{
    explain::{self as core_explain, ExplainResponse},
    http::Fields,
    plan::{self, Plan},
};
use http::StatusCode;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    errors, json,
    message::headers::{name_of, value_of},
};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PlanTable>()?;
    module.add_function(wrap_pyfunction!(compile, module)?)?;
    module.add_function(wrap_pyfunction!(lint, module)?)?;
    module.add_function(wrap_pyfunction!(explain, module)?)
}

/// Compiles beside the interpreter: a plan of a thousand routes must not stop Python.
pub(crate) fn compiled(py: Python<'_>, plan: &[u8]) -> PyResult<Plan> {
    let checked = || {
        let plan = plan::compile(plan)?;
        edgerouter_engine::check_tls(&plan)?;
        edgerouter_engine::check_geo(&plan)?;
        let problems = edgerouter_data::check(&plan);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok::<_, Vec<plan::Problem>>(plan)
    };
    py.detach(checked)
        .map_err(|problems| errors::config(py, &problems))
}

/// A compiled plan, for looking at.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct PlanTable {
    name: String,
    routes: serde_json::Value,
    unreachable: Vec<(String, String)>,
}

#[pymethods]
impl PlanTable {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The routes in the order in which they are matched.
    #[getter]
    fn routes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::python(py, &self.routes)
    }

    /// Routes that can never match, each with the one that always comes before.
    #[getter]
    fn unreachable(&self) -> Vec<(String, String)> {
        self.unreachable.clone()
    }

    fn __repr__(&self) -> String {
        let routes = self.routes.as_array().map_or(0, Vec::len);
        format!("<PlanTable {}: {routes} routes>", self.name)
    }
}

fn unreadable(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Compiles a plan; raises `ConfigError` with every problem.
#[pyfunction]
fn compile(py: Python<'_>, plan: &[u8]) -> PyResult<PlanTable> {
    let plan = compiled(py, plan)?;
    Ok(PlanTable {
        name: plan.name.to_string(),
        routes: serde_json::to_value(plan::table::table(&plan)).map_err(unreadable)?,
        unreachable: plan::table::unreachable(&plan)
            .into_iter()
            .map(|(label, by)| (label.to_string(), by.to_string()))
            .collect(),
    })
}

/// The core's advice about a plan that is valid and still dangerous.
#[pyfunction]
fn lint<'py>(py: Python<'py>, plan: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let plan = compiled(py, plan)?;
    let found = serde_json::to_value(plan::lint::lint(&plan)).map_err(unreadable)?;
    json::python(py, &found)
}

/// A status and fields that an origin might answer with.
fn response_of((status, fields): (u16, Vec<(String, String)>)) -> PyResult<ExplainResponse> {
    let status = StatusCode::from_u16(status)
        .map_err(|_| PyValueError::new_err(format!("{status} is no status")))?;
    let mut headers = Fields::new();
    for (name, value) in &fields {
        headers.append(name_of(name)?, value_of(name, value)?);
    }
    Ok(ExplainResponse { status, headers })
}

/// The decisions about a request, phase by phase, without sending it anywhere.
#[pyfunction]
#[pyo3(signature = (plan, method, url, headers, client=None, now=None, response=None))]
#[allow(clippy::too_many_arguments)] // they are keywords to Python
fn explain<'py>(
    py: Python<'py>,
    plan: &[u8],
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    client: Option<&str>,
    now: Option<u64>,
    response: Option<(u16, Vec<(String, String)>)>,
) -> PyResult<Bound<'py, PyAny>> {
    let plan = compiled(py, plan)?;
    let client = client.unwrap_or("127.0.0.1");
    let request = core_explain::ExplainRequest {
        method: method.to_owned(),
        url: url.to_owned(),
        headers,
        client: client
            .parse()
            .map_err(|_| PyValueError::new_err(format!("{client:?} is no IP address")))?,
        scheme: None,
        places: edgerouter_engine::places(&plan),
        readings: Default::default(),
        response: response.map(response_of).transpose()?,
    };
    let now = now.unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    });
    let steps = core_explain::explain(&plan, &request, now)
        .steps
        .iter()
        .map(|step| {
            serde_json::json!({"phase": step.phase, "decision": step.decision, "reason": step.reason})
        })
        .collect();
    json::python(py, &serde_json::Value::Array(steps))
}
