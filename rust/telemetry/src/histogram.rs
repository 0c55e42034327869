//! Durations in buckets.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::text::DurationSamples;

/// Upper bounds of the latency buckets, in microseconds.
pub(super) const BUCKETS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 10_000_000,
];

/// One writer: a load and a store, no locked instruction.
pub(super) fn add(cell: &AtomicU64, n: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The bucket of a duration.
pub(super) fn bucket(micros: u64) -> usize {
    let found = BUCKETS.iter().position(|&most| micros <= most);
    found.unwrap_or(BUCKETS.len())
}

/// Durations with one set of labels.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub(super) fn note(&self, bucket: usize, micros: u64) {
        if let Some(cell) = self.buckets.get(bucket) {
            add(cell, 1);
        }
        add(&self.micros, micros);
    }
}

/// A request that is in a bucket, by its trace (OpenMetrics 1.0).
#[derive(Debug, Clone, Copy)]
pub(super) struct Exemplar {
    pub trace: u128,
    pub micros: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

impl fmt::Display for Exemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, at) = (self.micros as f64 / 1e6, self.at as f64 / 1e3);
        write!(
            f,
            " # {{trace_id=\"{:032x}\"}} {seconds} {at:.3}",
            self.trace
        )
    }
}

/// Sums of histograms, for a scrape.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [u64; BUCKETS.len() + 1],
    micros: u64,
}

impl Durations {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, cell) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += cell.load(Ordering::Relaxed);
        }
        self.micros += histogram.micros.load(Ordering::Relaxed);
    }

    /// Adds a column of a table: a bucket, or the sum behind them.
    pub(super) fn add_column(&mut self, column: usize, count: u64) {
        match self.buckets.get_mut(column) {
            Some(bucket) => *bucket += count,
            None => self.micros += count,
        }
    }

    /// The samples of these durations.
    pub(super) fn samples(&self) -> DurationSamples<'_> {
        DurationSamples {
            bounds: &BUCKETS,
            counts: &self.buckets,
            micros: self.micros,
        }
    }
}
