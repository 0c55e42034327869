//! Conditions on clients: addresses, places, passwords, tokens and signatures, and the fields that protect browsers.

use super::*;
use crate::geo::{Country, Place};

#[test]
fn every_field_of_places_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    let geo = shop.guard.as_ref().unwrap().geo.as_ref().unwrap();
    assert_eq!(geo.fields.len(), 3);
    assert_eq!(shop.request_headers.remove.last().unwrap(), "x-geo-eu");
    assert!(plan.guard.routes_by_country);
    let policy = plan.geo.as_ref().unwrap();
    assert_eq!(policy.country_fields, ["cf-ipcountry"]);
    assert_eq!(
        (policy.interval.as_secs(), policy.regions[0].longitude),
        (6, 8.5)
    );
    assert!(policy.count_countries);
}

#[test]
fn every_field_of_a_token_policy_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    assert!(
        shop.auth
            .as_ref()
            .is_some_and(|auth| auth.shared && auth.optional)
    );
    assert_eq!(
        shop.auth.as_ref().map(|auth| auth.token_bytes),
        Some(4_096),
        "the plan's limit reaches the policy"
    );
}

#[test]
fn addresses_of_the_site_are_judged_by_network_and_place() {
    let plan = compiled(&full());
    let judged = ["", "DE", "FR"].map(|code| {
        let policy = plan.guard.addresses.as_ref().unwrap();
        let country = Country::parse(code.as_bytes());
        let asn = Some(64_500);
        let place = Place {
            country,
            asn,
            ..Place::default()
        };
        let judge = |address: [u8; 4]| policy.judge(address.into(), || Arc::new(place.clone()));
        [
            judge([203, 0, 113, 9]).is_ok(),
            judge([192, 0, 2, 1]).is_ok(),
        ]
    });
    assert_eq!(judged, [[false, true], [false, true], [false, false]]);
}

#[test]
fn every_security_field_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    let guard = shop.guard.as_ref().unwrap();
    let fields = |security: &crate::guard::security::SecurityFields| {
        let hsts = security
            .hsts
            .as_ref()
            .map(|value| value.to_str().unwrap().to_owned());
        (security.fields.len(), hsts, security.replaces)
    };
    let preloaded = "max-age=31536000; includeSubDomains; preload".to_owned();
    let of_site = plan.guard.security.as_deref().unwrap();
    assert_eq!(fields(of_site), (7, Some(preloaded), false));
    assert!(of_site.nonced.len() == 1 && of_site.placeholder.is_some());
    assert!(plan.routes[6].nonce.is_some() && shop.nonce.is_none());
    assert_eq!(fields(guard.security.as_deref().unwrap()), (2, None, true));
    let other = plan.routes[1].guard.as_ref().unwrap();
    assert!(Arc::ptr_eq(
        other.security.as_ref().unwrap(),
        plan.guard.security.as_ref().unwrap()
    ));
}

#[test]
fn every_field_of_cors_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    let guard = shop.guard.as_ref().unwrap();
    assert_eq!((plan.guard.hosts.len(), plan.guard.has_cors), (1, true));
    let cors = guard.cors.as_ref().unwrap();
    assert_eq!(
        (cors.origins.as_ref().map(|all| all.len()), cors.credentials),
        (Some(2), true)
    );
    assert!(guard.addresses.is_some());
}

#[test]
fn every_field_of_a_rate_limit_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    let guard = shop.guard.as_ref().unwrap();
    let [limit] = guard.claim_limits.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&*limit.name, limit.quota, limit.window, limit.burst),
        ("api", 100, 10, 20)
    );
    assert_eq!(
        (limit.delay.as_millis(), limit.by.to_string()),
        (1_500, "claim:userId".to_owned())
    );
    let [of_site] = guard.limits.as_slice() else {
        panic!()
    };
    assert_eq!((&*of_site.name, of_site.quota), ("site", 1_000));
    for known in [of_site, limit] {
        assert!(plan.guard.limits.iter().any(|one| Arc::ptr_eq(one, known)));
    }
    assert_eq!(
        (
            plan.limits.http.rate_keys,
            plan.limits.http.delayed_requests
        ),
        (131_073, 1_001)
    );
}

#[test]
fn every_field_of_passwords_and_signatures_is_read() {
    let plan = compiled(&full());
    let shop = &plan.routes[0];
    let guard = shop.guard.as_ref().unwrap();
    let staff = plan
        .routes
        .iter()
        .find(|route| &*route.label == "/staff/*")
        .unwrap();
    let basic = staff
        .guard
        .as_ref()
        .and_then(|guard| guard.basic.as_ref())
        .unwrap();
    assert_eq!(
        (basic.len(), &basic.challenge),
        (
            1,
            &http::HeaderValue::from_static("Basic realm=\"Staff\", charset=\"UTF-8\"")
        )
    );
    let signed = guard.signed.as_ref().unwrap();
    let keys: Vec<_> = signed
        .keys
        .iter()
        .map(|(name, key)| (&**name, key.is_secret()))
        .collect();
    assert_eq!(
        (keys, signed.sha1),
        (vec![("K2JCJMDEHXQW5F", false), ("own", true)], false)
    );
}

#[test]
fn a_mistake_in_a_token_policy_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"auth": {"keys": {"kind": "secret", "secret": {"env": "JWT_SECRET", "problem": "is not set"}, "algorithm": "HS256"}}}),
            "routes[0].auth.keys.secret: environment variable JWT_SECRET: is not set",
        ),
        (
            json!({"auth": {"keys": {"kind": "magic"}}}),
            "routes[0].auth.keys.kind: must be one of",
        ),
        (json!({"auth": {}}), "routes[0].auth.keys: is required"),
        (
            json!({"auth": {"keys": {"kind": "secret", "secret": {"value": "s3cr3t"}, "algorithm": "RS256"}}}),
            "routes[0].auth",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}

#[test]
fn a_guard_that_contradicts_itself_or_has_no_effect_is_refused() {
    for (route, want) in [
        (
            json!({"addresses": {"deny": ["10.0.0.0/33"]}}),
            "addresses.deny[0]: \"10.0.0.0/33\": must be an address or a network",
        ),
        (
            json!({"addresses": {"allow": ["::ffff:10.0.0.0/104"]}}),
            "addresses.allow[0]: \"::ffff:10.0.0.0/104\": must be written as IPv4",
        ),
        (
            json!({"addresses": {}}),
            "routes[0].addresses: has no effect",
        ),
        (
            json!({"addresses": {"deny": []}}),
            "routes[0].addresses: has no effect",
        ),
        (json!({"cors": {}}), "routes[0].cors.origins: is required"),
        (
            json!({"cors": {"origins": []}}),
            "routes[0].cors.origins: must name at least one",
        ),
        (
            json!({"cors": {"origins": ["*"]}}),
            "routes[0].cors.origins[0]: \"*\": must be an origin",
        ),
        (
            json!({"cors": {"origins": "*", "credentials": true}}),
            "routes[0].cors.origins: must be a list where credentials",
        ),
        (
            json!({"cors": {"origins": ["https://a"], "headers": "*", "credentials": true}}),
            "routes[0].cors.headers: must be a list",
        ),
        (
            json!({"cors": {"origins": "*", "methods": ["put"]}}),
            "routes[0].cors.methods[0]: \"put\": must be a method",
        ),
        (
            json!({"cors": {"origins": "*", "methods": ["TRACE"]}}),
            "must be a method that browsers send",
        ),
        (
            json!({"cors": {"origins": "*", "headers": ["*", "x-a"]}}),
            "routes[0].cors.headers[0]: \"*\": must be the whole value",
        ),
        (
            json!({"rate_limits": [{"name": "a b", "requests": 5}]}),
            "rate_limits[0].name: \"a b\": must be 1 to 64",
        ),
        (
            json!({"rate_limits": [{"name": "a"}]}),
            "rate_limits[0].requests: is required",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 0}]}),
            "rate_limits[0].requests: 0: must be ≥ 1",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "per": 0}]}),
            "rate_limits[0].per: 0: must be",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 1, "per": 86400, "burst": 8}]}),
            "rate_limits[0].burst: 8: is more than",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "delay": 31}]}),
            "rate_limits[0].delay: 31: must be ≤ 30 seconds",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "by": "ip"}]}),
            "rate_limits[0].by: \"ip\": must be \"address\"",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "by": "claim:sub"}]}),
            "rate_limits[0].by: needs auth",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5}, {"name": "a", "requests": 5}]}),
            "rate_limits[1].name: \"a\": is a limit of this route or of the site already",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5}, {"name": "a", "requests": 6}]}),
            "rate_limits[1].name: \"a\": is the name of another limit",
        ),
        (json!({"basic": {}}), "routes[0].basic.users: is required"),
        (
            json!({"basic": {"users": {"value": "ann:hunter2"}}}),
            "routes[0].basic.users: line 1: the password is neither",
        ),
        (
            json!({"basic": {"users": {"file": "x", "problem": "cannot be read"}}}),
            "routes[0].basic.users: file x: cannot be read",
        ),
        (
            json!({"signed": {}}),
            "routes[0].signed: must have 1 to 100 keys",
        ),
        (
            json!({"signed": {"secrets": {"k": {"value": "hunter2"}}}}),
            "routes[0].signed.secrets.k: has 7 bytes; it must have at least 32",
        ),
        (
            json!({"signed": {"keys": {"k": {"value": "hunter2"}}}}),
            "routes[0].signed.keys.k: is not PEM",
        ),
        (
            json!({"signed": {"keys": {"a&b": {"value": "x"}}}}),
            "must be a name of letters, digits",
        ),
        (
            json!({"signed": {"secrets": {"k": {"env": "NONE", "problem": "is not set"}}}}),
            "routes[0].signed.secrets.k: environment variable NONE: is not set",
        ),
        (
            json!({"security": {"csp": "default-src self"}}),
            "routes[0].security.csp: needs quotes",
        ),
        (
            json!({"security": {"permissions_policy": "camera"}}),
            "routes[0].security.permissions_policy: \"camera\": must be features",
        ),
        (
            json!({"security": {"hsts": {"preload": true}}}),
            "routes[0].security.hsts.preload: true: needs include_subdomains",
        ),
        (
            json!({"security": {"nosniff": false, "frame": null, "referrer_policy": null}}),
            "routes[0].security: has no effect",
        ),
        (
            json!({"security": {"frame": "ALLOW-FROM x"}}),
            "routes[0].security.frame: \"ALLOW-FROM x\": must be one of",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}

#[test]
fn a_preflight_for_the_origin_is_refused_beside_cors() {
    let auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
    let both = json!({"cors": {"origins": "*"}, "auth": auth, "preflight": "origin"});
    assert_refused(&with_route(&both), "has no effect beside cors");
}

#[test]
fn a_host_of_the_site_that_means_nothing_is_refused() {
    for (hosts, host, want) in [
        (
            json!(["*"]),
            "a.test",
            "hosts[0]: \"*\": would be every host",
        ),
        (
            json!(["a.test:80"]),
            "a.test",
            "hosts[0]: \"a.test:80\": must have no port",
        ),
        (
            json!(["a.test", "*.b.test"]),
            "c.test",
            "routes[0].host: \"c.test/*\": is never requested",
        ),
    ] {
        let mut plan = with_route(&json!({"host": host}));
        plan["hosts"] = hosts;
        assert_refused(&plan, want);
    }
}
