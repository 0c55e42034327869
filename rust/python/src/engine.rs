//! The engine and the plan as Python holds them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edgerouter_core::{explain as core_explain, plan};
use edgerouter_engine::{self as engine, Settings, functions::Functions};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};

use crate::{
    errors,
    runner::{self, Runner, Table},
};

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
        loads(py, &self.routes)
    }

    /// Routes that can never match, each with the one that always comes before.
    #[getter]
    fn unreachable(&self) -> Vec<(String, String)> {
        self.unreachable.clone()
    }
}

pub(crate) fn loads<'py>(
    py: Python<'py>,
    value: &serde_json::Value,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?
        .call_method1("loads", (value.to_string(),))
}

fn compiled(py: Python<'_>, plan: &[u8]) -> PyResult<plan::Plan> {
    py.detach(|| plan::compile(plan))
        .map_err(|problems| errors::config(py, &problems))
}

/// Compiles a plan; raises `ConfigError` with every problem.
#[pyfunction]
pub(crate) fn compile(py: Python<'_>, plan: &[u8]) -> PyResult<PlanTable> {
    let plan = compiled(py, plan)?;
    let rows = plan::table::table(&plan);
    let label = |id| {
        plan.route(id)
            .map_or_else(String::new, |route| route.label.to_string())
    };
    Ok(PlanTable {
        name: plan.name.to_string(),
        routes: serde_json::to_value(rows)
            .map_err(|error| PyValueError::new_err(error.to_string()))?,
        unreachable: plan
            .router
            .unreachable(&plan.routes)
            .into_iter()
            .map(|(a, b)| (label(a), label(b)))
            .collect(),
    })
}

/// What would happen to a request, phase by phase, without sending it anywhere.
#[pyfunction]
#[pyo3(signature = (plan, method, url, headers, client=None, now=None))]
pub(crate) fn explain<'py>(
    py: Python<'py>,
    plan: &[u8],
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    client: Option<&str>,
    now: Option<u64>,
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
    };
    let now = now.unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    });
    let steps = core_explain::explain(&plan, &request, now);
    let steps: Vec<serde_json::Value> = steps
        .iter()
        .map(|step| serde_json::json!({"phase": step.phase, "decision": step.decision, "reason": step.reason}))
        .collect();
    loads(py, &serde_json::Value::Array(steps))
}

/// A running edge.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Engine {
    start: Mutex<Option<(plan::Plan, Arc<Table>, Settings)>>,
    running: Mutex<Option<Arc<engine::Engine>>>,
    runner: Py<Runner>,
    runtime: Mutex<Option<Py<PyAny>>>,
}

fn addresses_of(listen: &[String]) -> PyResult<Vec<SocketAddr>> {
    listen.iter().map(|text| address_of(text)).collect()
}

fn address_of(text: &str) -> PyResult<SocketAddr> {
    let named = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    let text = named.as_deref().unwrap_or(text);
    let any = text.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
    any.as_deref().unwrap_or(text).parse().map_err(|_| {
        PyValueError::new_err(format!(
            "{text:?} is no address to listen on; write IP:PORT, such as 127.0.0.1:8080"
        ))
    })
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (plan, callables, *, listen, admin=None, admin_token=None, workers=None))]
    fn create(
        py: Python<'_>,
        plan: &[u8],
        callables: &Bound<'_, PyAny>,
        listen: Vec<String>,
        admin: Option<String>,
        admin_token: Option<String>,
        workers: Option<usize>,
    ) -> PyResult<Self> {
        let plan = compiled(py, plan)?;
        let settings = Settings {
            listen: addresses_of(&listen)?,
            admin: admin.as_deref().map(address_of).transpose()?,
            admin_token,
            workers,
        };
        let runner = Runner::new(plan.limits.function_queue)?;
        let table = Arc::new(Table {
            shared: Arc::clone(&runner.shared),
            callables: runner::callables(callables)?,
        });
        Ok(Self {
            start: Mutex::new(Some((plan, table, settings))),
            running: Mutex::new(None),
            runner: Py::new(py, runner)?,
            runtime: Mutex::new(None),
        })
    }

    /// Binds and serves; returns when every worker accepts. Raises `ListenError`.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let Some((plan, table, settings)) = self.start.lock().take() else {
            return Err(PyRuntimeError::new_err(
                "this engine was started before; make a new one",
            ));
        };
        log();
        self.ensure_runtime(py, &table)?;
        let functions: Arc<dyn Functions> = table;
        let started = py.detach(|| engine::Engine::start(plan, functions, settings));
        match started {
            Ok(running) => {
                *self.running.lock() = Some(Arc::new(running));
                Ok(())
            }
            Err(error) => {
                self.end_runtime(py);
                Err(errors::start(py, &error))
            }
        }
    }

    /// Puts a new plan in service and returns its version. Raises `ConfigError`, and then the old one stays.
    fn reload(&self, py: Python<'_>, plan: &[u8], callables: &Bound<'_, PyAny>) -> PyResult<u64> {
        let plan = compiled(py, plan)?;
        let running = self.engine()?;
        let runner = self.runner.get();
        runner.bound(plan.limits.function_queue);
        let table = Arc::new(Table {
            shared: Arc::clone(&runner.shared),
            callables: runner::callables(callables)?,
        });
        self.ensure_runtime(py, &table)?;
        let functions: Arc<dyn Functions> = table;
        Ok(py.detach(|| running.reload(plan, functions)))
    }

    /// Notes in log and metrics that a new plan was refused.
    fn reload_failed(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let running = self.engine()?;
        py.detach(|| running.reload_failed(reason));
        Ok(())
    }

    /// Drains and ends; true when nothing was cut off. Seconds; `None`: the plan's limit.
    #[pyo3(signature = (drain=None))]
    fn stop(&self, py: Python<'_>, drain: Option<f64>) -> PyResult<bool> {
        let running = self.running.lock().take();
        let drain = drain
            .filter(|seconds| seconds.is_finite())
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        let drained = running.is_none_or(|running| py.detach(|| running.stop(drain)));
        self.end_runtime(py);
        Ok(drained)
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.running
            .lock()
            .as_ref()
            .map_or_else(Vec::new, |running| {
                running
                    .addresses()
                    .iter()
                    .map(ToString::to_string)
                    .collect()
            })
    }

    #[getter]
    fn admin_address(&self) -> Option<String> {
        self.running
            .lock()
            .as_ref()?
            .admin_address()
            .map(|address| address.to_string())
    }

    /// Prometheus text.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        let running = self.engine()?;
        Ok(py.detach(|| running.metrics()))
    }
}

impl Engine {
    fn engine(&self) -> PyResult<Arc<engine::Engine>> {
        self.running
            .lock()
            .clone()
            .ok_or_else(|| PyRuntimeError::new_err("the engine is not running"))
    }

    /// Python's threads exist only where there is something to run on them.
    fn ensure_runtime(&self, py: Python<'_>, table: &Table) -> PyResult<()> {
        let mut runtime = self.runtime.lock();
        if runtime.is_none() && !table.callables.is_empty() {
            let made = py
                .import("edgerouter.functions.runtime")?
                .call_method1("start", (&self.runner,))?;
            *runtime = Some(made.unbind());
        }
        Ok(())
    }

    fn end_runtime(&self, py: Python<'_>) {
        self.runner.get().stop();
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            let _ = runtime.call_method0(py, "stop");
        }
    }
}

/// Sends the engine's log to standard error, once.
fn log() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::{EnvFilter, fmt};
    let filter =
        EnvFilter::try_from_env("EDGEROUTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
        && std::io::stderr().is_terminal();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    let _ = match std::env::var("EDGEROUTER_LOG_FORMAT") {
        Ok(format) if format == "json" => builder.json().try_init(),
        _ => builder.compact().try_init(),
    };
}
