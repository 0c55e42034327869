//! Caching: different requests get different keys, and any response can be classified without a panic.

use edgerouter_core::{
    cache::{
        api::CacheUrl,
        decide, freshness,
        key::{self as keys, Base, Key, KeyParts},
        keyed::Keyed,
        storable::{Authorization, StoreInput, storable},
        validate, vary as selecting,
    },
    http::{
        FieldName, Fields,
        cache_control::{RequestDirectives, ResponseDirectives},
        header,
    },
    plan::{CachePolicy, Scheme, Select},
};
use http::{Method, StatusCode};

use super::{NOW, head, lines, value};

/// Two URLs of host, path and query; an absent query differs from an empty one.
pub(crate) fn key(data: &[u8]) {
    // Arbitrary bytes are no key and must not panic; the keys that functions store under are read back.
    let _ = Keyed::read(data);
    if let Ok(place) = CacheUrl::parse(&String::from_utf8_lossy(data)) {
        let keyed = Keyed::read(place.key("default").bytes()).unwrap();
        assert_eq!((&keyed.host, &keyed.path), (&place.host, &place.path));
        assert_eq!(keyed.query, place.query);
    }
    let text: String = String::from_utf8_lossy(data)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .collect();
    let parts = lines(text.as_bytes(), 6);
    let part = |at: usize| parts.get(at).map(String::as_str);
    let policy = CachePolicy::default();
    let of = |from: usize| {
        let (host, path, query) = (part(from), part(from + 1), part(from + 2));
        let key = Key::of(
            Vec::new(),
            Base {
                scheme: Scheme::Https,
                host: host.unwrap_or(""),
                port: None,
            },
            path.unwrap_or(""),
            query,
            &policy,
        );
        assert!(keys::describe(key.url()).len() <= 3 * key.url().len() + 16);
        ((host.unwrap_or(""), path.unwrap_or(""), query), key)
    };
    let (first, first_key) = of(0);
    let (second, second_key) = of(3);
    assert_eq!(
        first == second,
        first_key == second_key,
        "{first:?} and {second:?}"
    );

    let dimensions = |pairs: &[(&str, &str)], claims: &[(&str, &str)]| {
        let mut key = Key::default();
        let headers = head(data);
        let policy = CachePolicy {
            key_headers: vec![FieldName::from_static("x-a")],
            key_cookies: Some(Select::All),
            accept_encoding: true,
            ..CachePolicy::default()
        };
        let parts = KeyParts {
            headers: &headers,
            policy: &policy,
            variants: pairs,
            claims,
            edge_set: &[],
            hooked: &[],
            tag: part(4),
        };
        key.add(&parts);
        key
    };
    let (a, b) = (
        (part(0).unwrap_or(""), part(1).unwrap_or("")),
        (part(2).unwrap_or(""), part(3).unwrap_or("")),
    );
    assert_eq!(a == b, dimensions(&[a], &[]) == dimensions(&[b], &[]));
    assert_ne!(dimensions(&[a, b], &[]), dimensions(&[a], &[b]));
    assert_ne!(dimensions(&[a, b], &[]), dimensions(&[b], &[]));
    keys::describe(data);
}

/// The first line is `Vary`, the others are the fields of a request.
pub(crate) fn vary(data: &[u8]) {
    let (first, rest) = data.split_at(data.iter().position(|&b| b == b'\n').unwrap_or(data.len()));
    let mut response = Fields::new();
    response.insert(header::VARY, value(first));
    let request = head(rest);
    let selecting::Vary::Names(names) = selecting::of(&response) else {
        return;
    };
    assert!(names.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    let of = |request: &Fields| {
        let mut out = Vec::new();
        selecting::secondary(&mut out, &names, request, selecting::Reduced::default());
        out
    };
    let before = of(&request);
    // Presence of a field counts only for the fields that `Vary` names.
    let mut other = request.clone();
    other.insert("x-not-named", value(b"1"));
    if !names.iter().any(|name| name == "x-not-named") {
        assert_eq!(of(&other), before);
    }
    for name in &names {
        let mut other = request.clone();
        if !other.remove(name) {
            other.insert(name, value(b"another"));
        }
        assert_ne!(of(&other), before, "{name} does not count");
    }
}

/// A status and fields; the same fields serve as those of the request.
pub(crate) fn response(data: &[u8]) {
    let status = data
        .first()
        .map_or(200, |byte| 200 + u16::from(*byte) * 2 % 400);
    let status = StatusCode::from_u16(status).unwrap();
    let headers = head(data);
    let policy = CachePolicy::default();
    let directives = ResponseDirectives::parse(&headers, &policy.targets);
    let requested = RequestDirectives::parse(&headers);
    let fresh = freshness::freshness(status, &headers, &directives, &policy, NOW - 1, NOW);
    for now in [0, NOW, NOW + 60, u64::MAX / 2] {
        assert_eq!(fresh.fresh(now), fresh.ttl(now) > 0);
        assert!(!fresh.fresh(now) || fresh.staleness(now) == 0);
        let _ = decide::on_error(
            &fresh,
            &requested,
            &policy,
            decide::Outage::Disconnected,
            now,
        );
    }
    for authorization in [Authorization::None, Authorization::Present] {
        let stored = storable(&StoreInput {
            method: &Method::GET,
            request_directives: &requested,
            authorization,
            status,
            response: &headers,
            directives: &directives,
            policy: &policy,
            is_static: true,
            now: NOW,
        });
        if stored.is_ok() {
            let mut aside = directives.unshared_fields();
            assert!(!directives.private);
            assert!(
                !headers.contains_key(header::SET_COOKIE)
                    || aside.any(|name| *name == header::SET_COOKIE)
            );
            assert!(!directives.no_store || directives.must_understand);
        }
    }
    let _ = validate::precondition(&Method::GET, &headers, StatusCode::OK, &headers);
    let base = Base {
        scheme: Scheme::Https,
        host: "a.example",
        port: None,
    };
    for (path, _) in validate::invalidation_targets(base, "/a/b", &headers) {
        assert!(path.starts_with('/'));
    }
    let mut freshened = headers.clone();
    validate::freshen(&mut freshened, &headers);
    assert_eq!(freshened, headers, "its own 304 changes a response");
}
