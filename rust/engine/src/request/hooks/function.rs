//! Edge functions: a callable in the place of phases 8 to 13.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    bounds::memory::Purpose,
    http::{FieldValue, header},
    outcome::Detail,
    plan::CallableId,
};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

use tokio::{task::spawn_local, time::timeout};

use super::{
    call::{answered, failed, invoke_function, streamed},
    feed::feed,
    hints::hints_to,
};
use crate::{
    account::{Hold, Owner},
    body::EdgeResponse,
    connection::ClientBody,
    functions::{
        CallOutput, FunctionError, FunctionOutput, RequestContent,
        pipe::{PieceWriter, ROOM, pipe},
    },
    request::{
        answer::{self, Early},
        cached,
        exchange::{self, Exchange},
        origin_request::InterimReceiver,
        tunnel::{self, PipedEnd},
    },
    telemetry::Outcome,
};

/// An edge function in the place of phases 8 to 13.
pub(crate) async fn function(
    exchange: &mut Exchange,
    call: CallableId,
) -> Result<EdgeResponse, Early> {
    let live = Rc::clone(&exchange.live);
    let route = exchange.route.and_then(|id| live.plan.route(id));
    let Some(route) = route else {
        return Err(answer::text(StatusCode::INTERNAL_SERVER_ERROR, "This route is gone.").into());
    };
    if let Some(refused) = cached::refuse_unstored(exchange) {
        return Ok(refused);
    }
    exchange.note.outcome = Outcome::Function;
    exchange.note.detail = Some(Detail::Function);
    let most = live.plan.limits.functions.body_bytes;
    let mut content = RequestContent::default();
    let mut wanted = None;
    match exchange.body.take().filter(|_| exchange.has_body) {
        Some(body) if live.functions.waits_for_content(call) || body.is_complete() => {
            content = Box::pin(gathered(exchange, body, most)).await?;
        }
        Some(body) => {
            let (writer, reader) = pipe();
            content.rest = Some(reader);
            wanted = Some((body, writer));
        }
        None => {}
    }
    // The other end of the tunnel that an upgrade would be.
    let end = wants_websocket(exchange).then(|| {
        let (writer, reader) = pipe();
        content.tunnel = Some(reader);
        writer
    });
    let headers = if exchange.needs_headers_later(route) {
        exchange.head.headers.clone()
    } else {
        // The page that shows what went wrong comes in the form that the client prefers.
        let accept = exchange
            .head
            .headers
            .get(header::ACCEPT)
            .map(FieldValue::owned);
        let kept = accept.map(|accept| (header::ACCEPT, accept)).into_iter();
        std::mem::replace(&mut exchange.head.headers, kept.collect())
    };
    let head = exchange.request_head(route, headers);
    let worker = &exchange.worker;
    let client = InterimReceiver::of(&exchange.stream);
    let hints = hints_to(client.as_ref(), worker, route);
    // Awaited where it is made: the future is large.
    let output = match wanted {
        None => invoke_function(worker, &live, call, head, content, hints).await,
        Some((body, writer)) => {
            let call = invoke_function(worker, &live, call, head, content, hints);
            Box::pin(fed(exchange, call, body, writer)).await
        }
    };
    match output {
        Ok(FunctionOutput::Answer(answer)) => {
            Ok(answered(answer, exchange.head.method == Method::HEAD))
        }
        Ok(FunctionOutput::Stream(answer)) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
            let hold = waiting_pieces(exchange).await?;
            let end = end.map(|writer| PipedEnd::new(&live.functions, writer, answer.pieces, hold));
            tunnel::open(exchange, answer.headers, end)
        }
        Ok(FunctionOutput::Stream(answer)) => {
            let hold = waiting_pieces(exchange).await?;
            Ok(streamed(answer, hold))
        }
        Ok(FunctionOutput::Continue { .. }) => {
            exchange.note.detail = Some(Detail::FunctionFailed);
            Err(answer::text(
                StatusCode::BAD_GATEWAY,
                "The function returned no response.",
            )
            .into())
        }
        Err(error) => {
            exchange.note.outcome = Outcome::Error;
            exchange.note.detail = Some(Detail::FunctionFailed);
            Err(failed(&live, call, &error).unwrap_or_else(|| {
                answer::text(StatusCode::BAD_GATEWAY, "The function failed.").into()
            }))
        }
    }
}

/// True if the request is to become a WebSocket (RFC 6455 §4.1).
fn wants_websocket(exchange: &Exchange) -> bool {
    exchange.wants_upgrade
        && exchange
            .head
            .headers
            .get(header::UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Waits for the output of a function that wants content of its request at some time, or never: none is taken in
/// before, and none is left to be read when it has answered without.
async fn fed(
    exchange: &Exchange,
    call: impl Future<Output = CallOutput>,
    body: ClientBody,
    writer: PieceWriter,
) -> CallOutput {
    let mut call = pin!(call);
    let first = poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => writer.poll_wanted(cx).map(|_| None),
    });
    let output = first.await;
    if matches!(output, Some(Ok(FunctionOutput::Answer(_)) | Err(_))) {
        return output.unwrap_or(Err(FunctionError::Gone));
    }
    let limits = &exchange.live.plan.limits.http;
    let (left, patience) = (limits.body_bytes, limits.body_timeout);
    let hold = hold(exchange);
    // An iterator that answers may still want some.
    spawn_local(async move {
        let wanted = poll_fn(|cx| writer.poll_wanted(cx)).await;
        if wanted.is_ok() && hold.drawn(ROOM as u64, patience).await.is_ok() {
            feed(body, writer, left, Some(patience), Some(hold)).await;
        }
    });
    match output {
        Some(output) => output,
        None => call.await,
    }
}

/// The content of a request for a function that waits for it: all of it if it has no more than `most` bytes, otherwise
/// its beginning and a pipe for the rest.
async fn gathered(
    exchange: &mut Exchange,
    body: ClientBody,
    most: usize,
) -> Result<RequestContent, Early> {
    match gather(exchange, body, most).await? {
        (whole, None) => Ok(RequestContent {
            body: whole,
            ..RequestContent::default()
        }),
        (begun, Some(rest)) => {
            let hold = waiting_pieces(exchange).await?;
            let limits = &exchange.live.plan.limits.http;
            let (writer, reader) = pipe();
            let left = limits.body_bytes.saturating_sub(begun.len() as u64);
            spawn_local(feed(
                rest,
                writer,
                left,
                Some(limits.body_timeout),
                Some(hold),
            ));
            Ok(RequestContent {
                body: begun,
                rest: Some(reader),
                tunnel: None,
            })
        }
    }
}

/// Draws the memory for the pieces that wait in a pipe.
async fn waiting_pieces(exchange: &mut Exchange) -> Result<Hold, Early> {
    held(exchange, ROOM as u64).await
}

/// Draws memory for content.
pub(super) async fn held(exchange: &mut Exchange, bytes: u64) -> Result<Hold, Early> {
    let hold = hold(exchange);
    let patience = exchange.live.plan.limits.http.body_timeout;
    match hold.drawn(bytes, patience).await {
        Ok(()) => Ok(hold),
        Err(_) => Err(no_memory(exchange)),
    }
}

/// Takes the whole body of a request in.
pub(crate) async fn collect(
    exchange: &mut Exchange,
    body: ClientBody,
    most: usize,
) -> Result<Bytes, Early> {
    match gather(exchange, body, most).await? {
        (whole, None) => Ok(whole),
        (_, Some(_)) => {
            let refused = answer::text(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!(
                    "The body is larger than the limit of functions ({most} bytes; limits.functions.body_bytes)."
                ),
            );
            let close = HeaderValue::from_static("close");
            Err(answer::with(refused, header::CONNECTION, close).into())
        }
    }
}

fn hold(exchange: &Exchange) -> Hold {
    let route = exchange.route.and_then(|id| exchange.live.plan.route(id));
    let owner = route.map_or_else(Owner::default, |route| exchange.owner(route));
    let account = &exchange.worker.shared.account;
    account.open_uncut(Purpose::Bodies, owner)
}

fn no_memory(exchange: &mut Exchange) -> Early {
    exchange.note.outcome = Outcome::Error;
    exchange.note.detail = Some(Detail::NoMemory);
    answer::overloaded().into()
}

/// Takes the body of a request in, up to `most` bytes; with the rest if there is more. One that is known to be larger
/// is left alone.
async fn gather(
    exchange: &mut Exchange,
    mut body: ClientBody,
    most: usize,
) -> Result<(Bytes, Option<ClientBody>), Early> {
    if body.size_hint().lower() > most as u64 {
        return Ok((Bytes::new(), Some(body)));
    }
    let mut whole = BytesMut::new();
    let patience = exchange.live.plan.limits.http.body_timeout;
    let hold = hold(exchange);
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        match timeout(patience, next).await {
            Err(_) => {
                return Err(answer::text(
                    StatusCode::REQUEST_TIMEOUT,
                    "The body did not arrive in time.",
                )
                .into());
            }
            Ok(None) => {
                exchange.held_body = Some(hold);
                return Ok((whole.freeze(), None));
            }
            Ok(Some(Err(_))) => return Err(exchange::broken_body(exchange)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if hold.drawn(data.len() as u64, patience).await.is_err() {
                    return Err(no_memory(exchange));
                }
                whole.extend_from_slice(&data);
                if whole.len() > most {
                    exchange.held_body = Some(hold);
                    return Ok((whole.freeze(), Some(body)));
                }
            }
        }
    }
}
