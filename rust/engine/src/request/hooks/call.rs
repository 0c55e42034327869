//! One call of a callable: its time-out, its failure, and its answer as a response.

use std::{future::Future, rc::Rc, sync::Arc};

use bytes::Bytes;
use edgerouter_core::http::PathAndQuery;
use edgerouter_core::http::header;
use edgerouter_core::plan::{CallableId, FailMode};
use http::{HeaderValue, StatusCode};

use crate::{
    body::{EdgeBody, EdgeResponse},
    functions::{
        Answer, CallResult, FunctionError, FunctionOutput, Invocation, Phase, RequestHead,
        ResponseHead,
    },
    live::LocalLive,
    request::answer::{self, Early},
    worker::Worker,
};

/// Starts a call; the future waits for its output.
pub(super) fn invoke(
    worker: &Rc<Worker>,
    live: &LocalLive,
    call: CallableId,
    phase: Phase,
    request: Box<RequestHead>,
    body: Bytes,
    response: Option<ResponseHead>,
) -> impl Future<Output = Result<FunctionOutput, FunctionError>> {
    let timeout = live
        .plan
        .callable(call)
        .map_or(live.plan.limits.functions.timeout, |callable| {
            callable.timeout
        });
    let started = live.functions.invoke(Invocation {
        call,
        phase,
        request,
        body,
        response,
        timeout,
        caches: worker.shared.function_caches(),
    });
    async move {
        let output = started.output().await;
        let result = output.as_ref().map_or_else(Into::into, |_| CallResult::Ok);
        worker.metrics.hook(call, phase, result);
        output
    }
}

/// The effect of a failed call: none when it fails open, a response to the request otherwise.
pub(super) fn failed(live: &LocalLive, call: CallableId, error: &FunctionError) -> Option<Early> {
    let callable = live.plan.callable(call);
    let name = callable.map_or("?", |callable| &*callable.name);
    match error {
        // Its own side has logged it, with the traceback.
        FunctionError::Raised { .. } | FunctionError::WrongType { .. } => {
            tracing::debug!(callable = name, %error, "a function or hook failed");
        }
        _ => tracing::warn!(callable = name, %error, "a function or hook failed"),
    }
    if callable.is_some_and(|callable| callable.fail == FailMode::Open) {
        return None;
    }
    let mut response = match error {
        FunctionError::TimedOut(_) => answer::text(
            StatusCode::GATEWAY_TIMEOUT,
            "The function did not answer in time.",
        ),
        FunctionError::QueueFull(_) => {
            let busy = answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many calls are waiting for functions.",
            );
            answer::with(busy, header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        FunctionError::Gone => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "The function runtime is stopping.",
        ),
        FunctionError::Raised { id, .. } | FunctionError::WrongType { id, .. } => answer::text(
            StatusCode::BAD_GATEWAY,
            &format!("The function failed (error id {id})."),
        ),
    };
    if let FunctionError::Raised { id, trace, .. } | FunctionError::WrongType { id, trace, .. } =
        error
    {
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert("x-error-id", id);
        }
        if let Some(trace) = trace {
            let trace = answer::Trace {
                message: format!("The function failed (error id {id})."),
                trace: Arc::clone(trace),
            };
            response.extensions_mut().insert(trace);
        }
    }
    Some(response.into())
}

pub(super) fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Early> {
    let target = match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    PathAndQuery::try_from(target)
        .ok()
        .filter(|target| target.path().starts_with('/'))
        .ok_or_else(|| {
            answer::text(
                StatusCode::BAD_GATEWAY,
                "A hook set a path that is not one.",
            )
            .into()
        })
}

pub(super) fn answered(answer: Answer) -> EdgeResponse {
    let Answer {
        status,
        mut headers,
        body,
    } = answer;
    // Framing is ours to say.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    answer::of(status, headers, EdgeBody::made(body))
}
