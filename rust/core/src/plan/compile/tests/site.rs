//! Fields of the site as a whole.

use super::*;
use crate::{
    plan::{CachePolicy, ForwardPolicy, database_server::ServerPlace},
    trace::{Believed, ShownTo},
};

#[test]
fn a_plan_with_every_field_compiles_to_what_it_says() {
    let plan = compiled(&full());
    assert_eq!((&*plan.name, plan.trusted_proxies.len()), ("storefront", 2));
    assert!(plan.fetch.allows(Scheme::Https, "api.example.com", 443));
    assert!(plan.fetch.allows(Scheme::Http, "a.internal.example", 8080));
    assert!(!plan.fetch.allows(Scheme::Http, "api.example.com", 443));
    let network = "10.1.2.3".parse().unwrap();
    assert!(plan.fetch.networks.contains(network));
    let tracing = plan.tracing.as_ref().unwrap();
    assert_eq!(
        (tracing.endpoint.as_deref(), tracing.errors, tracing.slow),
        (
            Some("https://collector.example.com/v1/traces"),
            false,
            Some(std::time::Duration::from_millis(250))
        )
    );
    assert_eq!(
        (tracing.believe, tracing.server_timing, tracing.queue_spans),
        (Believed::Everybody, ShownTo::Debug, 1024)
    );
    assert!(tracing.admits(b"open") && tracing.threshold == 1 << 55);
    assert_eq!(tracing.headers.len(), 1);
    assert!(!format!("{tracing:?}").contains("Bearer"));
    let last = tracing.resource.last().unwrap();
    assert_eq!(
        (&*last.0, &*last.1),
        ("deployment.environment.name", "production")
    );
    let disk = plan.disk_cache.as_ref().unwrap();
    assert_eq!(disk.path.to_str(), Some("/var/cache/edgerouter"));
    assert_eq!(
        (disk.size, disk.segment_bytes, disk.queue_bytes),
        (20 << 30, Some(64 << 20), 16 << 20)
    );
    let fields: Vec<&str> = plan.edge_fields.iter().map(FieldName::as_str).collect();
    assert_eq!(
        fields,
        [
            "x-user-id",
            "x-user-role",
            "x-variant",
            "client-cert",
            "x-client-subject",
            "x-tier",
            "x-home-settings",
            "x-home",
            "cloudfront-viewer-country",
            "cloudfront-viewer-city",
            "x-geo-eu"
        ]
    );
}

#[test]
fn every_field_of_a_binding_is_read() {
    let plan = compiled(&full());
    let [binding, database, libsql] = plan.bindings.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&*binding.name, binding.kind.as_str()),
        ("EXPERIMENTS", "kv")
    );
    assert_eq!(binding.staleness.as_millis(), 2_500);
    assert_eq!(
        database.replicas[0].place,
        ServerPlace::Host("db-near.example.com".into(), 5432)
    );
    let key = database.bookmark_key.as_ref().unwrap();
    assert_eq!(
        (database.staleness.as_secs(), key.as_bytes().len()),
        (20, 32)
    );
    let token = libsql.auth_token.as_ref().unwrap();
    assert_eq!(token.as_bytes(), b"eyJhbGciOi");
    assert!(!format!("{plan:?}").contains("password@"));
}

#[test]
fn each_limit_of_a_plan_is_read_by_its_name() {
    let read = format!("{:?}", compiled(&full()).limits);
    for (group, fields) in full()["limits"].as_object().unwrap() {
        for (name, value) in fields.as_object().unwrap() {
            let optional = format!("{name}: Some({value})");
            let per_client = format!("{name}: PerClient {{ most: {value}, set: true }}");
            let is_read = [format!("{name}: {value}"), optional, per_client]
                .iter()
                .any(|text| read.contains(text));
            assert!(is_read, "limits.{group}.{name}: {value} in {read}");
        }
    }
}

#[test]
fn the_smallest_plan_has_the_documented_defaults() {
    let mut smallest = with_route(&json!({}));
    let plan = compiled(&smallest);
    let route = &plan.routes[0];
    smallest["limits"] = serde_json::from_str(include_str!("../default_limits.json")).unwrap();
    assert_eq!(plan.limits, compiled(&smallest).limits);
    assert_eq!(route.cache, CachePolicy::default());
    assert_eq!(
        route.forward,
        ForwardPolicy {
            query: Select::All,
            headers: Select::All,
            cookies: Select::All,
            unkeyed: Default::default(),
            strays: false,
        }
    );
    assert!(route.key_tag.is_none() && route.hosts.is_empty() && route.methods.is_empty());
}

#[test]
fn a_mistake_in_the_site_is_reported_at_its_place() {
    for (plan, want) in [
        (json!({"name": "a b"}), "name: \"a b\": must be 1 to 64"),
        (json!({}), "name: is required"),
        (json!([]), "must be an object, not a list"),
        (json!({"name": "t", "version": 2}), "version: 2: must be 1"),
        (
            json!({"name": "t", "rutes": []}),
            "rutes: is not a field; did you mean routes?",
        ),
        (
            json!({"name": "t", "trusted_proxies": ["10.0.0.0/33"]}),
            "trusted_proxies[0]: \"10.0.0.0/33\": must be an address",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": []}]}),
            "groups[0].members: must name at least one origin",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": ["x"]}]}),
            "groups[0].members[0]: \"x\": is not an origin",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": ["h"]}, {"name": "h", "members": ["g"]}]}),
            "groups[0].members[0]: \"h\": is a group; the members of a group are origins",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": ["http://x"]}]}),
            "groups[0].members[0]: \"http://x\": is a URL; declare its server as an origin",
        ),
        (
            json!({"name": "t", "hooks": [{"phase": "viewer", "pattern": "/*", "call": 0}]}),
            "hooks[0].call: 0: is not the index of a callable; there are 0",
        ),
        (
            json!({"name": "t", "limits": {"http": {"head_bytes": 1}}}),
            "limits.http.head_bytes: 1: must be ≥ 1024",
        ),
    ] {
        assert_refused(&plan, want);
    }
    assert!(
        compile(b"{").unwrap_err()[0]
            .message
            .starts_with("the plan is not JSON")
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let got = problems(&json!({
        "name": "t",
        "origins": [{"name": "o", "url": "x"}, {"name": "o"}],
        "hooks": [{"phase": "viewer_reqest", "pattern": "/*", "call": 0}],
        "routes": [
            {"pattern": "/a", "to": "nowhere", "cache": {"ttl": -1, "min_ttl": "x"}},
            {"pattern": "b", "to": "o"},
            7,
        ],
    }));
    assert_eq!(got.len(), 10, "{got:#?}");
}
