//! The engine and the plan as Python holds them.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use edgerouter_core::{
    plan::{ListenAddress, Plan, Problem, Scheme},
    strict_json,
};
use edgerouter_data::Bindings;
use edgerouter_engine::{
    self as engine, Settings, StartError,
    access::{AccessLog, Form},
};
use edgerouter_functions::Functions;
use edgerouter_telemetry::system_error::in_words;
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyOSError, PyRuntimeError, PyValueError},
    prelude::*,
    sync::MutexExt as _,
};

use crate::{
    addresses::address_of,
    errors, logs,
    output::SignalWatch,
    plan::compiled,
    runner::{CallableTable, Runner},
};

/// A running edge.
#[pyclass(name = "Engine", frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct PyEngine {
    start: Mutex<Option<(Plan, Arc<CallableTable>, Settings)>>,
    bindings: Mutex<Arc<Bindings>>,
    running: Mutex<Option<Arc<engine::Engine>>>,
    runner: Py<Runner>,
    /// Python code runs while it is locked: the lock must let go of the interpreter when it waits.
    runtime: std::sync::Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl PyEngine {
    #[new]
    #[pyo3(signature = (plan, callables, *, listen, admin=None, admin_token=None, workers=None, descriptors=None, test_clock=false, traces=false, ended=None))]
    #[allow(clippy::too_many_arguments)] // keywords on Python's side
    fn create(
        py: Python<'_>,
        plan: &[u8],
        callables: &Bound<'_, PyAny>,
        listen: Vec<String>,
        admin: Option<String>,
        admin_token: Option<String>,
        workers: Option<usize>,
        descriptors: Option<u64>,
        test_clock: bool,
        traces: bool,
        ended: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        // Before anything of Python's runs: its loggers take their level from this log.
        log(py)?;
        let plan = compiled(py, plan)?;
        let settings = Settings {
            admin_keys: Vec::new(),
            admin_reader_token: None,
            admin_socket: None,
            access_log: None,
            experiments_file: None,
            cost_report: None,
            listen: listen
                .iter()
                .map(|text| address_of(py, text))
                .collect::<PyResult<_>>()?,
            admin: admin
                .as_deref()
                .map(|text| address_of(py, text))
                .transpose()?,
            admin_token,
            workers,
            descriptors,
            test_clock,
            tend_memory: crate::allocator::tend,
        };
        let runner = Runner::new(&plan.limits.functions)?;
        runner.shared.show_traces(traces);
        let bindings = py
            .detach(|| Bindings::open(&plan))
            .map_err(|problems| errors::config(py, &problems))?;
        let table = Arc::new(CallableTable::new(
            &runner.shared,
            &bindings,
            callables,
            ended,
        )?);
        Ok(Self {
            bindings: Mutex::new(bindings),
            start: Mutex::new(Some((plan, table, settings))),
            running: Mutex::new(None),
            runner: Py::new(py, runner)?,
            runtime: std::sync::Mutex::new(None),
        })
    }

    /// Binds and serves; returns when every worker accepts. Raises `ListenError`.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let Some((plan, table, settings)) = self.start.lock().take() else {
            return Err(PyRuntimeError::new_err(
                "this engine was started before; make a new one",
            ));
        };
        if !table.is_empty() {
            self.runtime(py)?;
        }
        let functions: Arc<dyn Functions> = table;
        let bindings = self.bindings();
        let started = py.detach(|| engine::Engine::start(plan, functions, bindings, settings));
        match started {
            Ok(running) => {
                *self.running.lock() = Some(Arc::new(running));
                Ok(())
            }
            Err(error) => {
                self.end_runtime(py);
                py.detach(|| self.bindings().close());
                match error {
                    StartError::Tls(problems) | StartError::Geo(problems) => {
                        Err(errors::config(py, &problems))
                    }
                    StartError::Disk(_) | StartError::Counts(_) => {
                        Err(errors::plain_config(py, &error.to_string()))
                    }
                    _ => Err(errors::listen(py, &error.to_string())),
                }
            }
        }
    }

    /// Seconds since the last beat of the worker whose last one is oldest: each beats once a second.
    fn silence(&self) -> PyResult<f64> {
        Ok(self.engine()?.silence().as_secs_f64())
    }

    /// The Python half of the runner, started if need be. Threads exist only where there is something to run on them; a
    /// reload keeps them.
    pub(crate) fn runtime(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut runtime = self
            .runtime
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.clone_ref(py));
        }
        let made = py
            .import("edgerouter.functions.runtime")?
            .call_method1("start", (&self.runner,))?
            .unbind();
        *runtime = Some(made.clone_ref(py));
        Ok(made)
    }

    /// Puts a new plan in service and returns its version. Raises `ConfigError`, and then the old one stays.
    #[pyo3(signature = (plan, callables, ended=None))]
    fn reload(
        &self,
        py: Python<'_>,
        plan: &[u8],
        callables: &Bound<'_, PyAny>,
        ended: Option<Py<PyAny>>,
    ) -> PyResult<u64> {
        let plan = compiled(py, plan)?;
        let running = self.engine()?;
        if !running.keeps_disk(&plan) {
            let problem = Problem {
                path: "disk_cache".to_owned(),
                value: None,
                message: "cannot change while the edge serves; restore the old value, or stop and start the edge"
                    .to_owned(),
            };
            return Err(errors::config(py, &[problem]));
        }
        if !running.keeps_listeners(&plan) {
            let problem = Problem {
                path: "listeners".to_owned(),
                value: None,
                message: "cannot be added, removed or moved while the edge serves; restore the old addresses, or stop and \
                          start the edge"
                    .to_owned(),
            };
            return Err(errors::config(py, &[problem]));
        }
        let runner = self.runner.get();
        let bindings = py
            .detach(|| self.bindings().succeed(&plan))
            .map_err(|problems| errors::config(py, &problems))?;
        let table = Arc::new(CallableTable::new(
            &runner.shared,
            &bindings,
            callables,
            ended,
        )?);
        if !table.is_empty() {
            self.runtime(py)?;
        }
        let limits = plan.limits.functions.clone();
        let functions: Arc<dyn Functions> = table;
        let version = py
            .detach(|| running.reload(plan, functions, Arc::clone(&bindings)))
            .map_err(|problems| errors::config(py, &problems))?;
        // Those of a plan that is refused bound nothing.
        runner.shared.bound(&limits);
        *self.bindings.lock() = bindings;
        Ok(version)
    }

    /// Moves the wall clock to `seconds` from the real one. Raises `RuntimeError` unless it was made with `test_clock`.
    fn shift_clock(&self, py: Python<'_>, seconds: i64) -> PyResult<()> {
        let running = self.engine()?;
        if py.detach(|| running.shift_clock(seconds)) {
            self.bindings().shift_clock(seconds);
            Ok(())
        } else {
            Err(PyRuntimeError::new_err(
                "only an engine that edgerouter.testing started has a clock that can be moved",
            ))
        }
    }

    /// Notes in log and metrics that a new plan was refused.
    fn reload_failed(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let running = self.engine()?;
        py.detach(|| running.reload_failed(reason));
        Ok(())
    }

    /// Drains and ends; true when nothing was cut off. Seconds; `None`: the plan's limit. `ending()` is called when no
    /// call runs any more, and the event loop still does.
    #[pyo3(signature = (drain=None, ending=None))]
    fn stop(
        &self,
        py: Python<'_>,
        drain: Option<f64>,
        ending: Option<Py<PyAny>>,
    ) -> PyResult<bool> {
        let running = self.running.lock().take();
        let drain = drain.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let background = &self.runner.get().shared.background;
        let drained = running.is_none_or(|running| {
            py.detach(|| {
                let began = Instant::now();
                let patience = drain.unwrap_or_else(|| running.drain_timeout());
                let drained = running.stop(drain);
                // Work after responses shares the time.
                background.drain(patience.saturating_sub(began.elapsed())) && drained
            })
        });
        if let Some(ending) = ending
            && let Err(error) = ending.call0(py)
        {
            error.write_unraisable(py, None);
        }
        self.end_runtime(py);
        py.detach(|| self.bindings().close());
        Ok(drained)
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        let addresses = self.listening().into_iter();
        addresses.map(|(_, address)| address.to_string()).collect()
    }

    #[getter]
    fn urls(&self) -> Vec<String> {
        let addresses = self.listening().into_iter();
        addresses
            .map(|(scheme, address)| match address {
                ListenAddress::Tcp(address) => format!("{}://{address}", scheme.as_str()),
                ListenAddress::Unix(path) => {
                    format!("{}+unix:{}", scheme.as_str(), path.display())
                }
            })
            .collect()
    }

    #[getter]
    fn admin_address(&self) -> Option<String> {
        self.running
            .lock()
            .as_ref()?
            .admin_address()
            .map(|address| address.to_string())
    }

    /// The access keys of CloudFront clients and their secrets; before `start`.
    fn admin_keys(&self, keys: Vec<(String, String)>) {
        self.before_start(|settings| settings.admin_keys = keys);
    }

    /// The path of the admin listener's unix socket, which is for the user of the process; before `start`.
    fn admin_socket(&self, path: PathBuf) {
        self.before_start(|settings| settings.admin_socket = Some(path));
    }

    /// The token of those who may read and change nothing; before `start`.
    fn admin_reader_token(&self, token: String) {
        self.before_start(|settings| settings.admin_reader_token = Some(token));
    }

    /// The file that keeps the counts of experiments; before `start`.
    fn experiments_file(&self, path: PathBuf) {
        self.before_start(|settings| settings.experiments_file = Some(path));
    }

    /// The file with the report on costs that the dashboard shows; before `start`.
    fn cost_report(&self, path: PathBuf) {
        self.before_start(|settings| settings.cost_report = Some(path));
    }

    /// The data of the plan in service as JSON, for those who look at it: without secrets. Raises `ValueError`.
    fn document(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let running = self.engine()?;
        let data = py.detach(|| serde_json::from_slice(data));
        let data = data.map_err(|error| PyValueError::new_err(error.to_string()))?;
        running.document(data);
        Ok(())
    }

    /// Writes a line for each request to a file, or to standard output where there is none; before `start`. Raises
    /// `OSError`.
    #[pyo3(signature = (path, form, *, colours=false))]
    fn access_log(&self, path: Option<PathBuf>, form: &str, colours: bool) -> PyResult<()> {
        let form = match form {
            "json" => Form::Json,
            "short" => Form::Short { colours },
            _ => Form::Combined,
        };
        let log = match path {
            Some(path) => {
                AccessLog::file(path, form).map_err(|error| PyOSError::new_err(in_words(&error)))?
            }
            None => AccessLog::stdout(form),
        };
        self.before_start(|settings| settings.access_log = Some(log));
        Ok(())
    }

    /// Opens log files again by their names.
    fn reopen_logs(&self) -> PyResult<()> {
        self.engine()?.reopen_logs();
        Ok(())
    }

    /// Orders a purge; JSON in and out as at the admin listener. Raises `CacheError`.
    fn purge(&self, py: Python<'_>, order: &str) -> PyResult<String> {
        let running = self.engine()?;
        let placed = py.detach(|| {
            let order = strict_json::value(order.as_bytes()).map_err(|error| error.to_string())?;
            let placed = running.purge(&order).map_err(|error| error.to_string())?;
            Ok::<_, String>(placed.to_string())
        });
        placed.map_err(|message| errors::cache(py, &message))
    }

    /// The remembered purges, or the one of this id, as JSON; `null` when there is none.
    #[pyo3(signature = (id=None))]
    fn purges(&self, py: Python<'_>, id: Option<&str>) -> PyResult<String> {
        let running = self.engine()?;
        Ok(py.detach(|| {
            running
                .purges(id)
                .unwrap_or(serde_json::Value::Null)
                .to_string()
        }))
    }

    /// The next call for certificates: its number, callable, purpose (`set` or `remove` a record of DNS, `allow` a
    /// name), name, and the text of a record. Waits for one, half a second at most. Raises `RuntimeError` when the
    /// engine does not run.
    fn next_record(
        &self,
        py: Python<'_>,
    ) -> PyResult<Option<(u64, String, &'static str, String, String)>> {
        let running = self.engine()?;
        let taken = py.detach(|| running.dns_records().take(Duration::from_millis(500)));
        Ok(taken.map(|call| {
            let (callable, kind) = (call.callable.into(), call.kind.as_str());
            (call.id, callable, kind, call.record, call.value)
        }))
    }

    /// The end of such a call, with the result, or the reason if it failed.
    #[pyo3(signature = (number, result, fault=None))]
    fn record_ended(&self, number: u64, result: bool, fault: Option<String>) -> PyResult<()> {
        let running = self.engine()?;
        running
            .dns_records()
            .answer(number, fault.map_or(Ok(result), Err));
        Ok(())
    }

    /// Watches for signals to stop while Python is busy; given to `signal.set_wakeup_fd`.
    fn watch_signals(&self) -> PyResult<SignalWatch> {
        SignalWatch::start(&self.engine()?).map_err(|error| match error.raw_os_error() {
            // With its number, by which Python knows a lack of descriptors.
            Some(number) => PyOSError::new_err((number, in_words(&error))),
            None => error.into(),
        })
    }

    /// Prometheus text.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        let running = self.engine()?;
        Ok(py.detach(|| running.metrics()))
    }
}

impl PyEngine {
    fn listening(&self) -> Vec<(Scheme, ListenAddress)> {
        let running = self.running.lock().clone();
        running.map_or_else(Vec::new, |running| running.addresses())
    }

    pub(crate) fn bindings(&self) -> Arc<Bindings> {
        Arc::clone(&self.bindings.lock())
    }

    /// The way to Python.
    pub(crate) fn runner(&self) -> &Runner {
        self.runner.get()
    }

    /// A version that was beside the one in service is in service now, with these.
    pub(crate) fn promoted(&self, bindings: Arc<Bindings>, running: &engine::Engine) {
        self.runner.get().shared.bound(&running.function_limits());
        *self.bindings.lock() = bindings;
    }

    /// Changes a setting that takes effect when the engine starts.
    fn before_start(&self, set: impl FnOnce(&mut Settings)) {
        if let Some((_, _, settings)) = self.start.lock().as_mut() {
            set(settings);
        }
    }

    pub(crate) fn engine(&self) -> PyResult<Arc<engine::Engine>> {
        self.running
            .lock()
            .clone()
            .ok_or_else(|| PyRuntimeError::new_err("the engine is not running"))
    }

    fn end_runtime(&self, py: Python<'_>) {
        self.runner.get().shared.stop();
        let runtime = self
            .runtime
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime
            && let Err(error) = runtime.call_method0(py, "stop")
        {
            error.write_unraisable(py, None);
        }
        // They hold the runtime, and with it its descriptors.
        self.runner.get().shared.background.attach(None);
        self.runner.get().shared.streams.attach(None);
    }
}

/// Sends the engine's log to standard error, once.
fn log(py: Python<'_>) -> PyResult<()> {
    use std::io::IsTerminal as _;
    let logs::LogSettings { filter, json } = logs::wanted(py)?;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
        && std::io::stderr().is_terminal();
    engine::log::start(filter, engine::log::Look { json, colours });
    Ok(())
}
