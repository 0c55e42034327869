//! A request on a connection, until the head of its response is here.

use std::{future::poll_fn, pin::pin, task::Poll, time::Instant};

use edgerouter_core::{
    http::framing::head::BadResponse, origin::unanswered::FetchError, plan::Origin,
};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{
    body::UpstreamBody,
    message::UpstreamResponse,
    pool::{Connected, Link},
    request_body::{Outbound, RequestStream, Turn},
    responses::Responses,
};

/// Polls `step` until it ends or the first byte of the response is late: counted from `begun`, or from the time at which the
/// origin got the last piece of the content that is sent from `stream` (RFC 9110 §15.6.5).
pub(super) async fn in_time<T>(
    origin: &Origin,
    begun: Instant,
    stream: Option<&RequestStream>,
    mut step: impl FnMut(&mut std::task::Context<'_>) -> Poll<Result<T, FetchError>>,
) -> Result<T, FetchError> {
    let limit = origin.first_byte_timeout;
    let mut timer = pin!(tokio::time::sleep_until((begun + limit).into()));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = step(cx) {
            return Poll::Ready(ended);
        }
        match stream.map(RequestStream::turn) {
            Some(Turn::Client) => return Poll::Pending,
            Some(Turn::Origin(since) | Turn::Whole(since)) if timer.deadline() != since + limit => {
                timer.as_mut().reset(since + limit);
            }
            _ => {}
        }
        let late = || Err(FetchError::FirstByteTimeout(origin.name.to_string(), limit));
        timer.as_mut().poll(cx).map(|()| late())
    })
    .await
}

/// The error of a connection that ended before the response: `bad` where the origin sent something else.
pub(super) fn ended(
    origin: &Origin,
    bad: Option<BadResponse>,
    sent: bool,
    kept: bool,
) -> FetchError {
    let origin = origin.name.to_string();
    match bad {
        Some(bad) => FetchError::BadResponse(origin, bad.to_string()),
        None => FetchError::Reset { origin, sent, kept },
    }
}

/// Sends the request through hyper and drives the connection until the head of the response is here. An origin may respond
/// before it has got all of the request.
pub(super) async fn send(
    connected: &mut Connected,
    request: Request<Outbound>,
    origin: &Origin,
    begun: Instant,
    stream: Option<&RequestStream>,
    pass: &impl Fn(&Responses),
) -> Result<Response<Incoming>, FetchError> {
    let kept = connected.kept;
    let link = &mut connected.link;
    let mut answer = pin!(link.sender.try_send_request(request));
    in_time(origin, begun, stream, |cx| {
        link.drive(cx);
        pass(&link.responses);
        answer.as_mut().poll(cx).map_err(|mut lost| {
            let sent = lost.take_message().is_none();
            ended(origin, link.responses.bad().filter(|_| sent), sent, kept)
        })
    })
    .await
}

/// Sends a request for another protocol: its connection is never used for anything else, and runs by itself.
pub(super) async fn upgraded(
    connected: Connected,
    request: Request<Outbound>,
    origin: &Origin,
) -> Result<UpstreamResponse, FetchError> {
    let Link {
        mut sender,
        driver,
        responses,
        _permit,
        ..
    } = connected.link;
    let Some(driver) = driver else {
        return Err(ended(origin, None, false, false));
    };
    // The connection has not been polled beyond readiness: moving it is sound because it is Unpin.
    let driver = *std::pin::Pin::into_inner(driver);
    tokio::task::spawn_local(async move {
        let _ = driver.with_upgrades().await;
        drop(_permit);
    });
    let mut answer = pin!(sender.send_request(request));
    let response = in_time(origin, Instant::now(), None, |cx| {
        let answered = answer.as_mut().poll(cx);
        answered.map_err(|_| ended(origin, responses.bad(), true, false))
    });
    let (mut known, incoming) = response.await?.into_parts();
    let Some(head) = responses.head() else {
        return Err(ended(origin, None, true, false));
    };
    let upgrade = (head.status == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| known.extensions.remove::<OnUpgrade>())
        .flatten();
    Ok(UpstreamResponse {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body: UpstreamBody::new(incoming, None, origin.between_bytes_timeout, None),
        upgrade,
    })
}
