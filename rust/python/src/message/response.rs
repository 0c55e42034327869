//! The response as Python sees it: made by a callable, or a view on one that passes.
//!
//! One that passes is dead when its call is over, like the request. One that a callable made belongs to Python: it may
//! be kept and returned again, so it is copied when it is answered with.

mod parts;

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::http::{header, uri::escape_reference};
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyTuple},
};

use super::{
    headers::{self, Headers},
    request::over,
};
use crate::json;

use parts::allow_content;
pub(crate) use parts::{
    BYTES, JSON, ResponseParts, TEXT, bytes_of, gives_pieces, is_awaitable, may_have_content,
    status_of,
};

/// A response: made by a callable, or seen by one in a response phase.
///
/// ``json``, ``text``  called on the class they make a response of a value or a text; called on a response they read it
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Response {
    parts: Mutex<Option<ResponseParts>>,
}

const EVENTS: &str = "text/event-stream; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The Python side of transforms.
pub(crate) fn transforms(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("edgerouter.functions.transforms")
}

/// A response with compact JSON in UTF-8.
#[pyfunction]
#[pyo3(name = "json", signature = (value, status=200, headers=None))]
fn json_response(
    value: &Bound<'_, PyAny>,
    status: u16,
    headers: Option<&Bound<'_, PyAny>>,
) -> PyResult<Response> {
    ResponseParts::whole(status, json::encode(value)?, Some(JSON))?.with(headers)
}

/// A response with text in UTF-8.
#[pyfunction]
#[pyo3(name = "text", signature = (text, status=200, headers=None))]
fn text_response(
    text: String,
    status: u16,
    headers: Option<&Bound<'_, PyAny>>,
) -> PyResult<Response> {
    ResponseParts::whole(status, Bytes::from(text), Some(TEXT))?.with(headers)
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Json,
    Text,
}

/// A name of the class that makes a response with content, and reads the content of one, as in the Fetch standard.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct MakesOrReads(Content);

#[pymethods]
impl MakesOrReads {
    fn __get__<'py>(
        &self,
        response: &Bound<'py, PyAny>,
        _owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static MAKES: [PyOnceLock<Py<PyAny>>; 2] = [PyOnceLock::new(), PyOnceLock::new()];
        let py = response.py();
        let [json, text] = &MAKES;
        let (reads, makes) = match self.0 {
            Content::Json => (intern!(py, "_json"), json),
            Content::Text => (intern!(py, "_text"), text),
        };
        if !response.is_none() {
            return response.getattr(reads);
        }
        let makes = makes.get_or_try_init(py, || {
            let function = match self.0 {
                Content::Json => wrap_pyfunction!(json_response, py)?,
                Content::Text => wrap_pyfunction!(text_response, py)?,
            };
            Ok::<_, PyErr>(function.into_any().unbind())
        })?;
        Ok(makes.bind(py).clone())
    }
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
        if let Some(body) = body
            && gives_pieces(body)?
        {
            let status = status_of(status)?;
            allow_content(status)?;
            return ResponseParts::streamed(status, body, None).with(headers);
        }
        let (body, is_text) = body.map_or_else(|| Ok((Bytes::new(), false)), bytes_of)?;
        ResponseParts::whole(status, body, is_text.then_some(TEXT))?.with(headers)
    }

    /// `Response.json(value)` makes a response, `response.json()` reads one.
    #[classattr]
    #[pyo3(name = "json")]
    fn json_of_class() -> MakesOrReads {
        MakesOrReads(Content::Json)
    }

    /// `Response.text(text)` makes a response, `response.text()` reads one.
    #[classattr]
    #[pyo3(name = "text")]
    fn text_of_class() -> MakesOrReads {
        MakesOrReads(Content::Text)
    }

    /// The content as JSON; `ValueError` when it is not.
    fn _json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let body = self.body(py)?;
        json::decode(py, body.as_bytes()).map_err(|error| {
            let message = format!(
                "the content of the response is not valid JSON: {}",
                error.value(py)
            );
            PyValueError::new_err(message)
        })
    }

    /// The content as UTF-8; `UnicodeDecodeError` when it is not.
    fn _text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.body(py)?.call_method0(intern!(py, "decode"))
    }

    /// HTML in UTF-8.
    #[staticmethod]
    #[pyo3(signature = (html, status=200, headers=None))]
    fn html(html: String, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        ResponseParts::whole(status, Bytes::from(html), Some(HTML))?.with(headers)
    }

    /// Server-sent events (HTML, 9.2): each item is an `Event`, text, or data for JSON. Every `heartbeat` seconds
    /// without an event a comment keeps the connection open.
    #[staticmethod]
    #[pyo3(signature = (source, heartbeat=15.0, headers=None))]
    fn events(
        source: &Bound<'_, PyAny>,
        heartbeat: f64,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = source.py();
        let lines = py
            .import("edgerouter.functions.events")?
            .call_method1("lines", (source, heartbeat))?;
        let mut made = ResponseParts::streamed_at_once(StatusCode::OK, &lines, Some(EVENTS));
        made.headers
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        made.with(headers)
    }

    /// The connection becomes a WebSocket (RFC 6455 §4.2.2), on which an iterator gives the bytes: 101.
    #[staticmethod]
    fn switched(iterator: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut made =
            ResponseParts::streamed_at_once(StatusCode::SWITCHING_PROTOCOLS, iterator, None);
        made.headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        made.with(Some(headers))
    }

    /// A response whose head is sent before an iterator gives anything: of an application that has begun it.
    #[staticmethod]
    fn begun(
        iterator: &Bound<'_, PyAny>,
        status: u16,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        ResponseParts::streamed_at_once(status_of(status)?, iterator, None).with(Some(headers))
    }

    /// 301, 302, 303, 307 or 308. Characters that a URL cannot have are percent-encoded as UTF-8.
    #[staticmethod]
    #[pyo3(signature = (url, status=302, headers=None))]
    fn redirect(url: &str, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(PyValueError::new_err(format!(
                "{status} is no redirect: 301, 302, 303, 307 or 308"
            )));
        }
        let mut made = ResponseParts::new(status_of(status)?, Bytes::new(), None);
        let url = escape_reference(url);
        made.headers
            .insert(header::LOCATION, headers::value_of("location", &url)?);
        made.with(headers)
    }

    /// A response of its own with the same values (Fetch §5.5). `RuntimeError` for content that streams, which is there
    /// once.
    fn clone(&self) -> PyResult<Self> {
        let parts = self.copy().ok_or_else(over)?;
        if parts.body.is_none() {
            return Err(PyRuntimeError::new_err(
                "a response whose content streams cannot be cloned, as its content is there once: clone the one that it is made of",
            ));
        }
        Ok(Self::of(ResponseParts {
            transforms: Vec::new(),
            transformable: None,
            wrote: None,
            ..parts
        }))
    }

    /// Takes the iterator that gives its content, if there is one: its response is sent by another process.
    fn take_iterator(&self) -> PyResult<Option<Py<PyAny>>> {
        self.edit(|parts| parts.stream.as_ref().and_then(|stream| stream.take()))
    }

    /// True for a status from 200 to 299.
    #[getter]
    fn ok(&self) -> PyResult<bool> {
        self.edit(|parts| parts.status.is_success())
    }

    /// From 200 to 599.
    #[getter]
    fn status(&self) -> PyResult<u16> {
        self.edit(|parts| parts.status.as_u16())
    }

    #[setter]
    fn set_status(&self, status: u16) -> PyResult<()> {
        let status = status_of(status)?;
        self.edit(|parts| parts.status = status)
    }

    /// Its header fields; they may be changed.
    #[getter]
    fn headers(slf: Bound<'_, Self>) -> Headers {
        Headers::of_response(slf.unbind())
    }

    /// Adds a `Set-Cookie` field (RFC 6265 §4.1). `ValueError` for what clients would ignore or misread.
    #[pyo3(signature = (name, value="", **attributes))]
    fn set_cookie(
        &self,
        py: Python<'_>,
        name: &str,
        value: &str,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let line: String = py
            .import("edgerouter.functions.cookies")?
            .call_method("line", (name, value), attributes)?
            .extract()?;
        let line = headers::value_of("set-cookie", &line)?;
        self.edit(|parts| {
            if let Some(wrote) = &mut parts.wrote {
                wrote.wrote(&header::SET_COOKIE.into());
            }
            parts.headers.append(header::SET_COOKIE, line);
        })
    }

    /// Has the client forget a cookie: it must be named with the path and domain that it was set with.
    #[pyo3(signature = (name, *, path="/", domain=None, partitioned=false))]
    fn delete_cookie(
        &self,
        py: Python<'_>,
        name: &str,
        path: &str,
        domain: Option<&str>,
        partitioned: bool,
    ) -> PyResult<()> {
        let attributes = PyDict::new(py);
        attributes.set_item("max_age", 0)?;
        attributes.set_item("path", path)?;
        attributes.set_item("domain", domain)?;
        // A partitioned cookie is another one than that of the same name, domain and path.
        attributes.set_item("partitioned", partitioned)?;
        if partitioned || name.starts_with("__") {
            attributes.set_item("secure", true)?;
            attributes.set_item("httponly", true)?;
        }
        self.set_cookie(py, name, "", Some(&attributes))
    }

    /// `RuntimeError` while it streams past; set it to replace it.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match self.edit(|parts| parts.body.clone())? {
            Some(body) => Ok(PyBytes::new(py, &body)),
            None => Err(PyRuntimeError::new_err(
                "this body is streamed and cannot be read; set it to replace it",
            )),
        }
    }

    #[setter]
    fn set_body(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        if gives_pieces(body)? {
            return self.edit(|parts| parts.stream_from(body, false));
        }
        let (body, _) = bytes_of(body)?;
        self.edit(|parts| {
            parts.stream = None;
            parts.body = Some(body);
        })
    }

    /// Has `function(pieces)`, of an async iterator to another one, make other content while it streams past. For
    /// hooks.
    #[pyo3(signature = (function, *, text=false))]
    fn transform(slf: &Bound<'_, Self>, function: Bound<'_, PyAny>, text: bool) -> PyResult<()> {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "transform takes a function of an async iterator to another one, not {}",
                function.get_type().name()?
            )));
        }
        let function = if text {
            transforms(slf.py())?.call_method1("of_text", (slf, function))?
        } else {
            function
        };
        slf.get().edit(|parts| {
            let why = if parts.wrote.is_none() {
                "a response that you made is not transformed: give it the content that it is to have"
            } else if parts.transformable.is_none() {
                "this hook does not transform: declare it with edge.on(\"origin_response\" or \"viewer_response\", …, \
                 transforms=True)"
            } else {
                parts.transforms.push(Arc::new(function.unbind()));
                return Ok(());
            };
            Err(PyRuntimeError::new_err(why))
        })?
    }

    /// Has elements of HTML edited while it streams past; content of another media type stays as it is. For hooks.
    #[pyo3(signature = (*edits))]
    fn edit_html(slf: &Bound<'_, Self>, edits: &Bound<'_, PyTuple>) -> PyResult<()> {
        let html = slf.py().import("edgerouter.html")?;
        let editing = html.call_method1("editing", (slf, edits))?;
        if editing.is_none() {
            return Ok(());
        }
        Self::transform(slf, editing, false)
    }

    fn __repr__(&self) -> String {
        self.status().map_or_else(
            |_| "<Response of a request that is over>".to_owned(),
            |status| format!("<Response {status}>"),
        )
    }
}
