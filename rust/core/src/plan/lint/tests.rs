#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::{reached::free_host, *};
use crate::plan::compile;

fn rules(routes: &Value) -> Vec<&'static str> {
    let plan = json!({
        "name": "t",
        "trusted_proxies": ["10.0.0.0/8"],
        "origins": [{"name": "o", "url": "http://x"}, {"name": "u", "url": "https://x", "tls_verify": false}],
        "groups": [{"name": "both", "members": ["o", "u"]}],
        "routes": routes,
    });
    let plan = compile(&serde_json::to_vec(&plan).unwrap())
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    lint(&plan).iter().map(|lint| lint.rule).collect()
}

#[test]
fn a_plain_site_gets_no_advice() {
    assert!(
        rules(&json!([
            {"pattern": "/static/*", "to": "o", "cache": {"query": "none", "cookies": "none"}},
            {"pattern": "/*", "to": "o", "index": "index.html"},
        ]))
        .is_empty()
    );
}

#[test]
fn a_declaration_of_a_folder_gets_the_same_advice_once() {
    let cors = json!({"origins": "*", "methods": ["GET", "PUT"]});
    let route = |pattern: &str, folder: &str| json!({"pattern": pattern, "files": {"folder": folder}, "cors": cors});
    let (below, itself) = (route("/a/*", "/srv/a"), route("/a", "/srv/a"));
    let once = rules(&json!([below, itself]));
    assert_eq!(once, ["preflight-methods"]);
    let other = route("/b/*", "/srv/b");
    assert_eq!(rules(&json!([below, itself, other])).len(), 2);
    assert_eq!(rules(&json!([below, other, itself])).len(), 3);
}

#[test]
fn dangers_are_named() {
    let auth = |extra: Value| {
        let mut auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
        for (key, value) in extra.as_object().unwrap() {
            auth[key] = value.clone();
        }
        auth
    };
    for (route, want) in [
        (json!({"to": "o", "methods": ["GTE"]}), vec!["method"]),
        (json!({"to": "o", "methods": ["PURGE"]}), vec![]),
        (
            json!({"to": "o", "cache": {"query": "none"}, "forward": {"query": "all"}}),
            vec!["cache-poisoning"],
        ),
        (
            json!({"to": "o", "cache": {"query": {"only": ["a", "b"]}}, "forward": {"query": {"only": ["a"]}}}),
            vec![],
        ),
        (
            json!({"to": "o", "cache": {"query": {"except": ["utm"]}}, "forward": {"query": "all"}}),
            vec!["cache-poisoning"],
        ),
        (
            json!({"to": "o", "cache": {"cookies": "none"}, "forward": {"cookies": "all"}}),
            vec!["cache-poisoning"],
        ),
        (
            json!({"to": "o", "forward": {"headers": {"only": ["X-Original-URL"]}}}),
            vec!["cache-poisoning"],
        ),
        (
            json!({"to": "o", "cache": {"set_cookie": "strip"}}),
            vec!["set-cookie"],
        ),
        (
            json!({"to": "o", "cache": {"set_cookie": "strip", "cookies": "none"}}),
            vec![],
        ),
        (
            json!({"redirect": {"location": "https://{host}/"}, "pattern": "/{host}"}),
            vec!["open-redirect"],
        ),
        (
            json!({"redirect": {"location": "https://x/{host}"}, "pattern": "/{host}"}),
            vec![],
        ),
        (
            json!({"redirect": {"location": "/new/?a=1"}, "pattern": "/new/*"}),
            vec!["redirect-loop"],
        ),
        (
            json!({"redirect": {"location": "/new/"}, "pattern": "/old/*"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/a/*", "strip_prefix": "/b"}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/ab", "strip_prefix": "/a"}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/b*", "strip_prefix": "/b"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/*", "strip_prefix": "/b/"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/b/c/*", "strip_prefix": "/b"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/{a}/c", "strip_prefix": "/b"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/x/*", "rewrite": {"pattern": "/old/{a}", "to": "/new/{a}"}}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/x", "rewrite": {"pattern": "/x/{a}", "to": "/new/{a}"}}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/x/{a}", "rewrite": {"pattern": "/x", "to": "/new"}}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/", "rewrite": {"pattern": "/", "to": "/new"}}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/x/*", "rewrite": {"pattern": "/{a:path}", "to": "/new/{a}"}}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/b/*", "strip_prefix": "/b", "rewrite": {"pattern": "/old", "to": "/new"}}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/x", "index": "index.html"}),
            vec!["no-effect"],
        ),
        (
            json!({"to": "o", "pattern": "/x/", "index": "index.html"}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/b", "strip_prefix": "/b", "index": "index.html"}),
            vec![],
        ),
        (
            json!({"redirect": {"location": "/a"}, "pattern": "/a", "when": [{"cookie": "x"}]}),
            vec![],
        ),
        (
            json!({"to": "o", "pattern": "/search?q=*"}),
            vec!["query-in-pattern"],
        ),
        (json!({"to": "o", "pattern": "/img/?.png"}), vec![]),
        (
            json!({"to": "o", "cache": {"set_cookie": "strip", "cookies": {"only": ["a"]}}}),
            vec![],
        ),
        (
            json!({"to": "o", "cache": {"ttl": 60}}),
            vec!["set-cookie", "cache-deception"],
        ),
        (
            json!({"to": "o", "cache": {"default_ttl": 60, "extension_guard": true}}),
            vec![],
        ),
        (
            json!({"to": "o", "cache": {"set_cookie": "store", "cookies": "none"}}),
            vec!["set-cookie"],
        ),
        (
            json!({"to": "o", "errors": {"502": "/502.html"}}),
            vec!["error-page"],
        ),
        (json!({"to": "o", "errors": {"404": "/404.html"}}), vec![]),
        (json!({"to": "o", "errors": {"502": {"body": "x"}}}), vec![]),
        (
            json!({"to": "o", "cache": {"min_ttl": 3600}}),
            vec!["set-cookie", "cache-deception"],
        ),
        (
            json!({"to": "o", "cache": {"ttl": 60, "cookies": "none"}}),
            vec![],
        ),
        (json!({"to": "u"}), vec!["tls"]),
        (
            json!({"to": "o", "cors": {"origins": ["https://a.example", "null"], "credentials": true}}),
            vec!["null-origin"],
        ),
        (json!({"to": "o", "cors": {"origins": ["null"]}}), vec![]),
        (
            json!({"to": "o", "methods": ["GET", "PUT"], "cors": {"origins": "*", "methods": ["GET", "PUT"]}}),
            vec![],
        ),
        (
            json!({"to": "o", "methods": ["GET"], "cors": {"origins": "*"}}),
            vec![],
        ),
        (
            json!({"to": "o", "methods": ["GET"], "cors": {"origins": "*", "methods": ["GET", "PUT"]}}),
            vec!["preflight-methods"],
        ),
        (
            json!({"to": "o", "security": {"csp": "script-src 'self'", "hsts": {}}}),
            vec![],
        ),
        (
            json!({"to": "o", "security": {"csp": "scirpt-src 'self'", "csp_report_only": "img-src *"}}),
            vec!["csp", "csp"],
        ),
        (
            json!({"to": "o", "addresses": {"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}}),
            vec![],
        ),
        (
            json!({"to": "o", "addresses": {"allow": ["10.0.0.0/8"], "deny": ["192.168.0.0/16"]}}),
            vec!["addresses"],
        ),
        (
            json!({"to": "o", "auth": auth(json!({}))}),
            vec!["auth-not-shared", "auth-without-https", "preflight"],
        ),
        (
            json!({"to": "o", "viewer": "https-only", "auth": auth(json!({"shared": true}))}),
            vec!["shared-identity", "preflight"],
        ),
        (
            json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"claims": ["userId"]}}),
            vec!["preflight"],
        ),
        (
            json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"enabled": false}}),
            vec!["preflight"],
        ),
        (
            json!({"to": "o", "viewer": "https-only", "preflight": "origin", "auth": auth(json!({})), "cache": {"enabled": false}}),
            vec![],
        ),
    ] {
        let mut whole = json!({"pattern": "/*"});
        for (key, value) in route.as_object().unwrap() {
            whole[key] = value.clone();
        }
        assert_eq!(rules(&json!([whole])), want, "{route}");
    }
    assert_eq!(
        rules(&json!([{"pattern": "/*", "to": "o"}, {"pattern": "/*", "to": "o"}])),
        ["unreachable"]
    );
}

#[test]
fn guards_of_a_site_without_an_effect_are_named() {
    let plan = json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://x"}],
        "security": {"hsts": {}, "csp": "default-src 'none' 'self'"},
        "addresses": {"allow": ["10.0.0.0/8"], "deny": ["11.0.0.0/8"]},
        "limits": {"http": {"delayed_requests": 0}},
        "routes": [{
            "pattern": "/*",
            "to": "o",
            "addresses": {"allow": ["12.0.0.0/8"]},
            "rate_limits": [{"name": "l", "requests": 1, "delay": 5}],
        }],
    });
    let plan = compile(&serde_json::to_vec(&plan).unwrap()).unwrap();
    let found: Vec<_> = lint(&plan)
        .into_iter()
        .map(|lint| (lint.path, lint.rule, lint.level))
        .collect();
    use LintLevel::{Info, Warning};
    assert_eq!(
        found,
        [
            ("routes[0]", "addresses", Warning),
            ("routes[0]", "delay", Warning),
            ("security", "csp", Warning),
            ("security", "hsts", Info),
            ("addresses.deny", "addresses", Warning),
        ]
        .map(|(path, rule, level)| (path.to_owned(), rule, level))
    );
}

#[test]
fn https_needs_somebody_who_speaks_it() {
    let plan = json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://x"}],
        "routes": [{"pattern": "/*", "to": "o", "viewer": "https-only"}],
    });
    let plan = compile(&serde_json::to_vec(&plan).unwrap()).unwrap();
    let found = lint(&plan);
    let [only] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (only.path.as_str(), only.rule, only.level),
        ("routes[0]", "https", LintLevel::Warning)
    );
}

#[test]
fn a_request_may_choose_a_page_or_a_name_below_a_domain_but_no_domain() {
    for (location, free) in [
        ("/{a}", false),
        ("/there?next=https://{a}/", false),
        ("https://x.example/{a}", false),
        ("https://{a}.example.com/", false),
        ("https://x.example", false),
        ("https://{a}/", true),
        ("//{a}", true),
        ("https://{a}example.com/", true),
        ("https://x.{a}/", true),
        ("https://x.{a}", true),
        ("https://{a}.", true),
    ] {
        assert_eq!(free_host(location), free, "{location}");
    }
}

#[test]
fn experiments_of_different_routes_that_disturb_each_other_are_named() {
    let experiment = |name: &str, extra: Value| {
        let mut made = json!({"name": name, "variants": [["a", 50], ["b", 50]]});
        for (key, value) in extra.as_object().unwrap() {
            made[key] = value.clone();
        }
        made
    };
    let on =
        |pattern: &str, one: &Value| json!({"pattern": pattern, "to": "o", "experiments": [one]});
    let home = experiment("home", json!({}));
    let found = |other: &Value| rules(&json!([on("/", &home), on("/b", other)]));
    for (row, other, want) in [
        ("the same", home.clone(), vec![]),
        ("its cookie", experiment("b", json!({})), vec!["experiment"]),
        (
            "a cookie of its own",
            experiment("b", json!({"cookie": "b"})),
            vec![],
        ),
        (
            "other weights",
            experiment("home", json!({"variants": [["a", 1], ["b", 9]]})),
            vec!["experiment"],
        ),
        (
            "other variants",
            experiment("home", json!({"variants": [["x", 1], ["y", 1]]})),
            vec!["experiment"],
        ),
        (
            "another cookie",
            experiment("home", json!({"cookie": "b"})),
            vec!["experiment"],
        ),
        (
            "another run with its own cookie",
            experiment("home", json!({"cookie": "b", "salt": "2"})),
            vec![],
        ),
    ] {
        assert_eq!(found(&other), want, "{row}");
    }
    let other = experiment("b", json!({}));
    let apart = json!([on("a.example/", &home), on("b.example/", &other)]);
    assert!(
        rules(&apart).is_empty(),
        "cookies do not travel between hosts"
    );
}

#[test]
fn an_origin_without_requests_is_named_unless_functions_may_use_it() {
    let advice = |callables: Value, groups: Value| {
        let plan = json!({
            "name": "t",
            "origins": [{"name": "a", "url": "http://x"}, {"name": "b", "url": "http://y"}],
            "groups": groups,
            "callables": callables,
            "routes": [{"pattern": "/*", "to": "a"}],
        });
        let plan = compile(&serde_json::to_vec(&plan).unwrap())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        let found: Vec<_> = lint(&plan)
            .into_iter()
            .map(|lint| (lint.path, lint.rule))
            .collect();
        found
    };
    let unused = vec![("origins[1]".to_owned(), "unused-origin")];
    assert_eq!(advice(json!([]), json!([])), unused);
    assert_eq!(advice(json!([{"name": "f"}]), json!([])), vec![]);
    let group = json!([{"name": "g", "members": ["a", "b"]}]);
    assert_eq!(advice(json!([]), group), vec![]);
}

#[test]
fn a_route_without_a_token_among_the_paths_of_one_with_a_token_is_named() {
    let keys = json!({"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"});
    let closed = |pattern: &str, optional: bool| json!({"pattern": pattern, "to": "o", "auth": {"keys": keys, "optional": optional}});
    let with = |own: &Value, key: &str, value: Value| {
        let mut changed = own.clone();
        changed[key] = value;
        changed
    };
    let open = json!({"pattern": "/api/users", "to": "o"});
    let deeper = closed("/api/admin/*", false);
    for (outer, inner, is_named) in [
        (closed("/api/*", false), open.clone(), true),
        (
            closed("/api/*", false),
            with(&open, "methods", json!(["POST"])),
            true,
        ),
        (
            closed("/api/*", false),
            with(&open, "host", json!("a.example")),
            true,
        ),
        // The other route would not have taken them, or not all of them.
        (
            closed("/api/*", false),
            with(&open, "pattern", json!("/other")),
            false,
        ),
        (closed("a.example/api/*", false), open.clone(), false),
        (
            with(&closed("/api/*", false), "methods", json!(["GET"])),
            open.clone(),
            false,
        ),
        // A login page and files for everybody are usual beside a token for the rest of a site.
        (closed("/*", false), open.clone(), false),
        (closed("/api/*", true), open.clone(), false),
        (
            closed("/api/*", false),
            json!({"pattern": "/api/old", "redirect": {"location": "/new"}}),
            false,
        ),
        (closed("/api/*", false), deeper, false),
    ] {
        let found = rules(&json!([outer, inner]));
        assert_eq!(found.contains(&"open-within"), is_named, "{outer} {inner}");
    }
}
