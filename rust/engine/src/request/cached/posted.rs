//! The answer to a POST that also serves as the answer to a GET of the same URL (RFC 9110 §9.3.3).

use std::{rc::Rc, time::Instant};

use edgerouter_core::{
    cache::{question::Question, slices::content_length, tags, validate},
    http::cache_control::ResponseDirectives,
    plan::Route,
};
use http::{Method, Response};
use tokio::task::spawn_local;

use super::{
    flight::judge,
    keep::take_in,
    missing::CacheFetch,
    outcome::FetchOutcome,
    send::{read_along, straight, with_aside},
};
use crate::{
    body::EdgeBody,
    request::{Exchange, answer, origin::Received},
};

/// True if an answer is worth looking at: it is to a POST, about the POST's own URL, for an explicit time, and a GET of
/// that URL would take the same route.
pub(crate) fn represents(x: &Exchange, route: &Route, received: &Received) -> bool {
    if x.head.method != Method::POST || !route.cache.enabled || x.wants_upgrade {
        return false;
    }
    let (path, query) = (x.viewer_path.path(), x.viewer_path.query());
    let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
    // A larger one would be fetched slice by slice, which a POST must not be.
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
pub(crate) fn take_posted(
    x: &mut Exchange,
    route: &Route,
    mut received: Received,
) -> Response<EdgeBody> {
    let question = Question {
        method: Method::GET,
        ..x.question(route, Vec::new()).owned()
    };
    // After the invalidation that the POST itself was.
    let fetch = CacheFetch::new(x, route, Rc::new(question));
    let birth = fetch.birth(tags::take(&mut received.headers, &route.cache));
    match judge(&x.worker, route, &fetch, received, Instant::now(), birth) {
        (FetchOutcome::Arriving(arriving, Some(reader), aside), Some(arrival)) => {
            x.note.stored = true;
            let worker = Rc::clone(&x.worker);
            spawn_local(async move { take_in(&worker, arrival, &fetch).await });
            with_aside(read_along(x, &arriving, reader), aside)
        }
        (FetchOutcome::Own(received, why), _) => {
            x.worker.metrics.not_stored(why);
            straight(received)
        }
        _ => answer::origin_failed(false),
    }
}
