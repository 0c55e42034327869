//! Origins and groups.

use super::*;
use crate::{
    http::FieldName,
    plan::{Balance, HashBy, TlsVersion, UpstreamHost},
};

#[test]
fn every_field_of_an_origin_is_read() {
    let plan = compiled(&full());
    let [primary, backup] = plan.origins.as_slice() else {
        panic!()
    };
    assert_eq!(
        (primary.scheme, &*primary.host, primary.port),
        (Scheme::Https, "primary.example.com", 443)
    );
    assert_eq!(
        (primary.authority.to_str().unwrap(), &*primary.path_prefix),
        ("primary.example.com", "/base")
    );
    assert_eq!(primary.upstream_host, UpstreamHost::Viewer);
    assert_eq!(
        (
            &*backup.host,
            backup.port,
            backup.authority.to_str().unwrap(),
            &*backup.path_prefix
        ),
        ("::1", 9001, "[::1]:9001", "")
    );
}

#[test]
fn every_term_of_tls_with_an_origin_is_read() {
    let plan = compiled(&full());
    let origin = plan
        .origins
        .iter()
        .find(|origin| origin.tls.client.is_some());
    let terms = &origin.unwrap().tls;
    let shown = terms.client.as_ref().unwrap();
    assert_eq!(shown.key.as_bytes(), b"-----BEGIN PRIVATE KEY-----");
    assert_eq!(terms.versions, [TlsVersion::Tls13]);
    assert_eq!(terms.pins, [[0; 32]]);
}

#[test]
fn each_origin_has_a_group_of_its_own_after_the_declared_ones() {
    let plan = compiled(&full());
    // Functions may name it, too.
    let groups: Vec<(&str, usize)> = plan
        .groups
        .iter()
        .map(|group| (&*group.name, group.members.len()))
        .collect();
    assert_eq!(
        groups,
        [("site", 2), ("api", 2), ("backup", 1), ("primary", 1)]
    );
    assert!(plan.groups[2].failover_on.is_empty());
    let deadlines =
        [&plan.groups[0], &plan.groups[2]].map(|group| plan.deadline(group).as_millis());
    assert_eq!(deadlines, [12_500, 37_000], "said, and worked out");
}

#[test]
fn a_group_knows_how_its_requests_are_spread() {
    let plan = compiled(&full());
    let [site, api, ..] = plan.groups.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&site.balance, site.shares.len()),
        (&Balance::Order, 0),
        "by default"
    );
    assert_eq!(api.balance, Balance::Hash(HashBy::Cookie("sid".into())));
    let weights: Vec<u32> = api.shares.iter().map(|share| share.weight).collect();
    assert_eq!(weights, [1, 2]);
    assert_ne!(api.shares[0].seed, api.shares[1].seed);
    for (by, want) in [
        (json!(null), HashBy::Url),
        (json!("url"), HashBy::Url),
        (json!("address"), HashBy::Address),
        (json!("header:X-User"), {
            HashBy::Header(FieldName::from_bytes(b"x-user").unwrap())
        }),
    ] {
        let plan = compiled(&spread(&json!({"balance": "hash", "by": by})));
        assert_eq!(plan.groups[0].balance, Balance::Hash(want));
    }
}

#[test]
fn a_group_that_is_spread_has_the_time_of_its_slowest_member() {
    let mut plan = spread(&json!({"balance": "round_robin"}));
    plan["origins"][1]["first_byte_timeout"] = json!(60);
    let deadline = |plan: &Value| {
        let plan = compiled(plan);
        plan.deadline(&plan.groups[0]).as_secs()
    };
    assert_eq!(deadline(&plan), 67);
    plan["groups"][0]["deadline"] = json!(4);
    assert_eq!(deadline(&plan), 4, "its own");
    plan["groups"][0] = json!({"name": "g", "members": ["a", "b"]});
    assert_eq!(deadline(&plan), 37, "in order: of the first");
}

/// A plan with a group of two that has these fields.
fn spread(fields: &Value) -> Value {
    let mut group = json!({"name": "g", "members": ["a", "b"]});
    for (name, value) in fields.as_object().unwrap() {
        if !value.is_null() {
            group[name] = value.clone();
        }
    }
    json!({
        "name": "t",
        "origins": [{"name": "a", "url": "http://a"}, {"name": "b", "url": "http://b"}],
        "groups": [group],
    })
}

#[test]
fn a_mistake_in_the_balance_of_a_group_is_reported_with_its_remedy() {
    for (fields, want) in [
        (
            json!({"balance": "round-robin"}),
            "groups[0].balance: \"round-robin\": must be one of \"order\", \"round_robin\", \"least_requests\" or \
             \"hash\"; did you mean round_robin?",
        ),
        (
            json!({"balance": "hash", "by": "ip"}),
            "groups[0].by: \"ip\": must be \"url\", \"address\", \"header:NAME\" or \"cookie:NAME\"",
        ),
        (
            json!({"balance": "hash", "by": "cookie:"}),
            "groups[0].by: \"cookie:\": must be \"url\"",
        ),
        (
            json!({"balance": "hash", "by": "header:a b"}),
            "groups[0].by: \"a b\": is not a field name",
        ),
        (
            json!({"balance": "round_robin", "by": "url"}),
            "groups[0].by: is the part of a request that is hashed, and needs balance \"hash\"",
        ),
        (
            json!({"weights": {"a": 2}}),
            "groups[0].weights: needs balance \"round_robin\", \"least_requests\" or \"hash\"",
        ),
        (
            json!({"balance": "round_robin", "weights": {"bb": 2}}),
            "groups[0].weights.bb: 2: is not a member",
        ),
        (
            json!({"balance": "round_robin", "weights": {"a": 0, "b": 0}}),
            "groups[0].weights: must leave a member with a weight above 0",
        ),
        (
            json!({"balance": "hash", "weights": {"a": 65_536}}),
            "groups[0].weights.a: 65536: must be ≤ 65535",
        ),
        (
            json!({"balance": "hash", "weights": {"a": 0.5}}),
            "groups[0].weights.a: 0.5: must be a whole number",
        ),
        (
            json!({"balance": "hash", "weights": ["a"]}),
            "groups[0].weights: must be an object, not a list",
        ),
    ] {
        assert_refused(&spread(&fields), want);
    }
}

#[test]
fn a_mistake_in_an_origin_is_reported_at_its_place() {
    for (origin, want) in [
        (
            json!({"url": "127.0.0.1:80"}),
            "origins[0].url: \"127.0.0.1:80\": must start with http:// or https://, as in \"http://127.0.0.1:80\"",
        ),
        (
            json!({"url": "ftp://x"}),
            "origins[0].url: \"ftp://x\": must be http or https",
        ),
        (
            json!({"url": "http://u:hunter2@x"}),
            "origins[0].url: must have no user or password",
        ),
        (
            json!({"url": "http://x/?a"}),
            "origins[0].url: \"http://x/?a\": must have no query",
        ),
        (
            json!({"url": "http://x:99999"}),
            "must have a port from 1 to 65535",
        ),
        (
            json!({"url": "http://::1/"}),
            "must have an IPv6 address in brackets",
        ),
        (json!({"url": "http:///x"}), "must have a host name"),
        (json!({"url": ""}), "origins[0].url: must not be empty"),
        (
            json!({"connect_timeout": 0}),
            "origins[0].connect_timeout: 0: must be > 0 seconds",
        ),
        (
            json!({"connect_timeout": 5e-324}),
            "origins[0].connect_timeout: 5e-324: must be ≥ 0.000000001 seconds",
        ),
        (
            json!({"health": {"path": "/", "interval": 1e-4}}),
            "origins[0].health.interval: 0.0001: must be ≥ 0.001 seconds",
        ),
        (
            json!({"connect_timeout": -1}),
            "origins[0].connect_timeout: -1: must be > 0 seconds",
        ),
        (
            json!({"connect_timeout": 1e300}),
            "must be ≤ 604800 seconds",
        ),
        (
            json!({"idle_timeout": -1}),
            "origins[0].idle_timeout: -1: must be ≥ 0 seconds",
        ),
        (
            json!({"retries": 11}),
            "origins[0].retries: 11: must be ≤ 10",
        ),
        (
            json!({"url": "https://x", "tls_versions": ["TLSv1.1"]}),
            "origins[0].tls_versions[0]: \"TLSv1.1\": must be one of \"TLSv1.2\" or \"TLSv1.3\"",
        ),
        (
            json!({"url": "https://x", "tls_versions": []}),
            "origins[0].tls_versions: must have at least one of",
        ),
        (
            json!({"url": "https://x", "tls_pins": ["sha256//AAAA"]}),
            "origins[0].tls_pins[0]: \"sha256//AAAA\": must be sha256//",
        ),
        (
            json!({"tls_versions": ["TLSv1.3"]}),
            "origins[0].tls_versions: is for https origins",
        ),
        (
            json!({"url": "https://x", "tls_certificate": {"chain": {"value": "c"}}}),
            "origins[0].tls_certificate.key: is required",
        ),
        (
            json!({"host": "a b"}),
            "origins[0].host: \"a b\": must be \"origin\", \"viewer\" or a host",
        ),
        (
            json!({"headers": {"Host": "www.example.com"}}),
            "origins[0].headers.host: is what the field host of the origin says: set host",
        ),
        (
            json!({"headers": {"x-key": "hunter2\n"}}),
            "origins[0].headers.x-key: has a control character",
        ),
        (
            json!({"tls_verify": false}),
            "origins[0].tls_verify: is for https origins",
        ),
        (
            json!({"health": {"path": "x"}}),
            "origins[0].health.path: \"x\": must be a path",
        ),
        (
            json!({"health": {"path": "/", "status": [99]}}),
            "origins[0].health.status[0]: 99: must be a status code",
        ),
        (
            json!({"name": "a b"}),
            "origins[0].name: \"a b\": must be 1 to 64 letters",
        ),
        (
            json!({"name": "taken"}),
            "groups[0].name: \"taken\": is the name of origins[0] already",
        ),
    ] {
        let mut whole = json!({"name": "o", "url": "http://x"});
        for (key, value) in origin.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let member = whole["name"].clone();
        let plan = json!({"name": "t", "origins": [whole], "groups": [{"name": "taken", "members": [member]}]});
        assert_refused(&plan, want);
    }
}
