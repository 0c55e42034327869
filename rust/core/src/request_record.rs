//! The record of one request and its answer, which metrics, access log and next-page model read (phase 16).

use std::net::IpAddr;

use http::StatusCode;

use crate::{
    http::structured::Forward,
    outcome::{Detail, Outcome},
};

/// One request and its answer, as metrics, access log and next-page model see them.
#[derive(Debug, Clone, Copy)]
pub struct RequestRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub client: IpAddr,
    pub user: Option<&'a str>,
    pub scheme: &'a str,
    pub host: &'a str,
    pub method: &'a str,
    /// Path and query as the client requested them.
    pub target: &'a str,
    /// `HTTP/1.1`.
    pub version: &'a str,
    pub status: u16,
    pub referer: Option<&'a [u8]>,
    pub agent: Option<&'a [u8]>,
    pub outcome: Outcome,
    /// The store gave the response.
    pub hit: bool,
    /// The response went into the store.
    pub stored: bool,
    pub detail: Option<Detail>,
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
    pub id: u64,
    /// Microseconds until the head.
    pub head: u64,
    /// Length of the content, where it is known before the end.
    pub bytes: Option<u64>,
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
            head: 0,
            bytes: Some(0),
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
