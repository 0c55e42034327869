//! The counters of one worker: written by it alone, so no instruction needs to be atomic across cores.

use std::{
    cell::RefCell,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgerouter_core::{
    outcome::{Detail, Word},
    plan::{CallableId, GroupId, OriginId, Plan},
    request_record::RequestRecord,
};
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

    fn cell(&self, record: &RequestRecord<'_>) -> Option<&AtomicU64> {
        let none = self.labels.len().checked_sub(1)?;
        let route = record
            .route
            .map_or(none, |route| (route as usize).min(none));
        let class = usize::from(record.status / 100).clamp(1, CLASSES) - 1;
        self.cells
            .get((route * OUTCOMES + record.outcome as usize) * CLASSES + class)
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

/// Counters of one family, one for each word of its label.
#[derive(Debug)]
pub(super) struct Counts<W> {
    cells: Vec<AtomicU64>,
    words: PhantomData<W>,
}

impl<W: Word> Default for Counts<W> {
    fn default() -> Self {
        Self {
            cells: (0..W::COUNT).map(|_| AtomicU64::new(0)).collect(),
            words: PhantomData,
        }
    }
}

impl<W: Word> Counts<W> {
    fn note(&self, word: W) {
        if let Some(cell) = self.cells.get(word.index()) {
            add(cell, 1);
        }
    }

    /// Word and count of every cell that is not zero.
    pub(super) fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
        for (index, cell) in self.cells.iter().enumerate() {
            match cell.load(Ordering::Relaxed) {
                0 => {}
                count => visit(W::at(index), count),
            }
        }
    }
}

/// Counters that a worker writes and a scrape reads.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub routes: Mutex<Arc<RouteTable>>,
    pub latency: [Histogram; OUTCOMES],
    pub bytes_out: AtomicU64,
    pub accepted: AtomicU64,
    pub remembered: AtomicU64,
    pub origin_latency: Histogram,
    pub refused: Counts<Refused>,
    pub forwarded: Counts<Detail>,
    pub not_stored: Counts<Detail>,
    pub refreshed: Counts<Detail>,
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
    pub fn count(&self, record: &RequestRecord<'_>) {
        if let Some(cell) = self.routes.borrow().cell(record) {
            add(cell, 1);
        }
        if let Some(histogram) = self.cells.latency.get(record.outcome as usize) {
            histogram.note(record.head);
        }
        add(&self.cells.bytes_out, record.bytes.unwrap_or(0));
        if !record.hit
            && let Some(detail) = record.detail
        {
            self.cells.forwarded.note(detail);
        }
    }

    /// From now on routes are those of `plan`; what was counted before stays.
    pub fn plan_changed(&self, plan: &Plan) {
        let fresh = Arc::new(RouteTable::new(plan));
        let old = std::mem::replace(&mut *self.cells.routes.lock(), Arc::clone(&fresh));
        self.metrics.retire(&old);
        *self.routes.borrow_mut() = fresh;
        self.often.borrow_mut().clear();
    }

    /// Content was sent to a client: that many bytes.
    pub fn bytes_out(&self, bytes: u64) {
        add(&self.cells.bytes_out, bytes);
    }
    /// A connection was accepted.
    pub fn accepted(&self) {
        add(&self.cells.accepted, 1);
    }

    /// Something was refused before a route was known.
    pub fn refused(&self, refused: Refused) {
        self.cells.refused.note(refused);
    }

    /// An idle connection was ended so that a new one had room.
    pub fn gave_way(&self) {
        self.often(("gave_way", 0, "", ""), String::new);
    }

    /// The result of looking at a token.
    pub fn jwt(&self, result: &'static str) {
        if result == "remembered" {
            add(&self.cells.remembered, 1);
        } else {
            self.result("jwt", result);
        }
    }

    /// A response was not stored, for this reason.
    pub fn not_stored(&self, reason: impl Into<Detail>) {
        self.cells.not_stored.note(reason.into());
    }

    /// A stored response is refreshed while nobody waits for it.
    pub fn refreshed(&self, why: Detail) {
        self.cells.refreshed.note(why);
    }

    /// An origin sent an interim response; whether it was passed on.
    pub fn interim(&self, sent: bool) {
        let result = if sent { "passed" } else { "dropped" };
        self.result("interim_responses", result);
    }

    /// A fetch of slices of a large object ended.
    pub fn slices(&self, result: &'static str) {
        self.result("slices", result);
    }

    /// Something was fetched ahead of any request for it.
    pub fn prefetched(&self, source: &'static str, result: &'static str) {
        self.often(("prefetch", 0, result, source), || {
            format!("source=\"{source}\",result=\"{result}\"")
        });
    }

    /// A group had to go on to its next member.
    pub fn failover(&self, group: GroupId) {
        self.often(("failover", group.0, "", ""), || {
            let names = self.metrics.names.lock();
            let name = names.groups.get(group.0 as usize);
            format!("group=\"{}\"", name.map_or("", |name| name))
        });
    }

    /// A request to an origin has ended: with a status, or with the word for its failure.
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

    /// A callable was called in `phase`; `result` is a word.
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

    fn result(&self, family: &'static str, result: &'static str) {
        self.often((family, 0, result, ""), || format!("result=\"{result}\""));
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
