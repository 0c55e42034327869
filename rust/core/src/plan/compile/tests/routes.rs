//! Patterns, hosts, conditions and targets of routes.

use super::*;

#[test]
fn every_field_of_a_route_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    assert_eq!(
        &*shop.label,
        "www.example.com|*.shop.example.com/shop/{rest:path}"
    );
    assert_eq!(
        (shop.strip_prefix.as_deref(), shop.priority),
        (Some("/shop"), 5)
    );
    assert_eq!(shop.when.len(), 4);
    assert_eq!(shop.request_headers.add.len(), 2);
}

#[test]
fn a_mistake_in_a_route_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"viewer": "https_only"}),
            "routes[0].viewer: \"https_only\": must be one of \"allow-all\", \"https-only\" or \"redirect-to-https\"; did you mean https-only?",
        ),
        (
            json!({"to": "bakcup"}),
            "routes[0].to: \"bakcup\": names no origin or group; did you mean backup?",
        ),
        (
            json!({"to": "o", "redirect": {"location": "/"}}),
            "routes[0]: has both to and redirect",
        ),
        (json!({"to": null}), "routes[0]: must have one target"),
        (
            json!({"function": 7}),
            "routes[0].function: 7: is not the index of a callable; there are 1",
        ),
        (
            json!({"function": 0, "rewrite": {"pattern": "/a", "to": "/b"}}),
            "routes[0].rewrite: is for routes that go to an origin; this one has function",
        ),
        (
            json!({"function": 0, "headers": {"request": {"remove": ["x-a"]}}}),
            "routes[0].headers.request: is for routes that go to an origin; this one has function",
        ),
        (
            json!({"respond": {"body": "x"}, "headers": {"request": {"set": {"x-a": "1"}}}}),
            "routes[0].headers.request: is for routes that go to an origin; this one has respond",
        ),
        (
            json!({"respond": {"body": "x"}, "cache": {"ttl": 5}}),
            "routes[0].cache: has no effect: the edge makes the response itself, for each request; remove it",
        ),
        (
            json!({"redirect": {"location": "/x"}, "cache": {"default_ttl": 5}}),
            "routes[0].cache: has no effect: the edge makes the response itself",
        ),
        (
            json!({"pattern": "static"}),
            "routes[0].pattern: \"static\": must start with \"/\"",
        ),
        (
            json!({"pattern": "a.com/x", "host": "b.com"}),
            "routes[0].pattern: \"a.com/x\": names a host, and so does host",
        ),
        (
            json!({"pattern": "a.com:80/x"}),
            "routes[0].pattern: \"a.com:80\": must have no port",
        ),
        (
            json!({"pattern": "https://a.com/x"}),
            "routes[0].pattern: \"https://a.com/x\": must have no scheme",
        ),
        (
            json!({"host": "*a.com"}),
            "routes[0].host: \"*a.com\": may have \"*\" only",
        ),
        (
            json!({"host": []}),
            "routes[0].host: []: must name at least one host",
        ),
        (
            json!({"methods": ["get"]}),
            "routes[0].methods[0]: \"get\": methods are case-sensitive; did you mean GET?",
        ),
        (
            json!({"methods": ["G T"]}),
            "routes[0].methods[0]: \"G T\": is not a method",
        ),
        (
            json!({"when": [{"header": "a", "cookie": "b", "present": true}]}),
            "routes[0].when[0]:",
        ),
        (
            json!({"when": [{"header": "a", "equals": "b", "matches": "c"}]}),
            "must have at most one of equals, matches and present",
        ),
        (
            json!({"priority": 1.5}),
            "routes[0].priority: 1.5: must be a whole number",
        ),
        (
            json!({"strip_prefix": "api"}),
            "routes[0].strip_prefix: \"api\": must be a plain path",
        ),
        (
            json!({"index": "/index.html"}),
            "routes[0].index: \"/index.html\": must be a file name",
        ),
        (
            json!({"fallback": "index.html"}),
            "routes[0].fallback: \"index.html\": must be a path",
        ),
        (json!({"buffer": true}), "routes[0].buffer: is not a field"),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
