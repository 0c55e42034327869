//! Phases 7, 10, 12, 14 and edge functions: handing a request to a callable and taking its verdict.

use std::{rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    admit,
    plan::{CallableId, FailMode, Hook, Route, Scheme},
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, uri::PathAndQuery};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    answer::{self, Early},
    exchange::{self, Exchange},
    origin::{Ask, Received, ReceivedBody},
};
use crate::{
    body::EdgeBody,
    function_cache::FunctionCaches,
    functions::{Answer, FunctionError, Invocation, Phase, RequestHead, ResponseHead, Verdict},
    telemetry::Outcome,
    worker::{LocalLive, Worker},
};

/// What the hooks of the origin phases are told of a request; it outlives the client with the fetch.
#[derive(Debug)]
pub struct HookContext {
    pub origin_request: Vec<CallableId>,
    pub origin_response: Vec<CallableId>,
    host: Arc<str>,
    port: Option<u16>,
    scheme: Scheme,
    client: std::net::IpAddr,
    params: Vec<(String, String)>,
    claims: Option<Arc<str>>,
    variants: Vec<(Arc<str>, Arc<str>)>,
    id: u64,
    method: Method,
    path: String,
    query: Option<String>,
    request_headers: HeaderMap,
}

impl Exchange {
    /// `None` when no hook of the origin phases runs for this request.
    pub fn hook_context(&self, route: &Route) -> Option<Rc<HookContext>> {
        let origin_request = self.matching(&route.hooks.origin_request);
        let origin_response = self.matching(&route.hooks.origin_response);
        if origin_request.is_empty() && origin_response.is_empty() {
            return None;
        }
        let head = self.request_head(route);
        Some(Rc::new(HookContext {
            origin_request,
            origin_response,
            host: head.host,
            port: head.port,
            scheme: head.scheme,
            client: head.client,
            params: head.params,
            claims: head.claims,
            variants: head.variants,
            id: head.id,
            method: head.method,
            path: head.path,
            query: head.query,
            request_headers: head.headers,
        }))
    }

    fn matching(&self, hooks: &[Hook]) -> Vec<CallableId> {
        hooks
            .iter()
            .filter(|hook| {
                hook.host
                    .as_ref()
                    .is_none_or(|host| host.matches(self.host()))
                    && (hook.always || hook.pattern.matches(self.viewer_path.path()))
            })
            .map(|hook| hook.call)
            .collect()
    }

    fn request_head(&self, route: &Route) -> RequestHead {
        RequestHead {
            method: self.head.method.clone(),
            scheme: self.client.scheme,
            host: self.host().into(),
            port: admit::port(&self.authority),
            path: self.head.uri.path().to_owned(),
            query: self.head.uri.query().map(str::to_owned),
            headers: self.head.headers.clone(),
            client: self.client.address,
            params: route
                .path
                .captures(self.viewer_path.path())
                .unwrap_or_default(),
            claims: self.claims.as_ref().map(|claims| claims.json().clone()),
            variants: self
                .variants(route)
                .map(|(name, variant)| (name.into(), variant.into()))
                .collect(),
            id: self.worker.next_id(),
        }
    }
}

async fn invoke(
    worker: &Rc<Worker>,
    live: &LocalLive,
    call: CallableId,
    phase: Phase,
    request: RequestHead,
    body: Bytes,
    response: Option<ResponseHead>,
) -> Result<Verdict, FunctionError> {
    let timeout = live
        .plan
        .callable(call)
        .map_or(live.plan.limits.function_timeout, |callable| {
            callable.timeout
        });
    let invocation = Invocation {
        call,
        phase,
        request,
        body,
        response,
        timeout,
        caches: FunctionCaches::of(&worker.shared),
    };
    let verdict = match tokio::time::timeout(timeout, live.functions.invoke(invocation)).await {
        Ok(verdict) => verdict,
        Err(_) => Err(FunctionError::TimedOut(timeout)),
    };
    worker.metrics.hook(call, phase, verdict.as_ref().err());
    verdict
}

/// What a failed call costs: nothing when it fails open, the request otherwise.
fn failed(live: &LocalLive, call: CallableId, error: &FunctionError) -> Option<Early> {
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

/// Phase 7.
pub async fn viewer_request(x: &mut Exchange, route: &Route) -> Result<(), Early> {
    let live = Rc::clone(&x.live);
    for call in x.matching(&route.hooks.viewer_request) {
        let head = x.request_head(route);
        match invoke(
            &x.worker,
            &live,
            call,
            Phase::ViewerRequest,
            head,
            Bytes::new(),
            None,
        )
        .await
        {
            Ok(Verdict::Continue { request, .. }) => {
                let changed = request.path != x.head.uri.path()
                    || request.query.as_deref() != x.head.uri.query();
                if changed {
                    x.head.uri = http::Uri::from(target(&request.path, request.query.as_deref())?);
                }
                x.head.method = request.method;
                x.head.headers = request.headers;
            }
            Ok(Verdict::Answer(answer)) => {
                x.note.outcome = Outcome::Function;
                x.note.detail = Some("hook");
                return Err(answered(answer).into());
            }
            Err(error) => {
                if let Some(early) = failed(&live, call, &error) {
                    x.note.outcome = Outcome::Error;
                    x.note.detail = Some("hook-failed");
                    return Err(early);
                }
            }
        }
    }
    Ok(())
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Early> {
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

/// Phase 10: `Some` when a hook answered in the origin's place.
pub async fn origin_request(ask: &mut Ask, context: &HookContext) -> Result<Option<Answer>, Early> {
    let live = Rc::clone(&ask.live);
    for &call in &context.origin_request {
        let head = RequestHead {
            method: ask.method.clone(),
            path: ask.path_and_query.path().to_owned(),
            query: ask.path_and_query.query().map(str::to_owned),
            headers: std::mem::take(&mut ask.headers),
            ..context.head()
        };
        let kept = head.headers.clone();
        match invoke(
            &ask.worker,
            &live,
            call,
            Phase::OriginRequest,
            head,
            Bytes::new(),
            None,
        )
        .await
        {
            Ok(Verdict::Continue { request, .. }) => {
                ask.path_and_query = target(&request.path, request.query.as_deref())?;
                ask.method = request.method;
                ask.headers = request.headers;
            }
            Ok(Verdict::Answer(answer)) => return Ok(Some(answer)),
            Err(error) => {
                ask.headers = kept;
                if let Some(early) = failed(&live, call, &error) {
                    return Err(early);
                }
            }
        }
    }
    Ok(None)
}

impl HookContext {
    fn head(&self) -> RequestHead {
        RequestHead {
            method: self.method.clone(),
            scheme: self.scheme,
            host: Arc::clone(&self.host),
            port: self.port,
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.request_headers.clone(),
            client: self.client,
            params: self.params.clone(),
            claims: self.claims.clone(),
            variants: self.variants.clone(),
            id: self.id,
        }
    }
}

/// Phase 12.
pub async fn response(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    context: &HookContext,
    phase: Phase,
    received: &mut Received,
) -> Result<(), Early> {
    for &call in &context.origin_response {
        let head = ResponseHead {
            status: received.status,
            headers: received.headers.clone(),
        };
        match invoke(
            worker,
            live,
            call,
            phase,
            context.head(),
            Bytes::new(),
            Some(head),
        )
        .await
        {
            Ok(Verdict::Continue { response, .. }) => {
                if let Some(response) = response {
                    received.status = response.status;
                    received.headers = response.headers;
                }
            }
            Ok(Verdict::Answer(answer)) => {
                received.status = answer.status;
                received.headers = answer.headers;
                received.headers.remove(header::CONTENT_LENGTH);
                received.body = ReceivedBody::Whole(answer.body);
            }
            Err(error) => {
                if let Some(early) = failed(live, call, &error) {
                    return Err(early);
                }
            }
        }
    }
    Ok(())
}

/// Phase 14.
pub async fn viewer_response(
    x: &mut Exchange,
    route: &Route,
    response: &mut Response<EdgeBody>,
) -> Result<(), Early> {
    let live = Rc::clone(&x.live);
    for call in x.matching(&route.hooks.viewer_response) {
        let head = ResponseHead {
            status: response.status(),
            headers: response.headers().clone(),
        };
        match invoke(
            &x.worker,
            &live,
            call,
            Phase::ViewerResponse,
            x.request_head(route),
            Bytes::new(),
            Some(head),
        )
        .await
        {
            Ok(Verdict::Continue {
                response: changed, ..
            }) => {
                if let Some(changed) = changed {
                    *response.status_mut() = changed.status;
                    *response.headers_mut() = changed.headers;
                }
            }
            Ok(Verdict::Answer(answer)) => {
                *response = answered(answer);
                x.note.replaced("hook");
            }
            Err(error) => {
                if let Some(early) = failed(&live, call, &error) {
                    x.note.outcome = Outcome::Error;
                    x.note.replaced("hook-failed");
                    return Err(early);
                }
            }
        }
    }
    Ok(())
}

/// An edge function in the place of phases 8 to 13.
pub async fn function(x: &mut Exchange, call: CallableId) -> Result<Response<EdgeBody>, Early> {
    let live = Rc::clone(&x.live);
    let route = x.route.and_then(|id| live.plan.route(id));
    let Some(route) = route else {
        return Err(answer::text(StatusCode::INTERNAL_SERVER_ERROR, "This route is gone.").into());
    };
    x.note.outcome = Outcome::Function;
    x.note.detail = Some("function");
    let body = match x.body.take() {
        Some(body) if x.has_body => collect(x, body, live.plan.limits.function_body_bytes).await?,
        _ => Bytes::new(),
    };
    match invoke(
        &x.worker,
        &live,
        call,
        Phase::Function,
        x.request_head(route),
        body,
        None,
    )
    .await
    {
        Ok(Verdict::Answer(answer)) => Ok(answered(answer)),
        Ok(Verdict::Continue { .. }) => {
            x.note.detail = Some("function-failed");
            Err(answer::text(
                StatusCode::BAD_GATEWAY,
                "The function returned no response.",
            )
            .into())
        }
        Err(error) => {
            x.note.outcome = Outcome::Error;
            x.note.detail = Some("function-failed");
            Err(failed(&live, call, &error).unwrap_or_else(|| {
                answer::text(StatusCode::BAD_GATEWAY, "The function failed.").into()
            }))
        }
    }
}

pub async fn collect(x: &mut Exchange, mut body: Incoming, most: usize) -> Result<Bytes, Early> {
    let too_large = || {
        let refused = answer::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!(
                "The body is larger than functions take ({most} bytes; limits.function_body_bytes)."
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
    let patience = x.live.plan.limits.body_timeout;
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
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(_))) => return Err(exchange::broken_body(x)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if whole.len() + data.len() > most {
                    return Err(too_large());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

fn answered(answer: Answer) -> Response<EdgeBody> {
    let Answer {
        status,
        mut headers,
        body,
    } = answer;
    // Framing is ours to say.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    answer::of(status, headers, EdgeBody::bytes(body))
}
