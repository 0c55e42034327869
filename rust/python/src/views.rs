//! The request and the response as Python sees them: views on Rust's values. A field is copied when it is read.
//!
//! A view is alive for as long as its call. A callable that keeps one gets a clear error afterwards, because the values
//! have gone on with the request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    http::{cookie, uri},
    plan::Scheme,
};
use edgerouter_engine::functions::{Phase, RequestHead, ResponseHead};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

fn over() -> PyErr {
    PyRuntimeError::new_err("the request is over: read what you need before the function returns")
}

type Shared<T> = Arc<Mutex<Option<T>>>;

/// Header fields: a mutable mapping whose names do not depend on case.
#[pyclass(frozen, mapping, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Headers {
    map: Shared<HeaderMap>,
}

fn name_of(name: &str) -> PyResult<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| PyValueError::new_err(format!("{name:?} is no field name")))
}

fn value_of(name: &str, value: &str) -> PyResult<HeaderValue> {
    HeaderValue::from_str(value)
        .or_else(|_| {
            let latin: Option<Vec<u8>> = value
                .chars()
                .map(|c| u8::try_from(u32::from(c)).ok())
                .collect();
            latin
                .ok_or(())
                .and_then(|bytes| HeaderValue::from_bytes(&bytes).map_err(|_| ()))
        })
        .map_err(|()| {
            PyValueError::new_err(format!(
                "the value of {name} may not hold line ends or other control characters"
            ))
        })
}

fn text_of(value: &HeaderValue) -> String {
    value.to_str().map_or_else(
        |_| {
            value
                .as_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect()
        },
        str::to_owned,
    )
}

impl Headers {
    fn read<R>(&self, read: impl FnOnce(&HeaderMap) -> R) -> PyResult<R> {
        self.map.lock().as_ref().map(read).ok_or_else(over)
    }

    fn write<R>(&self, write: impl FnOnce(&mut HeaderMap) -> R) -> PyResult<R> {
        self.map.lock().as_mut().map(write).ok_or_else(over)
    }
}

#[pymethods]
impl Headers {
    fn __getitem__(&self, name: &str) -> PyResult<String> {
        self.read(|map| map.get(name).map(text_of))?
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __setitem__(&self, name: &str, value: &str) -> PyResult<()> {
        let (name, value) = (name_of(name)?, value_of(name, value)?);
        self.write(|map| map.insert(name, value)).map(drop)
    }

    fn __delitem__(&self, name: &str) -> PyResult<()> {
        self.write(|map| map.remove(name))?
            .map(drop)
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        match name.cast::<PyString>() {
            Ok(name) => self.read(|map| map.contains_key(&*name.to_string_lossy())),
            Err(_) => Ok(false),
        }
    }

    fn __len__(&self) -> PyResult<usize> {
        self.read(HeaderMap::keys_len)
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self
            .keys()?
            .into_pyobject(py)?
            .call_method0("__iter__")?
            .unbind())
    }

    fn __repr__(&self) -> String {
        // Values may be credentials: names only.
        self.keys().map_or_else(
            |_| "<Headers of a request that is over>".to_owned(),
            |names| format!("<Headers {}>", names.join(", ")),
        )
    }

    /// Names, each once, in lower case.
    fn keys(&self) -> PyResult<Vec<String>> {
        self.read(|map| map.keys().map(|name| name.as_str().to_owned()).collect())
    }

    fn values(&self) -> PyResult<Vec<String>> {
        self.read(|map| {
            map.keys()
                .filter_map(|name| map.get(name))
                .map(text_of)
                .collect()
        })
    }

    /// Name and value of every field, repeated ones repeated.
    fn items(&self) -> PyResult<Vec<(String, String)>> {
        self.read(|map| {
            map.iter()
                .map(|(name, value)| (name.as_str().to_owned(), text_of(value)))
                .collect()
        })
    }

    /// The first value of that name, or the default.
    #[pyo3(signature = (name, default=None))]
    fn get(
        &self,
        py: Python<'_>,
        name: &str,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self.read(|map| map.get(name).map(text_of))? {
            Some(value) => Ok(Some(value.into_pyobject(py)?.into_any().unbind())),
            None => Ok(default),
        }
    }

    /// Every value of that name.
    fn get_all(&self, name: &str) -> PyResult<Vec<String>> {
        self.read(|map| map.get_all(name).iter().map(text_of).collect())
    }

    /// Adds a field beside those of the same name.
    fn add(&self, name: &str, value: &str) -> PyResult<()> {
        let (name, value) = (name_of(name)?, value_of(name, value)?);
        self.write(|map| map.append(name, value)).map(drop)
    }

    #[pyo3(signature = (name, default=None))]
    fn pop(
        &self,
        py: Python<'_>,
        name: &str,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self.write(|map| map.remove(name))? {
            Some(value) => Ok(Some(text_of(&value).into_pyobject(py)?.into_any().unbind())),
            None => Ok(default),
        }
    }
}

/// What a request is apart from its fields.
#[derive(Debug)]
struct Parts {
    head: RequestHead,
    body: Bytes,
}

/// A request.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Request {
    parts: Shared<Parts>,
    headers: Shared<HeaderMap>,
}

impl Request {
    pub(crate) fn new(mut head: RequestHead, body: Bytes) -> Self {
        let headers = std::mem::take(&mut head.headers);
        Self {
            parts: Arc::new(Mutex::new(Some(Parts { head, body }))),
            headers: Arc::new(Mutex::new(Some(headers))),
        }
    }

    /// Takes the values back; the view is dead after.
    pub(crate) fn take(&self) -> Option<RequestHead> {
        let parts = self.parts.lock().take()?;
        let headers = self.headers.lock().take().unwrap_or_default();
        Some(RequestHead {
            headers,
            ..parts.head
        })
    }

    fn read<R>(&self, read: impl FnOnce(&Parts) -> R) -> PyResult<R> {
        self.parts.lock().as_ref().map(read).ok_or_else(over)
    }
}

/// Where a client is, as far as it is known.
#[pyclass(frozen, get_all, module = "edgerouter")]
#[derive(Debug, Default)]
pub(crate) struct Geo {
    country: Option<String>,
    region: Option<String>,
    city: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[pymethods]
impl Request {
    #[getter]
    fn method(&self) -> PyResult<String> {
        self.read(|parts| parts.head.method.as_str().to_owned())
    }

    #[getter]
    fn scheme(&self) -> PyResult<&'static str> {
        self.read(|parts| match parts.head.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }

    /// Lower case, without port.
    #[getter]
    fn host(&self) -> PyResult<String> {
        self.read(|parts| parts.head.host.to_string())
    }

    #[getter]
    fn path(&self) -> PyResult<String> {
        self.read(|parts| parts.head.path.clone())
    }

    #[setter]
    fn set_path(&self, path: String) -> PyResult<()> {
        if !path.starts_with('/')
            || path.contains(['?', '#'])
            || path.bytes().any(|b| !b.is_ascii_graphic())
        {
            return Err(PyValueError::new_err(format!(
                "{path:?} is no path: it starts with / and is percent-encoded"
            )));
        }
        match &mut *self.parts.lock() {
            Some(parts) => parts.head.path = path,
            None => return Err(over()),
        }
        Ok(())
    }

    /// The query as it was sent, without the `?`; empty when there is none.
    #[getter]
    fn query_string(&self) -> PyResult<String> {
        self.read(|parts| parts.head.query.clone().unwrap_or_default())
    }

    #[setter]
    fn set_query_string(&self, query: String) -> PyResult<()> {
        if query.contains('#') || query.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(PyValueError::new_err(format!(
                "{query:?} is no query: it is percent-encoded and has no #"
            )));
        }
        match &mut *self.parts.lock() {
            Some(parts) => parts.head.query = (!query.is_empty()).then_some(query),
            None => return Err(over()),
        }
        Ok(())
    }

    /// Decoded parameters of the query; of repeated ones the first.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let query = self.query_string()?;
        let found = PyDict::new(py);
        for (name, value) in uri::query_pairs(&query) {
            let name = uri::decode(name);
            if !found.contains(&*name)? {
                found.set_item(&*name, &*uri::decode(value))?;
            }
        }
        Ok(found)
    }

    #[getter]
    fn url(&self) -> PyResult<String> {
        let scheme = self.scheme()?;
        self.read(|parts| {
            let head = &parts.head;
            let query = head
                .query
                .as_ref()
                .map_or_else(String::new, |query| format!("?{query}"));
            format!("{scheme}://{}{}{query}", head.host, head.path)
        })
    }

    #[getter]
    fn headers(&self) -> Headers {
        Headers {
            map: Arc::clone(&self.headers),
        }
    }

    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        let headers = self.headers.lock();
        for (name, value) in cookie::pairs(headers.as_ref().ok_or_else(over)?) {
            if !found.contains(name)? {
                found.set_item(name, value)?;
            }
        }
        Ok(found)
    }

    /// Parameters of the route's pattern, decoded.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for (name, value) in self.read(|parts| parts.head.params.clone())? {
            found.set_item(name, value)?;
        }
        Ok(found)
    }

    /// The client's address.
    #[getter]
    fn client(&self) -> PyResult<String> {
        self.read(|parts| parts.head.client.to_string())
    }

    /// Verified claims; `None` without a token.
    #[getter]
    fn claims<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.read(|parts| parts.head.claims.clone())? {
            Some(claims) => py
                .import("json")?
                .call_method1("loads", (&*claims,))
                .map(Some),
            None => Ok(None),
        }
    }

    /// Experiment → variant.
    #[getter]
    fn variants<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for (name, variant) in self.read(|parts| parts.head.variants.clone())? {
            found.set_item(&*name, &*variant)?;
        }
        Ok(found)
    }

    #[getter]
    fn geo(&self) -> Geo {
        Geo::default()
    }

    #[getter]
    fn id(&self) -> PyResult<String> {
        self.read(|parts| format!("{:016x}", parts.head.id))
    }

    /// The whole body; hooks see none.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.read(|parts| PyBytes::new(py, &parts.body))
    }

    fn text(&self) -> PyResult<String> {
        self.read(|parts| String::from_utf8(parts.body.to_vec()))?
            .map_err(|_| PyValueError::new_err("the body is not UTF-8"))
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let body = self.read(|parts| parts.body.clone())?;
        py.import("json")?
            .call_method1("loads", (PyBytes::new(py, &body),))
    }

    fn __repr__(&self) -> String {
        match (self.method(), self.url()) {
            (Ok(method), Ok(url)) => format!(
                "<Request {method} {}>",
                url.split('?').next().unwrap_or_default()
            ),
            _ => "<Request that is over>".to_owned(),
        }
    }
}

/// A response: made by a callable, or seen by one in a response phase.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Response {
    status: Mutex<StatusCode>,
    headers: Shared<HeaderMap>,
    /// `None`: the body of what is seen streams past, and was not replaced.
    body: Mutex<Option<Bytes>>,
}

fn status_of(status: u16) -> PyResult<StatusCode> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| status.as_u16() >= 200 && status.as_u16() <= 599)
        .ok_or_else(|| {
            PyValueError::new_err(format!("{status} is no final status: from 200 to 599"))
        })
}

/// Bytes of `str`, `bytes` and what is like them.
fn bytes_of(body: &Bound<'_, PyAny>) -> PyResult<(Bytes, bool)> {
    if let Ok(text) = body.cast::<PyString>() {
        return Ok((
            Bytes::copy_from_slice(text.to_string_lossy().as_bytes()),
            true,
        ));
    }
    if let Ok(bytes) = body.cast::<PyBytes>() {
        return Ok((Bytes::copy_from_slice(bytes.as_bytes()), false));
    }
    if body.is_none() {
        return Ok((Bytes::new(), false));
    }
    match body.extract::<Vec<u8>>() {
        Ok(bytes) => Ok((Bytes::from(bytes), false)),
        Err(_) => Err(PyTypeError::new_err(format!(
            "a body is str or bytes, not {}; for data use Response.json",
            body.get_type().name()?
        ))),
    }
}

impl Response {
    pub(crate) fn seen(head: ResponseHead) -> Self {
        Self {
            status: Mutex::new(head.status),
            headers: Arc::new(Mutex::new(Some(head.headers))),
            body: Mutex::new(None),
        }
    }

    pub(crate) fn made(status: StatusCode, body: Bytes, kind: Option<&'static str>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Self {
            status: Mutex::new(status),
            headers: Arc::new(Mutex::new(Some(headers))),
            body: Mutex::new(Some(body)),
        }
    }

    /// Status, fields and body where there is one. A response that a callable made may be returned again: it is copied.
    pub(crate) fn parts(&self) -> (StatusCode, HeaderMap, Option<Bytes>) {
        (
            *self.status.lock(),
            self.headers.lock().clone().unwrap_or_default(),
            self.body.lock().clone(),
        )
    }

    fn with_headers(self, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if let (Some(given), Some(map)) = (headers, &mut *self.headers.lock()) {
            let items = if given.hasattr("items")? {
                given.call_method0("items")?
            } else {
                given.clone()
            };
            let mut named: Vec<HeaderName> = Vec::new();
            for item in items.try_iter()? {
                let (name, value): (String, String) = item?.extract()?;
                let (key, value) = (name_of(&name)?, value_of(&name, &value)?);
                // The first of a name replaces our own default, the next ones stand beside it.
                if named.contains(&key) {
                    map.append(key, value);
                } else {
                    map.insert(key.clone(), value);
                    named.push(key);
                }
            }
        }
        Ok(self)
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Compact JSON in UTF-8.
pub(crate) fn json_bytes(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let options = PyDict::new(py);
    options.set_item("separators", (",", ":"))?;
    options.set_item("ensure_ascii", false)?;
    let text = py
        .import("json")?
        .call_method("dumps", (value,), Some(&options))?;
    Ok(Bytes::copy_from_slice(
        text.cast::<PyString>()?.to_string_lossy().as_bytes(),
    ))
}

#[pymethods]
impl Response {
    #[new]
    #[pyo3(signature = (body=None, status=200, headers=None))]
    fn create(
        body: Option<&Bound<'_, PyAny>>,
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (body, is_text) = body.map_or_else(|| Ok((Bytes::new(), false)), bytes_of)?;
        Self::made(status_of(status)?, body, is_text.then_some(TEXT)).with_headers(headers)
    }

    #[staticmethod]
    #[pyo3(signature = (value, status=200, headers=None))]
    fn json(
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Self::made(status_of(status)?, json_bytes(py, value)?, Some(JSON)).with_headers(headers)
    }

    #[staticmethod]
    #[pyo3(signature = (text, status=200, headers=None))]
    fn text(text: String, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::made(status_of(status)?, Bytes::from(text), Some(TEXT)).with_headers(headers)
    }

    #[staticmethod]
    #[pyo3(signature = (html, status=200, headers=None))]
    fn html(html: String, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::made(status_of(status)?, Bytes::from(html), Some(HTML)).with_headers(headers)
    }

    #[staticmethod]
    #[pyo3(signature = (url, status=302, headers=None))]
    fn redirect(url: &str, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(PyValueError::new_err(format!(
                "{status} is no redirect: 301, 302, 303, 307 or 308"
            )));
        }
        let made = Self::made(status_of(status)?, Bytes::new(), None);
        if let Some(map) = &mut *made.headers.lock() {
            map.insert(header::LOCATION, value_of("location", url)?);
        }
        made.with_headers(headers)
    }

    #[getter]
    fn status(&self) -> u16 {
        self.status.lock().as_u16()
    }

    #[setter]
    fn set_status(&self, status: u16) -> PyResult<()> {
        *self.status.lock() = status_of(status)?;
        Ok(())
    }

    #[getter]
    fn headers(&self) -> Headers {
        Headers {
            map: Arc::clone(&self.headers),
        }
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match &*self.body.lock() {
            Some(body) => Ok(PyBytes::new(py, body)),
            None => Err(PyRuntimeError::new_err(
                "this body streams past and cannot be read; set it to replace it",
            )),
        }
    }

    #[setter]
    fn set_body(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        *self.body.lock() = Some(bytes_of(body)?.0);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<Response {}>", self.status())
    }
}

/// What a callable knows about its call.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Context {
    name: Arc<str>,
    phase: Phase,
    deadline: Instant,
}

impl Context {
    pub(crate) fn new(name: Arc<str>, phase: Phase, timeout: Duration) -> Self {
        Self {
            name,
            phase,
            deadline: Instant::now() + timeout,
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

    /// Seconds left for the call.
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
