//! The path of a request: the one place that knows the order of the phases (docs/design.md §3).
//!
//! `path` reads from top to bottom, one call a phase; each phase's inside is in its own room. Phases that need only
//! this worker's memory run without suspending, so a cached hit is answered in the poll that read it.

mod accounting;
pub(crate) mod answer;
mod attempts;
pub(crate) mod cached;
mod challenge;
mod compression;
mod decided;
pub(crate) mod exchange;
pub(crate) mod fetches;
mod files;
mod foreign;
pub(crate) mod hooks;
mod images;
pub(crate) mod internal;
mod navigation;
mod nonce;
mod note;
pub(crate) mod origin;
pub(crate) mod origin_request;
mod original;
mod outgoing;
mod outside;
pub(crate) mod pages;
mod traced;
pub(crate) mod tunnel;
mod variant;
mod visitor;

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    access_log::AccessLogPolicy,
    admit,
    cache::validate::{self, Precondition},
    finish, forward,
    http::{
        framing::fit::{self, Fit},
        header,
        structured::CacheStatus,
    },
    identity::jwt::TokenError,
    outcome::Detail,
    path::PathEnd,
    pinned,
    plan::{FixedResponse, ListenerId, Plan, Target},
    request_record::RequestRecord,
    service_worker,
};
use http::{HeaderValue, Method, StatusCode};

use self::{answer::Early, cached::Found, exchange::Exchange};
use crate::{
    body::{Busy, EdgeBody, EdgeResponse},
    connection::{Arrived, ConnectionOwner, Connections, IdleServers, ResponseBody, Stream, queue},
    functions::fetch::FetchCache,
    listen::tls::{HandshakeCounts, TlsListener},
    telemetry::{
        Outcome, Refused, WorkerMetrics,
        trace::{OpenSpan, Work},
    },
    worker::Worker,
};

impl ConnectionOwner for Worker {
    type Body = EdgeBody;

    async fn serve(self: Rc<Self>, stream: Rc<Stream>, request: Arrived) -> EdgeResponse {
        let started = Instant::now();
        let busy = Busy(Rc::clone(&stream));
        let (head, body) = match request {
            Ok(request) => request,
            Err(refusal) => {
                self.metrics.refused(Refused::Request(refusal));
                if let Some(observed) = &self.live().observed {
                    let record = RequestRecord::refused(
                        self.clock.unix_millis(started),
                        stream.connection.peer.ip(),
                        stream.connection.scheme.as_str(),
                        self.next_id(),
                        (refusal.status(), refusal.as_str()),
                    );
                    let lines = observed.begin(&record, &AccessLogPolicy::default());
                    if let Some(lines) = lines {
                        lines.end(0, 0);
                    }
                }
                let mut response = answer::refused(refusal);
                response.body_mut().hold(busy, None);
                return response;
            }
        };
        let mut exchange = Exchange::new(self, stream, head, Some(body), started);
        if exchange.live.candidate.is_some() {
            exchange.choose_version();
        }
        if let Err(early) = exchange.admit() {
            let mut response = early.0;
            response.body_mut().hold(busy, None);
            return response;
        }
        if exchange.live.plan.tracing.is_some() {
            exchange.choose_trace();
        }
        let mut response = match path(&mut exchange).await {
            Ok(response) => response,
            Err(early) => {
                let mut response = early.0;
                if let Some(trace) = response.extensions_mut().remove::<answer::Trace>()
                    && exchange.client_is_local()
                {
                    trace.show(&mut response, &exchange.head.headers);
                }
                exchange.finish(&mut response);
                response
            }
        };
        exchange.account(&mut response);
        let length = http_body::Body::size_hint(response.body()).exact();
        if response.body().streams() && queue::is_counted(length) {
            let route = exchange.route.and_then(|id| exchange.live.plan.route(id));
            let owner = route.map_or_else(Default::default, |route| exchange.owner(route));
            let account = &exchange.worker.shared.account;
            exchange.stream.count(account, owner);
        }
        let under_way = exchange.under_way.take();
        response.body_mut().hold(busy, under_way);
        response
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn with_plan<R>(&self, read: impl FnOnce(&Plan, usize) -> R) -> R {
        let live = self.live();
        read(&live.plan, live.connections)
    }

    fn idle_servers(&self) -> &IdleServers<Self> {
        &self.servers
    }

    fn tls(&self, listener: ListenerId) -> Option<Arc<TlsListener>> {
        self.live().tls.get(listener).cloned()
    }

    fn handshakes(&self) -> &HandshakeCounts {
        &self.shared.handshakes
    }

    fn ticks(&self) -> u64 {
        self.clock.ticks()
    }

    fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }
}

/// The phases.
async fn path(exchange: &mut Exchange) -> Result<EdgeResponse, Early> {
    let live = Rc::clone(&exchange.live);
    // 2 was admission: here is a Request that may be believed in its framing, Host and path.
    // An issuer of certificates has no token, and follows no redirect to https.
    if live.plan.answers_challenges
        && let Some(token) = challenge::token(exchange)
        && let Some(response) = Box::pin(challenge::answer(exchange, &token)).await
    {
        return Err(response.into());
    }
    // 3 route, 4 viewer, 5 identify, 6 bucket
    let route = match decided::decide(exchange, &live) {
        Err(PathEnd::Password) => Box::pin(decided::verified(exchange, &live)).await?,
        Err(
            end
            @ PathEnd::Unauthorized(Some(TokenError::NoKey | TokenError::UnknownKey { .. }), ..),
        ) => Box::pin(decided::with_awaited_keys(exchange, &live, end)).await?,
        decided => decided.map_err(|end| exchange.end(end))?,
    };
    if !exchange.turn_in().is_zero() {
        Box::pin(decided::wait_for_turn(exchange, &live)).await?;
    }
    if route.own_bytes {
        hooks::without_range(exchange, route);
    }
    if route.counts_visitors {
        exchange.note_visitor();
    }
    // 7 viewer_request hook
    if !route.hooks.viewer_request.is_empty() {
        exchange.trace_work();
        if let Err(early) = pinned!(hooks::viewer_request(exchange, route)).await {
            // A hook that answers has done what the request was for.
            pages::outdate(exchange, early.0.status(), [early.0.headers()]);
            return Err(early);
        }
    }
    exchange.key_client(route);
    let mut response = match &route.target {
        Target::Redirect(redirect) => {
            let location = exchange
                .location(route, redirect)
                .map_err(|end| exchange.end(end))?;
            (exchange.note.outcome, exchange.note.detail) =
                (Outcome::Redirect, Some(Detail::Redirect));
            answer::redirect(redirect.status, location)
        }
        Target::Respond(fixed) => responded(exchange, fixed),
        Target::Function(call) if !route.cache.enabled => {
            exchange.enter()?;
            hooks::function(exchange, *call).await?
        }
        Target::Files(folder) => {
            exchange.enter()?;
            pinned!(files::file(exchange, route, folder)).await?
        }
        Target::Images(sources) => Box::pin(images::named(exchange, &live, route, sources)).await?,
        Target::Group(_) if route.images.is_some() => {
            Box::pin(images::on_route(exchange, route)).await?
        }
        Target::Group(_) | Target::Function(_) => {
            exchange.rewrite(route).map_err(|end| exchange.end(end))?;
            // The content of a request is not in the key.
            let plain = !exchange.wants_upgrade
                && !exchange.has_body
                && exchange.fetch_cache != FetchCache::NoStore;
            if cached::cacheable(&exchange.head.method, route) && plain && exchange.agrees(route) {
                // 8 key, 9 look up
                let span = exchange.begin_span(Work::Cache, "cache");
                match cached::look_up(exchange, route).await {
                    Found::Answer(response) => {
                        if let Some(span) = span {
                            looked_up(*span, exchange.note.outcome, None);
                        }
                        if exchange.note.hit && exchange.written.is_some() {
                            hooks::found(exchange);
                        }
                        response
                    }
                    // 10 origin_request hook, 11 fetch, 12 origin_response hook, 13 store
                    Found::Missing(missing) => {
                        if let Some(span) = span {
                            looked_up(*span, Outcome::Miss, Some(missing.detail));
                        }
                        exchange.enter()?;
                        let body = exchange.take_body();
                        pinned!(cached::fetch(exchange, route, missing, body)).await?
                    }
                }
            } else {
                exchange.enter()?;
                match route.target {
                    Target::Function(call) => {
                        let response = hooks::function(exchange, call).await?;
                        pages::outdate(exchange, response.status(), [response.headers()]);
                        response
                    }
                    _ => pinned!(pages::passed(exchange, route)).await?,
                }
            }
        }
    };
    if let Some(page) = pages::stand_in(exchange, route, &response) {
        Box::pin(pages::replace(exchange, route, page, &mut response)).await;
    }
    // 14 viewer_response hook
    if !route.hooks.viewer_response.is_empty() {
        exchange.trace_work();
        pinned!(hooks::viewer_response(exchange, route, &mut response)).await?;
    }
    // 15 finish
    if let Some(placeholder) = &route.nonce {
        nonce::replace(exchange, placeholder, &mut response);
    }
    if route.compress {
        compression::compress(exchange, route, &mut response);
    }
    exchange.finish(&mut response);
    Ok(response)
}

/// Ends the span of a look-up.
fn looked_up(mut span: OpenSpan, outcome: Outcome, why: Option<Detail>) {
    span.note("edgerouter.cache", outcome.as_str());
    if let Some(why) = why {
        span.note("edgerouter.reason", why.as_str());
    }
    span.end(None);
}

/// A fixed response, as its conditions leave it (RFC 9110 §13).
fn responded(exchange: &mut Exchange, fixed: &FixedResponse) -> EdgeResponse {
    exchange.note.detail = Some(Detail::Fixed);
    let (outcome, mut headers) = exchange.fixed(fixed);
    match outcome {
        Precondition::Send => {
            answer::of(fixed.status, headers, EdgeBody::bytes(fixed.body.clone()))
        }
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty())
        }
        Precondition::Failed => answer::text(
            StatusCode::PRECONDITION_FAILED,
            "The condition of the request does not hold.",
        ),
    }
}

impl Exchange {
    /// Phase 15: what every response gets, wherever it came from.
    fn finish(&mut self, response: &mut EdgeResponse) {
        let live = Rc::clone(&self.live);
        let route = self.route.and_then(|id| live.plan.route(id));
        let headers = response.headers_mut();
        // Before the edge's own cookies: those say which variant a visitor gets, nothing about who it is.
        if live.plan.marks_personal && headers.contains_key(header::SET_COOKIE) {
            headers.insert(service_worker::PERSONAL, service_worker::PERSONAL_VALUE);
        }
        self.request.guard_response(&live.plan, route, headers);
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
                let experiments = self.chosen.iter().filter_map(|chosen| {
                    let experiment = route.experiments.get(chosen.experiment)?;
                    Some((experiment, chosen.by_id))
                });
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
                detail: self.note.detail.map(Detail::as_str),
            };
            let field = self.worker.values.cache_status(
                live.plan.via.pseudonym(),
                &status,
                self.note.key.as_deref(),
            );
            finish::drop_malformed_cache_status(headers);
            headers.append(header::CACHE_STATUS, field);
        }
        if self.shows_timing
            && let Some((name, value)) = self.server_timing()
        {
            response.headers_mut().append(name, value);
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
        if !(self.wants_trailers && response.body_mut().end_in_trailers()) {
            response.headers_mut().remove(header::TRAILER);
        } else if !ResponseBody::announces_trailers(response.body()) {
            // A callable writes the field itself, or leaves it out.
            admit::trailers(response.headers_mut(), |_| true);
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
