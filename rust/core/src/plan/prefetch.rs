//! URLs that the edge fetches before visitors request them, from a list and by prediction.

use std::time::Duration;

use http::HeaderValue;

use super::Scheme;
use crate::http::{FieldName, PathAndQuery};

/// URLs that the edge requests itself, so that visitors find the responses stored.
#[derive(Debug, Clone)]
pub struct Prefetch {
    /// Absolute URLs, in declaration order.
    pub targets: Vec<PrefetchTarget>,
    /// Time between two rounds, a tenth more or less; `None`: no rounds but those of `on_start`.
    pub every: Option<Duration>,
    /// At the start and after a reload.
    pub on_start: bool,
    /// Request fields besides those that every such request has.
    pub headers: Vec<(FieldName, HeaderValue)>,
}

/// The extent to which a visitor's next pages are predicted and fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Predict {
    /// Least share of a page's visitors that went on to the next page.
    pub confidence: f64,
    /// Least number of those visitors.
    pub support: u32,
    /// Pages fetched for one navigation.
    pub pages: usize,
    /// Bound on predicted requests; 60 by default.
    pub requests_per_minute: u32,
    /// Bound on bytes of predicted responses; 10 MiB by default.
    pub bytes_per_minute: u64,
    /// Share of the visitors that the model learns from.
    pub sample: f64,
}

/// One URL as visitors request it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefetchTarget {
    /// Sent to the origin in `X-Forwarded-Proto`, and part of the key.
    pub scheme: Scheme,
    /// Value of `Host`, in lower case.
    pub authority: HeaderValue,
    /// The path is normalised as a visitor's is (RFC 3986 §6.2.2).
    pub path_and_query: PathAndQuery,
}
