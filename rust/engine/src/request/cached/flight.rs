//! A flight: asks the origin, judges the answer, tells whoever waits. Runs to its end whoever goes away meanwhile.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::{
        agreement::Sees,
        decide::{self, Allowance, Failure},
        freshness::{self, Freshness},
        refresh_ahead,
        slices::{ContentRange, strong_validator, usable, worth_cutting},
        storable::{self, NotStored, StoreInput},
        tags, validate,
        vary::{self, Vary},
    },
    http::{cache_control::ResponseDirectives, range::Range},
    plan::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{
    fetch::{Flown, Question, spare},
    keep::{ForStoring, for_storing, freshen, keep, millis, outdate, remember_unshared, take_in},
    purged::gone,
    slices,
};
use crate::{
    request::origin::{self, OriginRequest, Received, ReceivedBody, Unanswered, content_length},
    store::{
        Arriving, Birth, Entry, Landing, Object, Slices,
        flight::{ArrivingResponse, Lead, Reuse},
        run::{self, Begun, Run},
    },
    upstream::{FetchError, RequestBody, Unavailable},
    worker::Worker,
};

/// The leader's flight. Runs to its end whoever goes away meanwhile.
pub(super) async fn fly(
    worker: Rc<Worker>,
    mut ask: OriginRequest,
    question: Question,
    lead: Lead,
    leader: Option<oneshot::Sender<Flown>>,
) {
    let flown = depart(&worker, &mut ask, &question).await;
    match flown {
        Departed::Own(received, why) => {
            outdate(&worker, &question, &received, why);
            if why.lasts() {
                remember_unshared(&worker, &question);
            }
            worker.metrics.not_stored(why.as_str());
            // What only this request's own words forbid says nothing about the others: the next one leads.
            let own = why == NotStored::RequestNoStore;
            lead.land(if own {
                Landing::Lost
            } else {
                Landing::Released
            });
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Own(received, why));
            }
        }
        Departed::Failed(failure) => {
            // One failure is enough to know: a stampede would not make the origin better.
            lead.land(match &failure {
                // It gave way while nobody followed: one who follows since then leads.
                Unanswered::Failed(Unavailable {
                    error: FetchError::GaveWay(_),
                    ..
                }) => Landing::Lost,
                Unanswered::Failed(error) => Landing::Failed(error.clone()),
                Unanswered::Early(_) => Landing::Released,
            });
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Failed(failure));
            }
        }
        Departed::Stored(entry, reuse, aside) => {
            lead.land(match reuse {
                Reuse::RevalidatedForOne => Landing::Released,
                _ => Landing::Stored(Arc::clone(&entry), reuse),
            });
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Stored(entry, reuse, aside));
            }
        }
        Departed::Cut(cut) => {
            let reader = leader.as_ref().and_then(|_| cut.reader());
            let reuse = Reuse::Cut(cut.status);
            lead.land(Landing::Stored(Arc::clone(&cut.entry), reuse));
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Cut(cut, reader));
            }
        }
        Departed::NotSliceable(why, came) => {
            remember_unshared(&worker, &question);
            worker.metrics.not_stored(why);
            lead.land(Landing::Released);
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::NotSliceable(why, came));
            }
        }
        Departed::Storing(mut arrival) => {
            let aside = std::mem::take(&mut arrival.aside);
            let arriving = &arrival.arriving;
            if let (Some(leader), Some(reader)) = (leader, arriving.body.reader()) {
                let _ = leader.send(Flown::Arriving(Arc::clone(arriving), reader, aside));
            }
            lead.land(Landing::Arriving(Arc::clone(arriving)));
            take_in(&worker, *arrival, &question).await;
            drop(lead);
        }
    }
}

/// As `fly`, with nobody following.
pub(super) async fn fly_alone(
    worker: Rc<Worker>,
    mut ask: OriginRequest,
    question: Question,
    leader: oneshot::Sender<Flown>,
) {
    match depart(&worker, &mut ask, &question).await {
        Departed::Own(received, why) => {
            outdate(&worker, &question, &received, why);
            worker.metrics.not_stored(why.as_str());
            let _ = leader.send(Flown::Own(received, why));
        }
        Departed::Failed(failure) => {
            let _ = leader.send(Flown::Failed(failure));
        }
        Departed::Stored(entry, reuse, aside) => {
            let _ = leader.send(Flown::Stored(entry, reuse, aside));
        }
        Departed::Cut(cut) => {
            let reader = cut.reader();
            let _ = leader.send(Flown::Cut(cut, reader));
        }
        Departed::NotSliceable(why, came) => {
            let _ = leader.send(Flown::NotSliceable(why, came));
        }
        Departed::Storing(mut arrival) => {
            let aside = std::mem::take(&mut arrival.aside);
            if let Some(reader) = arrival.arriving.body.reader() {
                let arriving = Arc::clone(&arrival.arriving);
                let _ = leader.send(Flown::Arriving(arriving, reader, aside));
            }
            take_in(&worker, *arrival, &question).await;
        }
    }
}

/// What an answer turned out to be.
pub(super) enum Departed {
    Own(Received, NotStored),
    /// With what only the client gets whose request brought it.
    Stored(Arc<Entry>, Reuse, HeaderMap),
    Cut(Cut),
    Storing(Box<Arrival>),
    Failed(Unanswered),
    /// What came of a request for a slice cannot be stored in slices.
    NotSliceable(&'static str, Option<(Received, ContentRange)>),
}

/// A large response, stored in slices that are coming in.
pub(super) struct Cut {
    pub entry: Arc<Entry>,
    /// The origin's.
    pub status: StatusCode,
    /// What only the client gets whose request brought it.
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

/// A storable answer whose body is still to come.
pub(super) struct Arrival {
    pub arriving: Arc<ArrivingResponse>,
    pub received: Received,
    /// When the origin was asked.
    pub started: Instant,
    /// XFetch's beta, where the route refreshes ahead.
    pub refresh_ahead: Option<f64>,
    pub set_aside: SmallVec<[HeaderName; 2]>,
    /// What is set aside, for the client whose request brought it.
    pub aside: HeaderMap,
    pub birth: Birth,
}

/// Asks, and judges the answer.
async fn depart(worker: &Rc<Worker>, ask: &mut OriginRequest, question: &Question) -> Departed {
    let live = Rc::clone(&ask.live);
    let Some(route) = live.plan.route(ask.route) else {
        return Departed::Failed(Unanswered::Failed(FetchError::no_origin().into()));
    };
    let validating = match question.stale.as_ref().and_then(|entry| entry.object()) {
        Some(object) => validate::has_validator(&object.headers),
        None => false,
    };
    if let Some(slice) = question.slice
        && let Some(value) = slice.value()
    {
        ask.headers.insert(header::RANGE, value);
    }
    let started = Instant::now();
    let unconditional = if validating {
        ask.headers.clone()
    } else {
        HeaderMap::new()
    };
    if let Some(object) = question.stale.as_ref().and_then(|entry| entry.object()) {
        validate::conditional_headers(&object.headers, &mut ask.headers);
    }
    let mut asked = origin::fetch(ask, RequestBody::Empty).await;
    if let Ok(received) = &asked
        && received.status == StatusCode::NOT_MODIFIED
    {
        let about_ours = match question.stale.as_ref().and_then(|entry| entry.object()) {
            Some(object) => validating && validate::selects(&object.headers, &received.headers),
            None => false,
        };
        if validating && !about_ours {
            // Not modified, but not what we have: only the whole response helps (§4.3.3).
            ask.headers = unconditional;
            asked = origin::fetch(ask, RequestBody::Empty).await;
        }
        if let Ok(received) = &asked
            && received.status == StatusCode::NOT_MODIFIED
            && !about_ours
        {
            let why = "304 to a request without conditions".to_owned();
            let error = FetchError::BadResponse("the origin".to_owned(), why);
            asked = Err(Unanswered::Failed(error.into()));
        }
    }
    let stale = question
        .stale
        .as_ref()
        .and_then(|entry| Some((entry, entry.freshness()?)));
    // RFC 9111 §4.4, and purges: what was invalidated while the origin was asked does not stand in for it.
    let invalidated = |entry: &Entry| {
        let invalidations = &worker.shared.invalidations;
        gone(worker, entry)
            || invalidations.outdate(&question.url_key, question.departs.invalidation)
    };
    let mut received = match asked {
        Ok(received) => received,
        Err(Unanswered::Failed(error)) => {
            if let Some((entry, freshness)) = stale
                && let Some(allowance) = decide::on_error(
                    &freshness,
                    &question.directives,
                    &route.cache,
                    error.failure(),
                    worker.clock.unix_now(),
                )
                && !invalidated(entry)
            {
                return stands_in(entry, allowance, error.failure(), None);
            }
            return Departed::Failed(Unanswered::Failed(error));
        }
        Err(early) => return Departed::Failed(early),
    };
    spare(worker, question, &received);
    let tags = tags::take(&mut received.headers, &route.cache);
    let mut birth = Birth {
        born: question.departs.purge,
        viewer: question.viewer.clone(),
        tags,
    };
    if let Some((entry, freshness)) = stale {
        if received.status == StatusCode::NOT_MODIFIED
            && validating
            && let Some(object) = entry.object()
        {
            if birth.tags.is_empty() {
                birth.tags = entry.tags().into();
            }
            return freshen(
                worker,
                route,
                question,
                entry,
                object,
                &received,
                started.elapsed(),
                birth,
            );
        }
        if decide::is_error(received.status)
            && let Some(allowance) = decide::on_error(
                &freshness,
                &question.directives,
                &route.cache,
                Failure::Error,
                received.received_at,
            )
            && !invalidated(entry)
        {
            return stands_in(entry, allowance, Failure::Error, Some(received.status));
        }
    }
    judge(worker, route, question, *received, started, birth)
}

/// What of an answer that is no 304 can be stored, and how.
pub(super) fn judge(
    worker: &Rc<Worker>,
    route: &Route,
    question: &Question,
    mut received: Received,
    started: Instant,
    birth: Birth,
) -> Departed {
    let unsliced = |received: Received, why: &'static str| {
        let part = ContentRange::of(&received.headers).filter(|part| {
            let announced = content_length(&received.headers);
            announced.is_none_or(|length| length == part.length())
        });
        Departed::NotSliceable(why, part.map(|part| (received, part)))
    };
    let part = match question.slice {
        Some(slice) if received.status == StatusCode::PARTIAL_CONTENT => {
            match usable(slice, received.status, &received.headers) {
                Ok(part) => Some(part),
                Err(why) => return unsliced(received, why.as_str()),
            }
        }
        _ => None,
    };
    let size = worker
        .slice_bytes(&worker.live())
        .filter(|_| route.cache.slices && matches!(received.body, ReceivedBody::Upstream(_)));
    let cut = |headers: &HeaderMap, length: Option<u64>| {
        size.filter(|&size| length.is_some_and(|length| worth_cutting(headers, length, size)))
    };
    // Only slices hold a part: what is not worth cutting has come whole, or is not stored.
    if let Some(part) = part
        && !part.is_all()
        && cut(&received.headers, Some(part.complete)).is_none()
    {
        return unsliced(received, NotStored::Partial.as_str());
    }
    let origin_status = received.status;
    let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
    let judged = |received: &Received, status| {
        storable::storable(&StoreInput {
            method: &question.method,
            request: &question.request,
            request_directives: &question.directives,
            authorization: question.authorization,
            status,
            response: &received.headers,
            directives: &directives,
            policy: &route.cache,
            now: received.received_at,
        })
    };
    // A part is judged as the whole that it is of (RFC 9111 §3.4).
    let status = if part.is_some() {
        StatusCode::OK
    } else {
        received.status
    };
    let forbidden = question.forbidden.or(received.hooked.forbids);
    if let Err(why) = judged(&received, status).and_then(|()| forbidden.map_or(Ok(()), Err)) {
        return match part {
            Some(_) => unsliced(received, why.as_str()),
            None => Departed::Own(received, why),
        };
    }
    if let Some(part) = part {
        as_whole(&mut received, part);
    }
    let announced = content_length(&received.headers);
    let cut = cut(&received.headers, announced);
    if cut.is_none() && announced.is_some_and(|length| length > worker.shared.store.largest()) {
        return Departed::Own(received, NotStored::TooLarge);
    }
    let mut names = match vary::of(&received.headers) {
        Vary::None => SmallVec::new(),
        Vary::Names(mut names) => {
            let hooked = &question.hooked;
            Sees { route, hooked }.selecting(&mut names);
            names
        }
        Vary::Star => return Departed::Own(received, NotStored::VaryStar),
    };
    received.hooked.join(&mut names);
    let freshness = freshness::freshness(
        received.status,
        &received.headers,
        &directives,
        &route.cache,
        received.requested_at,
        received.received_at,
    );
    if let Some(size) = cut {
        let plan = Cutting {
            size,
            came: part.map_or_else(|| everything(announced), |part| part.range),
            took: started.elapsed(),
            beta: route.cache.refresh_ahead,
            status: origin_status,
        };
        return slice_up(
            worker,
            route,
            question,
            received,
            &directives,
            freshness,
            &names,
            &plan,
            birth,
        )
        .map_or_else(
            || Departed::Failed(Unanswered::Failed(FetchError::no_origin().into())),
            Departed::Cut,
        );
    }
    let mut secondary = Vec::new();
    vary::secondary(&mut secondary, &names, &question.request, question.reduced);
    let ForStoring {
        headers,
        set_aside,
        aside,
        upstream_status,
    } = for_storing(&mut received.headers, &directives, &route.cache);
    let arriving = Arc::new(ArrivingResponse {
        status: received.status,
        headers,
        content_length: announced,
        freshness,
        upstream_status,
        vary: names,
        secondary: secondary.into_boxed_slice(),
        body: Arriving::new(&worker.shared.account, question.owner),
    });
    Departed::Storing(Box::new(Arrival {
        arriving,
        received,
        started,
        refresh_ahead: route.cache.refresh_ahead,
        set_aside,
        aside,
        birth,
    }))
}

/// The stored response in place of an origin that failed.
fn stands_in(
    entry: &Arc<Entry>,
    allowance: Allowance,
    failure: Failure,
    status: Option<StatusCode>,
) -> Departed {
    let reuse = Reuse::StaleOnError(allowance, failure, status);
    Departed::Stored(Arc::clone(entry), reuse, HeaderMap::new())
}

/// A part takes the status and the length of the whole that it is of.
fn as_whole(received: &mut Received, part: ContentRange) {
    received.status = StatusCode::OK;
    received.headers.remove(header::CONTENT_RANGE);
    received
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(part.complete));
}

fn everything(length: Option<u64>) -> Range {
    Range {
        first: 0,
        last: length.unwrap_or(0).saturating_sub(1),
    }
}

/// How a large response is cut.
struct Cutting {
    size: u64,
    /// What of it has come.
    came: Range,
    /// Until its head was here: a refresh costs no more, as it asks for the head only.
    took: Duration,
    beta: Option<f64>,
    /// The origin's.
    status: StatusCode,
}

/// Stores the head of a large response, and has its body taken in slice by slice.
#[allow(clippy::too_many_arguments)] // one caller, which has them at hand
fn slice_up(
    worker: &Rc<Worker>,
    route: &Route,
    question: &Question,
    mut received: Received,
    directives: &ResponseDirectives,
    freshness: Freshness,
    names: &[HeaderName],
    plan: &Cutting,
    birth: Birth,
) -> Option<Cut> {
    let length = content_length(&received.headers)?;
    let ReceivedBody::Upstream(upstream) = received.body else {
        return None;
    };
    let ForStoring {
        headers,
        set_aside,
        aside,
        upstream_status,
    } = for_storing(&mut received.headers, directives, &route.cache);
    let validator = strong_validator(&headers).cloned();
    let object = Object {
        status: received.status,
        took: millis(plan.took),
        refresh_from: refresh_ahead::begins(&freshness, millis(plan.took), plan.beta),
        has_validator: true,
        headers,
        freshness,
        body: smallvec::SmallVec::new(),
        length,
        slices: Some(Slices {
            size: plan.size,
            nonce: worker.random(),
        }),
        upstream_status,
        set_aside,
    };
    let entry = keep(worker, question, names, object, birth)?;
    let kept = entry.object()?;
    let of_run = |run| Cut {
        entry: Arc::clone(&entry),
        status: plan.status,
        aside,
        run,
    };
    let Some(cut) = kept
        .slices
        .filter(|_| kept.length == length && strong_validator(&kept.headers) == validator.as_ref())
    else {
        // A newer one that another flight has brought: these bytes are not part of it.
        return Some(of_run(None));
    };
    let ahead = worker.live().plan.limits.cache.read_ahead_bytes;
    let shared = &worker.shared;
    let run = shared
        .runs
        .start(cut.nonce, plan.came, ahead, &shared.account, question.owner);
    run.begin(Begun::Coming(plan.status));
    tokio::task::spawn_local(slices::receive(
        Rc::clone(worker),
        Arc::clone(&entry),
        cut,
        Arc::clone(&run),
        upstream,
    ));
    Some(of_run(Some(run)))
}
