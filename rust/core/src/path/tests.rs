#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::{
    guard::{
        basic::{BasicPolicy, Credentials},
        rate::{RateDecision, RateKey, RateLimit},
    },
    identity::jwt::{JwtPolicy, TokenError},
    plan::compile,
};

/// Tokens hold where they are `Bearer good`; chance gives the first variant.
#[derive(Default)]
struct Known {
    tokens: usize,
    rates: Vec<String>,
}

impl LookUps for Known {
    fn token(
        &mut self,
        _: &Arc<JwtPolicy>,
        token: &[u8],
    ) -> Result<Option<Arc<Claims>>, TokenError> {
        self.tokens += 1;
        (token == b"good").then_some(None).ok_or(TokenError::NoKey)
    }

    fn rate(&mut self, limit: &RateLimit, key: RateKey<'_>) -> RateDecision {
        self.rates.push(format!("{} {key:?}", limit.name));
        let (decision, _) = limit.decide(0, 1);
        let refused = limit.name.starts_with("never");
        RateDecision {
            result: if refused { Err(7) } else { decision.result },
            ..decision
        }
    }

    fn password(&mut self, policy: &Arc<BasicPolicy>, credentials: &Credentials) -> Option<bool> {
        (credentials.user != "new").then(|| policy.verifies(credentials))
    }

    fn now(&self) -> u64 {
        1_000
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
    let mut request = Admitted::arriving(Box::new(head), false, [10, 0, 0, 1].into(), Scheme::Http);
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

fn guarded() -> Plan {
    let plan = json!({
        "name": "t",
        "hosts": ["h", "*.h"],
        "addresses": {"deny": ["192.0.2.0/24"]},
        "origins": [{"name": "o", "url": "http://a"}],
        "routes": [
            {"pattern": "/*", "to": "o"},
            {"pattern": "/office/*", "to": "o", "addresses": {"allow": ["10.0.0.0/8"]}},
            {"pattern": "/api/*", "to": "o", "methods": ["GET", "PUT"], "cors": {"origins": ["https://a.test"]},
             "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}},
            {"pattern": "/tls/*", "to": "o", "viewer": "https-only", "cors": {"origins": "*"}},
        ],
    });
    compile(&serde_json::to_vec(&plan).unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn guards_answer_in_their_order_and_a_preflight_before_any_token() {
    let plan = guarded();
    let office = [10, 0, 0, 1];
    let preflight = |origin: &'static str, method: &'static str| {
        vec![
            ("origin", origin),
            ("access-control-request-method", method),
        ]
    };
    for (client, method, host, url, fields, want) in [
        (office, "GET", "h", "/x", vec![], Ok("/*")),
        (office, "GET", "a.h:8080", "/x", vec![], Ok("/*")),
        (office, "GET", "other", "/x", vec![], Err(421)),
        (office, "OPTIONS", "other", "*", vec![], Err(421)),
        ([192, 0, 2, 7], "GET", "h", "/x", vec![], Err(403)),
        ([192, 0, 2, 7], "GET", "other", "/x", vec![], Err(403)),
        (office, "GET", "h", "/office/x", vec![], Ok("/office/*")),
        ([198, 51, 100, 1], "GET", "h", "/office/x", vec![], Err(403)),
        // A lenient server would read it as below /office/.
        (
            [198, 51, 100, 1],
            "GET",
            "h",
            "/x%2F..%2Foffice/x",
            vec![],
            Err(400),
        ),
        (office, "GET", "h", "/api/x", vec![], Err(401)),
        (
            office,
            "OPTIONS",
            "h",
            "/api/x",
            preflight("https://a.test", "PUT"),
            Err(204),
        ),
        (
            office,
            "OPTIONS",
            "h",
            "/api/x",
            preflight("https://b.test", "PUT"),
            Err(403),
        ),
        // The route does not take DELETE: the catch-all does, which answers no preflights.
        (
            office,
            "OPTIONS",
            "h",
            "/api/x",
            preflight("https://a.test", "DELETE"),
            Ok("/*"),
        ),
        (
            office,
            "OPTIONS",
            "h",
            "/tls/x",
            preflight("https://a.test", "GET"),
            Err(403),
        ),
        (
            office,
            "OPTIONS",
            "h",
            "/x",
            preflight("https://a.test", "GET"),
            Ok("/*"),
        ),
    ] {
        let mut head = RequestParts {
            method: method.parse().unwrap(),
            target: url.try_into().unwrap(),
            ..RequestParts::default()
        };
        for (name, value) in [("host", host)].into_iter().chain(fields.clone()) {
            head.headers
                .append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut request = Admitted::arriving(Box::new(head), false, client.into(), Scheme::Http);
        request
            .admit(&plan, None, &LastAuthority::default())
            .unwrap();
        let mut known = Known::default();
        let found = request.decide(&plan, &mut known);
        let found = found
            .map(|route| &*route.label)
            .map_err(|end| end.status().as_u16());
        assert_eq!(found, want, "{method} {host} {url} {fields:?}");
        assert_eq!(known.tokens, 0);
    }
}

#[test]
fn what_the_edge_requests_of_itself_passes_the_lists_of_addresses_and_hosts() {
    let plan = guarded();
    for (internal, want) in [(false, Some(421)), (true, None)] {
        let mut head = RequestParts {
            target: "/office/x".try_into().unwrap(),
            ..RequestParts::default()
        };
        head.headers
            .append("host", HeaderValue::from_static("other"));
        let mut request =
            Admitted::arriving(Box::new(head), false, [127, 0, 0, 1].into(), Scheme::Http);
        request.internal = internal;
        request
            .admit(&plan, None, &LastAuthority::default())
            .unwrap();
        let ended = request.decide(&plan, &mut Known::default()).err();
        assert_eq!(ended.map(|end| end.status().as_u16()), want);
    }
}

#[test]
fn limits_of_the_site_are_those_of_every_route_and_come_first() {
    let limit = |name: &str, by: &str| json!({"name": name, "requests": 5, "by": by});
    let plan = |site: serde_json::Value, own: serde_json::Value| {
        let plan = json!({
            "name": "t",
            "rate_limits": site,
            "routes": [
                {"pattern": "/a", "respond": {"status": 200}, "rate_limits": own},
                {"pattern": "/b", "respond": {"status": 200}},
            ],
        });
        compile(&serde_json::to_vec(&plan).unwrap())
    };
    let made = plan(
        json!([limit("all", "address")]),
        json!([limit("own", "route")]),
    )
    .unwrap();
    let names = |at: usize| -> Vec<String> {
        let guard = made.routes[at].guard.as_ref().unwrap();
        guard
            .limits
            .iter()
            .map(|limit| limit.name.to_string())
            .collect()
    };
    assert_eq!(
        (names(0), names(1)),
        (
            vec!["all".to_owned(), "own".to_owned()],
            vec!["all".to_owned()]
        )
    );
    for (site, own, want) in [
        (
            json!([limit("all", "claim:sub")]),
            json!([]),
            "rate_limits[0].by: is for routes with auth",
        ),
        (
            json!([limit("all", "address"), limit("all", "address")]),
            json!([]),
            "rate_limits[1].name: \"all\": is a limit of the site already",
        ),
        (
            json!([limit("all", "address")]),
            json!([limit("all", "address")]),
            "routes[0].rate_limits[0].name: \"all\": is a limit of this route or of the site already",
        ),
    ] {
        let problems = plan(site, own).unwrap_err();
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string().starts_with(want)),
            "{problems:?}"
        );
    }
}

#[test]
fn limits_by_address_come_before_tokens_and_limits_by_claim_after() {
    let auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
    let limit = |name: &str, by: &str| json!({"name": name, "requests": 5, "by": by});
    let plan = json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://a"}],
        "routes": [
            {"pattern": "/a", "to": "o", "auth": auth, "rate_limits": [limit("first", "address"), limit("claim", "claim:sub")]},
            {"pattern": "/b", "to": "o", "auth": auth, "rate_limits": [limit("never", "header:x-key"), limit("claim", "claim:sub")]},
            {"pattern": "/c", "to": "o", "rate_limits": [limit("first", "address"), limit("never-c", "route")]},
        ],
    });
    let plan = compile(&serde_json::to_vec(&plan).unwrap())
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    let names: Vec<&str> = plan.guard.limits.iter().map(|limit| &*limit.name).collect();
    assert_eq!(names, ["first", "claim", "never", "never-c"]);
    let client = "Client(V4(167772161))";
    for (url, token, internal, tokens, want, end) in [
        (
            "/a",
            "Bearer good",
            false,
            1,
            vec![format!("first {client}"), format!("claim {client}")],
            None,
        ),
        (
            "/a",
            "Bearer bad",
            false,
            1,
            vec![format!("first {client}")],
            Some(503),
        ),
        (
            "/b",
            "Bearer good",
            false,
            0,
            vec!["never Value([107])".to_owned()],
            Some(429),
        ),
        (
            "/c",
            "",
            false,
            0,
            vec![format!("first {client}"), "never-c All".to_owned()],
            Some(429),
        ),
        ("/c", "", true, 0, vec![], None),
    ] {
        let mut request = admitted(
            &plan,
            "GET",
            url,
            &[("authorization", token), ("x-key", "k")],
        )
        .unwrap();
        request.internal = internal;
        let mut known = Known::default();
        let found = request
            .decide(&plan, &mut known)
            .err()
            .map(|end| end.status().as_u16());
        assert_eq!(
            (found, known.rates, known.tokens),
            (end, want, tokens),
            "{url} {token}"
        );
    }
}

#[test]
fn a_password_opens_its_route_and_leaves_the_request() {
    let users = "ann:$2b$04$KBCwKxOzLha2MUDcmMfM6.nlgvSZfcmmZkrYKQMtWsiIv1xlNzTYa";
    let plan = json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://a"}],
        "routes": [
            {"pattern": "/staff/*", "to": "o", "basic": {"users": {"value": users}}},
            {"pattern": "/*", "to": "o"},
        ],
    });
    let plan = compile(&serde_json::to_vec(&plan).unwrap())
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    for (url, user, want) in [
        ("/staff/x", None, Err(401)),
        ("/staff/x", Some("eve:one"), Err(401)),
        ("/staff/x", Some("ann:other"), Err(401)),
        ("/staff/x", Some("new:one"), Err(503)),
        ("/x%2F..%2Fstaff/x", None, Err(400)),
        ("/x", None, Ok(false)),
    ] {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let field = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        let fields: Vec<(&str, &str)> = field
            .iter()
            .map(|field| ("authorization", &**field))
            .collect();
        let found = admitted(&plan, "GET", url, &fields).and_then(|mut request| {
            request.decide(&plan, &mut Known::default())?;
            Ok(request.head.headers.contains_key("authorization"))
        });
        assert_eq!(
            found.map_err(|end| end.status().as_u16()),
            want,
            "{url} {user:?}"
        );
    }
}
