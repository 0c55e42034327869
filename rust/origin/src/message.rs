//! Requests to an origin and its responses, as the engine gives and takes them.

use std::{rc::Rc, time::Instant};

use http::{HeaderMap, Method, StatusCode, Version, uri::PathAndQuery};
use hyper::upgrade::OnUpgrade;

use super::{body::UpstreamBody, request_body::RequestBody, responses::Responses, wanted::Wanted};

/// A request to an origin: fields final, `Host` set.
#[derive(Debug)]
pub struct UpstreamRequest {
    pub method: Method,
    pub path_and_query: PathAndQuery,
    pub headers: HeaderMap,
    pub body: RequestBody,
    /// Switch to the protocol named in `Upgrade`.
    pub upgrade: bool,
    /// Receives interim responses (1xx) while they come.
    pub interims: Option<HearInterims>,
    /// The client waits for a 100 before it sends the content.
    pub expects: bool,
    /// Shows whether a client still waits for the response; `None`: always.
    pub wanted: Option<Wanted>,
    /// Start of the attempt.
    pub begun: Instant,
}

/// Receives the interim responses to a request on its worker, before the final response is there.
#[derive(Clone)]
pub struct HearInterims(pub Rc<dyn Fn(StatusCode, Version, HeaderMap)>);

impl std::fmt::Debug for HearInterims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HearInterims")
    }
}

impl HearInterims {
    /// Passes on the interim responses that have come in on a connection since the last call.
    pub(super) fn tell(&self, responses: &Responses) {
        for head in responses.interims() {
            (self.0)(head.status, head.version, head.headers);
        }
    }
}

#[derive(Debug)]
pub struct UpstreamResponse {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: UpstreamBody,
    pub upgrade: Option<OnUpgrade>,
}
