//! Phases 8, 9 and 13: the key, the look-up, and what becomes of an origin's answer.
//!
//! A response is found in at most two steps: the URL's own key, and where it has variants (by `Vary`, by the policy's
//! key, by an experiment) the variant's. Dropping the URL's entry makes all of its variants unreachable at once, so
//! invalidation never walks.

use std::{rc::Rc, sync::Arc, time::Duration};

use edgerouter_core::{
    cache::{
        decide::{self, Decision},
        freshness::{self, Freshness},
        key::{self, KeyParts},
        storable::{self, Authorization, NotStored, StoreInput},
        validate::{self, Outcome as Precondition},
        vary::{self, Vary},
    },
    finish::{self, Partial},
    http::{
        cache_control::{RequestDirectives, ResponseDirectives},
        range::{self, RangeRequest},
        structured::Forward,
    },
    plan::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use smallvec::SmallVec;
use tokio::{sync::oneshot, task::spawn_local};

use super::{
    Exchange,
    answer::{self, Early},
    origin::{self, Ask, Received, ReceivedBody, Unanswered, content_length},
};
use crate::{
    body::{EdgeBody, range_of},
    store::{
        Arriving, Content, Entry, Join, Landing, Object, Variants,
        arriving::End,
        entry,
        flight::{ArrivingResponse, Lead, Reuse},
    },
    telemetry::Outcome,
    upstream::{FetchError, RequestBody},
    worker::{LocalLive, Worker},
};

/// The outcome of a look-up.
pub enum Found {
    Answer(Response<EdgeBody>),
    /// The origin must be asked.
    Missing(Box<Missing>),
}

/// Why the origin is asked, and what for.
pub struct Missing {
    pub url_key: Vec<u8>,
    /// What tells responses for this URL apart besides `Vary`; empty for most routes.
    pub dimensions: Vec<u8>,
    pub stale: Option<Arc<Entry>>,
    pub why: Forward,
    pub detail: Option<&'static str>,
    /// Whether concurrent requests may wait for this one.
    pub collapse: bool,
}

/// Whether this request may use the cache at all.
pub fn cacheable(method: &Method, route: &Route) -> bool {
    route.cache.enabled && (method == Method::GET || method == Method::HEAD)
}

/// Phases 8 and 9.
pub fn look_up(x: &mut Exchange, route: &Route) -> Found {
    let worker = Rc::clone(&x.worker);
    let directives = if route.cache.request_directives {
        RequestDirectives::parse(&x.head.headers)
    } else {
        RequestDirectives::default()
    };
    let mut scratch = worker.key.borrow_mut();
    scratch.clear();
    key::url(
        &mut scratch,
        x.host(),
        x.head.uri.path(),
        x.head.uri.query(),
        &route.cache,
    );
    let url_length = scratch.len();
    let has_dimensions = dimensions(&mut scratch, x, route);
    let dimensions_end = scratch.len();

    let mut why = Forward::UriMiss;
    let mut unshared = false;
    let mut found = None;
    if let Some(entry) = worker
        .shared
        .store
        .get(scratch.get(..url_length).unwrap_or_default())
    {
        match &entry.content {
            Content::Object(_) if !has_dimensions => found = Some(entry),
            Content::Object(_) => why = Forward::VaryMiss,
            Content::Variants(variants) => {
                variant_key(&mut scratch, variants, &x.head.headers);
                why = Forward::VaryMiss;
                if let Some(entry) = worker.shared.store.get(&scratch) {
                    match entry.content {
                        Content::Object(_) => found = Some(entry),
                        Content::Unshared { until } => unshared = until > x.now,
                        Content::Variants(_) => {}
                    }
                }
            }
            Content::Unshared { until } => unshared = *until > x.now,
        }
    }

    let mut stale = None;
    let mut detail = None;
    if let Some(entry) = found
        && let Some(object) = entry.object()
    {
        match decide::decide(&object.freshness, &directives, &route.cache, x.now) {
            Decision::Fresh => {
                return Found::Answer(stored(x, route, &entry, object, Served::Fresh));
            }
            Decision::Stale { revalidate } => {
                let missing = || Missing {
                    url_key: scratch.get(..url_length).unwrap_or_default().to_vec(),
                    dimensions: scratch
                        .get(url_length..dimensions_end)
                        .unwrap_or_default()
                        .to_vec(),
                    stale: Some(Arc::clone(&entry)),
                    why: Forward::Stale,
                    detail: None,
                    collapse: true,
                };
                if revalidate {
                    refresh_behind(x, route, missing());
                }
                return Found::Answer(stored(x, route, &entry, object, Served::Stale));
            }
            Decision::Validate(reason) => {
                why = reason.forward();
                detail = Some(reason.as_str());
                stale = Some(Arc::clone(&entry));
            }
        }
    }
    if directives.only_if_cached {
        x.note.detail = Some("only-if-cached");
        x.note.forward = None;
        x.note.outcome = Outcome::Error;
        return Found::Answer(answer::text(
            StatusCode::GATEWAY_TIMEOUT,
            "Not in the cache, and the request asked for nothing else (only-if-cached).",
        ));
    }
    // A body would be part of the question, but not of the key.
    let plain =
        x.head.method == Method::GET && !x.has_body && !x.head.headers.contains_key(header::RANGE);
    if !plain {
        stale = stale.filter(|_| x.head.method == Method::HEAD);
    }
    Found::Missing(Box::new(Missing {
        url_key: scratch.get(..url_length).unwrap_or_default().to_vec(),
        dimensions: scratch
            .get(url_length..dimensions_end)
            .unwrap_or_default()
            .to_vec(),
        stale,
        why,
        detail,
        collapse: plain && route.cache.collapse && !unshared,
    }))
}

/// Appends what the route's policy makes part of the key beyond the URL; false when there is nothing.
fn dimensions(out: &mut Vec<u8>, x: &Exchange, route: &Route) -> bool {
    if !x.has_dimensions(route) {
        return false;
    }
    let claims: SmallVec<[(&str, &str); 2]> = route
        .cache
        .key_claims
        .iter()
        .map(|name| {
            (
                &**name,
                x.claims
                    .as_ref()
                    .and_then(|claims| claims.claim(name))
                    .unwrap_or_default(),
            )
        })
        .collect();
    let variants: SmallVec<[(&str, &str); 2]> = x.variants(route).collect();
    let parts = KeyParts {
        headers: &x.head.headers,
        policy: &route.cache,
        variants: &variants,
        claims: &claims,
        tag: route.key_tag.as_deref(),
    };
    key::dimensions(out, &parts);
    true
}

/// Extends URL key and dimensions to the key of a variant.
fn variant_key(out: &mut Vec<u8>, variants: &Variants, request: &HeaderMap) {
    out.push(0);
    out.extend_from_slice(&variants.nonce.to_le_bytes());
    vary::secondary(out, &variants.names, request);
}

/// In which state a stored response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    Fresh,
    /// Within stale-while-revalidate or the request's max-stale.
    Stale,
    Revalidated,
    /// Another request brought it.
    Collapsed,
    StaleOnError,
}

/// A response from the store, with conditions and ranges of the request answered.
pub fn stored(
    x: &mut Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    served: Served,
) -> Response<EdgeBody> {
    let _ = (entry, route);
    let request = &x.head.headers;
    let age = object.freshness.age(x.now);
    let ttl = object.freshness.ttl(x.now);
    x.note.outcome = match served {
        Served::Fresh => Outcome::Hit,
        Served::Stale => Outcome::Stale,
        Served::Revalidated => Outcome::Revalidated,
        Served::Collapsed => Outcome::Coalesced,
        Served::StaleOnError => Outcome::StaleOnError,
    };
    let status_field = match served {
        Served::Fresh | Served::Stale => {
            x.note.hit = true;
            if ttl >= 0 && object.upstream_status.is_none() {
                Some(x.worker.values.hit(&x.live.plan.via, ttl.unsigned_abs()))
            } else {
                x.note.ttl = Some(ttl);
                None
            }
        }
        Served::Revalidated | Served::Collapsed | Served::StaleOnError => {
            x.note.ttl = Some(ttl);
            None
        }
    };
    let mut headers = object.headers.clone();
    headers.insert(header::AGE, x.worker.values.age(age));
    match status_field {
        Some(value) => {
            headers.insert(super::CACHE_STATUS, value);
            x.note.written = true;
        }
        None => match &object.upstream_status {
            Some(upstream) => {
                headers.insert(super::CACHE_STATUS, upstream.clone());
            }
            None => {
                headers.remove(super::CACHE_STATUS);
            }
        },
    }
    match validate::precondition(&x.head.method, request, object.status, &object.headers) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            return answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty());
        }
        Precondition::Failed => {
            headers.remove(header::CONTENT_LENGTH);
            return answer::of(
                StatusCode::PRECONDITION_FAILED,
                HeaderMap::new(),
                EdgeBody::empty(),
            );
        }
    }
    if x.head.method == Method::HEAD {
        return answer::of(object.status, headers, EdgeBody::empty());
    }
    if object.status == StatusCode::OK
        && let Some(asked) = request.get(header::RANGE)
        && range::if_range(request, &object.headers)
    {
        match range::parse(asked, object.length) {
            RangeRequest::None => {}
            RangeRequest::Unsatisfiable => {
                let mut refused = finish::unsatisfiable(object.length);
                for name in [header::AGE, super::CACHE_STATUS, header::VIA, header::DATE] {
                    if let Some(value) = headers.remove(&name) {
                        refused.insert(name, value);
                    }
                }
                return answer::of(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    refused,
                    EdgeBody::empty(),
                );
            }
            RangeRequest::Satisfiable(ranges) => {
                match finish::partial(&mut headers, &ranges, object.length) {
                    None => {}
                    Some(Partial::Single(range)) => {
                        let body = EdgeBody::stored_range(&object.body, range.first, range.last);
                        return answer::of(StatusCode::PARTIAL_CONTENT, headers, body);
                    }
                    Some(Partial::Multi { parts, end, .. }) => {
                        let mut pieces = SmallVec::new();
                        for (head, range) in parts {
                            pieces.push(head);
                            pieces.extend(range_of(&object.body, range.first, range.last));
                        }
                        pieces.push(end);
                        return answer::of(
                            StatusCode::PARTIAL_CONTENT,
                            headers,
                            EdgeBody::pieces(pieces),
                        );
                    }
                }
            }
        }
    }
    answer::of(
        object.status,
        headers,
        EdgeBody::stored(&object.body, object.length),
    )
}

/// What a flight brought its leader.
enum Flown {
    /// Not to be shared: the leader alone gets it.
    Own(Received, NotStored),
    Arriving(Arc<ArrivingResponse>, crate::store::arriving::Reader),
    Stored(Arc<Entry>, Reuse),
    Failed(Unanswered),
}

/// What is needed to judge an answer after the client's request is gone.
struct Question {
    url_key: Vec<u8>,
    dimensions: Vec<u8>,
    request: HeaderMap,
    method: Method,
    directives: RequestDirectives,
    authorization: Authorization,
    stale: Option<Arc<Entry>>,
}

/// Phases 10 to 13 for a request that may use the cache.
pub async fn fetch(
    x: &mut Exchange,
    route: &Route,
    missing: Box<Missing>,
    body: RequestBody,
) -> Result<Response<EdgeBody>, Early> {
    x.note.forward = Some(missing.why);
    x.note.detail = missing.detail;
    x.note.outcome = Outcome::Miss;
    if !missing.collapse {
        return fetch_alone(x, route, missing, body).await;
    }
    let mut flight_key = missing.url_key.clone();
    flight_key.extend_from_slice(&missing.dimensions);
    match x.worker.shared.flights.join(&flight_key) {
        Join::Lead(lead) => {
            let question = question(x, route, &missing);
            let ask = x.ask(route, true)?;
            let (landed, leader) = oneshot::channel();
            let worker = Rc::clone(&x.worker);
            spawn_local(fly(worker, ask, question, lead, Some(landed)));
            match leader.await {
                Ok(flown) => arrive(x, route, flown),
                Err(_) => Err(answer::origin_failed(false).into()),
            }
        }
        Join::Follow(mut landing) => {
            let patience = x.live.plan.limits.coalesce_timeout;
            let landed = tokio::time::timeout(
                patience,
                landing.wait_for(|l| !matches!(l, Landing::Waiting)),
            )
            .await;
            let landed = match landed {
                Ok(Ok(landed)) => landed.clone(),
                _ => Landing::Released,
            };
            match landed {
                Landing::Arriving(arriving) => {
                    let mut secondary = Vec::new();
                    vary::secondary(&mut secondary, &arriving.vary, &x.head.headers);
                    if *secondary == *arriving.secondary
                        && let Some(reader) = arriving.body.reader()
                    {
                        x.note.collapsed = true;
                        x.note.outcome = Outcome::Coalesced;
                        return Ok(read_along(x, &arriving, reader));
                    }
                    fetch_alone(x, route, missing, body).await
                }
                Landing::Stored(entry, reuse) if suits(x, &entry, &missing) => match entry.object()
                {
                    Some(object) => {
                        x.note.collapsed = true;
                        let served = match reuse {
                            Reuse::Revalidated => Served::Collapsed,
                            Reuse::StaleOnError => Served::StaleOnError,
                        };
                        Ok(stored(x, route, &entry, object, served))
                    }
                    None => fetch_alone(x, route, missing, body).await,
                },
                Landing::Stored(..) | Landing::Waiting | Landing::Released => {
                    fetch_alone(x, route, missing, body).await
                }
            }
        }
    }
}

/// Whether a follower's own request selects this entry.
fn suits(x: &Exchange, entry: &Entry, missing: &Missing) -> bool {
    if *entry.key == *missing.url_key {
        return true;
    }
    let Some(parent) = x.worker.shared.store.peek(&missing.url_key) else {
        return false;
    };
    let Content::Variants(variants) = &parent.content else {
        return false;
    };
    let mut own = missing.url_key.clone();
    own.extend_from_slice(&missing.dimensions);
    variant_key(&mut own, variants, &x.head.headers);
    *entry.key == *own
}

/// Without company: the answer is streamed to this client, and stored on the side when it may be.
async fn fetch_alone(
    x: &mut Exchange,
    route: &Route,
    missing: Box<Missing>,
    body: RequestBody,
) -> Result<Response<EdgeBody>, Early> {
    let question = question(x, route, &missing);
    let whole =
        x.head.method == Method::GET && !x.has_body && !x.head.headers.contains_key(header::RANGE);
    let mut ask = x.ask(route, whole)?;
    if whole {
        let (landed, leader) = oneshot::channel();
        let worker = Rc::clone(&x.worker);
        spawn_local(fly_alone(worker, ask, question, landed));
        return match leader.await {
            Ok(flown) => arrive(x, route, flown),
            Err(_) => Err(answer::origin_failed(false).into()),
        };
    }
    match origin::ask(&mut ask, body).await {
        Ok(received) => {
            x.note.forward_status = Some(received.status);
            Ok(straight(received))
        }
        Err(Unanswered::Early(early)) => Err(early),
        Err(Unanswered::Failed(error)) => on_failure(x, route, question.stale, &error),
    }
}

fn question(x: &Exchange, route: &Route, missing: &Missing) -> Question {
    let directives = if route.cache.request_directives {
        RequestDirectives::parse(&x.head.headers)
    } else {
        RequestDirectives::default()
    };
    Question {
        url_key: missing.url_key.clone(),
        dimensions: missing.dimensions.clone(),
        request: x.head.headers.clone(),
        method: x.head.method.clone(),
        directives,
        authorization: x.authorization(route),
        stale: missing.stale.clone(),
    }
}

/// The leader's view of what its flight brought.
fn arrive(x: &mut Exchange, route: &Route, flown: Flown) -> Result<Response<EdgeBody>, Early> {
    match flown {
        Flown::Own(received, why) => {
            x.note.forward_status = Some(received.status);
            x.note.stored = false;
            x.note.detail = Some(why.as_str());
            Ok(straight(received))
        }
        Flown::Arriving(arriving, reader) => {
            x.note.forward_status = Some(arriving.status);
            x.note.stored = true;
            Ok(read_along(x, &arriving, reader))
        }
        Flown::Stored(entry, reuse) => match entry.object() {
            Some(object) => {
                let served = match reuse {
                    Reuse::Revalidated => {
                        x.note.forward_status = Some(StatusCode::NOT_MODIFIED);
                        x.note.stored = true;
                        Served::Revalidated
                    }
                    Reuse::StaleOnError => Served::StaleOnError,
                };
                Ok(stored(x, route, &entry, object, served))
            }
            None => Err(answer::origin_failed(false).into()),
        },
        Flown::Failed(Unanswered::Early(early)) => Err(early),
        Flown::Failed(Unanswered::Failed(error)) => on_failure(x, route, None, &error),
    }
}

/// The last good copy, where it may stand in (RFC 5861 §4), or the news that nobody answered.
pub fn on_failure(
    x: &mut Exchange,
    route: &Route,
    stale: Option<Arc<Entry>>,
    error: &FetchError,
) -> Result<Response<EdgeBody>, Early> {
    x.now = x.worker.clock.unix_now();
    if let Some(entry) = stale
        && let Some(object) = entry.object()
        && decide::may_serve_on_error(&object.freshness, x.now)
    {
        return Ok(stored(x, route, &entry, object, Served::StaleOnError));
    }
    x.note.outcome = Outcome::Error;
    x.note.detail = Some(error.as_str());
    Ok(answer::origin_failed(error.is_timeout()))
}

/// An answer that is not stored, passed on as it comes.
pub fn straight(received: Received) -> Response<EdgeBody> {
    let Received {
        status,
        headers,
        body,
        ..
    } = received;
    let body = match body {
        ReceivedBody::Upstream(body) => EdgeBody::upstream(body),
        ReceivedBody::Whole(bytes) => EdgeBody::bytes(bytes),
    };
    answer::of(status, headers, body)
}

/// An answer read while it arrives.
fn read_along(
    x: &mut Exchange,
    arriving: &Arc<ArrivingResponse>,
    reader: crate::store::arriving::Reader,
) -> Response<EdgeBody> {
    let mut headers = arriving.headers.clone();
    if arriving.initial_age > 0 {
        headers.insert(
            header::AGE,
            x.worker.values.age(u64::from(arriving.initial_age)),
        );
    } else {
        headers.remove(header::AGE);
    }
    headers.remove(super::CACHE_STATUS);
    match validate::precondition(
        &x.head.method,
        &x.head.headers,
        arriving.status,
        &arriving.headers,
    ) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            return answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty());
        }
        Precondition::Failed => {
            return answer::of(
                StatusCode::PRECONDITION_FAILED,
                HeaderMap::new(),
                EdgeBody::empty(),
            );
        }
    }
    answer::of(
        arriving.status,
        headers,
        EdgeBody::arriving(reader, arriving.content_length),
    )
}

/// The leader's flight. Runs to its end whoever goes away meanwhile.
async fn fly(
    worker: Rc<Worker>,
    mut ask: Ask,
    question: Question,
    lead: Lead,
    leader: Option<oneshot::Sender<Flown>>,
) {
    let flown = depart(&worker, &mut ask, &question).await;
    match flown {
        Departed::Own(received, why) => {
            if why.lasts() {
                remember_unshared(&worker, &question);
            }
            worker.metrics.not_stored(why.as_str());
            lead.land(Landing::Released);
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Own(received, why));
            }
        }
        Departed::Failed(failure) => {
            lead.land(Landing::Released);
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Failed(failure));
            }
        }
        Departed::Stored(entry, reuse) => {
            lead.land(Landing::Stored(Arc::clone(&entry), reuse));
            drop(lead);
            if let Some(leader) = leader {
                let _ = leader.send(Flown::Stored(entry, reuse));
            }
        }
        Departed::Storing(arrival) => {
            let Arrival {
                arriving, received, ..
            } = &*arrival;
            if let (Some(leader), Some(reader)) = (leader, arriving.body.reader()) {
                let _ = leader.send(Flown::Arriving(Arc::clone(arriving), reader));
            }
            lead.land(Landing::Arriving(Arc::clone(arriving)));
            let _ = received;
            take_in(&worker, *arrival, &question).await;
            drop(lead);
        }
    }
}

/// As `fly`, with nobody following.
async fn fly_alone(
    worker: Rc<Worker>,
    mut ask: Ask,
    question: Question,
    leader: oneshot::Sender<Flown>,
) {
    match depart(&worker, &mut ask, &question).await {
        Departed::Own(received, why) => {
            worker.metrics.not_stored(why.as_str());
            let _ = leader.send(Flown::Own(received, why));
        }
        Departed::Failed(failure) => {
            let _ = leader.send(Flown::Failed(failure));
        }
        Departed::Stored(entry, reuse) => {
            let _ = leader.send(Flown::Stored(entry, reuse));
        }
        Departed::Storing(arrival) => {
            if let Some(reader) = arrival.arriving.body.reader() {
                let _ = leader.send(Flown::Arriving(Arc::clone(&arrival.arriving), reader));
            }
            take_in(&worker, *arrival, &question).await;
        }
    }
}

/// What an answer turned out to be.
enum Departed {
    Own(Received, NotStored),
    Stored(Arc<Entry>, Reuse),
    Storing(Box<Arrival>),
    Failed(Unanswered),
}

/// A storable answer whose body is still to come.
struct Arrival {
    arriving: Arc<ArrivingResponse>,
    received: Received,
    freshness: Freshness,
    set_aside: SmallVec<[HeaderName; 2]>,
    upstream_status: Option<HeaderValue>,
}

/// Asks, and judges the answer.
async fn depart(worker: &Rc<Worker>, ask: &mut Ask, question: &Question) -> Departed {
    let live = Rc::clone(&ask.live);
    let Some(route) = live.plan.route(ask.route) else {
        return Departed::Failed(Unanswered::Failed(FetchError::no_origin()));
    };
    let validating = match question.stale.as_ref().and_then(|entry| entry.object()) {
        Some(object) => validate::conditional_headers(&object.headers, &mut ask.headers),
        None => false,
    };
    let asked = origin::ask(ask, RequestBody::Empty).await;
    let stale = question
        .stale
        .as_ref()
        .and_then(|entry| Some((entry, entry.object()?)));
    let mut received = match asked {
        Ok(received) => received,
        Err(Unanswered::Failed(error)) => {
            if let Some((entry, object)) = stale
                && decide::may_serve_on_error(&object.freshness, worker.clock.unix_now())
            {
                return Departed::Stored(Arc::clone(entry), Reuse::StaleOnError);
            }
            return Departed::Failed(Unanswered::Failed(error));
        }
        Err(early) => return Departed::Failed(early),
    };
    if let Some((entry, object)) = stale {
        if received.status == StatusCode::NOT_MODIFIED && validating {
            return freshen(worker, route, entry, object, &received);
        }
        if received.status.is_server_error()
            && decide::may_serve_on_error(&object.freshness, received.received_at)
        {
            return Departed::Stored(Arc::clone(entry), Reuse::StaleOnError);
        }
    }
    let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
    let input = StoreInput {
        method: &question.method,
        request: &question.request,
        request_directives: &question.directives,
        authorization: question.authorization,
        status: received.status,
        response: &received.headers,
        directives: &directives,
        policy: &route.cache,
        now: received.received_at,
    };
    if let Err(why) = storable::storable(&input) {
        return Departed::Own(received, why);
    }
    let announced = content_length(&received.headers);
    if announced.is_some_and(|length| length > worker.shared.store.largest()) {
        return Departed::Own(received, NotStored::TooLarge);
    }
    let names = match vary::of(&received.headers) {
        Vary::None => SmallVec::new(),
        Vary::Names(names) => names,
        Vary::Star => return Departed::Own(received, NotStored::VaryStar),
    };
    let (freshness, _rule) = freshness::freshness(
        received.status,
        &received.headers,
        &directives,
        &route.cache,
        received.requested_at,
        received.received_at,
    );
    let mut secondary = Vec::new();
    vary::secondary(&mut secondary, &names, &question.request);
    let (headers, set_aside, upstream_status) = for_storing(&mut received.headers, &directives);
    let arriving = Arc::new(ArrivingResponse {
        status: received.status,
        headers,
        content_length: announced,
        initial_age: freshness.initial_age,
        vary: names,
        secondary: secondary.into_boxed_slice(),
        body: Arriving::new(),
    });
    Departed::Storing(Box::new(Arrival {
        arriving,
        received,
        freshness,
        set_aside,
        upstream_status,
    }))
}

/// A header section as it is stored and sent: own memory, placeholders in place, `Set-Cookie` and the fields that
/// `no-cache="…"` and `private="…"` name left out.
fn for_storing(
    headers: &mut HeaderMap,
    directives: &ResponseDirectives,
) -> (HeaderMap, SmallVec<[HeaderName; 2]>, Option<HeaderValue>) {
    headers.remove(header::SET_COOKIE);
    let set_aside: SmallVec<[HeaderName; 2]> = directives.unshared_fields().cloned().collect();
    for name in &set_aside {
        headers.remove(name);
    }
    let upstream_status = headers.remove(super::CACHE_STATUS);
    headers.remove(header::AGE);
    let mut kept = entry::compact(headers);
    kept.insert(header::AGE, HeaderValue::from_static("0"));
    kept.insert(super::CACHE_STATUS, HeaderValue::from_static("hit"));
    (kept, set_aside, upstream_status)
}

/// Phase 13: takes the body in while others read it, and stores it when it came whole.
async fn take_in(worker: &Rc<Worker>, arrival: Arrival, question: &Question) {
    let Arrival {
        arriving,
        received,
        freshness,
        set_aside,
        upstream_status,
    } = arrival;
    let body = &arriving.body;
    let largest = worker.shared.store.largest();
    let end = match received.body {
        ReceivedBody::Whole(bytes) => {
            body.push(bytes);
            End::Complete
        }
        ReceivedBody::Upstream(mut upstream) => loop {
            let frame =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut upstream).poll_frame(cx)).await;
            match frame {
                None => break End::Complete,
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "the origin stopped in the middle of a body");
                    break End::Broken;
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    body.push(data);
                    if body.length() > largest {
                        body.stop_keeping();
                    }
                }
            }
            let room =
                tokio::time::timeout(STALL, std::future::poll_fn(|cx| body.poll_room(cx))).await;
            if !matches!(room, Ok(Ok(()))) {
                break End::Broken;
            }
        },
    };
    if end == End::Complete
        && let Some(pieces) = body.pieces()
    {
        let length = body.length();
        let mut headers = arriving.headers.clone();
        if !headers.contains_key(header::CONTENT_LENGTH) && !finish::bodiless(arriving.status) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let object = Object {
            status: arriving.status,
            has_validator: validate::has_validator(&headers),
            headers,
            freshness,
            body: entry::compact_body(pieces, usize::try_from(length).unwrap_or(usize::MAX)),
            length,
            upstream_status,
            set_aside,
        };
        keep(worker, question, &arriving.vary, object);
    } else if end == End::Complete {
        worker.metrics.not_stored(NotStored::TooLarge.as_str());
    }
    // Only now: who finds the flight over must find the entry.
    body.finish(end);
}

/// How long the slowest reader may hold up an object that is too large to be stored.
const STALL: Duration = Duration::from_secs(30);

/// Puts a response under its key: the URL's own when nothing else tells responses apart, a variant's otherwise.
fn keep(
    worker: &Rc<Worker>,
    question: &Question,
    names: &[HeaderName],
    object: Object,
) -> Option<Arc<Entry>> {
    let store = &worker.shared.store;
    if names.is_empty() && question.dimensions.is_empty() {
        let entry = Arc::new(Entry::new(&question.url_key, Content::Object(object)));
        store.insert(Arc::clone(&entry));
        return Some(entry);
    }
    let known = store.peek(&question.url_key);
    let (names, nonce) = match known.as_ref().map(|entry| &entry.content) {
        Some(Content::Variants(known)) if names.iter().all(|name| known.names.contains(name)) => {
            (known.names.clone(), known.nonce)
        }
        Some(Content::Variants(known)) => {
            let mut all = known.names.clone();
            all.extend(
                names
                    .iter()
                    .filter(|name| !known.names.contains(name))
                    .cloned(),
            );
            (all, worker.random())
        }
        _ => (names.iter().cloned().collect(), worker.random()),
    };
    let variants = Variants { names, nonce };
    let mut key = question.url_key.clone();
    key.extend_from_slice(&question.dimensions);
    variant_key(&mut key, &variants, &question.request);
    let is_known = matches!(known.as_ref().map(|e| &e.content), Some(Content::Variants(v)) if v.nonce == nonce);
    if !is_known {
        store.insert(Arc::new(Entry::new(
            &question.url_key,
            Content::Variants(variants),
        )));
    }
    let entry = Arc::new(Entry::new(&key, Content::Object(object)));
    store.insert(Arc::clone(&entry));
    Some(entry)
}

/// For a while, requests like this one do not wait for one another.
fn remember_unshared(worker: &Rc<Worker>, question: &Question) {
    if worker.shared.store.peek(&question.url_key).is_some() {
        return;
    }
    let until = worker.clock.unix_now() + UNSHARED_FOR;
    worker.shared.store.insert(Arc::new(Entry::new(
        &question.url_key,
        Content::Unshared { until },
    )));
}

/// Seconds for which an answer that could not be stored switches coalescing off for its URL.
const UNSHARED_FOR: u64 = 10;

/// A 304 makes the stored response new again (RFC 9111 §4.3.4).
fn freshen(
    worker: &Rc<Worker>,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    received: &Received,
) -> Departed {
    let mut headers = object.headers.clone();
    headers.remove(header::AGE);
    validate::freshen(&mut headers, &received.headers);
    let directives = ResponseDirectives::parse(&headers, &route.cache.targets);
    let (freshness, _rule) = freshness::freshness(
        object.status,
        &headers,
        &directives,
        &route.cache,
        received.requested_at,
        received.received_at,
    );
    let (headers, set_aside, _) = for_storing(&mut headers, &directives);
    let fresh = Object {
        status: object.status,
        has_validator: validate::has_validator(&headers),
        headers,
        freshness,
        body: object.body.clone(),
        length: object.length,
        upstream_status: object.upstream_status.clone(),
        set_aside,
    };
    let fresh = Arc::new(Entry::new(&entry.key, Content::Object(fresh)));
    if directives.no_store {
        worker.shared.store.remove(&entry.key);
    } else {
        worker.shared.store.insert(Arc::clone(&fresh));
    }
    Departed::Stored(fresh, Reuse::Revalidated)
}

/// Refreshes a stale response behind the back of the client that was just served with it.
fn refresh_behind(x: &Exchange, route: &Route, missing: Missing) {
    let mut flight_key = missing.url_key.clone();
    flight_key.extend_from_slice(&missing.dimensions);
    let Join::Lead(lead) = x.worker.shared.flights.join(&flight_key) else {
        return;
    };
    let Ok(ask) = x.ask(route, true) else { return };
    let mut question = question(x, route, &missing);
    question.method = Method::GET;
    spawn_local(fly(Rc::clone(&x.worker), ask, question, lead, None));
}

/// What an unsafe request leaves out of date (RFC 9111 §4.4): its own URL, and the same-host ones that the answer
/// names in `Location` and `Content-Location`.
pub fn invalidate(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    x: &Exchange,
    response: &Response<EdgeBody>,
) {
    if !validate::invalidates(&x.head.method, response.status()) {
        return;
    }
    let mut targets: SmallVec<[(String, Option<String>); 3]> = SmallVec::new();
    targets.push((
        x.viewer_path.path().to_owned(),
        x.viewer_path.query().map(str::to_owned),
    ));
    targets.extend(validate::invalidation_targets(
        x.host(),
        x.viewer_path.path(),
        response.headers(),
    ));
    for (path, query) in targets {
        // The key of a URL depends on the policy of the route that would serve it.
        let Some(route) = x.route_for_get(live, &path, query.as_deref()) else {
            continue;
        };
        let target = edgerouter_core::viewer::target_path(route, &path);
        let mut url = Vec::new();
        key::url(&mut url, x.host(), &target, query.as_deref(), &route.cache);
        worker.shared.store.remove(&url);
    }
}
