//! Requests that functions make through the edge (`ctx.fetch`): from phase 2 on as those of a client, on the worker that made
//! the call, with no connection behind them.

use std::{cell::Cell, future::poll_fn, net::SocketAddr, pin::Pin, rc::Rc, time::Instant};

use bytes::BytesMut;
use edgerouter_core::{
    bounds::memory::Purpose,
    http::{RequestParts, header},
};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;
use tokio::{task::spawn_local, time::timeout};

use super::{Exchange, answer, path};
use crate::{
    account::Owner,
    connection::{ClientBody, Connection, Stream},
    fetches::{MOST, Waiting},
    functions::{
        Answer,
        fetch::{self, DEEPEST, Fetch, FetchError, Fetched},
    },
    telemetry::trace::RequestTrace,
    worker::Worker,
};

/// Makes the requests that functions want, for as long as the worker lives.
pub(crate) async fn serve(worker: Rc<Worker>, mut waiting: Waiting) {
    let under_way = Rc::new(Cell::new(0_usize));
    while let Some((fetch, take)) = waiting.recv().await {
        if under_way.get() >= MOST {
            take(Err(FetchError::Busy(MOST)));
            continue;
        }
        under_way.set(under_way.get() + 1);
        let (worker, under_way) = (Rc::clone(&worker), Rc::clone(&under_way));
        spawn_local(async move {
            let patience = fetch.timeout;
            let fetched = timeout(patience, Box::pin(fetched(&worker, fetch))).await;
            under_way.set(under_way.get().saturating_sub(1));
            take(fetched.unwrap_or(Err(FetchError::TimedOut(patience))));
        });
    }
}

/// Loop Detected (RFC 5842 §7.2).
fn looped(message: &str) -> Answer {
    let mut headers = edgerouter_core::http::Fields::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Answer {
        status: StatusCode::LOOP_DETECTED,
        headers,
        body: format!("{message}\n").into(),
    }
}

async fn fetched(worker: &Rc<Worker>, fetch: Fetch) -> Fetched {
    let target = fetch.target.as_str();
    let name = fetch::name(&fetch.method, fetch.scheme, &fetch.authority, target);
    if fetch.chain.contains(&name) {
        return Ok(looped("A function waits for this very request already."));
    }
    if fetch.chain.depth() > DEEPEST {
        return Ok(looped("Functions wait for one another too deeply."));
    }
    let mut head = RequestParts {
        method: fetch.method,
        target: fetch.target,
        headers: fetch.headers,
        ..RequestParts::default()
    };
    let host = HeaderValue::from_str(&fetch.authority).unwrap_or(HeaderValue::from_static(""));
    head.headers.insert(header::HOST, host);
    if !head.headers.contains_key(header::ACCEPT_ENCODING) {
        let plain = HeaderValue::from_static("identity");
        head.headers.insert(header::ACCEPT_ENCODING, plain);
    }
    let peer = SocketAddr::new(fetch.client, 0);
    let connection = Connection::new(peer, fetch.scheme, worker.clock.ticks(), 0);
    let stream = Rc::new(Stream::new(Rc::new(connection)));
    let body = (!fetch.body.is_empty()).then(|| {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(fetch.body.len()));
        ClientBody::whole(&stream.connection, fetch.body)
    });
    let head = Box::new(head);
    let mut exchange = Exchange::new(Rc::clone(worker), stream, head, body, Instant::now());
    exchange.live = exchange.live.of_version(fetch.chain.version());
    exchange.chain = fetch.chain;
    let within = |outer| Box::new(RequestTrace::within(outer, exchange.started));
    exchange.trace = fetch.trace.as_ref().map(within);
    exchange.counted_before = true;
    exchange.fetch_cache = fetch.cache;
    let response = match exchange.admit() {
        Err(early) => *early.0,
        Ok(()) => match path(&mut exchange).await {
            Ok(response) => response,
            Err(early) => {
                let mut response = *early.0;
                response.extensions_mut().remove::<answer::Trace>();
                exchange.finish(&mut response);
                response
            }
        },
    };
    exchange.end_fetch(&response);
    let most = exchange.live.plan.limits.functions.fetch_bytes;
    let account = &worker.shared.account;
    let hold = account.open_uncut(Purpose::Bodies, Owner::default());
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| FetchError::BrokenOff)?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        let patience = exchange.live.plan.limits.http.body_timeout;
        if hold.drawn(piece.len() as u64, patience).await.is_err() {
            return Err(FetchError::BrokenOff);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Answer {
        status,
        headers,
        body: whole.freeze(),
    })
}
