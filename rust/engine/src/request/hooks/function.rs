//! Edge functions: a callable in the place of phases 8 to 13.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use edgerouter_core::http::{FieldValue, header};
use edgerouter_core::{
    outcome::Detail,
    {bounds::memory::Purpose, plan::CallableId},
};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;

use super::call::{answered, failed, invoke};
use crate::{
    account::Owner,
    body::EdgeResponse,
    connection::ClientBody,
    functions::{FunctionOutput, Phase},
    request::{
        answer::{self, Early},
        exchange::{self, Exchange},
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
    exchange.note.outcome = Outcome::Function;
    exchange.note.detail = Some(Detail::Function);
    let most = live.plan.limits.functions.body_bytes;
    let body = match exchange.body.take() {
        Some(body) if exchange.has_body => collect(exchange, body, most).await?,
        _ => Bytes::new(),
    };
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
    let (worker, phase) = (&exchange.worker, Phase::Function);
    match invoke(worker, &live, call, phase, head, body, None).await {
        Ok(FunctionOutput::Answer(answer)) => Ok(answered(answer)),
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

/// Takes the whole body of a request in.
pub(crate) async fn collect(
    exchange: &mut Exchange,
    mut body: ClientBody,
    most: usize,
) -> Result<Bytes, Early> {
    let too_large = || {
        let refused = answer::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!(
                "The body is larger than the limit of functions ({most} bytes; limits.functions.body_bytes)."
            ),
        );
        Early::from(answer::with(
            refused,
            header::CONNECTION,
            HeaderValue::from_static("close"),
        ))
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let patience = exchange.live.plan.limits.http.body_timeout;
    let route = exchange.route.and_then(|id| exchange.live.plan.route(id));
    let owner = route.map_or_else(Owner::default, |route| exchange.owner(route));
    let account = &exchange.worker.shared.account;
    let hold = account.open_uncut(Purpose::Bodies, owner);
    loop {
        let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx));
        match tokio::time::timeout(patience, next).await {
            Err(_) => {
                return Err(answer::text(
                    StatusCode::REQUEST_TIMEOUT,
                    "The body did not arrive in time.",
                )
                .into());
            }
            Ok(None) => {
                exchange.held_body = Some(hold);
                return Ok(whole.freeze());
            }
            Ok(Some(Err(_))) => return Err(exchange::broken_body(exchange)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if whole.len() + data.len() > most {
                    return Err(too_large());
                }
                if hold.drawn(data.len() as u64, patience).await.is_err() {
                    exchange.note.outcome = Outcome::Error;
                    exchange.note.detail = Some(Detail::NoMemory);
                    return Err(answer::overloaded().into());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}
