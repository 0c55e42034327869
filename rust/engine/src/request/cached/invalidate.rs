//! Responses that an unsafe request makes out of date (RFC 9111 §4.4).

use std::rc::Rc;

use edgerouter_core::cache::{key::Key, validate};
use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;

use crate::{live::LocalLive, request::Exchange, worker::Worker};

/// Invalidates the responses that an unsafe request outdates (RFC 9111 §4.4): its own URL, and those of its origin that
/// the answer names in `Location` and `Content-Location`, as the viewer gets them and as the origin wrote them.
pub(crate) fn invalidate(
    worker: &Rc<Worker>,
    live: &Rc<LocalLive>,
    x: &Exchange,
    status: StatusCode,
    headers: [&HeaderMap; 2],
) {
    if !validate::invalidates(&x.head.method, status) {
        return;
    }
    let mut targets: SmallVec<[(String, Option<String>); 3]> = SmallVec::new();
    targets.push((
        x.viewer_path.path().to_owned(),
        x.viewer_path.query().map(str::to_owned),
    ));
    for headers in headers {
        let named = validate::invalidation_targets(x.base(), x.viewer_path.path(), headers);
        targets.extend(named);
    }
    for (path, query) in targets {
        // The key of a URL depends on the policy of the route that would serve it.
        let Some(route) = x.route_for_get(live, &path, query.as_deref()) else {
            continue;
        };
        let target = edgerouter_core::viewer::target_path(route, &path);
        let key = Key::of(
            Vec::new(),
            x.base(),
            &target,
            query.as_deref(),
            &route.cache,
        );
        worker.shared.cache.invalidate(key);
    }
}
