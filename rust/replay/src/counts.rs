//! The result: what a plan would do with the requests of a log.

use std::collections::BTreeMap;

use edgerouter_core::outcome::Outcome;
use serde::Serialize;

/// Examples of one kind that are kept.
const MOST_EXAMPLES: usize = 5;
/// Characters of an example.
const LONGEST_EXAMPLE: usize = 200;

/// Requests and bytes of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests of viewers.
    pub requests: u64,
    /// Bytes of content that viewers are sent.
    pub bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
    }
}

/// Requests by their outcome, in the words of the metrics.
pub(crate) type ByOutcome = BTreeMap<&'static str, Counts>;

pub(crate) fn count(counts: &mut ByOutcome, outcome: Outcome, bytes: u64) {
    counts.entry(outcome.as_str()).or_default().add(bytes);
}

/// Why a request is treated in another way than the log shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unlike {
    /// A token, a password or a signature that the log does not have opened the route.
    Credentials,
    /// The log shows a success, and the plan answers with an error or a redirect of its own.
    Refused,
}

impl Unlike {
    /// Spelling in the result.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Refused => "refused",
        }
    }
}

/// Requests of one such kind, with some of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Examples {
    requests: u64,
    examples: Vec<String>,
}

impl Examples {
    pub(crate) fn add(&mut self, target: &[u8]) {
        self.requests += 1;
        if self.examples.len() >= MOST_EXAMPLES {
            return;
        }
        let text = String::from_utf8_lossy(target);
        let shown: String = text.chars().take(LONGEST_EXAMPLE).collect();
        let shown = shown.replace(char::is_control, "\u{fffd}");
        if !self.examples.contains(&shown) {
            self.examples.push(shown);
        }
    }
}

/// The prediction for one size of the memory tier.
#[derive(Debug, Serialize)]
pub struct TierPrediction {
    /// Bytes of the tier; of the whole one, also if URLs are sampled.
    pub capacity: u64,
    /// Bytes that entries take at the end.
    pub used: u64,
    /// Entries at the end.
    pub entries: u64,
    /// Entries that were evicted.
    pub evicted: u64,
    pub(crate) outcomes: ByOutcome,
    /// Requests to origins, background refreshes included.
    pub origin_requests: u64,
    /// Bytes of content from origins.
    pub origin_bytes: u64,
    /// Calls of functions that have a cache in front of them.
    pub function_calls: u64,
}

/// The treatment of a log's requests by a plan.
#[derive(Debug, Default, Serialize)]
pub struct Prediction {
    /// The form of the log.
    pub format: &'static str,
    /// Lines that are requests.
    pub requests: u64,
    /// Lines that are not of the form, or longer than 64 KiB.
    pub not_understood: u64,
    /// Lines whose request no client could have sent.
    pub unusable: u64,
    /// Requests that are in the prediction; the others are of URLs that are not in the sample.
    pub replayed: u64,
    /// Unix seconds of the first line and of the last.
    pub from: u64,
    /// The newest line.
    pub until: u64,
    /// Lines more than a minute older than one before them; they count at the time of that one.
    pub out_of_order: u64,
    /// Responses whose lifetime is assumed.
    pub assumed_lifetimes: u64,
    /// Requests of parts of a response: the log does not say which part.
    pub partial: u64,
    /// 304s, whose response is taken to have the mean size.
    pub not_modified: u64,
    /// Requests of routes with hooks, which are not called.
    pub hooked: u64,
    pub(crate) unlike: BTreeMap<&'static str, Examples>,
    /// For each size.
    pub tiers: Vec<TierPrediction>,
}
