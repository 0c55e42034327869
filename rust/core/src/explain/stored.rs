//! Explains the storing of a response: whether it is stored, for how long it is fresh and why, and what it is good for
//! after that. Uses the functions that serve.

use http::{Method, StatusCode};

use super::{Admitted, Steps};
use crate::{
    cache::{
        agreement::Sees,
        decide::{self, Allowance, Decision, OriginHealth, Outage},
        freshness::{self, Freshness},
        promised,
        storable::{self, Authorization, NotStored, StoreInput},
        validate,
        vary::{self, Vary},
    },
    http::{
        Fields,
        cache_control::{RequestDirectives, ResponseDirectives},
    },
    plan::Route,
};

/// A response that an origin might give.
#[derive(Debug, Clone)]
pub struct ExplainResponse {
    /// The final status, never 1xx.
    pub status: StatusCode,
    /// The response's fields, `Date` included if the origin sends one.
    pub headers: Fields,
}

/// The rule that keeps a response from being stored.
pub(crate) fn section(why: NotStored) -> &'static str {
    match why {
        NotStored::Method | NotStored::Status => "RFC 9111 §3",
        NotStored::Disabled => "the route's cache policy",
        NotStored::Partial => "RFC 9111 §3.3",
        NotStored::RequestNoStore => "RFC 9111 §5.2.1.5",
        NotStored::NoStore => "RFC 9111 §5.2.2.5",
        NotStored::Private => "RFC 9111 §5.2.2.7",
        NotStored::Authorization => "RFC 9111 §3.5",
        NotStored::VaryStar => "RFC 9111 §4.1",
        NotStored::Extension => {
            "a page or data under the name of a static file, and extension_guard of the policy"
        }
        NotStored::SetCookie => "RFC 9111 §7.3, and set_cookie of the policy",
        NotStored::NotReusable => {
            "no lifetime, no validator and no window for stale use: it could never be used"
        }
        NotStored::TooLarge => "limits.cache.largest_object_bytes",
        NotStored::Hook => "a hook read something that no later request could be compared with",
        NotStored::HookFailed => "a hook failed open",
    }
}

pub(super) fn response(
    route: &Route,
    admitted: &Admitted,
    authorization: Authorization,
    response: &ExplainResponse,
    now: u64,
    steps: &mut Steps<'_>,
) {
    let policy = &route.cache;
    let ExplainResponse { status, headers } = response;
    let request = if policy.request_directives {
        RequestDirectives::parse(&admitted.head.headers)
    } else {
        RequestDirectives::default()
    };
    let directives = ResponseDirectives::parse(headers, &policy.targets);
    // A HEAD is answered from what a GET stored.
    let judged = storable::storable(&StoreInput {
        method: &Method::GET,
        request_directives: &request,
        authorization,
        status: *status,
        response: headers,
        directives: &directives,
        policy,
        is_static: policy.extension_guard && promised::is_static(admitted.viewer_path.path()),
        now,
    });
    let sees = Sees { route, hooked: &[] };
    let judged = judged.and_then(|()| match sees.varies_by_client(headers) {
        true => Err(NotStored::VaryStar),
        false => Ok(()),
    });
    if let Err(why) = judged {
        steps.add("store", format!("no: {}", why.as_str()), section(why));
        return;
    }
    let freshness = freshness::freshness(*status, headers, &directives, policy, now, now);
    let rule = freshness.rule;
    let mut reason = "status, directives and credentials allow it (RFC 9111 §3)".to_owned();
    if let Vary::Names(names) = vary::of(headers) {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        reason = format!(
            "{reason}; under {} of the request (RFC 9111 §4.1)",
            names.join(", ")
        );
    }
    steps.add("store", "yes", reason);
    let age = match freshness.initial_age {
        0 => String::new(),
        age => format!(", of which {age} s are over (RFC 9111 §4.2.3)"),
    };
    steps.add(
        "lifetime",
        format!("{} s{age}", freshness.lifetime),
        rule.as_str(),
    );
    later(
        &freshness,
        &request,
        route,
        validate::has_validator(headers),
        now,
        steps,
    );
}

/// The answers to the same request while the response is fresh, and after that.
fn later(
    stored: &Freshness,
    request: &RequestDirectives,
    route: &Route,
    has_validator: bool,
    now: u64,
    steps: &mut Steps<'_>,
) {
    let at = |now| {
        let healthy = OriginHealth::Healthy;
        let decision = decide::decide(stored, request, &route.cache, healthy, now);
        if request.only_if_cached && matches!(decision, Decision::Validate(_)) {
            let why = "only-if-cached of the request (RFC 9111 §5.2.1.7)";
            return ("504, and no origin is requested".to_owned(), why.to_owned());
        }
        words(decision, has_validator)
    };
    let (decision, reason) = at(now);
    steps.add("hit", decision, reason);
    let left = u64::try_from(stored.ttl(now)).unwrap_or(0);
    if left > 0 {
        let (decision, reason) = at(now + left);
        steps.add("stale", format!("after {left} s: {decision}"), reason);
    }
    if request.only_if_cached {
        return;
    }
    let over = now + left;
    let on_error = |failure| decide::on_error(stored, request, &route.cache, failure, over);
    let asked = request.stale_if_error.unwrap_or(0);
    let own = if request.no_cache {
        0
    } else {
        stored.stale_if_error
    };
    let (decision, reason) = if on_error(Outage::Error).is_none() {
        let forbidden = stored.must_revalidate || stored.always_validate;
        let why = if forbidden {
            "must-revalidate, no-cache or s-maxage forbids stale use (RFC 9111 §4.2.4)"
        } else if request.no_cache {
            "the request's no-cache refuses what was not validated (RFC 9111 §5.2.1.4)"
        } else {
            "neither the response nor the policy allows stale use (RFC 9111 §4.2.4)"
        };
        ("the failure".to_owned(), why.to_owned())
    } else if asked > own {
        (
            format!("the stored response, stale, for {asked} s"),
            "stale-if-error of the request (RFC 5861 §4)".to_owned(),
        )
    } else if own > 0 {
        (
            format!("the stored response, stale, for {own} s"),
            "stale-if-error (RFC 5861 §4)".to_owned(),
        )
    } else {
        let why = "grace or sick_grace of the route's cache policy";
        ("the stored response, stale".to_owned(), why.to_owned())
    };
    steps.add("origin fails", decision, reason);
    let (decision, reason) = match on_error(Outage::Disconnected) {
        Some(Allowance::Disconnected) => (
            format!(
                "the stored response, stale, for {} s",
                route.cache.stale_when_disconnected
            ),
            "stale_when_disconnected of the route's cache policy (RFC 9111 §4.2.4)",
        ),
        Some(_) => ("as when it fails".to_owned(), "the same rule holds"),
        None => ("the failure".to_owned(), not_disconnected(stored, route)),
    };
    steps.add("no origin answers", decision, reason);
}

/// Why a response is not sent stale while no origin can be reached.
fn not_disconnected(stored: &Freshness, route: &Route) -> &'static str {
    let policy = &route.cache;
    if stored.must_revalidate || stored.always_validate {
        "must-revalidate, no-cache or s-maxage forbids stale use (RFC 9111 §4.2.4)"
    } else if policy.stale_if_error.is_some() || policy.sick_grace.is_some() {
        "stale_if_error or sick_grace of the route's cache policy sets the time"
    } else if policy.stale_when_disconnected == 0 {
        "stale_when_disconnected=0 of the route's cache policy"
    } else if stored.when_disconnected {
        "the request's no-cache refuses what was not validated (RFC 9111 §5.2.1.4)"
    } else {
        "its own stale-if-error, its status, or the lack of a lifetime"
    }
}

fn words(decision: Decision, has_validator: bool) -> (String, String) {
    match decision {
        Decision::Fresh => (
            "the stored response".to_owned(),
            "it is fresh (RFC 9111 §4.2)".to_owned(),
        ),
        Decision::Stale(allowance) => {
            let behind = if allowance.revalidates() {
                ", refreshed behind"
            } else {
                ""
            };
            let section = match allowance.as_str() {
                "max-stale" => "RFC 9111 §5.2.1.2",
                "stale-while-revalidate" => "RFC 5861 §3",
                _ => "the route's cache policy",
            };
            (
                format!("the stored response, stale{behind}"),
                format!("{} ({section})", allowance.as_str()),
            )
        }
        Decision::Validate(reason) => {
            let how = if has_validator {
                "validates it with the origin (RFC 9111 §4.3.1)"
            } else {
                "fetches it again: there is no ETag or Last-Modified"
            };
            (how.to_owned(), reason.as_str().to_owned())
        }
    }
}
