//! The data that callables are bound to, as Python sees it: `ctx.env`.
//!
//! `kv` has the operations of key-value stores, `sql` those of databases, and `documents` the scripts of documents that
//! are in none. `operation` is one that is under way: a plain callable waits for it without the interpreter, an async
//! one awaits it.

mod documents;
mod kv;
mod operation;
mod sql;

use std::{sync::Arc, time::Instant};

use edgerouter_core::plan::binding::BindingKind;
use edgerouter_data::{Bindings, Bound as Binding, Session};
use edgerouter_telemetry::trace::SpanParent;
use parking_lot::Mutex;
use pyo3::{exceptions::PyAttributeError, prelude::*};

use crate::{
    errors,
    plan::compiled,
    runner::{Caller, Queues},
};
use operation::Handle;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Env>()?;
    module.add_class::<kv::Kv>()?;
    module.add_class::<kv::AsyncKv>()?;
    module.add_class::<kv::KvEntry>()?;
    module.add_class::<kv::KvKeys>()?;
    module.add_class::<kv::Chunks>()?;
    module.add_class::<sql::Database>()?;
    module.add_class::<sql::AsyncDatabase>()?;
    module.add_class::<sql::PyStatement>()?;
    module.add_class::<sql::AsyncStatement>()?;
    module.add_class::<sql::PySqlResult>()?;
    module.add_class::<sql::SqlScript>()?;
    module.add_class::<documents::DocumentServer>()?;
    module.add_class::<documents::AsyncDocumentServer>()?;
    module.add_class::<OpenBindings>()?;
    module.add_function(wrap_pyfunction!(mysql_statements, module)?)?;
    module.add_function(wrap_pyfunction!(is_bound_file, module)?)
}

/// The statements of a script for MySQL: first words, and whether it ends the transaction that it is in.
#[pyfunction]
fn mysql_statements(script: &str) -> Vec<(String, bool)> {
    edgerouter_data::mysql_statements(script)
}

/// True if a binding has a file open, by its device and inode.
#[pyfunction]
fn is_bound_file(device: u64, inode: u64) -> bool {
    edgerouter_data::is_open(device, inode)
}

/// The bindings of a plan that is not served, for programs and commands.
#[pyclass(name = "Bindings", frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct OpenBindings {
    bindings: Arc<Bindings>,
    shared: Arc<Queues>,
}

#[pymethods]
impl OpenBindings {
    #[new]
    fn open(py: Python<'_>, plan: &[u8]) -> PyResult<Self> {
        let plan = compiled(py, plan)?;
        let bindings = py
            .detach(|| Bindings::open(&plan))
            .map_err(|problems| errors::config(py, &problems))?;
        Ok(Self {
            bindings,
            shared: Queues::new(&plan.limits.functions)?,
        })
    }

    /// As a plain callable finds them.
    #[getter]
    fn env(&self) -> Env {
        Env {
            bindings: Arc::clone(&self.bindings),
            shared: Arc::clone(&self.shared),
            awaits: false,
            inline: false,
            deadline: Instant::now(),
            trace: None,
            sessions: Arc::default(),
        }
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.bindings.close());
    }
}

/// Documents are statements of a database or scripts of a server, which Python's part of the package writes.
fn documents(py: Python<'_>, handle: Handle, awaits: bool) -> PyResult<Py<PyAny>> {
    let is_in_database = handle.bound.engine() != Some("redis");
    let binding = match (is_in_database, awaits) {
        (true, false) => Py::new(py, sql::Database::new(handle))?.into_any(),
        (true, true) => Py::new(py, sql::AsyncDatabase::new(handle))?.into_any(),
        (false, false) => Py::new(py, documents::DocumentServer { handle })?.into_any(),
        (false, true) => Py::new(py, documents::AsyncDocumentServer { handle })?.into_any(),
    };
    let class = if awaits {
        "AsyncDocuments"
    } else {
        "Documents"
    };
    let module = py.import("edgerouter.documents")?;
    Ok(module.getattr(class)?.call1((binding,))?.unbind())
}

/// Bindings by name.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Env {
    bindings: Arc<Bindings>,
    shared: Arc<Queues>,
    awaits: bool,
    inline: bool,
    deadline: Instant,
    trace: Option<SpanParent>,
    sessions: Arc<CallSessions>,
}

/// The sessions of one call of a callable with the databases that have replicas, so that it sees its own writes.
#[derive(Debug, Default)]
pub(crate) struct CallSessions(Mutex<Vec<(Arc<Binding>, Arc<Session>)>>);

impl CallSessions {
    fn of(&self, bound: &Arc<Binding>) -> Option<Arc<Session>> {
        let mut known = self.0.lock();
        if let Some((_, session)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, bound)) {
            return Some(Arc::clone(session));
        }
        let session = bound.session_of_call()?;
        known.push((Arc::clone(bound), Arc::clone(&session)));
        Some(session)
    }
}

impl Env {
    pub(crate) fn new(
        (caller, inline): (&Caller, bool),
        deadline: Instant,
        trace: Option<SpanParent>,
        sessions: &Arc<CallSessions>,
    ) -> Self {
        Self {
            bindings: Arc::clone(&caller.bindings),
            shared: Arc::clone(&caller.shared),
            awaits: caller.awaits,
            inline,
            deadline,
            trace,
            sessions: Arc::clone(sessions),
        }
    }
}

#[pymethods]
impl Env {
    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        let Some(bound) = self.bindings.get(name) else {
            let names: Vec<&str> = self.bindings.names().collect();
            let known = match names.is_empty() {
                true => "the edge has none".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            return Err(PyAttributeError::new_err(format!(
                "{name}: no binding has this name, and {known}; declare it, as in edge.kv(\"{name}\", \"memory:\")"
            )));
        };
        let handle = Handle {
            bound: Arc::clone(bound),
            shared: Arc::clone(&self.shared),
            inline: self.inline,
            deadline: self.deadline,
            trace: self.trace.clone(),
            session: self.sessions.of(bound),
        };
        match (bound.kind(), self.awaits) {
            (BindingKind::KeyValue, false) => Ok(Py::new(py, kv::Kv::new(handle))?.into_any()),
            (BindingKind::KeyValue, true) => Ok(Py::new(py, kv::AsyncKv::new(handle))?.into_any()),
            (BindingKind::Database, false) => {
                Ok(Py::new(py, sql::Database::new(handle))?.into_any())
            }
            (BindingKind::Database, true) => {
                Ok(Py::new(py, sql::AsyncDatabase::new(handle))?.into_any())
            }
            (BindingKind::Documents, awaits) => documents(py, handle, awaits),
        }
    }

    fn __contains__(&self, name: &str) -> bool {
        self.bindings.get(name).is_some()
    }

    fn __dir__(&self) -> Vec<&str> {
        self.bindings.names().collect()
    }

    fn __repr__(&self) -> String {
        let names: Vec<&str> = self.bindings.names().collect();
        format!("<Env {}>", names.join(", "))
    }
}
