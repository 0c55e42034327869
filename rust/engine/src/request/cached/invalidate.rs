//! Responses that an unsafe request makes out of date (RFC 9111 §4.4).

use std::rc::Rc;

use edgerouter_core::{
    cache::{key::Key, validate},
    http::Fields,
};
use http::StatusCode;
use smallvec::SmallVec;

use crate::{live::LocalLive, request::Exchange, worker::Worker};

/// Invalidates the responses that an unsafe request outdates (RFC 9111 §4.4): its own URL, and those of its origin that
/// the answer names in `Location` and `Content-Location`, as the viewer gets them and as the origin wrote them.
pub(crate) fn invalidate<const N: usize>(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    exchange: &Exchange,
    status: StatusCode,
    headers: [&Fields; N],
) {
    if !validate::invalidates(&exchange.head.method, status) {
        return;
    }
    let mut targets: SmallVec<[(String, Option<String>); 3]> = SmallVec::new();
    let viewer = &exchange.viewer_path;
    targets.push((viewer.path().to_owned(), viewer.query().map(str::to_owned)));
    for headers in headers {
        let named = validate::invalidation_targets(exchange.base(), viewer.path(), headers);
        targets.extend(named);
    }
    for (path, query) in targets {
        // The key of a URL depends on the policy of the route that would serve it.
        let Some(route) = exchange.route_for_get(live, &path, query.as_deref()) else {
            continue;
        };
        let target = edgerouter_core::viewer::target_path(route, &path);
        let key = Key::of(
            Vec::new(),
            exchange.base(),
            &target,
            query.as_deref(),
            &route.cache,
        );
        worker.shared.cache.invalidate(key);
    }
}
