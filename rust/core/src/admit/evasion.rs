//! Paths that a server behind the edge may read differently, and that so evade a guard of the edge.
//!
//! `//api/me`, `/x%2F..%2Fapi/me` and `/;v=1/api/me` are not below `/api/`, but many servers read them as `/api/me`:
//! they merge slashes, decode `%2F`, drop path parameters, or decode twice. Rewriting such a path would break the sites
//! that use it legitimately, so it is left alone, unless the lenient reading leads to a token, a guard, a hook, a
//! redirect or a fixed response that the strict reading does not meet: the latter two keep viewers from the origin's
//! content at that path.

use std::borrow::Cow;

use crate::{
    http::uri::normalise_path,
    plan::{Plan, Route, Target, matcher::Probe},
};

/// The route that a lenient server's reading of the path would take, if its guard differs from that of `route`. Plain
/// paths have no such reading.
pub fn evades<'p>(plan: &'p Plan, route: &Route, probe: &Probe<'_>) -> Option<&'p Route> {
    let path = lenient(probe.path)?;
    let other = Probe {
        path: &path,
        ..*probe
    };
    let other = plan
        .router
        .find(&plan.routes, &other)
        .and_then(|id| plan.route(id))?;
    if other.id == route.id {
        return hooked(other, probe, &path).then_some(other);
    }
    let blocks = matches!(other.target, Target::Redirect(_) | Target::Respond(_))
        // A route with a fixed answer cannot be used to evade another one.
        && !matches!(route.target, Target::Redirect(_) | Target::Respond(_));
    (other.refuses() || blocks || hooked(other, probe, &path)).then_some(other)
}

/// True if a hook that runs for the lenient reading does not run for the strict one.
fn hooked(other: &Route, probe: &Probe<'_>, lenient: &str) -> bool {
    other.hooks.viewer_request.iter().any(|hook| {
        let here = hook
            .host
            .as_ref()
            .is_none_or(|host| host.matches(probe.host));
        let there = hook.always || hook.pattern.matches(lenient);
        here && there && !hook.pattern.matches(probe.path)
    })
}

/// How many levels of escaping are decoded.
const MOST_ROUNDS: usize = 3;

/// The most lenient reading of a normalised path; `None` if there is only one.
fn lenient(path: &str) -> Option<String> {
    let mut read = Cow::Borrowed(path);
    for _ in 0..MOST_ROUNDS {
        let next = decoded(&read);
        if next == read {
            break;
        }
        // The decoded text may hold a `%` that begins no escape: then the previous reading stays.
        read = match normalise_path(&next) {
            Ok(normal) => Cow::Owned(normal.into_owned()),
            Err(_) => break,
        };
    }
    let mut merged = String::with_capacity(read.len());
    for segment in read.split('/').skip(1) {
        let name = segment.split(';').next().unwrap_or_default();
        if !name.is_empty() {
            merged.push('/');
            merged.push_str(name);
        }
    }
    if merged.is_empty() || read.ends_with('/') {
        merged.push('/');
    }
    let merged = match normalise_path(&merged) {
        Ok(normal) => normal.into_owned(),
        Err(_) => merged,
    };
    (merged != path).then_some(merged)
}

/// Decodes escaped delimiters in a path, and escaped percent signs.
fn decoded(path: &str) -> String {
    path.replace("%2F", "/")
        .replace("%5C", "/")
        .replace('\\', "/")
        .replace("%3B", ";")
        .replace("%25", "%")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{http::Fields, plan::matcher::ProbeQuery};
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::plan::compile;

    #[test]
    fn lenient_readings() {
        for (path, want) in [
            ("/a/b", None),
            ("/a%20b", None),
            ("/caf%C3%A9", None),
            ("//api/me", Some("/api/me")),
            ("/x%2F..%2Fapi/me", Some("/api/me")),
            ("/x%252F..%252Fapi/me", Some("/api/me")),
            ("/x%5C..%5Capi", Some("/api")),
            ("/;v=1/api/me", Some("/api/me")),
            ("/x/..;/api", Some("/api")),
            ("/x%3By/z", Some("/x/z")),
            ("/a//", Some("/a/")),
            ("//", Some("/")),
            ("/100%25", None),
        ] {
            assert_eq!(lenient(path).as_deref(), want, "{path}");
        }
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
        let headers = Fields::new();
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
        ] {
            let probe = Probe {
                host: "h",
                path,
                query: ProbeQuery::Text(None),
                place: None,
                method: &Method::GET,
                headers: &headers,
            };
            let route = plan.router.find(&plan.routes, &probe).unwrap();
            let found = evades(&plan, plan.route(route).unwrap(), &probe);
            assert_eq!(found.is_some(), refused, "{path}");
        }
    }
}
