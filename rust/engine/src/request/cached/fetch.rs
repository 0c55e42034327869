//! Phases 10 to 13 as the client sees them: it leads a flight, follows one, or goes alone.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::{
        decide,
        storable::{Authorization, NotStored},
        vary,
    },
    http::{cache_control::RequestDirectives, range::Range},
    plan::{Route, Target},
};
use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::{sync::oneshot, task::spawn_local};

use super::{
    Missing,
    flight::{fly, fly_alone},
    keep::take_tags,
    look_up::variant_key,
    purged::asked,
    send::{Served, read_along, stored, straight},
};
use crate::{
    body::EdgeBody,
    request::{
        Exchange,
        answer::{self, Early},
        origin::{self, Received, Unanswered},
    },
    store::{
        Entry, Join, Landing, View,
        arriving::Reader,
        flight::{ArrivingResponse, Reuse},
    },
    telemetry::Outcome,
    upstream::{FetchError, RequestBody},
};

/// What a flight brought its leader.
pub(super) enum Flown {
    /// Not to be shared: the leader alone gets it.
    Own(Received, NotStored),
    Arriving(Arc<ArrivingResponse>, Reader),
    Stored(Arc<Entry>, Reuse),
    Failed(Unanswered),
    /// A part was asked for of what cannot be kept in slices.
    NotSliceable(&'static str),
}

/// What is needed to judge an answer after the client's request is gone.
pub(super) struct Question {
    pub url_key: Vec<u8>,
    pub dimensions: Vec<u8>,
    pub request: HeaderMap,
    pub method: Method,
    pub directives: RequestDirectives,
    pub authorization: Authorization,
    pub stale: Option<Arc<Entry>>,
    /// What the origin is asked for, where that is not the whole.
    pub slice: Option<Range>,
    /// The newest purge before the fetch departs.
    pub born: u64,
    /// The path that the viewer asked for, where it is not the one in the key.
    pub viewer: Option<Box<str>>,
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
    if let Some(slice) = missing.slice {
        flight_key.push(b'r');
        flight_key.extend_from_slice(&slice.first.to_le_bytes());
    }
    match join(x, &flight_key, &missing.url_key) {
        Join::Lead(lead) => {
            let question = question(x, route, &missing);
            let ask = x.ask(route, true)?;
            let (landed, leader) = oneshot::channel();
            let worker = Rc::clone(&x.worker);
            spawn_local(fly(worker, ask, question, lead, Some(landed)));
            match leader.await {
                Ok(Flown::NotSliceable(why)) => {
                    x.note.detail = Some(why);
                    fetch_alone(x, route, missing, body).await
                }
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
                            Reuse::Revalidated | Reuse::Cut(_) => Served::Collapsed,
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

/// Follows a flight, unless a purge has come since it departed.
fn join(x: &Exchange, flight_key: &[u8], url_key: &[u8]) -> Join {
    let purges = &x.worker.shared.purges;
    x.worker
        .shared
        .flights
        .join(flight_key, purges.newest(), |born| {
            purges.outdates(born, url_key, asked(x))
        })
}

/// Whether a follower's own request selects this entry.
fn suits(x: &Exchange, entry: &Entry, missing: &Missing) -> bool {
    if *entry.key() == *missing.url_key {
        return true;
    }
    let Some(parent) = x.worker.shared.store.peek(&missing.url_key) else {
        return false;
    };
    let View::Variants(variants) = parent.view() else {
        return false;
    };
    let mut own = missing.url_key.clone();
    own.extend_from_slice(&missing.dimensions);
    variant_key(&mut own, variants, &x.head.headers);
    *entry.key() == *own
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
            let mut received = received;
            take_tags(route, &mut received.headers);
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
        slice: missing.slice,
        born: x.worker.shared.purges.newest(),
        viewer: (x.viewer_path.path() != x.head.uri.path()).then(|| x.viewer_path.path().into()),
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
                    Reuse::Cut(status) => {
                        x.note.forward_status = Some(status);
                        x.note.stored = true;
                        Served::Cut
                    }
                };
                Ok(stored(x, route, &entry, object, served))
            }
            None => Err(answer::origin_failed(false).into()),
        },
        Flown::NotSliceable(_) => Err(answer::origin_failed(false).into()),
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
        && decide::may_serve_on_error(&object.freshness, &route.cache, x.now)
    {
        return Ok(stored(x, route, &entry, object, Served::StaleOnError));
    }
    x.note.outcome = Outcome::Error;
    x.note.detail = Some(error.as_str());
    Ok(answer::origin_failed(error.is_timeout()))
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
    if !admits {
        return;
    }
    let missing = missing();
    let mut flight_key = missing.url_key.clone();
    flight_key.extend_from_slice(&missing.dimensions);
    let Join::Lead(lead) = join(x, &flight_key, &missing.url_key) else {
        return;
    };
    let Ok(ask) = x.ask(route, true) else { return };
    x.worker.metrics.refreshed(why);
    let mut question = question(x, route, &missing);
    question.method = Method::GET;
    spawn_local(fly(Rc::clone(&x.worker), ask, question, lead, None));
}
