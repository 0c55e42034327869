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
        storable::Authorization,
    },
    http::{
        cache_control::{RequestDirectives, ResponseDirectives},
        structured::Forward,
    },
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
    unanswered::NoAnswer,
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
    let store = &exchange.worker.shared.cache.store;
    let selected = question.descend(|key| loaded.find(store, key))?;
    let look_up = LookUp {
        directives: directives(exchange, question),
        exchange,
        route,
        question,
        loaded,
        now,
    };
    let (response, mut lack) = look_up.response(selected);
    let mut refresh = None;
    if let Some(entry) = response
        && let Some(freshness) = entry.freshness()
        && let Some((served, begin)) =
            look_up.answer(&entry, &freshness, &mut lack, &mut refresh)?
    {
        return Ok((LookedUp::Hit(entry, freshness, served, begin), refresh));
    }
    if look_up.directives.only_if_cached {
        return Ok((LookedUp::Refused, refresh));
    }
    let missing = Box::new(look_up.missing(lack));
    Ok((LookedUp::Missing(missing), refresh))
}

/// The directives of the request, and those that a hook or the words of a function's fetch (Fetch §4.6) add to them.
#[inline]
fn directives(exchange: &Exchange, question: &Question<'_>) -> RequestDirectives {
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
    directives
}

/// The state of one look-up: the request, and the entries that may answer it.
pub(super) struct LookUp<'x, 'q> {
    pub exchange: &'x Exchange,
    pub route: &'x Route,
    pub question: &'x Question<'q>,
    pub directives: RequestDirectives,
    pub now: u64,
    loaded: &'x Loaded,
}

impl LookUp<'_, '_> {
    fn find(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Box<OnDisk>> {
        self.loaded
            .find(&self.exchange.worker.shared.cache.store, key)
    }

    /// The response that the request selects, as the purges left it, and why it is absent if it is.
    #[inline]
    fn response(&self, selected: Selected<Arc<Entry>>) -> (Option<Arc<Entry>>, NoAnswer) {
        let Selected { found, above } = selected;
        let (why, detail) = match (&found, above) {
            (_, None) => (Forward::UriMiss, Detail::Absent),
            // After the sweep the URL is gone, not only this variant of it.
            (None, Some(above)) => match unpurged(self.exchange, above) {
                None => (Forward::UriMiss, Detail::Purged),
                Some(_) => (Forward::VaryMiss, Detail::VariantAbsent),
            },
            (Some(_), Some(_)) => (Forward::VaryMiss, Detail::VariantAbsent),
        };
        let mut lack = NoAnswer::new(why, detail);
        let mut response = None;
        if let Some(entry) = found {
            match entry.view() {
                View::Object => {
                    response = unpurged(self.exchange, entry);
                    if response.is_none() {
                        (lack.why, lack.detail) = (Forward::UriMiss, Detail::Purged);
                    }
                }
                View::Unshared { until } => lack.unshared = until > self.now,
                View::Variants(_) | View::Slice(_) => {}
            }
        }
        (response, lack)
    }

    /// The state in which this stored response is sent, and the place of its first bytes. `None`, with the reason in
    /// `lack`, if it cannot answer the request.
    #[inline]
    fn answer(
        &self,
        entry: &Arc<Entry>,
        freshness: &Freshness,
        lack: &mut NoAnswer,
        refresh: &mut Refresh,
    ) -> Result<Option<(Served, Begin)>, Box<OnDisk>> {
        let (exchange, route, now) = (self.exchange, self.route, self.now);
        let health = origin_health(exchange, route, freshness, now);
        let decision = decide::decide(freshness, &self.directives, &route.cache, health, now);
        let coverage = match decision {
            Decision::Validate(_) => None,
            _ => Some(coverage(
                &exchange.worker.shared.cache,
                self.question,
                entry,
                |key| self.find(key).map(|slice| slice.map(Begin::Slice)),
            )?),
        };
        let served = match decision {
            Decision::Fresh => {
                if freshness.age(now) >= u64::from(entry.refresh_from())
                    && refreshes_ahead(exchange, route, freshness, entry.took())
                {
                    *refresh = Some((Arc::clone(entry), Detail::Ahead));
                }
                Served::Fresh
            }
            Decision::Stale(allowance) => {
                if allowance.revalidates() {
                    *refresh = Some((Arc::clone(entry), allowance.into()));
                }
                Served::Stale(allowance)
            }
            Decision::Validate(reason) => {
                lack.why = reason.forward();
                lack.detail = demanded(reason, exchange.fetch_cache);
                lack.shares =
                    freshness.shares() || route.cache.grace.is_some_and(|grace| grace > 0);
                lack.stale = Some(Arc::clone(entry));
                Served::Revalidated
            }
        };
        let Some((served, begin)) = self.begin(entry, served, coverage, lack) else {
            return Ok(None);
        };
        if route.compress
            && let Some(coded) = coded::find(exchange, route, entry, |key| self.find(key))?
        {
            return Ok(Some((served, Begin::Coded(coded))));
        }
        Ok(Some((served, begin)))
    }

    /// The place of the first bytes, if all that the request needs is here or may be fetched while it is sent.
    #[inline]
    fn begin(
        &self,
        entry: &Arc<Entry>,
        served: Served,
        coverage: Option<Coverage>,
        lack: &mut NoAnswer,
    ) -> Option<(Served, Begin)> {
        // Missing slices are fetched only where this request may have them filled.
        if let Some(Coverage::Partly(_) | Coverage::Lacking(_)) = coverage
            && let Err(reason) = self
                .may_store(entry)
                .and_then(|()| self.fills(self.route.cache.fill, || true))
        {
            lack.not_filled = Some(reason);
        }
        match coverage? {
            Coverage::Partly(_) | Coverage::Lacking(_) if lack.not_filled.is_some() => {
                lack.why = Forward::Partial;
                None
            }
            Coverage::Whole(begin) => Some((served, begin)),
            Coverage::Coming(begin) => Some((Served::Joined, begin)),
            Coverage::Partly(_) if self.directives.only_if_cached => None,
            Coverage::Partly(begin) => Some((Served::Filled, begin)),
            Coverage::Lacking(lacking) => {
                (lack.why, lack.detail) = (Forward::Partial, Detail::SliceAbsent);
                lack.held = Some((Arc::clone(entry), lacking));
                None
            }
        }
    }

    /// `Ok` if slices that are fetched for this request may be sent to others, by the request and what is stored.
    fn may_store(&self, entry: &Arc<Entry>) -> Result<(), NotFilled> {
        if self.directives.no_store {
            return Err(NotFilled::NoStore);
        }
        let shares = match self.question.authorization {
            Authorization::None => true,
            credentials => entry.object().is_some_and(|object| {
                let targets = &self.route.cache.targets;
                credentials.shares(&ResponseDirectives::parse(&object.headers, targets))
            }),
        };
        if shares {
            Ok(())
        } else {
            Err(NotFilled::Authorization)
        }
    }

    /// `Ok` if the slices that this request needs are fetched and stored. A request for the whole takes all of them.
    pub(super) fn fills(&self, fill: Fill, again: impl FnOnce() -> bool) -> Result<(), NotFilled> {
        if self.question.range().is_none() {
            return Ok(());
        }
        let exchange = self.exchange;
        let bytes = exchange.worker.slice_bytes(&exchange.live).unwrap_or(0);
        let grant = exchange.live.plan.limits.cache.fill_bytes;
        let fills = &exchange.worker.shared.fills;
        fill::decide(fill, again, || {
            fills.fetch(exchange.client.address, bytes, grant, self.now)
        })
    }
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
