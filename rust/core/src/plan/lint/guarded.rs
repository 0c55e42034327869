//! Rules for guards that are set and have no effect, or more of it than it looks: fields for browsers, addresses, rate
//! limits, methods of other origins' pages.

use std::sync::Arc;

use http::Method;

use super::advice::{Advice, Lint, LintLevel};
use crate::{
    guard::{addresses::AddressPolicy, csp, security::SecurityFields},
    plan::{Plan, Target},
};

/// The guards of the site, which belong to no route.
pub(super) fn site(plan: &Plan) -> Vec<Lint> {
    let mut found = Vec::new();
    if let Some(fields) = &plan.guard.security {
        let doubts = unheeded(plan, fields).into_iter();
        found.extend(doubts.map(|(level, rule, message, remedy)| Lint {
            path: "security".to_owned(),
            route: String::new(),
            level,
            rule,
            message,
            remedy,
        }));
    }
    if let Some(policy) = &plan.guard.addresses
        && denies_nobody(policy)
    {
        found.push(Lint {
            path: "addresses.deny".to_owned(),
            route: String::new(),
            level: LintLevel::Warning,
            rule: "addresses",
            message: DENIES_NOBODY.to_owned(),
            remedy: CORRECT_LISTS,
        });
    }
    found
}

/// The fields of a route that browsers do not follow.
pub(super) fn browsers(plan: &Plan, advice: &mut Advice<'_>) {
    let guard = advice.route.guard.as_ref();
    let own = guard.and_then(|guard| guard.security.as_ref());
    let of_site = plan.guard.security.as_ref();
    if let Some(fields) = own.filter(|own| !of_site.is_some_and(|site| Arc::ptr_eq(site, own))) {
        for (level, rule, message, remedy) in unheeded(plan, fields) {
            match level {
                LintLevel::Warning => advice.warn(rule, message, remedy),
                LintLevel::Info => advice.note(rule, message, remedy),
            }
        }
    }
}

fn unheeded(
    plan: &Plan,
    fields: &SecurityFields,
) -> Vec<(LintLevel, &'static str, String, &'static str)> {
    let mut found = Vec::new();
    for (text, only_reports) in fields.policies() {
        for message in csp::doubts(text, only_reports) {
            let remedy = "correct or remove it: browsers pass over it in silence";
            found.push((LintLevel::Warning, "csp", message, remedy));
        }
    }
    if fields.hsts.is_some() && plan.trusted_proxies.is_empty() && !plan.serves_https() {
        found.push((
            LintLevel::Info,
            "hsts",
            "Strict-Transport-Security goes over https only, and no request can have that scheme here: no listener has TLS, and no proxy is trusted to report it".to_owned(),
            "give the edge a listener with tls=Tls(...), or name the proxy in trusted_proxies",
        ));
    }
    found
}

const DENIES_NOBODY: &str =
    "deny has no effect: allow serves none of its addresses in the first place";
const CORRECT_LISTS: &str = "correct one of the two lists, or remove deny";

/// True if nobody is refused by `deny` who is not refused without it.
fn denies_nobody(policy: &AddressPolicy) -> bool {
    let allow = policy.allow.as_ref().filter(|_| policy.places.is_none());
    allow.is_some_and(|allow| !policy.deny.is_empty() && !allow.meets(&policy.deny))
}

pub(super) fn addresses(plan: &Plan, advice: &mut Advice<'_>) {
    let Some(policy) = advice
        .route
        .guard
        .as_ref()
        .and_then(|guard| guard.addresses.as_ref())
    else {
        return;
    };
    if denies_nobody(policy) {
        advice.warn("addresses", DENIES_NOBODY, CORRECT_LISTS);
    }
    let site = plan.guard.addresses.as_ref();
    let site = site.filter(|site| site.places.is_none() && policy.places.is_none());
    if let (Some(site), Some(own)) = (site.and_then(|site| site.allow.as_ref()), &policy.allow)
        && !site.meets(own)
    {
        advice.warn(
            "addresses",
            "nobody is served: the site allows none of the addresses that the route allows",
            "allow the addresses of the route for the site, too",
        );
    }
}

/// Limits whose requests may wait, where none may.
pub(super) fn delay(plan: &Plan, advice: &mut Advice<'_>) {
    let Some(guard) = advice.route.guard.as_ref() else {
        return;
    };
    let mut limits = guard.limits.iter().chain(&guard.claim_limits);
    if plan.limits.http.delayed_requests == 0
        && let Some(limit) = limits.find(|limit| !limit.delay.is_zero())
    {
        advice.warn(
            "delay",
            format!(
                "delay of rate limit {} has no effect: limits.http.delayed_requests is 0, so that no request may wait",
                limit.name
            ),
            "raise delayed_requests, or remove delay",
        );
    }
}

/// Methods that preflights allow and the route does not have. Pages may send the first three without a preflight.
pub(super) fn methods(advice: &mut Advice<'_>) {
    const SIMPLE: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];
    let route = advice.route;
    let is_met = |method: &str| match &route.target {
        Target::Files(_) => false,
        _ => route.methods.is_empty() || route.methods.iter().any(|own| own == method),
    };
    let cors = route.guard.as_ref().and_then(|guard| guard.cors.as_ref());
    let mut allowed = cors.into_iter().flat_map(|cors| cors.methods());
    if let Some(method) = allowed.find(|method| {
        !matches!(*method, "*" | "") && !SIMPLE.iter().any(|own| own == method) && !is_met(method)
    }) {
        advice.warn(
            "preflight-methods",
            format!("cors allows {method}, which the route does not: such a preflight is not answered here"),
            "add it to the methods of the route, or remove it from cors",
        );
    }
}
