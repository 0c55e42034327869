#![allow(clippy::unwrap_used)]

use super::*;

fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in lines {
        fields.append(*name, HeaderValue::from_static(value));
    }
    fields
}

fn names(names: &[&str]) -> CorsNames {
    CorsNames::Only(names.iter().map(|name| (*name).into()).collect())
}

fn spec(origins: Option<&[&str]>) -> CorsSpec {
    CorsSpec {
        origins: origins.map(|all| {
            all.iter()
                .map(|one| OriginPattern::parse(one).unwrap())
                .collect()
        }),
        methods: names(&["GET", "PUT"]),
        headers: names(&["x-a"]),
        expose: names(&["x-b", "x-c"]),
        credentials: false,
        max_age: 600,
    }
}

#[test]
fn an_origin_is_allowed_by_its_exact_spelling_or_below_its_domain() {
    let policy = Cors::compile(&spec(Some(&[
        "https://app.example",
        "https://*.example.com",
        "http://*.dev.test:8080",
        "null",
    ])))
    .unwrap();
    for (origin, allowed) in [
        ("https://app.example", true),
        ("http://app.example", false),
        ("https://app.example:8443", false),
        ("https://app.example.evil.test", false),
        ("https://evilapp.example", false),
        ("HTTPS://APP.EXAMPLE", false),
        ("https://a.example.com", true),
        ("https://a.b.example.com", true),
        ("https://example.com", false),
        ("https://evilexample.com", false),
        ("https://a.example.com.evil.test", false),
        ("https://evil.test/.example.com", false),
        ("https://evil.test?.example.com", false),
        ("https://user@a.example.com", false),
        ("https://a.example.com:1", false),
        ("http://a.dev.test:8080", true),
        ("http://a.dev.test", false),
        ("null", true),
        ("", false),
        ("*", false),
    ] {
        let found = policy.allows(&fields(&[("origin", origin)]));
        assert_eq!(found.is_some(), allowed, "{origin}");
        assert!(
            found.is_none_or(|value| value == origin),
            "the very value is sent back"
        );
    }
    assert_eq!(policy.allows(&fields(&[])), None);
    let twice = fields(&[
        ("origin", "https://app.example"),
        ("origin", "https://app.example"),
    ]);
    assert_eq!(policy.allows(&twice), None);
}

#[test]
fn a_text_that_no_browser_sends_as_an_origin_is_refused() {
    for text in [
        "",
        "*",
        "app.example",
        "https://",
        "://app.example",
        "https://app.example/",
        "https://app.example?x",
        "https://u@app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:0",
        "https://app.example:99999",
        "https://app.example:",
        "https://App.example",
        "https://a*.example",
        "https://*example.com",
        "https://*.*.example",
        "https://*",
        "https://exämple.com",
    ] {
        assert!(OriginPattern::parse(text).is_err(), "{text}");
    }
    for text in [
        "https://[2001:db8::1]:8443",
        "capacitor://localhost",
        "http://127.0.0.1:3000",
    ] {
        assert!(OriginPattern::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn credentials_and_a_star_never_meet() {
    let open = spec(Some(&["https://a.example"]));
    for (field, spec) in [
        (
            "origins",
            CorsSpec {
                origins: None,
                ..open.clone()
            },
        ),
        (
            "methods",
            CorsSpec {
                methods: CorsNames::All,
                ..open.clone()
            },
        ),
        (
            "headers",
            CorsSpec {
                headers: CorsNames::All,
                ..open.clone()
            },
        ),
        (
            "expose",
            CorsSpec {
                expose: CorsNames::All,
                ..open.clone()
            },
        ),
    ] {
        assert!(Cors::compile(&spec).is_ok());
        let refused = Cors::compile(&CorsSpec {
            credentials: true,
            ..spec
        });
        assert_eq!(refused.map_err(|(field, _)| field), Err(field));
    }
}

#[test]
fn a_response_gets_the_policy_of_the_edge_and_varies_by_origin_where_it_depends_on_it() {
    let of_origin = &[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-secret"),
    ][..];
    let listed = spec(Some(&["https://a.example"]));
    for (spec, before, request, want) in [
        (
            listed.clone(),
            of_origin,
            &[("origin", "https://a.example")][..],
            &[
                ("vary", "origin"),
                ("access-control-allow-origin", "https://a.example"),
                ("access-control-expose-headers", "x-b, x-c"),
            ][..],
        ),
        (
            CorsSpec {
                credentials: true,
                ..listed.clone()
            },
            &[],
            &[("origin", "https://a.example")],
            &[
                ("vary", "origin"),
                ("access-control-allow-origin", "https://a.example"),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "x-b, x-c"),
            ],
        ),
        (
            listed.clone(),
            of_origin,
            &[("origin", "https://b.example")],
            &[("vary", "origin")],
        ),
        (listed.clone(), &[], &[], &[("vary", "origin")]),
        (
            listed.clone(),
            &[("vary", "Accept, Origin")],
            &[],
            &[("vary", "Accept, Origin")],
        ),
        (listed, &[("vary", "*")], &[], &[("vary", "*")]),
        (
            spec(None),
            of_origin,
            &[],
            &[
                ("access-control-allow-origin", "*"),
                ("access-control-expose-headers", "x-b, x-c"),
            ],
        ),
    ] {
        let policy = Cors::compile(&spec).unwrap();
        let mut headers = fields(before);
        policy.finish(policy.allows(&fields(request)).as_ref(), &mut headers);
        let found: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| (name.lower().to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let want: Vec<(String, String)> = want
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(found, want, "{request:?}");
    }
}

#[test]
fn a_preflight_is_answered_with_methods_fields_and_time() {
    for (methods, headers, want) in [
        (
            names(&["GET", "PUT"]),
            names(&["x-a"]),
            (Some("GET, PUT"), Some("x-a")),
        ),
        (CorsNames::All, CorsNames::All, (Some("*"), Some("*"))),
        (names(&["GET"]), names(&[]), (Some("GET"), None)),
    ] {
        let policy = Cors::compile(&CorsSpec {
            methods,
            headers,
            ..spec(None)
        })
        .unwrap();
        let found = policy.preflight();
        let text = |name| found.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (
                text(header::ACCESS_CONTROL_ALLOW_METHODS),
                text(header::ACCESS_CONTROL_ALLOW_HEADERS)
            ),
            want
        );
        assert_eq!(text(header::ACCESS_CONTROL_MAX_AGE), Some("600"));
    }
}

#[test]
fn a_preflight_names_one_method() {
    for (lines, want) in [
        (
            &[("access-control-request-method", "PUT")][..],
            Some(Method::PUT),
        ),
        (&[("access-control-request-method", "")], None),
        (&[("access-control-request-method", "A B")], None),
        (
            &[
                ("access-control-request-method", "PUT"),
                ("access-control-request-method", "GET"),
            ],
            None,
        ),
        (&[], None),
    ] {
        assert_eq!(requested_method(&fields(lines)), want, "{lines:?}");
    }
}
