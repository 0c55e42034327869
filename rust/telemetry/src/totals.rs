//! The totals of all workers, for charts over time.

use std::sync::atomic::Ordering;

use super::{
    Metrics, Outcome,
    family::{CLASSES, Family},
    histogram::BUCKETS,
};

/// Counts since the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests by class of status, from 1xx to 5xx.
    pub classes: [u64; CLASSES.len()],
    /// Requests by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Requests by the time to their head; bounds are [`Totals::BOUNDS`], and one more for what took longer.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// Bytes of bodies sent to viewers.
    pub bytes: u64,
    /// Bytes of bodies received from origins.
    pub origin_bytes: u64,
    /// Requests to origins.
    pub origin_requests: u64,
    /// Requests that continued with another member of a group.
    pub failovers: u64,
}

impl Totals {
    /// Upper bounds of the buckets, in microseconds.
    pub const BOUNDS: [u64; BUCKETS.len()] = BUCKETS;
}

impl Metrics {
    /// The totals now.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for ((family, _, column), count) in self.counts() {
            let add = |cell: Option<&mut u64>| {
                if let Some(cell) = cell {
                    *cell += count;
                }
            };
            if family == Family::Requests as usize {
                add(totals.outcomes.get_mut(column / CLASSES.len()));
                add(totals.classes.get_mut(column % CLASSES.len()));
            } else if family == Family::ResponseBytes as usize {
                totals.bytes += count;
            } else if family == Family::OriginBytes as usize {
                totals.origin_bytes += count;
            } else if family == Family::Origin as usize {
                totals.origin_requests += count;
            } else if family == Family::Failover as usize {
                totals.failovers += count;
            }
        }
        for histogram in self.workers.iter().flat_map(|cells| &cells.latency) {
            for (total, cell) in totals.buckets.iter_mut().zip(&histogram.buckets) {
                *total += cell.load(Ordering::Relaxed);
            }
        }
        totals
    }
}
