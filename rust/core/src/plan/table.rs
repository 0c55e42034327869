//! The route table that `edgerouter check` prints, in the order in which routes are matched.

use std::{fmt::Write as _, sync::Arc};

use serde::Serialize;

use super::{
    CachePolicy, CallableId, Hook, HostPattern, Plan, Route, Select, SetCookiePolicy, Target,
    ViewerPolicy, matcher::hosts_of,
};
use crate::identity::jwt::KeySource;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteRow {
    /// The route's position in the declaration.
    pub index: u32,
    /// [`Route::label`].
    pub label: String,
    /// `*` for every host; never empty.
    pub hosts: Vec<String>,
    /// 0 by default.
    pub priority: i32,
    /// Empty: any.
    pub methods: Vec<String>,
    /// Number of conditions in [`Route::when`].
    pub conditions: usize,
    /// As [`target`] writes it.
    pub target: String,
    /// The policy's name in Python, as in `https-only`.
    pub viewer: &'static str,
    /// The source of the keys and the options that differ; `None`: no token is read.
    pub auth: Option<String>,
    /// Names of the policies about clients and browsers, as in `cors`.
    pub guards: Vec<&'static str>,
    /// Each with its variants and their weights.
    pub experiments: Vec<String>,
    /// As [`cache`] writes it; `-` for targets other than a group.
    pub cache: String,
    /// Names of the callables, in the order of their calls.
    pub hooks: HookNames,
    /// True if a request of this route can reach Python.
    pub touches_python: bool,
}

/// The names of a route's hooks by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HookNames {
    /// Before the look-up in the cache.
    pub viewer_request: Vec<String>,
    /// Before a request to an origin.
    pub origin_request: Vec<String>,
    /// Before a response is stored.
    pub origin_response: Vec<String>,
    /// Before a response is sent.
    pub viewer_response: Vec<String>,
}

/// All routes in the order of precedence.
pub fn table(plan: &Plan) -> Vec<RouteRow> {
    plan.router
        .order()
        .iter()
        .filter_map(|id| plan.route(*id))
        .map(|route| row(plan, route))
        .collect()
}

/// Labels of routes that can never be taken, each with the route that takes all its requests.
pub fn unreachable(plan: &Plan) -> Vec<(Arc<str>, Arc<str>)> {
    let label = |id| plan.route(id).map(|route| Arc::clone(&route.label));
    plan.router
        .unreachable(&plan.routes)
        .into_iter()
        .filter_map(|(id, by)| label(id).zip(label(by)))
        .collect()
}

fn row(plan: &Plan, route: &Route) -> RouteRow {
    let names = |hooks: &[Hook]| hooks.iter().map(|hook| callable(plan, hook.call)).collect();
    RouteRow {
        index: route.id.0,
        label: route.label.to_string(),
        hosts: hosts_of(route).iter().map(HostPattern::to_string).collect(),
        priority: route.priority,
        methods: route.methods.iter().map(ToString::to_string).collect(),
        conditions: route.when.len(),
        target: target(plan, &route.target),
        viewer: viewer(route.viewer),
        auth: auth(route),
        guards: route.guard.iter().flat_map(|guard| guard.names()).collect(),
        experiments: route.experiments.iter().map(experiment).collect(),
        cache: cache_of(route),
        hooks: HookNames {
            viewer_request: names(&route.hooks.viewer_request),
            origin_request: names(&route.hooks.origin_request),
            origin_response: names(&route.hooks.origin_response),
            viewer_response: names(&route.hooks.viewer_response),
        },
        touches_python: matches!(route.target, Target::Function(_)) || !route.hooks.is_empty(),
    }
}

/// The name of a callable.
pub fn callable(plan: &Plan, id: CallableId) -> String {
    plan.callable(id).map_or_else(
        || format!("#{}", id.0),
        |callable| callable.name.to_string(),
    )
}

/// The source of the responses, in words.
pub fn target(plan: &Plan, target: &Target) -> String {
    match target {
        Target::Group(id) => plan
            .group(*id)
            .map_or_else(String::new, |group| group.name.to_string()),
        Target::Function(id) => format!("function {}", callable(plan, *id)),
        Target::Redirect(redirect) => format!("{} {}", redirect.status.as_u16(), redirect.location),
        Target::Respond(fixed) => format!("respond {}", fixed.status.as_u16()),
        Target::Files(folder) => format!("files {}", folder.root.display()),
        Target::Images(sources) => {
            let origins = sources.origins.iter().filter_map(|id| plan.origin(*id));
            let mut names: Vec<String> = origins.map(|origin| origin.name.to_string()).collect();
            names.extend(sources.foreign.hosts.iter().map(ToString::to_string));
            format!("images of {}", names.join(", "))
        }
    }
}

pub(crate) fn viewer(policy: ViewerPolicy) -> &'static str {
    match policy {
        ViewerPolicy::AllowAll => "allow-all",
        ViewerPolicy::HttpsOnly => "https-only",
        ViewerPolicy::RedirectToHttps => "redirect-to-https",
    }
}

fn auth(route: &Route) -> Option<String> {
    let policy = route.auth.as_ref()?;
    let mut text = match &policy.source {
        KeySource::Static(_) => "jwt".to_owned(),
        KeySource::Url { url, .. } => format!("jwt by {url}"),
    };
    for (word, _) in [("optional", policy.optional), ("shared", policy.shared)]
        .iter()
        .filter(|(_, holds)| *holds)
    {
        let _ = write!(text, ", {word}");
    }
    Some(text)
}

fn experiment(experiment: &crate::experiment::Experiment) -> String {
    let variants: Vec<String> = experiment
        .variants()
        .map(|(name, weight)| format!("{name} {weight}"))
        .collect();
    format!("{} ({})", experiment.name, variants.join(", "))
}

fn cache_of(route: &Route) -> String {
    if matches!(route.target, Target::Group(_)) || route.stores() {
        cache(&route.cache)
    } else {
        "-".to_owned()
    }
}

/// A cache policy in a few words: where it differs from `STANDARD`.
pub fn cache(policy: &CachePolicy) -> String {
    if !policy.enabled {
        return "off".to_owned();
    }
    let standard = CachePolicy::default();
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in [
        ("ttl", policy.ttl),
        ("default", policy.default_ttl),
        ("min", Some(policy.min_ttl).filter(|seconds| *seconds > 0)),
        ("max", policy.max_ttl),
        ("stale-while-revalidate", policy.stale_while_revalidate),
        ("stale-if-error", policy.stale_if_error),
        ("grace", policy.grace),
        ("grace while the origin is sick", policy.sick_grace),
        (
            "stale while disconnected",
            Some(policy.stale_when_disconnected)
                .filter(|seconds| *seconds != standard.stale_when_disconnected),
        ),
    ] {
        parts.extend(value.map(|seconds| format!("{name} {seconds} s")));
    }
    if let Some(beta) = policy.refresh_ahead {
        parts.push(format!("refresh ahead (beta {beta})"));
    }
    if policy.fill != standard.fill {
        parts.push(format!("fill {}", policy.fill.as_str()));
    }
    if policy.key_query != Select::All {
        parts.push(format!("query {}", select(&policy.key_query)));
    }
    if let Some(cookies) = &policy.key_cookies {
        parts.push(format!("cookies {}", select(cookies)));
    }
    for (name, list) in [
        (
            "headers",
            policy
                .key_headers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        ),
        (
            "claims",
            policy.key_claims.iter().map(ToString::to_string).collect(),
        ),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name} {}", list.join(" ")));
        }
    }
    for (word, holds) in [
        ("compresses", policy.compress),
        ("encoding in key", policy.accept_encoding),
        ("query sorted", policy.sort_query),
        ("extension guard", policy.extension_guard),
        ("languages normalised", policy.accept_language),
        (
            "stores Set-Cookie",
            policy.set_cookie == SetCookiePolicy::Store,
        ),
        (
            "strips Set-Cookie",
            policy.set_cookie == SetCookiePolicy::Strip,
        ),
        ("no heuristics", policy.heuristics != standard.heuristics),
        (
            "ignores request directives",
            policy.request_directives != standard.request_directives,
        ),
        ("no coalescing", policy.collapse != standard.collapse),
        ("no slices", policy.slices != standard.slices),
    ] {
        if holds {
            parts.push(word.to_owned());
        }
    }
    if parts.is_empty() {
        "standard".to_owned()
    } else {
        parts.join(", ")
    }
}

pub(crate) fn select(select: &Select) -> String {
    match select {
        Select::All => "all".to_owned(),
        Select::None => "none".to_owned(),
        Select::Only(names) => names.join(" "),
        Select::Except(names) => format!("all but {}", names.join(" ")),
    }
}
