//! The record of one request and its answer, which metrics, access log and next-page model read (phase 16).

use std::net::IpAddr;

use http::StatusCode;

use crate::{
    http::structured::Forward,
    outcome::{Detail, Outcome},
};

/// The TLS of a connection, for the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsRecord<'a> {
    /// As in `TLSv1.3`.
    pub version: &'static str,
    /// The name of the cipher suite at IANA.
    pub cipher: &'static str,
    /// The host of the handshake (SNI).
    pub server_name: Option<&'a str>,
    /// The handshake resumed an earlier session.
    pub resumed: bool,
}

/// One request and its answer, as metrics, access log and next-page model see them.
#[derive(Debug, Clone, Copy)]
pub struct RequestRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The client's own address if the connection is from a trusted proxy.
    pub client: IpAddr,
    /// The `sub` of the verified token, whether or not the log shows it.
    pub user: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port as the client requested them; empty if the head could not be read.
    pub host: &'a str,
    /// `-` if the head could not be read.
    pub method: &'a str,
    /// Path and query as the client requested them.
    pub target: &'a str,
    /// `HTTP/1.1`.
    pub version: &'a str,
    /// As sent, which may differ from the origin's.
    pub status: u16,
    /// The value of `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The value of `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// The source of the response.
    pub outcome: Outcome,
    /// The store gave the response.
    pub hit: bool,
    /// The response went into the store.
    pub stored: bool,
    /// `None` if the outcome says enough.
    pub detail: Option<Detail>,
    /// `None` if the request did not go forward.
    pub forward: Option<Forward>,
    /// Why the request is not believed.
    pub refusal: Option<&'static str>,
    /// Position of the route in the plan.
    pub route: Option<u32>,
    /// The route's label; empty where there is no route.
    pub label: &'a str,
    /// The origin that answered.
    pub origin: Option<&'a str>,
    /// Experiments with the visitor's variants.
    pub variants: &'a [(&'a str, &'a str)],
    /// The request's id, as error pages show it.
    pub id: u64,
    /// The trace that it belongs to.
    pub trace: Option<u128>,
    /// Microseconds until the head.
    pub head: u64,
    /// Length of the content, where it is known before the end that all of it is sent.
    pub bytes: Option<u64>,
    /// `None` in plain text.
    pub tls: Option<TlsRecord<'a>>,
}

impl<'a> RequestRecord<'a> {
    /// The record of a request that is refused before anything in it could be believed.
    pub fn refused(
        at: u64,
        client: IpAddr,
        scheme: &'a str,
        id: u64,
        (status, refusal): (StatusCode, &'static str),
    ) -> Self {
        Self {
            at,
            client,
            user: None,
            scheme,
            host: "",
            method: "-",
            target: "-",
            version: "-",
            status: status.as_u16(),
            referer: None,
            agent: None,
            outcome: Outcome::Error,
            hit: false,
            stored: false,
            detail: None,
            forward: None,
            refusal: Some(refusal),
            route: None,
            label: "",
            origin: None,
            variants: &[],
            id,
            trace: None,
            head: 0,
            bytes: Some(0),
            tls: None,
        }
    }

    /// Why the response did not come from the store.
    pub fn reason(&self) -> Option<&'static str> {
        let detail = self.detail.map(Detail::as_str);
        self.refusal
            .or(detail)
            .or_else(|| self.forward.map(Forward::as_str))
    }

    /// `experiment:variant`, separated by commas.
    pub fn variant(&self) -> String {
        let pairs = self.variants.iter();
        let pairs: Vec<String> = pairs.map(|(name, one)| format!("{name}:{one}")).collect();
        pairs.join(",")
    }
}
