#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::plan::compile;

/// Tokens hold where they are `Bearer good`; chance gives the first variant.
#[derive(Default)]
struct Known {
    tokens: usize,
}

impl LookUps for Known {
    fn token(
        &mut self,
        _: &Arc<JwtPolicy>,
        token: &str,
    ) -> Result<Option<Arc<Claims>>, TokenError> {
        self.tokens += 1;
        (token == "good").then_some(None).ok_or(TokenError::NoKey)
    }

    fn chance(&mut self) -> u64 {
        0
    }
}

fn plan() -> Plan {
    let plan = json!({
        "name": "t",
        "trusted_proxies": ["10.0.0.0/8"],
        "origins": [{"name": "o", "url": "http://a"}],
        "groups": [{"name": "site", "members": ["o"]}],
        "routes": [
            {"pattern": "/open", "to": "site"},
            {"pattern": "/loose/*", "to": "site"},
            {"pattern": "/tls", "to": "site", "viewer": "https-only"},
            {"pattern": "/moves", "to": "site", "viewer": "redirect-to-https"},
            {"pattern": "/put", "to": "site", "methods": ["PUT"]},
            {"pattern": "/api/*", "to": "site", "preflight": "origin",
             "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}},
            {"pattern": "/ab", "to": "site",
             "experiments": [{"name": "home", "mode": "redirect", "variants": [["a", 50], ["b", 50]]}]},
            {"pattern": "/old/{rest:path}", "redirect": {"location": "/new/{rest}", "status": 301}},
        ],
    });
    compile(&serde_json::to_vec(&plan).unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn admitted(
    plan: &Plan,
    method: &str,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<Admitted, PathEnd> {
    let mut head = RequestParts {
        method: method.parse().unwrap(),
        target: url.try_into().unwrap(),
        ..RequestParts::default()
    };
    for (name, value) in [("host", "H.:80")].iter().chain(fields) {
        head.headers
            .append(*name, HeaderValue::from_str(value).unwrap());
    }
    let mut request = Admitted::arriving(head, false, [10, 0, 0, 1].into(), Scheme::Http);
    request
        .admit(plan, None, &LastAuthority::default())
        .map(|()| request)
}

#[test]
fn the_first_phase_that_objects_answers() {
    let plan = plan();
    let token = &[("authorization", "Bearer good")][..];
    for (method, url, fields, want) in [
        ("GET", "/open", &[][..], Ok("/open")),
        ("OPTIONS", "*", &[], Err(204)),
        ("GET", "/none", &[], Err(404)),
        ("GET", "/put", &[], Err(405)),
        ("GET", "/%zz", &[], Err(400)),
        ("GET", "/tls", &[], Err(403)),
        ("GET", "/tls", &[("x-forwarded-proto", "https")], Ok("/tls")),
        ("GET", "/moves", &[], Err(301)),
        ("POST", "/moves", &[], Err(308)),
        ("GET", "/api/x", &[], Err(401)),
        (
            "GET",
            "/api/x",
            &[("authorization", "Bearer bad")],
            Err(503),
        ),
        ("GET", "/api/x", token, Ok("/api/*")),
        ("GET", "/loose/..%2F..%2Fapi/x", token, Err(400)),
        (
            "OPTIONS",
            "/api/x",
            &[("origin", "o"), ("access-control-request-method", "PUT")],
            Ok("/api/*"),
        ),
        ("GET", "/ab", &[], Err(302)),
        ("GET", "/ab", &[("cookie", "ab-variant=b")], Ok("/ab")),
        ("GET", "/ab", &[("referer", "http://h/ab")], Ok("/ab")),
        ("POST", "/ab", &[], Ok("/ab")),
    ] {
        let found = admitted(&plan, method, url, fields).and_then(|mut asked| {
            let route = asked.decide(&plan, &mut Known::default())?;
            assert_eq!(asked.route, Some(route.id));
            Ok(&*route.label)
        });
        let found = found.map_err(|answer| answer.status().as_u16());
        assert_eq!(found, want, "{method} {url} {fields:?}");
    }
}

#[test]
fn a_preflight_loses_its_credentials_and_no_token_is_looked_up() {
    let plan = plan();
    let fields = [
        ("origin", "o"),
        ("access-control-request-method", "PUT"),
        ("authorization", "Bearer good"),
    ];
    let mut asked = admitted(&plan, "OPTIONS", "/api/x", &fields).unwrap();
    let mut known = Known::default();
    asked.decide(&plan, &mut known).unwrap();
    assert_eq!(known.tokens, 0);
    assert!(!asked.head.headers.contains_key("authorization"));
}

#[test]
fn fields_that_end_at_this_hop_are_removed_before_the_authority_is_read() {
    let plan = plan();
    let outer = ("x-forwarded-host", "outer.example");
    for (fields, want) in [
        (&[outer][..], "outer.example"),
        (&[outer, ("connection", "x-forwarded-host")], "h"),
    ] {
        let asked = admitted(&plan, "GET", "/open", fields).unwrap();
        assert_eq!((asked.host(), asked.base().host), ("h", want));
    }
}

#[test]
fn a_redirect_keeps_what_its_parameters_hold() {
    let plan = plan();
    let mut asked = admitted(&plan, "GET", "/old/a/b?c", &[]).unwrap();
    let route = asked.decide(&plan, &mut Known::default()).unwrap();
    let crate::plan::Target::Redirect(redirect) = &route.target else {
        panic!("{route:?}")
    };
    assert_eq!(asked.location(route, redirect).unwrap(), "/new/a/b?c");
}
