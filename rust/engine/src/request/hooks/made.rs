//! Phase 11 by a function in the place of an origin: its response may be stored, so that what it reads of the request
//! selects among stored responses, as what a hook of the origin phases reads does.

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    bounds::memory::Purpose,
    cache::hooked::HookEffect,
    finish, forward,
    http::{Fields, header},
    plan::Route,
};
use http::{Method, StatusCode};

use super::{
    call::{failure, invoke_function, length_to_head, piped, reframed},
    hints::hints_to,
};
use crate::{
    functions::{
        Answer, FunctionOutput, Notes, RequestContent, RequestHead, StreamedAnswer, pipe::ROOM,
    },
    request::origin_request::{OriginRequest, Received, ReceivedBody},
    upstream::{FetchError, FunctionFailure},
};

/// A function's response: status, fields and body.
type Made = (StatusCode, Fields, ReceivedBody);

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
    let shown = shown(request, &context.request.headers, route);
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
        Ok(FunctionOutput::Answer(answer)) => whole(request, answer),
        Ok(FunctionOutput::Stream(answer)) => streamed(request, answer).await?,
        Ok(FunctionOutput::Continue { .. }) => return Err(no_response()),
        Err(error) => {
            let failure = failure(&live, due.call, &error);
            return Err(FetchError::Function(Arc::new(failure)));
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

/// The request's fields as the function sees them: the client's, with the conditions of the edge's own validation.
fn shown(request: &OriginRequest, of_client: &Fields, route: &Route) -> Fields {
    let mut shown = of_client.clone();
    forward::unconditional(&mut shown);
    forward::without_rewriting(&mut shown, route, &request.method);
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        if let Some(value) = request.headers.get(name) {
            shown.insert(name, value.owned());
        }
    }
    shown
}

fn whole(request: &OriginRequest, answer: Answer) -> Made {
    let to_head = request.method == Method::HEAD && answer.body.is_empty();
    let length = match to_head {
        true => length_to_head(&answer),
        false => Some(answer.body.len() as u64),
    };
    let length = length.filter(|_| !finish::bodiless(answer.status));
    let headers = reframed(answer.headers, length);
    (answer.status, headers, ReceivedBody::Whole(answer.body))
}

async fn streamed(request: &OriginRequest, answer: StreamedAnswer) -> Result<Made, FetchError> {
    let account = &request.worker.shared.account;
    let patience = request.live.plan.limits.http.body_timeout;
    let hold = account.open_drawn(Purpose::Bodies, request.owner, ROOM as u64, patience);
    let hold = hold.await.map_err(|_| FetchError::NoMemory)?;
    let (status, headers, body) = piped(answer, hold);
    Ok((status, headers, ReceivedBody::Piped(body)))
}

fn no_response() -> FetchError {
    FetchError::Function(Arc::new(FunctionFailure {
        status: StatusCode::BAD_GATEWAY,
        message: "The function returned no response.".to_owned(),
        retry: false,
        id: None,
        trace: None,
    }))
}
