//! Phases 10 to 12: asking the origins of a group, in order, until one answers well enough.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    cache::decide,
    finish, forward,
    origin::failover::{self, Attempt},
    plan::{GroupId, Origin, OriginId, RouteId},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;

use super::hooks::{self, HookContext};
use crate::{
    body::BoxError,
    functions::Phase,
    listen::{Conn, interim::Ticket},
    request::{answer::Early, cached::take_tags},
    upstream::{
        FetchError, HearInterims, RequestBody, UpstreamBody, UpstreamRequest, UpstreamResponse,
    },
    worker::{LocalLive, Worker},
};

/// A short body is taken in before its response's head is passed on, for at most this long: an origin that breaks off in
/// it has not answered, and the next one may. A head is never delayed for longer than its body would have taken anyway.
const HOLD: Duration = Duration::from_millis(50);
/// What is larger is passed on as it comes.
const HOLD_BYTES: u64 = 64 << 10;

/// A request as it goes to a group of origins. It owns what it needs, so that it can outlive the client that caused it.
#[derive(Clone)]
pub struct Ask {
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
    pub upgrade: bool,
    pub hooks: Option<Rc<HookContext>>,
    /// The client that waits for the answer, where it may be told of interim ones.
    pub waits: Option<Waits>,
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
    fn hear(self, ask: &Ask) -> HearInterims {
        let (worker, live, route) = (Rc::clone(&ask.worker), Rc::clone(&ask.live), ask.route);
        HearInterims(Rc::new(move |status, version, mut headers| {
            finish::received(&mut headers, version, &live.plan.via);
            headers.remove(header::CONTENT_LENGTH);
            if let Some(route) = live.plan.route(route) {
                take_tags(route, &mut headers);
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
}

pub enum ReceivedBody {
    Upstream(UpstreamBody),
    /// A hook answered in the origin's place.
    Whole(Bytes),
}

/// Nobody answered, or a hook ended it.
pub enum Unanswered {
    Failed(FetchError),
    Early(Early),
}

impl Ask {
    /// Whether a request body may be sent again.
    fn replayable(body: &RequestBody) -> bool {
        !matches!(body, RequestBody::Stream(_))
    }
}

/// Runs phases 10 to 12.
pub async fn ask(ask: &mut Ask, body: RequestBody) -> Result<Received, Unanswered> {
    if let Some(context) = ask.hooks.clone()
        && !context.origin_request.is_empty()
        && let Some(answer) = hooks::origin_request(ask, &context)
            .await
            .map_err(Unanswered::Early)?
    {
        let now = ask.worker.clock.unix_now();
        return Ok(Received {
            status: answer.status,
            headers: answer.headers,
            body: ReceivedBody::Whole(answer.body),
            upgrade: None,
            requested_at: now,
            received_at: now,
        });
    }
    let mut received = ask_group(ask, body).await.map_err(Unanswered::Failed)?;
    if let Some(context) = ask.hooks.clone()
        && !context.origin_response.is_empty()
    {
        hooks::response(
            &ask.worker,
            &ask.live,
            &context,
            Phase::OriginResponse,
            &mut received,
        )
        .await
        .map_err(Unanswered::Early)?;
    }
    Ok(received)
}

async fn ask_group(ask: &mut Ask, mut body: RequestBody) -> Result<Received, FetchError> {
    let live = Rc::clone(&ask.live);
    let Some(group) = live.plan.group(ask.group) else {
        return Err(FetchError::no_origin());
    };
    let mut tried: SmallVec<[OriginId; 4]> = SmallVec::new();
    let replayable = Ask::replayable(&body);
    let mut last: Option<Result<Received, FetchError>> = None;
    let mut reached = false;
    loop {
        let health = |id: OriginId| {
            live.plan
                .origin(id)
                .is_none_or(|origin| ask.worker.shared.health.is_healthy(origin))
        };
        let attempt = match &last {
            None => Attempt::First,
            Some(Ok(received)) => Attempt::Answered(received.status),
            Some(Err(error)) => Attempt::Failed { sent: error.sent() },
        };
        let unread = matches!(&last, Some(Err(error)) if !error.sent());
        let Some(next) = failover::next(
            group,
            &tried,
            health,
            &ask.method,
            replayable || unread,
            attempt,
        ) else {
            break;
        };
        let Some(origin) = live.plan.origin(next) else {
            break;
        };
        if !tried.is_empty() {
            ask.worker.metrics.failover(ask.group);
        }
        tried.push(next);
        let more = tried.len() < group.members.len();
        let this_body = if more {
            replay(&mut body)
        } else {
            std::mem::replace(&mut body, RequestBody::Empty)
        };
        let asked = ask_one(ask, origin, next, this_body, more).await;
        reached |= !matches!(&asked, Err(error) if error.is_disconnection());
        last = Some(asked);
    }
    let all_asked = |id: &OriginId| {
        tried.contains(id)
            || live
                .plan
                .origin(*id)
                .is_some_and(|origin| !ask.worker.shared.health.is_known_healthy(origin))
    };
    match last {
        // The edge is disconnected where no member is left that may be there (RFC 9111 §4.2.4).
        Some(Err(error))
            if error.is_disconnection() && (reached || !group.members.iter().all(all_asked)) =>
        {
            Err(FetchError::LastOfGroup(Box::new(error)))
        }
        Some(ended) => ended,
        None => Err(FetchError::no_origin()),
    }
}

/// A body for this attempt that leaves one for the next where that is possible: a stream that nobody has read from, as
/// when no connection came about, is as good as new.
fn replay(body: &mut RequestBody) -> RequestBody {
    match body {
        RequestBody::Empty => RequestBody::Empty,
        RequestBody::Full(bytes) => RequestBody::Full(bytes.clone()),
        RequestBody::Stream(_) => match std::mem::replace(body, RequestBody::Empty) {
            RequestBody::Stream(stream) => {
                let shared = SharedStream(Rc::new(RefCell::new(stream)));
                *body = RequestBody::Stream(Box::pin(shared.clone()));
                RequestBody::Stream(Box::pin(shared))
            }
            other => other,
        },
    }
}

/// A request's stream that two attempts hold in turn. `failover::next` makes sure that the second only gets it unread.
#[derive(Clone)]
struct SharedStream(Rc<RefCell<Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>>>);

impl Body for SharedStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.borrow_mut().as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().size_hint()
    }
}

async fn ask_one(
    ask: &mut Ask,
    origin: &Origin,
    id: OriginId,
    body: RequestBody,
    more: bool,
) -> Result<Received, FetchError> {
    let mut headers = if more {
        ask.headers.clone()
    } else {
        std::mem::take(&mut ask.headers)
    };
    forward::address(&mut headers, origin, &ask.authority);
    let request = UpstreamRequest {
        method: ask.method.clone(),
        path_and_query: prefixed(origin, &ask.path_and_query),
        headers,
        body,
        upgrade: ask.upgrade,
        interims: ask.waits.clone().map(|waits| waits.hear(ask)),
    };
    let started = Instant::now();
    let requested_at = ask.worker.clock.unix(started);
    let mut fetched = ask.worker.upstreams.fetch(origin, request).await;
    let ended = Instant::now();
    if ask.method == Method::GET
        && let Ok(response) = &mut fetched
    {
        // What is larger than a slice can be resumed where it broke off.
        let most = HOLD_BYTES.min(ask.live.plan.limits.slice_bytes);
        if let Err(error) = response.body.hold(most, HOLD).await {
            fetched = Err(error);
        }
    }
    ask.worker
        .metrics
        .origin(id, outcome(&fetched), ended.duration_since(started));
    match fetched {
        Ok(UpstreamResponse {
            status,
            version,
            mut headers,
            body,
            upgrade,
            ..
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
            Ok(Received {
                status,
                headers,
                body: ReceivedBody::Upstream(body),
                upgrade,
                requested_at,
                received_at,
            })
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

/// The length that the origin announced.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
