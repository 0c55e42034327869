//! Requests without content that are sent without hyper, and their responses where these come whole.
//!
//! Most responses fit into one read. hyper would get the request through a channel, parse a head that has been parsed
//! already, and return the content through another channel. A response that does not come whole at once is left to it.

use std::{task::Poll, time::Instant};

use bytes::Bytes;
use edgerouter_core::{
    http::framing::{
        BodyFraming,
        head::{self, OriginHead},
    },
    plan::Origin,
};
use http::{Method, Request, StatusCode, Version, header};

use super::{
    FetchError,
    body::UpstreamBody,
    message::UpstreamResponse,
    pool::Connected,
    request_body::{Outbound, RequestBody},
    responses::{Responses, Whole},
    send,
};

/// True if a response like this is likely to come in one read.
pub(super) fn is_short(head: &OriginHead) -> bool {
    match head.framing.content {
        BodyFraming::None => true,
        BodyFraming::Length(length) => length <= SHORT,
        BodyFraming::Chunked | BodyFraming::UntilClose | BodyFraming::Tunnel => false,
    }
}

/// Content that comes with its head as a rule.
const SHORT: u64 = 16 << 10;

/// The head of a request that can be sent so (RFC 9112 §3, §5); `None`: it has content, or wants to switch protocols.
pub(super) fn head(request: &Request<Outbound>) -> Option<Vec<u8>> {
    let (method, headers) = (request.method(), request.headers());
    let plain = matches!(*method, Method::GET | Method::HEAD)
        && matches!(request.body().body, RequestBody::Empty)
        && !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::UPGRADE);
    if !plain {
        return None;
    }
    let target = request.uri().path_and_query()?.as_str();
    Some(head::write(
        &[method.as_str(), " ", target, " HTTP/1.1"],
        headers,
    ))
}

/// Sends the head and waits for the response. `Ok(None)`: it does not come whole, and hyper has to be given the request to
/// read it.
pub(super) async fn send(
    connected: &mut Connected,
    text: &[u8],
    origin: &Origin,
    begun: Instant,
    pass: &impl Fn(&Responses),
) -> Result<Option<Whole>, FetchError> {
    let (kept, link, spent) = (connected.kept, &mut connected.link, &mut connected.spent);
    let mut sent = 0;
    let mut is_sent = false;
    let ended = |bad, sent| Poll::Ready(Err(send::ended(origin, bad, sent, kept)));
    send::in_time(origin, begun, None, |cx| {
        let mut wire = link.wire.lock();
        if !is_sent {
            match wire.poll_send(text, &mut sent, cx) {
                Poll::Ready(Ok(())) => is_sent = true,
                Poll::Ready(Err(_)) if sent == 0 => return ended(None, false),
                // An origin may answer before it has seen all of the request, and close.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        if sent > 0 {
            let polled = wire.poll_direct(cx);
            drop(wire);
            pass(&link.responses);
            return match polled {
                Poll::Ready(Ok(Some(mut whole))) => {
                    whole.reusable &= is_sent;
                    Poll::Ready(Ok(Some(whole)))
                }
                Poll::Ready(Ok(None)) => {
                    *spent = !is_sent;
                    Poll::Ready(Ok(None))
                }
                Poll::Ready(Err(bad)) => ended(bad, true),
                Poll::Pending => Poll::Pending,
            };
        }
        Poll::Pending
    })
    .await
}

/// The response. Its connection may be used again.
pub(super) fn respond(whole: Whole, connected: Connected) -> UpstreamResponse {
    let Whole {
        head,
        content,
        reusable,
    } = whole;
    if let Some(pool) = connected.pool.upgrade() {
        pool.http_10.set(head.version == Version::HTTP_10);
    }
    if reusable {
        connected.give_back();
    }
    // It is framed as any response and has no content all the same (RFC 9110 §15.3.6).
    let content = match head.status {
        StatusCode::RESET_CONTENT => Bytes::new(),
        _ => content,
    };
    UpstreamResponse {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body: UpstreamBody::whole(content),
        upgrade: None,
    }
}
