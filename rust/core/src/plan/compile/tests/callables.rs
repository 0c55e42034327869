//! Callables and the hooks that call them.

use super::*;

#[test]
fn every_field_of_a_callable_is_read() {
    let plan = compiled(&full());
    assert!(plan.callables[0].serial && !plan.callables[1].serial);
    assert_eq!(plan.callables[0].timeout.as_secs(), 3);
    assert_eq!(plan.callables[1].timeout, plan.limits.functions.timeout);
}

#[test]
fn hooks_are_attached_to_the_routes_that_their_patterns_meet() {
    let plan = compiled(&full());
    let hooks = &plan.routes[0].hooks;
    assert_eq!(
        (hooks.viewer_request.len(), hooks.origin_request.len()),
        (1, 0)
    );
    assert!(
        hooks.viewer_request[0].always && hooks.viewer_request[0].host.is_some(),
        "one of the route's hosts is another"
    );
    assert_eq!(hooks.viewer_response.len(), 1);
    let last = &plan.routes[4];
    assert_eq!(
        (
            last.hooks.origin_request.len(),
            last.hooks.origin_response.len()
        ),
        (1, 1)
    );
    assert!(!last.hooks.origin_request[0].always);
}
