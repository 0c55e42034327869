//! Phases 10 and 12: hooks on the request to an origin and on its response, which may outlive the client.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use edgerouter_core::{
    admit,
    bounds::memory::Purpose,
    cache::{
        hooked::{HookEffect, Reads},
        storable::NotStored,
    },
    finish, forward,
    http::header,
    plan::CallableId,
};
use http::{HeaderValue, StatusCode};

use super::{
    call::{failed, invoke, no_stream, target},
    context::HookContext,
    transform::{OF_A_TRANSFORM, begun},
};
use crate::{
    functions::{Answer, FunctionOutput, Notes, Phase, RequestHead, ResponseHead},
    request::{
        answer::{self, Early},
        origin_request::{OriginRequest, Received, ReceivedBody},
    },
};

/// Phase 10: `Some` when a hook answered in the origin's place.
pub(crate) async fn origin_request(
    request: &mut OriginRequest,
    context: &HookContext,
    effect: &mut HookEffect,
) -> Result<Option<Answer>, Early> {
    let live = Rc::clone(&request.live);
    let method = request.method.clone();
    let shown = request.headers.clone();
    let mut reads = Reads::default();
    for due in &context.origin_request {
        let notes = Arc::new(Notes::new(reads.next()));
        let call = due.call;
        let head = Box::new(RequestHead {
            method: request.method.clone(),
            path: request.path_and_query.path().to_owned(),
            query: request.path_and_query.query().map(str::to_owned),
            headers: std::mem::take(&mut request.headers),
            notes: context.observed.then(|| Arc::clone(&notes)),
            ..context.request.clone()
        });
        let kept = head.headers.clone();
        let (worker, phase) = (&request.worker, Phase::OriginRequest);
        let output = invoke(worker, &live, call, phase, head, None).await;
        reads = notes.lock().clone();
        let route = live.plan.route(request.route);
        context.apply(route, due, &reads, &shown, effect);
        match output {
            Ok(FunctionOutput::Continue { request: head, .. }) => {
                request.path_and_query = target(&head.path, head.query.as_deref())?;
                request.method = head.method;
                request.headers = head.headers;
                admit::without_twins_of_changes(&kept, &mut request.headers);
            }
            Ok(FunctionOutput::Answer(answer)) => return Ok(Some(answer)),
            Ok(FunctionOutput::Stream(_)) => return Err(no_stream()),
            Err(error) => {
                request.headers = kept;
                if let Some(early) = failed(&live, call, &error) {
                    return Err(early);
                }
                effect.forbid(NotStored::HookFailed);
            }
        }
    }
    if request.method != method {
        // The key is that of the method which was looked up.
        effect.forbid(NotStored::Hook);
    }
    Ok(None)
}

/// Phase 12.
pub(crate) async fn origin_response(
    request: &OriginRequest,
    context: &HookContext,
    received: &mut Received,
) -> Result<(), Early> {
    let live = &request.live;
    let mut shown = context.request.headers.clone();
    // The edge evaluates conditions and ranges: the hook's response is for all.
    forward::unconditional(&mut shown);
    for due in &context.origin_response {
        let notes = Arc::<Notes>::default();
        let call = due.call;
        let seen = Box::new(RequestHead {
            headers: shown.clone(),
            notes: context.observed.then(|| Arc::clone(&notes)),
            ..context.request.clone()
        });
        let transforms =
            due.may_transform(&context.request.method, received.status, &received.headers);
        let head = ResponseHead {
            status: received.status,
            headers: received.headers.clone(),
        };
        let (worker, phase) = (&request.worker, Phase::OriginResponse);
        let output = invoke(worker, live, call, phase, seen, Some((head, transforms))).await;
        let reads = notes.lock().clone();
        let route = live.plan.route(request.route);
        context.apply(route, due, &reads, &shown, &mut received.hooked);
        match output {
            Ok(FunctionOutput::Continue {
                response,
                transform,
                ..
            }) => {
                if let Some(changed) = response {
                    received.headers = changed.headers;
                    let (status, headers) = (&mut received.status, &mut received.headers);
                    if finish::restate(status, headers, changed.status) {
                        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                        received.body = ReceivedBody::Whole(Bytes::new());
                    }
                }
                if let Some(wanted) = transform
                    && let Some(begun) = begun(live, call, wanted)
                {
                    let account = &worker.shared.account;
                    let (kind, patience) = (Purpose::Bodies, live.plan.limits.http.body_timeout);
                    let hold = account.open_drawn(kind, request.owner, OF_A_TRANSFORM, patience);
                    let hold = hold.await.map_err(|_| answer::overloaded())?;
                    let body =
                        std::mem::replace(&mut received.body, ReceivedBody::Whole(Bytes::new()));
                    received.body = ReceivedBody::Piped(begun.of(body.into_body(), hold));
                }
            }
            Ok(FunctionOutput::Answer(_)) if received.status == StatusCode::NOT_MODIFIED => {
                return Err(no_content(request, call));
            }
            Ok(FunctionOutput::Stream(_)) => return Err(no_stream()),
            Ok(FunctionOutput::Answer(answer)) => {
                received.status = answer.status;
                finish::whole(&mut received.status);
                received.headers = answer.headers;
                received.headers.remove(header::TRANSFER_ENCODING);
                let length = HeaderValue::from(answer.body.len());
                received.headers.insert(header::CONTENT_LENGTH, length);
                received.body = ReceivedBody::Whole(answer.body);
            }
            Err(error) => {
                if let Some(early) = failed(live, call, &error) {
                    return Err(early);
                }
                received.hooked.forbid(NotStored::HookFailed);
            }
        }
    }
    Ok(())
}

/// The error of a hook that gave a 304 a body: a 304 makes the stored content fresh again (RFC 9111 §4.3.4), and has
/// none that a hook could replace.
fn no_content(request: &OriginRequest, call: CallableId) -> Early {
    let id = format!("{:016x}", request.worker.next_id());
    let name = request.live.plan.callable(call);
    tracing::error!(
        callable = name.map_or("?", |callable| &*callable.name),
        id,
        "the hook set a body on a 304, which has none: do not set it when response.status is 304"
    );
    let response = answer::text(
        StatusCode::BAD_GATEWAY,
        &format!("The function failed (error id {id})."),
    );
    match HeaderValue::from_str(&id) {
        Ok(id) => answer::with(response, header::X_ERROR_ID, id).into(),
        Err(_) => response.into(),
    }
}
