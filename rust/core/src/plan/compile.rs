//! From Python's JSON to a plan: checks that need more than one field.
//!
//! Names are resolved, patterns and policies compiled, hooks assigned to the routes they can meet. Checking continues
//! after a problem, so that one run reports all of them.

mod experiments;
mod files;
mod fit;
mod guard;
mod hooks;
mod images;
mod keys;
mod names;
mod origin_url;
mod origins;
mod paths;
mod places;
mod prefetch;
mod routes;
mod service_workers;
mod templates;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use names::DeclaredNames;
pub(crate) use templates::{Template, TemplatePart};

use super::{
    Callable, HostPattern, Listener, Origin, PathPattern, Plan, Problem, Route, Router, SiteGuard,
    TlsPolicy,
    binding::BindingKind,
    counted::counted,
    spec::{self, CallableSpec, PlanSpec, Problems},
};
use crate::http::{FieldName, via::Via};

/// Request fields that only the edge may set, whatever the plan says.
const EDGE_FIELDS: [&str; 3] = ["x-user-id", "x-user-role", "x-variant"];

/// Compiles the plan's JSON; reports all problems.
pub fn compile(json: &[u8]) -> Result<Plan, Vec<Problem>> {
    let problems = Problems::default();
    match spec::read(json, &problems).and_then(|spec| checked(spec, &problems)) {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(problems.into_inner()),
    }
}

fn checked(spec: PlanSpec, problems: &Problems) -> Option<Plan> {
    let via = via(&spec.via, problems);
    let origin_names: Vec<Arc<str>> = (spec.origins.iter())
        .map(|origin| origin.name.as_str().into())
        .collect();
    let origins = origins::origins(spec.origins, &spec.limits.origins, problems);
    origins::names(&origin_names, &spec.groups, problems);
    let groups = origins::groups(spec.groups, &origin_names, problems);
    let fetch = images::foreign(&spec.fetch.0, &spec.fetch.1, problems);
    let callables = callables(spec.callables, spec.limits.functions.timeout, problems);
    let mut names = DeclaredNames {
        origins: origin_names,
        declared: groups.len(),
        groups,
        callables: callables.len(),
        token_bytes: spec.limits.identity.token_bytes,
        security: spec.security.map(Arc::new),
        site_limits: Vec::new(),
        limits: Vec::new(),
        geo: spec.geo.as_ref().map(|geo| geo.naming),
        key_values: (spec.bindings.iter())
            .filter(|binding| binding.kind == BindingKind::KeyValue)
            .map(|binding| Arc::clone(&binding.name))
            .collect(),
    };
    places::site_fits(spec.addresses.as_ref(), &names, problems);
    guard::site_limits(spec.rate_limits, &mut names, problems);
    let hooks = hooks::hooks(spec.hooks, &names, problems);
    let mut edge_fields = edge_fields(&spec.listeners);
    let routes = routes::routes(spec.routes, &mut names, &mut edge_fields, problems);
    service_workers::fit(&spec.service_workers, routes.iter().flatten(), problems);
    let hosts = guard::hosts(&spec.hosts, problems);
    guard::hosts_fit(&hosts, routes.iter().flatten(), problems);
    if !problems.is_empty() {
        return None;
    }
    let mut routes: Vec<Route> = routes.into_iter().collect::<Option<_>>()?;
    let origins: Vec<Origin> = origins.into_iter().collect::<Option<_>>()?;
    origins::deadlines(&mut names.groups, &origins);
    experiments::place_readings(&mut routes);
    for route in &mut routes {
        hooks::attach(route, hooks.iter().flatten());
    }
    let direct = match callables.is_empty() {
        true => Vec::new(),
        false => names.direct(routes.len(), problems),
    };
    let router = Router::build(&routes);
    keys::tag(&mut routes, &router, &callables);
    let experiments = counted(&mut routes);
    let answers_challenges = policies(&spec.listeners).any(|policy| policy.acme.is_some());
    Some(Plan {
        name: spec.name.into(),
        via: via?,
        limits: spec.limits,
        answers_challenges,
        listeners: spec.listeners,
        disk_cache: spec.disk_cache,
        trusted_proxies: spec.trusted_proxies,
        trusted_proxy_fields: spec.trusted_proxy_fields,
        guard: SiteGuard {
            hosts,
            addresses: spec.addresses,
            security: names.security,
            limits: names.limits,
            has_cors: routes.iter().any(Route::answers_preflights),
            routes_by_country: routes.iter().any(Route::is_by_country),
        },
        origins,
        groups: names.groups,
        callables,
        direct,
        edge_fields,
        marks_personal: !spec.service_workers.is_empty(),
        prefetch: prefetch::lists(spec.prefetch, &routes, &router, problems),
        bindings: spec.bindings,
        geo: spec.geo.map(Arc::new),
        fetch,
        predicts: routes.iter().any(|route| route.predict.is_some()),
        experiments,
        access_log: spec.access_log,
        tracing: spec.tracing,
        apart: None,
        idle_hooks: hooks::idle(&hooks, &routes),
        routes,
        router,
    })
}

fn via(pseudonym: &str, problems: &Problems) -> Option<Via> {
    let via = Via::new(pseudonym);
    if via.is_none() {
        problems.add(
            "via",
            Some(format!("{pseudonym:?}")),
            "is not a token (RFC 9110 §5.6.2)",
        );
    }
    via
}

fn callables(
    specs: Vec<CallableSpec>,
    standard_timeout: Duration,
    problems: &Problems,
) -> Vec<Callable> {
    let compiled = specs.into_iter().enumerate().map(|(at, spec)| Callable {
        varies: hooks::selecting(spec.varies, &format!("callables[{at}].varies"), problems),
        name: spec.name.into(),
        inline: spec.inline,
        serial: spec.serial,
        timeout: spec.timeout.unwrap_or(standard_timeout),
        fail: spec.fail,
    });
    compiled.collect()
}

/// The policies of the listeners with TLS.
fn policies(listeners: &[Listener]) -> impl Iterator<Item = &TlsPolicy> {
    listeners.iter().flat_map(|listener| &listener.tls)
}

/// The request fields that only the edge may set, before the routes add theirs.
fn edge_fields(listeners: &[Listener]) -> Vec<FieldName> {
    let always = EDGE_FIELDS.into_iter().map(FieldName::from_static);
    let mut fields: Vec<FieldName> = always.collect();
    let clients = policies(listeners).filter_map(|policy| policy.client.as_ref());
    for (_, field) in clients.flat_map(|client| &client.fields) {
        if !fields.contains(field) {
            fields.push(field.clone());
        }
    }
    fields
}

/// Splits `host/path` and reads both.
fn pattern(
    text: &str,
    path: &str,
    problems: &Problems,
) -> Option<(Option<HostPattern>, PathPattern)> {
    let (name, rest) = match text.find('/') {
        Some(0) => (None, text),
        Some(slash) => (text.get(..slash), text.get(slash..).unwrap_or_default()),
        None => (None, text),
    };
    if text.contains("://") {
        problems.add(
            path,
            Some(format!("{text:?}")),
            "must have no scheme: \"/path\" or \"host/path\"",
        );
        return None;
    }
    let host = match name {
        None => None,
        Some(text) => Some(host(text, path, problems)?),
    };
    match PathPattern::parse(rest) {
        Ok(pattern) => Some((host, pattern)),
        Err(error) => {
            problems.add(path, Some(format!("{text:?}")), error.to_string());
            None
        }
    }
}

fn host(text: &str, path: &str, problems: &Problems) -> Option<HostPattern> {
    match HostPattern::parse(text) {
        Ok(host) => Some(host),
        Err(error) => {
            problems.add(path, Some(format!("{text:?}")), error.to_string());
            None
        }
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
