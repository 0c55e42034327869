//! Routes that no request reaches, and the routes that a request is compared with.

use super::*;

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
fn a_request_is_compared_with_the_routes_that_share_its_prefix_and_not_with_all() {
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
    for (host, path, route) in [
        ("x", "/exact/5000", 5_000),
        ("x", "/prefix5001/a/b", 5_001),
        ("x", "/shop/5002/77/view", 5_002),
        ("h5003.example.com", "/q", 5_003),
    ] {
        let mut compared = Vec::new();
        plan.router
            .tables(host, |table| table.collect(path, &mut compared));
        compared.sort_by_key(|entry| entry.rank);
        let compared: Vec<u32> = compared.iter().map(|entry| entry.route.0).collect();
        assert_eq!(compared, [route, 10_000], "{host}{path}");
        assert_eq!(ask(&plan, "GET", host, path, &[]), Some(route));
    }
}
