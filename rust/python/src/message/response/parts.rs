//! The value behind a response of Python's, and the response as Rust uses it.

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::{
    cache::hooked::Reads,
    finish,
    http::{Fields, header},
    transform::Untransformed,
};
use edgerouter_functions::ResponseHead;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyByteArray, PyBytes, PyMemoryView, PyString},
};

use super::Response;
use crate::message::{headers, request::over};

#[derive(Debug, Clone)]
pub(crate) struct ResponseParts {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    /// `None`: the body of what is seen streams past, and was not replaced.
    pub(crate) body: Option<Bytes>,
    /// The iterator that gives the body, in the place of `body`.
    pub(crate) stream: Option<Arc<BodyIterator>>,
    /// Of one that passes: the callables that make other content of its own, in their order.
    pub(crate) transforms: Vec<Arc<Py<PyAny>>>,
    /// The decision whether they may; `None`: the hook is not declared to transform.
    pub(crate) transformable: Option<Result<(), Untransformed>>,
    /// Of one that passes: the fields that the callable wrote.
    pub(crate) wrote: Option<Box<Reads>>,
}

/// An iterator that gives a body. It does so once.
#[derive(Debug)]
pub(crate) struct BodyIterator {
    source: Mutex<Option<Py<PyAny>>>,
    /// The head does not wait for the first piece.
    pub(crate) at_once: bool,
}

impl BodyIterator {
    /// Takes the iterator; `None`: it was taken before.
    pub(crate) fn take(&self) -> Option<Py<PyAny>> {
        self.source.lock().take()
    }
}

/// True if an object gives pieces, awaited or not. Awaitables that are their own iterator give none.
pub(crate) fn gives_pieces(body: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = body.py();
    if body.hasattr(intern!(py, "__aiter__"))? {
        return Ok(true);
    }
    Ok(body.hasattr(intern!(py, "__next__"))? && !is_awaitable(body))
}

/// True if an object is to be awaited.
pub(crate) fn is_awaitable(object: &Bound<'_, PyAny>) -> bool {
    object
        .hasattr(intern!(object.py(), "__await__"))
        .unwrap_or(false)
}

pub(crate) fn status_of(status: u16) -> PyResult<StatusCode> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| {
            PyValueError::new_err(format!("{status} is no final status: from 200 to 599"))
        })
}

/// True if a response with this status may have content.
#[pyfunction]
pub(crate) fn may_have_content(status: u16) -> PyResult<bool> {
    status_of(status).map(finish::may_have_content)
}

/// `ValueError` for a status whose responses have no content.
pub(super) fn allow_content(status: StatusCode) -> PyResult<()> {
    if !finish::may_have_content(status) {
        let status = status.as_u16();
        return Err(PyValueError::new_err(format!(
            "a {status} has no body: leave the body out, as in Response(None, {status}), or give it another status"
        )));
    }
    Ok(())
}

/// The bytes of a body, and whether it is text.
pub(crate) fn bytes_of(body: &Bound<'_, PyAny>) -> PyResult<(Bytes, bool)> {
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
    let remedy = if is_awaitable(body) {
        "await it"
    } else {
        "for data use Response.json"
    };
    Err(PyTypeError::new_err(format!(
        "a body is str, bytes or an iterator of them, not {}; {remedy}",
        body.get_type().name()?
    )))
}

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";

impl ResponseParts {
    pub(crate) fn new(status: StatusCode, body: Bytes, kind: Option<&'static str>) -> Self {
        // The edge will add fields of its own.
        let mut headers = Fields::with_capacity(4);
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Self {
            status,
            headers,
            body: Some(body),
            stream: None,
            transforms: Vec::new(),
            transformable: None,
            wrote: None,
        }
    }

    /// Of content that is there, with a status that allows it.
    pub(super) fn whole(status: u16, body: Bytes, kind: Option<&'static str>) -> PyResult<Self> {
        let status = status_of(status)?;
        if !body.is_empty() {
            allow_content(status)?;
        }
        Ok(Self::new(status, body, kind))
    }

    /// Of what an iterator gives.
    pub(crate) fn streamed(
        status: StatusCode,
        iterator: &Bound<'_, PyAny>,
        kind: Option<&'static str>,
    ) -> Self {
        let mut parts = Self::new(status, Bytes::new(), kind);
        parts.stream_from(iterator, false);
        parts
    }

    /// The same, with a head that does not wait for the first piece.
    pub(crate) fn streamed_at_once(
        status: StatusCode,
        iterator: &Bound<'_, PyAny>,
        kind: Option<&'static str>,
    ) -> Self {
        let mut parts = Self::new(status, Bytes::new(), kind);
        parts.stream_from(iterator, true);
        parts
    }

    pub(super) fn stream_from(&mut self, iterator: &Bound<'_, PyAny>, at_once: bool) {
        self.body = None;
        let source = Mutex::new(Some(iterator.clone().unbind()));
        self.stream = Some(Arc::new(BodyIterator { source, at_once }));
    }

    pub(super) fn with(mut self, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Response> {
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

    pub(crate) fn seen(
        head: ResponseHead,
        transformable: Option<Result<(), Untransformed>>,
    ) -> Self {
        Self {
            parts: Mutex::new(Some(ResponseParts {
                status: head.status,
                headers: head.headers,
                body: None,
                stream: None,
                transforms: Vec::new(),
                transformable,
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
