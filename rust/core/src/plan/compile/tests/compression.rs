//! The compression of routes.

use super::*;

#[test]
fn a_route_compresses_or_its_cache_does() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    assert!(shop.cache.compress && !shop.compress && plan.routes[6].compress);
}

#[test]
fn compression_that_would_betray_secrets_or_do_nothing_is_refused() {
    for (route, want) in [
        (
            json!({"redirect": {"location": "/"}, "compress": true}),
            "routes[0].compress: true: has no effect on a redirect",
        ),
        (
            json!({"function": 0, "compress": true}),
            "routes[0].compress: true: would betray secrets",
        ),
        (
            json!({"compress": true, "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}}),
            "routes[0].compress: true: would betray secrets by the length of responses that depend on a token",
        ),
        (
            json!({"compress": true, "basic": {"users": {"value": "ann:$2b$04$KBCwKxOzLha2MUDcmMfM6.nlgvSZfcmmZkrYKQMtWsiIv1xlNzTYa"}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a password",
        ),
        (
            json!({"compress": true, "signed": {"secrets": {"k": {"value": "0123456789abcdef0123456789abcdef"}}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a signature",
        ),
        (
            json!({"files": {"folder": "/srv"}, "compress": true, "signed": {"secrets": {"k": {"value": "0123456789abcdef0123456789abcdef"}}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a signature",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
