//! Phases 8 and 9: the key, and what the store has under it.
//!
//! A response is found under the URL's own key; where requests have dimensions (by the policy's key, by an experiment, by
//! hooks) under that of the URL with them, which an entry leads to; and where it has variants by `Vary` one step below.
//! Dropping the one or two entries that a URL has makes all of them unreachable at once, so invalidation never walks.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::{
        decide::{self, Decision, OriginHealth},
        fill::{self, Fill, NotFilled},
        hooked,
        key::{self, KeyParts},
        refresh_ahead,
        slices::{self, First},
        storable::Authorization,
    },
    http::{cache_control::RequestDirectives, structured::Forward},
    plan::{Route, Target},
};
use http::{Method, StatusCode, header};
use smallvec::SmallVec;

use super::{
    Found, Held, Missing, OnDisk,
    fetch::{departure, refresh_behind},
    from_disk::{Loaded, from_disk},
    purged::unpurged,
    send::{Served, stored},
    slices::{Begin, Coverage, coverage},
};
use crate::{
    request::{Exchange, answer},
    store::{Descent, Entry, Object, Store, View, flight::Departure},
    telemetry::Outcome,
};

/// Whether this request may use the cache at all.
pub fn cacheable(method: &Method, route: &Route) -> bool {
    route.cache.enabled && (method == Method::GET || method == Method::HEAD)
}

/// Phases 8 and 9. Waits only when memory lacks what the disk has.
pub async fn look_up(x: &mut Exchange, route: &Route) -> Found {
    match look_up_with(x, route, &Loaded::default()) {
        Ok(found) => found,
        Err(on_disk) => Box::pin(from_disk(x, route, on_disk)).await,
    }
}

/// Looks in memory and among what has been read for this request; `Err` with what must be read first.
pub(super) fn look_up_with(
    x: &mut Exchange,
    route: &Route,
    loaded: &Loaded,
) -> Result<Found, Box<OnDisk>> {
    let worker = Rc::clone(&x.worker);
    let mut directives = if route.cache.request_directives {
        RequestDirectives::parse(&x.head.headers)
    } else {
        RequestDirectives::default()
    };
    if x.fresh_for.is_some() {
        directives.min_fresh = x.fresh_for;
    }
    let mut scratch = worker.key.borrow_mut();
    scratch.clear();
    key::url(
        &mut scratch,
        x.base(),
        x.head.uri.path(),
        x.head.uri.query(),
        &route.cache,
    );
    let url_length = scratch.len();
    dimensions(&mut scratch, x, route);
    let dimensions_end = scratch.len();
    let has_dimensions = dimensions_end > url_length;

    if route.cache.status_key {
        x.note.key = Some(key::describe(&scratch).into_boxed_str());
    }

    let (mut why, mut detail) = (Forward::UriMiss, "absent");
    let mut unshared = false;
    let mut found = None;
    let store = &worker.shared.store;
    let mut descent = Descent::new(has_dimensions, &x.head.headers, route.cache.reduced());
    let mut next = find(store, loaded, key::parent(&scratch, url_length))?;
    let mut above: Option<Arc<Entry>> = None;
    while let Some(entry) = next {
        match entry.view() {
            View::Object => {
                found = Some(entry);
                break;
            }
            View::Unshared { until } => {
                unshared = until > x.now;
                break;
            }
            view => {
                if !descent.descend(view, &mut scratch) {
                    break;
                }
                (why, detail) = (Forward::VaryMiss, "variant-absent");
            }
        }
        next = find(store, loaded, &scratch)?;
        above = next.is_none().then_some(entry);
    }
    // The sweep has been here: what is gone is the URL, not only this variant of it.
    if let Some(above) = above
        && unpurged(x, above).is_none()
    {
        (why, detail) = (Forward::UriMiss, "purged");
    }

    let missing = |stale, why, detail, collapse, unshared| Missing {
        url_key: scratch.get(..url_length).unwrap_or_default().to_vec(),
        dimensions: scratch
            .get(url_length..dimensions_end)
            .unwrap_or_default()
            .to_vec(),
        flight: scratch.to_vec(),
        stale,
        since: Departure::default(),
        why,
        detail,
        held: None,
        slice: None,
        collapse,
        unshared,
    };
    let mut held = None;
    let mut not_filled = None;
    let mut shares = true;
    let mut stale = None;
    if let Some(entry) = found.take() {
        found = unpurged(x, entry);
        if found.is_none() {
            (why, detail) = (Forward::UriMiss, "purged");
        }
    }
    if let Some(entry) = found
        && let Some(object) = entry.object()
    {
        let behind = || {
            let stale = Some(Arc::clone(&entry));
            missing(stale, Forward::Stale, "expired", true, unshared)
        };
        let health = origin_health(x, route, &object);
        let decision = decide::decide(&object.freshness, &directives, &route.cache, health, x.now);
        let coverage = match decision {
            Decision::Validate(_) => None,
            _ => Some(coverage(x, &entry, &object, |key| {
                find(store, loaded, key).map(|slice| slice.map(Begin::Slice))
            })?),
        };
        let served = match decision {
            Decision::Fresh => {
                if object.freshness.age(x.now) >= u64::from(object.refresh_from)
                    && refreshes_ahead(x, route, &object)
                {
                    refresh_behind(x, route, "ahead", behind);
                }
                Served::Fresh
            }
            Decision::Stale(allowance) => {
                x.note.detail = Some(allowance.as_str());
                if allowance.revalidates() {
                    refresh_behind(x, route, allowance.as_str(), behind);
                }
                Served::Stale
            }
            Decision::Validate(reason) => {
                (why, detail) = (reason.forward(), reason.as_str());
                shares =
                    object.freshness.shares() || route.cache.grace.is_some_and(|grace| grace > 0);
                stale = Some(Arc::clone(&entry));
                Served::Stale
            }
        };
        // What is not here is fetched only where this request may have slices filled.
        if let Some(Coverage::Partly(_) | Coverage::Lacking(_)) = coverage
            && let Err(reason) = fills(x, route.cache.fill, || true)
        {
            not_filled = Some(reason);
        }
        let begin = match coverage {
            None => None,
            Some(Coverage::Partly(_) | Coverage::Lacking(_)) if not_filled.is_some() => {
                why = Forward::Partial;
                None
            }
            Some(Coverage::Whole(begin)) => Some((served, begin)),
            Some(Coverage::Coming(begin)) => Some((Served::Joined, begin)),
            Some(Coverage::Partly(_)) if directives.only_if_cached => None,
            Some(Coverage::Partly(begin)) => Some((Served::Filled, begin)),
            Some(Coverage::Lacking(lacking)) => {
                (why, detail) = (Forward::Partial, "slice-absent");
                held = Some(Held {
                    entry: Arc::clone(&entry),
                    lacking,
                });
                None
            }
        };
        if let Some((served, begin)) = begin {
            let response = stored(x, route, &entry, object, served, begin);
            return Ok(Found::Answer(response));
        }
    }
    if directives.only_if_cached {
        x.note.detail = Some("only-if-cached");
        x.note.forward = None;
        x.note.outcome = Outcome::Error;
        return Ok(Found::Answer(answer::text(
            StatusCode::GATEWAY_TIMEOUT,
            "Not in the cache, and the request asked for nothing else (only-if-cached).",
        )));
    }
    // A hook of that phase is shown the whole response, and so is what is asked for.
    let whole = x.runs_any(&route.hooks.origin_response);
    let slice = match x.head.headers.get(header::RANGE) {
        Some(range)
            if route.cache.slices
                && !whole
                && x.head.method == Method::GET
                && not_filled.is_none() =>
        {
            worker
                .slice_bytes(&x.live)
                .and_then(|size| slices::first(range, size))
        }
        _ => None,
    };
    // For what is held that has been decided. What is stale is checked as a whole whatever the policy says of parts, and may
    // turn out to be another object.
    let slice = slice.filter(|_| {
        let of_stale = stale.as_ref().map(|_| Fill::First);
        let filled = if held.is_some() {
            Ok(())
        } else {
            let url_key = scratch.get(..url_length).unwrap_or_default();
            fills(x, of_stale.unwrap_or(route.cache.fill), || {
                worker.shared.fills.seen(url_key, x.now)
            })
        };
        not_filled = filled.err();
        filled.is_ok()
    });
    if let Some(reason) = not_filled {
        detail = reason.as_str();
    }
    // A body would be part of the question, but not of the key.
    let plain = x.head.method == Method::GET
        && !x.has_body
        && (slice.is_some() || whole || !x.head.headers.contains_key(header::RANGE));
    if !plain {
        stale = stale.filter(|_| x.head.method == Method::HEAD);
    }
    // Who demands an answer of its own, and who asks for what each has to ask for anew, would only wait in vain.
    let alone = directives.no_cache
        || directives.no_store
        || unshared
        || !shares
        || x.forbidden().is_some();
    let collapse = plain && route.cache.collapse && !alone;
    // What is stale is checked as a whole: its slices stay when it has not changed.
    let slice = slice.filter(|_| stale.is_none());
    let mut missing = missing(stale, why, detail, collapse, unshared);
    missing.held = held;
    missing.since = departure(x);
    if let Some(slice) = slice {
        let (kind, place) = match slice {
            First::Slice(range) => (b'r', range.first),
            First::Suffix(bytes) => (b's', bytes),
        };
        missing.flight.push(kind);
        missing.flight.extend_from_slice(&place.to_le_bytes());
        missing.slice = Some(slice);
    }
    if matches!(
        x.authorization(route),
        Authorization::Present | Authorization::Verified { shared: false }
    ) {
        // Its answer may turn out to be nobody else's.
        missing.flight.extend_from_slice(b"\0authorized");
    }
    Ok(Found::Missing(Box::new(missing)))
}

/// The entry under `key`; `Err` when it must be read from disk first.
fn find(store: &Store, loaded: &Loaded, key: &[u8]) -> Result<Option<Arc<Entry>>, Box<OnDisk>> {
    if let Some(entry) = store.get(key) {
        return Ok(Some(entry));
    }
    if let Some(entry) = loaded.get(key) {
        return Ok(entry);
    }
    match store.find(key) {
        None => Ok(None),
        Some(location) => Err(Box::new(OnDisk {
            key: key.into(),
            location,
        })),
    }
}

/// Whether the slices that this request needs are fetched and stored. Whoever asks for the whole takes all of them.
fn fills(x: &Exchange, fill: Fill, again: impl FnOnce() -> bool) -> Result<(), NotFilled> {
    if !x.head.headers.contains_key(header::RANGE) {
        return Ok(());
    }
    let bytes = x.worker.slice_bytes(&x.live).unwrap_or(0);
    let grant = x.live.plan.limits.cache.fill_bytes;
    let fills = &x.worker.shared.fills;
    fill::decide(fill, again, || {
        fills.fetch(x.client.address, bytes, grant, x.now)
    })
}

/// Looked at only for what is stale: a fresh response needs no origin.
fn origin_health(x: &Exchange, route: &Route, object: &Object) -> OriginHealth {
    let Target::Group(group) = route.target else {
        return OriginHealth::Healthy;
    };
    if route.cache.sick_grace.is_none() || object.freshness.fresh(x.now) {
        return OriginHealth::Healthy;
    }
    x.live
        .plan
        .group(group)
        .map_or(OriginHealth::Healthy, |group| {
            x.worker.shared.health.of_group(&x.live.plan, group)
        })
}

/// Whether this hit is the one that refreshes the response ahead of its expiry.
fn refreshes_ahead(x: &Exchange, route: &Route, object: &Object) -> bool {
    let Some(beta) = route.cache.refresh_ahead else {
        return false;
    };
    let now = x.worker.clock.unix_millis(x.started);
    x.head.method == Method::GET
        && refresh_ahead::due(&object.freshness, object.took, beta, now, x.worker.random())
}

/// Appends what this request adds to the key of its URL, if anything.
pub(super) fn dimensions(out: &mut Vec<u8>, x: &Exchange, route: &Route) {
    if !x.has_dimensions(route) {
        return;
    }
    let claims: SmallVec<[(&str, &str); 2]> = route
        .cache
        .key_claims
        .iter()
        .filter_map(|name| Some((&**name, x.claims.as_ref()?.claim(name)?)))
        .collect();
    let variants: SmallVec<[(&str, &str); 2]> = x.variants(route).collect();
    let hooks = x.origin_hooks(route);
    let tag = hooked::tag(route, &hooks);
    let parts = KeyParts {
        headers: &x.head.headers,
        policy: &route.cache,
        variants: &variants,
        claims: &claims,
        edge_set: &x.sees(route).identity(x.claims.as_deref()),
        hooked: &x.hooked,
        tag: tag.as_deref(),
    };
    key::dimensions(out, &parts);
}
