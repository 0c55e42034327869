//! Phases 10 to 13 as the client sees them: it leads a flight, follows one, or goes alone.

use std::{
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::{
        decide::{self, Allowance, Decision, Failure, OriginHealth},
        freshness::Freshness,
        key,
        slices::{ContentRange, First},
        storable::{Authorization, NotStored},
        tags, validate, vary,
    },
    http::{cache_control::RequestDirectives, range::Range, structured::Forward},
    origin::retry_after,
    plan::{Group, Route, Target},
};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use tokio::{
    sync::{oneshot, watch},
    task::spawn_local,
};

use super::{
    Held, Missing,
    flight::{Cut, fly},
    keep::head_effects,
    purged::{asked, unpurged},
    send::{Served, as_asked, part_of, read_along, stored, straight},
    slices::{self, Begin, Coverage, Fetched},
};
use crate::{
    account::Owner,
    body::EdgeBody,
    connection::Conn,
    request::{
        Exchange,
        answer::{self, Early},
        origin::{self, Received, Unanswered},
    },
    store::{
        Descent, Entry, Join, Landing, Object,
        arriving::Reader,
        flight::{ArrivingResponse, Departure, Lead, Reuse},
        run,
    },
    telemetry::Outcome,
    upstream::{FetchError, RequestBody, Unavailable, Wanted},
    worker::Worker,
};

/// What a flight brought its leader.
pub(super) enum Flown {
    /// Not to be shared: the leader alone gets it.
    Own(Received, NotStored),
    /// With the fields that only the leader gets.
    Arriving(Arc<ArrivingResponse>, Reader, HeaderMap),
    Stored(Arc<Entry>, Reuse, HeaderMap),
    /// The reader keeps what comes in until it is sent.
    Cut(Cut, Option<run::Reader>),
    Failed(Unanswered),
    /// A part was asked for of what cannot be kept in slices, and this came.
    NotSliceable(&'static str, Option<(Received, ContentRange)>),
}

/// What is needed to judge an answer after the client's request is gone.
pub(super) struct Question {
    pub url_key: Vec<u8>,
    pub dimensions: Vec<u8>,
    /// Fields that viewer hooks changed: the key sees them.
    pub hooked: Vec<HeaderName>,
    pub request: HeaderMap,
    pub method: Method,
    /// As for `vary::secondary`.
    pub reduced: vary::Reduced,
    pub directives: RequestDirectives,
    pub authorization: Authorization,
    /// Why nothing may be stored, whatever the answer says.
    pub forbidden: Option<NotStored>,
    pub stale: Option<Arc<Entry>>,
    /// What the origin is asked for, where that is not the whole.
    pub slice: Option<First>,
    /// What had happened to stored responses before the fetch departs.
    pub departs: Departure,
    /// The path that the viewer asked for, where it is not the one in the key.
    pub viewer: Option<Box<str>>,
    /// How long the slowest reader may hold up an object that is too large to be stored.
    pub stall: Duration,
    /// On whose behalf what comes is held.
    pub owner: Owner,
}

/// Phases 10 to 13 for a request that may use the cache.
pub async fn fetch(
    x: &mut Exchange,
    route: &Route,
    mut missing: Box<Missing>,
    body: RequestBody,
) -> Result<Response<EdgeBody>, Early> {
    x.note.forward = Some(missing.why);
    x.note.detail = Some(missing.detail);
    x.note.outcome = Outcome::Miss;
    if let Some(Held { entry, lacking }) = missing.held.take()
        && let Some(object) = entry.object()
    {
        match fill(x, route, &entry, object, lacking).await? {
            Filled::Answer(response) => return Ok(response),
            Filled::Changed => {
                // It is out of the store: what there is now comes as for anybody who asks first.
                (missing.why, missing.detail) = (Forward::UriMiss, "changed");
                (x.note.forward, x.note.detail) = (Some(missing.why), Some(missing.detail));
            }
            Filled::Refused => {
                // Whatever the origin means by it, it may say to this client.
                x.note.detail = Some("slice-refused");
                missing.collapse = false;
            }
        }
    }
    let began = Instant::now();
    let patience = x.live.plan.limits.cache.coalesce_timeout;
    let (end, limit, group_name) = last_moment(x, route, began);
    let mut until = (began + patience).min(end);
    let mut took_over = None;
    let mut waited = false;
    if let Some(answer) = spared(x, route, &missing) {
        return answer;
    }
    while missing.collapse {
        let joined = match took_over.take() {
            Some(lead) => Join::Lead(lead),
            None => join(x, route, &missing.flight, &missing.url_key),
        };
        match joined {
            Join::Lead(lead) => {
                // Another worker's flight may have landed between the look-up and now.
                if let Some(entry) = arrived_meanwhile(x, route, &missing)
                    && let Some(object) = entry.object()
                {
                    x.note.collapsed = true;
                    let served = Served::Collapsed;
                    return Ok(stored(x, route, &entry, object, served, Begin::Anywhere));
                }
                match self::lead(x, route, &missing, lead).await? {
                    Some(response) => return Ok(response),
                    None => break,
                }
            }
            Join::Follow(landing, since) => {
                match follow(x, route, &missing, landing, since, until).await? {
                    Followed::Answer(response) => return Ok(response),
                    Followed::Lead => {}
                    Followed::Split(flight) => missing.flight = flight,
                    Followed::Alone => break,
                    // No time to wait is given: each request goes for itself.
                    Followed::Late if patience.is_zero() => break,
                    Followed::Late => {
                        if Instant::now() >= end {
                            let error = FetchError::Deadline(group_name.to_string(), limit);
                            return on_failure(x, route, missing.last_good(), &error.into());
                        }
                        x.note.collapsed = true;
                        if let Some(stale) = stand_in(x, route, missing.last_good(), Failure::Error)
                        {
                            return Ok(stale);
                        }
                        x.note.collapsed = false;
                        took_over = x
                            .worker
                            .shared
                            .flights
                            .take_over(&missing.flight, departure(x));
                        until = (Instant::now() + RETRY).min(end);
                    }
                }
            }
            // Another request for this key has led within the second, and brought nothing. Where no stored response may be
            // used the next turn is waited for once, so that a failure is told soon.
            Join::Wait(wait) => {
                let stale = stand_in(x, route, missing.last_good(), Failure::Disconnected);
                if let Some(stale) = stale {
                    return Ok(stale);
                }
                if waited {
                    return unhealthy(x, route, missing.last_good());
                }
                waited = true;
                let turn = (Instant::now() + wait).min(end);
                tokio::time::sleep_until(turn.into()).await;
                x.now = x.worker.clock.unix_now();
            }
        }
        if let Some(entry) = arrived_meanwhile(x, route, &missing)
            && took_over.is_none()
            && let Some(object) = entry.object()
        {
            x.note.collapsed = true;
            return Ok(stored(
                x,
                route,
                &entry,
                object,
                Served::Collapsed,
                Begin::Anywhere,
            ));
        }
    }
    if let Some(answer) = spared(x, route, &missing) {
        return answer;
    }
    fetch_alone(x, route, missing, body).await
}

/// The answer while the `Retry-After` of a 503 on this key runs: a stale response that an error allows, or the edge's own
/// 503, which has nothing of the origin's but when to ask again.
fn spared(
    x: &mut Exchange,
    route: &Route,
    missing: &Missing,
) -> Option<Result<Response<EdgeBody>, Early>> {
    let flights = &x.worker.shared.flights;
    let retry_after = flights.retry_after(&missing.url_key, &missing.dimensions)?;
    if let Some(stale) = stand_in(x, route, missing.last_good(), Failure::Error) {
        return Some(Ok(stale));
    }
    x.note.outcome = Outcome::Error;
    x.note.forward = None;
    x.note.detail = Some("origin-busy");
    let busy = answer::text(
        StatusCode::SERVICE_UNAVAILABLE,
        "The origin is busy. Try again a little later.",
    );
    Some(Ok(answer::with(busy, header::RETRY_AFTER, retry_after)))
}

/// How long a stored response that an error allows is held back once no origin is healthy: what is on its way may still
/// come.
const SHORT_WAIT: Duration = Duration::from_millis(250);
/// How often a request that has waited for `coalesce_timeout` asks whether it may lead.
const RETRY: Duration = Duration::from_secs(1);

/// When a request that follows others gives up, and how long that is after it began.
fn last_moment(x: &Exchange, route: &Route, began: Instant) -> (Instant, Duration, Arc<str>) {
    let group = group_of(x, route);
    let limit = group.map_or(Duration::ZERO, |group| x.live.plan.deadline(group));
    let name = group.map_or_else(|| Arc::from(""), |group| Arc::clone(&group.name));
    (began + limit, limit, name)
}

fn group_of<'x>(x: &'x Exchange, route: &Route) -> Option<&'x Group> {
    match route.target {
        Target::Group(group) => x.live.plan.group(group),
        _ => None,
    }
}

/// Waits for what a flight brings. `None`: every origin is unhealthy and silent, and the stored response that their failure would allow
/// need not wait any longer.
async fn patiently<T>(
    x: &Exchange,
    route: &Route,
    stale: Option<&Arc<Entry>>,
    since: Instant,
    brings: impl Future<Output = T>,
) -> Option<T> {
    let allowed = stale.is_some_and(|entry| {
        entry.object().is_some_and(|object| {
            let own = directives(x, route);
            let (freshness, failure) = (&object.freshness, Failure::Disconnected);
            decide::on_error(freshness, &own, &route.cache, failure, x.now)
                .is_some_and(|allowance| stands(&slices::at_hand(x, entry, &object), allowance))
        })
    });
    let Some(group) = group_of(x, route).filter(|_| allowed) else {
        return Some(brings.await);
    };
    let board = &x.worker.shared.health;
    tokio::select! {
        biased;
        brought = brings => Some(brought),
        () = async {
            let silent = board.silent(&x.live.plan, group).await;
            tokio::time::sleep_until((silent.max(since) + SHORT_WAIT).into()).await;
        } => None,
    }
}

/// The stored response because every origin is unhealthy and silent.
fn unhealthy(
    x: &mut Exchange,
    route: &Route,
    stale: Option<LastGood>,
) -> Result<Response<EdgeBody>, Early> {
    let name = group_of(x, route).map_or_else(String::new, |group| group.name.to_string());
    let failed = Unavailable {
        error: FetchError::Unhealthy(name),
        disconnected: true,
    };
    x.now = x.worker.clock.unix_now();
    on_failure(x, route, stale, &failed)
}

/// What came of a stored response that lacked its first bytes.
enum Filled {
    Answer(Response<EdgeBody>),
    Changed,
    Refused,
}

/// Has the first bytes of a stored response fetched before its head is sent.
async fn fill(
    x: &mut Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: Object,
    lacking: Range,
) -> Result<Filled, Early> {
    let fetched = slices::first(x, route, entry, &object, lacking).await?;
    x.now = x.worker.clock.unix_now();
    let (served, begin) = match fetched {
        Fetched::Own(begin, status) => {
            x.note.forward_status = Some(status);
            x.note.stored = true;
            (Served::Filled, begin)
        }
        Fetched::Shared(begin) => (Served::Joined, begin),
        Fetched::Changed => return Ok(Filled::Changed),
        Fetched::Refused => return Ok(Filled::Refused),
        Fetched::Failed(error) => {
            return on_failure(x, route, None, &error).map(Filled::Answer);
        }
    };
    let response = stored(x, route, entry, object, served, begin);
    Ok(Filled::Answer(response))
}

/// Starts a flight and takes what it brings; `None` when the request has to be made alone.
async fn lead(
    x: &mut Exchange,
    route: &Route,
    missing: &Missing,
    lead: Lead,
) -> Result<Option<Response<EdgeBody>>, Early> {
    let question = question(x, route, missing);
    let mut ask = x.origin_request(route, true)?;
    let (landed, leader) = oneshot::channel();
    let waits = waits(x);
    let (own, followed) = (Rc::downgrade(&waits), lead.followed());
    ask.wanted = Some(Wanted::new(move || followed() || still(&own)));
    let (worker, lead, landed) = (Rc::clone(&x.worker), Some(lead), Some(landed));
    spawn_local(fly(worker, ask, question, lead, landed));
    let stale = missing.stale.as_ref();
    let Some(landed) = patiently(x, route, stale, Instant::now(), leader).await else {
        return unhealthy(x, route, missing.last_good()).map(Some);
    };
    match landed {
        Ok(Flown::NotSliceable(why, came)) => {
            x.note.detail = Some(why);
            x.note.forward_status = came.as_ref().map(|(received, _)| received.status);
            // Where what came does not hold all that is asked for, that is asked for by itself.
            Ok(came.and_then(|(received, part)| part_of(x, received, &part)))
        }
        Ok(flown) => arrive(x, route, flown).await.map(Some),
        Err(_) => Err(answer::origin_failed(false).into()),
    }
}

/// Kept while a client waits for its own flight.
struct Waits(Rc<Conn>);

fn waits(x: &Exchange) -> Rc<Waits> {
    Rc::new(Waits(Rc::clone(&x.conn)))
}

fn still(waits: &Weak<Waits>) -> bool {
    waits
        .upgrade()
        .is_some_and(|waits| !waits.0.is_half_closed())
}

/// What following a flight came to.
enum Followed {
    Answer(Response<EdgeBody>),
    /// Nobody leads any more: this request may.
    Lead,
    /// The answer is for requests that differ from this one in what `Vary` names: those that agree with it meet here.
    Split(Vec<u8>),
    /// The answer is nobody else's.
    Alone,
    /// The time to wait is over.
    Late,
}

async fn follow(
    x: &mut Exchange,
    route: &Route,
    missing: &Missing,
    mut landing: watch::Receiver<Landing>,
    since: Instant,
    until: Instant,
) -> Result<Followed, Early> {
    let lands = tokio::time::timeout_at(
        until.into(),
        landing.wait_for(|landing| !matches!(landing, Landing::Waiting)),
    );
    let landed = match patiently(x, route, missing.stale.as_ref(), since, lands).await {
        None => {
            x.note.collapsed = true;
            return unhealthy(x, route, missing.last_good()).map(Followed::Answer);
        }
        Some(Err(_)) => return Ok(Followed::Late),
        Some(Ok(Ok(landed))) => landed.clone(),
        // The sender is gone without a word: as good as lost.
        Some(Ok(Err(_))) => Landing::Lost,
    };
    x.now = x.worker.clock.unix_now();
    match landed {
        Landing::Arriving(arriving) => {
            let reduced = route.cache.reduced();
            let mut secondary = Vec::new();
            vary::secondary(&mut secondary, &arriving.vary, &x.head.headers, reduced);
            if *secondary != *arriving.secondary {
                return Ok(Followed::Split(split(missing, &arriving.vary, &secondary)));
            }
            if may_share(x, route, &arriving.freshness)
                && let Some(reader) = arriving.body.reader()
            {
                x.note.collapsed = true;
                x.note.outcome = Outcome::Coalesced;
                return Ok(Followed::Answer(read_along(x, &arriving, reader)));
            }
            Ok(Followed::Alone)
        }
        Landing::Stored(entry, reuse) => {
            let Some(object) = entry.object() else {
                return Ok(Followed::Alone);
            };
            let served = match reuse {
                Reuse::Revalidated | Reuse::Cut(_) if may_share(x, route, &object.freshness) => {
                    Served::Collapsed
                }
                Reuse::StaleOnError(_, failure, status) => {
                    let own = directives(x, route);
                    let Some(allowance) =
                        decide::on_error(&object.freshness, &own, &route.cache, failure, x.now)
                    else {
                        return Ok(Followed::Alone);
                    };
                    x.note.forward_status = status;
                    Served::StaleOnError(allowance)
                }
                _ => return Ok(Followed::Alone),
            };
            if !suits(x, route, &entry, missing) {
                return Ok(Followed::Alone);
            }
            x.note.collapsed = true;
            let response = stored(x, route, &entry, object, served, Begin::Anywhere);
            Ok(Followed::Answer(response))
        }
        Landing::Failed(error) => {
            x.note.collapsed = true;
            on_failure(x, route, missing.last_good(), &error).map(Followed::Answer)
        }
        Landing::Lost => Ok(Followed::Lead),
        Landing::Waiting | Landing::Released => Ok(Followed::Alone),
    }
}

/// Whether an answer that somebody else asked for may be reused for this request (RFC 9111 §4).
fn may_share(x: &Exchange, route: &Route, freshness: &Freshness) -> bool {
    !matches!(
        decide::decide(
            freshness,
            &directives(x, route),
            &route.cache,
            OriginHealth::Healthy,
            x.now
        ),
        Decision::Validate(_)
    )
}

fn directives(x: &Exchange, route: &Route) -> RequestDirectives {
    if route.cache.request_directives {
        RequestDirectives::parse(&x.head.headers)
    } else {
        RequestDirectives::default()
    }
}

/// Where requests meet that agree in what `Vary` names.
fn split(missing: &Missing, names: &[HeaderName], secondary: &[u8]) -> Vec<u8> {
    let mut flight = missing.url_key.clone();
    flight.extend_from_slice(&missing.dimensions);
    for name in names {
        flight.push(b'\n');
        flight.extend_from_slice(name.as_str().as_bytes());
    }
    flight.push(0);
    flight.extend_from_slice(secondary);
    flight
}

/// What this request may use and did not find when it was looked up.
fn arrived_meanwhile(x: &Exchange, route: &Route, missing: &Missing) -> Option<Arc<Entry>> {
    let entry = selected(x, route, missing)?;
    let known = missing.stale.as_ref();
    let new = known.is_none_or(|stale| !Arc::ptr_eq(stale, &entry));
    if !new {
        return None;
    }
    let entry = unpurged(x, entry)?;
    may_share(x, route, &entry.freshness()?).then_some(entry)
}

/// Follows a flight, unless a purge or an unsafe request has come since it departed.
fn join(x: &Exchange, route: &Route, flight_key: &[u8], url_key: &[u8]) -> Join {
    let shared = &x.worker.shared;
    let silent = group_of(x, route).map(|group| shared.health.is_silent(&x.live.plan, group));
    let outdated = |then: Departure| {
        shared.purges.outdates(then.purge, url_key, asked(x))
            || shared.invalidations.outdate(url_key, then.invalidation)
    };
    let spare = silent.unwrap_or(false);
    shared
        .flights
        .join(flight_key, departure(x), outdated, spare)
}

pub(super) fn departure(x: &Exchange) -> Departure {
    Departure {
        purge: x.worker.shared.purges.newest(),
        invalidation: x.worker.shared.invalidations.newest(),
    }
}

/// Whether a follower's own request selects this entry.
fn suits(x: &Exchange, route: &Route, entry: &Entry, missing: &Missing) -> bool {
    if *entry.key() == *missing.url_key {
        return true;
    }
    selected(x, route, missing).is_some_and(|own| *own.key() == *entry.key())
}

/// The stored response that a request selects.
fn selected(x: &Exchange, route: &Route, missing: &Missing) -> Option<Arc<Entry>> {
    let store = &x.worker.shared.store;
    let url = missing.url_key.len();
    let mut key = missing.url_key.clone();
    key.extend_from_slice(&missing.dimensions);
    let reduced = route.cache.reduced();
    let mut descent = Descent::new(key.len() > url, &x.head.headers, reduced);
    let mut entry = store.peek(key::parent(&key, url))?;
    while descent.descend(entry.view(), &mut key) {
        entry = store.peek(&key)?;
    }
    entry.is_object().then_some(entry)
}

/// Without company: the answer is streamed to this client, and stored on the side when it may be.
async fn fetch_alone(
    x: &mut Exchange,
    route: &Route,
    missing: Box<Missing>,
    body: RequestBody,
) -> Result<Response<EdgeBody>, Early> {
    let question = question(x, route, &missing);
    // Where answers are not stored anyway, the origin had better judge the client's own conditions.
    let own_conditions = missing.unshared && validate::is_conditional(&x.head.headers);
    let hooked = x.runs_any(&route.hooks.origin_response);
    let whole = x.head.method == Method::GET
        && !x.has_body
        // A part of what is stale and stored whole is cut from what the validation brings.
        && (hooked
            || ((!x.head.headers.contains_key(header::RANGE) || question.stale.is_some())
                && !own_conditions));
    let mut ask = x.origin_request(route, whole || hooked)?;
    if whole {
        let (landed, leader) = oneshot::channel();
        let waits = waits(x);
        let own = Rc::downgrade(&waits);
        ask.wanted = Some(Wanted::new(move || still(&own)));
        let worker = Rc::clone(&x.worker);
        let stale = question.stale.clone();
        spawn_local(fly(worker, ask, question, None, Some(landed)));
        let landed = patiently(x, route, stale.as_ref(), Instant::now(), leader).await;
        let Some(landed) = landed else {
            return unhealthy(x, route, missing.last_good());
        };
        return match landed {
            Ok(flown) => arrive(x, route, flown).await,
            Err(_) => Err(answer::origin_failed(false).into()),
        };
    }
    ask.wanted = Some(x.wanted());
    match origin::fetch(&mut ask, body).await {
        Ok(received) => {
            x.note.forward_status = Some(received.status);
            let mut received = received;
            tags::take(&mut received.headers, &route.cache);
            if x.head.method == Method::HEAD {
                head_effects(&x.worker, route, &question, &received);
            }
            spare(&x.worker, &question, &received);
            if decide::is_error(received.status)
                && let Some(stale) = stand_in(x, route, missing.last_good(), Failure::Error)
            {
                return Ok(stale);
            }
            Ok(if hooked {
                as_asked(x, *received)
            } else {
                straight(*received)
            })
        }
        Err(Unanswered::Early(early)) => Err(early),
        Err(Unanswered::Failed(error)) => on_failure(x, route, missing.last_good(), &error),
    }
}

/// Notes that the origin wants to be spared.
pub(super) fn spare(worker: &Worker, question: &Question, received: &Received) {
    let now = received.received_at;
    if let Some((pause, field)) = retry_after::pause(received.status, &received.headers, now) {
        let flights = &worker.shared.flights;
        flights.spare(&question.url_key, &question.dimensions, pause, field);
    }
}

fn question(x: &Exchange, route: &Route, missing: &Missing) -> Question {
    Question {
        url_key: missing.url_key.clone(),
        dimensions: missing.dimensions.clone(),
        hooked: x.hooked.clone(),
        request: x.head.headers.clone(),
        method: x.head.method.clone(),
        reduced: route.cache.reduced(),
        directives: directives(x, route),
        authorization: x.authorization(route),
        forbidden: x.forbidden(),
        stale: missing.stale.clone(),
        slice: missing.slice,
        departs: departure(x),
        viewer: (x.viewer_path.path() != x.head.uri.path()).then(|| x.viewer_path.path().into()),
        stall: x.live.plan.limits.http.body_timeout,
        owner: x.owner(route),
    }
}

/// The leader's view of what its flight brought.
async fn arrive(
    x: &mut Exchange,
    route: &Route,
    flown: Flown,
) -> Result<Response<EdgeBody>, Early> {
    match flown {
        Flown::Own(received, why) => {
            x.note.forward_status = Some(received.status);
            x.note.stored = false;
            x.note.detail = Some(why.as_str());
            Ok(as_asked(x, received))
        }
        Flown::Arriving(arriving, reader, aside) => {
            x.note.forward_status = Some(arriving.status);
            x.note.stored = true;
            Ok(with_aside(read_along(x, &arriving, reader), aside))
        }
        Flown::Stored(entry, reuse, aside) => match entry.object() {
            Some(object) => {
                let served = match reuse {
                    Reuse::RevalidatedForOne => {
                        x.note.forward_status = Some(StatusCode::NOT_MODIFIED);
                        Served::Revalidated
                    }
                    Reuse::Cut(_) => Served::Cut,
                    Reuse::Revalidated => {
                        x.note.forward_status = Some(StatusCode::NOT_MODIFIED);
                        x.note.stored = true;
                        Served::Revalidated
                    }
                    Reuse::StaleOnError(allowance, _, status) => {
                        x.note.forward_status = status;
                        Served::StaleOnError(allowance)
                    }
                };
                let response = match slices::at_hand(x, &entry, &object) {
                    coverage if matches!(served, Served::StaleOnError(allowance) if !stands(&coverage, allowance)) =>
                    {
                        x.note.outcome = Outcome::Error;
                        answer::origin_failed(false)
                    }
                    Coverage::Lacking(lacking) => {
                        match fill(x, route, &entry, object, lacking).await? {
                            Filled::Answer(response) => response,
                            Filled::Changed | Filled::Refused => answer::origin_failed(false),
                        }
                    }
                    Coverage::Whole(begin) | Coverage::Coming(begin) | Coverage::Partly(begin) => {
                        stored(x, route, &entry, object, served, begin)
                    }
                };
                Ok(with_aside(response, aside))
            }
            None => Err(answer::origin_failed(false).into()),
        },
        Flown::Cut(cut, reader) => match cut.entry.object() {
            Some(object) => {
                x.note.forward_status = Some(cut.status);
                x.note.stored = true;
                let begin = reader.map_or(Begin::Anywhere, Begin::Run);
                let response = stored(x, route, &cut.entry, object, Served::Cut, begin);
                Ok(with_aside(response, cut.aside))
            }
            None => Err(answer::origin_failed(false).into()),
        },
        Flown::NotSliceable(..) => Err(answer::origin_failed(false).into()),
        Flown::Failed(Unanswered::Early(early)) => Err(early),
        Flown::Failed(Unanswered::Failed(error)) => on_failure(x, route, None, &error),
    }
}

/// Gives the client whose request brought a response what is kept from all others.
pub(super) fn with_aside(mut response: Response<EdgeBody>, aside: HeaderMap) -> Response<EdgeBody> {
    if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().extend(aside);
    }
    response
}

/// A stored response that may stand in for its origin, as it was looked up.
pub struct LastGood {
    entry: Arc<Entry>,
    url_key: Vec<u8>,
    since: Departure,
}

impl Missing {
    fn last_good(&self) -> Option<LastGood> {
        Some(LastGood {
            entry: Arc::clone(self.stale.as_ref()?),
            url_key: self.url_key.clone(),
            since: self.since,
        })
    }
}

/// The last good copy, where it may stand in (RFC 5861 §4, RFC 9111 §4.2.4), or the news that nobody answered.
pub fn on_failure(
    x: &mut Exchange,
    route: &Route,
    stale: Option<LastGood>,
    failed: &Unavailable,
) -> Result<Response<EdgeBody>, Early> {
    if let Some(stale) = stand_in(x, route, stale, failed.failure()) {
        return Ok(stale);
    }
    x.note.outcome = Outcome::Error;
    x.note.detail = Some(failed.error.as_str());
    Ok(match &failed.error {
        FetchError::NoMemory => answer::overloaded(),
        error => answer::origin_failed(error.is_timeout()),
    })
}

/// The stored response in place of an origin that failed, where it may be.
fn stand_in(
    x: &mut Exchange,
    route: &Route,
    stale: Option<LastGood>,
    failure: Failure,
) -> Option<Response<EdgeBody>> {
    x.now = x.worker.clock.unix_now();
    let LastGood {
        entry,
        url_key,
        since,
    } = stale?;
    let invalidations = &x.worker.shared.invalidations;
    // RFC 9111 §4.4: what an unsafe request has invalidated meanwhile is no answer any more, and nor is what was purged.
    if invalidations.outdate(&url_key, since.invalidation) {
        return None;
    }
    let entry = unpurged(x, entry)?;
    let object = entry.object()?;
    let allowance = decide::on_error(
        &object.freshness,
        &directives(x, route),
        &route.cache,
        failure,
        x.now,
    )?;
    // What would break off in the middle is no stand-in.
    match slices::at_hand(x, &entry, &object) {
        coverage if !stands(&coverage, allowance) => None,
        Coverage::Whole(begin) | Coverage::Coming(begin) => {
            let served = Served::StaleOnError(allowance);
            Some(stored(x, route, &entry, object, served, begin))
        }
        Coverage::Partly(_) | Coverage::Lacking(_) => None,
    }
}

/// Whether enough of a stored response is here for it to stand in for its origin: all that is asked for. What is still on its way
/// from an origin that cannot be reached does not count.
fn stands(coverage: &Coverage, allowance: Allowance) -> bool {
    match coverage {
        Coverage::Whole(_) => true,
        Coverage::Coming(_) => allowance != Allowance::Disconnected,
        Coverage::Partly(_) | Coverage::Lacking(_) => false,
    }
}

/// Refreshes a response behind the back of the client that is served with it: one fetch a key at a time, and none of an
/// origin that is sick but for its trials. `why` is for the metrics.
pub(super) fn refresh_behind(
    x: &Exchange,
    route: &Route,
    why: &'static str,
    missing: impl FnOnce() -> Missing,
) {
    let admits = match route.target {
        Target::Group(group) => x
            .live
            .plan
            .group(group)
            .is_some_and(|group| x.worker.shared.health.admits(&x.live.plan, group)),
        _ => false,
    };
    // Nothing would come of it that may be stored.
    if !admits || x.forbidden().is_some() {
        return;
    }
    let missing = missing();
    let flights = &x.worker.shared.flights;
    let busy = flights.retry_after(&missing.url_key, &missing.dimensions);
    if busy.is_some() {
        return;
    }
    let Join::Lead(lead) = join(x, route, &missing.flight, &missing.url_key) else {
        return;
    };
    let Ok(mut ask) = x.origin_request(route, true) else {
        return;
    };
    ask.waits = None;
    ask.method = Method::GET;
    x.worker.metrics.refreshed(why);
    let mut question = question(x, route, &missing);
    question.method = Method::GET;
    spawn_local(fly(Rc::clone(&x.worker), ask, question, Some(lead), None));
}
