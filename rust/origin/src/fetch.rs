//! One request to one origin, on a connection of the worker's own.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use edgerouter_core::http::PathAndQuery;
use edgerouter_core::http::{Fields, header};
use edgerouter_core::{
    admit,
    http::{
        framing::{
            BadFraming, BodyFraming,
            head::{BadResponse, OriginHead},
        },
        is_event_stream,
    },
    pinned,
    plan::Origin,
};
use http::{HeaderValue, Method, StatusCode, Version};

use super::{
    FetchError,
    body::UpstreamBody,
    connect::Addresses,
    connection::{HearInterims, NoResponse, OriginConnection},
    message::{UpstreamRequest, UpstreamResponse},
    pool::{Connected, Pool, Pools},
    request_body::{RequestBody, RequestStream, Turn},
    request_writer::OutboundRequest,
    wanted::{Held, Wanted},
};

/// The connections of a worker to all origins.
#[derive(Debug, Default)]
pub struct Upstreams {
    pools: Pools,
    addresses: Addresses,
}

/// Content of a 205 that is read and dropped, so that its connection can be used again.
const MOST_DROPPED: u64 = 64 << 10;

/// Looks after which a waiting request takes a connection from a request whose client is gone.
const TURNS: u32 = 10;

impl Upstreams {
    /// Without any connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes connections that have been idle for too long, or lead to an address that the origin's name has no more.
    pub fn sweep(&self, now: Instant) {
        self.pools.sweep(&self.addresses.names, now);
    }

    /// Closes everything idle.
    pub fn clear(&self) {
        self.pools.clear();
    }

    /// Requests of this worker that are under way at an origin, until their response has come. One that waits for a
    /// place in a full pool is not counted, nor is an open tunnel.
    pub fn under_way(&self, origin: &Origin) -> usize {
        self.pools.of(origin).in_use()
    }

    /// One attempt at an origin. `fresh`: on a new connection. `edgerouter_core::origin::attempts` decides whether and
    /// where to try again.
    pub async fn fetch(
        &self,
        origin: &Origin,
        request: UpstreamRequest<'_>,
        fresh: bool,
    ) -> Result<UpstreamResponse, FetchError> {
        let end = origin
            .times
            .total
            .map(|limit| (tokio::time::Instant::now() + limit, limit));
        match end {
            None => {
                let pool = self.pools.of(origin);
                self.attempt(origin, pool, request, fresh, None).await
            }
            Some((at, limit)) => {
                let pool = self.pools.of(origin);
                let attempt = pinned!(self.attempt(origin, pool, request, fresh, end));
                match tokio::time::timeout_at(at, attempt).await {
                    Ok(fetched) => fetched,
                    Err(_) => Err(FetchError::TotalTimeout(origin.name.to_string(), limit)),
                }
            }
        }
    }

    /// An internal GET, repeated when the origin closed a kept connection just as it left (RFC 9112 §9.3.1).
    pub async fn fetch_internal(
        &self,
        origin: &Origin,
        path_and_query: &PathAndQuery,
        headers: &Fields,
    ) -> Result<UpstreamResponse, FetchError> {
        let request = || internal(path_and_query, headers);
        match self.fetch(origin, request(), false).await {
            Err(FetchError::Reset { kept: true, .. }) => self.fetch(origin, request(), true).await,
            fetched => fetched,
        }
    }

    /// A request on a connection of its own, of which nothing is kept: for a host that is no origin. Its
    /// `times.total` is the caller's to keep, and bounds the content.
    pub async fn fetch_apart(
        &self,
        host: &Origin,
        method: Method,
        path_and_query: &PathAndQuery,
        headers: &Fields,
        content: Bytes,
    ) -> Result<UpstreamResponse, FetchError> {
        let end = host
            .times
            .total
            .map(|limit| (tokio::time::Instant::now() + limit, limit));
        let mut request = internal(path_and_query, headers);
        request.method = method;
        if !content.is_empty() {
            request.body = RequestBody::Full(content);
        }
        self.attempt(host, Pools::apart(host), request, true, end)
            .await
    }

    /// Makes a connection, as a check; nothing is sent on it.
    pub async fn reach(&self, origin: &Origin) -> Result<(), FetchError> {
        self.addresses.connect(origin).await.map(drop)
    }

    async fn attempt(
        &self,
        origin: &Origin,
        pool: Rc<Pool>,
        request: UpstreamRequest<'_>,
        fresh: bool,
        end: Option<(tokio::time::Instant, std::time::Duration)>,
    ) -> Result<UpstreamResponse, FetchError> {
        let UpstreamRequest {
            method,
            path_and_query,
            mut headers,
            body,
            upgrade,
            interims,
            expects,
            wanted,
            begun,
        } = request;
        let stream = match &body {
            RequestBody::Stream(stream) => Some(stream.clone()),
            RequestBody::Empty | RequestBody::Full(_) => None,
        };
        let trailers = admit::trailers(&mut headers, |_| stream.is_some());
        // A server of HTTP/1.0 knows no expectation (RFC 9110 §10.1.1): the content is sent at once.
        let expects = expects && stream.is_some() && !pool.http_10.get();
        if expects {
            let expectation = HeaderValue::from_static("100-continue");
            headers.insert(header::EXPECT, expectation);
        }
        let kept = if fresh || upgrade { None } else { pool.take() };
        let (mut connected, begun) = match kept {
            Some(connected) => (connected, begun),
            // Boxed, as everything rare: otherwise each request would move the space that it needs.
            None => {
                let connected = Box::pin(self.fresh(origin, &pool, wanted.as_ref())).await?;
                (connected, Instant::now())
            }
        };
        let outbound = OutboundRequest {
            method: &method,
            target: path_and_query.as_str(),
            headers: &headers,
            body,
            trailers,
            gate: expects.then(|| tokio::time::Instant::now() + origin.times.expect),
            is_upgrade: upgrade,
        };
        connected.connection.begin(outbound, origin.head_limits);
        let waiting = AwaitedHead {
            origin,
            begun: begun.into(),
            stream: stream.as_ref(),
            interims,
            held: wanted.map(|wanted| pool.holders.hold(wanted, stream.clone())),
        };
        let head = poll_fn(|cx| waiting.poll(&mut connected, cx)).await?;
        drop(waiting);
        if head.framing.content == BodyFraming::Tunnel
            && !admit::switches_as_offered(&headers, &head.headers)
        {
            let why = BadFraming::Unoffered.to_string();
            return Err(FetchError::BadResponse(origin.name.to_string(), why));
        }
        pool.http_10.set(head.version == Version::HTTP_10);
        Ok(respond(head, connected, origin, end).await)
    }

    async fn fresh(
        &self,
        origin: &Origin,
        pool: &Rc<Pool>,
        wanted: Option<&Wanted>,
    ) -> Result<Connected, FetchError> {
        let exhausted = || FetchError::PoolExhausted(origin.pool.most, origin.name.to_string());
        let permit = match Arc::clone(&pool.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Arc::clone(&pool.permits).acquire_owned();
                // A connection that is given back keeps its permit: look there too while waiting.
                let deadline = tokio::time::Instant::now() + origin.times.connect;
                tokio::pin!(waiting);
                let somebody_waits = || wanted.is_none_or(Wanted::still);
                let mut counted = None;
                let mut turns = 0u32;
                loop {
                    if somebody_waits() {
                        counted.get_or_insert_with(|| pool.holders.wait());
                        // The released connection goes to the first request that waits, which may be another one.
                        if turns.is_multiple_of(TURNS) {
                            pool.holders.revoke_one();
                        }
                        turns = turns.wrapping_add(1);
                    } else {
                        counted = None;
                        if pool.holders.anybody_waits() {
                            return Err(FetchError::GaveWay(origin.name.to_string()));
                        }
                    }
                    let step = tokio::time::Instant::now() + std::time::Duration::from_millis(5);
                    match tokio::time::timeout_at(step.min(deadline), &mut waiting).await {
                        Ok(Ok(permit)) => break permit,
                        Ok(Err(_)) => return Err(exhausted()),
                        Err(_) => {
                            if let Some(connected) = pool.take() {
                                return Ok(connected);
                            }
                            if tokio::time::Instant::now() >= deadline {
                                return Err(exhausted());
                            }
                        }
                    }
                }
            }
        };
        let changes = pool.changes();
        let dialled = self.addresses.connect(origin).await?;
        let connection = Box::new(OriginConnection::new(dialled, permit));
        Ok(Connected::new(connection, pool, changes))
    }
}

fn internal(path_and_query: &PathAndQuery, headers: &Fields) -> UpstreamRequest<'static> {
    UpstreamRequest {
        method: Method::GET,
        path_and_query: path_and_query.clone(),
        headers: headers.clone(),
        body: RequestBody::Empty,
        upgrade: false,
        interims: None,
        expects: false,
        wanted: None,
        begun: Instant::now(),
    }
}

/// A request on a connection, until the head of its response is here.
struct AwaitedHead<'r> {
    origin: &'r Origin,
    begun: tokio::time::Instant,
    /// The content that is still read while it is sent.
    stream: Option<&'r RequestStream>,
    interims: Option<HearInterims<'r>>,
    held: Option<Held<'r>>,
}

impl AwaitedHead<'_> {
    /// The head, unless its first byte is late: counted from the start, or from the time at which the origin got the
    /// last piece of the content (RFC 9110 §15.6.5).
    fn poll(
        &self,
        connected: &mut Connected,
        cx: &mut Context<'_>,
    ) -> Poll<Result<OriginHead, FetchError>> {
        let name = || self.origin.name.to_string();
        let connection = &mut connected.connection;
        if let Poll::Ready(read) = connection.poll_head(self.interims, cx) {
            let sent = connection.is_sent();
            return Poll::Ready(read.map_err(|why| match why {
                NoResponse::Tls(why) if !connected.kept => FetchError::Tls(name(), why),
                NoResponse::Closed | NoResponse::Tls(_) => FetchError::Reset {
                    origin: name(),
                    sent,
                    kept: connected.kept,
                },
                // These bytes belong to the response before, and its end has come too late: they are no response to
                // this request, which may still get one (RFC 9112 §6.3).
                NoResponse::Bad(BadResponse::StatusLine) if connected.kept => FetchError::Reset {
                    origin: name(),
                    sent,
                    kept: true,
                },
                NoResponse::Bad(bad) => FetchError::BadResponse(name(), bad.to_string()),
                NoResponse::Request(why) => FetchError::RequestBody(why.to_string()),
            }));
        }
        let is_revoked = |held: &Held<'_>| held.poll_revoked(cx).is_ready();
        if self.held.as_ref().is_some_and(is_revoked) {
            let is_slow = self.stream.is_some_and(RequestStream::is_slow);
            return Poll::Ready(Err(if is_slow {
                FetchError::SlowUpload(name())
            } else {
                FetchError::GaveWay(name())
            }));
        }
        let since = match self.stream.map(RequestStream::turn) {
            Some(Turn::Client) => return Poll::Pending,
            Some(Turn::Origin(since) | Turn::Whole(since)) => since,
            None => self.begun,
        };
        let limit = self.origin.times.first_byte;
        let late = || Err(FetchError::FirstByteTimeout(name(), limit));
        connection.poll_until(since + limit, cx).map(|()| late())
    }
}

/// The response whose head was read.
async fn respond(
    head: OriginHead,
    connected: Connected,
    origin: &Origin,
    end: Option<(tokio::time::Instant, std::time::Duration)>,
) -> UpstreamResponse {
    let (mut body, upgrade) = if head.framing.content == BodyFraming::Tunnel {
        (UpstreamBody::empty(), Some(connected.connection.upgrade()))
    } else {
        let kind = head.headers.get(header::CONTENT_TYPE);
        let between = match kind {
            Some(kind) if is_event_stream(kind.as_bytes()) => origin.event_idle,
            _ => origin.times.between_bytes,
        };
        let content = head.framing.content;
        (UpstreamBody::new(connected, content, between, end), None)
    };
    if head.status == StatusCode::RESET_CONTENT {
        // It is framed as any response and has no content all the same (RFC 9110 §15.3.6).
        body.drop_content(MOST_DROPPED).await;
    }
    UpstreamResponse {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body,
        upgrade,
    }
}

#[cfg(test)]
mod tests;
