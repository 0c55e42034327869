//! Databases as Python sees them.

use std::sync::Arc;

use edgerouter_data::{
    DataCall, DataReply, SqlCall, SqlMeta, SqlPart, SqlReply, SqlResult, SqlValue, Statement,
};
use pyo3::{
    IntoPyObjectExt as _, PyTypeInfo as _,
    exceptions::{PyKeyError, PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{
        PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString,
        PyTuple,
    },
};

use super::operation::{Convert, Handle, Operation};

/// An operation, and the way to Python's value of its result.
type Planned = (DataCall, Convert);

fn unexpected(reply: &DataReply) -> PyErr {
    PyValueError::new_err(format!("unexpected reply: {reply:?}"))
}

fn bound_value(at: usize, given: &Bound<'_, PyAny>) -> PyResult<SqlValue> {
    if given.is_none() {
        return Ok(SqlValue::Null);
    }
    if given.is_instance_of::<PyBool>() || given.is_instance_of::<PyInt>() {
        return given.extract().map(SqlValue::Integer).map_err(|_| {
            PyOverflowError::new_err(format!(
                "bind: value {} has more than 64 bits; bind it as str",
                at + 1
            ))
        });
    }
    if given.is_instance_of::<PyFloat>() {
        return given.extract().map(SqlValue::Real);
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(SqlValue::Text(text.to_str()?.to_owned()));
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(SqlValue::Blob(bytes.as_bytes().to_vec()));
    }
    if given.is_instance_of::<PyByteArray>() || given.is_instance_of::<PyMemoryView>() {
        let bytes = PyBytes::type_object(given.py()).call1((given,))?;
        return Ok(SqlValue::Blob(bytes.cast::<PyBytes>()?.as_bytes().to_vec()));
    }
    Err(PyTypeError::new_err(format!(
        "bind: value {} is of type {}; bind str, int, float, bytes or None, such as value.isoformat() of a date",
        at + 1,
        given.get_type().name()?
    )))
}

fn python_value<'py>(py: Python<'py>, value: &SqlValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        SqlValue::Null => Ok(py.None().into_bound(py)),
        SqlValue::Bool(yes) => yes.into_bound_py_any(py),
        SqlValue::Integer(number) => number.into_bound_py_any(py),
        SqlValue::Real(number) => number.into_bound_py_any(py),
        SqlValue::Text(text) => text.into_bound_py_any(py),
        SqlValue::Blob(bytes) => PyBytes::new(py, bytes).into_bound_py_any(py),
    }
}

/// Names of columns as keys; made once for all rows.
fn keys<'py>(py: Python<'py>, result: &SqlResult) -> Vec<Bound<'py, PyString>> {
    let columns = result.columns.iter();
    columns.map(|name| PyString::intern(py, name)).collect()
}

fn dictionary<'py>(
    py: Python<'py>,
    keys: &[Bound<'py, PyString>],
    row: &[SqlValue],
) -> PyResult<Bound<'py, PyDict>> {
    let made = PyDict::new(py);
    for (key, value) in keys.iter().zip(row) {
        made.set_item(key, python_value(py, value)?)?;
    }
    Ok(made)
}

fn listed<'py>(py: Python<'py>, row: &[SqlValue]) -> PyResult<Bound<'py, PyList>> {
    let values: Vec<_> = row
        .iter()
        .map(|value| python_value(py, value))
        .collect::<PyResult<_>>()?;
    PyList::new(py, values)
}

fn results(reply: DataReply) -> PyResult<Vec<SqlResult>> {
    match reply {
        DataReply::Sql(SqlReply::Results { results, .. }) => Ok(results),
        other => Err(unexpected(&other)),
    }
}

fn only(reply: DataReply) -> PyResult<SqlResult> {
    Ok(results(reply)?.pop().unwrap_or_default())
}

fn whole(py: Python<'_>, result: &SqlResult) -> PyResult<PySqlResult> {
    let keys = keys(py, result);
    let rows: Vec<_> = result
        .rows
        .iter()
        .map(|row| dictionary(py, &keys, row))
        .collect::<PyResult<_>>()?;
    Ok(PySqlResult {
        results: PyList::new(py, rows)?.unbind(),
        meta: result.meta.clone(),
    })
}

/// A statement with the values of its parameters.
#[derive(Debug, Clone)]
struct Prepared {
    handle: Handle,
    sql: Arc<str>,
    values: Arc<Vec<SqlValue>>,
}

impl Prepared {
    fn bind(&self, values: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let values = values
            .iter()
            .enumerate()
            .map(|(at, value)| bound_value(at, &value))
            .collect::<PyResult<_>>()?;
        Ok(Self {
            values: Arc::new(values),
            ..self.clone()
        })
    }

    fn statement(&self) -> Statement {
        Statement {
            sql: Arc::clone(&self.sql),
            values: self.values.to_vec(),
        }
    }

    fn call(&self, first: bool) -> DataCall {
        self.handle.sql(SqlCall::Query {
            statement: self.statement(),
            first,
        })
    }

    fn all(&self) -> Planned {
        let convert: Convert = Box::new(|py, reply| whole(py, &only(reply)?)?.into_py_any(py));
        (self.call(false), convert)
    }

    fn first(&self, column: Option<String>) -> Planned {
        let convert: Convert = Box::new(move |py, reply| {
            let result = only(reply)?;
            let Some(row) = result.rows.first() else {
                return Ok(py.None());
            };
            let Some(column) = column else {
                return dictionary(py, &keys(py, &result), row)?.into_py_any(py);
            };
            let at = result.columns.iter().position(|name| *name == column);
            match at.and_then(|at| row.get(at)) {
                Some(value) => python_value(py, value).map(Bound::unbind),
                None => Err(PyKeyError::new_err(format!(
                    "{column}: the result has no such column; it has {}",
                    result.columns.join(", ")
                ))),
            }
        });
        (self.call(true), convert)
    }

    fn raw(&self, column_names: bool) -> Planned {
        let convert: Convert = Box::new(move |py, reply| {
            let result = only(reply)?;
            let rows = PyList::empty(py);
            if column_names {
                rows.append(PyList::new(py, keys(py, &result))?)?;
            }
            for row in &result.rows {
                rows.append(listed(py, row)?)?;
            }
            rows.into_py_any(py)
        });
        (self.call(false), convert)
    }
}

fn batch(handle: &Handle, parts: Vec<SqlPart>) -> Planned {
    let convert: Convert = Box::new(|py, reply| {
        let made: Vec<_> = results(reply)?
            .iter()
            .map(|result| whole(py, result))
            .collect::<PyResult<_>>()?;
        made.into_py_any(py)
    });
    (handle.sql(SqlCall::Batch(parts)), convert)
}

fn exec(handle: &Handle, sql: &str) -> Planned {
    let convert: Convert = Box::new(|py, reply| match reply {
        DataReply::Sql(SqlReply::Results {
            count, duration, ..
        }) => SqlScript {
            count,
            duration: duration.as_secs_f64() * 1_000.0,
        }
        .into_py_any(py),
        other => Err(unexpected(&other)),
    });
    let parts = vec![SqlPart::Script(sql.into())];
    (handle.sql(SqlCall::Batch(parts)), convert)
}

/// The same database in a session that goes on from a bookmark.
fn in_session(handle: &Handle, bookmark: Option<&str>) -> Handle {
    Handle {
        session: handle.bound.session(bookmark.unwrap_or_default()),
        ..handle.clone()
    }
}

fn bookmark(handle: &Handle) -> Option<String> {
    handle.session.as_ref()?.bookmark()
}

fn prepared(handle: &Handle, sql: &str) -> Prepared {
    Prepared {
        handle: handle.clone(),
        sql: sql.into(),
        values: Arc::default(),
    }
}

/// Classes for callables that do not await, or for async ones: they differ in how an operation is run.
macro_rules! database {
    ($(#[$about:meta])* $class:ident of $statement:ident: $run:ident -> $answer:ty { $($more:tt)* }) => {
        $(#[$about])*
        #[pyclass(frozen, module = "edgerouter")]
        #[derive(Debug)]
        pub(crate) struct $class {
            handle: Handle,
        }

        impl $class {
            pub(super) fn new(handle: Handle) -> Self {
                Self { handle }
            }
        }

        #[pymethods]
        impl $class {
            /// The name of the binding.
            #[getter]
            fn name(&self) -> &str {
                self.handle.bound.name()
            }

            /// The dialect of SQL.
            #[getter]
            fn engine(&self) -> &'static str {
                self.handle.bound.engine().unwrap_or_default()
            }

            /// One statement, whose parameters are `?`.
            fn prepare(&self, sql: &str) -> $statement {
                $statement {
                    prepared: prepared(&self.handle, sql),
                }
            }

            /// Runs statements in one transaction; their results.
            fn batch(
                &self,
                py: Python<'_>,
                statements: Vec<PyRef<'_, $statement>>,
            ) -> PyResult<$answer> {
                let parts = statements
                    .iter()
                    .map(|it| SqlPart::Statement(it.prepared.statement()));
                let (call, convert) = batch(&self.handle, parts.collect());
                self.handle.$run(py, call, convert)
            }

            /// Runs statements without parameters in one transaction.
            fn exec(&self, py: Python<'_>, sql: &str) -> PyResult<$answer> {
                let (call, convert) = exec(&self.handle, sql);
                self.handle.$run(py, call, convert)
            }

            $($more)*

            /// The same database in a session, whose calls see what those before them wrote and read.
            #[pyo3(signature = (bookmark=None))]
            fn with_session(&self, bookmark: Option<&str>) -> Self {
                Self::new(in_session(&self.handle, bookmark))
            }

            /// The place from which a later session goes on.
            #[getter]
            fn bookmark(&self) -> Option<String> {
                bookmark(&self.handle)
            }

            fn __repr__(&self) -> String {
                format!(concat!("<", stringify!($class), " {}>"), self.name())
            }
        }
    };
}

macro_rules! statement {
    ($(#[$about:meta])* $class:ident $name:literal: $run:ident -> $answer:ty) => {
        $(#[$about])*
        #[pyclass(name = $name, frozen, module = "edgerouter")]
        #[derive(Debug)]
        pub(crate) struct $class {
            prepared: Prepared,
        }

        #[pymethods]
        impl $class {
            /// The same with values for its parameters.
            #[pyo3(signature = (*values))]
            fn bind(&self, values: &Bound<'_, PyTuple>) -> PyResult<Self> {
                Ok(Self {
                    prepared: self.prepared.bind(values)?,
                })
            }

            /// All rows as dictionaries, with `meta`.
            fn all(&self, py: Python<'_>) -> PyResult<$answer> {
                let (call, convert) = self.prepared.all();
                self.prepared.handle.$run(py, call, convert)
            }

            /// As `all`, for statements whose rows do not matter.
            fn run(&self, py: Python<'_>) -> PyResult<$answer> {
                self.all(py)
            }

            /// The first row, or its value of a column; `None` where there is no row.
            #[pyo3(signature = (column=None))]
            fn first(&self, py: Python<'_>, column: Option<String>) -> PyResult<$answer> {
                let (call, convert) = self.prepared.first(column);
                self.prepared.handle.$run(py, call, convert)
            }

            /// All rows as lists.
            #[pyo3(signature = (*, column_names=false))]
            fn raw(&self, py: Python<'_>, column_names: bool) -> PyResult<$answer> {
                let (call, convert) = self.prepared.raw(column_names);
                self.prepared.handle.$run(py, call, convert)
            }

            fn __repr__(&self) -> String {
                format!(concat!("<", $name, " {:?}>"), self.prepared.sql)
            }
        }
    };
}

database! {
    /// A database, for callables that do not await.
    Database of PyStatement: wait -> Py<PyAny> {
        /// Runs a script, and after it a statement with its values, in one transaction. For migrations.
        fn apply(
            &self,
            py: Python<'_>,
            script: &str,
            sql: &str,
            values: &Bound<'_, PyTuple>,
        ) -> PyResult<Py<PyAny>> {
            let recorded = prepared(&self.handle, sql).bind(values)?;
            let script = SqlPart::Script(script.into());
            let parts = vec![script, SqlPart::Statement(recorded.statement())];
            let (call, convert) = batch(&self.handle, parts);
            self.handle.wait(py, call, convert)
        }
    }
}

database! {
    /// A database, for async callables: `batch` and `exec` are awaited.
    AsyncDatabase of AsyncStatement: awaitable -> Operation {}
}

statement! {
    /// A statement, for callables that do not await.
    PyStatement "Statement": wait -> Py<PyAny>
}

statement! {
    /// A statement, for async callables: all but `bind` is awaited.
    AsyncStatement "AsyncStatement": awaitable -> Operation
}

/// The result of a statement.
#[pyclass(name = "SqlResult", frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct PySqlResult {
    results: Py<PyList>,
    meta: SqlMeta,
}

#[pymethods]
impl PySqlResult {
    /// True: a failure is raised.
    #[getter]
    fn success(&self) -> bool {
        true
    }

    /// The rows as dictionaries.
    #[getter]
    fn results(&self, py: Python<'_>) -> Py<PyList> {
        self.results.clone_ref(py)
    }

    /// Facts about the statement.
    #[getter]
    fn meta<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let meta = PyDict::new(py);
        meta.set_item("duration", self.meta.duration.as_secs_f64() * 1_000.0)?;
        meta.set_item("changes", self.meta.changes)?;
        meta.set_item("last_row_id", self.meta.last_row_id)?;
        meta.set_item("changed_db", self.meta.changes > 0)?;
        meta.set_item("rows_read", self.meta.rows_read)?;
        meta.set_item("rows_written", self.meta.changes)?;
        Ok(meta)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let rows = self.results.bind(py).len();
        format!("<SqlResult {rows} rows, {} changes>", self.meta.changes)
    }
}

/// The result of a script.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct SqlScript {
    /// Statements that have run.
    #[pyo3(get)]
    count: u64,
    /// Milliseconds.
    #[pyo3(get)]
    duration: f64,
}

#[pymethods]
impl SqlScript {
    fn __repr__(&self) -> String {
        format!("<SqlScript {} statements>", self.count)
    }
}
