//! Phase 9: looks up a question in the store.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::{
        decide::{self, Decision, OriginHealth, Reason},
        fill::{self, Fill, NotFilled},
        freshness::Freshness,
        key,
        levels::Selected,
        question::Question,
        refresh_ahead,
        slices::{self, First},
        storable::Authorization,
    },
    http::structured::Forward,
    outcome::Detail,
    plan::{Route, Target},
};
use http::{Method, StatusCode};

use super::{
    coded,
    from_disk::{Loaded, OnDisk},
    meeting::refresh_behind,
    missing::Missing,
    purged::unpurged,
    send::{Served, stored},
    slices::coverage::{Begin, Coverage, coverage},
};
use crate::{
    body::EdgeResponse,
    functions::fetch::FetchCache,
    request::{Exchange, answer},
    store::{Entry, View},
    telemetry::Outcome,
};

/// True if this request may use the cache at all.
pub(crate) fn cacheable(method: &Method, route: &Route) -> bool {
    route.cache.enabled && (method == Method::GET || method == Method::HEAD)
}

/// The outcome of phases 8 and 9.
pub(crate) enum Found {
    Answer(EdgeResponse),
    /// The response has to be fetched.
    Missing(Box<Missing>),
}

/// The outcome of a look-up.
enum LookedUp {
    Hit(Arc<Entry>, Freshness, Served, Begin),
    /// The request wants nothing but a stored response (`only-if-cached`).
    Refused,
    Missing(Box<Missing>),
}

/// The entry that a fetch behind the client's back is to refresh, and why, for the metrics.
type Refresh = Option<(Arc<Entry>, Detail)>;

/// Phases 8 and 9. Waits only when memory lacks what the disk has.
pub(crate) async fn look_up(exchange: &mut Exchange, route: &Route) -> Found {
    let worker = Rc::clone(&exchange.worker);
    let mut question = exchange.question(route, worker.key.take());
    let shown = (route.cache.status_key).then(|| key::describe(question.key.bytes()).into());
    let mut now = exchange.now;
    let (found, refresh) = match decide(exchange, route, &mut question, &Loaded::default(), now) {
        Ok(found) => found,
        Err(disk) => Box::pin(from_disk(exchange, route, &mut question, disk, &mut now)).await,
    };
    if let Some((entry, why)) = refresh {
        refresh_behind(exchange, route, &question, entry, why);
    }
    worker.key.replace(question.key.into_buffer());
    exchange.now = now;
    if shown.is_some() {
        exchange.note.key = shown;
    }
    match found {
        LookedUp::Hit(entry, freshness, served, begin) => {
            let object = entry.unpack(freshness);
            Found::Answer(stored(exchange, route, &entry, object, served, begin))
        }
        LookedUp::Missing(missing) => Found::Missing(missing),
        LookedUp::Refused => Found::Answer(not_stored(exchange)),
    }
}

/// The answer to a request of a function by the word `only-if-cached` where nothing is ever stored (Fetch §4.6).
pub(crate) fn refuse_unstored(exchange: &mut Exchange) -> Option<EdgeResponse> {
    (exchange.fetch_cache == FetchCache::OnlyIfCached).then(|| not_stored(exchange))
}

fn not_stored(exchange: &mut Exchange) -> EdgeResponse {
    exchange.note.detail = Some(Detail::OnlyIfCached);
    exchange.note.forward = None;
    exchange.note.outcome = Outcome::Error;
    answer::text(
        StatusCode::GATEWAY_TIMEOUT,
        "Not in the cache, and the request allows no other source (only-if-cached).",
    )
}

/// Reads the entries that the look-up lacks, and looks up again, until it needs nothing more from disk.
async fn from_disk(
    exchange: &Exchange,
    route: &Route,
    question: &mut Question<'_>,
    mut lacking: Box<OnDisk>,
    now: &mut u64,
) -> (LookedUp, Refresh) {
    let mut loaded = Loaded::default();
    let worker = &exchange.worker;
    loop {
        loaded.load(&worker.shared.cache.store, *lacking).await;
        *now = worker.clock.unix_now();
        match decide(exchange, route, question, &loaded, *now) {
            Ok(found) => return found,
            Err(next) => lacking = next,
        }
    }
}

/// Why a stored response is not sent as it is. The words of a function's request that pass it by are `no-cache` on the
/// wire (Fetch §4.6), whatever directive the decision was given in their place.
fn demanded(reason: Reason, word: FetchCache) -> Detail {
    match (reason, word) {
        (Reason::RequestMinFresh, FetchCache::Reload | FetchCache::NoCache) => {
            Detail::RequestNoCache
        }
        _ => reason.into(),
    }
}

/// Looks in memory and among the entries read for this request; `Err` with the entries that must be read first.
fn decide(
    exchange: &Exchange,
    route: &Route,
    question: &mut Question<'_>,
    loaded: &Loaded,
    now: u64,
) -> Result<(LookedUp, Refresh), Box<OnDisk>> {
    let shared = &exchange.worker.shared;
    let find = |key: &[u8]| loaded.find(&shared.cache.store, key);
    let Selected { found, above } = question.descend(find)?;
    let question = &*question;
    let mut directives = question.directives;
    if exchange.fresh_for.is_some() {
        directives.min_fresh = exchange.fresh_for;
    }
    match exchange.fetch_cache {
        FetchCache::Default | FetchCache::NoStore => {}
        FetchCache::Reload | FetchCache::NoCache => directives.min_fresh = Some(u32::MAX),
        FetchCache::ForceCache => directives.max_stale = Some(None),
        FetchCache::OnlyIfCached => {
            directives.max_stale = Some(None);
            directives.only_if_cached = true;
        }
    }
    let (mut why, mut detail) = match (&found, above) {
        (_, None) => (Forward::UriMiss, Detail::Absent),
        // After the sweep the URL is gone, not only this variant of it.
        (None, Some(above)) => match unpurged(exchange, above) {
            None => (Forward::UriMiss, Detail::Purged),
            Some(_) => (Forward::VaryMiss, Detail::VariantAbsent),
        },
        (Some(_), Some(_)) => (Forward::VaryMiss, Detail::VariantAbsent),
    };
    let mut unshared = false;
    let mut response = None;
    if let Some(entry) = found {
        match entry.view() {
            View::Object => {
                response = unpurged(exchange, entry);
                if response.is_none() {
                    (why, detail) = (Forward::UriMiss, Detail::Purged);
                }
            }
            View::Unshared { until } => unshared = until > now,
            View::Variants(_) | View::Slice(_) => {}
        }
    }
    let mut refresh = None;
    let mut held = None;
    let mut not_filled = None;
    let mut shares = true;
    let mut stale = None;
    if let Some(entry) = response
        && let Some(freshness) = entry.freshness()
    {
        let health = origin_health(exchange, route, &freshness, now);
        let decision = decide::decide(&freshness, &directives, &route.cache, health, now);
        let coverage = match decision {
            Decision::Validate(_) => None,
            _ => Some(coverage(&shared.cache, question, &entry, |key| {
                find(key).map(|slice| slice.map(Begin::Slice))
            })?),
        };
        let served = match decision {
            Decision::Fresh => {
                if freshness.age(now) >= u64::from(entry.refresh_from())
                    && refreshes_ahead(exchange, route, &freshness, entry.took())
                {
                    refresh = Some((Arc::clone(&entry), Detail::Ahead));
                }
                Served::Fresh
            }
            Decision::Stale(allowance) => {
                if allowance.revalidates() {
                    refresh = Some((Arc::clone(&entry), allowance.into()));
                }
                Served::Stale(allowance)
            }
            Decision::Validate(reason) => {
                (why, detail) = (reason.forward(), demanded(reason, exchange.fetch_cache));
                shares = freshness.shares() || route.cache.grace.is_some_and(|grace| grace > 0);
                stale = Some(Arc::clone(&entry));
                Served::Revalidated
            }
        };
        // Missing slices are fetched only where this request may have them filled.
        if let Some(Coverage::Partly(_) | Coverage::Lacking(_)) = coverage
            && let Err(reason) = fills(exchange, question, route.cache.fill, now, || true)
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
                (why, detail) = (Forward::Partial, Detail::SliceAbsent);
                held = Some((Arc::clone(&entry), lacking));
                None
            }
        };
        if let Some((served, mut begin)) = begin {
            if route.compress
                && let Some(coded) = coded::find(exchange, route, &entry, find)?
            {
                begin = Begin::Coded(coded);
            }
            return Ok((LookedUp::Hit(entry, freshness, served, begin), refresh));
        }
    }
    if directives.only_if_cached {
        return Ok((LookedUp::Refused, refresh));
    }
    // A hook of that phase is shown the whole response, so the whole is requested, and a function makes the whole.
    let whole = matches!(route.target, Target::Function(_))
        || exchange.runs_any(&route.hooks.origin_response);
    let slice = (question.range())
        .filter(|_| {
            let sliced = route.cache.slices && question.method == Method::GET;
            sliced && !whole && not_filled.is_none()
        })
        .and_then(|range| slices::first(range, exchange.worker.slice_bytes(&exchange.live)?));
    // For a response that is held this has been decided. A stale one is checked as a whole, whatever the policy says of
    // parts, and may turn out to be another object.
    let slice = slice.filter(|_| {
        let of_stale = stale.as_ref().map(|_| Fill::First);
        let filled = if held.is_some() {
            Ok(())
        } else {
            let fill = of_stale.unwrap_or(route.cache.fill);
            let again = || shared.fills.seen(question.key.url(), now);
            fills(exchange, question, fill, now, again)
        };
        not_filled = filled.err();
        filled.is_ok()
    });
    if let Some(reason) = not_filled {
        detail = reason.into();
    }
    // A body would be part of the question, but not of the key.
    let plain = question.method == Method::GET
        && !exchange.has_body
        && (slice.is_some() || whole || question.range().is_none());
    if !plain {
        stale = stale.filter(|_| question.method == Method::HEAD);
    }
    // Requests that need their own answer, and responses that every request must revalidate, gain nothing by waiting.
    let alone = directives.no_cache
        || directives.no_store
        || unshared
        || !shares
        || question.forbidden.is_some()
        // The fetch that it would follow may be the one that made it.
        || exchange.worker.shared.cdn_loop.passes(&exchange.head.headers) > 0;
    let collapse = plain && route.cache.collapse && !alone;
    // A stale response is checked as a whole: its slices stay when it has not changed.
    let slice = slice.filter(|_| stale.is_none());
    let mut flight = question.key.bytes().to_vec();
    if let Some(slice) = slice {
        let (kind, place) = match slice {
            First::Slice(range) => (b'r', range.first),
            First::Suffix(bytes) => (b's', bytes),
        };
        flight.push(kind);
        flight.extend_from_slice(&place.to_le_bytes());
    }
    if matches!(
        question.authorization,
        Authorization::Present | Authorization::Verified { shared: false }
    ) {
        // Its answer may turn out to be for this client only.
        flight.extend_from_slice(b"\0authorized");
    }
    let missing = Missing {
        question: Rc::new(question.owned()),
        flight,
        stale,
        since: shared.cache.departure(),
        why,
        detail,
        held,
        slice,
        collapse,
        unshared,
    };
    Ok((LookedUp::Missing(Box::new(missing)), refresh))
}

/// True if the slices that this request needs are fetched and stored. A request for the whole takes all of them.
fn fills(
    exchange: &Exchange,
    question: &Question<'_>,
    fill: Fill,
    now: u64,
    again: impl FnOnce() -> bool,
) -> Result<(), NotFilled> {
    if question.range().is_none() {
        return Ok(());
    }
    let bytes = exchange.worker.slice_bytes(&exchange.live).unwrap_or(0);
    let grant = exchange.live.plan.limits.cache.fill_bytes;
    let fills = &exchange.worker.shared.fills;
    fill::decide(fill, again, || {
        fills.fetch(exchange.client.address, bytes, grant, now)
    })
}

/// The health of the route's origins, read only for a stale response: a fresh one needs no origin.
fn origin_health(
    exchange: &Exchange,
    route: &Route,
    freshness: &Freshness,
    now: u64,
) -> OriginHealth {
    let Target::Group(group) = route.target else {
        return OriginHealth::Healthy;
    };
    if route.cache.sick_grace.is_none() || freshness.fresh(now) {
        return OriginHealth::Healthy;
    }
    let (plan, health) = (&exchange.live.plan, &exchange.worker.shared.health);
    plan.group(group)
        .map_or(OriginHealth::Healthy, |group| health.of_group(plan, group))
}

/// True if this hit is the one that refreshes the response ahead of its expiry.
fn refreshes_ahead(exchange: &Exchange, route: &Route, freshness: &Freshness, took: u32) -> bool {
    let Some(beta) = route.cache.refresh_ahead else {
        return false;
    };
    let worker = &exchange.worker;
    let now = worker.clock.unix_millis(exchange.started);
    exchange.head.method == Method::GET
        && refresh_ahead::due(freshness, took, beta, now, worker.random())
}
