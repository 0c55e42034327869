//! The path of a request: the one place that knows the order of the phases (docs/design.md §3).
//!
//! `path` reads from top to bottom, one call a phase; each phase's inside is in its own room. Phases that need only
//! this worker's memory run without suspending, so a cached hit is answered in the poll that read it.

pub mod answer;
pub mod cached;
pub mod exchange;
pub mod hooks;
mod navigation;
pub mod origin;
pub mod own;
pub mod pages;
pub mod tunnel;

use std::{convert::Infallible, rc::Rc, time::Instant};

use edgerouter_core::{
    admit::{self, Refusal},
    cache::validate::{self, Outcome as Precondition},
    experiment::Mode,
    finish, forward,
    http::{
        framing::fit::{self, Fit},
        structured::{CACHE_STATUS, CacheStatus},
    },
    identity::jwt::{self, Extracted},
    plan::{FixedResponse, Preflight, Route, Target},
    service_worker,
    viewer::{self, Https},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use self::{
    answer::Early,
    cached::Found,
    exchange::{Chosen, Exchange},
};
use crate::{
    body::{Busy, EdgeBody},
    connection::{Conn, queue},
    telemetry::Outcome,
    worker::Worker,
};

/// Answers one request of a connection.
pub async fn serve(
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Infallible> {
    let started = Instant::now();
    let busy = Busy(Rc::clone(&conn));
    if conn.was_refused()
        && request.method().as_str() == crate::listen::guarded::REFUSED_METHOD.as_str()
        && let Some(refusal) = conn.take_refusal()
    {
        worker.metrics.refused(refusal);
        if let Some(access) = &worker.shared.access_log {
            access.refused(&worker, &conn, refusal.status(), refusal.as_str());
        }
        return Ok(exchange::refused(refusal).map(|body| body.with_busy(busy)));
    }
    let mut x = match Exchange::admit(worker, conn, request, started) {
        Ok(x) => x,
        Err(early) => return Ok(early.0.map(|body| body.with_busy(busy))),
    };
    let mut response = match path(&mut x).await {
        Ok(response) => response,
        Err(early) => {
            let mut response = *early.0;
            if let Some(trace) = response.extensions_mut().remove::<answer::Trace>()
                && x.client_is_local()
            {
                trace.show(&mut response, &x.head.headers);
            }
            x.finish(&mut response);
            response
        }
    };
    if response.status().canonical_reason().is_none() {
        // A reason is for people and may be empty (RFC 9112 §4); hyper would make one up.
        let none = hyper::ext::ReasonPhrase::from_static(b"");
        response.extensions_mut().insert(none);
    }
    x.account(&mut response);
    x.conn.interims.answered();
    let length = http_body::Body::size_hint(response.body()).exact();
    if response.body().streams() && queue::is_counted(length) {
        let route = x.route.and_then(|id| x.live.plan.route(id));
        let owner = route.map_or_else(Default::default, |route| x.owner(route));
        x.conn.streams(&x.worker.shared.account, owner);
    }
    let under_way = x.under_way.take();
    Ok(response.map(|body| body.with_under_way(under_way).with_busy(busy)))
}

/// The phases.
async fn path(x: &mut Exchange) -> Result<Response<EdgeBody>, Early> {
    let live = Rc::clone(&x.live);
    // 2 was admission: here is a Request that may be believed in its framing, Host and path.
    if x.viewer_path.as_str() == "*" {
        // Asks about the server, which is us (RFC 9110 §9.3.7).
        x.note.detail = Some("options");
        let response = answer::of(StatusCode::NO_CONTENT, HeaderMap::new(), EdgeBody::empty());
        return Err(response.into());
    }
    // 3 route
    let route = route(x, &live.plan)?;
    // 4 viewer
    let early = viewer(x, route);
    if let Some(early) = early {
        return Err(early);
    }
    // 5 identify
    identify(x, route)?;
    // 6 bucket
    bucket(x, route)?;
    // 7 viewer_request hook
    if !route.hooks.viewer_request.is_empty() {
        Box::pin(hooks::viewer_request(x, route)).await?;
    }
    let mut response = match &route.target {
        Target::Redirect(redirect) => redirected(x, route, redirect)?,
        Target::Respond(fixed) => responded(x, fixed),
        Target::Function(call) => {
            x.enter()?;
            Box::pin(hooks::function(x, *call)).await?
        }
        Target::Group(_) => {
            x.rewrite(route)?;
            // What a body asks for is not in the key.
            let plain = !x.wants_upgrade && !x.has_body;
            if cached::cacheable(&x.head.method, route) && plain && x.agrees(route) {
                // 8 key, 9 look up
                match cached::look_up(x, route).await {
                    Found::Answer(response) => {
                        if x.note.hit && x.written.is_some() {
                            hooks::found(x);
                        }
                        response
                    }
                    // 10 origin_request hook, 11 fetch, 12 origin_response hook, 13 store
                    Found::Missing(missing) => {
                        x.enter()?;
                        Box::pin(pages::fetched(x, route, missing)).await?
                    }
                }
            } else {
                x.enter()?;
                Box::pin(pages::passed(x, route)).await?
            }
        }
    };
    if pages::replaces(x, route, &response) {
        Box::pin(pages::replace(x, route, &mut response)).await;
    }
    // 14 viewer_response hook
    if !route.hooks.viewer_response.is_empty() {
        Box::pin(hooks::viewer_response(x, route, &mut response)).await?;
    }
    // 15 finish
    x.finish(&mut response);
    Ok(response)
}

fn route<'p>(x: &mut Exchange, plan: &'p edgerouter_core::plan::Plan) -> Result<&'p Route, Early> {
    let found = plan.router.find(&plan.routes, &x.probe());
    if let Some(route) = found.and_then(|id| plan.route(id)) {
        if admit::evades(plan, route, &x.probe()).is_some() {
            return Err(exchange::refuse(&x.worker, Refusal::AmbiguousPath));
        }
        x.route = Some(route.id);
        return Ok(route);
    }
    x.note.outcome = Outcome::Error;
    let allowed = plan.router.allowed_methods(&plan.routes, &x.probe());
    if allowed.is_empty() {
        x.note.detail = Some("no-route");
        return Err(answer::text(
            StatusCode::NOT_FOUND,
            "No route of this edge matches the request.",
        )
        .into());
    }
    x.note.detail = Some("method-not-allowed");
    let allow: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let response = answer::text(
        StatusCode::METHOD_NOT_ALLOWED,
        "This URL does not take that method.",
    );
    let allow = HeaderValue::from_str(&allow.join(", ")).unwrap_or(HeaderValue::from_static("GET"));
    Err(answer::with(response, header::ALLOW, allow).into())
}

fn viewer(x: &mut Exchange, route: &Route) -> Option<Early> {
    match viewer::https(route.viewer, x.client.scheme) {
        Https::Proceed => None,
        Https::Forbid => {
            x.note.outcome = Outcome::Error;
            x.note.detail = Some("https-only");
            Some(answer::text(StatusCode::FORBIDDEN, "This URL is served over HTTPS only.").into())
        }
        Https::Redirect => {
            x.note.outcome = Outcome::Redirect;
            x.note.detail = Some("redirect");
            let authority = x.outer().to_str().unwrap_or_default();
            let location = viewer::https_location(authority, &x.viewer_path);
            let status = viewer::https_redirect_status(&x.head.method);
            Some(answer::redirect(status, location?).into())
        }
    }
}

fn identify(x: &mut Exchange, route: &Route) -> Result<(), Early> {
    let Some(policy) = &route.auth else {
        return Ok(());
    };
    if route.preflight == Preflight::Origin
        && viewer::is_preflight(&x.head.method, &x.head.headers, x.has_body)
    {
        // Nobody has asked for it to be another method, or to know whose it is.
        forward::preflight(&mut x.head.headers);
        return Ok(());
    }
    let (status, challenge) = match jwt::extract(policy, &x.head.headers) {
        Extracted::Token(token) => match x.verify(policy, token) {
            Ok(claims) => {
                x.claims = Some(claims);
                return Ok(());
            }
            Err(refused) => {
                x.worker.metrics.jwt(refused.as_str());
                tracing::debug!(reason = %refused, "token refused");
                jwt::challenge(policy, Some(&refused))
            }
        },
        Extracted::Absent if policy.optional => return Ok(()),
        Extracted::Absent => {
            x.worker.metrics.jwt("absent");
            jwt::challenge(policy, None)
        }
        Extracted::Malformed(reason) => {
            x.worker.metrics.jwt(reason.as_str());
            jwt::challenge(policy, Some(&reason))
        }
    };
    x.note.outcome = Outcome::Error;
    x.note.detail = Some("unauthorized");
    let message = match status {
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::SERVICE_UNAVAILABLE => "Tokens cannot be verified right now.",
        _ => "Invalid token",
    };
    let mut response = answer::text(status, message);
    if let Some(challenge) = challenge {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    Err(response.into())
}

fn bucket(x: &mut Exchange, route: &Route) -> Result<(), Early> {
    for (index, experiment) in route.experiments.iter().enumerate() {
        let assignment = experiment.assign(&x.head.headers, x.claims.as_deref(), x.worker.random());
        let chosen = Chosen {
            experiment: index,
            variant: assignment.index,
            fresh: assignment.fresh,
        };
        if chosen.fresh
            && experiment.mode == Mode::Redirect
            && matches!(x.head.method, Method::GET | Method::HEAD)
            && !loops_without_cookies(x)
        {
            x.note.outcome = Outcome::Redirect;
            x.note.detail = Some("redirect");
            let location = HeaderValue::from_str(viewer::same_url(&x.viewer_path).as_ref())
                .map_err(|_| {
                    Early::from(answer::text(
                        StatusCode::BAD_REQUEST,
                        "The URL cannot be redirected to.",
                    ))
                })?;
            x.chosen.push(chosen);
            let mut response = answer::redirect(StatusCode::FOUND, location);
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return Err(response.into());
        }
        x.chosen.push(chosen);
    }
    Ok(())
}

/// A visitor that refuses cookies would be redirected for ever: the query of the redirect can't be changed ("the same
/// URL"), so a fetch that already comes from the very URL is served instead.
fn loops_without_cookies(x: &Exchange) -> bool {
    x.head
        .headers
        .get(header::REFERER)
        .and_then(|referer| referer.to_str().ok())
        .and_then(|referer| referer.split_once("://"))
        .and_then(|(_, rest)| rest.strip_prefix(x.authority.to_str().unwrap_or_default()))
        .is_some_and(|path| path == x.viewer_path.as_str())
        && !x.head.headers.contains_key(header::COOKIE)
}

fn redirected(
    x: &mut Exchange,
    route: &Route,
    redirect: &edgerouter_core::plan::Redirect,
) -> Result<Response<EdgeBody>, Early> {
    x.note.outcome = Outcome::Redirect;
    x.note.detail = Some("redirect");
    let location =
        viewer::redirect_location(route, redirect, x.head.uri.path(), x.head.uri.query());
    match location {
        Some(location) => Ok(answer::redirect(redirect.status, location)),
        None => Err(answer::text(
            StatusCode::BAD_REQUEST,
            "The URL cannot be redirected from.",
        )
        .into()),
    }
}

/// Fixed words; a validator among their fields makes them conditional (RFC 9110 §13).
fn responded(x: &mut Exchange, fixed: &FixedResponse) -> Response<EdgeBody> {
    x.note.detail = Some("fixed");
    let mut headers: HeaderMap = fixed.headers.iter().cloned().collect();
    if validate::has_validator(&headers) {
        match validate::precondition(&x.head.method, &x.head.headers, fixed.status, &headers) {
            Precondition::Send => {}
            Precondition::NotModified => {
                validate::not_modified(&mut headers);
                return answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty());
            }
            Precondition::Failed => {
                return answer::text(
                    StatusCode::PRECONDITION_FAILED,
                    "The condition of the request does not hold.",
                );
            }
        }
    }
    answer::of(fixed.status, headers, EdgeBody::bytes(fixed.body.clone()))
}

fn has_length(response: &Response<EdgeBody>) -> bool {
    http_body::Body::size_hint(response.body())
        .exact()
        .is_some()
        || response.headers().contains_key(header::CONTENT_LENGTH)
}

impl Exchange {
    /// Phase 15: what every response gets, wherever it came from.
    fn finish(&mut self, response: &mut Response<EdgeBody>) {
        let live = Rc::clone(&self.live);
        let route = self.route.and_then(|id| live.plan.route(id));
        let headers = response.headers_mut();
        // Before the edge's own cookies: those say which variant a visitor gets, nothing about who it is.
        if live.plan.marks_personal && headers.contains_key(header::SET_COOKIE) {
            headers.insert(service_worker::PERSONAL, service_worker::PERSONAL_VALUE);
        }
        if let Some(route) = route {
            for chosen in &self.chosen {
                if chosen.fresh
                    && let Some(experiment) = route.experiments.get(chosen.experiment)
                {
                    headers.append(header::SET_COOKIE, experiment.set_cookie(chosen.variant));
                }
            }
            if !route.response_headers.is_empty() {
                forward::edit(headers, &route.response_headers);
            }
            if !self.chosen.is_empty() {
                let experiments = self
                    .chosen
                    .iter()
                    .filter_map(|chosen| route.experiments.get(chosen.experiment));
                finish::experiments(headers, experiments, &route.cache.targets);
            }
        }
        if !self.note.written
            && (self.note.forward.is_some() || self.note.hit || self.note.detail.is_some())
        {
            let status = CacheStatus {
                hit: self.note.hit,
                forward: self.note.forward,
                forward_status: self.note.forward_status.map(|status| status.as_u16()),
                ttl: self.note.ttl,
                stored: self.note.stored,
                collapsed: self.note.collapsed,
                detail: self.note.detail,
            };
            let field = self.worker.values.cache_status(
                live.plan.via.pseudonym(),
                &status,
                self.note.key.as_deref(),
            );
            headers.append(CACHE_STATUS, field);
        }
        let to_head = self.head.method == Method::HEAD;
        let status = response.status();
        // The edge made the head of a 101 itself (`tunnel::open`).
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let known = http_body::Body::size_hint(response.body()).exact();
            if fit::fit(status, response.headers_mut(), known, to_head) == Fit::NoContent {
                *response.body_mut() = EdgeBody::empty();
            }
        }
        // A field that announces trailers goes where none can follow (RFC 9110 §6.6.2).
        if !(self.wants_trailers && response.body().may_end_in_trailers()) {
            response.headers_mut().remove(header::TRAILER);
        }
        if self.head.version == Version::HTTP_10 && !to_head && !has_length(response) {
            // Only the end of the connection can end it, so that no other request may follow (RFC 9112 §6.3, §9.3): a
            // response of HTTP/1.0 gets no keep-alive.
            *response.version_mut() = Version::HTTP_10;
        }
        if to_head {
            let body = std::mem::replace(response.body_mut(), EdgeBody::empty());
            if !response.headers().contains_key(header::CONTENT_LENGTH)
                && let Some(length) = http_body::Body::size_hint(&body).exact()
                && length > 0
            {
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
    }
}
