//! Guards: hosts of the site, and policies of a route that exclude one another.

use std::sync::Arc;

use super::{DeclaredNames, host, index};
use crate::{
    guard::rate::{RateBy, RateLimit},
    plan::{
        HostPattern, Preflight, Route, RouteGuard,
        matcher::host::hosts_intersect,
        spec::{GuardSpec, Problems, RouteSpec, join},
    },
};

/// The most limits of a route; `docs/limits.md` names it.
const MOST_LIMITS: usize = 8;

/// The hosts that the site serves.
pub(super) fn hosts(given: &[(String, String)], problems: &Problems) -> Vec<HostPattern> {
    let mut hosts = Vec::with_capacity(given.len());
    for (path, text) in given {
        match host(text, path, problems) {
            Some(HostPattern::Any) => {
                let message = "would be every host: leave hosts out";
                problems.add(path, Some(format!("{text:?}")), message);
            }
            Some(pattern) => hosts.push(pattern),
            None => {}
        }
    }
    hosts
}

/// Reports routes for hosts that the site does not serve.
pub(super) fn hosts_fit<'r>(
    served: &[HostPattern],
    routes: impl Iterator<Item = &'r Route>,
    problems: &Problems,
) {
    if served.is_empty() {
        return;
    }
    for route in routes.filter(|route| !hosts_intersect(&route.hosts, served)) {
        problems.add(
            format!("routes[{}].host", route.id.0),
            Some(format!("{:?}", &*route.label)),
            "is never requested: hosts has none of its hosts",
        );
    }
}

/// Reports guards of a route that would have no effect.
pub(super) fn fits(spec: &RouteSpec, path: &str, problems: &Problems) {
    one_authorization(spec, path, problems);
    if spec.guard.cors.is_some() && spec.preflight == Preflight::Origin {
        problems.add(
            format!("{path}.preflight"),
            None,
            "has no effect beside cors, which answers preflights at the edge: leave one of them out",
        );
    }
}

/// Two policies for one field could never both be met.
fn one_authorization(spec: &RouteSpec, path: &str, problems: &Problems) {
    if spec.guard.basic.is_some() && spec.has_auth {
        problems.add(
            format!("{path}.basic"),
            None,
            "cannot be combined with auth: both are met by the one Authorization field",
        );
    }
}

/// The limits that every route has, before its own.
pub(super) fn site_limits(
    specs: Vec<(String, RateLimit)>,
    names: &mut DeclaredNames,
    problems: &Problems,
) {
    for (place, limit) in specs {
        if matches!(limit.by, RateBy::Claim(_)) {
            let message =
                "is for routes with auth, and this limit is for all: give it to those routes";
            problems.add(join(&place, "by"), None, message);
        } else if names
            .site_limits
            .iter()
            .any(|known| known.name == limit.name)
        {
            problems.add(
                join(&place, "name"),
                Some(format!("{:?}", limit.name)),
                "is a limit of the site already: each request would count twice",
            );
        } else if let Some(limit) = shared(limit, &place, &mut names.limits, problems) {
            names.site_limits.push(limit);
        }
    }
}

/// The guards of a route; the site's fields for browsers where it has none of its own.
pub(super) fn route(
    spec: GuardSpec,
    has_auth: bool,
    path: &str,
    names: &mut DeclaredNames,
    problems: &Problems,
) -> Option<Box<RouteGuard>> {
    let mut guard = RouteGuard {
        addresses: spec.addresses,
        cors: spec.cors,
        signed: spec.signed,
        basic: spec.basic.map(Arc::new),
        security: spec
            .security
            .map(Arc::new)
            .or_else(|| names.security.clone()),
        limits: names.site_limits.clone(),
        ..RouteGuard::default()
    };
    if spec.limits.len() + guard.limits.len() > MOST_LIMITS {
        let message = format!("must be at most {MOST_LIMITS} limits, those of the site included");
        problems.add(format!("{path}.rate_limits"), None, message);
    }
    for (place, limit) in spec.limits {
        let by_claim = matches!(limit.by, RateBy::Claim(_));
        if by_claim && !has_auth {
            let message = "needs auth on this route: without a token there are no claims";
            problems.add(join(&place, "by"), None, message);
        }
        let Some(limit) = shared(limit, &place, &mut names.limits, problems) else {
            continue;
        };
        let met = guard.limits.iter().chain(&guard.claim_limits);
        if met.into_iter().any(|known| known.name == limit.name) {
            let message =
                "is a limit of this route or of the site already: each request would count twice";
            problems.add(
                join(&place, "name"),
                Some(format!("{:?}", limit.name)),
                message,
            );
        }
        if by_claim {
            guard.claim_limits.push(limit);
        } else {
            guard.limits.push(limit);
        }
    }
    (!guard.is_empty()).then(|| Box::new(guard))
}

/// The limit of that name, which routes share.
fn shared(
    mut limit: RateLimit,
    place: &str,
    limits: &mut Vec<Arc<RateLimit>>,
    problems: &Problems,
) -> Option<Arc<RateLimit>> {
    if let Some(known) = limits.iter().find(|known| known.name == limit.name) {
        limit.index = known.index;
        if **known != limit {
            let message =
                "is the name of another limit with other values: routes share the counts of a name";
            problems.add(
                join(place, "name"),
                Some(format!("{:?}", limit.name)),
                message,
            );
            return None;
        }
        return Some(Arc::clone(known));
    }
    limit.index = index(limits.len());
    let limit = Arc::new(limit);
    limits.push(Arc::clone(&limit));
    Some(limit)
}
