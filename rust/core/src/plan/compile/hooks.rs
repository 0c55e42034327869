//! Hooks: what selects among the responses that they had a part in, and the routes that they can meet.

use std::sync::Arc;

use super::{DeclaredNames, host, pattern};
use crate::{
    cache::vary,
    http::{FieldName, header},
    plan::{
        CallableId, Hook, HostPattern, Route, Target,
        matcher::host::{hosts_cover, hosts_intersect},
        spec::{HookPhase, HookSpec, Problems},
    },
};

/// Compiles the hooks; `None` stands for one that is reported.
pub(super) fn hooks(
    specs: Vec<HookSpec>,
    names: &DeclaredNames,
    problems: &Problems,
) -> Vec<Option<(HookPhase, Hook)>> {
    let numbered = specs.into_iter().enumerate();
    numbered
        .map(|(at, spec)| hook(spec, &format!("hooks[{at}]"), names, problems))
        .collect()
}

fn hook(
    spec: HookSpec,
    path: &str,
    names: &DeclaredNames,
    problems: &Problems,
) -> Option<(HookPhase, Hook)> {
    let mut host = match &spec.host {
        None => None,
        Some(text) => host(text, &format!("{path}.host"), problems),
    };
    let pattern = spec.pattern.as_deref().and_then(|text| {
        let (prefix, pattern) = pattern(text, &format!("{path}.pattern"), problems)?;
        if let Some(prefix) = prefix {
            if spec.host.is_some() {
                problems.add(
                    format!("{path}.pattern"),
                    Some(format!("{text:?}")),
                    "names a host, and so does host: give it once",
                );
            }
            host = Some(prefix);
        }
        Some(pattern)
    });
    let call = spec
        .call
        .and_then(|call| names.callable(call, &format!("{path}.call"), problems));
    let varies = varies(&spec, path, problems);
    Some((
        spec.phase?,
        Hook {
            call: call?,
            pattern: pattern?,
            host,
            always: false,
            varies,
            transforms: spec.transforms,
        },
    ))
}

/// The declared dependencies of a hook's effect: names of fields, and of cookies as `cookie:NAME`.
fn varies(spec: &HookSpec, path: &str, problems: &Problems) -> Option<Arc<[FieldName]>> {
    let of_viewer = [HookPhase::ViewerRequest, HookPhase::ViewerResponse];
    if spec.varies.is_some() && spec.phase.is_some_and(|phase| of_viewer.contains(&phase)) {
        problems.add(
            format!("{path}.varies"),
            None,
            "is for origin_request and origin_response: what a viewer_request hook sets is part of the key by itself, \
             and a viewer_response hook runs on every response; remove it",
        );
    }
    selecting(spec.varies.clone(), &format!("{path}.varies"), problems)
}

pub(super) fn selecting(
    given: Option<Vec<String>>,
    path: &str,
    problems: &Problems,
) -> Option<Arc<[FieldName]>> {
    let given = given?;
    let mut names = Vec::with_capacity(given.len());
    for (at, text) in given.iter().enumerate() {
        let name = match text.strip_prefix("cookie:") {
            Some(cookie) => Some(cookie)
                .filter(|cookie| !cookie.is_empty() && cookie.bytes().all(is_cookie_name))
                .map(vary::cookie),
            None => FieldName::from_bytes(text.as_bytes())
                .ok()
                .filter(|name| name.as_str() != "*" && vary::cookie_of(name).is_none()),
        };
        match name {
            // A client's own copy is removed, so all clients would be alike in it.
            Some(name) if name == header::X_FORWARDED_FOR => problems.add(
                format!("{path}[{at}]"),
                Some(format!("{text:?}")),
                "is written by the edge for each client, so no stored response can be selected by it: \
                 leave the cache off where responses depend on the address",
            ),
            Some(name) => names.push(name),
            None => problems.add(
                format!("{path}[{at}]"),
                Some(format!("{text:?}")),
                "must be the name of a request field, or cookie:NAME",
            ),
        }
    }
    Some(names.into())
}

fn is_cookie_name(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'=' | b';' | b',' | b'"')
}

/// The hooks that no request of any route could meet, each with its callable.
pub(super) fn idle(
    hooks: &[Option<(HookPhase, Hook)>],
    routes: &[Route],
) -> Vec<(usize, CallableId)> {
    let numbered = hooks.iter().enumerate();
    numbered
        .filter_map(|(at, hook)| {
            let (phase, hook) = hook.as_ref()?;
            let met = routes.iter().any(|route| meets(*phase, hook, route));
            (!met).then_some((at, hook.call))
        })
        .collect()
}

/// True if some request of the route could meet the hook in its phase: hooks of the origin phases need an origin.
fn meets(phase: HookPhase, hook: &Hook, route: &Route) -> bool {
    let host: Vec<HostPattern> = hook.host.iter().cloned().collect();
    let runs = match phase {
        HookPhase::ViewerRequest | HookPhase::ViewerResponse => true,
        HookPhase::OriginRequest | HookPhase::OriginResponse => {
            matches!(route.target, Target::Group(_))
        }
    };
    runs && hosts_intersect(&host, &route.hosts) && hook.pattern.intersects(&route.path)
}

/// Gives the route the hooks that some request of it could meet.
pub(super) fn attach<'h>(route: &mut Route, hooks: impl Iterator<Item = &'h (HookPhase, Hook)>) {
    for (phase, hook) in hooks {
        // A function takes the place of the origin, before and after which the others run.
        let of_origin = matches!(phase, HookPhase::OriginRequest | HookPhase::OriginResponse);
        if of_origin && matches!(route.target, Target::Function(_)) {
            continue;
        }
        let host: Vec<HostPattern> = hook.host.iter().cloned().collect();
        if !hosts_intersect(&host, &route.hosts) || !hook.pattern.intersects(&route.path) {
            continue;
        }
        let own = Hook {
            call: hook.call,
            pattern: hook.pattern.clone(),
            host: hook
                .host
                .clone()
                .filter(|_| !hosts_cover(&host, &route.hosts)),
            always: hook.pattern.covers(&route.path),
            varies: hook.varies.clone(),
            transforms: hook.transforms,
        };
        match phase {
            HookPhase::ViewerRequest => route.hooks.viewer_request.push(own),
            HookPhase::OriginRequest => route.hooks.origin_request.push(own),
            HookPhase::OriginResponse => route.hooks.origin_response.push(own),
            HookPhase::ViewerResponse => route.hooks.viewer_response.push(own),
        }
    }
    route.own_bytes |= route.transforms_for_clients();
}
