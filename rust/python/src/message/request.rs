//! The request as Python sees it: a view on the engine's value.
//!
//! A view is alive for as long as its call. A callable that keeps one gets a clear error afterwards, because the value
//! has gone on with the request. No lock is held while Python runs or allocates.

mod parts;

use edgerouter_core::http::{cookie, uri};
use http::Method;
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

use super::{
    certificate::PyClientCertificate,
    experiment::PyAssignedVariant,
    geo::Geo,
    headers::{Headers, latin_1},
    spelling::{id, scheme_of, version_text},
};
use crate::{
    errors, json,
    runner::PieceSource,
    values::{Values, ValuesKind},
};

pub(crate) use parts::{RequestFacts, RequestParts, over};

/// A request.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Request {
    parts: Mutex<Option<RequestParts>>,
}

/// A dictionary of pairs; of repeated names the first, and the others beside it.
fn by_name<'py, N: AsRef<str>, V: AsRef<str>>(
    py: Python<'py>,
    pairs: impl IntoIterator<Item = (N, V)>,
) -> PyResult<(Bound<'py, PyDict>, Vec<(String, String)>)> {
    let found = PyDict::new(py);
    let mut further = Vec::new();
    for (name, value) in pairs {
        let named = PyString::new(py, name.as_ref());
        // Most have one pair, if any: there is nothing to look through.
        if found.is_empty() || !found.contains(&named)? {
            found.set_item(named, value.as_ref())?;
        } else {
            further.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        }
    }
    Ok((found, further))
}

#[pymethods]
impl Request {
    /// A request that a callable makes: of a URL, or of another request with its method, fields and content where no
    /// others are given (Fetch §5.4).
    #[new]
    #[pyo3(signature = (url, method=None, headers=None, body=None, json=None))]
    fn create(
        url: &Bound<'_, PyAny>,
        method: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
        body: Option<&Bound<'_, PyAny>>,
        json: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Self::made(url, method, headers, body, json)
    }

    /// A request of its own with the same values, which outlives the call (Fetch §5.4).
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        let body = self.whole(py)?;
        Ok(Self::new(
            self.edit(|parts| parts.head.clone())?,
            body,
            None,
        ))
    }

    /// As it was sent; hooks of the request phases may change it.
    #[getter]
    fn method(&self) -> PyResult<String> {
        self.edit(|parts| parts.head.method.as_str().to_owned())
    }

    #[setter]
    fn set_method(&self, method: &str) -> PyResult<()> {
        // A tunnel is not made by a hook (RFC 9110 §9.3.6).
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|method| *method != Method::CONNECT)
            .ok_or_else(|| PyValueError::new_err(format!("{method:?} is no method to ask with")))?;
        self.edit(|parts| parts.head.method = method)
    }

    /// The version of HTTP that the client speaks: "1.0", "1.1" or "2".
    #[getter]
    fn http_version(&self) -> PyResult<&'static str> {
        self.edit(|parts| {
            parts.note(|reads| reads.personal = true);
            version_text(parts.head.version)
        })
    }

    /// The client's own, behind trusted proxies too.
    #[getter]
    fn scheme(&self) -> PyResult<&'static str> {
        self.edit(|parts| scheme_of(parts.head.scheme))
    }

    /// Lower case, without port.
    #[getter]
    fn host(&self) -> PyResult<String> {
        self.edit(|parts| parts.head.host.to_string())
    }

    /// Normalised and percent-encoded, without the query; hooks of the request phases may change it.
    #[getter]
    fn path(&self) -> PyResult<String> {
        self.edit(|parts| parts.head.path.clone())
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
        self.edit(|parts| parts.head.path = path)
    }

    /// The query as it was sent, without the `?`; empty when there is none.
    #[getter]
    fn query_string(&self) -> PyResult<String> {
        self.edit(|parts| {
            parts.note(|reads| reads.query.all = true);
            parts.head.query.clone().unwrap_or_default()
        })
    }

    #[setter]
    fn set_query_string(&self, query: String) -> PyResult<()> {
        if query.contains('#') || query.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(PyValueError::new_err(format!(
                "{query:?} is no query: it is percent-encoded and has no #"
            )));
        }
        self.edit(|parts| parts.head.query = (!query.is_empty()).then_some(query))
    }

    /// Decoded parameters of the query; of repeated ones the first.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Values>> {
        let (query, notes) = self.edit(|parts| {
            let query = parts.head.query.clone().unwrap_or_default();
            (query, parts.head.notes.clone())
        })?;
        let pairs =
            uri::query_pairs(&query).map(|(name, value)| (uri::decode(name), uri::decode(value)));
        Values::given(by_name(py, pairs)?, ValuesKind::Query, notes)
    }

    /// Scheme, host, path and query.
    #[getter]
    fn url(&self) -> PyResult<String> {
        self.edit(|parts| {
            parts.note(|reads| reads.query.all = true);
            let head = &parts.head;
            let (mark, query) = match &head.query {
                Some(query) => ("?", query.as_str()),
                None => ("", ""),
            };
            format!(
                "{}://{}{}{}{mark}{query}",
                scheme_of(head.scheme),
                head.host,
                head.port.map(|port| format!(":{port}")).unwrap_or_default(),
                head.path
            )
        })
    }

    /// Its header fields; hooks of the request phases may change them.
    #[getter]
    fn headers(slf: Bound<'_, Self>) -> Headers {
        Headers::of_request(slf.unbind())
    }

    /// Of repeated ones the first. Bytes outside ASCII are taken for Latin-1, as in `headers`.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Values>> {
        let (pairs, notes) = self.edit(|parts| {
            let pairs: Vec<(String, String)> = cookie::pairs(&parts.head.headers)
                .map(|(name, value)| (latin_1(name), latin_1(value)))
                .collect();
            (pairs, parts.head.notes.clone())
        })?;
        Values::given(by_name(py, pairs)?, ValuesKind::Cookies, notes)
    }

    /// Parameters of the route's pattern, decoded.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let params = self.edit(|parts| {
            parts.note(|reads| reads.params = true);
            parts.head.params.decoded()
        })?;
        by_name(py, params).map(|(found, _)| found)
    }

    /// The client's address.
    #[getter]
    fn client(&self) -> PyResult<String> {
        self.edit(|parts| {
            parts.note(|reads| reads.personal = true);
            parts.head.client.to_string()
        })
    }

    /// The certificate of the connection's client; `None` without one.
    #[getter]
    fn client_certificate(&self) -> PyResult<Option<PyClientCertificate>> {
        self.edit(|parts| {
            parts.note(|reads| reads.personal = true);
            parts.head.certificate.clone().map(PyClientCertificate)
        })
    }

    /// Verified claims; `None` without a token.
    #[getter]
    fn claims<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Values>>> {
        let (claims, notes) = self.verified()?;
        let Some(claims) = claims else {
            return Ok(None);
        };
        let claims = json::decode(py, claims.as_bytes())?.cast_into::<PyDict>()?;
        Values::given((claims, Vec::new()), ValuesKind::Claims, notes).map(Some)
    }

    /// The user by the verified token: its `userId`, or its `sub` if it has no `userId`. One that is `null` or empty is
    /// none.
    #[getter]
    fn user(&self) -> PyResult<Option<String>> {
        let (claims, notes) = self.verified()?;
        let Some(claims) = claims else {
            return Ok(None);
        };
        let claims: serde_json::Value = serde_json::from_str(&claims).unwrap_or_default();
        // As in the field for origins: the subject (RFC 7519 §4.1.2) stands in for a `userId` that is not there, and
        // not for one that names nobody.
        let name = match claims.get("userId") {
            Some(_) => "userId",
            None => "sub",
        };
        if let Some(notes) = notes {
            notes.lock().claims.note(name);
        }
        Ok(match claims.get(name) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        })
    }

    /// Experiment → variant.
    #[getter]
    fn variants<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let variants = self.edit(|parts| parts.head.variants.clone())?;
        let pairs = (variants.into_iter()).map(|one| (one.experiment, one.variant));
        by_name(py, pairs).map(|(found, _)| found)
    }

    /// The variant of the route's first experiment; `None` without one.
    #[getter]
    fn variant(&self) -> PyResult<Option<String>> {
        self.edit(|parts| {
            let one = parts.head.variants.first()?;
            Some(one.variant.to_string())
        })
    }

    /// The route's first experiment: the variant of this visitor, and its data. `None` without one.
    #[getter]
    fn experiment(&self) -> PyResult<Option<PyAssignedVariant>> {
        self.edit(|parts| parts.head.variants.first().cloned().map(PyAssignedVariant))
    }

    /// The route's experiments by their names.
    #[getter]
    fn experiments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for one in self.edit(|parts| parts.head.variants.clone())? {
            found.set_item(one.experiment.to_string(), PyAssignedVariant(one))?;
        }
        Ok(found)
    }

    /// The place of the client, as far as it is known.
    #[getter]
    fn geo(&self) -> PyResult<Geo> {
        self.edit(|parts| Geo {
            place: parts.head.place.clone(),
            notes: parts.head.notes.clone(),
        })
    }

    /// Its name in logs and error answers.
    #[getter]
    fn id(&self) -> PyResult<String> {
        self.edit(|parts| {
            parts.note(|reads| reads.personal = true);
            id(parts.head.id)
        })
    }

    /// The id of its trace, for the log and for other systems; `None` if the edge does not trace.
    #[getter]
    fn trace_id(&self) -> PyResult<Option<String>> {
        self.edit(|parts| {
            parts.note(|reads| reads.personal = true);
            let trace = parts.head.trace.as_ref();
            trace.map(|trace| format!("{:032x}", trace.context().trace))
        })
    }

    /// The whole body; hooks see none. Past `limits.functions.body_bytes` it is answered with 413: `async for` streams.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let body = self.whole(py)?;
        Ok(PyBytes::new(py, &body))
    }

    /// The body as UTF-8; `BodyError`, which is answered with 400, when it is not.
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        let body = self.whole(py)?;
        let text = String::from_utf8(body.into());
        text.map_err(|_| errors::body(py, "The body is not UTF-8 text."))
    }

    /// The body as JSON; `BodyError`, which is answered with 400, when it is not.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let body = self.whole(py)?;
        json::decode(py, &body).map_err(|error| json::of_body(py, error))
    }

    /// The fields and files of a form; an async callable awaits it: see `edgerouter.functions.forms`.
    #[pyo3(signature = (**bounds))]
    fn form<'py>(
        slf: &Bound<'py, Self>,
        bounds: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let forms = slf.py().import("edgerouter.functions.forms")?;
        forms.call_method("read", (slf,), bounds)
    }

    /// The content in the place of an iteration over it, where all of it is there; `None`: iterate.
    fn _whole<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let whole = self.edit(|parts| {
            let is_there = parts.rest.is_none() && !std::mem::replace(&mut parts.iterated, true);
            is_there.then(|| parts.body.clone())
        })?;
        Ok(whole.map(|whole| PyBytes::new(py, &whole)))
    }

    /// The client's bytes after the request has become a WebSocket, to be iterated over; `None`: it is to become none,
    /// or they have been taken. The response to it is `Response.switched`.
    fn take_tunnel<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(tunnel) = self.edit(|parts| parts.tunnel.take())? else {
            return Ok(None);
        };
        let source = PieceSource::new(tunnel);
        py.import("edgerouter.functions.streams")?
            .call_method1("awaited", (PyBytes::new(py, b""), source))
            .map(Some)
    }

    /// The body in pieces, of whatever size, once: `async for piece in request`.
    fn __aiter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.pieces(py, "awaited")
    }

    /// The body in pieces, of whatever size, once. Waits for each: for plain functions.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.pieces(py, "waited_for")
    }

    fn __repr__(&self) -> String {
        // The query may hold what is secret.
        self.edit(|parts| {
            let head = &parts.head;
            let scheme = scheme_of(head.scheme);
            format!(
                "<Request {} {scheme}://{}{}>",
                head.method, head.host, head.path
            )
        })
        .unwrap_or_else(|_| "<Request that is over>".to_owned())
    }
}
