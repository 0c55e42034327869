//! Phases 7 and 14: hooks on the request and the response of a client, and the hooks that run for a request at all.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::{Arc, OnceLock},
};

use edgerouter_core::{
    admit,
    cache::{distinct::MOST_VALUES, hooked::Written},
    finish, forward,
    geo::PlaceSource,
    http::{Fields, header},
    identity::jwt::Claims,
    outcome::Detail,
    plan::{Hook, Route, Target},
};

use super::{
    call::{answered, failed, invoke, no_stream, target},
    context::{Due, HookContext},
    function::held,
    transform::{OF_A_TRANSFORM, begun},
};
use crate::{
    body::{EdgeBody, EdgeResponse},
    functions::{
        AssignedVariant, ClientPlace, FunctionOutput, Notes, PathParams, Phase, RequestHead,
        ResponseHead,
    },
    request::{answer::Early, exchange::Exchange},
    telemetry::Outcome,
};

impl Exchange {
    /// True if a hook of `hooks` runs for this request.
    pub(crate) fn runs_any(&self, hooks: &[Hook]) -> bool {
        hooks.iter().any(|hook| self.runs(hook))
    }

    /// True if content is requested without a coding, because a hook transforms it.
    pub(crate) fn transforms(&self, route: &Route) -> bool {
        let hooks = &route.hooks;
        let mut responses = hooks.origin_response.iter().chain(&hooks.viewer_response);
        responses.any(|hook| hook.transforms && self.runs(hook))
    }

    fn runs(&self, hook: &Hook) -> bool {
        hook.runs(self.host(), self.viewer_path.path())
    }

    /// True if every request that shares this one's key has the same parameters of the route's pattern: nothing but
    /// prefixes may have changed the path.
    fn params_keyed(&self, route: &Route) -> bool {
        let path = self.head.target.path();
        route.rewrite.is_none()
            && route.hooks.viewer_request.is_empty()
            && route.fallback.is_none()
            && (route.errors.iter()).all(|(_, page)| page.path().is_none_or(|page| **page != *path))
            && route
                .index
                .as_ref()
                .is_none_or(|index| !path.ends_with(&**index))
    }

    /// `None` when no hook of the origin phases runs for this request. `headers`: those of the request.
    pub(crate) fn hook_context(
        &self,
        route: &Route,
        query: Option<&str>,
        headers: &Fields,
    ) -> Option<Rc<HookContext>> {
        let origin_request = self.matching(&route.hooks.origin_request);
        let origin_response = self.matching(&route.hooks.origin_response);
        let function = match route.target {
            Target::Function(call) => Some(Due {
                call,
                varies: (self.live.plan.callable(call))
                    .and_then(|callable| callable.varies.clone()),
                transforms: false,
            }),
            _ => None,
        };
        if origin_request.is_empty() && origin_response.is_empty() && function.is_none() {
            return None;
        }
        let mut headers = headers.clone();
        if route.cache.enabled {
            // A stored response depends on no other cookies than those that go upstream.
            forward::cookies(&mut headers, route);
        }
        Some(Rc::new(HookContext {
            origin_request,
            origin_response,
            function,
            written: self.written.clone(),
            verified: self.claims.clone(),
            params_keyed: self.params_keyed(route),
            observed: route.cache.enabled,
            request: RequestHead {
                // The parameters that the origin gets: there are no others for a stored response.
                query: query.map(str::to_owned),
                ..*self.request_head(route, headers)
            },
        }))
    }

    fn matching(&self, hooks: &[Hook]) -> Vec<Due> {
        hooks
            .iter()
            .filter(|hook| self.runs(hook))
            .map(|hook| Due {
                call: hook.call,
                varies: hook.varies.clone(),
                transforms: hook.transforms,
            })
            .collect()
    }

    /// The variants of the route's experiments, with their data.
    fn assigned_variants(&self, route: &Route) -> Vec<AssignedVariant> {
        let variants = self.chosen.iter().filter_map(|chosen| {
            let experiment = route.experiments.get(chosen.experiment)?;
            let reading = self.live.readings.get(experiment);
            let payload = reading.and_then(|reading| reading.payload(chosen.variant));
            Some(AssignedVariant {
                experiment: Arc::clone(&experiment.name),
                variant: experiment.variant(chosen.variant).into(),
                payload: payload.map(|payload| Arc::clone(&payload.json)),
            })
        });
        variants.collect()
    }

    /// The place of the client for callables, which is looked up when one reads it. `headers`: those that a callable
    /// gets, as the request's own may be gone by now.
    fn client_place(&self, route: &Route, headers: &Fields) -> Option<Arc<ClientPlace>> {
        let (files, policy) = (self.live.geo.as_ref()?, self.live.plan.geo.as_ref()?);
        let of_route = route.guard.as_ref().and_then(|guard| guard.geo.as_ref());
        Some(Arc::new(ClientPlace {
            source: Arc::clone(files) as Arc<dyn PlaceSource>,
            policy: Arc::clone(policy),
            address: self.client.address,
            named: (self.named_country(&self.live.plan)).or_else(|| policy.named_country(headers)),
            settled: of_route.map(|geo| geo.settled).unwrap_or_default(),
            found: self
                .place()
                .cloned()
                .map_or_else(OnceLock::new, OnceLock::from),
        }))
    }

    /// The claims, with the fingerprint of the policy that verified them.
    fn verified_by(&self, route: &Route) -> Option<(u128, Arc<Claims>)> {
        let (policy, claims) = (route.auth.as_ref()?, self.claims.as_ref()?);
        Some((policy.fingerprint(), Arc::clone(claims)))
    }

    pub(super) fn request_head(&self, route: &Route, headers: Fields) -> Box<RequestHead> {
        let place = self.client_place(route, &headers);
        Box::new(RequestHead {
            method: self.head.method.clone(),
            version: self.head.version,
            scheme: self.client.scheme,
            host: self.host().into(),
            port: self.port(),
            path: self.head.target.path().to_owned(),
            query: self.head.target.query().map(str::to_owned),
            headers,
            client: self.client.address,
            params: PathParams::Of(Arc::clone(&route.path), self.viewer_path.clone()),
            claims: self.claims.as_ref().map(|claims| claims.json().clone()),
            certificate: (self.stream.connection.tls())
                .and_then(|session| session.certificate.clone()),
            place,
            variants: self.assigned_variants(route),
            id: self.id(),
            trace: self.trace.as_ref().map(|trace| trace.parent().clone()),
            chain: (self.chain).of_version(self.live.version, self.verified_by(route)),
            conversions: self.conversions(route),
            notes: None,
        })
    }
}

/// Phase 7.
pub(crate) async fn viewer_request(exchange: &mut Exchange, route: &Route) -> Result<(), Early> {
    let live = Rc::clone(&exchange.live);
    let mut written = Written::default();
    for Due { call, .. } in exchange.matching(&route.hooks.viewer_request) {
        let mut head = exchange.request_head(route, exchange.head.headers.clone());
        let notes = Arc::<Notes>::default();
        head.notes = route.cache.enabled.then(|| Arc::clone(&notes));
        let (worker, phase) = (&exchange.worker, Phase::ViewerRequest);
        match invoke(worker, &live, call, phase, head, None).await {
            Ok(FunctionOutput::Continue { request, .. }) => {
                let changed = request.path != exchange.head.target.path()
                    || request.query.as_deref() != exchange.head.target.query();
                if changed {
                    let target = target(&request.path, request.query.as_deref())?;
                    exchange.head.target = target;
                }
                let before = std::mem::replace(&mut exchange.head.headers, request.headers);
                exchange.head.method = request.method;
                written.by(call, &notes.lock(), &before, &exchange.head.headers);
                admit::without_twins_of_changes(&before, &mut exchange.head.headers);
            }
            Ok(FunctionOutput::Stream(_)) => return Err(no_stream()),
            Ok(FunctionOutput::Answer(answer)) => {
                exchange.note.outcome = Outcome::Function;
                exchange.note.detail = Some(Detail::Hook);
                return Err(answered(answer, false).into());
            }
            Err(error) => {
                if let Some(early) = failed(&live, call, &error) {
                    exchange.note.outcome = Outcome::Error;
                    exchange.note.detail = Some(Detail::HookFailed);
                    return Err(early);
                }
                written.failed_open = true;
            }
        }
    }
    watch(exchange, &written);
    let given = std::mem::replace(&mut exchange.hooked, written.names());
    let more: Vec<_> = (given.into_iter())
        .filter(|name| !exchange.hooked.contains(name))
        .collect();
    if !more.is_empty() {
        exchange.hooked.extend(more);
        exchange
            .hooked
            .sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    }
    exchange.written = Some(Rc::new(written));
    Ok(())
}

/// Counts the values that hooks set, and warns once of a field that has too many.
fn watch(exchange: &Exchange, written: &Written) {
    for (call, field) in &written.fields {
        let Some(callable) = exchange.live.plan.callable(*call) else {
            continue;
        };
        let mut hasher = DefaultHasher::new();
        for value in exchange.head.headers.get_all(field) {
            value.as_bytes().hash(&mut hasher);
        }
        let watched = &exchange.worker.shared.watched;
        let tells = watched.note(&callable.name, field, hasher.finish(), exchange.now);
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

/// Notes that a response was found by the values that these hooks set.
pub(crate) fn found(exchange: &Exchange) {
    let watched = &exchange.worker.shared.watched;
    for (call, field) in exchange.written.iter().flat_map(|written| &written.fields) {
        if let Some(callable) = exchange.live.plan.callable(*call) {
            watched.hit(&callable.name, field, exchange.now);
        }
    }
}

/// Phase 14.
pub(crate) async fn viewer_response(
    exchange: &mut Exchange,
    route: &Route,
    response: &mut EdgeResponse,
) -> Result<(), Early> {
    let live = Rc::clone(&exchange.live);
    for due in exchange.matching(&route.hooks.viewer_response) {
        let call = due.call;
        let transforms =
            due.may_transform(&exchange.head.method, response.status(), response.headers());
        let head = ResponseHead {
            status: response.status(),
            headers: response.headers().clone(),
        };
        let seen = exchange.request_head(route, exchange.head.headers.clone());
        let (worker, phase) = (&exchange.worker, Phase::ViewerResponse);
        match invoke(worker, &live, call, phase, seen, Some((head, transforms))).await {
            Ok(FunctionOutput::Continue {
                response: changed,
                transform,
                ..
            }) => {
                if let Some(changed) = changed {
                    let (mut status, mut headers) = (response.status(), changed.headers);
                    if finish::restate(&mut status, &mut headers, changed.status) {
                        *response.body_mut() = EdgeBody::empty();
                    }
                    *response.status_mut() = status;
                    *response.headers_mut() = headers;
                }
                if let Some(wanted) = transform
                    && let Some(begun) = begun(&live, call, wanted)
                {
                    let hold = held(exchange, OF_A_TRANSFORM).await?;
                    let body = std::mem::replace(response.body_mut(), EdgeBody::empty());
                    *response.body_mut() = EdgeBody::piped(begun.of(body, hold));
                }
            }
            Ok(FunctionOutput::Stream(_)) => return Err(no_stream()),
            Ok(FunctionOutput::Answer(mut answer)) => {
                if exchange.note.written {
                    // The field describes the response that is replaced, if the hook kept its fields.
                    answer.headers.remove(header::CACHE_STATUS);
                }
                *response = answered(answer, false);
                finish::whole(response.status_mut());
                exchange.note.replaced(Detail::Hook);
            }
            Err(error) => {
                if let Some(early) = failed(&live, call, &error) {
                    exchange.note.outcome = Outcome::Error;
                    exchange.note.replaced(Detail::HookFailed);
                    return Err(early);
                }
            }
        }
    }
    Ok(())
}
