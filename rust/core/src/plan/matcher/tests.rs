#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Reverse;

use crate::http::Fields;
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::plan::{Plan, compile};

/// A small generator: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
    fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.roll(of.len())]
    }
    fn text(&mut self, of: &[&str], most: usize) -> String {
        (0..=self.roll(most)).map(|_| self.pick(of)).collect()
    }
}

/// The obvious matcher: exponential, and correct.
fn slow(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', rest @ ..] => (0..=path.len()).any(|n| slow(rest, &path[n..])),
        [b'?', rest @ ..] => !path.is_empty() && slow(rest, &path[1..]),
        [b'{', ..] => {
            let end = pattern.iter().position(|byte| *byte == b'}').unwrap();
            let (name, rest) = (&pattern[1..end], &pattern[end + 1..]);
            if name.ends_with(b":path") {
                return (0..=path.len()).any(|n| slow(rest, &path[n..]));
            }
            (1..=path.len())
                .take_while(|n| path[n - 1] != b'/')
                .any(|n| slow(rest, &path[n..]))
        }
        [byte, rest @ ..] => path.first() == Some(byte) && slow(rest, &path[1..]),
    }
}

fn random_pattern(dice: &mut Dice) -> Option<(String, PathPattern)> {
    let mut text = "/".to_owned();
    let mut names = ["{a}", "{b}", "{c:path}", "{d}"].into_iter();
    for _ in 0..dice.roll(7) {
        match dice.roll(9) {
            0 | 1 => text.push('*'),
            2 => text.push('?'),
            3 | 4 => text.push_str(names.next().unwrap_or("x")),
            _ => text.push_str(dice.pick(&["/", "x", "y", "xy"])),
        }
    }
    PathPattern::parse(&text)
        .ok()
        .map(|pattern| (text, pattern))
}

#[test]
fn patterns_agree_with_the_obvious_matcher() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut matched = 0;
    for _ in 0..40_000 {
        let Some((text, pattern)) = random_pattern(&mut dice) else {
            continue;
        };
        let path = format!("/{}", dice.text(&["/", "x", "y", "xx"], 7));
        let want = slow(text.as_bytes(), path.as_bytes());
        matched += usize::from(want);
        assert_eq!(pattern.matches(&path), want, "{text} on {path}");
        assert_eq!(
            pattern.automaton.matches(path.as_bytes()),
            want,
            "automaton: {text} on {path}"
        );
        let captured = pattern.captures(&path);
        assert_eq!(captured.is_some(), want, "captures: {text} on {path}");
        if let Some(captured) = captured {
            // Filled in again, the captures of a pattern without anonymous wildcards give the path.
            let mut filled = text.clone();
            for (name, value) in captured {
                filled = filled
                    .replace(&format!("{{{name}}}"), &value)
                    .replace(&format!("{{{name}:path}}"), &value);
            }
            assert!(
                filled.contains(['*', '?']) || filled == path,
                "{text} on {path}: {filled}"
            );
        }
    }
    assert!(matched > 4_000, "the test must see matches: {matched}");
}

#[test]
fn covering_and_intersecting_agree_with_samples() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let paths: Vec<String> = (0..400)
        .map(|_| format!("/{}", dice.text(&["/", "x", "y"], 6)))
        .collect();
    let mut covered = 0;
    for _ in 0..2_000 {
        let (Some((a, left)), Some((b, right))) =
            (random_pattern(&mut dice), random_pattern(&mut dice))
        else {
            continue;
        };
        let covers = left.covers(&right);
        let intersects = left.intersects(&right);
        covered += usize::from(covers);
        assert_eq!(intersects, right.intersects(&left), "{a} and {b}");
        assert!(left.covers(&left), "{a}");
        for path in &paths {
            let (l, r) = (left.matches(path), right.matches(path));
            assert!(!(covers && r && !l), "{a} covers {b}, but {path}");
            assert!(intersects || !(l && r), "{a} and {b} are apart, but {path}");
        }
    }
    assert!(covered > 50, "{covered}");
}

#[test]
fn patterns_match_as_the_table_says() {
    for (pattern, path, want) in [
        ("/", "/", true),
        ("/", "/x", false),
        ("/*", "/", true),
        ("/static/*", "/static/", true),
        ("/static/*", "/static", false),
        ("/static/*", "/Static/a", false),
        ("/static/*.css", "/static/a/b.css", true),
        ("/a?c", "/abc", true),
        ("/a?c", "/a/c", true),
        ("/a?c", "/ac", false),
        ("/caf???", "/caf%C3", true),
        ("/hello/{name}", "/hello/x", true),
        ("/hello/{name}", "/hello/", false),
        ("/hello/{name}", "/hello/x/y", false),
        ("/hello/{name}/", "/hello/x/", true),
        ("/{a}-{b}.html", "/x-y-z.html", true),
        ("/{rest:path}", "/", true),
        ("/v/{rest:path}/end", "/v/a/b/end", true),
        ("/café/*", "/caf%C3%A9/x", true),
        ("/%7euser/*", "/~user/x", true),
        ("/a%2fb", "/a%2Fb", true),
        ("/a b", "/a%20b", true),
        ("/**", "/x", true),
    ] {
        assert_eq!(
            PathPattern::parse(pattern).unwrap().matches(path),
            want,
            "{pattern} on {path}"
        );
    }
}

#[test]
fn bad_patterns_say_what_to_do() {
    for (pattern, part) in [
        ("static/*", "start with"),
        ("", "start with"),
        ("/{name", "no \"}\""),
        ("/name}", "no \"{\""),
        ("/{}", "not a parameter"),
        ("/{a:int}", "not a parameter"),
        ("/{1a}", "not a parameter"),
        ("/{a}/{a}", "twice"),
        ("/{a}{b}", "touch"),
        ("/%zz", "hexadecimal"),
        ("/a#b", "fragment"),
        ("/a/../b", "never match"),
        ("/a/%2E", "never match"),
        ("/a\n", "control"),
    ] {
        let error = PathPattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(part), "{pattern}: {error}");
    }
    assert!(PathPattern::parse(&format!("/{}", "x".repeat(2_000))).is_err());
}

#[test]
fn captures_are_decoded_and_greedy_from_the_left() {
    let of = |pattern: &str, path: &str| PathPattern::parse(pattern).unwrap().captures(path);
    let pairs = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(a, b)| (String::from(*a), String::from(*b)))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        of("/hello/{name}", "/hello/J%C3%BCrgen%2Fx"),
        pairs(&[("name", "Jürgen/x")])
    );
    assert_eq!(of("/{a}-{b}", "/x-y-z"), pairs(&[("a", "x-y"), ("b", "z")]));
    assert_eq!(
        of("/{a:path}/{b}", "/x/y/z"),
        pairs(&[("a", "x/y"), ("b", "z")])
    );
    assert_eq!(of("/{a:path}", "/"), pairs(&[("a", "")]));
    assert_eq!(of("/{a}", "/%FF"), pairs(&[("a", "\u{fffd}")]));
    assert_eq!(of("/{a}", "/x/y"), None);
    assert_eq!(of("/*", "/x"), pairs(&[]));
}

#[test]
fn hostile_paths_cost_linear_time() {
    let path = format!("/{}", "a".repeat(16_000));
    for pattern in [
        "/*a*a*a*a*a*a*a*b",
        "/{x}a{y}a{z}ab",
        "/*{x}ab*?{y}b",
        "/?*a{x}aa?b*b",
    ] {
        let started = std::time::Instant::now();
        assert!(
            !PathPattern::parse(pattern).unwrap().matches(&path),
            "{pattern}"
        );
        assert!(
            started.elapsed().as_millis() < 200,
            "{pattern}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn hosts_match_without_case_and_port() {
    for (pattern, host, want) in [
        ("www.example.com", "www.example.com", true),
        ("WWW.Example.com", "www.EXAMPLE.com", true),
        ("www.example.com", "www.example.com.", true),
        ("www.example.com", "example.com", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "badexample.com", false),
        ("*", "anything", true),
        ("[::1]", "[::1]", true),
        ("127.0.0.1", "127.0.0.1", true),
    ] {
        assert_eq!(
            HostPattern::parse(pattern).unwrap().matches(host),
            want,
            "{pattern} on {host}"
        );
    }
    for pattern in [
        "",
        "a:80",
        "http://a",
        "a.*.com",
        "*a.com",
        "münchen.de",
        "a..b",
        "-".repeat(64).as_str(),
        "[::1]:80",
        "[x]",
    ] {
        assert!(HostPattern::parse(pattern).is_err(), "{pattern}");
    }
}

fn plan(routes: Value) -> Plan {
    let routes: Vec<Value> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let mut route = route.clone();
            route["respond"] = json!({"status": 200});
            route
        })
        .collect();
    let json = serde_json::to_vec(&json!({"name": "test", "routes": routes})).unwrap();
    compile(&json).unwrap_or_else(|problems| {
        panic!(
            "{}",
            problems
                .iter()
                .map(|p| format!("{p}\n"))
                .collect::<String>()
        )
    })
}

fn ask(
    plan: &Plan,
    method: &str,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<u32> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let headers: Fields = headers
        .iter()
        .map(|(name, value)| {
            (
                crate::http::FieldName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    let probe = Probe {
        host,
        path,
        query: ProbeQuery::Text(query),
        place: None,
        method: &method,
        headers: &headers,
    };
    let found = plan.router.find(&plan.routes, &probe);
    let first = plan
        .router
        .candidates(&plan.routes, &probe)
        .into_iter()
        .find(|(_, verdict)| *verdict == MatchResult::Matches);
    assert_eq!(
        found,
        first.map(|(id, _)| id),
        "find and candidates must agree"
    );
    found.map(|id| id.0)
}

#[test]
fn precedence_is_as_documented() {
    let plan = plan(json!([
        {"pattern": "/*"},
        {"pattern": "/hello/{name}"},
        {"pattern": "/hello/world"},
        {"pattern": "/hello/*"},
        {"pattern": "/static/*", "host": "www.example.com"},
        {"pattern": "/static/*"},
        {"pattern": "*.example.com/static/*"},
        {"pattern": "/static/special", "priority": -1},
        {"pattern": "/urgent/*", "priority": 5},
        {"pattern": "/urgent/x"},
        {"pattern": "*.b.example.com/*"},
    ]));
    for (host, path, want) in [
        ("x", "/", 0),
        ("x", "/hello/world", 2),
        ("x", "/hello/you", 1),
        ("x", "/hello/you/there", 3),
        ("www.example.com", "/static/a", 4),
        ("cdn.example.com", "/static/a", 6),
        ("example.com", "/static/a", 5),
        ("x", "/static/special", 5),
        ("x", "/urgent/x", 8),
        // The longer suffix is the more specific host, whatever the paths.
        ("a.b.example.com", "/static/a", 10),
        ("a.b.example.com", "/urgent/x", 8),
    ] {
        assert_eq!(
            ask(&plan, "GET", host, path, &[]),
            Some(want),
            "{host}{path}"
        );
    }
}

#[test]
fn methods_and_conditions_choose() {
    let plan = plan(json!([
        {"pattern": "/api/*", "methods": ["GET"]},
        {"pattern": "/api/*", "methods": ["POST", "PUT"]},
        {"pattern": "/c", "when": [{"cookie": "beta", "equals": "1"}]},
        {"pattern": "/c", "when": [{"header": "user-agent", "matches": "*Mobile*"}]},
        {"pattern": "/c", "when": [{"query": "v", "present": true}, {"header": "x", "present": false}]},
        {"pattern": "/c"},
    ]));
    assert_eq!(ask(&plan, "GET", "h", "/api/x", &[]), Some(0));
    assert_eq!(ask(&plan, "HEAD", "h", "/api/x", &[]), Some(0));
    assert_eq!(ask(&plan, "PUT", "h", "/api/x", &[]), Some(1));
    assert_eq!(ask(&plan, "DELETE", "h", "/api/x", &[]), None);
    let headers = Fields::new();
    let probe = Probe {
        host: "h",
        path: "/api/x",
        query: ProbeQuery::Text(None),
        place: None,
        method: &Method::DELETE,
        headers: &headers,
    };
    let allowed: Vec<String> = plan
        .router
        .allowed_methods(&plan.routes, &probe)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(allowed, ["GET", "HEAD", "POST", "PUT"]);
    let nowhere = Probe {
        path: "/nowhere",
        ..probe
    };
    assert!(
        plan.router
            .allowed_methods(&plan.routes, &nowhere)
            .is_empty()
    );
    assert_eq!(
        ask(&plan, "GET", "h", "/c", &[("cookie", "a=2; beta=1")]),
        Some(2)
    );
    assert_eq!(
        ask(&plan, "GET", "h", "/c", &[("user-agent", "X Mobile Y")]),
        Some(3)
    );
    assert_eq!(ask(&plan, "GET", "h", "/c?v", &[]), Some(4));
    assert_eq!(ask(&plan, "GET", "h", "/c?v", &[("x", "1")]), Some(5));
    assert_eq!(ask(&plan, "GET", "h", "/c?w=v", &[]), Some(5));
}

/// The precedence rule of docs/design.md §3, written out.
fn slow_find(plan: &Plan, probe: &Probe<'_>) -> Option<RouteId> {
    let mut best = None;
    for route in &plan.routes {
        let any = [HostPattern::Any];
        for host in if route.hosts.is_empty() {
            &any[..]
        } else {
            &route.hosts
        } {
            if !host.matches(probe.host)
                || !slow(route.path.as_str().as_bytes(), probe.path.as_bytes())
            {
                continue;
            }
            if !route.methods.is_empty() && !route.methods.contains(probe.method) {
                continue;
            }
            let key = (
                Reverse(route.priority),
                match host {
                    HostPattern::Exact(_) => (0, 0),
                    HostPattern::Below(suffix) => (1, usize::MAX - suffix.len()),
                    HostPattern::Any => (2, 0),
                },
                route.path.wildcards() > 0,
                Reverse(route.path.literal_prefix().len()),
                route.path.wildcards(),
                route.id,
            );
            if best.as_ref().is_none_or(|(known, _)| key < *known) {
                best = Some((key, route.id));
            }
        }
    }
    best.map(|(_, id)| id)
}

#[test]
fn the_router_agrees_with_the_rule() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let hosts = ["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*"];
    let mut found = 0;
    for _ in 0..300 {
        let mut routes = Vec::new();
        for _ in 0..=dice.roll(25) {
            let Some((pattern, _)) = random_pattern(&mut dice) else {
                continue;
            };
            let mut route =
                json!({"pattern": pattern, "priority": ([0, 0, 0, 1, -1][dice.roll(5)])});
            match dice.roll(4) {
                0 => route["host"] = json!(dice.pick(&hosts)),
                1 => route["host"] = json!(["a.com", dice.pick(&hosts[1..4])]),
                _ => {}
            }
            if dice.roll(4) == 0 {
                route["methods"] = json!(["POST"]);
            }
            routes.push(route);
        }
        let plan = plan(Value::Array(routes));
        let headers = Fields::new();
        let unreachable = plan.router.unreachable(&plan.routes);
        for _ in 0..60 {
            let path = format!("/{}", dice.text(&["/", "x", "y", "xy"], 6));
            let host = dice.pick(&["a.com", "b.a.com", "c.b.a.com", "z.a.com", "other"]);
            let method = if dice.roll(3) == 0 {
                Method::POST
            } else {
                Method::GET
            };
            let probe = Probe {
                host,
                path: &path,
                query: ProbeQuery::Text(None),
                place: None,
                method: &method,
                headers: &headers,
            };
            let got = plan.router.find(&plan.routes, &probe);
            assert_eq!(
                got,
                slow_find(&plan, &probe),
                "{host}{path} in {:?}",
                labels(&plan)
            );
            found += usize::from(got.is_some());
            assert!(
                !unreachable.iter().any(|(id, _)| Some(*id) == got),
                "{host}{path} in {:?}",
                labels(&plan)
            );
        }
    }
    assert!(found > 5_000, "{found}");
}

fn labels(plan: &Plan) -> Vec<String> {
    plan.routes
        .iter()
        .map(|route| format!("{} {} {:?}", route.label, route.priority, route.methods))
        .collect()
}

#[test]
fn unreachable_routes_are_named_with_what_shadows_them() {
    let plan = plan(json!([
        {"pattern": "/a/*"},
        {"pattern": "/a/*"},
        {"pattern": "/b/{x}"},
        {"pattern": "/b/*", "methods": ["GET"], "priority": 1},
        {"pattern": "/c/*", "priority": 9},
        {"pattern": "/c/d/e"},
        {"pattern": "/c/*", "host": "h.example"},
        {"pattern": "/f", "when": [{"cookie": "x", "present": true}], "priority": 2},
        {"pattern": "/f"},
    ]));
    let got: Vec<(u32, u32)> = plan
        .router
        .unreachable(&plan.routes)
        .iter()
        .map(|(a, b)| (a.0, b.0))
        .collect();
    // /b/{x} still takes POST; /f is taken when the condition fails.
    assert_eq!(got, [(1, 0), (5, 4), (6, 4)]);
}

#[test]
fn the_order_lists_every_route_once() {
    let plan = plan(json!([
        {"pattern": "/*"},
        {"pattern": "/x", "host": ["a.com", "b.com"]},
        {"pattern": "/y"},
        {"pattern": "/z/*", "priority": 1},
    ]));
    let order: Vec<u32> = plan.router.order().iter().map(|id| id.0).collect();
    assert_eq!(order, [3, 1, 2, 0]);
}

/// Not a benchmark, a guard against a cost that grows with the table: the bound is ten times what was measured.
#[test]
fn ten_thousand_routes_match_fast() {
    let routes: Vec<Value> = (0..10_000)
        .map(|n| match n % 4 {
            0 => json!({"pattern": format!("/exact/{n}")}),
            1 => json!({"pattern": format!("/prefix{n}/*")}),
            2 => json!({"pattern": format!("/shop/{n}/{{id}}/view")}),
            _ => json!({"pattern": "/*", "host": format!("h{n}.example.com")}),
        })
        .chain([json!({"pattern": "/*"})])
        .collect();
    let plan = plan(Value::Array(routes));
    let headers = Fields::new();
    let cases = [
        ("x", "/exact/5000"),
        ("x", "/prefix5001/a/b"),
        ("x", "/shop/5002/77/view"),
        ("h5003.example.com", "/q"),
        ("x", "/none"),
    ];
    let rounds = 20_000u32;
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        for (host, path) in cases {
            let probe = Probe {
                host,
                path,
                query: ProbeQuery::Text(None),
                place: None,
                method: &Method::GET,
                headers: &headers,
            };
            assert!(std::hint::black_box(plan.router.find(&plan.routes, &probe)).is_some());
        }
    }
    let each = started.elapsed() / (rounds * cases.len() as u32);
    println!("{each:?} a match");
    assert!(each.as_nanos() < 3_000, "{each:?}");
}

#[test]
fn a_pattern_is_as_long_as_its_encoding() {
    use super::tokens::{LONGEST, PatternError};
    // "é" has two bytes, and six on the wire.
    for (count, fits) in [(170, true), (171, false), (500, false)] {
        let text = format!("/{}*", "é".repeat(count));
        let path = format!("/{}x", "%C3%A9".repeat(count));
        match PathPattern::parse(&text) {
            Ok(pattern) => assert!(fits && pattern.matches(&path), "{count}"),
            Err(error) => {
                assert_eq!(error, PatternError::TooLongEncoded(2 + 6 * count));
                assert!(!fits, "{count}");
            }
        }
    }
    let longest = format!("/{{a}}{}*", "x".repeat(LONGEST - 5));
    assert!(
        PathPattern::parse(&longest)
            .unwrap()
            .matches(&format!("/b{}", "x".repeat(LONGEST - 5)))
    );
}
