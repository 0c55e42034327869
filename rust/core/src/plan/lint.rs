//! What a plan may do and probably should not: valid, and still dangerous.
//!
//! Nothing here stops a plan. Each rule fires only where the plan says something unusual, names the danger and the way
//! out.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Plan, Route, Select, SetCookiePolicy, Target, ViewerPolicy,
    compile::{Piece, Template},
    table,
};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Warning,
    Info,
}

/// A piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// The route's label.
    pub route: String,
    pub level: Level,
    /// A word for the rule, to search for or to silence.
    pub code: &'static str,
    pub message: String,
    pub remedy: &'static str,
}

/// All advice about a plan, in declaration order of its routes.
pub fn lint(plan: &Plan) -> Vec<Lint> {
    let mut found = Vec::new();
    let unreachable: Vec<(Arc<str>, Arc<str>)> = table::unreachable(plan);
    for (label, by) in unreachable {
        found.push(Lint {
            route: label.to_string(),
            level: Level::Warning,
            code: "unreachable",
            message: format!("can never match: {by} takes all its requests"),
            remedy: "remove it, or give it a higher priority",
        });
    }
    for route in &plan.routes {
        let mut add = |level, code, message: String, remedy| {
            found.push(Lint {
                route: route.label.to_string(),
                level,
                code,
                message,
                remedy,
            });
        };
        if route.cache.enabled && matches!(route.target, Target::Group(_)) {
            caching(route, &mut add);
        }
        if let Target::Redirect(redirect) = &route.target
            && free_host(&redirect.location)
        {
            let message = format!("the request chooses the host of {}", redirect.location);
            add(
                Level::Warning,
                "open-redirect",
                message,
                "write the host out, and use parameters after it",
            );
        }
        if let Some(policy) = &route.auth {
            if route.viewer == ViewerPolicy::AllowAll {
                let message = "tokens may travel over plain http".to_owned();
                add(
                    Level::Info,
                    "auth-without-https",
                    message,
                    "set viewer=\"https-only\"",
                );
            }
            if let Some((got, want)) = policy.weak_secret() {
                let message = format!(
                    "the token's secret has {got} bytes, its algorithm wants {want} (RFC 7518 §3.2)"
                );
                add(
                    Level::Warning,
                    "weak-secret",
                    message,
                    "use a longer random secret: a short one can be guessed from one token",
                );
            }
        }
    }
    found
}

fn caching(route: &Route, add: &mut impl FnMut(Level, &'static str, String, &'static str)) {
    let (cache, forward) = (&route.cache, &route.forward);
    if !covers(&cache.key_query, &forward.query) {
        add(
            Level::Warning,
            "unkeyed-query",
            format!(
                "query parameters go to the origin ({}) that are not in the key ({}): one visitor can choose what all get",
                table::select(&forward.query),
                table::select(&cache.key_query)
            ),
            "forward no more than cache.query",
        );
    }
    // Without a choice of cookies the origin's own Vary: Cookie tells responses apart.
    if let Some(key) = &cache.key_cookies
        && !covers(key, &forward.cookies)
    {
        add(
            Level::Warning,
            "unkeyed-cookies",
            format!(
                "cookies go to the origin ({}) that are not in the key ({}): a page made for one visitor may be given to others",
                table::select(&forward.cookies),
                table::select(key)
            ),
            "forward no more than cache.cookies",
        );
    }
    if let Select::Only(names) = &forward.headers {
        let unkeyed: Vec<&str> = names
            .iter()
            .map(|name| &**name)
            .filter(|name| {
                REWRITING.contains(name)
                    && !cache.key_headers.iter().any(|key| key.as_str() == *name)
            })
            .collect();
        if !unkeyed.is_empty() {
            let message = format!(
                "{} go to the origin, origins answer by them, and they are not in the key",
                unkeyed.join(", ")
            );
            add(
                Level::Warning,
                "unkeyed-headers",
                message,
                "add them to cache.headers, or don't forward them",
            );
        }
    }
    if cache.set_cookie == SetCookiePolicy::Strip
        && forward.cookies != Select::None
        && cache.key_cookies.is_none()
    {
        let message = "responses that set cookies are stored, though they were made with a visitor's own cookies".to_owned();
        add(
            Level::Warning,
            "stripped-set-cookie",
            message,
            "send no cookies (cookies=\"none\"), or refuse such responses",
        );
    }
    if let Some(policy) = &route.auth {
        if policy.shared && !policy.forward.is_empty() && cache.key_claims.is_empty() {
            let message =
                "responses are shared by everybody, and the origin is told who asks".to_owned();
            add(
                Level::Warning,
                "shared-identity",
                message,
                "forward no claims (forward={}), or put them in the key (cache.claims)",
            );
        } else if !policy.shared && cache.key_claims.is_empty() {
            let message = "the cache is on, but responses behind a token are not stored unless the origin allows it (RFC 9111 §3.5)";
            add(
                Level::Info,
                "auth-not-shared",
                message.to_owned(),
                "say cache.DISABLED if that is meant, shared=True if responses depend on nobody, or choose cache.claims",
            );
        }
    }
}

/// Fields by which frameworks change the URL or the method.
const REWRITING: [&str; 6] = [
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-forwarded-prefix",
    "x-host",
    "x-forwarded-scheme",
];

/// Whether everything that `sent` chooses is chosen by `key`.
fn covers(key: &Select, sent: &Select) -> bool {
    match (key, sent) {
        (Select::All, _) | (_, Select::None) => true,
        (key, Select::Only(names)) => names.iter().all(|name| key.has(name)),
        (Select::Except(left_out), Select::Except(not_sent)) => {
            left_out.iter().all(|name| not_sent.contains(name))
        }
        _ => false,
    }
}

/// Whether a parameter stands where the location's host begins.
fn free_host(location: &str) -> bool {
    let mut before = String::new();
    for piece in Template(location).pieces() {
        match piece {
            Piece::Text(text) => before.push_str(text),
            Piece::Parameter(_) => return before.ends_with("//"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::plan::compile;

    fn codes(routes: &Value) -> Vec<&'static str> {
        let plan =
            json!({"name": "t", "origins": [{"name": "o", "url": "http://x"}], "routes": routes});
        let plan = compile(&serde_json::to_vec(&plan).unwrap())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        lint(&plan).iter().map(|lint| lint.code).collect()
    }

    #[test]
    fn a_plain_site_gets_no_advice() {
        assert!(
            codes(&json!([
                {"pattern": "/static/*", "to": "o", "cache": {"query": "none", "cookies": "none"}},
                {"pattern": "/*", "to": "o", "index": "index.html"},
            ]))
            .is_empty()
        );
    }

    #[test]
    fn dangers_are_named() {
        let auth = |extra: Value| {
            let mut auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
            for (key, value) in extra.as_object().unwrap() {
                auth[key] = value.clone();
            }
            auth
        };
        for (route, want) in [
            (
                json!({"to": "o", "cache": {"query": "none"}, "forward": {"query": "all"}}),
                vec!["unkeyed-query"],
            ),
            (
                json!({"to": "o", "cache": {"query": {"only": ["a", "b"]}}, "forward": {"query": {"only": ["a"]}}}),
                vec![],
            ),
            (
                json!({"to": "o", "cache": {"query": {"except": ["utm"]}}, "forward": {"query": "all"}}),
                vec!["unkeyed-query"],
            ),
            (
                json!({"to": "o", "cache": {"cookies": "none"}, "forward": {"cookies": "all"}}),
                vec!["unkeyed-cookies"],
            ),
            (
                json!({"to": "o", "forward": {"headers": {"only": ["X-Original-URL"]}}}),
                vec!["unkeyed-headers"],
            ),
            (
                json!({"to": "o", "cache": {"set_cookie": "strip"}}),
                vec!["stripped-set-cookie"],
            ),
            (
                json!({"to": "o", "cache": {"set_cookie": "strip", "cookies": "none"}}),
                vec![],
            ),
            (
                json!({"redirect": {"location": "https://{host}/"}, "pattern": "/{host}"}),
                vec!["open-redirect"],
            ),
            (
                json!({"redirect": {"location": "https://x/{host}"}, "pattern": "/{host}"}),
                vec![],
            ),
            (
                json!({"to": "o", "auth": auth(json!({}))}),
                vec!["auth-not-shared", "auth-without-https"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({"shared": true}))}),
                vec!["shared-identity"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"claims": ["userId"]}}),
                vec![],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"enabled": false}}),
                vec![],
            ),
        ] {
            let mut whole = json!({"pattern": "/*"});
            for (key, value) in route.as_object().unwrap() {
                whole[key] = value.clone();
            }
            assert_eq!(codes(&json!([whole])), want, "{route}");
        }
        assert_eq!(
            codes(&json!([{"pattern": "/*", "to": "o"}, {"pattern": "/*", "to": "o"}])),
            ["unreachable"]
        );
    }
}
