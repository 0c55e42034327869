//! `ctx.fetch`: requests that a callable makes through the edge itself.

use std::{
    net::IpAddr,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    http::{
        FieldValue, Fields, Named, PathAndQuery, cdn_loop::CDN_LOOP, header, uri::escape_reference,
    },
    plan::Scheme,
    trace::context::{TRACEPARENT, TRACESTATE},
};
use edgerouter_functions::{
    RequestHead,
    fetch::{self, Fetch, FetchCache, FetchCaller, FetchChain, FetchError, Fetched, Fetcher},
};
use edgerouter_telemetry::trace::SpanParent;
use http::{HeaderValue, Method};
use parking_lot::{Condvar, Mutex};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    errors,
    message::{
        headers, method_of,
        response::{Response, ResponseParts},
        spelling::scheme_of,
    },
    runner,
};

/// The request of a call, as far as requests that it makes continue it.
#[derive(Debug)]
pub(crate) struct FetchFrom {
    method: Method,
    scheme: Scheme,
    host: Arc<str>,
    port: Option<u16>,
    target: String,
    client: IpAddr,
    chain: FetchChain,
    trace: Option<SpanParent>,
    /// The proxies that the request has passed: a loop over several edges ends by their number.
    via: Vec<HeaderValue>,
    /// The caches that it has passed, which callables may not change (RFC 8586 §2): a process among them waits for no
    /// fetch of its own.
    cdn_loop: Vec<HeaderValue>,
    /// `traceparent` and `tracestate` of the client, which an edge that does not trace leaves as they are.
    passed: Option<Box<[(&'static str, HeaderValue)]>>,
    fetcher: Arc<dyn Fetcher>,
}

/// A request that a callable makes, as Python has checked it.
#[derive(Debug)]
pub(crate) struct WantedFetch<'a> {
    pub(crate) method: &'a str,
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    pub(crate) authority: String,
    pub(crate) target: String,
    /// Pairs of a name and a value.
    pub(crate) fields: &'a Bound<'a, PyAny>,
    pub(crate) body: &'a [u8],
    /// A word of [`FetchCache`].
    pub(crate) cache: &'a str,
    pub(crate) timeout: Duration,
    /// Host and port, if the edge does not serve the host.
    pub(crate) outside: Option<(String, u16)>,
    /// The name of an origin or group that is requested directly.
    pub(crate) origin: Option<String>,
}

impl FetchFrom {
    pub(crate) fn new(request: &RequestHead, fetcher: Arc<dyn Fetcher>) -> Self {
        let target = match &request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.clone(),
        };
        let passed = match &request.trace {
            Some(_) => None,
            None => trace_fields(&request.headers),
        };
        Self {
            via: values_of(&request.headers, header::VIA),
            cdn_loop: values_of(&request.headers, &CDN_LOOP),
            passed,
            method: request.method.clone(),
            scheme: request.scheme,
            host: Arc::clone(&request.host),
            port: request.port,
            target,
            client: request.client,
            chain: request.chain.clone(),
            trace: request.trace.clone(),
            fetcher,
        }
    }

    /// True if a callable has made the request, and waits for its response.
    pub(crate) fn is_nested(&self) -> bool {
        self.chain.depth() > 0
    }

    /// Scheme and authority of its URL.
    pub(crate) fn origin(&self) -> (&'static str, String) {
        let port = self.port.map(|port| format!(":{port}"));
        let authority = format!("{}{}", self.host, port.unwrap_or_default());
        (scheme_of(self.scheme), authority)
    }

    /// Starts a request.
    pub(crate) fn start(&self, py: Python<'_>, wanted: WantedFetch<'_>) -> PyResult<PendingFetch> {
        let method = method_of(wanted.method).ok_or_else(|| {
            let given = wanted.method;
            PyValueError::new_err(format!("fetch: {given:?} is no method to fetch with"))
        })?;
        let cache = FetchCache::of(wanted.cache).ok_or_else(|| {
            PyValueError::new_err(format!(
                "fetch: cache {:?} must be default, no-store, reload, no-cache, force-cache or only-if-cached",
                wanted.cache
            ))
        })?;
        let target = target_of(&wanted.target)?;
        let headers = self.headers(&wanted)?;
        let (_, own) = self.origin();
        let name = fetch::name(&self.method, self.scheme, &own, &self.target);
        let now = Instant::now();
        let until = now.checked_add(wanted.timeout).unwrap_or(now);
        let pending = Arc::new(Pending::default());
        let arrived = Arc::clone(&pending);
        let caller = Arc::new(FetchCaller::default());
        let fetch = Fetch {
            method,
            scheme: match wanted.scheme {
                "https" => Scheme::Https,
                _ => Scheme::Http,
            },
            authority: wanted.authority,
            outside: wanted.outside,
            origin: wanted.origin.map(Into::into),
            target,
            headers,
            body: Bytes::copy_from_slice(wanted.body),
            cache,
            timeout: wanted.timeout,
            client: self.client,
            chain: self.chain.with(&name).ending(until),
            trace: self.trace.clone(),
            caller: Arc::clone(&caller),
        };
        py.detach(|| {
            self.fetcher
                .fetch(fetch, Box::new(move |fetched| arrived.put(fetched)));
        });
        Ok(PendingFetch { pending, caller })
    }

    /// The fields of a request: the callable's own, and those by which a loop ends and a trace continues.
    fn headers(&self, wanted: &WantedFetch<'_>) -> PyResult<Fields> {
        let mut given = Fields::new();
        headers::fill(&mut given, wanted.fields)?;
        if !given.contains_key(header::VIA) {
            for value in &self.via {
                given.append(header::VIA, value);
            }
        }
        given.remove(&CDN_LOOP);
        for value in &self.cdn_loop {
            given.append(CDN_LOOP, value);
        }
        if let Some(passed) = &self.passed
            && wanted.outside.is_none()
            && !given.contains_key(TRACEPARENT)
        {
            for (name, value) in passed {
                given.append(*name, value);
            }
        }
        Ok(given)
    }
}

fn target_of(given: &str) -> PyResult<PathAndQuery> {
    PathAndQuery::try_from(&*escape_reference(given))
        .ok()
        .filter(|parsed| parsed.path().starts_with('/'))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "fetch: {given:?} is no path and query: it has a control character, which must be percent-encoded, as by urllib.parse.quote"
            ))
        })
}

fn values_of(request: &Fields, name: impl Named) -> Vec<HeaderValue> {
    let values = request.get_all(name).iter();
    values.map(FieldValue::owned).collect()
}

/// The fields by which a request continues a trace (W3C Trace Context).
fn trace_fields(request: &Fields) -> Option<Box<[(&'static str, HeaderValue)]>> {
    let parent = (TRACEPARENT, request.sole(TRACEPARENT)?.owned());
    let state = request.sole(TRACESTATE);
    let state = state.map(|state| (TRACESTATE, state.owned()));
    Some(std::iter::once(parent).chain(state).collect())
}

#[derive(Debug, Default)]
struct Pending {
    state: Mutex<PendingState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct PendingState {
    fetched: Option<Fetched>,
    is_there: bool,
    waker: Option<Waker>,
}

impl Pending {
    /// On the worker's thread.
    fn put(&self, fetched: Fetched) {
        let mut state = self.state.lock();
        state.fetched = Some(fetched);
        state.is_there = true;
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A request that a callable has made and whose response it waits for.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct PendingFetch {
    pending: Arc<Pending>,
    caller: Arc<FetchCaller>,
}

impl Drop for PendingFetch {
    fn drop(&mut self) {
        self.caller.leave();
    }
}

#[pymethods]
impl PendingFetch {
    /// Has `call()` made, once, when the response is there; false when it is already.
    fn when_ready(&self, call: Py<PyAny>) -> bool {
        let mut state = self.pending.state.lock();
        if !state.is_there {
            state.waker = Some(runner::waker(call));
        }
        !state.is_there
    }

    /// Waits for the response, for `seconds` at most; true when it is there.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let until = runner::in_seconds(seconds);
        py.detach(|| {
            let Pending { state, arrived } = &*self.pending;
            let mut state = state.lock();
            while !state.is_there {
                if arrived.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            state.is_there
        })
    }

    /// Ends the request: nobody waits for its response.
    fn abandon(&self) {
        self.caller.leave();
    }

    /// The response, once; `FetchError` when there is none.
    fn take(&self, py: Python<'_>) -> PyResult<Py<Response>> {
        let fetched = self.pending.state.lock().fetched.take();
        match fetched {
            Some(Ok(answer)) => {
                let mut parts = ResponseParts::new(answer.status, answer.body, None);
                parts.headers = answer.headers;
                Py::new(py, Response::of(parts))
            }
            Some(Err(error @ (FetchError::NotListed(_) | FetchError::NoOrigin(..)))) => {
                Err(PyValueError::new_err(format!("fetch: {error}")))
            }
            Some(Err(error)) => Err(errors::fetch(py, &error.to_string())),
            None => Err(errors::fetch(py, "the response was taken before")),
        }
    }
}
