//! One shared fetch, from the request to the origin to what is stored of the response.

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    cache::{
        agreement::Sees,
        arrival::{AnsweredRequest, ArrivalDecision, ArrivedResponse, StoreBounds, as_whole},
        decide::{self, Failure},
        slices::{ContentRange, First, strong_validator},
        storable::NotStored,
        tags, validate, vary,
    },
    http::range::Range,
    plan::Route,
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{
    fetch::{Flown, Question, spare},
    keep::{freshen, keep, outdate, remember_unshared, take_in},
    purged::gone,
    slices,
};
use crate::{
    request::origin::{self, OriginRequest, Received, ReceivedBody, Unanswered},
    store::{
        Arriving, Birth, Entry, Landing, Object, Slices,
        flight::{ArrivingResponse, Lead, Reuse},
        run::{self, Begun, Run},
    },
    upstream::{FetchError, RequestBody, Unavailable, UpstreamBody},
    worker::Worker,
};

/// One shared fetch: requests from the origin, decides what may be stored, and notifies everyone who waits. It finishes
/// even if the client that caused it disconnects. Without a `lead` nobody can follow.
pub(super) async fn fly(
    worker: Rc<Worker>,
    mut ask: OriginRequest,
    question: Question,
    lead: Option<Lead>,
    leader: Option<oneshot::Sender<Flown>>,
) {
    let (landing, flown) = match depart(&worker, &mut ask, &question).await {
        Departed::Own(received, why) => {
            outdate(&worker, &question, &received, why);
            if lead.is_some() && why.lasts() {
                remember_unshared(&worker, &question);
            }
            worker.metrics.not_stored(why.as_str());
            // What only this request's own words forbid says nothing about the others: the next one leads.
            let landing = match why {
                NotStored::RequestNoStore => Landing::Lost,
                _ => Landing::Released,
            };
            (landing, Flown::Own(received, why))
        }
        Departed::Failed(failure) => {
            // One failure is enough to know: a stampede would not make the origin better.
            let landing = match &failure {
                // It gave way while nobody followed: a request that has followed since leads.
                Unanswered::Failed(Unavailable {
                    error: FetchError::GaveWay(_),
                    ..
                }) => Landing::Lost,
                Unanswered::Failed(error) => Landing::Failed(error.clone()),
                Unanswered::Early(_) => Landing::Released,
            };
            (landing, Flown::Failed(failure))
        }
        Departed::Stored(entry, reuse, aside) => {
            let landing = match reuse {
                Reuse::RevalidatedForOne => Landing::Released,
                _ => Landing::Stored(Arc::clone(&entry), reuse),
            };
            (landing, Flown::Stored(entry, reuse, aside))
        }
        Departed::Cut(cut) => {
            let reader = leader.as_ref().and_then(|_| cut.reader());
            let landing = Landing::Stored(Arc::clone(&cut.entry), Reuse::Cut(cut.status));
            (landing, Flown::Cut(cut, reader))
        }
        Departed::NotSliceable(why, came) => {
            if lead.is_some() {
                remember_unshared(&worker, &question);
                worker.metrics.not_stored(why);
            }
            (Landing::Released, Flown::NotSliceable(why, came))
        }
        Departed::Storing(mut arrival) => {
            let aside = std::mem::take(&mut arrival.aside);
            let arriving = &arrival.arriving;
            if let (Some(leader), Some(reader)) = (leader, arriving.body.reader()) {
                let _ = leader.send(Flown::Arriving(Arc::clone(arriving), reader, aside));
            }
            if let Some(lead) = &lead {
                lead.land(Landing::Arriving(Arc::clone(arriving)));
            }
            return take_in(&worker, *arrival, &question).await;
        }
    };
    if let Some(lead) = lead {
        lead.land(landing);
    }
    if let Some(leader) = leader {
        let _ = leader.send(flown);
    }
}

/// The outcome of a fetch.
pub(super) enum Departed {
    Own(Received, NotStored),
    /// With the fields that only the client gets whose request brought it.
    Stored(Arc<Entry>, Reuse, HeaderMap),
    Cut(Cut),
    Storing(Box<Arrival>),
    Failed(Unanswered),
    /// The response to a request for a slice cannot be stored in slices.
    NotSliceable(&'static str, Option<(Received, ContentRange)>),
}

/// A large response, stored in slices that are coming in.
pub(super) struct Cut {
    pub entry: Arc<Entry>,
    /// The origin's.
    pub status: StatusCode,
    /// Fields that only the client gets whose request brought it.
    pub aside: HeaderMap,
    /// `None` where a newer response was stored already.
    run: Option<Arc<Run>>,
}

impl Cut {
    /// From the first byte, as long as none has come.
    fn reader(&self) -> Option<run::Reader> {
        self.run.as_ref()?.first_reader()
    }
}

/// A storable response whose body is still to come.
pub(super) struct Arrival {
    pub arriving: Arc<ArrivingResponse>,
    pub body: ReceivedBody,
    /// When the request was sent.
    pub started: Instant,
    /// XFetch's beta, where the route refreshes ahead.
    pub refresh_ahead: Option<f64>,
    pub set_aside: SmallVec<[HeaderName; 2]>,
    /// Fields that only the client gets whose request brought it.
    pub aside: HeaderMap,
    pub birth: Birth,
}

/// Requests from the origin, and decides about the response.
async fn depart(worker: &Rc<Worker>, ask: &mut OriginRequest, question: &Question) -> Departed {
    let live = Rc::clone(&ask.live);
    let Some(route) = live.plan.route(ask.route) else {
        return Departed::Failed(Unanswered::Failed(FetchError::no_origin().into()));
    };
    if let Some(value) = question.slice.and_then(First::value) {
        ask.headers.insert(header::RANGE, value);
    }
    let started = Instant::now();
    let stale = question.stale.as_ref();
    let stale = stale.and_then(|entry| Some((entry, entry.freshness()?, entry.object()?.headers)));
    let mut unconditional = None;
    if let Some((.., stored)) = &stale
        && validate::has_validator(stored)
    {
        unconditional = Some(ask.headers.clone());
        validate::conditional_headers(stored, &mut ask.headers);
    }
    let mut answer = origin::fetch(ask, RequestBody::Empty).await;
    if let Ok(received) = &answer
        && received.status == StatusCode::NOT_MODIFIED
        && let Some((.., stored)) = &stale
        && !validate::selects(stored, &received.headers)
        && let Some(headers) = unconditional.take()
    {
        // Not modified, but not what we have: only the whole response helps (§4.3.3).
        ask.headers = headers;
        answer = origin::fetch(ask, RequestBody::Empty).await;
    }
    if let Ok(received) = &answer
        && received.status == StatusCode::NOT_MODIFIED
        && unconditional.is_none()
    {
        let why = "304 to a request without conditions".to_owned();
        let error = FetchError::BadResponse("the origin".to_owned(), why);
        answer = Err(Unanswered::Failed(error.into()));
    }
    let mut birth = question.birth(Box::default());
    let failed = match &mut answer {
        Ok(received) => {
            spare(worker, question, received);
            birth.tags = tags::take(&mut received.headers, &route.cache);
            let status = received.status;
            decide::is_error(status).then_some((Failure::Error, Some(status), received.received_at))
        }
        Err(Unanswered::Failed(error)) => Some((error.failure(), None, worker.clock.unix_now())),
        Err(Unanswered::Early(_)) => None,
    };
    if let Some((failure, status, now)) = failed
        && let Some((entry, freshness, _)) = &stale
        && let Some(allowance) =
            decide::on_error(freshness, &question.directives, &route.cache, failure, now)
        // RFC 9111 §4.4, and purges: a response that was invalidated during the fetch does not stand in for its origin.
        && !gone(worker, entry)
        && !(worker.shared.invalidations).outdate(&question.url_key, question.departs.invalidation)
    {
        let reuse = Reuse::StaleOnError(allowance, failure, status);
        return Departed::Stored(Arc::clone(entry), reuse, HeaderMap::new());
    }
    let received = match answer {
        Ok(received) => received,
        Err(unanswered) => return Departed::Failed(unanswered),
    };
    if received.status == StatusCode::NOT_MODIFIED
        && let Some((entry, ..)) = stale
    {
        let took = started.elapsed();
        return freshen(worker, route, question, entry, &received, took, birth).unwrap_or_else(
            || Departed::Failed(Unanswered::Failed(FetchError::no_origin().into())),
        );
    }
    judge(worker, route, question, *received, started, birth)
}

/// How a response that is no 304 is stored, if it is.
pub(super) fn judge(
    worker: &Rc<Worker>,
    route: &Route,
    question: &Question,
    mut received: Received,
    started: Instant,
    birth: Birth,
) -> Departed {
    let streamed = matches!(received.body, ReceivedBody::Upstream(_));
    let bounds = StoreBounds {
        largest: worker.shared.store.largest(),
        slice: (worker.slice_bytes(&worker.live())).filter(|_| route.cache.slices && streamed),
    };
    let origin_status = received.status;
    let storing = match question.answered(route).decide(&received.arrived(), bounds) {
        ArrivalDecision::Own(why, part) => {
            if let Some(part) = part {
                as_whole(&mut received.status, &mut received.headers, part);
            }
            return Departed::Own(received, why);
        }
        ArrivalDecision::Unsliced(why, part) => {
            return Departed::NotSliceable(why, part.map(|part| (received, part)));
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
            let cut = slice_up(
                worker,
                question,
                object,
                &storing.vary,
                came,
                upstream,
                birth,
            );
            return cut.map_or_else(
                || Departed::Failed(Unanswered::Failed(FetchError::no_origin().into())),
                |(entry, run)| {
                    if let Some(run) = &run {
                        run.begin(Begun::Coming(origin_status));
                    }
                    Departed::Cut(Cut {
                        entry,
                        status: origin_status,
                        aside,
                        run,
                    })
                },
            );
        }
        (_, body) => body,
    };
    let mut secondary = Vec::new();
    vary::secondary(
        &mut secondary,
        &storing.vary,
        &question.request,
        question.reduced,
    );
    let arriving = Arc::new(ArrivingResponse {
        status: received.status,
        headers: head.headers,
        content_length: storing.length,
        freshness,
        upstream_status: head.upstream_status,
        vary: storing.vary,
        secondary: secondary.into_boxed_slice(),
        body: Arriving::new(&worker.shared.account, question.owner),
    });
    Departed::Storing(Box::new(Arrival {
        arriving,
        body,
        started,
        refresh_ahead: beta,
        set_aside: head.set_aside,
        aside,
        birth,
    }))
}

/// Stores the head of a large response, and starts the task that takes its body in slice by slice.
fn slice_up(
    worker: &Rc<Worker>,
    question: &Question,
    object: Object,
    names: &[HeaderName],
    came: Range,
    upstream: UpstreamBody,
    birth: Birth,
) -> Option<(Arc<Entry>, Option<Arc<Run>>)> {
    let length = object.length;
    let validator = strong_validator(&object.headers).cloned();
    let entry = keep(worker, question, names, object, birth)?;
    let kept = entry.object()?;
    let Some(cut) = kept
        .slices
        .filter(|_| kept.length == length && strong_validator(&kept.headers) == validator.as_ref())
    else {
        // A newer one that another flight has brought: these bytes are not part of it.
        return Some((entry, None));
    };
    let ahead = worker.live().plan.limits.cache.read_ahead_bytes;
    let shared = &worker.shared;
    let run = shared
        .runs
        .start(cut.nonce, came, ahead, &shared.account, question.owner);
    tokio::task::spawn_local(slices::receive(
        Rc::clone(worker),
        Arc::clone(&entry),
        cut,
        Arc::clone(&run),
        upstream,
    ));
    Some((entry, Some(run)))
}

impl Question {
    /// As decisions about a response see the request.
    pub(super) fn answered<'a>(&'a self, route: &'a Route) -> AnsweredRequest<'a> {
        AnsweredRequest {
            method: &self.method,
            directives: &self.directives,
            authorization: self.authorization,
            forbidden: self.forbidden,
            slice: self.slice,
            sees: Sees {
                route,
                hooked: &self.hooked,
            },
        }
    }

    pub(super) fn birth(&self, tags: Box<[u64]>) -> Birth {
        Birth {
            born: self.departs.purge,
            viewer: self.viewer.clone(),
            tags,
        }
    }
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
