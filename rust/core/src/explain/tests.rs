#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::plan::compile;

fn plan() -> Plan {
    let plan = json!({
        "name": "storefront",
        "trusted_proxies": ["10.0.0.0/8"],
        "origins": [{"name": "primary", "url": "http://a"}, {"name": "backup", "url": "http://b"}],
        "groups": [
            {"name": "site", "members": ["primary", "backup"]},
            {"name": "turns", "members": ["primary", "backup"], "balance": "round_robin"},
            {"name": "fewest", "members": ["primary", "backup"], "balance": "least_requests"},
            {"name": "hashed", "members": ["primary", "backup"], "balance": "hash", "by": "cookie:sid"},
        ],
        "callables": [{"name": "app.hello"}, {"name": "app.tag"}],
        "hooks": [{"phase": "origin_request", "pattern": "/legacy/*", "call": 1}],
        "routes": [
            {"pattern": "/static/*", "to": "site", "cache": {"query": "none", "cookies": "none", "accept_encoding": true, "request_directives": false}},
            {"pattern": "/api/*", "to": "site", "cache": {"enabled": false}, "viewer": "https-only",
             "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}},
            {"pattern": "/*", "to": "site", "index": "index.html", "viewer": "redirect-to-https",
             "experiments": [{"name": "home", "variants": [["control", 50], ["treatment", 50]]}]},
            {"pattern": "/hello/{name}", "function": 0},
            {"pattern": "/old/{rest:path}", "redirect": {"location": "/new/{rest}", "status": 301}},
            {"pattern": "/form", "methods": ["POST"], "to": "site"},
            {"pattern": "/guarded/*", "to": "site", "addresses": {"allow": ["127.0.0.0/8", "10.0.0.0/8"]},
             "cors": {"origins": ["https://app.test"]}, "rate_limits": [{"name": "api", "requests": 5, "per": 10}]},
            {"pattern": "/turns/*", "to": "turns"},
            {"pattern": "/fewest/*", "to": "fewest"},
            {"pattern": "/hashed/*", "to": "hashed"},
            {"pattern": "only.example/*", "methods": ["PUT"], "priority": 1, "to": "site"},
        ],
    });
    compile(&serde_json::to_vec(&plan).unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn told(method: &str, url: &str, headers: &[(&str, &str)]) -> String {
    told_to([127, 0, 0, 1], method, url, headers)
}

fn told_to(client: [u8; 4], method: &str, url: &str, headers: &[(&str, &str)]) -> String {
    let request = ExplainRequest {
        method: method.into(),
        url: url.into(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        client: client.into(),
        scheme: None,
        places: None,
        readings: Default::default(),
        response: None,
    };
    explain(&plan(), &request, 1_800_000_000)
        .steps
        .iter()
        .map(|step| format!("{}: {} ({})\n", step.phase, step.decision, step.reason))
        .collect()
}

#[test]
fn each_decision_is_told_with_its_reason() {
    for (method, url, headers, wants) in [
        (
            "GET",
            "https://h/",
            &[][..],
            &[
                "admit: GET h/",
                "route: /* (the only",
                "bucket: home: any (by chance",
                "viewer: / becomes /index.html",
                "key: https://h/index.html and experiment home=any",
                "look up: stored response if it is fresh",
                "fetch: primary, then backup",
                "store: if the response",
            ][..],
        ),
        (
            "GET",
            "http://h/",
            &[],
            &["viewer: 301 to https://h/ (viewer policy redirect-to-https"],
        ),
        ("POST", "http://h/x", &[], &["viewer: 308 to https://h/x"]),
        (
            "GET",
            "https://h/",
            &[("cookie", "ab-variant=treatment")],
            &["bucket: home: treatment (the cookie ab-variant"],
        ),
        (
            "GET",
            "https://h/static/a%7eb?c",
            &[("x-user-id", "1"), ("accept-encoding", "br")],
            &[
                "GET h/static/a~b?c",
                "removed, since only the edge may set them: x-user-id",
                "route: /static/* (before /* because its literal prefix is longer",
                "key: https://h/static/a~b and encoding br",
            ],
        ),
        (
            "GET",
            "https://h/static/a",
            &[("cache-control", "no-store")],
            &[
                "the request's no-store is ignored by the policy",
                "store: if",
            ],
        ),
        ("GET", "http://h/api/x", &[], &["viewer: 403"]),
        (
            "GET",
            "https://h/guarded/x",
            &[("origin", "https://app.test")],
            &[
                "route: served (127.0.0.1 is allowed by the route's addresses)",
                "viewer: readable for pages of https://app.test (the route's cors)",
                "identify: rate limit api (5 requests in 10 s by address; counts are not read here)",
            ],
        ),
        (
            "OPTIONS",
            "https://h/guarded/x",
            &[
                ("origin", "https://app.test"),
                ("access-control-request-method", "GET"),
            ],
            &["viewer: 204 (the route's cors answers the preflight, before any token is read)"],
        ),
        (
            "OPTIONS",
            "https://h/guarded/x",
            &[
                ("origin", "https://other.test"),
                ("access-control-request-method", "GET"),
            ],
            &["viewer: 403 (the preflight's origin is not in cors.origins of the route)"],
        ),
        ("GET", "https://h/api/x", &[], &["identify: 401"]),
        (
            "GET",
            "https://h/api/x",
            &[("authorization", "Bearer x.y.z")],
            &["identify: 403"],
        ),
        (
            "GET",
            "http://h/hello/you",
            &[],
            &["route: /hello/{name}", "function: app.hello"],
        ),
        (
            "GET",
            "http://h/old/a/b?c=d",
            &[],
            &["viewer: 301 to /new/a/b?c=d"],
        ),
        (
            "GET",
            "https://h/legacy/x",
            &[],
            &["origin_request: app.tag"],
        ),
        (
            "GET",
            "https://h/form",
            &[],
            &["route: /* (/form takes other methods; the only"],
        ),
        (
            "POST",
            "https://h/form",
            &[],
            &[
                "key: none (POST passes",
                "fetch: primary (POST is not idempotent",
                "store: no",
            ],
        ),
        ("GET", "/x", &[], &["admit: 400 (no usable Host"]),
        ("GET", "https://h/%zz", &[], &["admit: 400"]),
        ("G T", "https://h/", &[], &["admit: 400 (the method"]),
    ] {
        let told = told(method, url, headers);
        for want in wants {
            assert!(
                told.contains(want),
                "{method} {url}: no {want:?} in\n{told}"
            );
        }
    }
}

#[test]
fn what_ends_a_request_is_the_last_step() {
    for (url, last) in [
        ("http://h/api/x", "viewer"),
        ("https://h/api/x", "identify"),
        ("http://h/hello/x", "function"),
        ("http://h/old/x", "viewer"),
    ] {
        let told = told("GET", url, &[]);
        assert!(
            told.trim_end().lines().last().unwrap().starts_with(last),
            "{url}:\n{told}"
        );
    }
}

#[test]
fn missing_routes_and_methods_are_told() {
    let json = json!({"name": "t", "routes": [{"pattern": "/a", "methods": ["PUT"], "respond": {"status": 200}}]});
    let plan = compile(&serde_json::to_vec(&json).unwrap()).unwrap();
    let tell = |url: &str| {
        let request = ExplainRequest {
            method: "GET".into(),
            url: url.into(),
            headers: Vec::new(),
            client: "::1".parse().unwrap(),
            scheme: None,
            places: None,
            readings: Default::default(),
            response: None,
        };
        explain(&plan, &request, 0).steps.pop().unwrap()
    };
    assert_eq!(
        (
            tell("http://h/a").decision.as_str(),
            tell("http://h/a").reason.as_str()
        ),
        ("405", "the URL takes PUT only")
    );
    assert_eq!(tell("http://h/b").decision, "404");
}

#[test]
fn fields_are_removed_before_the_host_is_read_as_they_are_when_served() {
    let outer = ("x-forwarded-host", "outer.example");
    for (headers, want) in [
        (&[outer][..], "key: https://outer.example/static/a"),
        (
            &[outer, ("connection", "x-forwarded-host")],
            "key: https://h/static/a",
        ),
    ] {
        let told = told_to([10, 0, 0, 1], "GET", "https://h/static/a", headers);
        assert!(told.contains(want), "{headers:?}: no {want:?} in\n{told}");
    }
}

#[test]
fn an_address_that_is_not_served_is_named_with_its_list() {
    let text = told_to([192, 0, 2, 1], "GET", "https://h/guarded/x", &[]);
    assert!(
        text.contains("admit: 403 (192.0.2.1 is not in addresses.allow of the route)"),
        "{text}"
    );
}

#[test]
fn the_member_is_told_where_a_hash_decides_it_and_the_policy_where_turns_do() {
    let sid = |value| [("cookie", value)];
    for (method, url, headers, want) in [
        (
            "GET",
            "https://a.test/turns/x",
            &[][..],
            "fetch: one of primary, backup (balance=round_robin: each in its turn, as its weight says; the next after no \
             answer or 500,",
        ),
        (
            "POST",
            "https://a.test/fewest/x",
            &[],
            "fetch: one of primary, backup (balance=least_requests: the one with the fewest requests of the worker under \
             way; POST is not idempotent",
        ),
        (
            "GET",
            "https://a.test/hashed/x",
            &sid("sid=1"),
            "fetch: backup, then primary (balance=hash by cookie:sid: each value has its member; the next after",
        ),
        (
            "GET",
            "https://a.test/hashed/x",
            &[],
            "fetch: one of primary, backup (balance=hash by cookie:sid, which the request does not have: each in its turn",
        ),
    ] {
        let told = told(method, url, headers);
        assert!(told.contains(want), "{want} not in:\n{told}");
    }
}
