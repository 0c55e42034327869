//! `raise Abort(status, detail)`: an answer that a callable chose, not a failure of it.

use bytes::Bytes;
use edgerouter_core::http::{Fields, header, problem};
use edgerouter_functions::Answer;
use http::{HeaderValue, StatusCode};
use pyo3::{intern, prelude::*, sync::PyOnceLock, types::PyType};

use crate::message::{headers, request::Request};

static ABORT: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The answer that an `Abort` stands for; `None` for any other exception, and for one whose values were spoilt.
pub(crate) fn answer(py: Python<'_>, request: &Request, error: &PyErr) -> Option<Answer> {
    let class = ABORT.import(py, "edgerouter.errors", "Abort").ok()?;
    if !error.matches(py, class).unwrap_or(false) {
        return None;
    }
    made(request, error.value(py)).ok()
}

fn made(request: &Request, abort: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = abort.py();
    let status: u16 = abort.getattr(intern!(py, "status"))?.extract()?;
    let status = StatusCode::from_u16(status)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    let detail: String = abort.getattr(intern!(py, "detail"))?.extract()?;
    let page = request.edit(|parts| {
        let accept = parts.head.headers.get_all(header::ACCEPT);
        let lines = accept.iter().filter_map(|line| line.to_str().ok());
        problem::page(lines, status, &detail, None)
    })?;
    let mut fields = Fields::new();
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(page.media_type),
    );
    // The text is for this client, in the type that it prefers.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let given = abort.getattr(intern!(py, "headers"))?;
    if !given.is_none() {
        headers::fill(&mut fields, &given)?;
    }
    Ok(Answer {
        status,
        headers: fields,
        body: Bytes::from(page.body),
    })
}
