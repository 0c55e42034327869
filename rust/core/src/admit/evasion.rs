//! Paths that a server behind the edge may read differently, and that so evade a guard of the edge.
//!
//! `//api/me`, `/x%2F..%2Fapi/me` and `/;v=1/api/me` are not below `/api/`, but many servers read them as `/api/me`.
//! Rewriting such a path would break the sites that use it legitimately, so it is left alone, unless one of its other
//! readings leads to a token, a guard, a hook, a redirect or a fixed response that the strict reading does not meet: the
//! latter two keep viewers from the origin's content at that path. A reading whose dot segments lead out of the route or
//! out of a prefix at the origin is never legitimate: a route to another origin, and no route at all, keep viewers from
//! that content, too.

use crate::{
    http::readings::Readings,
    plan::{Plan, Route, RouteId, Target, ViewerPolicy, matcher::Probe},
    viewer,
};

/// Another reading of a path, which its route must not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evasion {
    /// It leads to this route, whose guard the request has not passed.
    Guarded(RouteId),
    /// Its dot segments lead to a path that another route serves, or none.
    Elsewhere,
    /// Its dot segments lead out of the prefix that all of the route's paths have at the origin.
    Prefix,
    /// There are too many readings to look at each of them.
    TooMany,
}

/// The first reading of the path by which a request for `route` would evade another one. Plain paths have no second
/// reading.
pub fn evades(plan: &Plan, route: &Route, probe: &Probe<'_>) -> Option<Evasion> {
    let readings = Readings::of(probe.path);
    for reading in readings.others() {
        let other = Probe {
            path: &reading.path,
            ..*probe
        };
        let other = plan
            .router
            .find(&plan.routes, &other)
            .and_then(|id| plan.route(id));
        if let Some(other) = other
            && guards(route, other, probe, &reading.path)
        {
            return Some(Evasion::Guarded(other.id));
        }
        let leaves = reading.resolved && other.is_none_or(|other| other.id != route.id);
        if leaves && matches!(route.target, Target::Group(_)) {
            return Some(Evasion::Elsewhere);
        }
    }
    if readings.is_cut_off() && plan.routes.len() > 1 {
        return Some(Evasion::TooMany);
    }
    (is_prefixed(plan, route) && climbs(route, probe.path, &readings)).then_some(Evasion::Prefix)
}

/// True if `other` keeps requests from content that `route` would serve them, or guards it otherwise.
fn guards(route: &Route, other: &Route, probe: &Probe<'_>, read: &str) -> bool {
    if other.id == route.id {
        return hooked(other, probe, read);
    }
    let goes_to_origin = |route: &Route| matches!(route.target, Target::Group(_));
    let is_fixed = |route: &Route| matches!(route.target, Target::Redirect(_) | Target::Respond(_));
    // A route with a fixed answer cannot be used to evade another one.
    let blocks =
        (is_fixed(other) && !is_fixed(route)) || (goes_to_origin(route) && !goes_to_origin(other));
    other.refuses() || blocks || restricts(route, other) || hooked(other, probe, read)
}

/// True if `other` has a policy about its requests or its responses that `route` has not: an HTTPS policy, a rate limit,
/// or fields for browsers.
fn restricts(route: &Route, other: &Route) -> bool {
    if other.viewer != ViewerPolicy::AllowAll && other.viewer != route.viewer {
        return true;
    }
    let Some(guard) = &other.guard else {
        return false;
    };
    let own = route.guard.as_deref();
    let is_met = |index: u32| own.is_some_and(|own| own.every_limit().any(|it| it.index == index));
    guard.every_limit().any(|limit| !is_met(limit.index))
        || guard.security.is_some() && guard.security != own.and_then(|own| own.security.clone())
}

/// True if a hook that runs for the other reading does not run for the strict one.
fn hooked(other: &Route, probe: &Probe<'_>, read: &str) -> bool {
    other.hooks.viewer_request.iter().any(|hook| {
        let here = hook
            .host
            .as_ref()
            .is_none_or(|host| host.matches(probe.host));
        let there = hook.always || hook.pattern.matches(read);
        here && there && !hook.pattern.matches(probe.path)
    })
}

/// True if the route's paths stand below a prefix at an origin.
fn is_prefixed(plan: &Plan, route: &Route) -> bool {
    let Target::Group(group) = route.target else {
        return false;
    };
    let members = plan.group(group).map(|group| group.members.as_slice());
    let mut members = members.unwrap_or_default().iter();
    route.add_prefix.is_some()
        || members.any(|id| {
            plan.origin(*id)
                .is_some_and(|origin| !origin.path_prefix.is_empty())
        })
}

/// True if a reading of the path that stands behind the prefix leads above its root.
fn climbs(route: &Route, path: &str, readings: &Readings) -> bool {
    let inner = viewer::inner_path(route, path);
    if inner == path {
        return readings.climbs();
    }
    let readings = Readings::of(&inner);
    readings.climbs() || readings.is_cut_off()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{http::Fields, plan::matcher::ProbeQuery};
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::plan::compile;

    /// The evasion by a GET of this path, on the route that it matches.
    fn found(plan: &Plan, path: &str) -> Option<Evasion> {
        let probe = Probe {
            host: "h",
            path,
            query: ProbeQuery::Text(None),
            place: None,
            method: &Method::GET,
            headers: &Fields::new(),
        };
        let route = plan.router.find(&plan.routes, &probe).unwrap();
        evades(plan, plan.route(route).unwrap(), &probe)
    }

    #[test]
    fn a_guard_is_not_gone_round() {
        let plan = compile(
            &serde_json::to_vec(&json!({
                "name": "t",
                "origins": [{"name": "o", "url": "http://x"}],
                "callables": [{"name": "f"}],
                "hooks": [{"phase": "viewer_request", "pattern": "/admin/*", "call": 0}],
                "routes": [
                    {"pattern": "/*", "to": "o"},
                    {"pattern": "/admin/own/*", "to": "o"},
                    {"pattern": "/shut/*", "respond": {"status": 403, "body": "no"}},
                    {"pattern": "/old/*", "redirect": {"location": "/new"}},
                    {"pattern": "/new/*", "redirect": {"location": "/newer"}},
                    {"pattern": "/api/*", "to": "o", "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}},
                ],
            }))
            .unwrap(),
        )
        .unwrap();
        for (path, refused) in [
            ("/page//x", false),
            ("/page", false),
            ("/api/me", false),
            ("/api//me", false),
            ("//api/me", true),
            ("/x%2F..%2Fapi%2Fme", true),
            ("/admin/x", false),
            ("//admin/x", true),
            ("/admin//own/x", false),
            ("//admin/own/x", true),
            ("/shut/x", false),
            ("//shut/x", true),
            ("/;/shut/x", true),
            ("/x%2F..%2Fshut/x", true),
            ("/shut//x", false),
            ("//old/x", true),
            ("/new/..%2Fold/x", false),
            // One level of decoding, of which a second one would make something else.
            ("/%25zz%2F..%2Fapi/me", true),
            ("/x%2F..%2Fapi/..;/page", true),
            ("/x%2F..%2Fapi/me;%252F..%252F..%252Fpage", true),
            ("/x%2F..%2Fapi/me%5C..%5C..%5Cpage", true),
            // Slashes merged before dot segments are removed, and after.
            ("/x%2F%2F..%2Fapi/me", true),
            ("/api%2F%2F..%2Fme", true),
            // Parameters dropped with the escapes in them.
            ("/api;%2F..%2Fpage/me", true),
            ("/x/..;a%2Fb/api/me", true),
            ("/x%2F..%2Fpage", false),
        ] {
            let found = found(&plan, path);
            assert_eq!(found.is_some(), refused, "{path}");
        }
    }

    #[test]
    fn a_reading_passes_no_policy_that_the_strict_one_does_not_meet() {
        let limit = |name: &str| json!([{"name": name, "requests": 5, "per": 60}]);
        let plan = compile(
            &serde_json::to_vec(&json!({
                "name": "t",
                "origins": [{"name": "o", "url": "http://x"}],
                "callables": [{"name": "f"}],
                "rate_limits": limit("site"),
                "security": {"nosniff": true},
                "routes": [
                    {"pattern": "/*", "to": "o"},
                    {"pattern": "/login", "to": "o", "rate_limits": limit("login")},
                    {"pattern": "/staff/*", "to": "o", "viewer": "https-only"},
                    {"pattern": "/framed/*", "to": "o", "security": {"frame": "DENY"}},
                    {"pattern": "/same/*", "to": "o"},
                    {"pattern": "/call/*", "function": 0},
                ],
            }))
            .unwrap(),
        )
        .unwrap();
        for (path, refused) in [
            ("//login", true),
            ("/login;x", true),
            ("//staff/x", true),
            ("//framed/x", true),
            ("//call/x", true),
            ("//same/x", false),
            ("/call//x", false),
            ("/staff//x", false),
        ] {
            let found = found(&plan, path);
            assert_eq!(found.is_some(), refused, "{path}");
        }
    }

    #[test]
    fn a_reading_leads_out_of_neither_its_route_nor_its_prefix() {
        let plan = compile(
            &serde_json::to_vec(&json!({
                "name": "t",
                "origins": [{"name": "o", "url": "http://x"}, {"name": "p", "url": "http://x/base"}],
                "callables": [{"name": "f"}],
                "routes": [
                    {"pattern": "/pub/*", "to": "o"},
                    {"pattern": "/other/*", "to": "o"},
                    {"pattern": "/added/*", "to": "o", "add_prefix": "/tenant"},
                    {"pattern": "/based/*", "to": "p"},
                    {"pattern": "/part/*", "to": "o", "strip_prefix": "/part", "add_prefix": "/tenant"},
                    {"pattern": "/new/*", "to": "o", "rewrite": {"pattern": "/new/{rest:path}", "to": "/{rest}"}, "add_prefix": "/t"},
                    {"pattern": "/items/{id}", "to": "o"},
                    {"pattern": "/call/{id}", "function": 0},
                ],
            }))
            .unwrap(),
        )
        .unwrap();
        for (path, want) in [
            ("/pub/a%2F..%2Fb", None),
            ("/pub/a%2Fb", None),
            ("/pub//b", None),
            ("/pub/..%2Fsecret", Some(Evasion::Elsewhere)),
            ("/pub/..%2Fother/x", Some(Evasion::Elsewhere)),
            ("/pub/..;/secret", Some(Evasion::Elsewhere)),
            ("/pub/%252E%252E%252Fsecret", Some(Evasion::Elsewhere)),
            ("/pub/..%5Csecret", Some(Evasion::Elsewhere)),
            ("/added/a%2F..%2Fb", None),
            ("/added/..%2F..%2Fadded/x", Some(Evasion::Prefix)),
            ("/based/..%2F..%2Fbased/x", Some(Evasion::Prefix)),
            ("/part/x%2F..%2F..%2Fpart/x", Some(Evasion::Prefix)),
            ("/new/x%2F..%2F..%2Fnew/x", Some(Evasion::Prefix)),
            ("/items/a%2Fb", None),
            ("/call/..%2Fb", None),
            (
                "/pub/%2525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252F;a",
                Some(Evasion::TooMany),
            ),
        ] {
            let found = found(&plan, path);
            assert_eq!(found, want, "{path}");
        }
    }
}
