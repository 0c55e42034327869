//! The image that a variant is made of, by the cache: all its variants share one fetch and one stored response. What
//! the cache may not store comes from the origin for each of them.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use edgerouter_core::{
    bounds::memory::Purpose,
    cache::{
        hooked::{HookEffect, Written},
        tags,
    },
    http::{FieldName, Fields, header},
    images::{ImageRequest, VARIANT},
    path::Admitted,
    plan::{Route, Target},
};
use http::{HeaderValue, Method};

use super::{
    cached::{self, Found},
    exchange::Exchange,
    foreign::ForeignImage,
    origin_request::{FetchOriginal, OriginRequest, Received, ReceivedBody, Unanswered},
    variant::{self, take_in},
};
use crate::{
    body::EdgeResponse,
    connection::{Connection, Stream},
    telemetry::Outcome,
    upstream::{FetchError, RequestBody, Unavailable},
};

/// Seconds for which a stored image must stay fresh: a stale one is validated, as its variant has to be.
const FRESH: u32 = 1;

/// The request for an image, of which the request for a variant becomes a part.
#[derive(Debug)]
struct Original {
    request: Admitted,
    hooked: Vec<FieldName>,
    written: Option<Rc<Written>>,
    foreign: Option<Rc<ForeignImage>>,
    peer: std::net::SocketAddr,
}

impl Original {
    /// `None`: the response to this request is made of what the origin sends for it.
    fn of(exchange: &Exchange, route: &Route, variant: &ImageRequest) -> Option<Self> {
        // A response that is passed by may be of any length; hooks of the origin phases are for each request.
        let is_shared = !variant.passes_by
            && matches!(route.target, Target::Group(_) | Target::Images(_))
            && !exchange.runs_any(&route.hooks.origin_request)
            && !exchange.runs_any(&route.hooks.origin_response);
        if !is_shared {
            return None;
        }
        let mut request = exchange.request.clone();
        for name in [
            header::RANGE,
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ] {
            request.head.headers.remove(name);
        }
        variant.select_original(&mut request.head.headers)?;
        request.head.method = Method::GET;
        request.counted_before = true;
        // The key of an image of another host has its URL in the place of the variant.
        let is_keyed = exchange.foreign.is_some();
        let hooked = exchange.hooked.iter();
        let hooked = hooked.filter(|name| is_keyed || **name != VARIANT);
        Some(Self {
            request,
            hooked: hooked.cloned().collect(),
            written: exchange.written.clone(),
            foreign: exchange.foreign.clone(),
            peer: exchange.stream.connection.peer,
        })
    }
}

/// A fetch of the image, where variants may share it.
pub(super) fn begin(
    exchange: &Exchange,
    route: &Route,
    variant: &ImageRequest,
) -> Option<FetchOriginal> {
    let original = Rc::new(Original::of(exchange, route, variant)?);
    Some(Rc::new(move |request| {
        let original = Rc::clone(&original);
        Box::pin(async move { fetch(&request, &original).await })
    }))
}

/// Looks the image up, and has it fetched where it is not stored, on the conditions of the request for the variant.
async fn fetch(request: &OriginRequest, original: &Original) -> Result<Box<Received>, Unanswered> {
    let live = Rc::clone(&request.live);
    let Some(route) = live.plan.route(request.route) else {
        return Err(Unanswered::Failed(FetchError::NoOrigin.into()));
    };
    let mut exchange = exchange(request, original);
    let is_validated = request.headers.contains_key(header::IF_NONE_MATCH)
        || request.headers.contains_key(header::IF_MODIFIED_SINCE);
    let answered = match cached::look_up(&mut exchange, route).await {
        Found::Answer(response) => Ok(response),
        Found::Missing(missing) => {
            cached::fetch(&mut exchange, route, missing, RequestBody::Empty).await
        }
    };
    let mut response = answered.map_err(Unanswered::Early)?;
    if let Some(failed) = response.extensions_mut().remove::<Unavailable>() {
        return Err(Unanswered::Failed(failed));
    }
    let outcome = exchange.note.outcome;
    if is_validated && matches!(outcome, Outcome::StaleOnError | Outcome::Disconnected) {
        // The variant is as stale as the image, and the same rule decides whether it may be sent.
        return Err(Unanswered::Failed(Unavailable {
            error: FetchError::Unhealthy(String::new()),
            disconnected: outcome == Outcome::Disconnected,
        }));
    }
    received(request, route, &exchange, response).await
}

fn exchange(request: &OriginRequest, original: &Original) -> Exchange {
    let worker = &request.worker;
    let mut admitted = original.request.clone();
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        if let Some(value) = request.headers.get(name) {
            admitted.head.headers.insert(name, value);
        }
    }
    let scheme = admitted.client.scheme;
    let connection = Connection::new(original.peer, scheme, worker.clock.ticks(), 0);
    let stream = Rc::new(Stream::new(Rc::new(connection)));
    let head = Box::default();
    let mut exchange = Exchange::new(Rc::clone(worker), stream, head, None, Instant::now());
    exchange.live = Rc::clone(&request.live);
    exchange.request = admitted;
    exchange.hooked.clone_from(&original.hooked);
    exchange.written.clone_from(&original.written);
    exchange.foreign.clone_from(&original.foreign);
    exchange.fresh_for = Some(FRESH);
    exchange
}

/// The response as an origin's, with its content and the tags of the stored one.
async fn received(
    request: &OriginRequest,
    route: &Route,
    exchange: &Exchange,
    mut response: EdgeResponse,
) -> Result<Box<Received>, Unanswered> {
    let (status, mut headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = response.into_body();
    if exchange.note.written {
        headers.remove(header::CACHE_STATUS);
    }
    let most = variant::largest(request).bytes;
    let account = &request.worker.shared.account;
    let hold = account.open_uncut(Purpose::Bodies, request.owner);
    let content = match take_in(request, body, most, &hold).await? {
        Some(content) => content,
        None => {
            // Announced as too long, so that it is refused as one.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(most + 1));
            Bytes::new()
        }
    };
    let question = exchange.question(route, Vec::new());
    let cache = &request.worker.shared.cache;
    let mut stored = cache.selected(&question);
    if stored.is_none() && exchange.note.stored {
        // The task that fetched it stores it once its content has come.
        tokio::task::yield_now().await;
        stored = cache.selected(&question);
    }
    // One that is stored and not found has unknown tags: a purge of any tag purges its variant.
    let tags = match &stored {
        Some(entry) => entry.tags().to_vec(),
        None => tags::any(),
    };
    Ok(Box::new(Received {
        status,
        headers,
        body: ReceivedBody::Whole(content),
        upgrade: None,
        // The moment to which its `Age` belongs.
        requested_at: exchange.now,
        received_at: exchange.now,
        own: Fields::new(),
        hooked: HookEffect {
            tags,
            ..HookEffect::default()
        },
    }))
}
