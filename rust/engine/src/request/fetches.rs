//! Requests that functions make through the edge (`ctx.fetch`): from phase 2 on as those of a client, on the worker
//! that made the call, with no connection behind them.

use std::{
    cell::Cell,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    admit,
    bounds::memory::Purpose,
    http::{FieldName, RequestParts, header},
    plan::Plan,
};
use http::{HeaderValue, StatusCode, Version};
use http_body::Body;
use tokio::{task::spawn_local, time::timeout};

use super::{
    Exchange,
    answer::{self, Early},
    outside::{self, OutsideError, OutsideRequest, Waits},
    path,
};
use crate::{
    account::Owner,
    body::EdgeBody,
    connection::{ClientBody, Connection, Stream},
    fetches::{MOST, Waiting},
    functions::{
        Answer,
        fetch::{self, DEEPEST, Fetch, FetchError, Fetched},
    },
    live::LocalLive,
    telemetry::trace::RequestTrace,
    worker::Worker,
};

/// Origins and groups that an error names.
const NAMED: usize = 20;
/// Time after the end of a request in which a connection to a host of others is given up.
const AFTERWARDS: Duration = Duration::from_secs(1);

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
            let (patience, caller) = (fetch.timeout, Arc::clone(&fetch.caller));
            let fetched = tokio::select! {
                biased;
                () = poll_fn(|cx| caller.poll_gone(cx)) => None,
                fetched = timeout(patience, Box::pin(fetched(&worker, fetch))) => Some(fetched),
            };
            under_way.set(under_way.get().saturating_sub(1));
            // Nobody waits for one whose caller is gone, as for the response to a client that is.
            if let Some(fetched) = fetched {
                take(fetched.unwrap_or(Err(FetchError::TimedOut(patience))));
            }
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

async fn fetched(worker: &Rc<Worker>, mut fetch: Fetch) -> Fetched {
    if let Some((host, port)) = fetch.outside.take() {
        return from_outside(worker, fetch, &host, port).await;
    }
    let target = fetch.target.as_str();
    let name = fetch::name(&fetch.method, fetch.scheme, &fetch.authority, target);
    if fetch.origin.is_none() && fetch.chain.contains(&name) {
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
    if let Some(name) = fetch.origin {
        let plan = &exchange.live.plan;
        let Some(route) = plan.direct(&name) else {
            return Err(no_origin(name, plan));
        };
        exchange.request.route = Some(route.id);
    }
    exchange.chain = fetch.chain;
    let within = |outer| Box::new(RequestTrace::within(outer, exchange.started));
    exchange.trace = fetch.trace.as_ref().map(within);
    exchange.counted_before = true;
    exchange.fetch_cache = fetch.cache;
    let response = match admitted(&mut exchange) {
        Err(early) => early.0,
        Ok(()) => match path(&mut exchange).await {
            Ok(response) => response,
            Err(early) => {
                let mut response = early.0;
                response.extensions_mut().remove::<answer::Trace>();
                exchange.finish(&mut response);
                response
            }
        },
    };
    exchange.end_fetch(&response);
    let (status, headers) = (response.status(), response.headers().clone());
    let content = whole(worker, &exchange.live, response.into_body()).await?;
    Ok(Answer {
        status,
        headers,
        body: content,
    })
}

fn no_origin(name: Box<str>, plan: &Plan) -> FetchError {
    let groups = plan.groups.iter().map(|group| &*group.name);
    let mut names: Vec<&str> = groups.take(NAMED).collect();
    names.sort_unstable();
    let names = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    FetchError::NoOrigin(name, names)
}

/// Phase 2. Fields that only the edge may set are removed from a client's request, but those of a function are its own:
/// they are kept, and part of the key as those that hooks set.
fn admitted(exchange: &mut Exchange) -> Result<(), Early> {
    let live = Rc::clone(&exchange.live);
    let mut own: Vec<(FieldName, HeaderValue)> = Vec::new();
    for name in &live.plan.edge_fields {
        let values = exchange.request.head.headers.get_all(name).iter();
        own.extend(values.map(|value| (name.clone(), value.owned())));
    }
    exchange.admit()?;
    for (name, value) in own {
        if !exchange.hooked.contains(&name) {
            exchange.hooked.push(name.clone());
        }
        exchange.request.head.headers.append(name, value);
    }
    exchange
        .hooked
        .sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(())
}

/// The content of a response, within its bound.
async fn whole<B>(worker: &Worker, live: &LocalLive, mut body: B) -> Result<Bytes, FetchError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let most = live.plan.limits.functions.fetch_bytes;
    let account = &worker.shared.account;
    let hold = account.open_uncut(Purpose::Bodies, Owner::default());
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| FetchError::BrokenOff)?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        let patience = live.plan.limits.http.body_timeout;
        if hold.drawn(piece.len() as u64, patience).await.is_err() {
            return Err(FetchError::BrokenOff);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Fetches from a host that is no origin. Redirects are the caller's to follow, and each begins here.
async fn from_outside(worker: &Rc<Worker>, fetch: Fetch, host: &str, port: u16) -> Fetched {
    let live = worker.live();
    let hosts = &live.plan.fetch;
    if !hosts.allows(fetch.scheme, host, port) {
        return Err(FetchError::NotListed(fetch.authority));
    }
    let mut headers = fetch.headers;
    admit::strip_hop_by_hop(&mut headers);
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        let plain = HeaderValue::from_static("identity");
        headers.insert(header::ACCEPT_ENCODING, plain);
    }
    live.plan.via.append(&mut headers, Version::HTTP_11);
    worker.shared.cdn_loop.append(&mut headers);
    // The time-out of the request itself ends it before, with an error that has the remedy.
    let waits = Waits {
        silence: fetch.timeout + AFTERWARDS,
        total: fetch.timeout + AFTERWARDS,
    };
    let request = OutsideRequest {
        method: fetch.method,
        place: (fetch.scheme, host, port),
        target: &fetch.target,
        headers,
        content: fetch.body,
    };
    let answer = outside::fetch(worker, &live, hosts, request, waits).await;
    let mut answer = answer.map_err(|trouble| match trouble {
        OutsideError::Address(why) => {
            tracing::warn!(host, %why, "a function may not fetch from a host: its address is not allowed");
            FetchError::Address(host.to_owned(), why)
        }
        OutsideError::NoHost => FetchError::Outside(format!("{host:?} is no host")),
        OutsideError::Failed(error) => FetchError::Outside(error.to_string()),
    })?;
    admit::strip_hop_by_hop(&mut answer.headers);
    Ok(Answer {
        status: answer.status,
        headers: answer.headers,
        body: whole(worker, &live, EdgeBody::upstream(answer.body)).await?,
    })
}
