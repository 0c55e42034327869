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

use std::sync::Arc;

use crate::http::FieldName;

use hooks::{attach, hook, meets, selecting};
pub(crate) use templates::{Template, TemplatePart};

use super::{
    Callable, CallableId, Group, GroupId, Hook, HostPattern, Origin, OriginId, PathPattern, Plan,
    Problem, Route, Router, SiteGuard,
    binding::BindingKind,
    counted::counted,
    spec::{self, HookPhase, PlanSpec, Problems, nearest, suggestion},
};
use crate::{
    geo::GeoNaming,
    guard::{rate::RateLimit, security::SecurityFields},
    http::via::Via,
};

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

/// The things that a route may refer to: the names for `to`, the callables, the plan's limits.
#[derive(Debug)]
pub(super) struct DeclaredNames {
    origins: Vec<Arc<str>>,
    groups: Vec<Group>,
    declared: usize,
    callables: usize,
    token_bytes: usize,
    /// The site's fields for browsers.
    security: Option<Arc<SecurityFields>>,
    /// The site's rate limits, which every route has.
    site_limits: Vec<Arc<RateLimit>>,
    /// The rate limits of the site and of the routes so far.
    limits: Vec<Arc<RateLimit>>,
    /// The names of the fields for places; `None`: none is looked up.
    geo: Option<GeoNaming>,
    /// The names of the key-value stores.
    key_values: Vec<Arc<str>>,
}

impl DeclaredNames {
    /// The group that a route's `to` names; a single origin gets a group of its own, once.
    fn group(&mut self, name: &str, path: &str, problems: &Problems) -> Option<GroupId> {
        let declared = self
            .groups
            .iter()
            .take(self.declared)
            .position(|group| &*group.name == name);
        let known = declared.or_else(|| {
            let origin = self.origins.iter().position(|origin| &**origin == name)?;
            let id = OriginId(index(origin));
            let own = self
                .groups
                .iter()
                .skip(self.declared)
                .position(|group| group.members.first() == Some(&id));
            Some(own.map_or_else(
                || {
                    self.groups.push(Group {
                        name: name.into(),
                        members: vec![id],
                        failover_on: Vec::new(),
                        deadline: None,
                    });
                    self.groups.len() - 1
                },
                |own| self.declared + own,
            ))
        });
        if known.is_none() {
            let names: Vec<&str> = self
                .groups
                .iter()
                .take(self.declared)
                .map(|group| &*group.name)
                .chain(self.origins.iter().map(|name| &**name))
                .collect();
            let near = suggestion(nearest(name, &names));
            let message = match (near.is_empty(), names.is_empty()) {
                (_, true) => "names no origin or group: the plan has none".to_owned(),
                (true, _) => format!("names no origin or group; there are {}", names.join(", ")),
                _ => format!("names no origin or group{near}"),
            };
            problems.add(path, Some(format!("{name:?}")), message);
        }
        known.map(|known| GroupId(index(known)))
    }

    /// The routes of requests that functions make by the name of an origin or group, after the declared ones.
    fn direct(&mut self, declared: usize, problems: &Problems) -> Vec<Route> {
        let groups = self.groups.iter().take(self.declared);
        let names = groups.map(|group| &group.name).chain(&self.origins);
        let names: Vec<Arc<str>> = names.cloned().collect();
        let route = |(at, name): (usize, Arc<str>)| {
            let group = self.group(&name, "", problems)?;
            routes::direct(declared + at, &name, group)
        };
        names.into_iter().enumerate().filter_map(route).collect()
    }

    fn callable(&self, call: u64, path: &str, problems: &Problems) -> Option<CallableId> {
        match u32::try_from(call) {
            Ok(id) if (id as usize) < self.callables => Some(CallableId(id)),
            _ => {
                problems.add(
                    path,
                    Some(call.to_string()),
                    format!(
                        "is not the index of a callable; there are {}",
                        self.callables
                    ),
                );
                None
            }
        }
    }
}

fn checked(spec: PlanSpec, problems: &Problems) -> Option<Plan> {
    let PlanSpec {
        name,
        via,
        limits,
        listeners,
        disk_cache,
        trusted_proxies,
        trusted_proxy_fields,
        hosts,
        addresses,
        security,
        rate_limits,
        origins,
        groups,
        callables,
        hooks,
        routes,
        access_log,
        tracing,
        service_workers,
        prefetch,
        bindings,
        geo,
        fetch,
    } = spec;
    let hop = Via::new(&via);
    if hop.is_none() {
        problems.add(
            "via",
            Some(format!("{via:?}")),
            "is not a token (RFC 9110 §5.6.2)",
        );
    }
    let origin_names: Vec<Arc<str>> = origins
        .iter()
        .map(|origin| origin.name.as_str().into())
        .collect();
    let origins: Vec<Option<Origin>> = origins
        .into_iter()
        .enumerate()
        .map(|(at, origin)| {
            origins::origin(origin, &limits.origins, &format!("origins[{at}]"), problems)
        })
        .collect();
    origins::names(&origin_names, &groups, problems);
    let groups: Vec<Group> = groups
        .into_iter()
        .enumerate()
        .map(|(at, group)| origins::group(group, &format!("groups[{at}]"), &origin_names, problems))
        .collect();
    let fetch = images::foreign(&fetch.0, &fetch.1, problems);
    let function_timeout = limits.functions.timeout;
    let callables: Vec<Callable> = callables
        .into_iter()
        .enumerate()
        .map(|(at, callable)| Callable {
            varies: selecting(
                callable.varies,
                &format!("callables[{at}].varies"),
                problems,
            ),
            name: callable.name.into(),
            inline: callable.inline,
            serial: callable.serial,
            timeout: callable.timeout.unwrap_or(function_timeout),
            fail: callable.fail,
        })
        .collect();
    let mut names = DeclaredNames {
        origins: origin_names,
        declared: groups.len(),
        groups,
        callables: callables.len(),
        token_bytes: limits.identity.token_bytes,
        security: security.map(Arc::new),
        site_limits: Vec::new(),
        limits: Vec::new(),
        geo: geo.as_ref().map(|geo| geo.naming),
        key_values: (bindings.iter())
            .filter(|binding| binding.kind == BindingKind::KeyValue)
            .map(|binding| Arc::clone(&binding.name))
            .collect(),
    };
    places::site_fits(addresses.as_ref(), &names, problems);
    guard::site_limits(rate_limits, &mut names, problems);
    let hooks: Vec<Option<(HookPhase, Hook)>> = hooks
        .into_iter()
        .enumerate()
        .map(|(at, spec)| hook(spec, &format!("hooks[{at}]"), &names, problems))
        .collect();
    let mut edge_fields: Vec<FieldName> = EDGE_FIELDS
        .into_iter()
        .map(FieldName::from_static)
        .collect();
    let policies = listeners.iter().flat_map(|listener| &listener.tls);
    let of_clients = policies.filter_map(|policy| policy.client.as_ref());
    for (_, field) in of_clients.flat_map(|client| &client.fields) {
        if !edge_fields.contains(field) {
            edge_fields.push(field.clone());
        }
    }
    let mut compiled = Vec::with_capacity(routes.len());
    for (at, spec) in routes.into_iter().enumerate() {
        let mut fields = Vec::new();
        let route = routes::route(spec, at, &mut names, &mut fields, problems);
        for field in fields {
            if !edge_fields.contains(&field) {
                edge_fields.push(field);
            }
        }
        compiled.push(route);
    }
    service_workers::fit(&service_workers, compiled.iter().flatten(), problems);
    let hosts = guard::hosts(&hosts, problems);
    guard::hosts_fit(&hosts, compiled.iter().flatten(), problems);
    if !problems.is_empty() {
        return None;
    }
    let mut routes: Vec<Route> = compiled.into_iter().collect::<Option<_>>()?;
    experiments::place_readings(&mut routes);
    for route in &mut routes {
        attach(route, hooks.iter().flatten());
    }
    let idle_hooks = hooks
        .iter()
        .enumerate()
        .filter_map(|(at, hook)| {
            let (phase, hook) = hook.as_ref()?;
            let met = routes.iter().any(|route| meets(*phase, hook, route));
            (!met).then_some((at, hook.call))
        })
        .collect();
    let direct = match callables.is_empty() {
        true => Vec::new(),
        false => names.direct(routes.len(), problems),
    };
    let router = Router::build(&routes);
    keys::tag(&mut routes, &router, &callables);
    let predicts = routes.iter().any(|route| route.predict.is_some());
    let experiments = counted(&mut routes);
    let prefetch = prefetch::lists(prefetch, &routes, &router, problems);
    let mut policies = listeners.iter().flat_map(|listener| &listener.tls);
    let answers_challenges = policies.any(|policy| policy.acme.is_some());
    Some(Plan {
        name: name.into(),
        via: hop?,
        limits,
        answers_challenges,
        listeners,
        disk_cache,
        trusted_proxies,
        trusted_proxy_fields,
        guard: SiteGuard {
            hosts,
            addresses,
            security: names.security,
            limits: names.limits,
            has_cors: routes.iter().any(Route::answers_preflights),
            routes_by_country: routes.iter().any(Route::is_by_country),
        },
        origins: origins.into_iter().collect::<Option<_>>()?,
        groups: names.groups,
        callables,
        routes,
        direct,
        router,
        edge_fields,
        marks_personal: !service_workers.is_empty(),
        prefetch,
        bindings,
        geo: geo.map(Arc::new),
        fetch,
        predicts,
        experiments,
        access_log,
        tracing,
        apart: None,
        idle_hooks,
    })
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
