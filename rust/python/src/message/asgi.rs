//! Heads as ASGI has them (ASGI 3.0, HTTP & WebSocket): the scope of a request, and the response that an application
//! begins. Names and values of fields are bytes there, so none becomes text on its way.

use std::net::IpAddr;

use bytes::Bytes;
use edgerouter_core::{
    http::{FieldName, Fields, framing::trimmed, header},
    plan::Scheme,
};
use http::{HeaderValue, Method, Version};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple},
};

use super::{
    headers,
    request::{Request, RequestParts},
    response::{Response, ResponseParts, bytes_of, status_of},
    spelling::{scheme_of, version_text},
};

/// The parts of a request that its scope is made of.
struct Seen {
    method: Method,
    version: Version,
    scheme: Scheme,
    path: String,
    query: String,
    fields: Fields,
    client: IpAddr,
}

/// Notes that all of it is read.
fn seen(parts: &mut RequestParts) -> Seen {
    parts.note(|reads| {
        reads.personal = true;
        reads.query.all = true;
        reads.all_fields();
    });
    let head = &parts.head;
    Seen {
        method: head.method.clone(),
        version: head.version,
        scheme: head.scheme,
        path: head.path.clone(),
        query: head.query.clone().unwrap_or_default(),
        fields: head.headers.clone(),
        client: head.client,
    }
}

/// The connection scope of a request to an application below `root`; `state` is that of its lifespan.
#[pyfunction]
pub(crate) fn asgi_scope<'py>(
    request: &Bound<'py, Request>,
    root: &Bound<'py, PyString>,
    state: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = request.py();
    let Seen {
        method,
        version,
        scheme,
        path,
        query,
        fields,
        client,
    } = request.get().edit(seen)?;
    let asgi = PyDict::new(py);
    asgi.set_item(intern!(py, "version"), intern!(py, "3.0"))?;
    asgi.set_item(intern!(py, "spec_version"), intern!(py, "2.4"))?;
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            let name = PyBytes::new(py, name.lower().as_bytes());
            PyTuple::new(py, [name, PyBytes::new(py, value.as_bytes())])
        })
        .collect::<PyResult<_>>()?;
    let scope = PyDict::new(py);
    scope.set_item(intern!(py, "type"), intern!(py, "http"))?;
    scope.set_item(intern!(py, "asgi"), asgi)?;
    scope.set_item(intern!(py, "http_version"), version_text(version))?;
    scope.set_item(intern!(py, "method"), method.as_str())?;
    scope.set_item(intern!(py, "scheme"), scheme_of(scheme))?;
    scope.set_item(intern!(py, "path"), decoded(py, &path)?)?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, path.as_bytes()))?;
    let query = PyBytes::new(py, query.as_bytes());
    scope.set_item(intern!(py, "query_string"), query)?;
    scope.set_item(intern!(py, "root_path"), root)?;
    scope.set_item(intern!(py, "headers"), PyList::new(py, fields)?)?;
    scope.set_item(intern!(py, "client"), (client.to_string(), 0))?;
    scope.set_item(intern!(py, "server"), server_of(request)?)?;
    scope.set_item(intern!(py, "state"), state.copy()?)?;
    Ok(scope)
}

/// Host and port of a request's URL.
#[pyfunction]
pub(crate) fn server_of(request: &Bound<'_, Request>) -> PyResult<(String, u16)> {
    request.get().edit(|RequestParts { head, .. }| {
        let usual = match head.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        (head.host.to_string(), head.port.unwrap_or(usual))
    })
}

/// A path without its escapes.
fn decoded<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
    static UNQUOTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if !path.contains('%') {
        return Ok(PyString::new(py, path).into_any());
    }
    UNQUOTE
        .import(py, "urllib.parse", "unquote")?
        .call1((path,))
}

/// A response whose fields are pairs of bytes. `content`: bytes, or an iterator for which the head does not wait.
#[pyfunction]
pub(crate) fn asgi_response(
    status: u16,
    fields: &Bound<'_, PyAny>,
    content: &Bound<'_, PyAny>,
) -> PyResult<Response> {
    let status = status_of(status)?;
    let mut parts = if content.is_instance_of::<PyBytes>() {
        let (body, _) = bytes_of(content)?;
        ResponseParts::new(status, body, None)
    } else {
        ResponseParts::streamed_at_once(status, content, None)
    };
    parts.headers = fields_of(fields)?;
    if let Ok(content) = content.cast::<PyBytes>() {
        check_length(&parts.headers, content.as_bytes().len())?;
    }
    Ok(Response::of(parts))
}

/// Refuses content of another length than the fields state. A response to `HEAD` has none.
fn check_length(fields: &Fields, length: usize) -> PyResult<()> {
    if length == 0 {
        return Ok(());
    }
    let mut stated = fields.get_all(header::CONTENT_LENGTH);
    let (Some(first), None) = (stated.next(), stated.next()) else {
        return Ok(());
    };
    let stated = str::from_utf8(first.as_bytes())
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    if stated.is_some_and(|stated| stated != length) {
        return Err(PyRuntimeError::new_err(
            "the content of the response has another length than its content-length",
        ));
    }
    Ok(())
}

/// Fields that are pairs of bytes.
fn fields_of(fields: &Bound<'_, PyAny>) -> PyResult<Fields> {
    let mut given = Fields::new();
    for field in fields.try_iter()? {
        let (name, value) = pair(&field?)?;
        let name = FieldName::from_bytes(&name)
            .map_err(|_| PyValueError::new_err(format!("{} is no field name", shown(&name))))?;
        let value = HeaderValue::from_bytes(trimmed(&value)).map_err(|_| {
            PyValueError::new_err(format!(
                "the value of {} may not hold line ends or other control characters",
                name.as_str()
            ))
        })?;
        headers::append(&mut given, name, value)?;
    }
    Ok(given)
}

/// Trailers, and their bytes, at most: as many as a reader of chunked content takes here.
const MOST_TRAILERS: usize = 32;
const MOST_TRAILER_BYTES: usize = 8 << 10;

/// Trailers that are pairs of bytes.
pub(crate) fn trailers_of(fields: &Bound<'_, PyAny>) -> PyResult<Fields> {
    let trailers = fields_of(fields)?;
    if trailers.len() > MOST_TRAILERS || trailers.bytes() > MOST_TRAILER_BYTES {
        return Err(PyValueError::new_err(format!(
            "a response has {MOST_TRAILERS} trailers with {MOST_TRAILER_BYTES} bytes at most, not {} with {}",
            trailers.len(),
            trailers.bytes()
        )));
    }
    Ok(trailers)
}

fn shown(name: &[u8]) -> String {
    format!("{:?}", headers::latin_1(name))
}

/// Name and value of a field.
fn pair(field: &Bound<'_, PyAny>) -> PyResult<(Bytes, Bytes)> {
    if let Ok(pair) = field.cast::<PyTuple>()
        && pair.len() == 2
    {
        return Ok((raw(&pair.get_item(0)?)?, raw(&pair.get_item(1)?)?));
    }
    let both: Vec<Bound<'_, PyAny>> = field.try_iter()?.collect::<PyResult<_>>()?;
    match both.as_slice() {
        [name, value] => Ok((raw(name)?, raw(value)?)),
        _ => Err(PyValueError::new_err(
            "a header field is a pair of its name and its value",
        )),
    }
}

fn raw(part: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if part.is_instance_of::<PyBytes>() || part.is_instance_of::<PyByteArray>() {
        return bytes_of(part).map(|(bytes, _)| bytes);
    }
    Err(PyTypeError::new_err(format!(
        "name and value of a header field are bytes, not {}",
        part.get_type().name()?
    )))
}
