//! Phases 10 to 12: asking the origins of a group, in order, until one answers well enough.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    bounds::memory::Purpose,
    cache::{decide, hooked::Part, tags},
    finish, forward,
    origin::attempts::{Attempts, Event, GiveUp, Members, Step, Why, is_idempotent},
    outward::Outward,
    plan::{GroupId, Origin, OriginId, Plan, RouteId, Scheme},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::hooks::{self, HookContext};
use crate::{
    account::{Hold, Owner},
    connection::{Conn, interim::Ticket},
    live::LocalLive,
    request::answer::Early,
    telemetry::access::Logged,
    upstream::{
        FetchError, HealthBoard, HearInterims, RequestBody, Turn, Unavailable, UpstreamBody,
        UpstreamRequest, UpstreamResponse, Wanted,
    },
    worker::Worker,
};

/// A short body is taken in before its response's head is passed on, for at most this long: an origin that breaks off in
/// it has not answered, and the next one may. A head is never delayed for longer than its body would have taken anyway.
const HOLD: Duration = Duration::from_millis(50);
/// What is larger is passed on as it comes.
const HOLD_BYTES: u64 = 64 << 10;

/// A request as it goes to a group of origins. It owns what it needs, so that it can outlive the client that caused it.
#[derive(Clone)]
pub struct OriginRequest {
    pub worker: Rc<Worker>,
    pub live: Rc<LocalLive>,
    pub route: RouteId,
    pub group: GroupId,
    pub method: Method,
    /// Path and query as the origin gets them, before the origin's own prefix.
    pub path_and_query: PathAndQuery,
    /// As prepared by `forward::base`.
    pub headers: HeaderMap,
    pub authority: HeaderValue,
    /// Host and port as the viewer asked for them, of a trusted proxy where there is one.
    pub outer: HeaderValue,
    pub scheme: Scheme,
    pub upgrade: bool,
    /// The client waits for a 100 before it sends the content (RFC 9110 §10.1.1).
    pub expects: bool,
    /// On whose behalf memory is held for it.
    pub owner: Owner,
    pub hooks: Option<Rc<HookContext>>,
    /// The client that waits for the answer, where it may be told of interim ones.
    pub waits: Option<Waits>,
    /// Whether anybody still waits for the answer, where that may end before the answer comes.
    pub wanted: Option<Wanted>,
    /// Learns which origin answered, for the access log.
    pub(crate) logged: Option<Rc<Logged>>,
}

/// A client that waits for the final response to one of its requests.
#[derive(Clone)]
pub struct Waits {
    pub conn: Rc<Conn>,
    pub ticket: Ticket,
}

impl Waits {
    /// Has interim responses passed on (RFC 9110 §15.2): as this route's responses are, without fields of one hop or of
    /// a content that they do not have.
    fn hear(self, ask: &OriginRequest) -> HearInterims {
        let (worker, live, route) = (Rc::clone(&ask.worker), Rc::clone(&ask.live), ask.route);
        HearInterims(Rc::new(move |status, version, mut headers| {
            finish::received(&mut headers, version, &live.plan.via);
            headers.remove(header::CONTENT_LENGTH);
            if let Some(route) = live.plan.route(route) {
                tags::take(&mut headers, &route.cache);
                for name in &route.response_headers.remove {
                    headers.remove(name);
                }
            }
            let sent = self.conn.send_interim(self.ticket, status, &headers);
            worker.metrics.interim(sent);
        }))
    }
}

/// What an origin answered, ready to be judged.
pub struct Received {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReceivedBody,
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    pub requested_at: u64,
    pub received_at: u64,
    /// `Location` and `Content-Location` as the origin wrote them, where they were rewritten.
    pub own: HeaderMap,
    /// The hooks' part in it.
    pub hooked: Part,
}

pub enum ReceivedBody {
    Upstream(UpstreamBody),
    /// A hook answered in the origin's place.
    Whole(Bytes),
}

/// Nobody answered, or a hook ended it.
pub enum Unanswered {
    Failed(Unavailable),
    Early(Early),
}

/// Runs phases 10 to 12.
pub async fn fetch(
    ask: &mut OriginRequest,
    body: RequestBody,
) -> Result<Box<Received>, Unanswered> {
    let mut hooked = Part::default();
    if let Some(context) = ask.hooks.clone()
        && !context.origin_request.is_empty()
        && let Some(answer) = hooks::origin_request(ask, &context, &mut hooked)
            .await
            .map_err(Unanswered::Early)?
    {
        let now = ask.worker.clock.unix_now();
        return Ok(Box::new(Received {
            status: answer.status,
            headers: answer.headers,
            body: ReceivedBody::Whole(answer.body),
            upgrade: None,
            requested_at: now,
            received_at: now,
            own: HeaderMap::new(),
            hooked,
        }));
    }
    let hold = room(ask)
        .await
        .map_err(|error| Unanswered::Failed(error.into()))?;
    let mut received = ask_group(ask, body).await.map_err(Unanswered::Failed)?;
    if let ReceivedBody::Upstream(body) = &mut received.body {
        body.keep(hold);
    }
    received.hooked = hooked;
    if let Some(context) = ask.hooks.clone()
        && !context.origin_response.is_empty()
    {
        hooks::origin_response(ask, &context, &mut received)
            .await
            .map_err(Unanswered::Early)?;
    }
    Ok(received)
}

/// What a request at an origin takes besides the bytes of its response: its head, kept for another attempt, and the
/// connection's buffers.
const AT_ORIGIN: u64 = 16 << 10;

/// Waits for the memory that a request at an origin takes.
async fn room(ask: &OriginRequest) -> Result<Hold, FetchError> {
    let account = &ask.worker.shared.account;
    let hold = account.open_uncut(Purpose::Heads, ask.owner);
    let patience = ask.live.plan.limits.http.body_timeout;
    match hold.drawn(AT_ORIGIN, patience).await {
        Ok(()) => Ok(hold),
        Err(_) => Err(FetchError::NoMemory),
    }
}

/// What the machine of attempts may know of the members.
struct Known<'a> {
    live: &'a LocalLive,
    board: &'a HealthBoard,
}

impl Members for Known<'_> {
    fn admits(&self, origin: OriginId) -> bool {
        let origin = self.live.plan.origin(origin);
        origin.is_none_or(|origin| self.board.is_healthy(origin))
    }

    fn is_healthy(&self, origin: OriginId) -> bool {
        let origin = self.live.plan.origin(origin);
        origin.is_none_or(|origin| self.board.knows_healthy(origin))
    }

    fn retries(&self, origin: OriginId) -> u8 {
        let origin = self.live.plan.origin(origin);
        origin.map_or(0, |origin| origin.retries)
    }
}

/// Follows the steps of `edgerouter_core::origin::attempts` until an answer is taken or none can be had.
async fn ask_group(ask: &OriginRequest, body: RequestBody) -> Result<Box<Received>, Unavailable> {
    let live = Rc::clone(&ask.live);
    let plan = &live.plan;
    let Some(group) = plan.group(ask.group) else {
        return Err(FetchError::no_origin().into());
    };
    let board = &ask.worker.shared.health;
    let known = Known { live: &live, board };
    let mut attempts = Attempts::new(group, &ask.method, body.replayable());
    let mut asked = Asked::default();
    let mut due: Option<Pin<Box<Sleep>>> = None;
    let limit = plan.deadline(group);
    let begun = Instant::now();
    let deadline = over(&body, begun, limit);
    tokio::pin!(deadline);
    // The first attempt has time-outs of its own, which come first where the deadline is not a short one.
    let mut is_first = true;
    let mut heeds_deadline = matches!(body, RequestBody::Stream(_));
    let mut last = None;
    let mut held: Option<(OriginId, Box<Received>)> = None;
    // Members that were healthy when they got the request.
    let mut trusted: SmallVec<[OriginId; 2]> = SmallVec::new();
    let mut event = Event::Ready;
    loop {
        match attempts.next(event, &known) {
            Step::Request { origin: id, fresh } => {
                let Some(origin) = plan.origin(id) else {
                    return Err(FetchError::no_origin().into());
                };
                if !matches!(event, Event::Ready) && !fresh {
                    ask.worker.metrics.failover(ask.group);
                }
                if board.knows_healthy(origin) {
                    trusted.push(id);
                }
                let since = if is_first { begun } else { Instant::now() };
                let longest = origin.connect_timeout * 2 + origin.first_byte_timeout;
                heeds_deadline |= !is_first || limit < longest;
                is_first = false;
                let answer = ask_one(ask, origin, id, body.clone(), fresh, since);
                asked.add(id, since, Box::pin(answer));
            }
            Step::RequestAfter(delay) => due = Some(Box::pin(tokio::time::sleep(delay))),
            Step::Wait => {}
            Step::Take(id) => {
                let answer = held.take().filter(|(by, _)| *by == id);
                let answer = answer.ok_or_else(FetchError::no_origin)?;
                return Ok(answer.1);
            }
            Step::GiveUp(GiveUp { why, disconnected }) => {
                let error = match (why, last) {
                    (Why::Deadline, _) => FetchError::Deadline(group.name.to_string(), limit),
                    (_, last) => last.unwrap_or_else(FetchError::no_origin),
                };
                if why == Why::Deadline {
                    asked.give_up(plan, board);
                    tracing::warn!(group = %group.name, error = %error, "no origin answered in time");
                }
                return Err(Unavailable {
                    error,
                    disconnected,
                });
            }
        }
        event = tokio::select! {
            biased;
            (id, ended) = asked.ended() => {
                trusted.retain(|trusted| *trusted != id);
                match ended {
                    Ok(received) => {
                        let status = received.status;
                        held = Some((id, received));
                        Event::Answered(id, status)
                    }
                    Err(error) => {
                        let failure = error.ended();
                        last = Some(error);
                        Event::Failed(id, failure)
                    }
                }
            }
            id = condemned(plan, board, &trusted), if attempts.heeds_health() => {
                trusted.retain(|trusted| *trusted != id);
                Event::Unhealthy(id)
            }
            () = async { if let Some(due) = &mut due { due.await } }, if due.is_some() => {
                due = None;
                Event::Due
            }
            () = &mut deadline, if heeds_deadline || due.is_some() => Event::Deadline,
        };
    }
}

/// Ends when the time for all attempts is over, which does not run while the client still sends its request.
async fn over(body: &RequestBody, begun: Instant, limit: Duration) {
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

/// The first of these origins that is found unhealthy.
async fn condemned(plan: &Plan, board: &HealthBoard, trusted: &[OriginId]) -> OriginId {
    board
        .found_unhealthy(|| {
            let mut members = trusted.iter().copied();
            members.find(|id| {
                plan.origin(*id)
                    .is_some_and(|origin| !board.knows_healthy(origin))
            })
        })
        .await
}

/// The attempts that are under way.
struct Asked<F> {
    attempts: SmallVec<[Attempt<F>; 2]>,
}

struct Attempt<F> {
    origin: OriginId,
    since: Instant,
    answer: Pin<Box<F>>,
}

impl<F> Default for Asked<F> {
    fn default() -> Self {
        Self {
            attempts: SmallVec::new(),
        }
    }
}

impl<F: Future> Asked<F> {
    fn add(&mut self, origin: OriginId, since: Instant, answer: Pin<Box<F>>) {
        self.attempts.push(Attempt {
            origin,
            since,
            answer,
        });
    }

    /// The deadline is over. It says something about members that had more than the time to connect.
    fn give_up(&self, plan: &Plan, board: &HealthBoard) {
        for attempt in &self.attempts {
            if let Some(origin) = plan.origin(attempt.origin)
                && attempt.since.elapsed() > origin.connect_timeout
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
async fn ask_one(
    ask: &OriginRequest,
    origin: &Origin,
    id: OriginId,
    body: RequestBody,
    fresh: bool,
    started: Instant,
) -> Result<Box<Received>, FetchError> {
    let mut headers = ask.headers.clone();
    forward::address(&mut headers, origin, &ask.authority);
    let request = UpstreamRequest {
        method: ask.method.clone(),
        path_and_query: prefixed(origin, &ask.path_and_query),
        headers,
        body,
        upgrade: ask.upgrade,
        interims: ask.waits.clone().map(|waits| waits.hear(ask)),
        expects: ask.expects,
        wanted: ask.wanted.clone(),
        begun: started,
    };
    let requested_at = ask.worker.clock.unix(started);
    let mut fetched = ask.worker.upstreams.fetch(origin, request, fresh).await;
    let ended = Instant::now();
    if ask.method == Method::GET
        && let Ok(response) = &mut fetched
    {
        // What is larger than a slice can be resumed where it broke off.
        let most = HOLD_BYTES.min(ask.live.plan.limits.cache.slice_bytes);
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
        && (!sent || is_idempotent(&ask.method))
    {
        return Err(error.clone());
    }
    ask.worker
        .metrics
        .origin(id, outcome(&fetched), ended.duration_since(started));
    if let (Some(logged), Ok(_)) = (&ask.logged, &fetched) {
        logged.origin.set(Some(id));
    }
    match fetched {
        Ok(UpstreamResponse {
            status,
            version,
            mut headers,
            body,
            upgrade,
        }) => {
            if decide::is_error(status) {
                ask.worker.shared.health.note_error(origin);
            } else {
                ask.worker.shared.health.note_success(origin);
            }
            if status == StatusCode::SWITCHING_PROTOCOLS {
                ask.live.plan.via.append(&mut headers, version);
            } else {
                finish::received(&mut headers, version, &ask.live.plan.via);
            }
            let received_at = ask.worker.clock.unix(ended);
            finish::date(&mut headers, received_at);
            let mut own = HeaderMap::new();
            if let Some(outward) = ask.live.plan.route(ask.route).and_then(|route| {
                Outward::new(origin, route, &ask.authority, &ask.outer, ask.scheme)
            }) {
                outward.apply(&mut headers, &mut own);
            }
            Ok(Box::new(Received {
                status,
                headers,
                body: ReceivedBody::Upstream(body),
                upgrade,
                requested_at,
                received_at,
                own,
                hooked: Part::default(),
            }))
        }
        Err(error) => {
            if error.is_origins_fault() {
                ask.worker.shared.health.note_failure(origin);
            }
            tracing::warn!(origin = %origin.name, error = %error, "origin request failed");
            Err(error)
        }
    }
}

fn outcome(fetched: &Result<UpstreamResponse, FetchError>) -> Result<StatusCode, &'static str> {
    match fetched {
        Ok(response) => Ok(response.status),
        Err(error) => Err(error.as_str()),
    }
}

fn prefixed(origin: &Origin, path_and_query: &PathAndQuery) -> PathAndQuery {
    if origin.path_prefix.is_empty() {
        return path_and_query.clone();
    }
    let joined = format!("{}{}", origin.path_prefix, path_and_query);
    PathAndQuery::try_from(joined).unwrap_or_else(|_| path_and_query.clone())
}
