//! Phase 11: carries out the steps of `core::origin::attempts` until a response is taken or none can be had.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use edgerouter_core::http::Fields;
use edgerouter_core::http::{PathAndQuery, header, is_event_stream};
use edgerouter_core::{
    boxed,
    cache::{decide, hooked::HookEffect},
    finish, forward,
    origin::attempts::{Attempts, Event, GiveUp, Members, Step, Why, is_idempotent},
    outcome::Detail,
    outward::Outward,
    pinned,
    plan::{Group, GroupId, Origin, OriginId, Plan},
};
use http::{Method, StatusCode};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::{
    origin_request::{OriginRequest, Received, ReceivedBody, Source},
    traced::{begin_attempt, end_attempt},
};
use crate::{
    live::LocalLive,
    telemetry::log,
    upstream::{
        FetchError, HealthBoard, HearInterims, RequestBody, RequestStream, Turn, Unavailable,
        UpstreamRequest, UpstreamResponse, Upstreams,
    },
};

/// Longest time for which a short body is taken in before the head of its response is passed on: an origin that breaks
/// off in it has not answered, and the next one may. A head is never delayed for longer than its body would have taken
/// anyway.
const HOLD: Duration = Duration::from_millis(50);
/// A longer body is passed on as it comes.
const HOLD_BYTES: u64 = 64 << 10;

/// The health of members, and the requests under way at them, for the machine of attempts.
struct Known<'a> {
    live: &'a LocalLive,
    upstreams: &'a Upstreams,
}

impl Members for Known<'_> {
    fn admits(&self, id: OriginId) -> bool {
        let origin = self.live.plan.origin(id);
        origin.is_none_or(|origin| self.live.health.admits(id, origin))
    }

    fn is_healthy(&self, origin: OriginId) -> bool {
        self.live.health.knows_healthy(origin)
    }

    fn retries(&self, origin: OriginId) -> u8 {
        let origin = self.live.plan.origin(origin);
        origin.map_or(0, |origin| origin.retries)
    }

    fn under_way(&self, origin: OriginId) -> usize {
        let origin = self.live.plan.origin(origin);
        origin.map_or(0, |origin| self.upstreams.under_way(origin))
    }
}

/// Requests from the members of the group until a response is taken.
pub(super) async fn run(
    request: &OriginRequest,
    body: RequestBody,
) -> Result<Box<Received>, Unavailable> {
    let live = Rc::clone(&request.live);
    let plan = &live.plan;
    let Source::Group(group_id) = request.source else {
        return Err(FetchError::NoOrigin.into());
    };
    let Some(group) = plan.group(group_id) else {
        return Err(FetchError::NoOrigin.into());
    };
    let board = &request.worker.shared.health;
    let known = Known {
        live: &live,
        upstreams: &request.worker.upstreams,
    };
    let mut attempts = attempts(request, (group_id, group), body.replayable(), &known);
    let mut pending = PendingAttempts::default();
    let mut delay: Option<Pin<Box<Sleep>>> = None;
    let limit = plan.deadline(group);
    let begun = Instant::now();
    let mut deadline = pin!(deadline(&body, begun, limit));
    let mut heeds_deadline = matches!(body, RequestBody::Stream(_));
    let mut last = None;
    let mut response: Option<(OriginId, Box<Received>)> = None;
    // Members that were healthy when they got the request.
    let mut trusted: SmallVec<[OriginId; 2]> = SmallVec::new();
    let mut event = Event::Ready;
    loop {
        match attempts.next(event, &known) {
            Step::Request { origin: id, fresh } => {
                let Some(origin) = plan.origin(id) else {
                    return Err(FetchError::NoOrigin.into());
                };
                let is_first = event == Event::Ready;
                if !is_first && !fresh {
                    request.live.metrics.failover(group_id);
                    note_failover(plan, &group.name, &origin.name, event);
                }
                if live.health.knows_healthy(id) {
                    trusted.push(id);
                }
                let since = if is_first { begun } else { Instant::now() };
                // The first attempt has time-outs of its own, which come first where the deadline is not a short one.
                let longest = origin.times.connect * 2 + origin.times.first_byte;
                heeds_deadline |= !is_first || limit < longest;
                let body = body.clone();
                let answer = pinned!(attempt(request, origin, id, body, fresh, since));
                pending.add(id, since, answer);
            }
            Step::RequestAfter(time) => delay = Some(Box::pin(tokio::time::sleep(time))),
            Step::Wait => {}
            Step::Take(id) => {
                let taken = response.take().filter(|(by, _)| *by == id);
                return Ok(taken.ok_or(FetchError::NoOrigin)?.1);
            }
            Step::GiveUp(GiveUp { why, disconnected }) => {
                let error = if why == Why::Deadline {
                    pending.note_late(plan, board);
                    late(group, limit)
                } else {
                    last.unwrap_or(FetchError::NoOrigin)
                };
                return Err(Unavailable {
                    error,
                    disconnected,
                });
            }
        }
        event = tokio::select! {
            biased;
            (id, ended) = pending.ended() => {
                trusted.retain(|trusted| *trusted != id);
                match ended {
                    Ok(received) => {
                        let status = received.status;
                        response = Some((id, received));
                        Event::Answered(id, status)
                    }
                    Err(error) => {
                        let failure = error.ended();
                        last = Some(error);
                        Event::Failed(id, failure)
                    }
                }
            }
            id = unhealthy(plan, board, &trusted), if attempts.heeds_health() => {
                trusted.retain(|trusted| *trusted != id);
                Event::Unhealthy(id)
            }
            () = async { if let Some(delay) = &mut delay { delay.await } }, if delay.is_some() => {
                delay = None;
                Event::Due
            }
            () = &mut deadline, if heeds_deadline || delay.is_some() => Event::Deadline,
        };
    }
}

/// The attempts at the members of a group, in their order or in that of its balance.
fn attempts<'g>(
    request: &OriginRequest,
    (id, group): (GroupId, &'g Group),
    replayable: bool,
    known: &Known<'_>,
) -> Attempts<'g> {
    if !group.balance.is_spread() {
        return Attempts::new(group, &request.method, replayable);
    }
    let mut turns = request.live.turns.borrow_mut();
    let order = turns.order((id, group), request.hash_key, known);
    Attempts::in_order(group, &order, &request.method, replayable)
}

fn late(group: &Group, limit: Duration) -> FetchError {
    let error = FetchError::Deadline(group.name.to_string(), limit);
    tracing::warn!(group = %group.name, error = %error, "no origin answered in time");
    error
}

/// Notes for the timeline why a request continues with another member.
fn note_failover(plan: &Plan, group: &str, to: &str, event: Event) {
    let name = |id| plan.origin(id).map_or("", |origin| &*origin.name);
    let why = match event {
        Event::Answered(id, status) => format!("{} answered {}", name(id), status.as_u16()),
        Event::Failed(id, _) => format!("{} did not answer", name(id)),
        Event::Unhealthy(id) => format!("{} became unhealthy", name(id)),
        Event::Due => "the first took long".to_owned(),
        Event::Ready | Event::Deadline => String::new(),
    };
    let message = "requests continue with another origin";
    let fields = [("group", group), ("origin", to), ("why", &why)];
    log::recent::note("warn", message, &fields);
}

/// Ends when the time for all attempts is over, which does not run while the client still sends its request.
async fn deadline(body: &RequestBody, begun: Instant, limit: Duration) {
    if let RequestBody::Stream(stream) = body {
        loop {
            match stream.turn() {
                Turn::Whole(since) => return tokio::time::sleep_until(since + limit).await,
                Turn::Client | Turn::Origin(_) => tokio::time::sleep(limit).await,
            }
        }
    }
    tokio::time::sleep_until((begun + limit).into()).await;
}

/// Waits until one of these origins is found unhealthy.
async fn unhealthy(plan: &Plan, board: &HealthBoard, trusted: &[OriginId]) -> OriginId {
    let is_unhealthy = |id: &OriginId| {
        let origin = plan.origin(*id);
        origin.is_some_and(|origin| !board.knows_healthy(origin))
    };
    board
        .found_unhealthy(|| trusted.iter().copied().find(is_unhealthy))
        .await
}

/// The attempts that are under way.
struct PendingAttempts<F> {
    attempts: SmallVec<[Attempt<F>; 2]>,
}

struct Attempt<F> {
    origin: OriginId,
    since: Instant,
    answer: Pin<Box<F>>,
}

impl<F> Default for PendingAttempts<F> {
    fn default() -> Self {
        Self {
            attempts: SmallVec::new(),
        }
    }
}

impl<F: Future> PendingAttempts<F> {
    fn add(&mut self, origin: OriginId, since: Instant, answer: Pin<Box<F>>) {
        self.attempts.push(Attempt {
            origin,
            since,
            answer,
        });
    }

    /// Counts the deadline against members that had more than the time to connect.
    fn note_late(&self, plan: &Plan, board: &HealthBoard) {
        for attempt in &self.attempts {
            if let Some(origin) = plan.origin(attempt.origin)
                && attempt.since.elapsed() > origin.times.connect
            {
                board.note_failure(origin);
            }
        }
    }

    /// The first that ends.
    async fn ended(&mut self) -> (OriginId, F::Output) {
        poll_fn(|cx| {
            for at in 0..self.attempts.len() {
                if let Some(attempt) = self.attempts.get_mut(at)
                    && let Poll::Ready(ended) = attempt.answer.as_mut().poll(cx)
                {
                    return Poll::Ready((self.attempts.remove(at).origin, ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// One attempt at one origin, whose response becomes the edge's: fields of one hop are gone, and links point to the
/// edge.
async fn attempt(
    request: &OriginRequest,
    origin: &Origin,
    id: OriginId,
    body: RequestBody,
    fresh: bool,
    started: Instant,
) -> Result<Box<Received>, FetchError> {
    let mut headers = request.headers.clone();
    forward::address(&mut headers, origin, &request.authority);
    let span = begin_attempt(request, origin, &mut headers, started);
    let client = request.interims.as_ref();
    let hear = client.map(|client| client.hear(request));
    let upload = match &body {
        RequestBody::Stream(stream) => Some(stream.clone()),
        _ => None,
    };
    let upstream = UpstreamRequest {
        method: request.method.clone(),
        path_and_query: prefixed(origin, &request.path_and_query),
        headers,
        body,
        upgrade: request.upgrade,
        interims: hear.as_ref().map(|hear| HearInterims(hear)),
        expects: request.expects,
        wanted: request.wanted.clone(),
        begun: started,
    };
    let requested_at = request.worker.clock.since_epoch(started);
    let mut fetched = request
        .worker
        .upstreams
        .fetch(origin, upstream, fresh)
        .await;
    let ended = Instant::now();
    if request.method == Method::GET
        && let Ok(response) = &mut fetched
    {
        // A body that is longer than a slice can be resumed where it broke off.
        let most = HOLD_BYTES.min(request.live.plan.limits.cache.slice_bytes);
        if let Err(error) = response.body.hold(most, HOLD).await {
            fetched = Err(error);
        }
    }
    // A kept connection that the origin closed just then is no failure: the request is repeated on a new one.
    if let Err(
        error @ FetchError::Reset {
            kept: true, sent, ..
        },
    ) = &fetched
        && (!sent || is_idempotent(&request.method))
    {
        return Err(error.clone());
    }
    let result = fetched.as_ref().map(|response| response.status);
    let (result, took) = (result.map_err(Detail::from), ended.duration_since(started));
    if let Some(span) = span {
        end_attempt(*span, result);
    }
    request.live.metrics.origin(id, result, took);
    if let (Some(logged), Ok(_)) = (&request.logged, &fetched) {
        logged.origin.set(Some(id));
    }
    match fetched {
        Ok(mut response) => {
            report_content(request, id, &mut response);
            if decide::is_error(response.status) {
                request.worker.shared.health.note_error(origin);
            } else {
                request.live.health.note_success(id, origin, ended);
            }
            let times = (requested_at.as_secs(), (requested_at + took).as_secs());
            Ok(received(request, origin, response, times))
        }
        Err(error) => {
            if is_origins_fault(&error, upload.as_ref()) {
                request.worker.shared.health.note_failure(origin);
            }
            if matches!(
                error,
                FetchError::RequestBody(_) | FetchError::SlowUpload(_)
            ) {
                // A client that leaves in the middle of an upload is no event at the origin.
                tracing::debug!(origin = %origin.name, error = %error, "request broke off");
            } else {
                tracing::warn!(origin = %origin.name, error = %error, "origin request failed");
            }
            Err(error)
        }
    }
}

/// Has the content of a response counted when it is over, and an origin whose fault it is that it broke off.
fn report_content(request: &OriginRequest, id: OriginId, response: &mut UpstreamResponse) {
    let (live, route) = (Rc::clone(&request.live), request.route);
    let worker = Rc::clone(&request.worker);
    // A stream of events ends with its origin's process, which is no fault.
    let kind = response.headers.get(header::CONTENT_TYPE);
    let is_lasting = kind.is_some_and(|kind| is_event_stream(kind.as_bytes()));
    response.body.report(move |bytes, fault| {
        live.metrics.bytes_in(id, route, bytes);
        if let Some(error) = fault
            && !is_lasting
            && let Some(origin) = live.plan.origin(id)
        {
            tracing::warn!(origin = %origin.name, %error, "the response of an origin broke off");
            worker.shared.health.note_broken(origin);
        }
    });
}

/// True if a failure counts against the origin's health. One that closes the connection while the rest of an upload is
/// waited for may have got tired of the client. The time of a request as a whole also runs while its client sends: it
/// counts where the origin has had half of it at least.
fn is_origins_fault(error: &FetchError, upload: Option<&RequestStream>) -> bool {
    match (error, upload.map(RequestStream::turn)) {
        (FetchError::Reset { .. } | FetchError::TotalTimeout(..), Some(Turn::Client)) => false,
        (FetchError::TotalTimeout(_, limit), Some(Turn::Origin(since) | Turn::Whole(since))) => {
            since.elapsed() * 2 >= *limit
        }
        _ => error.is_origins_fault(),
    }
}

fn prefixed(origin: &Origin, path_and_query: &PathAndQuery) -> PathAndQuery {
    if origin.path_prefix.is_empty() {
        return path_and_query.clone();
    }
    let joined = format!("{}{}", origin.path_prefix, path_and_query);
    PathAndQuery::try_from(joined).unwrap_or_else(|_| path_and_query.clone())
}

/// The response of an origin as the edge's own. `(requested_at, received_at)`: the Unix seconds of the attempt's start
/// and of the response's head.
fn received(
    request: &OriginRequest,
    origin: &Origin,
    response: UpstreamResponse,
    (requested_at, received_at): (u64, u64),
) -> Box<Received> {
    let UpstreamResponse {
        status,
        version,
        mut headers,
        body,
        upgrade,
    } = response;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        request.live.plan.via.append(&mut headers, version);
    } else {
        finish::received(&mut headers, version, &request.live.plan.via);
    }
    finish::date(&mut headers, received_at, &request.worker.last_date);
    let mut own = Fields::new();
    if Outward::concerns(&headers)
        && let Some(route) = request.live.plan.route(request.route)
        && let Some(outward) = Outward::new(
            origin,
            route,
            request.authority.as_str(),
            request.outer.as_str(),
            request.scheme,
        )
    {
        outward.apply(&mut headers, &mut own);
    }
    boxed!(Received {
        status,
        headers,
        body: ReceivedBody::Upstream(body),
        upgrade,
        requested_at,
        received_at,
        own,
        hooked: HookEffect::default(),
    })
}
