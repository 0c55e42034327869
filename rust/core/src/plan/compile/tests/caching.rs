//! Policies of caching, and what they forward.

use super::*;
use crate::plan::ForwardPolicy;

#[test]
fn every_field_of_a_cache_policy_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    assert_eq!(
        shop.cache.key_headers,
        [
            "accept",
            "cloudfront-viewer-country",
            "cloudfront-viewer-city",
            "x-geo-eu"
        ],
        "facts in the key, and facts that go to the origin"
    );
    assert_eq!(shop.cache.targets, ["my-cdn-cache-control"]);
    assert_eq!(shop.cache.tags, ["x-tags"]);
    assert!(shop.cache.send_tags);
    assert_eq!(
        (shop.cache.grace, shop.cache.sick_grace),
        (Some(10), Some(86_400))
    );
    assert_eq!(shop.cache.stale_when_disconnected, 0);
    assert_eq!(shop.cache.refresh_ahead, Some(1.5));
    assert!(shop.cache.status_key && shop.cache.extension_guard);
    let sent = [
        "accept",
        "cloudfront-viewer-country",
        "cloudfront-viewer-city",
    ];
    assert_eq!(
        shop.forward.headers,
        Select::Only(sent.map(Into::into).into())
    );
}

#[test]
fn forwarding_unsaid_follows_the_key() {
    for (cache, query, cookies) in [
        (json!({}), Select::All, Select::All),
        (
            json!({"query": "none", "cookies": "none"}),
            Select::None,
            Select::None,
        ),
        (
            json!({"query": {"only": ["a"]}, "cookies": {"only": ["b"]}}),
            Select::Only(vec!["a".into()]),
            Select::Only(vec!["b".into()]),
        ),
        (
            json!({"enabled": false, "query": "none"}),
            Select::All,
            Select::All,
        ),
    ] {
        let plan = compiled(&with_route(&json!({"cache": cache})));
        assert_eq!(
            plan.routes[0].forward,
            ForwardPolicy {
                query,
                headers: Select::All,
                cookies,
                unkeyed: Default::default(),
                strays: false,
            },
            "{cache}"
        );
    }
}

#[test]
fn a_mistake_in_a_cache_policy_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"cache": {"ttl": -5}}),
            "routes[0].cache.ttl: -5: must be ≥ 0 seconds",
        ),
        (
            json!({"cache": {"ttl": 1.5}}),
            "routes[0].cache.ttl: 1.5: must be a whole number of seconds",
        ),
        (
            json!({"cache": {"ttl": "60"}}),
            "routes[0].cache.ttl: \"60\": must be a whole number, not a string",
        ),
        (
            json!({"cache": {"tll": 5}}),
            "routes[0].cache.tll: is not a field; did you mean ttl?",
        ),
        (
            json!({"cache": {"min_ttl": 10, "max_ttl": 5}}),
            "routes[0].cache.min_ttl: 10: must be ≤ max_ttl, which is 5",
        ),
        (
            json!({"cache": {"query": "some"}}),
            "routes[0].cache.query: \"some\": must be \"all\", \"none\", {\"only\": [names]} or {\"except\": [names]}",
        ),
        (
            json!({"cache": {"negative_ttl": {"999": 1}}}),
            "routes[0].cache.negative_ttl.999: \"999\": must be a status code from 200 to 599",
        ),
        (
            json!({"cache": {"headers": ["Cookie"]}}),
            "routes[0].cache.headers[0]: \"cookie\": would make",
        ),
        (
            json!({"cache": {"headers": ["X-Forwarded-For"]}}),
            "routes[0].cache.headers[0]: \"x-forwarded-for\": is written by the edge",
        ),
        (
            json!({"cache": {"headers": ["a b"]}}),
            "routes[0].cache.headers[0]: \"a b\": is not a field name",
        ),
        (
            json!({"cache": {"claims": ["role"]}}),
            "routes[0].cache.claims: needs auth",
        ),
        (
            json!({"forward": {"headers": "none"}, "cache": {"headers": ["x-a"]}}),
            "routes[0].forward.headers: \"x-a\": is part of the key",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}

#[test]
fn only_routes_that_could_find_anothers_response_are_tagged() {
    let tags = |routes: Value| -> Vec<bool> {
        let mut plan = with_route(&json!({}));
        plan["routes"] = routes;
        compiled(&plan)
            .routes
            .iter()
            .map(|route| route.key_tag.is_some())
            .collect()
    };
    // The storefront of docs/design.md §12: no key needs a tag.
    let storefront = json!([
        {"pattern": "/static/*", "to": "o"},
        {"pattern": "/api/*", "to": "o", "cache": {"enabled": false}},
        {"pattern": "/*", "to": "o", "index": "index.html"},
    ]);
    assert_eq!(tags(storefront), [false, false, false]);
    for (routes, want) in [
        (
            json!([{"pattern": "/a/*", "to": "o", "strip_prefix": "/a"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/a/*", "to": "o", "strip_prefix": "/a"}]),
            vec![false],
        ),
        (
            json!([{"pattern": "/a/*", "host": "x.com", "to": "o", "strip_prefix": "/a"}, {"pattern": "/*", "host": "y.com", "to": "backup"}]),
            vec![false, false],
        ),
        (
            json!([{"pattern": "/a", "to": "o", "when": [{"cookie": "b", "present": true}]}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/blog/", "to": "o", "index": "index.html"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/*.html", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/b/in*", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/index.html", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/app/*", "to": "o", "fallback": "/index.html"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/*", "to": "o", "errors": {"404": "/404.html"}}, {"pattern": "/x", "to": "backup"}]),
            vec![false, false],
        ),
    ] {
        assert_eq!(tags(routes.clone()), want, "{routes}");
    }
}
