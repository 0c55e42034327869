//! `CACHE`.

use serde_json::Value;

use super::{
    headers::{header_name, select, select_of, status_key, unstarred},
    places,
    reader::{Fields, Problems},
};
use crate::{
    cache::fill::Fill,
    plan::{CachePolicy, Select, SetCookiePolicy},
};

pub(super) fn cache(value: &Value, path: String, problems: &Problems) -> CachePolicy {
    let mut policy = CachePolicy::default();
    let Some(mut fields) = Fields::open(value, path, problems) else {
        return policy;
    };
    policy.enabled = fields.flag("enabled", policy.enabled);
    lifetimes(&mut fields, &mut policy);
    key(&mut fields, &mut policy);
    policy.compress = fields.flag("compress", policy.compress);
    policy.accept_encoding = fields.flag("accept_encoding", policy.accept_encoding);
    policy.accept_language = normalises_language(&mut fields);
    let set_cookie = [
        ("refuse", SetCookiePolicy::Refuse),
        ("strip", SetCookiePolicy::Strip),
        ("store", SetCookiePolicy::Store),
    ];
    policy.set_cookie = fields.choice("set_cookie", &set_cookie, policy.set_cookie);
    for (path, key, value) in fields.map("negative_ttl") {
        let status = status_key(&path, key, problems);
        let seconds = fields.delta_of(&format!("negative_ttl.{key}"), value);
        policy.negative_ttl.extend(status.zip(seconds));
    }
    policy.extension_guard = fields.flag("extension_guard", policy.extension_guard);
    policy.request_directives = fields.flag("request_directives", policy.request_directives);
    policy.collapse = fields.flag("collapse", policy.collapse);
    policy.slices = fields.flag("slices", policy.slices);
    let fills = [Fill::Second, Fill::First, Fill::Never].map(|fill| (fill.as_str(), fill));
    policy.fill = fields.choice("fill", &fills, policy.fill);
    policy.targets = names(&mut fields, "targets", policy.targets);
    policy.tags = names(&mut fields, "tags", policy.tags);
    policy.send_tags = fields.flag("send_tags", policy.send_tags);
    policy.status_key = fields.flag("status_key", policy.status_key);
    fits(&policy, &fields);
    fields.end();
    policy
}

/// How long responses are fresh, and may be used when they no longer are.
fn lifetimes(fields: &mut Fields<'_>, policy: &mut CachePolicy) {
    policy.ttl = fields.maybe_delta("ttl", policy.ttl);
    policy.default_ttl = fields.maybe_delta("default_ttl", policy.default_ttl);
    policy.min_ttl = fields.delta("min_ttl", policy.min_ttl);
    policy.max_ttl = fields.maybe_delta("max_ttl", policy.max_ttl);
    policy.heuristics = fields.flag("heuristics", policy.heuristics);
    policy.stale_while_revalidate = fields.maybe_delta("stale_while_revalidate", None);
    policy.stale_if_error = fields.maybe_delta("stale_if_error", None);
    policy.grace = fields.maybe_delta("grace", None);
    policy.sick_grace = fields.maybe_delta("sick_grace", None);
    let disconnected = policy.stale_when_disconnected;
    policy.stale_when_disconnected = fields.delta("stale_when_disconnected", disconnected);
    let refresh_ahead = fields.flag("refresh_ahead", false);
    let beta = fields.number("refresh_beta", 1.0, 0.0, 1_000.0);
    policy.refresh_ahead = refresh_ahead.then_some(beta);
}

/// The parts of a request that select its response.
fn key(fields: &mut Fields<'_>, policy: &mut CachePolicy) {
    policy.key_query = select(fields, "query", policy.key_query.clone(), false);
    let listed = matches!(policy.key_query, Select::Only(_) | Select::Except(_));
    policy.sort_query = match fields.some("sort_query") {
        None => listed,
        Some(_) => fields.flag("sort_query", listed),
    };
    policy.key_headers = names(fields, "headers", Vec::new());
    policy.key_cookies = match fields.some("cookies") {
        None => None,
        Some(value) => select_of(fields, "cookies", value, false),
    };
    policy.key_claims = fields
        .texts("claims")
        .into_iter()
        .filter(|(path, claim)| unstarred(path, claim, fields.problems))
        .map(|(_, claim)| claim.into())
        .collect();
    policy.key_geo = places::facts(fields, "geo");
}

fn normalises_language(fields: &mut Fields<'_>) -> bool {
    let mut normalises = false;
    for (path, text) in fields.texts("normalise") {
        if text.eq_ignore_ascii_case("accept-language") {
            normalises = true;
        } else {
            let message =
                "must be \"accept-language\"; Accept-Encoding is normalised by accept_encoding";
            fields
                .problems
                .add(path, Some(format!("{text:?}")), message);
        }
    }
    normalises
}

/// Reports fields that contradict one another, or have no effect beside others.
fn fits(policy: &CachePolicy, fields: &Fields<'_>) {
    let standard = CachePolicy::default();
    let report = |field, value: String, why: String| {
        fields.problems.add(fields.at(field), Some(value), why);
    };
    if !policy.slices && policy.fill != standard.fill {
        let why = "has no effect where slices is false: leave one of them out";
        report(
            "fill",
            format!("{:?}", policy.fill.as_str()),
            why.to_owned(),
        );
    }
    if let Some(most) = policy.max_ttl.filter(|most| *most < policy.min_ttl) {
        let why = format!("must be ≤ max_ttl, which is {most}");
        report("min_ttl", policy.min_ttl.to_string(), why);
    }
    if let (Some(healthy), Some(sick)) = (policy.grace, policy.sick_grace)
        && sick < healthy
    {
        let why =
            format!("must be ≥ grace, which is {healthy}: an unhealthy origin gets more time");
        report("sick_grace", sick.to_string(), why);
    }
    let winner = match (policy.stale_if_error, policy.sick_grace) {
        (Some(_), _) => Some("stale_if_error"),
        (None, Some(_)) => Some("sick_grace"),
        (None, None) => None,
    };
    let disconnected = policy.stale_when_disconnected;
    if let Some(winner) = winner
        && ![0, standard.stale_when_disconnected].contains(&disconnected)
    {
        let why =
            format!("has no effect beside {winner}, which wins over it: leave one of them out");
        report("stale_when_disconnected", disconnected.to_string(), why);
    }
}

/// A list of field names.
fn names(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: Vec<crate::http::FieldName>,
) -> Vec<crate::http::FieldName> {
    match fields.raw(name) {
        None => default,
        Some(value) => {
            let items = fields.list_of(name, value);
            let texts = fields.only_texts(items);
            texts
                .into_iter()
                .filter_map(|(path, text)| header_name(&path, text, fields.problems))
                .collect()
        }
    }
}
