//! Phases 8 to 13 in words.

use std::fmt::Write as _;

use http::{Method, StatusCode};

use super::{Admitted, Steps};
use crate::{
    cache::{
        agreement::Sees,
        fill::{FACTOR, Fill},
        hooked, key,
        question::Question,
    },
    http::{FieldName, accept, cache_control::RequestDirectives, header},
    images::VARIANT,
    origin::{
        attempts,
        balance::{self, HashKey, MemberOrder},
    },
    plan::{Balance, Group, GroupId, OriginId, Plan, Route, Select, table},
};

/// Phases 8 and 9; whether the response may be stored at all.
pub(super) fn find(plan: &Plan, route: &Route, admitted: &Admitted, steps: &mut Steps<'_>) -> bool {
    if !route.cache.enabled {
        steps.add("key", "none", "the route's cache policy is off");
        return false;
    }
    if !matches!(admitted.head.method, Method::GET | Method::HEAD) {
        steps.add("key", "none", format!("{} passes the cache (RFC 9110 §9.2.3); a success invalidates the URL (RFC 9111 §4.4)", admitted.head.method));
        return false;
    }
    let hooked: &[FieldName] = if admitted.head.headers.contains_key(VARIANT) {
        &[VARIANT]
    } else {
        &[]
    };
    let sees = Sees { route, hooked };
    if let Some(stray) = sees.stray(&admitted.head.headers, admitted.head.target.query()) {
        let reason = format!(
            "{stray} goes to the origin and is not in the key: put it there, forward it no more, or declare it in forward.unkeyed"
        );
        steps.add("key", "none", reason);
        return false;
    }
    key_step(plan, sees, admitted, steps);
    let directives = RequestDirectives::parse(&admitted.head.headers);
    look_up_step(route, &directives, steps);
    range_step(plan, route, admitted, steps);
    !(directives.no_store && route.cache.request_directives)
}

/// Phase 8: the key, and the question to the cache that has it.
fn key_step(plan: &Plan, sees: Sees<'_>, admitted: &Admitted, steps: &mut Steps<'_>) {
    let Sees { route, hooked } = sees;
    let variants = steps.variants.iter();
    let variants: Vec<(&str, &str)> = variants
        .map(|(name, variant)| (name.as_str(), variant.as_str()))
        .collect();
    let question = Question::of(plan, route, admitted, &variants, hooked, Vec::new());
    let parts = dimensions(plan, &sees, admitted, &variants);
    let mut text = key::describe(question.key.url());
    if !parts.is_empty() {
        let _ = write!(text, " and {}", parts.join(", "));
    }
    steps.add(
        "key",
        text,
        format!(
            "query {}; then the fields that Vary of the stored response names{}",
            table::select(&route.cache.key_query),
            if route.hooks.origin_request.is_empty() && route.hooks.origin_response.is_empty() {
                ""
            } else {
                ", and the values that its hooks read"
            }
        ),
    );
    // Holds the words to the bytes that serve.
    debug_assert!(!parts.is_empty() || question.key.dimensions().is_empty());
    steps.question = Some((route.id, question.owned()));
}

/// The parts of the key beside the URL, in words.
fn dimensions(
    plan: &Plan,
    sees: &Sees<'_>,
    admitted: &Admitted,
    variants: &[(&str, &str)],
) -> Vec<String> {
    let route = sees.route;
    let policy = &route.cache;
    let headers = &admitted.head.headers;
    let claims = admitted.claims.as_deref();
    let mut parts: Vec<String> = variants
        .iter()
        .map(|(name, variant)| format!("experiment {name}={variant}"))
        .collect();
    if let Some(image) = headers.get(VARIANT) {
        parts.push(format!(
            "image {}",
            String::from_utf8_lossy(image.as_bytes())
        ));
    }
    for claim in &policy.key_claims {
        parts.push(format!(
            "claim {claim}={}",
            claims.and_then(|claims| claims.claim(claim)).unwrap_or("")
        ));
    }
    let identity = sees.identity(claims);
    parts.extend(
        identity
            .iter()
            .map(|(name, _)| format!("identity {name}=…")),
    );
    parts.extend(policy.key_headers.iter().map(|name| {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        format!("header {name}={}", values.join(", "))
    }));
    if let Some(cookies) = &policy.key_cookies
        && *cookies != Select::None
    {
        parts.push(format!("cookies {}", table::select(cookies)));
    }
    if policy.accept_encoding {
        parts.push(format!("encoding {}", accept::normalised_encoding(headers)));
    }
    parts.extend(route.key_tag.iter().map(|tag| format!("route {tag}")));
    parts.extend(hooked::origin_hooks(
        plan,
        route,
        admitted.host(),
        admitted.viewer_path.path(),
    ));
    if !route.hooks.viewer_request.is_empty() {
        parts.push("the fields that viewer_request hooks set or remove".to_owned());
    }
    parts
}

/// Phase 9: the way in which the request's directives let it be answered.
fn look_up_step(route: &Route, directives: &RequestDirectives, steps: &mut Steps<'_>) {
    let honoured = route.cache.request_directives;
    let own = [
        ("no-store", directives.no_store),
        ("no-cache", directives.no_cache),
        ("only-if-cached", directives.only_if_cached),
        ("max-age", directives.max_age.is_some()),
        ("min-fresh", directives.min_fresh.is_some()),
        ("max-stale", directives.max_stale.is_some()),
    ];
    let said: Vec<&str> = own
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    let reason = match (said.is_empty(), honoured) {
        (true, _) => "the request has no cache directives".to_owned(),
        (false, true) => format!("the request says {} (RFC 9111 §5.2.1)", said.join(", ")),
        (false, false) => format!("the request's {} is ignored by the policy", said.join(", ")),
    };
    let decision = match (
        directives.only_if_cached && honoured,
        directives.no_cache && honoured,
    ) {
        (true, _) => "stored response or 504",
        (_, true) => "validate what is stored, else fetch",
        _ => "stored response if it is fresh, else fetch",
    };
    steps.add("look up", decision, reason);
}

/// The part of a large object that a request for a range has fetched.
fn range_step(plan: &Plan, route: &Route, admitted: &Admitted, steps: &mut Steps<'_>) {
    let policy = &route.cache;
    if !policy.slices
        || admitted.head.method != Method::GET
        || !admitted.head.headers.contains_key(header::RANGE)
    {
        return;
    }
    let decision = match policy.fill {
        Fill::Second => {
            "fetches the requested bytes of a large object that is not stored; a second request fills slices"
        }
        Fill::First => "fills slices of a large object that is not stored",
        Fill::Never => "fetches the requested bytes of an object that is not stored",
    };
    let bound = plan.limits.cache.fill_bytes;
    let reason = format!(
        "fill={:?} of the route's cache policy; one address has no more fetched a minute than {FACTOR} times what it \
         takes and {bound} bytes",
        policy.fill.as_str()
    );
    steps.add("range", decision, reason);
}

pub(super) fn fetch(
    plan: &Plan,
    route: &Route,
    group: GroupId,
    admitted: &Admitted,
    steps: &mut Steps<'_>,
) {
    let Some(group) = plan.group(group) else {
        return;
    };
    let name = |id: &OriginId| plan.origin(*id).map_or("?", |origin| &*origin.name);
    let key = hash_key(route, group, admitted);
    let order: MemberOrder = match key {
        Some(key) => balance::ranked(group, key),
        None => group.members.iter().copied().collect(),
    };
    let tried = attempts::tried(group, &order, &admitted.head.method);
    let by_turns = group.balance.is_spread() && key.is_none();
    let (decision, mut reason) = if by_turns {
        let names: Vec<&str> = order.iter().map(name).collect();
        (
            format!("one of {}", names.join(", ")),
            chosen(&group.balance, false),
        )
    } else {
        let names: Vec<&str> = tried.iter().map(name).collect();
        let reason = key.map_or_else(String::new, |_| chosen(&group.balance, true));
        (names.join(", then "), reason)
    };
    if !reason.is_empty() {
        reason.push_str("; ");
    }
    if tried.len() > 1 {
        let statuses: Vec<String> = group
            .failover_on
            .iter()
            .map(|status: &StatusCode| status.as_u16().to_string())
            .collect();
        let _ = write!(
            reason,
            "the next after no answer or {}, healthy ones first, for {} s in all",
            statuses.join(", "),
            plan.deadline(group).as_secs_f64()
        );
    } else if group.members.len() > 1 {
        let _ = write!(
            reason,
            "{} is not idempotent (RFC 9110 §9.2.2): it is sent once, unless no connection came about",
            admitted.head.method
        );
    } else {
        reason.push_str("the only member");
    }
    let forward = &route.forward;
    let sent = [
        ("query", &forward.query),
        ("headers", &forward.headers),
        ("cookies", &forward.cookies),
    ];
    for (what, select) in sent.iter().filter(|(_, select)| **select != Select::All) {
        let _ = write!(reason, "; {what} sent: {}", table::select(select));
    }
    if admitted.head.headers.contains_key(header::RANGE) && route.cache.enabled {
        reason.push_str("; a range is cut from the stored response where there is one");
    }
    steps.add("fetch", decision, reason);
}

fn hash_key(route: &Route, group: &Group, admitted: &Admitted) -> Option<HashKey> {
    let Balance::Hash(by) = &group.balance else {
        return None;
    };
    let (target, headers) = (&admitted.head.target, &admitted.head.headers);
    let address = admitted.client.address;
    let host = admitted.outer().host();
    HashKey::of(by, address, host, target, headers, &route.cache)
}

/// The way in which the first member is chosen, in words. `hashed`: the request has the part that is hashed.
fn chosen(balance: &Balance, hashed: bool) -> String {
    match balance {
        Balance::Order => String::new(),
        Balance::RoundRobin => {
            "balance=round_robin: each in its turn, as its weight says".to_owned()
        }
        Balance::LeastRequests => {
            "balance=least_requests: the one with the fewest requests of the worker under way"
                .to_owned()
        }
        Balance::Hash(by) if hashed => {
            format!("balance=hash by {by}: each value has its member")
        }
        Balance::Hash(by) => {
            format!("balance=hash by {by}, which the request does not have: each in its turn")
        }
    }
}

pub(super) fn store(route: &Route, verified: bool, stores: bool, steps: &mut Steps<'_>) {
    if !stores {
        if route.cache.enabled {
            steps.add("store", "no", "the request's method or no-store forbids it");
        }
        return;
    }
    let mut reason = table::cache(&route.cache);
    if let (true, Some(policy)) = (verified, &route.auth) {
        reason.push_str(if policy.shared {
            "; shared by everybody, as the token policy says"
        } else if !route.cache.key_claims.is_empty() {
            "; shared by those with the same claims"
        } else {
            "; behind a token only with public, s-maxage or must-revalidate (RFC 9111 §3.5)"
        });
    }
    steps.add("store", "if the response allows it (RFC 9111 §3)", reason);
}
