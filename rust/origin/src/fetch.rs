//! One request to one origin, on a connection of the worker's own.

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Instant};

use edgerouter_core::{
    admit,
    http::{framing::FramingContext, is_event_stream},
    plan::Origin,
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::PathAndQuery,
};
use hyper::{body::Incoming, client::conn::http1};

use super::{
    FetchError,
    body::UpstreamBody,
    connect::Addresses,
    direct,
    message::{UpstreamRequest, UpstreamResponse},
    pool::{Connected, Link, Pool, Pools, poll_ready},
    request_body::{Gate, Outbound, RequestBody},
    responses::{Answering, Responses, Whole},
    send,
    wanted::Wanted,
};

/// The connections of a worker to all origins.
#[derive(Debug, Default)]
pub struct Upstreams {
    pools: Pools,
    addresses: Addresses,
}

/// Content that hyper reads at a time.
const READ_BYTES: usize = 128 << 10;
/// Content of a 205 that is read and dropped, so that its connection can be used again.
const MOST_DROPPED: u64 = 64 << 10;

/// Looks after which a waiting request takes a connection from a request whose client is gone.
const TURNS: u32 = 10;

impl Upstreams {
    /// Without any connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.pools.sweep(now);
    }

    /// Closes everything idle.
    pub fn clear(&self) {
        self.pools.clear();
    }

    /// One attempt at an origin. `fresh`: on a new connection. `edgerouter_core::origin::attempts` decides whether and where
    /// to try again.
    pub async fn fetch(
        &self,
        origin: &Origin,
        request: UpstreamRequest,
        fresh: bool,
    ) -> Result<UpstreamResponse, FetchError> {
        let end = origin
            .total_timeout
            .map(|limit| (tokio::time::Instant::now() + limit, limit));
        match end {
            None => self.attempt(origin, request, fresh, None).await,
            Some((at, limit)) => {
                let attempt = Box::pin(self.attempt(origin, request, fresh, end));
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
        headers: &HeaderMap,
    ) -> Result<UpstreamResponse, FetchError> {
        let request = || UpstreamRequest {
            method: Method::GET,
            path_and_query: path_and_query.clone(),
            headers: headers.clone(),
            body: RequestBody::Empty,
            upgrade: false,
            interims: None,
            expects: false,
            wanted: None,
            begun: Instant::now(),
        };
        match self.fetch(origin, request(), false).await {
            Err(FetchError::Reset { kept: true, .. }) => self.fetch(origin, request(), true).await,
            fetched => fetched,
        }
    }

    /// Makes a connection, as a check; nothing is sent on it.
    pub async fn reach(&self, origin: &Origin) -> Result<(), FetchError> {
        self.addresses.connect(origin).await.map(drop)
    }

    async fn attempt(
        &self,
        origin: &Origin,
        request: UpstreamRequest,
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
        let pool = self.pools.of(origin);
        // A server of HTTP/1.0 knows no expectation (RFC 9110 §10.1.1): the content is sent at once.
        let expects = expects && stream.is_some() && !pool.http_10.get();
        if expects {
            let expectation = HeaderValue::from_static("100-continue");
            headers.insert(header::EXPECT, expectation);
        }
        let mut request = Request::new(Outbound {
            body,
            trailers,
            gate: None,
        });
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path_and_query);
        *request.headers_mut() = headers;
        let awaited = FramingContext {
            head: request.method() == Method::HEAD,
            upgrade,
        };
        let pass = |responses: &Responses| {
            if let Some(hear) = &interims {
                hear.pass(responses);
            }
        };
        let kept = if fresh || upgrade { None } else { pool.take() };
        let (mut connected, begun) = match kept {
            Some(connected) => (connected, begun),
            // Boxed, as everything rare: otherwise each request would move the space that it needs.
            None => {
                let connected = Box::pin(self.fresh(origin, &pool, wanted.as_ref())).await?;
                (connected, Instant::now())
            }
        };
        connected
            .link
            .responses
            .begin_response(awaited, origin.head_limits);
        if expects {
            let timer = tokio::time::sleep(origin.expect_timeout);
            connected.link.responses.gate();
            request.body_mut().gate = Some(Gate {
                responses: connected.link.responses.clone(),
                timer: Box::pin(timer),
            });
        }
        if upgrade {
            let responses = connected.link.responses.clone();
            let answer = Box::pin(send::upgraded(connected, request, origin)).await;
            pass(&responses);
            return answer;
        }
        connected.sending.clone_from(&stream);
        let holder = wanted.map(|wanted| pool.holders.hold(wanted));
        let sent = {
            let sent = async {
                if pool.is_short.get()
                    && let Some(text) = direct::head(&request)
                {
                    let whole = direct::send(&mut connected, &text, origin, begun, &pass).await?;
                    if let Some(whole) = whole {
                        return Ok(Sent::Whole(whole));
                    }
                }
                let stream = stream.as_ref();
                let sent = send::send(&mut connected, request, origin, begun, stream, &pass);
                sent.await.map(Sent::Head)
            };
            tokio::pin!(sent);
            poll_fn(|cx| {
                if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                    return Poll::Ready(sent);
                }
                let gave_way = || Err(FetchError::GaveWay(origin.name.to_string()));
                holder.as_ref().map_or(Poll::Pending, |holder| {
                    holder.poll_revoked(cx).map(|()| gave_way())
                })
            })
            .await
        };
        match sent {
            Ok(Sent::Whole(whole)) => Ok(direct::respond(whole, connected)),
            Ok(Sent::Head(response)) => respond(response, connected, origin, end).await,
            Err(error) => match stream.and_then(|stream| stream.fault()) {
                Some(why) => Err(FetchError::RequestBody(why)),
                None => Err(error),
            },
        }
    }

    async fn fresh(
        &self,
        origin: &Origin,
        pool: &Rc<Pool>,
        wanted: Option<&Wanted>,
    ) -> Result<Connected, FetchError> {
        let exhausted =
            || FetchError::PoolExhausted(origin.max_connections, origin.name.to_string());
        let permit = match Arc::clone(&pool.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Arc::clone(&pool.permits).acquire_owned();
                // A connection that is given back keeps its permit: look there too while waiting.
                let deadline = tokio::time::Instant::now() + origin.connect_timeout;
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
        let stream = self.addresses.connect(origin).await?;
        let responses = Responses::default();
        let broken = stream.broken();
        let (answering, wire) = Answering::new(stream, responses.clone());
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BYTES)
            .handshake(answering)
            .await
            .map_err(|error| FetchError::Connect(origin.name.to_string(), error.to_string()))?;
        let mut link = Link {
            sender,
            driver: Some(Box::pin(driver)),
            responses,
            wire,
            broken,
            _permit: permit,
        };
        if !poll_fn(|cx| poll_ready(&mut link, cx)).await {
            return Err(send::ended(origin, None, false, false));
        }
        Ok(Connected::new(link, pool, false))
    }
}

/// The part of a response that is here.
enum Sent {
    Whole(Whole),
    Head(Response<Incoming>),
}

/// The response of which hyper has read the head.
async fn respond(
    response: Response<Incoming>,
    connected: Connected,
    origin: &Origin,
    end: Option<(tokio::time::Instant, std::time::Duration)>,
) -> Result<UpstreamResponse, FetchError> {
    let Some(head) = connected.link.responses.head() else {
        return Err(send::ended(origin, None, true, false));
    };
    if let Some(pool) = connected.pool.upgrade() {
        pool.http_10.set(head.version == Version::HTTP_10);
        pool.is_short.set(direct::is_short(&head));
    }
    let incoming = response.into_body();
    let kind = head.headers.get(header::CONTENT_TYPE);
    let between = match kind {
        Some(kind) if is_event_stream(kind.as_bytes()) => origin.event_idle,
        _ => origin.between_bytes_timeout,
    };
    let mut body = UpstreamBody::new(incoming, Some(connected), between, end);
    if head.status == StatusCode::RESET_CONTENT {
        // It is framed as any response and has no content all the same (RFC 9110 §15.3.6).
        body.drop_content(MOST_DROPPED).await;
    }
    Ok(UpstreamResponse {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body,
        upgrade: None,
    })
}
