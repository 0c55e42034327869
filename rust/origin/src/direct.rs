//! Requests without content that are sent without hyper, and their responses where these come whole.
//!
//! Most responses fit into one read. hyper would be handed the request through a channel, parse a head that has been parsed
//! already, and hand the content back through another channel. What does not come whole at once is left to it.

use std::{future::poll_fn, task::Poll, time::Instant};

use bytes::Bytes;
use edgerouter_core::{
    http::framing::{Content, head::OriginHead},
    plan::Origin,
};
use http::{Method, Request, StatusCode, Version, header};

use super::{
    FetchError, RequestBody, UpstreamBody, UpstreamResponse,
    body::Outbound,
    pool::Connected,
    responses::{Direct, Responses},
};

/// A response that is here.
pub(super) struct Whole {
    head: OriginHead,
    content: Bytes,
    /// Another request may use the connection.
    reusable: bool,
}

/// Whether a response like this is likely to come in one read.
pub(super) fn is_short(head: &OriginHead) -> bool {
    match head.framing.content {
        Content::None => true,
        Content::Length(length) => length <= SHORT,
        Content::Chunked | Content::UntilClose | Content::Tunnel => false,
    }
}

/// Content that comes with its head as a rule.
const SHORT: u64 = 16 << 10;

/// The head of a request that can be sent so (RFC 9112 §3, §5); `None`: it has content, or asks for more than a response.
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
    let mut text = Vec::with_capacity(512);
    for piece in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        text.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    Some(text)
}

/// Sends the head and waits for the response. `Ok(None)`: it does not come whole, and hyper has to be given the request to
/// read it.
pub(super) async fn send(
    connected: &mut Connected,
    text: &[u8],
    origin: &Origin,
    begun: Instant,
    tell: &impl Fn(&Responses),
) -> Result<Option<Whole>, FetchError> {
    let (kept, link, spent) = (connected.kept, &mut connected.link, &mut connected.spent);
    let limit = origin.first_byte_timeout;
    let timer = tokio::time::sleep_until((begun + limit).into());
    tokio::pin!(timer);
    let mut sent = 0;
    let mut is_sent = false;
    let reset = |sent: bool| FetchError::Reset {
        origin: origin.name.to_string(),
        sent,
        kept,
    };
    poll_fn(|cx| {
        let mut wire = link.wire.lock();
        if !is_sent {
            match wire.poll_send(text, &mut sent, cx) {
                Poll::Ready(Ok(())) => is_sent = true,
                Poll::Ready(Err(_)) if sent == 0 => return Poll::Ready(Err(reset(false))),
                // An origin may answer before it has seen all of the request, and close.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        if sent > 0 {
            let polled = wire.poll_direct(cx);
            drop(wire);
            tell(&link.responses);
            match polled {
                Poll::Ready(Ok(Some(Direct::More))) => {
                    *spent = !is_sent;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Ok(Some(Direct::Whole {
                    head,
                    content,
                    reusable,
                }))) => {
                    let reusable = reusable && is_sent;
                    return Poll::Ready(Ok(Some(Whole {
                        head,
                        content,
                        reusable,
                    })));
                }
                Poll::Ready(Ok(None) | Err(None)) => return Poll::Ready(Err(reset(true))),
                Poll::Ready(Err(Some(bad))) => {
                    let origin = origin.name.to_string();
                    return Poll::Ready(Err(FetchError::BadResponse(origin, bad.to_string())));
                }
                Poll::Pending => {}
            }
        }
        let late = || Err(FetchError::FirstByteTimeout(origin.name.to_string(), limit));
        timer.as_mut().poll(cx).map(|()| late())
    })
    .await
}

impl Whole {
    /// The response. Its connection may be used again.
    pub(super) fn respond(self, connected: Connected) -> UpstreamResponse {
        let Self {
            head,
            content,
            reusable,
        } = self;
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
}
