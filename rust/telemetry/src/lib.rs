//! Counting: what happened, per worker and without sharing, summed for a scrape.
//!
//! `life` is the state of the process, `text` the format of Prometheus, `secret` numbers that nobody can guess.
//! `worker` is written by its one worker with plain loads and stores; `render` reads all workers and speaks
//! Prometheus. Labels come from the plan and from closed sets, never from a request.

pub mod access;
pub mod life;
pub mod log;
mod render;
pub mod secret;
pub mod text;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use edgerouter_core::outcome::Outcome;
use edgerouter_core::{admit::Refusal, outcome::Word, plan::Plan, predict::Ledger};
use parking_lot::Mutex;

pub use worker::WorkerMetrics;
use worker::{Cells, RouteTable};

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
}

/// Words after those of [`Refusal`].
const OTHERS: [&str; 4] = [
    "too-many-connections",
    "client-connections",
    "client-requests",
    "no-memory",
];

impl Word for Refused {
    const COUNT: usize = Refusal::COUNT + OTHERS.len();

    fn index(self) -> usize {
        match self {
            Self::Request(refusal) => refusal.index(),
            Self::TooManyConnections => Refusal::COUNT,
            Self::ClientConnections => Refusal::COUNT + 1,
            Self::ClientRequests => Refusal::COUNT + 2,
            Self::NoMemory => Refusal::COUNT + 3,
        }
    }

    fn at(index: usize) -> &'static str {
        match index.checked_sub(Refusal::COUNT) {
            None => Refusal::at(index),
            Some(other) => OTHERS.get(other).copied().unwrap_or_default(),
        }
    }
}

/// Counters by family, and labels as they are printed. Each is written by one worker.
type Rare = BTreeMap<(&'static str, String), Arc<AtomicU64>>;

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    workers: Vec<Arc<Cells>>,
    /// Tables of plans that are out of service, summed.
    retired: Mutex<BTreeMap<(Arc<str>, usize, usize), u64>>,
    names: Mutex<PlanNames>,
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

/// Names of the plan in service.
#[derive(Debug, Default, Clone)]
struct PlanNames {
    origins: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
    callables: Vec<Arc<str>>,
}

impl PlanNames {
    fn of(plan: &Plan) -> Self {
        Self {
            origins: plan
                .origins
                .iter()
                .map(|one| Arc::clone(&one.name))
                .collect(),
            groups: plan
                .groups
                .iter()
                .map(|one| Arc::clone(&one.name))
                .collect(),
            callables: plan
                .callables
                .iter()
                .map(|one| Arc::clone(&one.name))
                .collect(),
        }
    }
}

impl Metrics {
    /// `workers`: those of the engine; each has counters of its own.
    pub fn new(workers: usize, plan: &Plan) -> Arc<Self> {
        log::bound(&plan.limits.log);
        Arc::new(Self {
            workers: (0..workers).map(|_| Arc::new(Cells::new(plan))).collect(),
            retired: Mutex::default(),
            names: Mutex::new(PlanNames::of(plan)),
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

    /// Takes the names of the new plan for labels, and its limits of the log.
    pub fn plan_changed(&self, plan: &Plan, _version: u64) {
        *self.names.lock() = PlanNames::of(plan);
        log::bound(&plan.limits.log);
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
    pub fn navigation(&self, told: bool) {
        let counter = if told {
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

    /// Sums a table whose plan is out of service.
    fn retire(&self, table: &RouteTable) {
        let mut retired = self.retired.lock();
        table.each(|label, outcome, class, count| {
            *retired
                .entry((Arc::clone(label), outcome, class))
                .or_default() += count;
        });
    }
}
