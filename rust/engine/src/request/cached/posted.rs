//! The answer to a POST that says it is what a GET of the same URL would get (RFC 9110 §9.3.3).

use std::{rc::Rc, sync::Arc, time::Instant};

use edgerouter_core::{
    cache::{key, slices::content_length, tags, validate},
    http::cache_control::{RequestDirectives, ResponseDirectives},
    plan::Route,
};
use http::{Method, Response};
use tokio::task::spawn_local;

use super::{
    fetch::{Question, departure, with_aside},
    flight::{Departed, judge},
    keep::take_in,
    look_up::dimensions,
    send::{read_along, straight},
};
use crate::{
    body::EdgeBody,
    request::{Exchange, answer, origin::Received},
};

/// Whether an answer is worth looking at: it is to a POST, about the POST's own URL, for an explicit time, and a GET of
/// that URL would take the same route.
pub fn represents(x: &Exchange, route: &Route, received: &Received) -> bool {
    if x.head.method != Method::POST || !route.cache.enabled || x.wants_upgrade {
        return false;
    }
    let (path, query) = (x.viewer_path.path(), x.viewer_path.query());
    let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
    // What is larger would be fetched slice by slice, which a POST must not be.
    let small = match (
        content_length(&received.headers),
        x.worker.slice_bytes(&x.live),
    ) {
        (Some(length), Some(slice)) => length <= slice,
        _ => true,
    };
    small
        && x.sees(route)
            .posted(&x.head.headers, x.head.uri.query(), x.claims.as_deref())
        && validate::represents_target(
            x.base(),
            (path, query),
            received.status,
            &received.headers,
            &directives,
        )
        && x.route_for_get(&x.live, path, query)
            .is_some_and(|of_get| of_get.id == route.id)
}

/// Answers the client, and stores the answer for the URL when it may be.
pub fn take_posted(x: &mut Exchange, route: &Route, mut received: Received) -> Response<EdgeBody> {
    let mut url_key = Vec::new();
    let uri = &x.head.uri;
    key::url(
        &mut url_key,
        x.base(),
        uri.path(),
        uri.query(),
        &route.cache,
    );
    let mut extra = Vec::new();
    dimensions(&mut extra, x, route);
    let question = Question {
        url_key,
        dimensions: extra,
        hooked: x.hooked.clone(),
        request: x.head.headers.clone(),
        method: Method::GET,
        reduced: route.cache.reduced(),
        directives: if route.cache.request_directives {
            RequestDirectives::parse(&x.head.headers)
        } else {
            RequestDirectives::default()
        },
        authorization: x.authorization(route),
        forbidden: x.forbidden(),
        stale: None,
        slice: None,
        // After the invalidation that the POST itself was.
        departs: departure(x),
        viewer: (x.viewer_path.path() != uri.path()).then(|| x.viewer_path.path().into()),
        stall: x.live.plan.limits.http.body_timeout,
        owner: x.owner(route),
    };
    let birth = question.birth(tags::take(&mut received.headers, &route.cache));
    match judge(&x.worker, route, &question, received, Instant::now(), birth) {
        Departed::Storing(mut arrival) => {
            let aside = std::mem::take(&mut arrival.aside);
            let arriving = Arc::clone(&arrival.arriving);
            let Some(reader) = arriving.body.reader() else {
                return answer::origin_failed(false);
            };
            x.note.stored = true;
            let worker = Rc::clone(&x.worker);
            spawn_local(async move { take_in(&worker, *arrival, &question).await });
            with_aside(read_along(x, &arriving, reader), aside)
        }
        Departed::Own(received, why) => {
            x.worker.metrics.not_stored(why.as_str());
            straight(received)
        }
        Departed::Stored(..)
        | Departed::Cut(_)
        | Departed::NotSliceable(..)
        | Departed::Failed(_) => answer::origin_failed(false),
    }
}
