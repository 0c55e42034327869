//! Rules for what others may read or forge: connections in plain text, certificates, secrets, compressed pages.

use http::Method;

use super::advice::{Advice, Lint, LintLevel};
use crate::{
    guard::cors::Cors,
    plan::{
        OriginId, Plan, Preflight, Route, Target, TlsPolicy, ViewerPolicy,
        matcher::{hosts_of, takes_all},
        table,
    },
};

/// Listeners in plain text beside those that demand certificates of clients.
pub(super) fn beside_certificates(plan: &Plan) -> Option<Lint> {
    let demands = |policy: &TlsPolicy| policy.client.as_ref().is_some_and(|client| client.required);
    let mut policies = plan.listeners.iter().flat_map(|listener| &listener.tls);
    let plain = plan
        .listeners
        .iter()
        .position(|listener| listener.tls.is_empty())?;
    let mut routes = plan.routes.iter();
    let route = routes.find(|route| route.viewer == ViewerPolicy::AllowAll)?;
    policies.any(demands).then(|| Lint {
        path: format!("listeners[{plain}]"),
        route: route.label.to_string(),
        level: LintLevel::Warning,
        rule: "client-certificates",
        message: "requests in plain text reach this route without the certificate of a client that another listener demands".to_owned(),
        remedy: "set viewer=\"https-only\" or \"redirect-to-https\" on the routes, or remove the listener",
    })
}

/// The routes for a part of the paths that demand a token, a password or a signature.
pub(super) fn closed(plan: &Plan) -> Vec<&Route> {
    let is_part = |route: &&Route| route.path.literal_prefix().len() > 1;
    let mut routes: Vec<&Route> = plan.routes.iter().filter(is_part).collect();
    routes.retain(|route| demand(route).is_some());
    routes
}

fn demand(route: &Route) -> Option<&'static str> {
    let guard = route.guard.as_ref();
    if route.auth.as_ref().is_some_and(|auth| !auth.optional) {
        Some("a token")
    } else if guard.is_some_and(|guard| guard.basic.is_some()) {
        Some("a password")
    } else {
        guard
            .is_some_and(|guard| guard.signed.is_some())
            .then_some("a signature")
    }
}

/// A function or content for everybody among the paths of a route that demands something of its clients.
pub(super) fn open_within(closed: &[&Route], advice: &mut Advice<'_>) {
    let route = advice.route;
    if demand(route).is_some() || matches!(route.target, Target::Redirect(_) | Target::Respond(_)) {
        return;
    }
    let prefix = route.path.literal_prefix();
    let outer = closed.iter().find(|outer| {
        prefix.starts_with(outer.path.literal_prefix()) && takes_all(outer, route, hosts_of(route))
    });
    if let Some(outer) = outer
        && let Some(demanded) = demand(outer)
    {
        advice.note(
            "open-within",
            format!(
                "{} demands {demanded}, and this route takes its requests first and demands nothing: no guard of one route holds for another",
                outer.label
            ),
            "give it the same auth=, basic= or signed=, unless everybody may have it",
        );
    }
}

/// A cache policy that compresses, on a route that does not.
pub(super) fn uncompressed(advice: &mut Advice<'_>) {
    if let Some(of) = advice.route.uncompressed {
        advice.note(
            "uncompressed",
            format!(
                "the cache policy compresses and this route does not: the length of responses {of} would betray their secrets (BREACH)"
            ),
            "say compress=False on the route if that is meant",
        );
    }
}

pub(super) fn unverified(plan: &Plan, members: &[OriginId], advice: &mut Advice<'_>) {
    for origin in members.iter().filter_map(|id| plan.origin(*id)) {
        if !origin.tls.verify && origin.tls.pins.is_empty() {
            let message = format!(
                "the certificate of origin {} is not verified (tls_verify=False): anyone on the network path can read and change everything",
                origin.name
            );
            advice.warn(
                "tls",
                message,
                "give the origin's CA as tls_ca instead, or its public key as tls_pins",
            );
        }
    }
}

pub(super) fn https(plan: &Plan, advice: &mut Advice<'_>) {
    if advice.route.viewer != ViewerPolicy::AllowAll {
        if plan.trusted_proxies.is_empty() && !plan.serves_https() {
            let message = format!(
                "viewer={:?} can only be met by TLS: no listener of the edge has it, and no proxy is trusted to report it, so no request gets through",
                table::viewer(advice.route.viewer)
            );
            advice.warn(
                "https",
                message,
                "give the edge a listener with tls=Tls(...), or name the proxy in trusted_proxies",
            );
        }
    } else if advice.route.auth.is_some()
        || advice
            .route
            .guard
            .as_ref()
            .is_some_and(|guard| guard.basic.is_some())
    {
        advice.note(
            "auth-without-https",
            "tokens or passwords may travel over plain http",
            "set viewer=\"https-only\"",
        );
    }
}

pub(super) fn secret(advice: &mut Advice<'_>) {
    if let Some(weak) = advice
        .route
        .auth
        .as_ref()
        .and_then(|policy| policy.weak_secret())
    {
        let key = weak.id.as_deref().map(|id| format!(" of key {id:?}"));
        advice.warn(
            "weak-secret",
            format!(
                "the token's secret{} has {} bytes, but {} needs {} (RFC 7518 §3.2)",
                key.unwrap_or_default(),
                weak.bytes,
                weak.algorithm.as_str(),
                weak.least
            ),
            "use a longer random secret: a short one can be guessed from one token",
        );
    }
}

/// A sandboxed frame has the origin `null`, and every site can make one (HTML §7.1.1).
pub(super) fn null_origin(advice: &mut Advice<'_>) {
    let guard = advice.route.guard.as_ref();
    if (guard.and_then(|guard| guard.cors.as_ref())).is_some_and(Cors::gives_secrets_to_null) {
        advice.warn(
            "null-origin",
            "pages of every site may read what visitors with cookies get: a sandboxed frame has the origin \"null\"",
            "remove \"null\" from the origins of cors, or credentials=True",
        );
    }
}

/// Pages of other origins send a preflight, without a token, before they send one (Fetch §4.8).
pub(super) fn preflight(advice: &mut Advice<'_>) {
    let route = advice.route;
    let demands = route.auth.as_ref().is_some_and(|policy| !policy.optional);
    let takes_options = route.methods.is_empty() || route.methods.contains(&Method::OPTIONS);
    if demands
        && takes_options
        && route.preflight == Preflight::Token
        && !route.answers_preflights()
        && matches!(route.target, Target::Group(_))
    {
        advice.note(
            "preflight",
            "CORS preflights have no token and are refused: pages of other origins cannot call it",
            "cors=Cors(...) answers them, preflight=\"origin\" lets the origin do so; leave it if only pages of this site call it",
        );
    }
}
