//! The answer to a POST that also serves as the answer to a GET of the same URL (RFC 9110 §9.3.3).

use std::{rc::Rc, time::Instant};

use edgerouter_core::{
    cache::{question::Question, slices::content_length, tags, validate},
    http::cache_control::ResponseDirectives,
    plan::Route,
};
use http::Method;
use tokio::task::spawn_local;

use super::{
    flight::evaluate,
    keep::take_in,
    missing::CacheFetch,
    outcome::FetchOutcome,
    send::{read_along, straight, with_aside},
};
use crate::{
    body::EdgeResponse,
    request::{Exchange, answer, origin::Received},
};

/// True if an answer is worth looking at: it is to a POST, about the POST's own URL, for an explicit time, and a GET of
/// that URL would take the same route.
pub(crate) fn represents(exchange: &Exchange, route: &Route, received: &Received) -> bool {
    if exchange.head.method != Method::POST || !route.cache.enabled || exchange.wants_upgrade {
        return false;
    }
    let (path, query) = (exchange.viewer_path.path(), exchange.viewer_path.query());
    let (head, claims) = (&exchange.head, exchange.claims.as_deref());
    let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
    // A larger one would be fetched slice by slice, which a POST must not be.
    let slice_bytes = exchange.worker.slice_bytes(&exchange.live);
    let small = match (content_length(&received.headers), slice_bytes) {
        (Some(length), Some(slice)) => length <= slice,
        _ => true,
    };
    small
        && (exchange.sees(route)).posted(&head.headers, head.target.query(), claims)
        && validate::represents_target(
            exchange.base(),
            (path, query),
            received.status,
            &received.headers,
            &directives,
        )
        && (exchange.route_for_get(&exchange.live, path, query))
            .is_some_and(|of_get| of_get.id == route.id)
}

/// Answers the client, and stores the answer for the URL when it may be.
pub(crate) fn take_posted(
    exchange: &mut Exchange,
    route: &Route,
    mut received: Received,
) -> EdgeResponse {
    let question = Question {
        method: Method::GET,
        ..exchange.question(route, Vec::new()).owned()
    };
    // After the invalidation that the POST itself was.
    let fetch = CacheFetch::new(exchange, route, Rc::new(question));
    let facts = fetch.facts(tags::take(&mut received.headers, &route.cache));
    let worker = Rc::clone(&exchange.worker);
    match evaluate(&worker, route, &fetch, received, Instant::now(), facts) {
        (FetchOutcome::Arriving(arriving, Some(reader), aside), Some(arrival)) => {
            exchange.note.stored = true;
            spawn_local(async move { take_in(&worker, arrival, &fetch).await });
            with_aside(
                read_along(exchange, &arriving, reader),
                arriving.status,
                aside,
            )
        }
        (FetchOutcome::Own(received, why), _) => {
            exchange.worker.metrics.not_stored(why);
            straight(received)
        }
        _ => answer::origin_failed(false),
    }
}
