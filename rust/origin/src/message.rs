//! Requests to an origin and its responses, as the engine gives and takes them.

use std::time::Instant;

use edgerouter_core::http::{Fields, PathAndQuery};
use http::{Method, StatusCode, Version};

use super::{
    body::UpstreamBody, connection::HearInterims, request_body::RequestBody, upgraded::Upgraded,
    wanted::Wanted,
};

/// A request to an origin: fields final, `Host` set.
#[derive(Debug)]
pub struct UpstreamRequest<'r> {
    /// The method that the origin receives.
    pub method: Method,
    /// After the route's rewrite.
    pub path_and_query: PathAndQuery,
    /// Without those that frame the message: the connection adds them.
    pub headers: Fields,
    /// Its kind decides the framing.
    pub body: RequestBody,
    /// Switch to the protocol named in `Upgrade`.
    pub upgrade: bool,
    /// Receives interim responses (1xx) while they come.
    pub interims: Option<HearInterims<'r>>,
    /// The client waits for a 100 before it sends the content.
    pub expects: bool,
    /// Shows whether a client still waits for the response; `None`: always.
    pub wanted: Option<Wanted>,
    /// Start of the attempt.
    pub begun: Instant,
}

/// A final response, or the 101 of an upgrade.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// 2xx to 5xx, or 101.
    pub status: StatusCode,
    /// Version of the origin's HTTP.
    pub version: Version,
    /// Without those that frame the message.
    pub headers: Fields,
    /// Read while it comes.
    pub body: Box<UpstreamBody>,
    /// The connection, once both sides have switched protocols; `None` unless the status is 101.
    pub upgrade: Option<Box<Upgraded>>,
}
