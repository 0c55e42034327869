//! The counters of one worker: written by it alone, so no instruction needs to be atomic across cores.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use edgerouter_core::{
    geo::Country,
    guard::{
        basic::BasicRefusal,
        rate::{RateDecision, RateLimit},
        signed::SignatureRefusal,
    },
    identity::jwt::TokenError,
    outcome::{
        CallResult, Detail, Outcome, PasswordResult, Phase, PrefetchResult, PrefetchSource, RunEnd,
        TokenResult, Word,
    },
    plan::{CallableId, GroupId, OriginId, Plan, RouteId},
    request_record::RequestRecord,
    transform::Untransformed,
};
use http::StatusCode;
use parking_lot::Mutex;

use super::{
    Metrics, Refused,
    family::{CLASSES, Family, SUM, Tables},
    histogram::{Exemplar, Histogram, add, bucket},
};

/// Counters that a worker writes and a scrape reads.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Of the plan in service, and of others whose requests are not over.
    pub tables: Mutex<Vec<Arc<Tables>>>,
    pub latency: [Histogram; Outcome::ALL.len()],
    /// Of the last kept trace in each bucket, by outcome and bucket.
    pub exemplars: Mutex<BTreeMap<(usize, usize), Exemplar>>,
    pub accepted: AtomicU64,
    pub http2_connections: AtomicU64,
    pub http2_requests: AtomicU64,
}

impl Cells {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            tables: Mutex::new(vec![Arc::new(Tables::new(plan))]),
            ..Self::default()
        }
    }
}

/// A worker's hand on its counters.
#[derive(Debug)]
pub struct WorkerMetrics {
    metrics: Arc<Metrics>,
    cells: Arc<Cells>,
    /// The tables of the plan in service.
    tables: RefCell<Arc<Tables>>,
}

/// A worker's hand on the counters that the names of one plan label.
#[derive(Debug, Clone)]
pub struct PlanMetrics {
    cells: Arc<Cells>,
    tables: Arc<Tables>,
}

impl WorkerMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, cells: Arc<Cells>) -> Self {
        let tables = cells.tables.lock().first().cloned().unwrap_or_default();
        let tables = RefCell::new(tables);
        Self {
            metrics,
            cells,
            tables,
        }
    }

    /// The trace of a request is kept. `at`: milliseconds since the Unix epoch.
    pub fn exemplar(&self, record: &RequestRecord<'_>, at: u64) {
        let Some(trace) = record.trace else { return };
        let (micros, place) = (record.head, (record.outcome as usize, bucket(record.head)));
        let exemplar = Exemplar { trace, micros, at };
        self.cells.exemplars.lock().insert(place, exemplar);
    }

    /// The counters of the plan in service.
    pub fn of_service(&self) -> PlanMetrics {
        PlanMetrics {
            cells: Arc::clone(&self.cells),
            tables: Arc::clone(&self.tables.borrow()),
        }
    }

    /// Counters for another plan. Those of plans whose requests are all over are summed up.
    pub fn of_plan(&self, plan: &Plan) -> PlanMetrics {
        let fresh = Arc::new(Tables::new(plan));
        let mut retired = self.metrics.retired.lock();
        let mut tables = self.cells.tables.lock();
        tables.retain(|one| {
            let in_use = Arc::strong_count(one) > 1;
            if !in_use {
                one.sum(&mut retired);
            }
            in_use
        });
        tables.push(Arc::clone(&fresh));
        PlanMetrics {
            cells: Arc::clone(&self.cells),
            tables: fresh,
        }
    }

    /// From now on the plan in service is that of these counters.
    pub fn serve(&self, plan: &PlanMetrics) {
        *self.tables.borrow_mut() = Arc::clone(&plan.tables);
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        add(&self.cells.accepted, 1);
    }

    /// A connection speaks HTTP/2.
    pub fn http2_connection(&self) {
        add(&self.cells.http2_connections, 1);
    }

    /// A request came in by HTTP/2.
    pub fn http2_request(&self) {
        add(&self.cells.http2_requests, 1);
    }

    /// Something was refused before a route was known.
    pub fn refused(&self, refused: Refused) {
        self.note(Family::Refused, None, refused.index());
    }

    /// An idle connection was ended so that a new one had room.
    pub fn gave_way(&self) {
        self.note(Family::GaveWay, None, 0);
    }

    /// The result of looking at a token.
    pub fn jwt(&self, result: Result<TokenResult, &TokenError>) {
        let column = match result {
            Ok(result) => result.index(),
            Err(error) => TokenResult::WORDS.len() + error.index(),
        };
        self.note(Family::Jwt, None, column);
    }

    /// The result of looking at a user's password.
    pub fn password(&self, result: Result<PasswordResult, BasicRefusal>) {
        let column = match result {
            Ok(result) => result.index(),
            Err(refusal) => PasswordResult::WORDS.len() + refusal.index(),
        };
        self.note(Family::Passwords, None, column);
    }

    /// The result of looking at the signature of a URL.
    pub fn signed(&self, result: Result<(), SignatureRefusal>) {
        let column = result.map_or_else(|refusal| 1 + refusal.index(), |()| 0);
        self.note(Family::Signed, None, column);
    }

    /// A response was not stored, for this reason.
    pub fn not_stored(&self, reason: impl Into<Detail>) {
        self.note(Family::NotStored, None, reason.into().index());
    }

    /// A stored response is refreshed while nobody waits for it.
    pub fn refreshed(&self, why: Detail) {
        self.note(Family::Refreshed, None, why.index());
    }

    /// An origin sent an interim response; whether it was passed on.
    pub fn interim(&self, sent: bool) {
        self.note(Family::Interim, None, usize::from(sent));
    }

    /// A fetch of slices of a large object ended.
    pub fn slices(&self, end: RunEnd) {
        self.note(Family::Slices, None, end.index());
    }

    /// Something was fetched ahead of any request for it.
    pub fn prefetched(&self, source: PrefetchSource, result: PrefetchResult) {
        let column = source.index() * PrefetchResult::WORDS.len() + result.index();
        self.note(Family::Prefetch, None, column);
    }

    fn note(&self, family: Family, row: Option<u32>, column: usize) {
        self.tables.borrow().note(family, row, column);
    }
}

impl PlanMetrics {
    /// Phase 16.
    pub fn count(&self, record: &RequestRecord<'_>) {
        let column = record.outcome as usize * CLASSES.len() + class(record.status);
        let bucket = bucket(record.head);
        let (tables, route) = (&self.tables, record.route);
        tables.note(Family::Requests, route, column);
        let duration = [(bucket, 1), (SUM, record.head)];
        tables.note_all(Family::RouteDuration, route, duration);
        if let Some(bytes) = record.bytes {
            tables.note_all(Family::ResponseBytes, route, [(0, bytes)]);
        }
        if let Some(histogram) = self.cells.latency.get(record.outcome as usize) {
            histogram.note(bucket, record.head);
        }
        if !record.hit
            && let Some(detail) = record.detail
        {
            tables.note(Family::Forwarded, None, detail.index());
        }
    }

    /// Content of a route, if there is one, was sent to a client: that many bytes.
    pub fn bytes_out(&self, route: Option<u32>, bytes: u64) {
        let tables = &self.tables;
        tables.note_all(Family::ResponseBytes, route, [(0, bytes)]);
    }

    /// Content was sent to a client in a country, if that is known: that many bytes.
    pub fn bytes_to(&self, country: Option<Country>, bytes: u64) {
        let row = country.and_then(|country| u32::try_from(country.index()).ok());
        let tables = &self.tables;
        tables.note_all(Family::CountryBytes, row, [(0, bytes)]);
    }

    /// An origin sent content for a route: that many bytes.
    pub fn bytes_in(&self, origin: OriginId, route: RouteId, bytes: u64) {
        let (tables, counts) = (&self.tables, [(0, bytes)]);
        tables.note_all(Family::OriginBytes, Some(origin.0), counts);
        tables.note_all(Family::RouteOriginBytes, Some(route.0), counts);
    }

    /// A request met a rate limit.
    pub fn rate(&self, limit: &RateLimit, decision: &RateDecision) {
        let column = match decision.result {
            Ok(wait) if wait.is_zero() => 0,
            Ok(_) => 1,
            Err(_) => 2,
        };
        self.tables.note(Family::Rates, Some(limit.index), column);
    }

    /// A group had to go on to its next member.
    pub fn failover(&self, group: GroupId) {
        self.tables.note(Family::Failover, Some(group.0), 0);
    }

    /// A request to an origin has ended: with a status, or with its failure.
    pub fn origin(&self, origin: OriginId, result: Result<StatusCode, Detail>, took: Duration) {
        let (tables, row) = (&self.tables, Some(origin.0));
        tables.note_duration(Family::OriginDuration, row, micros(took));
        let column = match result {
            Ok(status) => class(status.as_u16()),
            Err(error) => CLASSES.len() + error.index(),
        };
        tables.note(Family::Origin, row, column);
    }

    /// The call of a callable has ended.
    pub fn hook(&self, call: CallableId, phase: Phase, result: CallResult, took: Duration) {
        let column = phase.index() * CallResult::WORDS.len() + result.index();
        let (tables, row) = (&self.tables, Some(call.0));
        tables.note(Family::Calls, row, column);
        tables.note_duration(Family::CallDuration, row, micros(took));
    }

    /// A hook wanted to transform the content of a response.
    pub fn transform(&self, call: CallableId, passed: Option<Untransformed>) {
        let column = passed.map_or(0, |why| 1 + why.index());
        self.tables.note(Family::Transforms, Some(call.0), column);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Position in [`CLASSES`].
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}
