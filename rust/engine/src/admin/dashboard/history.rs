//! The numbers of the last half hour, for charts that are there when the page opens; and the metrics that open pages
//! get.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::telemetry::{Outcome, Totals};

/// Samples that are kept.
const KEPT: usize = 360;

/// Outcomes that use the cache, and those among them that no origin was requested for.
const ANSWERED: [Outcome; 5] = [
    Outcome::Hit,
    Outcome::Stale,
    Outcome::Coalesced,
    Outcome::StaleOnError,
    Outcome::Disconnected,
];
const FETCHED: [Outcome; 2] = [Outcome::Miss, Outcome::Revalidated];

/// Samples and metrics, as the open pages get them.
#[derive(Debug)]
pub(crate) struct Pulse {
    samples: RefCell<VecDeque<(u64, Value)>>,
    last: RefCell<Option<(u64, Totals)>>,
    pub(super) metrics: watch::Sender<Bytes>,
    /// Bytes of the last metrics.
    pub(super) size: Cell<usize>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            samples: RefCell::default(),
            last: RefCell::default(),
            metrics: watch::channel(Bytes::new()).0,
            size: Cell::new(0),
        }
    }
}

impl Pulse {
    /// The metrics' text each time that it is rendered: an event of the stream.
    pub(super) fn subscribe(&self) -> watch::Receiver<Bytes> {
        self.metrics.subscribe()
    }

    /// Samples after a time in milliseconds, the oldest first.
    pub(super) fn since(&self, at: u64) -> Vec<Value> {
        let samples = self.samples.borrow();
        let newer = samples.iter().filter(|(of, _)| *of > at);
        newer.map(|(_, sample)| sample.clone()).collect()
    }

    /// The time of the last sample.
    pub(super) fn newest(&self) -> u64 {
        self.samples.borrow().back().map_or(0, |(at, _)| *at)
    }

    /// Takes the totals at a time in milliseconds.
    pub(super) fn sample(&self, at: u64, totals: Totals) {
        let before = self.last.replace(Some((at, totals.clone())));
        let Some((began, before)) = before else {
            return;
        };
        let millis = at.saturating_sub(began).max(1);
        let sample = between(at, millis, &before, &totals);
        let mut samples = self.samples.borrow_mut();
        if samples.len() >= KEPT {
            samples.pop_front();
        }
        samples.push_back((at, sample));
    }
}

/// The growth from one sample to the next: counts, and percentiles in seconds.
fn between(at: u64, millis: u64, before: &Totals, now: &Totals) -> Value {
    let outcome = |of: Outcome| {
        let count = |totals: &Totals| totals.outcomes.get(of as usize).copied().unwrap_or(0);
        count(now).saturating_sub(count(before))
    };
    let answered: u64 = ANSWERED.into_iter().map(outcome).sum();
    let fetched: u64 = FETCHED.into_iter().map(outcome).sum();
    let grown = |now: &[u64], before: &[u64]| -> Vec<u64> {
        let pairs = now.iter().zip(before);
        pairs
            .map(|(now, before)| now.saturating_sub(*before))
            .collect()
    };
    let buckets = grown(&now.buckets, &before.buckets);
    json!({
        "at": at,
        "seconds": millis as f64 / 1e3,
        "classes": grown(&now.classes, &before.classes),
        "answered": answered,
        "looked_up": answered + fetched,
        "bytes": now.bytes.saturating_sub(before.bytes),
        "origin_bytes": now.origin_bytes.saturating_sub(before.origin_bytes),
        "origin_requests": now.origin_requests.saturating_sub(before.origin_requests),
        "failovers": now.failovers.saturating_sub(before.failovers),
        "p50": quantile(&buckets, 0.5),
        "p95": quantile(&buckets, 0.95),
        "p99": quantile(&buckets, 0.99),
    })
}

/// An estimate as Prometheus makes it: even within a bucket, and the last bound beyond it. `None` without requests.
fn quantile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = share * all as f64;
    let (mut seen, mut from) = (0.0, 0.0);
    for (count, bound) in buckets.iter().zip(Totals::BOUNDS) {
        let (count, to) = (*count as f64, bound as f64 / 1e6);
        if count > 0.0 && seen + count >= wanted {
            return Some(from + (to - from) * (wanted - seen) / count);
        }
        (seen, from) = (seen + count, to);
    }
    (all > 0).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_growth_since_the_one_before() {
        let mut before = Totals::default();
        before.outcomes[Outcome::Hit as usize] = 5;
        before.classes[1] = 5;
        let mut now = before.clone();
        now.outcomes[Outcome::Hit as usize] += 6;
        now.outcomes[Outcome::Miss as usize] += 2;
        now.classes[1] += 8;
        now.buckets[0] += 8;
        now.bytes += 100;
        let sample = between(5_000, 5_000, &before, &now);
        assert_eq!(sample["answered"], 6);
        assert_eq!(sample["looked_up"], 8);
        assert_eq!(sample["classes"], json!([0, 8, 0, 0, 0]));
        assert_eq!(
            (&sample["bytes"], &sample["seconds"]),
            (&json!(100), &json!(5.0))
        );
        assert_eq!(sample["p50"], json!(0.000_025));
    }

    #[test]
    fn percentiles_are_those_of_prometheus() {
        let mut buckets = vec![0; Totals::BOUNDS.len() + 1];
        assert_eq!(quantile(&buckets, 0.5), None);
        buckets[1] = 10;
        let median = quantile(&buckets, 0.5).unwrap_or_default();
        assert!((median - 0.000_075).abs() < 1e-12, "{median}");
        buckets[Totals::BOUNDS.len()] = 90;
        assert_eq!(quantile(&buckets, 0.95), Some(10.0));
    }

    #[test]
    fn the_history_is_bounded() {
        let pulse = Pulse::default();
        for at in 0..2 * KEPT as u64 {
            pulse.sample(at, Totals::default());
        }
        assert_eq!(pulse.since(0).len(), KEPT);
    }
}
