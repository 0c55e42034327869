//! Phase 11 by a function in the place of an origin: its response may be stored, so that what it reads of the request
//! selects among stored responses, as what a hook of the origin phases reads does.

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    bounds::memory::Purpose,
    cache::hooked::HookEffect,
    finish, forward,
    http::{Fields, header},
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    call::{declared, failure, invoke_function, length_to_head, unframed},
    hints::hints_to,
};
use crate::{
    body::PipedBody,
    functions::{FunctionOutput, Notes, RequestContent, RequestHead, StreamedAnswer, pipe::ROOM},
    request::origin_request::{OriginRequest, Received, ReceivedBody},
    upstream::{FetchError, FunctionFailure},
};

/// Calls the function for a response.
pub(crate) async fn made(
    request: &OriginRequest,
    effect: &mut HookEffect,
) -> Result<Box<Received>, FetchError> {
    let live = Rc::clone(&request.live);
    let context = request.hooks.as_ref();
    let due = context.and_then(|context| Some((context, context.function.as_ref()?)));
    let (Some((context, due)), Some(route)) = (due, live.plan.route(request.route)) else {
        return Err(FetchError::NoOrigin);
    };
    let started = Instant::now();
    let mut shown = context.request.headers.clone();
    forward::unconditional(&mut shown);
    forward::without_rewriting(&mut shown, route, &request.method);
    // Those of a validation.
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        if let Some(value) = request.headers.get(name) {
            shown.insert(name, value.owned());
        }
    }
    let notes = Arc::<Notes>::default();
    let head = Box::new(RequestHead {
        method: request.method.clone(),
        headers: shown.clone(),
        notes: Some(Arc::clone(&notes)),
        ..context.request.clone()
    });
    let worker = &request.worker;
    let hints = hints_to(request.interims.as_ref(), worker, route);
    let content = RequestContent::default();
    let output = invoke_function(worker, &live, due.call, head, content, hints).await;
    let reads = notes.lock().clone();
    context.apply(Some(route), due, &reads, &shown, effect);
    let (status, mut headers, body) = match output {
        Ok(FunctionOutput::Answer(answer)) => {
            let to_head = request.method == Method::HEAD && answer.body.is_empty();
            let length = match to_head {
                true => length_to_head(&answer),
                false => Some(answer.body.len() as u64),
            };
            let mut headers = unframed(answer.headers);
            if let Some(length) = length.filter(|_| !finish::bodiless(answer.status)) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            (answer.status, headers, ReceivedBody::Whole(answer.body))
        }
        Ok(FunctionOutput::Stream(StreamedAnswer {
            status,
            headers,
            pieces,
            ..
        })) => {
            let account = &worker.shared.account;
            let (kind, patience) = (Purpose::Bodies, live.plan.limits.http.body_timeout);
            let hold = account.open_drawn(kind, request.owner, ROOM as u64, patience);
            let hold = hold.await.map_err(|_| FetchError::NoMemory)?;
            let length = declared(&headers).filter(|_| !finish::bodiless(status));
            let body = PipedBody::new(pieces, hold).of_length(length);
            let mut headers = unframed(headers);
            if let Some(length) = length {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            (status, headers, ReceivedBody::Piped(body))
        }
        Ok(FunctionOutput::Continue { .. }) => {
            return Err(FetchError::Function(Arc::new(FunctionFailure {
                status: StatusCode::BAD_GATEWAY,
                message: "The function returned no response.".to_owned(),
                retry: false,
                id: None,
                trace: None,
            })));
        }
        Err(error) => {
            return Err(FetchError::Function(Arc::new(failure(
                &live, due.call, &error,
            ))));
        }
    };
    let received_at = worker.clock.unix_now();
    finish::date(&mut headers, received_at, &worker.last_date);
    Ok(Box::new(Received {
        status,
        headers,
        body,
        upgrade: None,
        requested_at: worker.clock.unix(started),
        received_at,
        own: Fields::new(),
        hooked: HookEffect::default(),
    }))
}
