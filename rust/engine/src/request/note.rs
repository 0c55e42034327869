//! How a request is answered, as the phases note it.

use edgerouter_core::{http::structured::Forward, outcome::Detail};
use http::StatusCode;

use crate::telemetry::Outcome;

/// Facts for `Cache-Status`, the metrics and the log.
#[derive(Debug)]
pub(crate) struct Note {
    pub outcome: Outcome,
    pub hit: bool,
    pub forward: Option<Forward>,
    pub forward_status: Option<StatusCode>,
    pub ttl: Option<i64>,
    pub stored: bool,
    pub collapsed: bool,
    /// Why the store did not give the response.
    pub detail: Option<Detail>,
    /// The key, where the policy shows it.
    pub key: Option<Box<str>>,
    /// The field is in the response already.
    pub written: bool,
}

impl Note {
    /// Something else is sent than the response of the cache or of an origin.
    pub(crate) fn replaced(&mut self, detail: Detail) {
        self.hit = false;
        self.ttl = None;
        self.written = false;
        self.detail = Some(detail);
    }
}
