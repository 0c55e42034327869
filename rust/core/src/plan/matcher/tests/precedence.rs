//! The route that takes a request among those that match.

use super::*;

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
