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
    let standard = CachePolicy::default();
    let Some(mut fields) = Fields::open(value, path, problems) else {
        return standard;
    };
    let enabled = fields.flag("enabled", standard.enabled);
    let ttl = fields.maybe_delta("ttl", standard.ttl);
    let default_ttl = fields.maybe_delta("default_ttl", standard.default_ttl);
    let min_ttl = fields.delta("min_ttl", standard.min_ttl);
    let max_ttl = fields.maybe_delta("max_ttl", standard.max_ttl);
    let heuristics = fields.flag("heuristics", standard.heuristics);
    let stale_while_revalidate = fields.maybe_delta("stale_while_revalidate", None);
    let stale_if_error = fields.maybe_delta("stale_if_error", None);
    let grace = fields.maybe_delta("grace", None);
    let sick_grace = fields.maybe_delta("sick_grace", None);
    let stale_when_disconnected =
        fields.delta("stale_when_disconnected", standard.stale_when_disconnected);
    let refresh_ahead = fields.flag("refresh_ahead", false);
    let beta = fields.number("refresh_beta", 1.0, 0.0, 1_000.0);
    let key_query = select(&mut fields, "query", standard.key_query, false);
    let listed = matches!(key_query, Select::Only(_) | Select::Except(_));
    let sort_query = match fields.some("sort_query") {
        None => listed,
        Some(_) => fields.flag("sort_query", listed),
    };
    let key_headers = names(&mut fields, "headers", Vec::new());
    let key_cookies = match fields.some("cookies") {
        None => None,
        Some(value) => select_of(&fields, "cookies", value, false),
    };
    let key_claims = fields
        .texts("claims")
        .into_iter()
        .filter(|(path, claim)| unstarred(path, claim, problems))
        .map(|(_, claim)| claim.into())
        .collect();
    let key_geo = places::facts(&mut fields, "geo");
    let compress = fields.flag("compress", standard.compress);
    let accept_encoding = fields.flag("accept_encoding", standard.accept_encoding);
    let choices = [
        ("refuse", SetCookiePolicy::Refuse),
        ("strip", SetCookiePolicy::Strip),
        ("store", SetCookiePolicy::Store),
    ];
    let mut accept_language = false;
    for (path, text) in fields.texts("normalise") {
        if text.eq_ignore_ascii_case("accept-language") {
            accept_language = true;
        } else {
            let message =
                "must be \"accept-language\"; Accept-Encoding is normalised by accept_encoding";
            problems.add(path, Some(format!("{text:?}")), message);
        }
    }
    let set_cookie = fields.choice("set_cookie", &choices, standard.set_cookie);
    let mut negative_ttl = Vec::new();
    for (path, key, value) in fields.map("negative_ttl") {
        let status = status_key(&path, key, problems);
        let seconds = fields.delta_of(&format!("negative_ttl.{key}"), value);
        negative_ttl.extend(status.zip(seconds));
    }
    let extension_guard = fields.flag("extension_guard", standard.extension_guard);
    let request_directives = fields.flag("request_directives", standard.request_directives);
    let collapse = fields.flag("collapse", standard.collapse);
    let slices = fields.flag("slices", standard.slices);
    let fills = [Fill::Second, Fill::First, Fill::Never].map(|fill| (fill.as_str(), fill));
    let fill = fields.choice("fill", &fills, standard.fill);
    if !slices && fill != standard.fill {
        problems.add(
            fields.at("fill"),
            Some(format!("{:?}", fill.as_str())),
            "has no effect where slices is false: leave one of them out",
        );
    }
    let targets = names(&mut fields, "targets", standard.targets);
    let tags = names(&mut fields, "tags", standard.tags);
    let send_tags = fields.flag("send_tags", false);
    let status_key = fields.flag("status_key", standard.status_key);
    if let Some(most) = max_ttl.filter(|most| *most < min_ttl) {
        problems.add(
            fields.at("min_ttl"),
            Some(min_ttl.to_string()),
            format!("must be ≤ max_ttl, which is {most}"),
        );
    }
    if let (Some(healthy), Some(sick)) = (grace, sick_grace)
        && sick < healthy
    {
        problems.add(
            fields.at("sick_grace"),
            Some(sick.to_string()),
            format!("must be ≥ grace, which is {healthy}: an unhealthy origin gets more time"),
        );
    }
    let winner = match (stale_if_error, sick_grace) {
        (Some(_), _) => Some("stale_if_error"),
        (None, Some(_)) => Some("sick_grace"),
        (None, None) => None,
    };
    if let Some(winner) = winner
        && ![0, standard.stale_when_disconnected].contains(&stale_when_disconnected)
    {
        problems.add(
            fields.at("stale_when_disconnected"),
            Some(stale_when_disconnected.to_string()),
            format!("has no effect beside {winner}, which wins over it: leave one of them out"),
        );
    }
    fields.end();
    CachePolicy {
        enabled,
        ttl,
        default_ttl,
        min_ttl,
        max_ttl,
        heuristics,
        stale_while_revalidate,
        stale_if_error,
        grace,
        sick_grace,
        stale_when_disconnected,
        refresh_ahead: refresh_ahead.then_some(beta),
        key_query,
        sort_query,
        key_headers,
        key_cookies,
        key_claims,
        key_geo,
        compress,
        accept_encoding,
        accept_language,
        set_cookie,
        negative_ttl,
        extension_guard,
        request_directives,
        collapse,
        slices,
        fill,
        targets,
        tags,
        send_tags,
        status_key,
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
