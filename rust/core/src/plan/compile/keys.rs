//! The routes that must put their own name into the cache key.
//!
//! A stored response is found by host, path and query as they go to the origin. Usually the URL alone determines the
//! route and nothing else is needed. If it does not (the path is rewritten, a condition chooses between routes, another
//! page is served instead), two routes could find each other's responses; a tag keeps those apart.

use crate::plan::{Callable, Route, RouteId, Router, Target, matcher::share_a_host};

/// Tags every route whose stored responses another could otherwise find.
pub(super) fn tag(routes: &mut [Route], router: &Router, callables: &[Callable]) {
    let mut place = vec![0usize; routes.len()];
    for (at, id) in router.order().iter().enumerate() {
        if let Some(place) = place.get_mut(id.0 as usize) {
            *place = at;
        }
    }
    let before = |a: RouteId, b: RouteId| place.get(a.0 as usize) < place.get(b.0 as usize);
    // Pairs are compared only for the routes that need it: a long table of plain routes costs nothing.
    let tagged: Vec<bool> = routes
        .iter()
        .map(|route| {
            route.stores()
                && (!route.when.is_empty()
                    || moves(route)
                    || route.index.is_some()
                    || stands_in(route))
                && routes
                    .iter()
                    .filter(|other| {
                        other.id != route.id && other.stores() && share_a_host(route, other)
                    })
                    .any(|other| collides(route, other, before(other.id, route.id)))
        })
        .collect();
    let labels: Vec<_> = routes.iter().map(|route| route.label.clone()).collect();
    for ((at, route), tagged) in routes.iter_mut().enumerate().zip(tagged) {
        if tagged {
            // The position among routes of the same label, not among all: a tag should survive a change elsewhere.
            let same = labels
                .iter()
                .take(at)
                .filter(|label| **label == route.label)
                .count();
            route.key_tag = Some(if same == 0 {
                route.label.clone()
            } else {
                format!("{}#{same}", route.label).into()
            });
        }
        // Another function makes other responses, after a reload, too.
        if let Target::Function(call) = route.target
            && route.cache.enabled
            && let Some(callable) = callables.get(call.0 as usize)
        {
            let own = route.key_tag.as_deref().unwrap_or(&route.label);
            route.key_tag = Some(format!("{own} function {}", callable.name).into());
        }
    }
}

/// True if the path changes in a way that its pattern does not show.
fn moves(route: &Route) -> bool {
    route.strip_prefix.is_some()
        || route.add_prefix.is_some()
        || route.rewrite.is_some()
        || !route.hooks.viewer_request.is_empty()
}

fn stands_in(route: &Route) -> bool {
    route.fallback.is_some() || route.errors.iter().any(|(_, page)| page.path().is_some())
}

/// True if `route` could store under a URL that `other` answers.
fn collides(route: &Route, other: &Route, other_first: bool) -> bool {
    if moves(route) {
        return true;
    }
    if !route.when.is_empty() && route.path.intersects(&other.path) {
        return true;
    }
    let pages = route
        .fallback
        .iter()
        .chain(route.errors.iter().filter_map(|(_, page)| page.path()));
    let path_of = |page: &str| {
        page.split_once('?')
            .map_or(page.to_owned(), |(path, _)| path.to_owned())
    };
    for page in pages {
        let page = path_of(page);
        if other.path.matches(&page) && (other_first || !route.path.matches(&page)) {
            return true;
        }
    }
    route
        .index
        .as_deref()
        .is_some_and(|index| index_collides(route, other, other_first, index))
}

/// True if some path that ends in `/` is `route`'s, and with the index document `other`'s.
fn index_collides(route: &Route, other: &Route, other_first: bool, index: &str) -> bool {
    if !other_first && route.path.is_open_ended() {
        return false;
    }
    // "prefix*" takes the path without the document as well, unless its last piece begins like the document.
    if other_first && let Some(tail) = other.path.prefix_tail() {
        return !tail.is_empty() && index.as_bytes().starts_with(tail);
    }
    match crate::plan::PathPattern::parse(&format!("/*/{index}")) {
        // "/*/index.html" misses "/index.html".
        Ok(any) => other.path.intersects(&any) || other.path.matches(&format!("/{index}")),
        Err(_) => true,
    }
}
