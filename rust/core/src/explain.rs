//! What the edge would do with a request, and why, without doing it: phases 2 to 9 by the very functions that serve.
//!
//! Two things are not known here and said so: what a hook would change, and which variant chance would give.

mod admission;
mod caching;
mod stored;
#[cfg(test)]
mod tests;
mod visitor;

use std::{fmt::Write as _, net::IpAddr};

use http::{HeaderMap, Method, StatusCode, header, uri::PathAndQuery};
use serde::Serialize;

pub use self::stored::ExplainResponse;
use self::{
    admission::admitted,
    caching::{fetch, look_up, store},
    visitor::{bucket, identify},
};
use crate::{
    cache::{
        key::{self, Base},
        storable::Authorization,
    },
    identity::{client_address::Client, jwt::Claims},
    plan::{
        ErrorPage, Hook, Plan, Route, RouteId, Scheme, Target,
        matcher::{MatchResult, Probe},
        table,
    },
    viewer::{self, Https},
};

/// A request that is not sent.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    pub method: String,
    /// Absolute (`https://www.example.com/a?b`), or a path when a `Host` field says the rest.
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// The connection's other end.
    pub client: IpAddr,
    /// Of the connection, where the URL does not say it.
    pub scheme: Option<Scheme>,
    /// What an origin might answer.
    pub response: Option<ExplainResponse>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The phase's name in docs/design.md §3.
    pub phase: &'static str,
    pub decision: String,
    pub reason: String,
}

/// The decisions about a request at `now` (Unix seconds), in order. The last one is what answers it.
pub fn explain(plan: &Plan, request: &ExplainRequest, now: u64) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    // An early answer has said so itself.
    let _ = walk(plan, request, now, &mut steps);
    steps.0
}

struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, phase: &'static str, decision: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Step {
            phase,
            decision: decision.into(),
            reason: reason.into(),
        });
    }

    /// The request is answered here.
    fn end<T>(
        &mut self,
        phase: &'static str,
        decision: impl Into<String>,
        reason: impl Into<String>,
    ) -> Option<T> {
        self.add(phase, decision, reason);
        None
    }
}

/// What a request asks the store for, where its route has a cache.
#[derive(Debug, Clone)]
pub struct Question {
    pub route: RouteId,
    /// The key of the URL.
    pub url_key: Vec<u8>,
    /// What the route's policy adds to it.
    pub dimensions: Vec<u8>,
    /// As the origin and the store see them.
    pub headers: HeaderMap,
    /// As for [`crate::cache::vary::secondary`].
    pub reduced: crate::cache::vary::Reduced,
}

/// The key that a request has; `None` where no cache is asked, which [`explain`] gives the reason for.
pub fn question(plan: &Plan, request: &ExplainRequest, now: u64) -> Option<Question> {
    let mut steps = Steps(Vec::new());
    let asked = admitted(plan, request, &mut steps)?;
    let route = route(plan, &asked, &mut steps)?;
    https(route, &asked, &mut steps)?;
    let claims = identify(route, &asked, now, &mut steps)?;
    let variants = bucket(route, &asked, claims.as_ref(), &mut steps);
    if !route.cache.enabled || !matches!(route.target, Target::Group(_)) {
        return None;
    }
    let sees = crate::cache::agreement::Sees { route, hooked: &[] };
    if sees.stray(&asked.headers, asked.target.query()).is_some() {
        return None;
    }
    let path = viewer::target_path(route, asked.target.path());
    let mut url_key = Vec::new();
    key::url(
        &mut url_key,
        asked.base(),
        &path,
        asked.target.query(),
        &route.cache,
    );
    Some(Question {
        route: route.id,
        url_key,
        dimensions: caching::dimensions(plan, route, &asked, claims.as_ref(), &variants),
        headers: asked.headers,
        reduced: route.cache.reduced(),
    })
}

fn authorization(route: &Route, asked: &Asked, claims: Option<&Claims>) -> Authorization {
    match (claims, &route.auth) {
        (Some(_), Some(policy)) => Authorization::Verified {
            shared: policy.shared || !route.cache.key_claims.is_empty(),
        },
        _ if asked.headers.contains_key(header::AUTHORIZATION) => Authorization::Present,
        _ => Authorization::None,
    }
}

/// An admitted request.
struct Asked {
    method: Method,
    host: String,
    /// The host that the viewer asked for, of a trusted proxy where there is one.
    outer: String,
    /// Its port.
    port: Option<u16>,
    target: PathAndQuery,
    headers: HeaderMap,
    client: Client,
}

impl Asked {
    fn base(&self) -> Base<'_> {
        Base {
            scheme: self.client.scheme,
            host: &self.outer,
            port: self.port,
        }
    }
}

fn walk(plan: &Plan, request: &ExplainRequest, now: u64, steps: &mut Steps) -> Option<()> {
    let asked = admitted(plan, request, steps)?;
    let route = route(plan, &asked, steps)?;
    https(route, &asked, steps)?;
    let claims = identify(route, &asked, now, steps)?;
    let variants = bucket(route, &asked, claims.as_ref(), steps);
    hooks(
        plan,
        "viewer_request",
        &route.hooks.viewer_request,
        &asked,
        steps,
    );
    match &route.target {
        Target::Group(group) => {
            let path = viewer::target_path(route, asked.target.path()).into_owned();
            if path != asked.target.path() {
                steps.add(
                    "viewer",
                    format!("{} becomes {path}", asked.target.path()),
                    "strip_prefix, rewrite, add_prefix and index, in this order",
                );
            }
            let stores = look_up(
                plan,
                route,
                &asked,
                &path,
                claims.as_ref(),
                &variants,
                steps,
            );
            hooks(
                plan,
                "origin_request",
                &route.hooks.origin_request,
                &asked,
                steps,
            );
            fetch(plan, route, *group, &asked, steps);
            hooks(
                plan,
                "origin_response",
                &route.hooks.origin_response,
                &asked,
                steps,
            );
            match &request.response {
                Some(given) if stores => {
                    let authorization = authorization(route, &asked, claims.as_ref());
                    stored::response(route, &asked, authorization, given, now, steps);
                }
                _ => store(route, claims.is_some(), stores, steps),
            }
            if let Some(given) = &request.response {
                error_page(route, &asked, given.status, steps);
            }
        }
        Target::Function(call) => steps.add(
            "function",
            table::callable(plan, *call),
            "an edge function takes the place of key, look up, fetch and store",
        ),
        Target::Redirect(redirect) => {
            match viewer::redirect_location(
                route,
                redirect,
                asked.target.path(),
                asked.target.query(),
            ) {
                Some(location) => {
                    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                    steps.add(
                        "viewer",
                        format!("{} to {location}", redirect.status.as_u16()),
                        format!("the route redirects to {}", redirect.location),
                    );
                }
                None => steps.add(
                    "viewer",
                    "400",
                    "what stands in a parameter may not stand in that part of the location",
                ),
            }
        }
        Target::Respond(fixed) => steps.add(
            "viewer",
            fixed.status.as_u16().to_string(),
            format!("a fixed response of {} bytes", fixed.body.len()),
        ),
    }
    hooks(
        plan,
        "viewer_response",
        &route.hooks.viewer_response,
        &asked,
        steps,
    );
    Some(())
}

fn route<'p>(plan: &'p Plan, asked: &Asked, steps: &mut Steps) -> Option<&'p Route> {
    const PHASE: &str = "route";
    let probe = Probe {
        host: &asked.host,
        path: asked.target.path(),
        query: asked.target.query(),
        method: &asked.method,
        headers: &asked.headers,
    };
    let candidates = plan.router.candidates(&plan.routes, &probe);
    let Some(route) = plan
        .router
        .find(&plan.routes, &probe)
        .and_then(|id| plan.route(id))
    else {
        let allowed = plan.router.allowed_methods(&plan.routes, &probe);
        let methods: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        return match (methods.is_empty(), candidates.first()) {
            (false, _) => steps.end(
                PHASE,
                "405",
                format!("the URL takes {} only", methods.join(", ")),
            ),
            (_, Some((id, MatchResult::Condition(at)))) => steps.end(
                PHASE,
                "404",
                format!(
                    "{} matches, but its condition when[{at}] does not hold",
                    label(plan, *id)
                ),
            ),
            _ => steps.end(PHASE, "404", "no route has this host and path"),
        };
    };
    if let Some(guarded) = crate::admit::evades(plan, route, &probe) {
        return steps.end(
            PHASE,
            "400",
            format!(
                "{} matches, but a lenient server would read the path as one of {}, whose guard it would go round",
                route.label, guarded.label
            ),
        );
    }
    let mut reason = String::new();
    for (id, result) in &candidates {
        match result {
            MatchResult::Matches if *id == route.id => break,
            MatchResult::Method => {
                let _ = write!(reason, "{} takes other methods; ", label(plan, *id));
            }
            MatchResult::Condition(at) => {
                let _ = write!(
                    reason,
                    "the condition when[{at}] of {} does not hold; ",
                    label(plan, *id)
                );
            }
            MatchResult::Matches => {}
        }
    }
    let next = candidates
        .iter()
        .skip_while(|(id, _)| *id != route.id)
        .skip(1)
        .find(|(_, result)| *result == MatchResult::Matches);
    match next.and_then(|(id, _)| plan.route(*id)) {
        None => reason.push_str("the only route that matches"),
        Some(next) => {
            let _ = write!(
                reason,
                "before {} because {}",
                next.label,
                precedence(route, next, &asked.host)
            );
        }
    }
    steps.add(PHASE, route.label.to_string(), reason);
    Some(route)
}

fn label(plan: &Plan, id: RouteId) -> &str {
    plan.route(id).map_or("?", |route| &route.label)
}

/// The rule that put one route before another (docs/design.md §3).
fn precedence(first: &Route, second: &Route, host: &str) -> String {
    let specificity = |route: &Route| crate::plan::matcher::specificity(route, host);
    if first.priority != second.priority {
        format!(
            "its priority is higher ({} and {})",
            first.priority, second.priority
        )
    } else if specificity(first) != specificity(second) {
        "its host is more specific".to_owned()
    } else if first.path.is_exact() != second.path.is_exact() {
        "its path is exact".to_owned()
    } else if first.path.literal_prefix().len() != second.path.literal_prefix().len() {
        "its literal prefix is longer".to_owned()
    } else if first.path.wildcards() != second.path.wildcards() {
        "it has fewer wildcards".to_owned()
    } else {
        "it is declared first".to_owned()
    }
}

fn https(route: &Route, asked: &Asked, steps: &mut Steps) -> Option<()> {
    let policy = table::viewer(route.viewer);
    match viewer::https(route.viewer, asked.client.scheme) {
        Https::Proceed => {
            steps.add("viewer", "proceed", format!("viewer policy {policy}"));
            Some(())
        }
        Https::Forbid => steps.end(
            "viewer",
            "403",
            format!("viewer policy {policy}, and the request came over http"),
        ),
        Https::Redirect => {
            let status = viewer::https_redirect_status(&asked.method).as_u16();
            let port = asked.port.map(|port| format!(":{port}"));
            let authority = format!("{}{}", asked.outer, port.unwrap_or_default());
            let location = viewer::https_location(&authority, &asked.target);
            let location = location
                .as_ref()
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .unwrap_or_default();
            steps.end(
                "viewer",
                format!("{status} to {location}"),
                format!("viewer policy {policy}, and the request came over http"),
            )
        }
    }
}

/// The page that would stand in for an answer of that status.
fn error_page(route: &Route, asked: &Asked, status: StatusCode, steps: &mut Steps) {
    let Some((_, page)) = route.errors.iter().find(|(of, _)| *of == status) else {
        return;
    };
    let reason = format!("the route's errors, {}", status.as_u16());
    match page {
        ErrorPage::Path(path) if !matches!(asked.method, Method::GET | Method::HEAD) => steps.add(
            "error page",
            "none",
            format!("{reason}: {path} is for GET and HEAD"),
        ),
        ErrorPage::Path(path) => steps.add("error page", path.to_string(), reason),
        ErrorPage::Fixed(held) => steps.add(
            "error page",
            format!("the edge's own, of {} bytes", held.body.len()),
            reason,
        ),
    }
}

fn hooks(plan: &Plan, phase: &'static str, hooks: &[Hook], asked: &Asked, steps: &mut Steps) {
    for hook in hooks {
        let runs = hook
            .host
            .as_ref()
            .is_none_or(|host| host.matches(&asked.host))
            && (hook.always || hook.pattern.matches(asked.target.path()));
        if runs {
            steps.add(
                phase,
                table::callable(plan, hook.call),
                format!("{} matches; it is not called here", hook.pattern),
            );
        }
    }
}
