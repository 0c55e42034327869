//! Phases 7, 10, 12, 14 and edge functions: handing a request to a callable and taking what it returned.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    admit,
    bounds::memory::Purpose,
    cache::{
        distinct::MOST_VALUES,
        hooked::{Facts, Part, Reads, Written},
        storable::NotStored,
    },
    finish, forward,
    identity::jwt::Claims,
    plan::{CallableId, FailMode, Hook, Route, Scheme},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    answer::{self, Early},
    exchange::{self, Exchange},
    origin::{OriginRequest, Received, ReceivedBody},
};
use crate::{
    account::Owner,
    body::EdgeBody,
    functions::{
        Answer, FunctionError, FunctionOutput, Invocation, Notes, Phase, RequestHead, ResponseHead,
    },
    live::LocalLive,
    telemetry::Outcome,
    worker::Worker,
};

/// What the hooks of the origin phases are told of a request; it outlives the client with the fetch.
#[derive(Debug)]
pub struct HookContext {
    pub origin_request: Vec<Due>,
    pub origin_response: Vec<Due>,
    /// The fields that `viewer_request` hooks wrote.
    written: Option<Rc<Written>>,
    /// The claims as a key sees them.
    verified: Option<Arc<Claims>>,
    /// Whether the path in the key says what the parameters of the route's pattern are.
    params_keyed: bool,
    /// Whether what the hooks read matters to what is stored.
    judged: bool,
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

/// A hook that runs for a request.
#[derive(Debug, Clone)]
pub struct Due {
    pub call: CallableId,
    varies: Option<Arc<[HeaderName]>>,
}

impl Exchange {
    /// Whether a hook of `hooks` runs for this request.
    pub fn runs_any(&self, hooks: &[Hook]) -> bool {
        hooks.iter().any(|hook| self.runs(hook))
    }

    fn runs(&self, hook: &Hook) -> bool {
        hook.runs(self.host(), self.viewer_path.path())
    }

    /// Whether every request that shares this one's key has the same parameters of the route's pattern: nothing but
    /// prefixes may have changed the path.
    fn params_keyed(&self, route: &Route) -> bool {
        let path = self.head.uri.path();
        route.rewrite.is_none()
            && route.hooks.viewer_request.is_empty()
            && route.fallback.is_none()
            && (route.errors.iter()).all(|(_, page)| page.path().is_none_or(|page| **page != *path))
            && route
                .index
                .as_ref()
                .is_none_or(|index| !path.ends_with(&**index))
    }

    /// `None` when no hook of the origin phases runs for this request. `headers`: the request's own.
    pub fn hook_context(
        &self,
        route: &Route,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Rc<HookContext>> {
        let origin_request = self.matching(&route.hooks.origin_request);
        let origin_response = self.matching(&route.hooks.origin_response);
        if origin_request.is_empty() && origin_response.is_empty() {
            return None;
        }
        let mut headers = headers.clone();
        if route.cache.enabled {
            // What is stored depends on no other cookies than those that go upstream.
            forward::cookies(&mut headers, route);
        }
        let head = self.request_head(route, headers);
        Some(Rc::new(HookContext {
            origin_request,
            origin_response,
            written: self.written.clone(),
            verified: self.claims.clone(),
            params_keyed: self.params_keyed(route),
            judged: route.cache.enabled,
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
            // The parameters that the origin gets: there are no others for what is stored.
            query: query.map(str::to_owned),
            request_headers: head.headers,
        }))
    }

    fn matching(&self, hooks: &[Hook]) -> Vec<Due> {
        hooks
            .iter()
            .filter(|hook| self.runs(hook))
            .map(|hook| Due {
                call: hook.call,
                varies: hook.varies.clone(),
            })
            .collect()
    }

    fn request_head(&self, route: &Route, headers: HeaderMap) -> RequestHead {
        RequestHead {
            method: self.head.method.clone(),
            scheme: self.client.scheme,
            host: self.host().into(),
            port: self.port(),
            path: self.head.uri.path().to_owned(),
            query: self.head.uri.query().map(str::to_owned),
            headers,
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
            id: self.id(),
            notes: None,
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
) -> Result<FunctionOutput, FunctionError> {
    let timeout = live
        .plan
        .callable(call)
        .map_or(live.plan.limits.functions.timeout, |callable| {
            callable.timeout
        });
    let invocation = Invocation {
        call,
        phase,
        request,
        body,
        response,
        timeout,
        caches: worker.shared.function_caches(),
    };
    let output = match tokio::time::timeout(timeout, live.functions.invoke(invocation)).await {
        Ok(output) => output,
        Err(_) => Err(FunctionError::TimedOut(timeout)),
    };
    let result = output.as_ref().map_or_else(FunctionError::as_str, |_| "ok");
    worker.metrics.hook(call, phase.as_str(), result);
    output
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
    let mut written = Written::default();
    for Due { call, .. } in x.matching(&route.hooks.viewer_request) {
        let mut head = x.request_head(route, x.head.headers.clone());
        let notes = Arc::<Notes>::default();
        head.notes = route.cache.enabled.then(|| Arc::clone(&notes));
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
            Ok(FunctionOutput::Continue { request, .. }) => {
                let changed = request.path != x.head.uri.path()
                    || request.query.as_deref() != x.head.uri.query();
                if changed {
                    x.head.uri = http::Uri::from(target(&request.path, request.query.as_deref())?);
                }
                let before = std::mem::replace(&mut x.head.headers, request.headers);
                x.head.method = request.method;
                written.by(call, &notes.lock(), &before, &x.head.headers);
                admit::without_twins_of_changes(&before, &mut x.head.headers);
            }
            Ok(FunctionOutput::Answer(answer)) => {
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
                written.failed_open = true;
            }
        }
    }
    watch(x, &written);
    x.hooked = written.names();
    x.written = Some(Rc::new(written));
    Ok(())
}

/// Counts the values that hooks set, and warns once of a field that has too many.
fn watch(x: &Exchange, written: &Written) {
    for (call, field) in &written.fields {
        let Some(callable) = x.live.plan.callable(*call) else {
            continue;
        };
        let mut hasher = DefaultHasher::new();
        for value in x.head.headers.get_all(field) {
            value.as_bytes().hash(&mut hasher);
        }
        let watched = &x.worker.shared.watched;
        let tells = watched.note(&callable.name, field, hasher.finish(), x.now);
        if tells {
            tracing::warn!(
                hook = &*callable.name,
                field = field.as_str(),
                "more than {MOST_VALUES} different values in a minute are part of the cache key, and none was a hit: \
                 set a field with few values, or turn the cache of this route off"
            );
        }
    }
}

/// Notes that a response was found by what these hooks set.
pub fn found(x: &Exchange) {
    let Some(written) = &x.written else { return };
    for (call, field) in &written.fields {
        if let Some(callable) = x.live.plan.callable(*call) {
            x.worker.shared.watched.hit(&callable.name, field, x.now);
        }
    }
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
pub async fn origin_request(
    ask: &mut OriginRequest,
    context: &HookContext,
    part: &mut Part,
) -> Result<Option<Answer>, Early> {
    let live = Rc::clone(&ask.live);
    let method = ask.method.clone();
    let shown = ask.headers.clone();
    let mut reads = Reads::default();
    for due in &context.origin_request {
        let notes = Arc::new(Notes::new(reads.next()));
        let call = due.call;
        let head = RequestHead {
            method: ask.method.clone(),
            path: ask.path_and_query.path().to_owned(),
            query: ask.path_and_query.query().map(str::to_owned),
            headers: std::mem::take(&mut ask.headers),
            notes: context.judged.then(|| Arc::clone(&notes)),
            ..context.head()
        };
        let kept = head.headers.clone();
        let output = invoke(
            &ask.worker,
            &live,
            call,
            Phase::OriginRequest,
            head,
            Bytes::new(),
            None,
        )
        .await;
        reads = notes.lock().clone();
        context.judge(ask, due, &reads, &shown, part);
        match output {
            Ok(FunctionOutput::Continue { request, .. }) => {
                ask.path_and_query = target(&request.path, request.query.as_deref())?;
                ask.method = request.method;
                ask.headers = request.headers;
                admit::without_twins_of_changes(&kept, &mut ask.headers);
            }
            Ok(FunctionOutput::Answer(answer)) => return Ok(Some(answer)),
            Err(error) => {
                ask.headers = kept;
                if let Some(early) = failed(&live, call, &error) {
                    return Err(early);
                }
                part.forbid(NotStored::HookFailed);
            }
        }
    }
    if ask.method != method {
        // The key is that of the method which was looked up.
        part.forbid(NotStored::Hook);
    }
    Ok(None)
}

impl HookContext {
    /// Judges what a hook read, or takes what its declaration says instead.
    fn judge(
        &self,
        ask: &OriginRequest,
        due: &Due,
        reads: &Reads,
        shown: &HeaderMap,
        part: &mut Part,
    ) {
        if !self.judged {
            return;
        }
        if let Some(names) = &due.varies {
            part.select(names.iter().cloned());
            return;
        }
        let Some(route) = ask.live.plan.route(ask.route) else {
            return;
        };
        let identity: Vec<HeaderName> = route
            .auth
            .iter()
            .flat_map(|policy| policy.forward_names().cloned())
            .collect();
        let experiments: Vec<HeaderName> = route
            .experiments
            .iter()
            .map(|experiment| experiment.header.clone())
            .collect();
        Facts {
            policy: &route.cache,
            forward_query: &route.forward.query,
            edits: &route.request_headers,
            written: self.written.as_deref(),
            viewer: &self.request_headers,
            shown,
            identity: &identity,
            experiments: &experiments,
            anonymous: route.auth.as_ref().is_none_or(|policy| policy.optional),
            params: self.params_keyed,
            claims: self.verified.as_deref(),
        }
        .judge(reads, part);
    }

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
            notes: None,
        }
    }
}

/// Phase 12.
pub async fn origin_response(
    ask: &OriginRequest,
    context: &HookContext,
    received: &mut Received,
) -> Result<(), Early> {
    let live = &ask.live;
    let mut shown = context.request_headers.clone();
    // Conditions and ranges are the edge's to judge: what the hook makes is for all.
    forward::unconditional(&mut shown);
    for due in &context.origin_response {
        let notes = Arc::<Notes>::default();
        let call = due.call;
        let request = RequestHead {
            headers: shown.clone(),
            notes: context.judged.then(|| Arc::clone(&notes)),
            ..context.head()
        };
        let head = ResponseHead {
            status: received.status,
            headers: received.headers.clone(),
        };
        let output = invoke(
            &ask.worker,
            live,
            call,
            Phase::OriginResponse,
            request,
            Bytes::new(),
            Some(head),
        )
        .await;
        let reads = notes.lock().clone();
        context.judge(ask, due, &reads, &shown, &mut received.hooked);
        match output {
            Ok(FunctionOutput::Continue { response, .. }) => {
                if let Some(response) = response {
                    received.status = response.status;
                    received.headers = response.headers;
                }
            }
            Ok(FunctionOutput::Answer(_)) if received.status == StatusCode::NOT_MODIFIED => {
                return Err(no_content(ask, call));
            }
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

/// A 304 makes the content that is stored fresh again (RFC 9111 §4.3.4): there is none that a hook could replace.
fn no_content(ask: &OriginRequest, call: CallableId) -> Early {
    let id = format!("{:016x}", ask.worker.next_id());
    let name = ask.live.plan.callable(call);
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
        Ok(id) => answer::with(response, HeaderName::from_static("x-error-id"), id).into(),
        Err(_) => response.into(),
    }
}

/// Phase 14.
pub async fn viewer_response(
    x: &mut Exchange,
    route: &Route,
    response: &mut Response<EdgeBody>,
) -> Result<(), Early> {
    let live = Rc::clone(&x.live);
    for Due { call, .. } in x.matching(&route.hooks.viewer_response) {
        let head = ResponseHead {
            status: response.status(),
            headers: response.headers().clone(),
        };
        match invoke(
            &x.worker,
            &live,
            call,
            Phase::ViewerResponse,
            x.request_head(route, x.head.headers.clone()),
            Bytes::new(),
            Some(head),
        )
        .await
        {
            Ok(FunctionOutput::Continue {
                response: changed, ..
            }) => {
                if let Some(changed) = changed {
                    *response.status_mut() = changed.status;
                    *response.headers_mut() = changed.headers;
                }
            }
            Ok(FunctionOutput::Answer(answer)) => {
                *response = answered(answer);
                finish::whole(response.status_mut());
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
        Some(body) if x.has_body => collect(x, body, live.plan.limits.functions.body_bytes).await?,
        _ => Bytes::new(),
    };
    let headers = if x.needs_headers_later(route) {
        x.head.headers.clone()
    } else {
        // The page that shows what went wrong comes in the form that the client prefers.
        let accept = x.head.headers.get(header::ACCEPT).cloned();
        let kept = accept.map(|accept| (header::ACCEPT, accept)).into_iter();
        std::mem::replace(&mut x.head.headers, kept.collect())
    };
    match invoke(
        &x.worker,
        &live,
        call,
        Phase::Function,
        x.request_head(route, headers),
        body,
        None,
    )
    .await
    {
        Ok(FunctionOutput::Answer(answer)) => Ok(answered(answer)),
        Ok(FunctionOutput::Continue { .. }) => {
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
    let patience = x.live.plan.limits.http.body_timeout;
    let route = x.route.and_then(|id| x.live.plan.route(id));
    let owner = route.map_or_else(Owner::default, |route| x.owner(route));
    let account = &x.worker.shared.account;
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
                x.held_body = Some(hold);
                return Ok(whole.freeze());
            }
            Ok(Some(Err(_))) => return Err(exchange::broken_body(x)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if whole.len() + data.len() > most {
                    return Err(too_large());
                }
                if hold.drawn(data.len() as u64, patience).await.is_err() {
                    x.note.outcome = Outcome::Error;
                    x.note.detail = Some("no-memory");
                    return Err(answer::overloaded().into());
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
    answer::of(status, headers, EdgeBody::made(body))
}
