//! One call of a callable: its time-out, its failure, and its answer as a response.

use std::{
    borrow::Cow,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    admit,
    cache::slices::content_length,
    finish,
    http::{Fields, PathAndQuery, header},
    plan::{CallableId, FailMode},
    transform::Untransformed,
};
use http::{HeaderValue, StatusCode};

use crate::{
    account::Hold,
    body::{EdgeBody, EdgeResponse, PipedBody},
    functions::{
        Answer, CallOutput, CallResult, FunctionError, FunctionOutput, Invocation, Phase,
        RequestContent, RequestHead, ResponseHead, StreamedAnswer,
        fetch::Fetcher,
        pipe::{PieceReader, PieceWaits},
    },
    live::LocalLive,
    request::answer::{self, Early},
    telemetry::trace::Work,
    upstream::FunctionFailure,
    worker::Worker,
};

/// Starts a call of a hook; the future waits for its output.
pub(super) fn invoke(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    call: CallableId,
    phase: Phase,
    request: Box<RequestHead>,
    response: Option<(ResponseHead, Option<Result<(), Untransformed>>)>,
) -> impl Future<Output = CallOutput> {
    let content = RequestContent::default();
    start(
        worker,
        live,
        (call, phase),
        request,
        content,
        response,
        |_| {},
    )
}

/// Starts a call of a function; the future waits for its output. `hints` takes the fields of early hints.
pub(super) fn invoke_function(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    call: CallableId,
    request: Box<RequestHead>,
    content: RequestContent,
    hints: impl Fn(&Fields),
) -> impl Future<Output = CallOutput> {
    start(
        worker,
        live,
        (call, Phase::Function),
        request,
        content,
        None,
        hints,
    )
}

fn start(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    (call, phase): (CallableId, Phase),
    mut request: Box<RequestHead>,
    RequestContent { body, rest, tunnel }: RequestContent,
    response: Option<(ResponseHead, Option<Result<(), Untransformed>>)>,
    hints: impl Fn(&Fields),
) -> impl Future<Output = CallOutput> {
    let timeout = live
        .plan
        .callable(call)
        .map_or(live.plan.limits.functions.timeout, |callable| {
            callable.timeout
        });
    let since = Instant::now();
    // A function that waits for this request has no more time than it gave it.
    let timeout = match request.chain.until() {
        Some(until) => timeout.min(until.saturating_duration_since(since)),
        None => timeout,
    };
    let (response, transforms) = response.unzip();
    let transforms = transforms.flatten();
    let span = request.trace.take().map(|parent| {
        let (work, kind) = match phase {
            Phase::Function => (Work::Function, "function"),
            _ => (Work::Hook, phase.as_str()),
        };
        let callable = live.plan.callable(call);
        let name = callable.map_or("", |callable| &*callable.name);
        let mut span = Box::new(parent.begin_at(work, format!("{kind} {name}"), since));
        span.note("code.function.name", name.to_owned());
        span.note("edgerouter.phase", phase.as_str());
        request.trace = Some(span.parent());
        span
    });
    let waits = rest.as_ref().map(PieceReader::waits);
    let started = live.functions.invoke(Invocation {
        call,
        since,
        phase,
        request,
        body,
        rest,
        tunnel,
        response,
        transforms,
        timeout,
        fetcher: Arc::clone(&worker.fetches) as Arc<dyn Fetcher>,
        caches: live.caches(),
    });
    let live = Rc::clone(live);
    async move {
        // In its place all the while: an output is large, and hardly any is a stream.
        let mut output = started.output(hints).await;
        if let Ok(FunctionOutput::Stream(answer)) = &mut output
            && answer.beginning.is_some()
        {
            let end = || {
                let waited = waits.as_ref().map_or(Duration::ZERO, PieceWaits::total);
                (timeout + waited).saturating_sub(since.elapsed())
            };
            match within(end, Box::pin(begun(answer))).await {
                Some(Ok(())) => {}
                Some(Err(outcome)) => output = outcome,
                None => output = Err(FunctionError::TimedOut(timeout)),
            }
        }
        let result = output.as_ref().map_or_else(Into::into, |_| CallResult::Ok);
        live.metrics.hook(call, phase, result, since.elapsed());
        if let Some(span) = span {
            let error = output
                .as_ref()
                .err()
                .map(|_| Cow::Borrowed(result.as_str()));
            span.end(error);
        }
        output
    }
}

/// Waits for `work` while there is time left, which may become more meanwhile.
async fn within<T>(
    left: impl Fn() -> Duration,
    mut work: Pin<Box<impl Future<Output = T>>>,
) -> Option<T> {
    loop {
        let now = left();
        if let Ok(done) = tokio::time::timeout(now, &mut work).await {
            return Some(done);
        }
        if left().is_zero() {
            return None;
        }
    }
}

/// Waits for the first piece of a response: until then its function may still fail, and it says which type the content
/// has. An error is the outcome in its place.
async fn begun(answer: &mut StreamedAnswer) -> Result<(), CallOutput> {
    poll_fn(|cx| answer.pieces.poll_ready(cx)).await;
    let Some(beginning) = answer.beginning.take() else {
        return Ok(());
    };
    if let Some(outcome) = beginning.refused() {
        return Err(outcome);
    }
    // An iterator has whatever length it has. Only an application that frames its messages states it.
    answer.headers.remove(header::CONTENT_LENGTH);
    if !answer.headers.contains_key(header::CONTENT_TYPE) && !finish::bodiless(answer.status) {
        let kind = match beginning.is_text() {
            true => HeaderValue::from_static("text/plain; charset=utf-8"),
            false => HeaderValue::from_static("application/octet-stream"),
        };
        answer.headers.insert(header::CONTENT_TYPE, kind);
    }
    Ok(())
}

/// The effect of a failed call: none when it fails open, a response to the request otherwise.
pub(super) fn failed(live: &LocalLive, call: CallableId, error: &FunctionError) -> Option<Early> {
    let failure = failure(live, call, error);
    let callable = live.plan.callable(call);
    if callable.is_some_and(|callable| callable.fail == FailMode::Open) {
        return None;
    }
    Some(page(&failure).into())
}

/// Logs a failed call, and words it for the visitor.
pub(super) fn failure(
    live: &LocalLive,
    call: CallableId,
    error: &FunctionError,
) -> FunctionFailure {
    let callable = live.plan.callable(call);
    let name = callable.map_or("?", |callable| &*callable.name);
    match error {
        // Its own side has logged it, with the traceback.
        FunctionError::Raised { .. } | FunctionError::WrongType { .. } => {
            tracing::debug!(callable = name, %error, "a function or hook failed");
        }
        _ => tracing::warn!(callable = name, %error, "a function or hook failed"),
    }
    let (status, message) = match error {
        FunctionError::TimedOut(_) | FunctionError::UsedUp(_) => (
            StatusCode::GATEWAY_TIMEOUT,
            "The function did not answer in time.".to_owned(),
        ),
        FunctionError::TooManyStreams(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many responses are streamed.".to_owned(),
        ),
        FunctionError::QueueFull(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many calls are waiting for functions.".to_owned(),
        ),
        FunctionError::NoPlace { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "No place is free for a call that another function waits for.".to_owned(),
        ),
        FunctionError::Gone => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The function runtime is stopping.".to_owned(),
        ),
        FunctionError::Raised { id, .. } | FunctionError::WrongType { id, .. } => (
            StatusCode::BAD_GATEWAY,
            format!("The function failed (error id {id})."),
        ),
    };
    let (id, trace) = match error {
        FunctionError::Raised { id, trace, .. } | FunctionError::WrongType { id, trace, .. } => {
            (Some(id.clone()), trace.clone())
        }
        _ => (None, None),
    };
    FunctionFailure {
        status,
        message,
        retry: matches!(
            error,
            FunctionError::QueueFull(_)
                | FunctionError::NoPlace { .. }
                | FunctionError::TooManyStreams(_)
        ),
        id,
        trace,
    }
}

/// The response that words a failed call.
pub(crate) fn page(failure: &FunctionFailure) -> EdgeResponse {
    let mut response = answer::text(failure.status, &failure.message);
    if failure.retry {
        let soon = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    if let Some(id) = failure.id.as_deref()
        && let Ok(id) = HeaderValue::from_str(id)
    {
        response.headers_mut().insert(header::X_ERROR_ID, id);
    }
    if let Some(trace) = &failure.trace {
        let trace = answer::Trace {
            message: failure.message.clone(),
            trace: Arc::clone(trace),
        };
        response.extensions_mut().insert(trace);
    }
    response
}

/// The response to a request whose hook gave a stream: the runner gives none.
pub(super) fn no_stream() -> Early {
    answer::text(
        StatusCode::BAD_GATEWAY,
        "A hook gave a response that is streamed.",
    )
    .into()
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

pub(super) fn answered(answer: Answer, to_head: bool) -> EdgeResponse {
    let length = to_head.then(|| length_to_head(&answer)).flatten();
    let headers = reframed(answer.headers, length);
    answer::of(answer.status, headers, EdgeBody::made(answer.body))
}

/// The length that an answer to HEAD has for the content of a GET, which it leaves out.
pub(super) fn length_to_head(answer: &Answer) -> Option<u64> {
    answer
        .body
        .is_empty()
        .then(|| declared(&answer.headers))
        .flatten()
}

/// The length that a head states, if it states one.
pub(super) fn declared(headers: &Fields) -> Option<u64> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (Some(_), None) => content_length(headers),
        _ => None,
    }
}

/// A response whose content a callable makes while it is sent. `hold`: the memory for the pieces that wait.
pub(super) fn streamed(answer: StreamedAnswer, hold: Hold) -> EdgeResponse {
    let (status, headers, body) = piped(answer, hold);
    answer::of(status, headers, EdgeBody::piped(body))
}

/// The parts of such a response, for a caller that makes another kind of response of them.
pub(super) fn piped(answer: StreamedAnswer, hold: Hold) -> (StatusCode, Fields, PipedBody) {
    let length = declared(&answer.headers).filter(|_| !finish::bodiless(answer.status));
    let body = PipedBody::new(answer.pieces, hold).of_length(length);
    (answer.status, reframed(answer.headers, length), body)
}

/// Framing is the edge's own, and so are the fields of one connection: HTTP/2 has none of them (RFC 9113 §8.2.2).
#[inline]
pub(super) fn reframed(mut headers: Fields, length: Option<u64>) -> Fields {
    headers.remove(header::CONTENT_LENGTH);
    admit::strip_hop_by_hop(&mut headers);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers
}
