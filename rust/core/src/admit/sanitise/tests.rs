#![allow(clippy::unwrap_used)]
use http::HeaderValue;

use super::*;

fn headers(names: &[&str]) -> Fields {
    names
        .iter()
        .map(|name| {
            let name = FieldName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_static("1"))
        })
        .collect()
}

/// The rows of the table in docs: `| field, field | client | trusted proxy |`.
fn rows() -> Vec<(String, bool, bool)> {
    let page = include_str!("../../../../../docs/request-fields.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, fields, client, proxy, ..] = cells.as_slice() else {
            return None;
        };
        fields.starts_with('`').then(|| {
            fields
                .split(',')
                .map(|field| {
                    let name = field.trim().trim_matches('`').replace('*', "anything");
                    (name.to_lowercase(), *client == "passes", *proxy == "passes")
                })
                .collect::<Vec<_>>()
        })
    });
    rows.flatten().collect()
}

#[test]
fn the_table_in_the_docs_is_true() {
    let rows = rows();
    let edge = [FieldName::from_static("x-team")];
    for (name, client, proxy) in &rows {
        for (trusted_peer, passes) in [(false, client), (true, proxy)] {
            let rule = Sanitiser {
                edge_fields: &edge,
                proxy_fields: &[],
                trusted_peer,
            };
            assert_eq!(!rule.forbids(name), *passes, "{name} {trusted_peer}");
            if !client {
                assert!(
                    rule.forbids(&name.replace('-', "_")) || !name.contains('-'),
                    "{name}"
                );
            }
        }
    }
    let lists = EDGE_FIELDS.iter().chain(&NAMED).chain(&PROXY);
    for name in lists {
        let prefixed = name.starts_with(EDGE_PREFIX);
        assert!(
            prefixed || rows.iter().any(|(row, ..)| row == name),
            "{name} is not in the docs"
        );
    }
    for prefix in PROXY_PREFIXES.iter().chain([&EDGE_PREFIX, &NAMED_PREFIX]) {
        let name = format!("{prefix}anything");
        assert!(
            rows.iter().any(|(row, ..)| *row == name),
            "{prefix}* is not in the docs"
        );
    }
}

#[test]
fn a_trusted_proxy_sets_what_the_plan_names() {
    let named = ["cf-ipcountry".into(), "cloudfront-viewer-*".into()];
    for (trusted_peer, name, forbidden) in [
        (true, "cf-ipcountry", false),
        (true, "cf_ipcountry", true),
        (true, "cloudfront-viewer-country", false),
        (true, "cf-connecting-ip", true),
        (false, "cf-ipcountry", true),
        (true, "x-user-id", true),
        (true, "x-forwarded-for", false),
        (true, "x_forwarded_for", true),
    ] {
        let rule = Sanitiser {
            edge_fields: &[],
            proxy_fields: &named,
            trusted_peer,
        };
        assert_eq!(rule.forbids(name), forbidden, "{trusted_peer} {name}");
    }
}

#[test]
fn the_client_s_twins_of_a_set_field_go() {
    for (set, given, left) in [
        (
            "x-api-key",
            &["x-api-key", "x_api_key", "x-api_key"][..],
            &["x-api-key"][..],
        ),
        ("x_api_key", &["x_api_key", "x-api-key"], &["x_api_key"]),
        (
            "x-api-key",
            &["x_api_keys", "y_api_key"],
            &["x_api_keys", "y_api_key"],
        ),
    ] {
        let mut some = headers(given);
        without_twins(&mut some, &FieldName::from_bytes(set.as_bytes()).unwrap());
        assert_eq!(some, headers(left), "{set}");
    }
    let mut removed = headers(&["x_debug", "x-debug-id"]);
    without_twins(&mut removed, &FieldName::from_static("x-debug"));
    assert_eq!(removed, headers(&["x-debug-id"]));
    let before = headers(&[
        "x_token", "x-gone", "x_gone", "x_kept", "x-plain", "x_plain",
    ]);
    let mut after = headers(&["x_token", "x-token", "x_gone", "x_kept", "x-plain"]);
    without_twins_of_changes(&before, &mut after);
    assert_eq!(after, headers(&["x-token", "x_kept", "x-plain"]));
}

#[test]
fn trailers_that_may_come_are_those_announced_and_new() {
    for (announced, want) in [
        ("x-sum, X-Sum, x_sum", "x-sum"),
        ("content-length, host, authorization, x-sum", "x-sum"),
        ("x-known, x_known", ""),
        ("x-refused", ""),
        ("not a token, x-sum", "x-sum"),
        ("", ""),
    ] {
        let mut head = headers(&["x-known"]);
        head.insert(
            header::TRAILER,
            http::HeaderValue::from_str(announced).unwrap(),
        );
        let names = trailers(&mut head, |name| name != "x-refused");
        let left = head
            .get(header::TRAILER)
            .map_or("", |value| value.to_str().unwrap());
        assert_eq!(
            (left, names.len()),
            (want, usize::from(!want.is_empty())),
            "{announced}"
        );
    }
}
