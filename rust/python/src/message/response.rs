//! The response as Python sees it: made by a callable, or a view on one that passes.
//!
//! One that passes is dead when its call is over, like the request. One that a callable made belongs to Python: it may
//! be kept and returned again, so it is copied when it is answered with.

use bytes::Bytes;
use edgerouter_core::cache::hooked::Reads;
use edgerouter_core::http::{Fields, header};
use edgerouter_functions::ResponseHead;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyByteArray, PyBytes, PyMemoryView, PyString},
};

use super::{
    headers::{self, Headers},
    request::over,
};
use crate::json;

/// A response: made by a callable, or seen by one in a response phase.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Response {
    parts: Mutex<Option<ResponseParts>>,
}

#[derive(Debug, Clone)]
pub(crate) struct ResponseParts {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    /// `None`: the body of what is seen streams past, and was not replaced.
    pub(crate) body: Option<Bytes>,
    /// Of one that passes: the fields that the callable wrote.
    pub(crate) wrote: Option<Box<Reads>>,
}

fn status_of(status: u16) -> PyResult<StatusCode> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| {
            PyValueError::new_err(format!("{status} is no final status: from 200 to 599"))
        })
}

/// The bytes of a body, and whether it is text.
fn bytes_of(body: &Bound<'_, PyAny>) -> PyResult<(Bytes, bool)> {
    if let Ok(text) = body.cast::<PyString>() {
        return Ok((Bytes::copy_from_slice(text.to_str()?.as_bytes()), true));
    }
    if let Ok(bytes) = body.cast::<PyBytes>() {
        return Ok((Bytes::copy_from_slice(bytes.as_bytes()), false));
    }
    if body.is_none() {
        return Ok((Bytes::new(), false));
    }
    if body.is_instance_of::<PyByteArray>() || body.is_instance_of::<PyMemoryView>() {
        let copied = body.py().get_type::<PyBytes>().call1((body,))?;
        let copied = copied.cast::<PyBytes>()?;
        return Ok((Bytes::copy_from_slice(copied.as_bytes()), false));
    }
    Err(PyTypeError::new_err(format!(
        "a body is str or bytes, not {}; for data use Response.json",
        body.get_type().name()?
    )))
}

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";
const HTML: &str = "text/html; charset=utf-8";

impl ResponseParts {
    pub(crate) fn new(status: StatusCode, body: Bytes, kind: Option<&'static str>) -> Self {
        let mut headers = Fields::new();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Self {
            status,
            headers,
            body: Some(body),
            wrote: None,
        }
    }

    fn with(mut self, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Response> {
        if let Some(given) = headers {
            headers::fill(&mut self.headers, given)?;
        }
        Ok(Response {
            parts: Mutex::new(Some(self)),
        })
    }
}

impl Response {
    pub(crate) fn of(parts: ResponseParts) -> Self {
        Self {
            parts: Mutex::new(Some(parts)),
        }
    }

    pub(crate) fn seen(head: ResponseHead) -> Self {
        Self {
            parts: Mutex::new(Some(ResponseParts {
                status: head.status,
                headers: head.headers,
                body: None,
                wrote: Some(Box::default()),
            })),
        }
    }

    /// Takes the value out; the view is dead after.
    pub(crate) fn take(&self) -> Option<ResponseParts> {
        self.parts.lock().take()
    }

    /// A copy: the view lives on.
    pub(crate) fn copy(&self) -> Option<ResponseParts> {
        self.parts.lock().clone()
    }

    pub(crate) fn edit<R>(&self, edit: impl FnOnce(&mut ResponseParts) -> R) -> PyResult<R> {
        self.parts.lock().as_mut().map(edit).ok_or_else(over)
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
        let (body, is_text) = body.map_or_else(|| Ok((Bytes::new(), false)), bytes_of)?;
        ResponseParts::new(status_of(status)?, body, is_text.then_some(TEXT)).with(headers)
    }

    /// Compact JSON in UTF-8.
    #[staticmethod]
    #[pyo3(signature = (value, status=200, headers=None))]
    fn json(
        value: &Bound<'_, PyAny>,
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        ResponseParts::new(status_of(status)?, json::encode(value)?, Some(JSON)).with(headers)
    }

    /// Text in UTF-8.
    #[staticmethod]
    #[pyo3(signature = (text, status=200, headers=None))]
    fn text(text: String, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        ResponseParts::new(status_of(status)?, Bytes::from(text), Some(TEXT)).with(headers)
    }

    /// HTML in UTF-8.
    #[staticmethod]
    #[pyo3(signature = (html, status=200, headers=None))]
    fn html(html: String, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        ResponseParts::new(status_of(status)?, Bytes::from(html), Some(HTML)).with(headers)
    }

    /// 301, 302, 303, 307 or 308.
    #[staticmethod]
    #[pyo3(signature = (url, status=302, headers=None))]
    fn redirect(url: &str, status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(PyValueError::new_err(format!(
                "{status} is no redirect: 301, 302, 303, 307 or 308"
            )));
        }
        let mut made = ResponseParts::new(status_of(status)?, Bytes::new(), None);
        made.headers
            .insert(header::LOCATION, headers::value_of("location", url)?);
        made.with(headers)
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

    /// `RuntimeError` while it streams past; set it to replace it.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match self.edit(|parts| parts.body.clone())? {
            Some(body) => Ok(PyBytes::new(py, &body)),
            None => Err(PyRuntimeError::new_err(
                "this body streams past and cannot be read; set it to replace it",
            )),
        }
    }

    #[setter]
    fn set_body(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let (body, _) = bytes_of(body)?;
        self.edit(|parts| parts.body = Some(body))
    }

    fn __repr__(&self) -> String {
        self.status().map_or_else(
            |_| "<Response of a request that is over>".to_owned(),
            |status| format!("<Response {status}>"),
        )
    }
}
