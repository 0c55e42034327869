//! The fetch of a request, and the pages that may stand in for its answer: error pages and the single-page fall-back.

use std::rc::Rc;

use edgerouter_core::http::PathAndQuery;
use edgerouter_core::http::{FieldName, Fields, Known, header};
use edgerouter_core::{
    admit::Refusal,
    cache::tags,
    forward,
    http::structured::Forward,
    origin::attempts::is_idempotent,
    outcome::Detail,
    plan::{ErrorPage, FixedResponse, Route, Target},
};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

use super::{
    answer::{self, Early},
    cached::{self, Found},
    exchange::{self, Exchange},
    files, hooks,
    origin::{self, Received, Unanswered},
    tunnel,
};
use crate::{
    body::{EdgeBody, EdgeResponse},
    functions::fetch::FetchCache,
    telemetry::Outcome,
    upstream::{FetchError, RequestBody, Unavailable},
};

/// Phases 10 to 12 where the cache may not be used: methods other than GET and HEAD, routes without caching, upgrades.
pub(crate) async fn passed(exchange: &mut Exchange, route: &Route) -> Result<EdgeResponse, Early> {
    if let Some(refused) = cached::refuse_unstored(exchange) {
        return Ok(refused);
    }
    exchange.note.outcome = Outcome::Pass;
    let by_method = !matches!(exchange.head.method, Method::GET | Method::HEAD);
    let (forward, why) = if !route.cache.enabled {
        (Forward::Bypass, Detail::Disabled)
    } else if exchange.wants_upgrade {
        (Forward::Bypass, Detail::Upgrade)
    } else if !by_method && exchange.has_body {
        (Forward::Bypass, Detail::RequestBody)
    } else if !by_method && exchange.fetch_cache == FetchCache::NoStore {
        (Forward::Bypass, Detail::RequestNoStore)
    } else if !by_method {
        (Forward::Bypass, Detail::Unkeyed)
    } else {
        (Forward::Method, Detail::Method)
    };
    exchange.note.forward = Some(forward);
    exchange.note.detail = Some(why);
    let head = &mut *exchange.head;
    if !forward::takes_hop(&head.method, &mut head.headers) {
        exchange.note.forward = None;
        exchange.note.detail = Some(Detail::Options);
        return Ok(answer::options(&route.methods));
    }
    let body = if exchange.wants_upgrade {
        RequestBody::Empty
    } else {
        exchange.replayable_body().await?
    };
    // Such a hook gets the whole response; the origin evaluates the conditions of other methods.
    let hooked = matches!(exchange.head.method, Method::GET | Method::HEAD)
        && !exchange.wants_upgrade
        && exchange.runs_any(&route.hooks.origin_response);
    let keeps_headers = route.fallback.is_some() || !route.errors.is_empty() || exchange.needs_headers_later(route)
        // They are evaluated once the hooks have changed the response.
        || hooked
        // They may select the response that a POST leaves for its URL.
        || (route.cache.enabled && exchange.head.method == Method::POST);
    let mut request = if keeps_headers {
        exchange.origin_request(route, hooked)?
    } else {
        exchange.origin_request_taking(route)?
    };
    request.wanted = Some(exchange.wanted());
    match origin::fetch(&mut request, body).await {
        Ok(mut received) => {
            exchange.note.forward_status = Some(received.status);
            if received.status == StatusCode::SWITCHING_PROTOCOLS {
                let Received {
                    headers, upgrade, ..
                } = *received;
                return tunnel::open(exchange, headers, upgrade);
            }
            received.upgrade = None;
            let headers = [&received.headers, &received.own];
            outdate(exchange, received.status, headers);
            if cached::represents(exchange, route, &received) {
                return Ok(cached::take_posted(exchange, route, *received));
            }
            tags::take(&mut received.headers, &route.cache);
            Ok(if hooked {
                cached::as_requested(exchange, *received)
            } else {
                cached::straight(*received)
            })
        }
        Err(Unanswered::Early(early)) => Err(early),
        Err(Unanswered::Failed(Unavailable {
            error: error @ (FetchError::RequestBody(_) | FetchError::SlowUpload(_)),
            ..
        })) => {
            if matches!(error, FetchError::SlowUpload(_)) {
                exchange.stream.refuse(Refusal::BodyTooSlow);
            }
            Err(exchange::broken_body(exchange))
        }
        Err(Unanswered::Failed(error)) => Ok(cached::failed(exchange, &error)),
    }
}

/// Invalidates what a request that is not safe makes out of date.
pub(super) fn outdate<const N: usize>(
    exchange: &Exchange,
    status: StatusCode,
    headers: [&Fields; N],
) {
    let method = &exchange.head.method;
    if !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    ) {
        let (worker, live) = (&exchange.worker, &exchange.live);
        cached::invalidate(worker, live, exchange, status, headers);
    }
}

impl Exchange {
    /// The body, whole where the request may have to be sent again, to another origin or after a kept connection
    /// closed, and it is small enough to keep.
    async fn replayable_body(&mut self) -> Result<RequestBody, Early> {
        let most = self.live.plan.limits.origins.replay_bytes;
        let small = self
            .body
            .as_ref()
            .and_then(|body| body.size_hint().exact())
            .is_some_and(|length| length <= most as u64);
        // A client that waits for a 100 sends nothing until an origin wants the content.
        if self.expects || !(self.has_body && small && is_idempotent(&self.head.method)) {
            return Ok(self.take_body());
        }
        match self.body.take() {
            Some(body) => hooks::collect(self, body, most)
                .await
                .map(RequestBody::Full),
            None => Ok(RequestBody::Empty),
        }
    }

    /// True if a later phase reads the request's fields.
    pub(super) fn needs_headers_later(&self, route: &Route) -> bool {
        !route.hooks.viewer_response.is_empty()
            || route.compress
            || !matches!(self.head.method, Method::GET | Method::HEAD)
    }
}

/// The page that stands in for an answer.
pub(crate) enum StandIn<'r> {
    /// The page of a path, and the status it is sent with.
    Path(PathAndQuery, Option<StatusCode>),
    /// A page that the edge holds.
    Held(&'r FixedResponse),
}

/// Fields that explain the status of an answer, whatever page stands in for it (RFC 9110 §10.2.1, §10.2.3, §11.6.1).
const OF_STATUS: [Known; 3] = [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE];

/// Fields that say how long an answer may be kept. A page of a path may be kept for long, the error that it stands in
/// for may not: caches and browsers behind the edge get these fields of the error (RFC 9111 §4.2, RFC 9213).
const OF_LIFETIME: [Known; 6] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CDN_CACHE_CONTROL,
    header::EXPIRES,
    header::PRAGMA,
    header::SURROGATE_CONTROL,
];

/// The page that stands in for this answer, if any.
pub(crate) fn stand_in<'r>(
    exchange: &Exchange,
    route: &'r Route,
    response: &EdgeResponse,
) -> Option<StandIn<'r>> {
    if !matches!(route.target, Target::Group(_) | Target::Files(_)) {
        return None;
    }
    let status = response.status();
    let gets = matches!(exchange.head.method, Method::GET | Method::HEAD);
    if gets
        && let Some(fallback) = &route.fallback
        && matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
        && wants_html(exchange)
    {
        let page = PathAndQuery::try_from(&**fallback).ok()?;
        return Some(StandIn::Path(page, None));
    }
    match &route.errors.iter().find(|(of, _)| *of == status)?.1 {
        ErrorPage::Fixed(held) => Some(StandIn::Held(held)),
        // It is fetched as a GET would be.
        ErrorPage::Path(_) if !gets => None,
        ErrorPage::Path(page) => {
            let page = PathAndQuery::try_from(&**page).ok()?;
            Some(StandIn::Path(page, Some(status)))
        }
    }
}

fn wants_html(exchange: &Exchange) -> bool {
    let mut lines = exchange.head.headers.get_all(header::ACCEPT).iter();
    lines.any(|line| {
        let line = line.as_bytes().to_ascii_lowercase();
        line.windows(9).any(|part| part == b"text/html")
    })
}

/// Puts the page in the answer's place; the answer stays when the page cannot be had.
pub(crate) async fn replace(
    exchange: &mut Exchange,
    route: &Route,
    page: StandIn<'_>,
    response: &mut EdgeResponse,
) {
    let replaced = response.status();
    let mut names: Vec<FieldName> = OF_STATUS.into_iter().map(FieldName::known).collect();
    if matches!(page, StandIn::Path(..)) {
        names.extend(OF_LIFETIME.into_iter().map(FieldName::known));
        names.extend_from_slice(&route.cache.targets);
    }
    let said = response.headers();
    let kept: Vec<(&FieldName, HeaderValue)> = names
        .iter()
        .flat_map(|name| {
            let values = said.get_all(name);
            let values = values.iter().map(|value| (name, value.owned()));
            values.collect::<Vec<_>>()
        })
        .collect();
    match page {
        StandIn::Held(held) => {
            exchange.note.written = false;
            let headers = held.headers.iter().cloned().collect();
            *response = answer::of(held.status, headers, EdgeBody::bytes(held.body.clone()));
        }
        StandIn::Path(page, to) => replace_by_path(exchange, route, page, to, response).await,
    }
    if response.status() != replaced {
        return;
    }
    for name in &names {
        response.headers_mut().remove(name);
    }
    for (name, value) in kept {
        response.headers_mut().append(name, value);
    }
}

async fn replace_by_path(
    exchange: &mut Exchange,
    route: &Route,
    page: PathAndQuery,
    status: Option<StatusCode>,
    response: &mut EdgeResponse,
) {
    if exchange.head.target == page {
        return;
    }
    // The page has a route of its own: another origin may have it, or it is a fixed text. If that route requires
    // something of the visitor or calls Python, the page is fetched from the origin of the answer.
    let live = Rc::clone(&exchange.live);
    let own = exchange
        .route_for_get(&live, page.path(), page.query())
        .filter(|own| own.id != route.id && is_plain(own));
    exchange.head.target = page;
    for conditional in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::RANGE,
    ] {
        exchange.head.headers.remove(conditional);
    }
    if let Some(Target::Respond(fixed)) = own.map(|own| &own.target) {
        let mut page = super::responded(exchange, fixed);
        exchange.note.written = false;
        if let Some(status) = status {
            make_error(&mut page, status);
        }
        *response = page;
        return;
    }
    let chosen = std::mem::take(&mut exchange.chosen);
    if let Some(own) = own
        && exchange.rewrite(own).is_err()
    {
        exchange.chosen = chosen;
        return;
    }
    if own.is_none() {
        exchange.chosen.clone_from(&chosen);
    }
    fetch_page(exchange, own.unwrap_or(route), status, response).await;
    exchange.chosen = chosen;
}

/// True if a page behind this route can be shown to every visitor.
fn is_plain(route: &Route) -> bool {
    let hooks = &route.hooks;
    !route.refuses()
        && route.experiments.is_empty()
        && hooks.viewer_request.is_empty()
        && hooks.viewer_response.is_empty()
        && matches!(
            route.target,
            Target::Group(_) | Target::Respond(_) | Target::Files(_)
        )
}

async fn fetch_page(
    exchange: &mut Exchange,
    route: &Route,
    status: Option<StatusCode>,
    response: &mut EdgeResponse,
) {
    exchange.note.written = false;
    let fetched = if let Target::Files(folder) = &route.target {
        files::file(exchange, route, folder).await
    } else if cached::cacheable(&exchange.head.method, route) && exchange.agrees(route) {
        match cached::look_up(exchange, route).await {
            Found::Answer(page) => Ok(page),
            Found::Missing(miss) => cached::fetch(exchange, route, miss, RequestBody::Empty).await,
        }
    } else {
        match exchange.origin_request(route, true) {
            Ok(mut request) => match origin::fetch(&mut request, RequestBody::Empty).await {
                Ok(mut received) => {
                    tags::take(&mut received.headers, &route.cache);
                    Ok(cached::straight(*received))
                }
                Err(_) => return,
            },
            Err(early) => Err(early),
        }
    };
    if let Ok(mut page) = fetched
        && page.status() == StatusCode::OK
        && page.extensions().get::<answer::EdgeMade>().is_none()
    {
        if let Some(status) = status {
            make_error(&mut page, status);
            for target in &route.cache.targets {
                page.headers_mut().remove(target);
            }
        }
        *response = page;
    }
}

/// The stored page may be fresh; a client must not validate the error by it.
fn make_error(page: &mut EdgeResponse, status: StatusCode) {
    *page.status_mut() = status;
    page.headers_mut().remove(header::ETAG);
    page.headers_mut().remove(header::LAST_MODIFIED);
}
