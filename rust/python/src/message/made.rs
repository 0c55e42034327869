//! A request that a callable makes: of a URL, or of another request.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use edgerouter_core::{
    cache::api::CacheUrl,
    http::{Fields, header},
};
use edgerouter_functions::{PathParams, RequestHead, fetch::FetchChain};
use http::{HeaderValue, Method, Version};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyString,
};

use super::{
    headers,
    request::Request,
    response::{JSON, TEXT, bytes_of},
};
use crate::{errors, json};

impl Request {
    /// With the method, fields and content of another request where no others are given (Fetch §5.4).
    pub(super) fn made(
        url: &Bound<'_, PyAny>,
        method: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
        body: Option<&Bound<'_, PyAny>>,
        json: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (mut head, kept) = match url.cast::<Self>() {
            Ok(other) => {
                let replaced = body.is_some() || json.is_some();
                let other = other.get();
                let kept = match replaced {
                    true => Bytes::new(),
                    false => other.whole(url.py())?,
                };
                (other.edit(|parts| parts.head.clone())?, kept)
            }
            Err(_) => (Self::head_of(url)?, Bytes::new()),
        };
        if let Some(method) = method {
            head.method = method_of(method).ok_or_else(|| {
                PyValueError::new_err(format!("Request: {method:?} is no method of a request"))
            })?;
        }
        if let Some(given) = headers {
            head.headers = Fields::new();
            headers::fill(&mut head.headers, given)?;
        }
        let (body, kind) = match (body, json) {
            (Some(_), Some(_)) => {
                let message = "Request: body cannot be combined with json";
                return Err(PyValueError::new_err(message));
            }
            (Some(body), None) => {
                let (body, is_text) = bytes_of(body)?;
                (body, is_text.then_some(TEXT))
            }
            (None, Some(value)) => (json::encode(value)?, Some(JSON)),
            (None, None) => (kept, None),
        };
        // The type of another request is that of its own content.
        if let Some(kind) = kind
            && (headers.is_none() || !head.headers.contains_key(header::CONTENT_TYPE))
        {
            let kind = HeaderValue::from_static(kind);
            head.headers.insert(header::CONTENT_TYPE, kind);
        }
        if !body.is_empty() && matches!(head.method, Method::GET | Method::HEAD) {
            return Err(PyValueError::new_err(format!(
                "Request: a {} has no body: give it another method, as in method=\"POST\"",
                head.method
            )));
        }
        Ok(Self::new(head, body, None))
    }

    /// The head of a GET of an absolute URL; `CacheError` for another one.
    fn head_of(url: &Bound<'_, PyAny>) -> PyResult<Box<RequestHead>> {
        let Ok(text) = url.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "Request takes a URL or a Request, not {}",
                url.get_type().name()?
            )));
        };
        let url = text.to_str()?;
        let place =
            CacheUrl::parse(url).map_err(|error| errors::cache_url(text.py(), url, &error))?;
        Ok(Box::new(RequestHead {
            method: Method::GET,
            version: Version::HTTP_11,
            scheme: place.scheme,
            host: place.host.into(),
            port: place.port,
            path: place.path,
            query: place.query,
            headers: Fields::new(),
            client: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            params: PathParams::default(),
            claims: None,
            certificate: None,
            place: None,
            variants: Vec::new(),
            id: 0,
            trace: None,
            chain: FetchChain::default(),
            conversions: None,
            notes: None,
        }))
    }
}

/// The method of a request, in the spelling that it has on the wire; `None` for one that no request is made with (Fetch
/// §2.2.1). Other names than these six are what they are in any case.
pub(crate) fn method_of(name: &str) -> Option<Method> {
    let known = [
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::POST,
        Method::PUT,
    ];
    (known.into_iter())
        .find(|known| known.as_str().eq_ignore_ascii_case(name))
        .or_else(|| Method::from_bytes(name.as_bytes()).ok())
        .filter(|method| {
            let forbidden = ["CONNECT", "TRACE", "TRACK"];
            !forbidden
                .iter()
                .any(|name| method.as_str().eq_ignore_ascii_case(name))
        })
}
