//! Answers that the edge makes itself: refusals, redirects, errors.
//!
//! Each names the fault in one line of text, and never more than the visitor may know.

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::http::{Fields, Known, Named, Response, header};
use edgerouter_core::{
    admit::Refusal, guard::basic::BasicRefusal, http::problem, outcome::TokenResult, path::PathEnd,
};
use http::{HeaderValue, Method, StatusCode};

use crate::body::{EdgeBody, EdgeResponse};
use crate::{telemetry::Refused, worker::Worker};

/// A response that ends the path of a request early.
#[derive(Debug)]
pub(crate) struct Early(pub EdgeResponse);

impl From<EdgeResponse> for Early {
    fn from(response: EdgeResponse) -> Self {
        Self(response)
    }
}

/// Marks a response as made by the edge, not by an origin: error pages and accounts tell them apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeMade;

/// The fault of a function, for developers: an answer that holds it shows it to a client on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub message: String,
    pub trace: Arc<str>,
}

impl Trace {
    /// Puts the trace in the body, in the media type that the request prefers.
    pub(crate) fn show(&self, response: &mut EdgeResponse, request: &Fields) {
        let accept = request.get_all(header::ACCEPT).iter();
        let lines = accept.filter_map(|line| line.to_str().ok());
        let page = problem::page(lines, response.status(), &self.message, Some(&self.trace));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(page.media_type),
        );
        *response.body_mut() = EdgeBody::bytes(Bytes::from(page.body));
    }
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, message: &str) -> EdgeResponse {
    let mut body = Vec::with_capacity(message.len() + 1);
    body.extend_from_slice(message.as_bytes());
    body.push(b'\n');
    let mut response = of(
        status,
        Fields::with_capacity(8),
        EdgeBody::bytes(Bytes::from(body)),
    );
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response.extensions_mut().insert(EdgeMade);
    response
}

pub(crate) fn with(
    mut response: EdgeResponse,
    name: impl Named,
    value: HeaderValue,
) -> EdgeResponse {
    response.headers_mut().insert(name, value);
    response
}

pub(crate) fn redirect(status: StatusCode, location: HeaderValue) -> EdgeResponse {
    let mut response = of(status, Fields::new(), EdgeBody::empty());
    response.headers_mut().insert(header::LOCATION, location);
    response.extensions_mut().insert(EdgeMade);
    response
}

pub(crate) fn of(status: StatusCode, headers: Fields, body: EdgeBody) -> EdgeResponse {
    Response::new(status, headers, body)
}

/// The answer to a client that has too many requests under way (RFC 6585 §4).
pub(crate) fn too_many() -> EdgeResponse {
    with(
        text(
            StatusCode::TOO_MANY_REQUESTS,
            "This client has too many concurrent requests.",
        ),
        header::RETRY_AFTER,
        HeaderValue::from_static("1"),
    )
}

/// The answer to an OPTIONS about the edge, or one that may go no further (RFC 9110 §7.6.2, §9.3.7). `methods`: those
/// of the route; none: any.
pub(crate) fn options(methods: &[Method]) -> EdgeResponse {
    let any = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    let allowed = match methods {
        [] => HeaderValue::from_static(any),
        methods => allow(methods),
    };
    let response = of(StatusCode::NO_CONTENT, Fields::new(), EdgeBody::empty());
    with(response, header::ALLOW, allowed)
}

/// The value of `Allow` (RFC 9110 §10.2.1).
fn allow(methods: &[Method]) -> HeaderValue {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("GET"))
}

/// Loop Detected (RFC 5842 §7.2).
pub(crate) fn looped(why: &'static str) -> EdgeResponse {
    text(StatusCode::LOOP_DETECTED, why)
}

/// The answer when there is no memory for a request: it may come again soon (RFC 9110 §15.6.4).
pub(crate) fn overloaded() -> EdgeResponse {
    with(
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "The edge is overloaded. Try again later.",
        ),
        header::RETRY_AFTER,
        HeaderValue::from_static("1"),
    )
}

/// The answer when no origin answered.
pub(crate) fn origin_failed(timed_out: bool) -> EdgeResponse {
    if timed_out {
        text(
            StatusCode::GATEWAY_TIMEOUT,
            "The origin did not answer in time.",
        )
    } else {
        text(
            StatusCode::BAD_GATEWAY,
            "The origin could not be reached, or its response was invalid.",
        )
    }
}

/// The response for an answer of phases 2 to 6.
pub(super) fn ended(worker: &Worker, end: PathEnd) -> Early {
    let status = end.status();
    let with_text = |name: Known, value| with(text(status, end.message()), name, value);
    let response = match &end {
        PathEnd::Refused(refusal) => return refuse(worker, *refusal),
        PathEnd::Evades(_) => return refuse(worker, Refusal::AmbiguousPath),
        PathEnd::Server => options(&[]),
        PathEnd::Basic(refusal, challenge) => {
            worker.metrics.password(Err(*refusal));
            match refusal {
                BasicRefusal::Busy => with_text(header::RETRY_AFTER, HeaderValue::from_static("5")),
                _ => with_text(header::WWW_AUTHENTICATE, challenge.clone()),
            }
        }
        PathEnd::RateLimited(seconds) => {
            with_text(header::RETRY_AFTER, HeaderValue::from(*seconds))
        }
        PathEnd::Signature(refusal) => {
            worker.metrics.signed(Err(*refusal));
            text(status, end.message())
        }
        PathEnd::Preflight(Some(fields)) => {
            let mut response = of(status, (**fields).clone(), EdgeBody::empty());
            response.extensions_mut().insert(EdgeMade);
            response
        }
        PathEnd::MethodNotAllowed(allowed) => with_text(header::ALLOW, allow(allowed)),
        PathEnd::Https(_, location) => redirect(status, location.clone()),
        PathEnd::Variant(location) => with(
            redirect(status, location.clone()),
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ),
        PathEnd::Unauthorized(error, _, challenge) => {
            let result = error.as_ref().map_or(Ok(TokenResult::Absent), Err);
            worker.metrics.jwt(result);
            if let Some(error) = error {
                tracing::debug!(reason = %error, "token refused");
            }
            match challenge {
                Some(challenge) => with_text(header::WWW_AUTHENTICATE, challenge.clone()),
                None if status == StatusCode::SERVICE_UNAVAILABLE => {
                    with_text(header::RETRY_AFTER, HeaderValue::from_static("5"))
                }
                None => text(status, end.message()),
            }
        }
        _ => text(status, end.message()),
    };
    response.into()
}

pub(crate) fn refuse(worker: &Worker, refusal: Refusal) -> Early {
    worker.metrics.refused(Refused::Request(refusal));
    refused(refusal).into()
}

/// The answer to a request whose host is not served on its connection. The connection stays, for the hosts that are.
pub(super) fn misdirected(worker: &Worker) -> Early {
    let refusal = Refusal::Misdirected;
    worker.metrics.refused(Refused::Request(refusal));
    text(refusal.status(), refusal.message()).into()
}

/// The answer to a request that may not be believed. The connection ends with it: what follows on it is not trusted.
pub(crate) fn refused(refusal: Refusal) -> EdgeResponse {
    let response = text(
        refusal.status(),
        &format!("{} ({})", refusal.message(), refusal.as_str()),
    );
    with(
        response,
        header::CONNECTION,
        HeaderValue::from_static("close"),
    )
}
