//! Key-value stores as Python sees them.

use std::time::Duration;

use bytes::Bytes;
use edgerouter_data::{
    DataCall, DataReply, Entry, KvCall, KvReply, LIFETIMES, MOST_LISTED, PutCondition,
};
use parking_lot::Mutex;
use pyo3::{
    IntoPyObjectExt as _, PyTypeInfo as _,
    exceptions::{PyOverflowError, PyStopAsyncIteration, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyByteArray, PyBytes, PyInt, PyMemoryView, PyString, PyTuple},
};

use super::operation::{Convert, Handle, Operation};
use crate::{cache::Settled, errors, json};

/// Bytes in a piece of a streamed value.
const CHUNK: usize = 64 << 10;

/// An operation, and the way to Python's value of its result.
type Planned = (DataCall, Convert);

fn unexpected(reply: &DataReply) -> PyErr {
    PyValueError::new_err(format!("unexpected reply: {reply:?}"))
}

/// The forms in which a value is read.
#[derive(Debug, Clone, Copy)]
enum ValueForm {
    Text,
    Json,
    Bytes,
    Stream,
}

impl ValueForm {
    fn of(name: &str) -> PyResult<Self> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "bytes" => Ok(Self::Bytes),
            "stream" => Ok(Self::Stream),
            _ => Err(PyValueError::new_err(format!(
                "type: {name:?}: must be \"text\", \"json\", \"bytes\" or \"stream\""
            ))),
        }
    }

    fn read(self, py: Python<'_>, at: &str, value: Bytes) -> PyResult<Py<PyAny>> {
        match self {
            Self::Text => text(py, at, &value)?.into_py_any(py),
            Self::Json => {
                let decoded = json::decode(py, &value);
                let why = |error: PyErr| {
                    errors::binding(py, &format!("{at}: is no JSON: {}", error.value(py)))
                };
                decoded.map(Bound::unbind).map_err(why)
            }
            Self::Bytes => PyBytes::new(py, &value).into_py_any(py),
            Self::Stream => Chunks(Mutex::new(value)).into_py_any(py),
        }
    }
}

fn text<'py>(py: Python<'py>, at: &str, value: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => Err(errors::binding(
            py,
            &format!("{at}: is no text in UTF-8; read it with type=\"bytes\""),
        )),
    }
}

/// Seconds or a `timedelta`. Bounds of the binding are checked by it.
fn duration(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let kind = || -> PyResult<PyErr> {
        let name_of_kind = given.get_type().name()?;
        Ok(PyTypeError::new_err(format!(
            "{name}: must be seconds or a timedelta, not {name_of_kind}"
        )))
    };
    let seconds: f64 = if given.is_instance_of::<PyBool>() {
        return Err(kind()?);
    } else if given.is_instance_of::<PyInt>() {
        // One that is larger than any float is too long as well.
        given.extract().unwrap_or(f64::INFINITY)
    } else if let Ok(seconds) = given.extract() {
        seconds
    } else {
        match given.call_method0("total_seconds") {
            Ok(seconds) => seconds.extract()?,
            Err(_) => return Err(kind()?),
        }
    };
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{name}: {seconds:?} s: {LIFETIMES}")))
}

/// Text and bytes as they are, other values as JSON.
fn encoded(given: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes()));
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if given.is_instance_of::<PyByteArray>() || given.is_instance_of::<PyMemoryView>() {
        let bytes = PyBytes::type_object(given.py()).call1((given,))?;
        return Ok(Bytes::copy_from_slice(bytes.cast::<PyBytes>()?.as_bytes()));
    }
    as_json("value", given)
}

/// JSON of a value that is read back as the same.
fn as_json(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let text = json::encode(given).map_err(|error| {
        let (must, why) = (field_rule(field), error.value(given.py()));
        PyTypeError::new_err(format!("{field}: must be {must}: {why}"))
    })?;
    // The encoder writes a number that JSON does not have as null.
    let has_null = std::str::from_utf8(&text).is_ok_and(|text| text.contains("null"));
    if has_null && !json::is_finite(given)? {
        return Err(PyValueError::new_err(format!(
            "{field}: has a number that JSON does not have (NaN or infinity); store None or text in its place"
        )));
    }
    Ok(text)
}

fn field_rule(field: &str) -> &'static str {
    match field {
        "value" => "str, bytes, or what JSON can hold",
        _ => "what JSON can hold",
    }
}

impl Handle {
    fn at(&self, key: &str) -> String {
        format!("{}: the value of {key:?}", self.bound.name())
    }

    fn get(&self, key: &str, form: &str) -> PyResult<Planned> {
        let (form, at) = (ValueForm::of(form)?, self.at(key));
        let call = KvCall::Get {
            key: key.into(),
            exact: false,
        };
        let convert: Convert = Box::new(move |py, reply| match reply {
            DataReply::KeyValue(KvReply::Entry(None)) => Ok(py.None()),
            DataReply::KeyValue(KvReply::Entry(Some(entry))) => form.read(py, &at, entry.value),
            other => Err(unexpected(&other)),
        });
        Ok((DataCall::KeyValue(call), convert))
    }

    fn entry(&self, key: &str) -> Planned {
        let at = self.at(key);
        let call = KvCall::Get {
            key: key.into(),
            exact: true,
        };
        let convert: Convert = Box::new(move |py, reply| match reply {
            DataReply::KeyValue(KvReply::Entry(None)) => Ok(py.None()),
            DataReply::KeyValue(KvReply::Entry(Some(entry))) => {
                KvEntry { entry, at }.into_py_any(py)
            }
            other => Err(unexpected(&other)),
        });
        (DataCall::KeyValue(call), convert)
    }

    fn put(
        &self,
        (key, value): (&str, &Bound<'_, PyAny>),
        ttl: Option<&Bound<'_, PyAny>>,
        metadata: Option<&Bound<'_, PyAny>>,
        if_absent: bool,
        if_version: Option<&str>,
    ) -> PyResult<Planned> {
        let condition = match (if_absent, if_version) {
            (false, None) => PutCondition::Always,
            (true, None) => PutCondition::Absent,
            (false, Some(version)) => PutCondition::Version(version.into()),
            (true, Some(_)) => {
                return Err(PyValueError::new_err(
                    "if_version: cannot hold together with if_absent; give one of them",
                ));
            }
        };
        let metadata = metadata.map(|it| as_json("metadata", it)).transpose()?;
        let metadata = metadata.map(|it| String::from_utf8_lossy(&it).into_owned().into());
        let call = KvCall::Put {
            key: key.into(),
            value: encoded(value)?,
            metadata,
            ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?,
            condition,
        };
        Ok((DataCall::KeyValue(call), done()))
    }

    fn delete(&self, key: &str) -> Planned {
        (
            DataCall::KeyValue(KvCall::Delete { key: key.into() }),
            done(),
        )
    }

    fn list(&self, prefix: &str, cursor: Option<&str>, limit: usize) -> Planned {
        // An empty parameter of a query means no cursor.
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        let call = KvCall::List {
            prefix: prefix.into(),
            cursor: cursor.map(Into::into),
            limit,
        };
        let convert: Convert = Box::new(|py, reply| match reply {
            DataReply::KeyValue(KvReply::Page(page)) => KvKeys {
                keys: PyTuple::new(py, page.keys)?.unbind(),
                cursor: page.cursor,
            }
            .into_py_any(py),
            other => Err(unexpected(&other)),
        });
        (DataCall::KeyValue(call), convert)
    }

    fn add(&self, key: &str, by: i64, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<Planned> {
        let call = KvCall::Add {
            key: key.into(),
            by,
            ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?,
        };
        let convert: Convert = Box::new(|py, reply| match reply {
            DataReply::KeyValue(KvReply::Number(number)) => number.into_py_any(py),
            other => Err(unexpected(&other)),
        });
        Ok((DataCall::KeyValue(call), convert))
    }
}

/// `by=` of a counter.
fn counted(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value
        .extract()
        .map_err(|error| beyond(value, error, "by", "a whole number of 64 bits"))
}

/// `limit=` of a list; how many there may be is checked with the other bounds.
fn listed(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let bounds = format!("from 1 to {MOST_LISTED}");
    value
        .extract()
        .map_err(|error| beyond(value, error, "limit", &bounds))
}

/// Names the parameter and its bounds where a number is out of them.
fn beyond(value: &Bound<'_, PyAny>, error: PyErr, name: &str, bounds: &str) -> PyErr {
    match error.is_instance_of::<PyOverflowError>(value.py()) {
        true => PyValueError::new_err(format!("{name}: {value}: must be {bounds}")),
        false => error,
    }
}

fn done() -> Convert {
    Box::new(|py, reply| match reply {
        DataReply::KeyValue(KvReply::Done(done)) => done.into_py_any(py),
        other => Err(unexpected(&other)),
    })
}

/// A class for callables that do not await, or for async ones: they differ in how an operation is run.
macro_rules! store {
    ($(#[$about:meta])* $class:ident: $run:ident -> $answer:ty) => {
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

            fn begin(&self, py: Python<'_>, (call, convert): Planned) -> PyResult<$answer> {
                self.handle.$run(py, call, convert)
            }
        }

        #[pymethods]
        impl $class {
            /// The name of the binding.
            #[getter]
            fn name(&self) -> &str {
                self.handle.bound.name()
            }

            /// The value of a key; `None` where there is none.
            #[pyo3(signature = (key, r#type="text"))]
            fn get(&self, py: Python<'_>, key: &str, r#type: &str) -> PyResult<$answer> {
                self.begin(py, self.handle.get(key, r#type)?)
            }

            /// The entry of a key with metadata and version, never from the read cache; `None` where there is none.
            fn entry(&self, py: Python<'_>, key: &str) -> PyResult<$answer> {
                self.begin(py, self.handle.entry(key))
            }

            /// Stores a value; false where its condition does not hold.
            #[pyo3(signature = (key, value, *, ttl=None, metadata=None, if_absent=false, if_version=None))]
            #[allow(clippy::too_many_arguments)] // they are keywords to Python
            fn put(
                &self,
                py: Python<'_>,
                key: &str,
                value: &Bound<'_, PyAny>,
                ttl: Option<&Bound<'_, PyAny>>,
                metadata: Option<&Bound<'_, PyAny>>,
                if_absent: bool,
                if_version: Option<&str>,
            ) -> PyResult<$answer> {
                let planned = self
                    .handle
                    .put((key, value), ttl, metadata, if_absent, if_version)?;
                self.begin(py, planned)
            }

            /// Removes a key; whether there was an entry.
            fn delete(&self, py: Python<'_>, key: &str) -> PyResult<$answer> {
                self.begin(py, self.handle.delete(key))
            }

            /// A page of keys.
            #[pyo3(signature = (prefix="", *, cursor=None, limit=1_000))]
            fn list(
                &self,
                py: Python<'_>,
                prefix: &str,
                cursor: Option<&str>,
                #[pyo3(from_py_with = listed)] limit: usize,
            ) -> PyResult<$answer> {
                self.begin(py, self.handle.list(prefix, cursor, limit))
            }

            /// Adds to a counter; its new number.
            #[pyo3(signature = (key, by=1, *, ttl=None))]
            fn add(
                &self,
                py: Python<'_>,
                key: &str,
                #[pyo3(from_py_with = counted)] by: i64,
                ttl: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<$answer> {
                self.begin(py, self.handle.add(key, by, ttl)?)
            }

            fn __repr__(&self) -> String {
                format!(concat!("<", stringify!($class), " {}>"), self.name())
            }
        }
    };
}

store! {
    /// A key-value store, for callables that do not await.
    Kv: wait -> Py<PyAny>
}

store! {
    /// A key-value store, for async callables: each operation is awaited.
    AsyncKv: awaitable -> Operation
}

/// A stored entry.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct KvEntry {
    entry: Entry,
    at: String,
}

#[pymethods]
impl KvEntry {
    /// The value as bytes.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.entry.value)
    }

    /// The value as text.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        text(py, &self.at, &self.entry.value)
    }

    /// The value, which is JSON.
    fn json(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        ValueForm::Json.read(py, &self.at, self.entry.value.clone())
    }

    /// The metadata; `None` where there is none.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let metadata = self.entry.metadata.as_ref();
        metadata
            .map(|text| json::decode(py, text.as_bytes()))
            .transpose()
    }

    /// For `if_version`.
    #[getter]
    fn version(&self) -> &str {
        &self.entry.version
    }

    /// Seconds since the Unix epoch; `None`: it does not expire.
    #[getter]
    fn expires(&self) -> Option<f64> {
        self.entry.expires.map(|millis| millis as f64 / 1_000.0)
    }

    fn __repr__(&self) -> String {
        format!("<KvEntry {} bytes>", self.entry.value.len())
    }
}

/// A page of keys.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct KvKeys {
    keys: Py<PyTuple>,
    cursor: Option<String>,
}

#[pymethods]
impl KvKeys {
    /// The keys.
    #[getter]
    fn keys(&self, py: Python<'_>) -> Py<PyTuple> {
        self.keys.clone_ref(py)
    }

    /// Leads to the next page; `None`: there is none.
    #[getter]
    fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<KvKeys {}>", self.keys.bind(py).len())
    }
}

/// A value in pieces, for `for` and for `async for`.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Chunks(Mutex<Bytes>);

impl Chunks {
    fn next(&self) -> Option<Bytes> {
        let mut rest = self.0.lock();
        let length = rest.len().min(CHUNK);
        (length > 0).then(|| rest.split_to(length))
    }
}

#[pymethods]
impl Chunks {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.next().map(|piece| PyBytes::new(py, &piece))
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Settled> {
        match self.next() {
            Some(piece) => Ok(Settled::of(py, Ok(PyBytes::new(py, &piece).unbind()))),
            None => Err(PyStopAsyncIteration::new_err(())),
        }
    }
}
