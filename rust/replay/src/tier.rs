//! One predicted memory tier: answers a question from it, and stores what would have been fetched.
//!
//! The steps are those of `request::cached` in the engine, without the waiting: a fetch ends in the moment in which it
//! begins, and its origin answers as the log says.

use std::{cell::LazyCell, sync::Arc, time::Duration};

use bytes::Bytes;
use edgerouter_core::{
    cache::{
        agreement::Sees,
        arrival::{AnsweredRequest, ArrivalDecision, ArrivedResponse, StoreBounds, Storing},
        decide::{self, Decision, OriginHealth},
        hooked::HookEffect,
        key::Key,
        levels::{Leading, Level, Selected, Variants},
        question::Question,
        storable::NotStored,
    },
    compression,
    http::{FieldName, Fields},
    outcome::Outcome,
    plan::{Route, Target},
};
use edgerouter_store::{Content, Entry, MemoryStore, Object, PurgeFacts, Slices, UNSHARED_FOR};
use http::{Method, StatusCode};

use crate::{
    counts::{ByOutcome, TierPrediction, count},
    weighed::Weighed,
};

/// A request that uses the cache.
pub(crate) struct Visit<'a> {
    pub route: &'a Route,
    pub question: &'a Question<'a>,
    /// The path that the viewer requested, if the key has another.
    pub viewer: Option<&'a str>,
    /// Of the origin's answer, as are the next two.
    pub status: StatusCode,
    pub length: u64,
    /// Made when it is first stored, as most requests are hits.
    pub headers: LazyCell<Fields, &'a dyn Fn() -> Fields>,
    /// Bytes that the viewer was sent.
    pub sent: u64,
    pub now: u64,
    /// The entry that the last tier has made, for others that store the same.
    pub made: Option<Arc<Entry>>,
}

/// A memory tier of one size.
pub(crate) struct Tier {
    store: MemoryStore<Weighed>,
    slice: Option<u64>,
    random: fastrand::Rng,
    outcomes: ByOutcome,
    origin_requests: u64,
    origin_bytes: u64,
    function_calls: u64,
}

impl Tier {
    pub(crate) fn new(capacity: u64, largest: Option<u64>, slice: u64) -> Self {
        let store = MemoryStore::new(capacity, largest);
        Self {
            slice: store.slice_bytes(slice),
            store,
            random: fastrand::Rng::with_seed(1),
            outcomes: ByOutcome::new(),
            origin_requests: 0,
            origin_bytes: 0,
            function_calls: 0,
        }
    }

    /// Counts a request to the origin, or the call of the function in its place.
    fn requested(&mut self, route: &Route, bytes: u64) {
        if matches!(route.target, Target::Function(_)) {
            self.function_calls += 1;
            return;
        }
        self.origin_requests += 1;
        self.origin_bytes += bytes;
    }

    pub(crate) fn entries(&self) -> u64 {
        self.store.entries()
    }

    /// Makes the responses of a URL invalid.
    pub(crate) fn invalidate(&self, key: &Key) {
        for top in key.plain().tops() {
            self.store.remove(&top);
        }
    }

    /// Phases 9 to 13.
    pub(crate) fn answer(&mut self, visit: &mut Visit<'_>) {
        let Selected { found, .. } = visit.question.selected(|key| self.store.get(key));
        let stored = found.filter(|found| found.entry.is_object());
        let outcome = self.looked_up(visit, stored.as_ref());
        count(&mut self.outcomes, outcome, visit.sent);
    }

    fn looked_up(&mut self, visit: &mut Visit<'_>, stored: Option<&Arc<Weighed>>) -> Outcome {
        let policy = &visit.route.cache;
        if let Some(stored) = stored
            && let Some(freshness) = stored.entry.freshness()
        {
            let healthy = OriginHealth::Healthy;
            let directives = &visit.question.directives;
            match decide::decide(&freshness, directives, policy, healthy, visit.now) {
                Decision::Fresh => {
                    let lacking = self.fill(stored);
                    if lacking == 0 {
                        return Outcome::Hit;
                    }
                    self.requested(visit.route, lacking);
                    return Outcome::Miss;
                }
                Decision::Stale(allowance) => {
                    if allowance.revalidates() {
                        self.refresh(visit, stored);
                    }
                    return Outcome::Stale;
                }
                Decision::Validate(_) => {
                    if self.refresh(visit, stored) {
                        return Outcome::Revalidated;
                    }
                    return Outcome::Miss;
                }
            }
        }
        self.fetch(visit, None);
        Outcome::Miss
    }

    /// Requests a stored response from the origin again; true if it has not changed.
    fn refresh(&mut self, visit: &mut Visit<'_>, stored: &Arc<Weighed>) -> bool {
        let same = stored.length == visit.length
            && stored
                .entry
                .object()
                .is_some_and(|object| object.has_validator);
        if same && visit.question.method == Method::GET {
            self.requested(visit.route, 0);
            self.keep(visit, Some(stored), false);
        } else {
            self.fetch(visit, Some(stored));
        }
        same
    }

    fn fetch(&mut self, visit: &mut Visit<'_>, stale: Option<&Arc<Weighed>>) {
        if visit.question.method == Method::GET {
            self.requested(visit.route, visit.length);
            self.keep(visit, stale, true);
        } else {
            self.requested(visit.route, 0);
        }
    }

    /// Phase 13. `whole`: the response has come with its content.
    fn keep(&mut self, visit: &mut Visit<'_>, stale: Option<&Arc<Weighed>>, whole: bool) {
        let question = visit.question;
        // Another tier has come to the same decision, which depends on the tier for large responses only.
        if let Some(made) = &visit.made
            && made.slices().is_none()
            && made.key() == question.key.bytes()
            && visit.length <= self.slice.unwrap_or(0)
        {
            let stored = Weighed::new(Arc::clone(made), visit.length);
            self.store.insert(Arc::new(stored));
            return;
        }
        let answered = AnsweredRequest {
            method: &question.method,
            directives: &question.directives,
            authorization: question.authorization,
            forbidden: question.forbidden,
            is_static: question.is_static,
            slice: None,
            sees: Sees {
                route: visit.route,
                hooked: &[],
            },
        };
        let arrived = ArrivedResponse {
            status: visit.status,
            headers: &visit.headers,
            hooked: &HookEffect::default(),
            requested_at: visit.now,
            received_at: visit.now,
        };
        let bounds = StoreBounds {
            largest: self.store.largest(),
            slice: self.slice.filter(|_| visit.route.cache.slices),
        };
        match answered.decide(&arrived, bounds) {
            ArrivalDecision::Own(why, _) => self.refused(visit, stale, Some(why)),
            ArrivalDecision::Unsliced(..) => self.refused(visit, stale, None),
            ArrivalDecision::Stored(storing) => self.put(visit, &storing, whole),
        }
    }

    /// A response that is not stored ends a stale one, and is remembered for some seconds.
    fn refused(&self, visit: &Visit<'_>, stale: Option<&Arc<Weighed>>, why: Option<NotStored>) {
        if let Some(stale) = stale
            && why.is_some_and(|why| why.outdates(visit.status))
        {
            self.store.remove_same(stale);
        }
        let top = visit.question.key.top();
        let lasts = why.is_none_or(NotStored::lasts);
        if lasts && visit.route.cache.collapse && self.store.peek(top).is_none() {
            let until = visit.now + UNSHARED_FOR;
            self.insert(Entry::marker(top, Content::Unshared { until }), 0);
        }
    }

    fn put(&mut self, visit: &mut Visit<'_>, storing: &Storing, whole: bool) {
        let question = visit.question;
        let length = visit.length;
        let mut key = question.key.plain();
        let (store, random) = (&self.store, &mut self.random);
        key.place(
            &question.request,
            question.reduced,
            &storing.vary,
            |above, names| lead(store, random, above, names),
        );
        let key = key.bytes();
        if let Some(made) = &visit.made
            && storing.slices.is_none()
            && made.slices().is_none()
            && made.key() == key
        {
            self.store
                .insert(Arc::new(Weighed::new(Arc::clone(made), length)));
            return;
        }
        let (mut status, mut headers) = (visit.status, visit.headers.clone());
        let policy = &visit.route.cache;
        let head = storing.head(&mut status, &mut headers, policy);
        let coded = visit.route.compress
            && compression::compressible(status, &head.headers, Some(length)).is_ok();
        let slices = storing.slices.map(|(size, _)| Slices {
            size,
            nonce: self.random.u64(..),
        });
        let object = Object {
            length,
            slices: slices.map(|slices| self.adopted(key, slices, length)),
            variants: coded.then(|| self.random.u64(..)),
            ..Object::new(
                status,
                head,
                storing.freshness,
                Duration::ZERO,
                policy.refresh_ahead,
            )
        };
        let facts = PurgeFacts {
            viewer: visit.viewer.map(Box::from),
            ..PurgeFacts::default()
        };
        let entry = Arc::new(Entry::new(key, Content::Object(object), facts));
        visit.made = Some(Arc::clone(&entry));
        let stored = Arc::new(Weighed::new(entry, length));
        self.store.insert(Arc::clone(&stored));
        if whole {
            self.fill(&stored);
        }
    }

    /// A large object that has not changed goes on with its slices.
    fn adopted(&self, key: &[u8], cut: Slices, length: u64) -> Slices {
        let known = self.store.peek(key);
        let before = known
            .filter(|known| known.length == length)
            .and_then(|known| known.entry.slices());
        before
            .filter(|before| before.size == cut.size)
            .unwrap_or(cut)
    }

    /// Uses the slices of a response, and stores those that are not there; returns their bytes.
    fn fill(&self, stored: &Weighed) -> u64 {
        let Some(slices) = stored.entry.slices().filter(|slices| slices.size > 0) else {
            return 0;
        };
        let mut lacking = 0;
        for index in 0..stored.length.div_ceil(slices.size) {
            let key = slices.key(stored.entry.key(), index);
            if self.store.get(&key).is_none() {
                let length = (stored.length - index * slices.size).min(slices.size);
                lacking += length;
                let slice = Content::Slice(Bytes::new());
                self.insert(Entry::marker(&key, slice), length);
            }
        }
        lacking
    }

    fn insert(&self, entry: Entry, length: u64) {
        self.store
            .insert(Arc::new(Weighed::new(Arc::new(entry), length)));
    }

    /// The result; of a sample of one in `sample` URLs. `common`: requests that no tier sees, with the requests
    /// to origins and the bytes from them.
    pub(crate) fn predicted(self, sample: u64, common: (&ByOutcome, u64, u64)) -> TierPrediction {
        let (outcomes, requests, bytes) = common;
        let mut all = outcomes.clone();
        for (outcome, counts) in self.outcomes {
            let sum = all.entry(outcome).or_default();
            sum.requests += counts.requests * sample;
            sum.bytes += counts.bytes * sample;
        }
        TierPrediction {
            capacity: self.store.capacity() * sample,
            used: self.store.bytes() * sample,
            entries: self.store.entries() * sample,
            evicted: self.store.evicted() * sample,
            outcomes: all,
            origin_requests: requests + self.origin_requests * sample,
            origin_bytes: bytes + self.origin_bytes * sample,
            function_calls: self.function_calls * sample,
        }
    }
}

/// The entry of `above` that leads to variants by these names, made if it is not there.
fn lead(
    store: &MemoryStore<Weighed>,
    random: &mut fastrand::Rng,
    above: &[u8],
    names: &[FieldName],
) -> Variants {
    let known = store.peek(above);
    let known = known.as_ref().and_then(Level::variants);
    let variants = match Variants::leading(known, names, || random.u64(..)) {
        Leading::Known(variants) => return variants,
        Leading::New(variants) => variants,
    };
    let entry = Entry::marker(above, Content::Variants(variants.clone()));
    store.insert(Arc::new(Weighed::new(Arc::new(entry), 0)));
    variants
}
