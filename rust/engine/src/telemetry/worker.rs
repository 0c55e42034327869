//! The counters of one worker: written by it alone, so no instruction needs to be atomic across cores.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgerouter_core::plan::{CallableId, GroupId, OriginId, Plan, RouteId};
use hashbrown::HashMap;
use http::StatusCode;
use parking_lot::Mutex;

use super::{Metrics, Outcome, Rare, Refused};

/// Upper bounds of the latency buckets, in microseconds.
pub(super) const BUCKETS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 10_000_000,
];
pub(super) const CLASSES: usize = 5;
const OUTCOMES: usize = Outcome::ALL.len();

/// Latencies of one outcome.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub buckets: [AtomicU64; BUCKETS.len() + 1],
    pub micros: AtomicU64,
}

impl Histogram {
    fn note(&self, micros: u64) {
        let bucket = BUCKETS
            .iter()
            .position(|&most| micros <= most)
            .unwrap_or(BUCKETS.len());
        if let Some(cell) = self.buckets.get(bucket) {
            add(cell, 1);
        }
        add(&self.micros, micros);
    }
}

/// Requests by route, outcome and status class, for one plan.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    /// Labels of the routes, and after them one for requests without a route.
    labels: Vec<Arc<str>>,
    cells: Vec<AtomicU64>,
}

impl RouteTable {
    pub(super) fn new(plan: &Plan) -> Self {
        let labels: Vec<Arc<str>> = plan
            .routes
            .iter()
            .map(|route| Arc::clone(&route.label))
            .chain([Arc::from("")])
            .collect();
        let cells = (0..labels.len() * OUTCOMES * CLASSES)
            .map(|_| AtomicU64::new(0))
            .collect();
        Self { labels, cells }
    }

    fn cell(
        &self,
        route: Option<RouteId>,
        outcome: Outcome,
        status: StatusCode,
    ) -> Option<&AtomicU64> {
        let none = self.labels.len().checked_sub(1)?;
        let route = route.map_or(none, |route| (route.0 as usize).min(none));
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES) - 1;
        self.cells
            .get((route * OUTCOMES + outcome as usize) * CLASSES + class)
    }

    /// Label, outcome, class and count of every cell that is not zero.
    pub(super) fn each(&self, mut visit: impl FnMut(&Arc<str>, usize, usize, u64)) {
        for (index, cell) in self.cells.iter().enumerate() {
            let count = cell.load(Ordering::Relaxed);
            if count > 0
                && let Some(label) = self.labels.get(index / CLASSES / OUTCOMES)
            {
                visit(label, index / CLASSES % OUTCOMES, index % CLASSES, count);
            }
        }
    }
}

/// What a worker writes and a scrape reads.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub routes: Mutex<Arc<RouteTable>>,
    pub latency: [Histogram; OUTCOMES],
    pub bytes_out: AtomicU64,
    pub accepted: AtomicU64,
    pub closed: AtomicU64,
    pub remembered: AtomicU64,
    pub origin_latency: Histogram,
    pub rare: Mutex<Rare>,
}

impl Cells {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            routes: Mutex::new(Arc::new(RouteTable::new(plan))),
            ..Self::default()
        }
    }
}

/// A worker's hand on its counters.
#[derive(Debug)]
pub struct WorkerMetrics {
    metrics: Arc<Metrics>,
    cells: Arc<Cells>,
    routes: RefCell<Arc<RouteTable>>,
    /// This worker's cells of what is counted with many requests, for the plan in service.
    often: RefCell<HashMap<Often, Arc<AtomicU64>, foldhash::fast::RandomState>>,
}

/// Family, position in the plan, result, and phase where there is one.
type Often = (&'static str, u32, &'static str, &'static str);

/// One writer: a load and a store, no locked instruction.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl WorkerMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, cells: Arc<Cells>) -> Self {
        let routes = RefCell::new(Arc::clone(&cells.routes.lock()));
        Self {
            metrics,
            cells,
            routes,
            often: RefCell::default(),
        }
    }

    /// Phase 16.
    pub fn count(
        &self,
        route: Option<RouteId>,
        outcome: Outcome,
        status: StatusCode,
        micros: u64,
        bytes: u64,
    ) {
        if let Some(cell) = self.routes.borrow().cell(route, outcome, status) {
            add(cell, 1);
        }
        if let Some(histogram) = self.cells.latency.get(outcome as usize) {
            histogram.note(micros);
        }
        add(&self.cells.bytes_out, bytes);
    }

    /// From now on routes are those of `plan`; what was counted before stays.
    pub fn plan_changed(&self, plan: &Plan) {
        let fresh = Arc::new(RouteTable::new(plan));
        let old = std::mem::replace(&mut *self.cells.routes.lock(), Arc::clone(&fresh));
        self.metrics.retire(&old);
        *self.routes.borrow_mut() = fresh;
        self.often.borrow_mut().clear();
    }

    pub fn bytes_out(&self, bytes: u64) {
        add(&self.cells.bytes_out, bytes);
    }
    pub fn accepted(&self) {
        add(&self.cells.accepted, 1);
    }
    pub fn closed(&self) {
        add(&self.cells.closed, 1);
    }

    pub fn refused(&self, refused: impl Into<Refused>) {
        self.rare("refused", format!("reason=\"{}\"", refused.into().as_str()));
    }

    /// An idle connection was ended so that a new one had room.
    pub fn gave_way(&self) {
        self.rare("gave_way", String::new());
    }

    /// The result of looking at a token.
    pub fn jwt(&self, result: &'static str) {
        if result == "remembered" {
            add(&self.cells.remembered, 1);
        } else {
            self.rare("jwt", format!("result=\"{result}\""));
        }
    }

    pub fn not_stored(&self, reason: &'static str) {
        self.rare("not_stored", format!("reason=\"{reason}\""));
    }

    /// A stored response is refreshed while nobody waits for it.
    pub fn refreshed(&self, why: &'static str) {
        self.rare("refresh", format!("reason=\"{why}\""));
    }

    /// An origin sent an interim response; whether it was passed on.
    pub fn interim(&self, sent: bool) {
        let result = if sent { "passed" } else { "dropped" };
        self.rare("interim_responses", format!("result=\"{result}\""));
    }

    /// A fetch of slices of a large object ended.
    pub fn slices(&self, result: &'static str) {
        self.rare("slices", format!("result=\"{result}\""));
    }

    /// Something was fetched that nobody had asked for.
    pub fn prefetched(&self, source: &'static str, result: &'static str) {
        self.rare(
            "prefetch",
            format!("source=\"{source}\",result=\"{result}\""),
        );
    }

    /// A response that the store did not give, and why.
    pub fn forwarded(&self, reason: &'static str) {
        self.rare("forwarded", format!("reason=\"{reason}\""));
    }

    /// A group had to go on to its next member.
    pub fn failover(&self, group: GroupId) {
        let name = self
            .metrics
            .names
            .lock()
            .groups
            .get(group.0 as usize)
            .cloned();
        self.rare(
            "failover",
            format!("group=\"{}\"", name.as_deref().unwrap_or("")),
        );
    }

    pub fn origin(
        &self,
        origin: OriginId,
        result: Result<StatusCode, &'static str>,
        took: Duration,
    ) {
        self.cells.origin_latency.note(took.as_micros() as u64);
        let result = match result {
            Ok(status) => class(status),
            Err(error) => error,
        };
        self.often(("origin", origin.0, result, ""), || {
            let names = self.metrics.names.lock();
            let name = names.origins.get(origin.0 as usize);
            let name = super::text::escaped(name.map_or("", |name| name));
            format!("origin=\"{name}\",result=\"{result}\"")
        });
    }

    pub fn hook(&self, call: CallableId, phase: &'static str, result: &'static str) {
        self.often(("hook", call.0, result, phase), || {
            let names = self.metrics.names.lock();
            let name = names.callables.get(call.0 as usize);
            let name = super::text::escaped(name.map_or("", |name| name));
            format!("callable=\"{name}\",phase=\"{phase}\",result=\"{result}\"")
        });
    }

    /// Counts what happens with many requests: its labels are made once.
    fn often(&self, key: Often, labels: impl FnOnce() -> String) {
        let mut often = self.often.borrow_mut();
        let cell = often
            .entry(key)
            .or_insert_with(|| self.cell(key.0, labels()));
        add(cell, 1);
    }

    fn cell(&self, family: &'static str, labels: String) -> Arc<AtomicU64> {
        let mut rare = self.cells.rare.lock();
        Arc::clone(rare.entry((family, labels)).or_default())
    }

    fn rare(&self, family: &'static str, labels: String) {
        add(&self.cell(family, labels), 1);
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
