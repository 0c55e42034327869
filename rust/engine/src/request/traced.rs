//! The trace of a request: where it begins, the facts that its span has, and its end; and the spans of its attempts.
//!
//! A request that is not chosen has no trace while the store answers it. It gets one as soon as an answer takes work,
//! so that the trace can be kept for its outcome.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, Instant},
};

use edgerouter_core::{
    http::{Fields, uri},
    outcome::Detail,
    plan::Origin,
    request_record::RequestRecord,
    select::Select,
    trace::{Believed, Kept, ShownTo, TraceContext, TracingPolicy, context},
};
use http::{HeaderValue, StatusCode};

use super::{exchange::Exchange, origin_request::OriginRequest};
use crate::{
    body::EdgeResponse,
    telemetry::trace::{Attributes, Beginning, OpenSpan, RequestTrace, Work},
    worker::Worker,
};

/// The field in which a client sends the debug token.
const DEBUG: &str = "edge-debug";
const SERVER_TIMING: &str = "server-timing";
/// Bytes of a path, a query and a host in a span.
const PATH: usize = 1_024;
const HOST: usize = 256;
/// Methods that a span names (RFC 9110 §9.1, RFC 5789); others are `_OTHER`.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// A method as spans name it: clients may invent any number of them.
pub(super) fn method(method: &str) -> &'static str {
    let known = METHODS.iter().find(|known| **known == method);
    known.copied().unwrap_or("_OTHER")
}

/// The end of a trace, as far as it is known with the head of the response.
pub(super) struct TraceEnd {
    trace: RequestTrace,
    name: String,
    attributes: Attributes,
    error: Option<Cow<'static, str>>,
    kept: Option<Kept>,
}

impl TraceEnd {
    /// The content has been sent: that many bytes.
    pub(super) fn end(mut self, bytes: u64) {
        let size = ("http.response.body.size", bytes.into());
        self.attributes.push(size);
        let (name, attributes) = (self.name, self.attributes);
        self.trace.end(name, attributes, self.error, self.kept);
    }
}

impl Exchange {
    /// After phase 2: begins the trace of a request that is chosen.
    pub(super) fn choose_trace(&mut self) {
        let live = std::rc::Rc::clone(&self.live);
        let Some(policy) = &live.plan.tracing else {
            return;
        };
        let is_debugged = policy.debug_token.is_some()
            && (self.head.headers.take(DEBUG)).is_some_and(|token| policy.admits(token.as_bytes()));
        self.shows_timing = match policy.server_timing {
            ShownTo::Nobody => false,
            ShownTo::Debug => is_debugged,
            ShownTo::Everybody => true,
        };
        let random = self.worker.random();
        let believed = TraceContext::of(&self.head.headers).filter(|_| self.believes(policy));
        let sampled = is_debugged || policy.samples(believed, random);
        if sampled {
            self.trace = Some(Box::new(self.begin_trace(policy, random, true)));
        }
    }

    /// Gives a request that takes work a place in a trace, which is kept only for its outcome.
    pub(crate) fn trace_work(&mut self) {
        if self.trace.is_some() || self.internal {
            return;
        }
        if let Some(policy) = &self.live.plan.tracing {
            let random = self.worker.random();
            let trace = self.begin_trace(policy, random, false);
            self.trace = Some(Box::new(trace));
        }
    }

    /// Begins a span of this request, if it is recorded.
    pub(crate) fn begin_span(&self, work: Work, name: &'static str) -> Option<Box<OpenSpan>> {
        let parent = self.trace.as_ref()?.parent();
        parent.records().then(|| Box::new(parent.begin(work, name)))
    }

    fn believes(&self, policy: &TracingPolicy) -> bool {
        match policy.believe {
            Believed::Nobody => false,
            Believed::Proxies => self.client.trusted_peer,
            Believed::Everybody => true,
        }
    }

    fn begin_trace(&self, policy: &TracingPolicy, random: u64, sampled: bool) -> RequestTrace {
        let worker: &Worker = &self.worker;
        let sender = TraceContext::of(&self.head.headers);
        let is_believed = self.believes(policy);
        let state = sender.filter(|_| is_believed);
        let state = state.and_then(|_| context::state(&self.head.headers));
        let beginning = Beginning {
            believed: sender.filter(|_| is_believed),
            link: sender.filter(|_| !is_believed),
            state: state.map(String::into_boxed_str),
            sampled,
            records: self.shows_timing || policy.by_outcome(),
            random: [random, worker.random(), worker.random()],
            at: (self.started, worker.clock.unix_nanos(self.started)),
        };
        RequestTrace::begin(beginning, &worker.shared.traces)
    }

    /// The trace of an answered request, if it is kept. One that is not is dropped.
    pub(super) fn keep_trace(
        &self,
        trace: Option<Box<RequestTrace>>,
        status: u16,
        head: u64,
    ) -> Option<(RequestTrace, Option<Kept>)> {
        let policy = self.live.plan.tracing.as_ref()?;
        let sampled = trace.as_ref().is_some_and(|trace| trace.sampled());
        let kept = policy.keeps(sampled, status, Duration::from_micros(head));
        match trace {
            Some(trace) => Some((*trace, kept)),
            None if kept.is_some() && !self.internal => {
                let random = self.worker.random();
                Some((self.begin_trace(policy, random, false), kept))
            }
            None => None,
        }
    }

    /// The facts about a request and its response.
    pub(super) fn trace_end(
        &self,
        (trace, kept): (RequestTrace, Option<Kept>),
        record: &RequestRecord<'_>,
    ) -> Option<TraceEnd> {
        if kept.is_none() && !trace.is_within() {
            trace.end(String::new(), Attributes::new(), None, None);
            return None;
        }
        if kept.is_some() {
            let at = self.worker.clock.unix_millis(self.started);
            self.worker.metrics.exemplar(record, at);
        }
        let method = method(record.method);
        let (path, query) = match record.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (record.target, None),
        };
        let mut attributes: Attributes = vec![
            ("http.request.method", method.into()),
            ("http.response.status_code", record.status.into()),
            ("url.scheme", self.client.scheme.as_str().into()),
            ("url.path", cut(path, PATH).into()),
            ("server.address", cut(record.host, HOST).into()),
            ("network.protocol.version", version(record.version).into()),
            ("edgerouter.cache", record.outcome.as_str().into()),
            (
                "edgerouter.request.id",
                format!("{:016x}", record.id).into(),
            ),
        ];
        if !record.label.is_empty() {
            attributes.push(("http.route", record.label.to_owned().into()));
        }
        if let Some(reason) = record.reason() {
            attributes.push(("edgerouter.reason", reason.into()));
        }
        let policy = self.live.plan.tracing.as_ref();
        if let (Some(query), Some(policy)) = (query, policy)
            && policy.query != Select::None
        {
            let mut chosen = Vec::new();
            uri::select_query(query, &policy.query, false, &mut chosen);
            if let Ok(chosen) = String::from_utf8(chosen)
                && !chosen.is_empty()
            {
                attributes.push(("url.query", cut(&chosen, PATH).into()));
            }
        }
        let name = match record.label {
            "" => method.to_owned(),
            label => format!("{method} {label}"),
        };
        let error = (record.status >= 500).then(|| Cow::Owned(record.status.to_string()));
        Some(TraceEnd {
            trace,
            name,
            attributes,
            error,
            kept,
        })
    }

    /// Ends the span of a request that a function made, with the head of its response.
    pub(super) fn end_fetch(&mut self, response: &EdgeResponse) {
        let Some(trace) = self.trace.take() else {
            return;
        };
        let method = method(self.head.method.as_str());
        let status = response.status();
        let attributes: Attributes = vec![
            ("http.request.method", method.into()),
            ("http.response.status_code", status.as_u16().into()),
            ("url.path", cut(self.viewer_path.path(), PATH).into()),
            ("edgerouter.cache", self.note.outcome.as_str().into()),
        ];
        let error = status
            .is_server_error()
            .then(|| Cow::Owned(status.as_str().to_owned()));
        trace.end(format!("fetch {method}"), attributes, error, None);
    }

    /// `Server-Timing` (W3C): the time to here, the outcome, and the time of each kind of work.
    pub(super) fn server_timing(&self) -> Option<(&'static str, HeaderValue)> {
        let milliseconds = |took: Duration| took.as_micros() as f64 / 1e3;
        let mut text = format!(
            "edge;dur={:.3}, cache;desc={}",
            milliseconds(self.started.elapsed()),
            self.note.outcome.as_str()
        );
        if let Some(trace) = &self.trace {
            for (word, took) in trace.timings() {
                let _ = write!(text, ", {word};dur={:.3}", milliseconds(took));
            }
            let _ = write!(text, ", trace;desc={:032x}", trace.id());
        }
        Some((SERVER_TIMING, HeaderValue::from_str(&text).ok()?))
    }
}

/// Begins the span of an attempt. The origin gets its place in the trace, and not the client's.
pub(super) fn begin_attempt(
    request: &OriginRequest,
    origin: &Origin,
    headers: &mut Fields,
    started: Instant,
) -> Option<Box<OpenSpan>> {
    request.live.plan.tracing.as_ref()?;
    headers.remove(context::TRACEPARENT);
    headers.remove(context::TRACESTATE);
    let parent = request.trace.as_ref()?;
    let method = method(request.method.as_str());
    let mut span = Box::new(parent.begin_at(Work::Origin, method, started));
    if let Ok(place) = HeaderValue::from_str(&span.context().to_string()) {
        headers.insert(context::TRACEPARENT, place);
    }
    if let Some(Ok(state)) = parent.state().map(HeaderValue::from_str) {
        headers.insert(context::TRACESTATE, state);
    }
    span.note("http.request.method", method);
    span.note("edgerouter.origin", origin.name.to_string());
    span.note("server.address", origin.host.to_string());
    span.note("server.port", origin.port);
    Some(span)
}

/// Ends it with the status of the response, or why there is none.
pub(super) fn end_attempt(mut span: OpenSpan, result: Result<StatusCode, Detail>) {
    let error = match result {
        Ok(status) => {
            span.note("http.response.status_code", status.as_u16());
            (status.is_server_error()).then(|| Cow::Owned(status.as_str().to_owned()))
        }
        Err(detail) => Some(Cow::Borrowed(detail.as_str())),
    };
    span.end(error);
}

fn version(version: &str) -> String {
    let version = version.rsplit('/').next().unwrap_or_default();
    version
        .strip_suffix(".0")
        .filter(|_| version != "1.0")
        .unwrap_or(version)
        .to_owned()
}

/// At most so many bytes.
fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
