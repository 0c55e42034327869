//! Counting: what happened, per worker and without sharing, summed for a scrape.
//!
//! `life` is the state of the process and the end of its threads, `cores` the number of its processors, `text` the
//! format of Prometheus. `secret`, numbers that nobody can guess, and `regular`, files that a configuration names, are
//! here because this is the lowest crate that may use the system: `core` may not, and `geo` and `data` have no other one
//! in common. `system_error` has the words for its errors.
//! `family` has the counters by their labels, which come from the plan and from closed sets, never from a request.
//! `trace` has the spans of requests. `worker` is written by its one worker with plain loads and stores; `render` reads
//! all workers and writes the text.

pub mod access;
mod cores;
mod family;
mod histogram;
pub mod life;
pub mod log;
pub mod regular;
mod render;
pub mod secret;
pub mod system_error;
pub mod text;
mod totals;
pub mod trace;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

pub use cores::cores;
pub use edgerouter_core::outcome::Outcome;
use edgerouter_core::{
    admit::Refusal, http::h2::flood::Flood, outcome::Word, plan::Plan, predict::Ledger,
};
use parking_lot::Mutex;

use family::Counts;
pub use totals::Totals;
use worker::Cells;
pub use worker::{PlanMetrics, WorkerMetrics};

/// Reasons for refusals before a route is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The head is not accepted.
    Request(Refusal),
    /// Of the whole engine (`limits.http.connections`).
    TooManyConnections,
    /// Of one peer.
    ClientConnections,
    /// Of one client.
    ClientRequests,
    /// For a head.
    NoMemory,
    /// No header of the PROXY protocol, or not from a proxy of the listener.
    ProxyProtocol,
    /// A response is taken too slowly (`limits.http.min_rate`).
    SlowReader,
    /// Frames of HTTP/2.
    Flood(Flood),
}

impl Refused {
    /// Position among the words of [`Refusal`] and [`family::REFUSED`] after them.
    fn index(self) -> usize {
        let other = match self {
            Self::Request(refusal) => return refusal.index(),
            Self::TooManyConnections => 0,
            Self::ClientConnections => 1,
            Self::ClientRequests => 2,
            Self::NoMemory => 3,
            Self::ProxyProtocol => 4,
            Self::SlowReader => 5,
            Self::Flood(flood) => family::REFUSED.len() + flood.index(),
        };
        Refusal::WORDS.len() + other
    }
}

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    workers: Vec<Arc<Cells>>,
    started: SystemTime,
    /// Tables of plans that are out of service, summed.
    retired: Mutex<Counts>,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    predictions: Predictions,
}

/// Accounts of the next-page model.
#[derive(Debug, Default)]
struct Predictions {
    learnt: AtomicU64,
    dropped: AtomicU64,
    fetched: AtomicU64,
    used: AtomicU64,
    wasted: AtomicU64,
    wasted_bytes: AtomicU64,
}

impl Metrics {
    /// `workers`: those of the engine; each has counters of its own.
    pub fn new(workers: usize, plan: &Plan) -> Arc<Self> {
        log::bound(&plan.limits.log);
        Arc::new(Self {
            workers: (0..workers).map(|_| Arc::new(Cells::new(plan))).collect(),
            started: SystemTime::now(),
            retired: Mutex::default(),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            predictions: Predictions::default(),
        })
    }

    /// The counters of one worker, for that worker alone.
    pub fn worker(self: &Arc<Self>, index: usize) -> WorkerMetrics {
        let cells = self.workers.get(index).cloned().unwrap_or_default();
        WorkerMetrics::new(Arc::clone(self), cells)
    }

    /// Counts a reload of the plan. `ok` is false if the old plan stays in service.
    pub fn reload(&self, ok: bool) {
        let counter = if ok {
            &self.reloads_ok
        } else {
            &self.reloads_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a navigation that was reported to the next-page model, or dropped because too many wait.
    pub fn navigation(&self, queued: bool) {
        let counter = if queued {
            &self.predictions.learnt
        } else {
            &self.predictions.dropped
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the figures of the next-page model.
    pub fn predicted(&self, ledger: &Ledger) {
        let own = &self.predictions;
        for (cell, value) in [
            (&own.fetched, ledger.fetched),
            (&own.used, ledger.used),
            (&own.wasted, ledger.wasted),
            (&own.wasted_bytes, ledger.wasted_bytes),
        ] {
            cell.store(value, Ordering::Relaxed);
        }
    }
}
