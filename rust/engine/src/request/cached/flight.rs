//! One shared fetch, from the request to the origin to the stored response.

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    cache::{
        arrival::{ArrivalDecision, ArrivedResponse, StoreBounds, as_whole},
        decide::{self, Outage},
        slices::{First, strong_validator},
        tags, validate, vary,
    },
    http::{FieldName, FieldValue, Fields, header, range::Range},
    plan::Route,
};
use http::StatusCode;
use tokio::sync::oneshot;

use super::{
    keep::{freshen, keep, remember_unshared, take_in},
    missing::CacheFetch,
    outcome::{Arrival, FetchOutcome},
    purged::gone,
    slices::fill::receive,
};
use crate::{
    request::origin::{self, OriginRequest, Received, ReceivedBody, Unanswered},
    store::{
        Arriving, Entry, Object, PurgeFacts, Slices,
        flight::{ArrivingResponse, Lead, Reuse},
        run::{Begun, Run},
    },
    upstream::{FetchError, RequestBody, UpstreamBody},
    worker::Worker,
};

/// One shared fetch: requests from the origin, decides what may be stored, and notifies everyone who waits. It finishes
/// even if the client that caused it disconnects. Without a `lead` no request can follow.
pub(super) async fn fly(
    worker: Rc<Worker>,
    mut request: OriginRequest,
    fetch: CacheFetch,
    mut lead: Option<Lead>,
    leader: Option<oneshot::Sender<FetchOutcome>>,
) {
    let (outcome, arrival) = depart(&worker, &mut request, &fetch).await;
    match &outcome {
        FetchOutcome::Own(received, why) => {
            // A whole response that may not be stored ends the stale one: it would come back on the next error, or
            // while it is refreshed.
            if let Some(stale) = &fetch.stale
                && why.outdates(received.status)
            {
                worker.shared.cache.store.remove_same(stale);
            }
            if lead.is_some() && why.lasts() {
                remember_unshared(&worker, &fetch.question);
            }
            worker.metrics.not_stored(*why);
        }
        FetchOutcome::NotSliceable(why, _) if lead.is_some() => {
            remember_unshared(&worker, &fetch.question);
            worker.metrics.not_stored(*why);
        }
        _ => {}
    }
    if let Some(lead) = &lead {
        lead.report(outcome.shared());
    }
    if arrival.is_none() {
        lead.take();
    }
    if let Some(leader) = leader {
        let _ = leader.send(outcome);
    }
    // Requests can follow until the entry can be found.
    if let Some(arrival) = arrival {
        take_in(&worker, arrival, &fetch).await;
    }
}

/// Requests from the origin, and decides about the response.
async fn depart(
    worker: &Rc<Worker>,
    request: &mut OriginRequest,
    fetch: &CacheFetch,
) -> (FetchOutcome, Option<Arrival>) {
    let live = Rc::clone(&request.live);
    let Some(route) = live.plan.route(request.route) else {
        return (FetchOutcome::no_origin(), None);
    };
    if let Some(value) = fetch.slice.and_then(First::value) {
        request.headers.insert(header::RANGE, value);
    }
    let started = Instant::now();
    let stale = fetch.stale.as_ref();
    let stale = stale.and_then(|entry| Some((entry, entry.freshness()?, entry.object()?.headers)));
    let mut unconditional = None;
    if let Some((.., stored)) = &stale
        && validate::has_validator(stored)
    {
        unconditional = Some(request.headers.clone());
        validate::conditional_headers(stored, &mut request.headers);
    }
    let mut answer = origin::fetch(request, RequestBody::Empty).await;
    if let Ok(received) = &answer
        && received.status == StatusCode::NOT_MODIFIED
        && let Some((.., stored)) = &stale
        && !validate::selects(stored, &received.headers)
        && let Some(headers) = unconditional.take()
    {
        // Not modified, but not what we have: only the whole response helps (§4.3.3).
        request.headers = headers;
        answer = origin::fetch(request, RequestBody::Empty).await;
    }
    if let Ok(received) = &answer
        && received.status == StatusCode::NOT_MODIFIED
        && unconditional.is_none()
    {
        let why = "304 to a request without conditions".to_owned();
        let error = FetchError::BadResponse("the origin".to_owned(), why);
        answer = Err(Unanswered::Failed(error.into()));
    }
    let mut facts = fetch.facts(Box::default());
    let failed = match &mut answer {
        Ok(received) => {
            fetch.spare(worker, received);
            let named = tags::take(&mut received.headers, &route.cache);
            facts.tags = tags::with(named, &received.hooked.tags);
            let status = received.status;
            decide::is_error(status).then_some((Outage::Error, Some(status), received.received_at))
        }
        Err(Unanswered::Failed(error)) => Some((error.failure(), None, worker.clock.unix_now())),
        Err(Unanswered::Early(_)) => None,
    };
    if let Some((failure, status, now)) = failed
        && let Some((entry, freshness, _)) = &stale
        && let Some(allowance) =
            decide::on_error(freshness, &fetch.question.directives, &route.cache, failure, now)
        // RFC 9111 §4.4, and purges: a response that was invalidated during the fetch does not stand in for its origin.
        && !gone(worker, entry)
        && !(worker.shared.cache).is_invalid(fetch.question.key.url(), fetch.departs)
    {
        let reuse = Reuse::StaleOnError(allowance, failure, status);
        let stored = FetchOutcome::Stored(Arc::clone(entry), reuse, None, Fields::new());
        return (stored, None);
    }
    let received = match answer {
        Ok(received) => received,
        Err(unanswered) => return (FetchOutcome::Failed(unanswered), None),
    };
    if received.status == StatusCode::NOT_MODIFIED
        && let Some((entry, ..)) = stale
    {
        let took = started.elapsed();
        let fresh = freshen(worker, route, fetch, entry, &received, took, facts);
        return (fresh.unwrap_or_else(FetchOutcome::no_origin), None);
    }
    evaluate(worker, route, fetch, *received, started, facts)
}

/// Decides whether and how a response that is no 304 is stored.
pub(super) fn evaluate(
    worker: &Rc<Worker>,
    route: &Route,
    fetch: &CacheFetch,
    mut received: Received,
    started: Instant,
    facts: PurgeFacts,
) -> (FetchOutcome, Option<Arrival>) {
    let streamed = matches!(received.body, ReceivedBody::Upstream(_));
    let bounds = StoreBounds {
        largest: worker.shared.cache.store.largest(),
        slice: (worker.slice_bytes(&worker.live())).filter(|_| route.cache.slices && streamed),
    };
    let origin_status = received.status;
    let storing = match fetch.answered(route).decide(&received.arrived(), bounds) {
        ArrivalDecision::Own(why, part) => {
            if let Some(part) = part {
                as_whole(&mut received.status, &mut received.headers, part);
            }
            return (FetchOutcome::Own(received, why), None);
        }
        ArrivalDecision::Unsliced(why, part) => {
            let part = part.map(|part| (received, part));
            return (FetchOutcome::NotSliceable(why, part), None);
        }
        ArrivalDecision::Stored(storing) => storing,
    };
    let mut head = storing.head(&mut received.status, &mut received.headers, &route.cache);
    let aside = std::mem::take(&mut head.aside);
    let (freshness, beta) = (storing.freshness, route.cache.refresh_ahead);
    let body = match (storing.slices, received.body) {
        (Some((size, came)), ReceivedBody::Upstream(upstream)) => {
            // Only the head is timed: a refresh requests no more.
            let object = Object::new(received.status, head, freshness, started.elapsed(), beta);
            let slices = Some(Slices {
                size,
                nonce: worker.random(),
            });
            let length = storing.length.unwrap_or_default();
            let object = Object {
                length,
                slices,
                ..object
            };
            let Some((entry, run)) =
                slice_up(worker, fetch, object, &storing.vary, came, upstream, facts)
            else {
                return (FetchOutcome::no_origin(), None);
            };
            if let Some(run) = &run {
                run.begin(Begun::Coming(origin_status));
            }
            let reader = run.filter(|_| fetch.awaited);
            let reader = reader.and_then(|run| run.first_reader());
            let reuse = Reuse::Cut(origin_status);
            return (FetchOutcome::Stored(entry, reuse, reader, aside), None);
        }
        (_, body) => body,
    };
    let mut secondary = Vec::new();
    let (request, reduced) = (&fetch.question.request, fetch.question.reduced);
    vary::secondary(&mut secondary, &storing.vary, request, reduced);
    let arriving = Arc::new(ArrivingResponse {
        status: received.status,
        headers: head.headers,
        content_length: storing.length,
        freshness,
        upstream_status: head.upstream_status,
        vary: storing.vary,
        secondary: secondary.into_boxed_slice(),
        body: Arriving::new(&worker.shared.account, fetch.owner),
    });
    let reader = fetch.awaited.then(|| arriving.body.reader()).flatten();
    let outcome = FetchOutcome::Arriving(Arc::clone(&arriving), reader, aside);
    let arrival = Arrival {
        arriving,
        body,
        started,
        refresh_ahead: beta,
        set_aside: head.set_aside,
        facts,
    };
    (outcome, Some(arrival))
}

/// Stores the head of a large response, and starts the task that takes its body in slice by slice.
fn slice_up(
    worker: &Rc<Worker>,
    fetch: &CacheFetch,
    object: Object,
    names: &[FieldName],
    came: Range,
    upstream: Box<UpstreamBody>,
    facts: PurgeFacts,
) -> Option<(Arc<Entry>, Option<Arc<Run>>)> {
    let length = object.length;
    let validator = strong_validator(&object.headers).map(FieldValue::owned);
    let entry = keep(worker, fetch, names, object, facts)?;
    let kept = entry.object()?;
    let Some(cut) = kept.slices.filter(|_| {
        kept.length == length
            && strong_validator(&kept.headers) == validator.as_ref().map(FieldValue::from)
    }) else {
        // A newer one that another flight has brought: these bytes are not part of it.
        return Some((entry, None));
    };
    let ahead = worker.live().plan.limits.cache.read_ahead_bytes;
    let shared = &worker.shared;
    let run = shared
        .cache
        .runs
        .start(cut.nonce, came, ahead, &shared.account, fetch.owner);
    tokio::task::spawn_local(receive(
        Rc::clone(worker),
        Arc::clone(&entry),
        cut,
        Arc::clone(&run),
        upstream,
    ));
    Some((entry, Some(run)))
}

impl Received {
    /// As decisions about it see it.
    pub(super) fn arrived(&self) -> ArrivedResponse<'_> {
        ArrivedResponse {
            status: self.status,
            headers: &self.headers,
            hooked: &self.hooked,
            requested_at: self.requested_at,
            received_at: self.received_at,
        }
    }
}
