//! Experiments.

use super::*;

#[test]
fn every_field_of_an_experiment_is_read() {
    let plan = compiled(&full());
    let [experiment] = plan.experiments.as_slice() else {
        panic!("{} experiments", plan.experiments.len());
    };
    assert_eq!(&*experiment.id.name, "home");
    assert!(experiment.converts("POST", "/checkout/7", StatusCode::OK));
    assert!(!experiment.converts("GET", "/checkout/7", StatusCode::OK));
}

#[test]
fn a_mistake_in_an_experiment_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"experiments": [{"name": "a", "variants": [["x", -1]]}]}),
            "routes[0].experiments[0].variants[0]: [\"x\",-1]: must have a weight ≥ 0",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 0]]}]}),
            "routes[0].experiments[0]",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/x"}]}),
            "routes[0].experiments[0].config: \"NONE\": names no key-value store",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "NONE"}]}),
            "routes[0].experiments[0].config: \"NONE\": must be kv:BINDING/KEY",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/{varient}"}]}),
            "routes[0].experiments[0].config: {varient}: may have {name} and {variant}",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/x", "payload_header": "x-variant"}]}),
            "routes[0].experiments[0].payload_header: \"x-variant\": has a variant",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "payload_header": "X-A"}]}),
            "routes[0].experiments[0].payload_header: \"X-A\": has no effect without config",
        ),
        (
            json!({"experiments": [{"name": "a", "by": "sub", "variants": [["x", 1], ["y", 1]]}]}),
            "routes[0].experiments[0].by: needs auth",
        ),
        (
            json!({"experiments": [
                {"name": "a", "variants": [["x", 1], ["y", 1]]},
                {"name": "b", "header": "x-b", "variants": [["x", 1], ["y", 1]]},
            ]}),
            "routes[0].experiments[1].cookie: \"ab-variant\": is that of experiments[0] too",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
