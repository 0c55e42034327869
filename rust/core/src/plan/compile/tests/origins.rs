//! Origins and groups.

use super::*;
use crate::plan::{TlsVersion, UpstreamHost};

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
    assert_eq!(groups, [("site", 2), ("backup", 1), ("primary", 1)]);
    assert!(plan.groups[1].failover_on.is_empty());
    let deadlines =
        [&plan.groups[0], &plan.groups[1]].map(|group| plan.deadline(group).as_millis());
    assert_eq!(deadlines, [12_500, 37_000], "said, and worked out");
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
