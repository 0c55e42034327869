//! Requests for the same response meet: each follows the flight that is under way for it, or leads one.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::{
        decide::{self, Decision, OriginHealth},
        freshness::Freshness,
        question::Question,
    },
    http::FieldName,
    outcome::Detail,
    plan::Route,
};
use http::Method;
use tokio::task::spawn_local;

use super::{
    flight::fly,
    missing::{CacheFetch, Miss, Missing, group_of},
    purged::{unpurged, viewer_url},
    send::{Served, stored},
    slices::coverage::Begin,
};
use crate::{
    body::EdgeResponse,
    request::Exchange,
    store::{Entry, Join},
};

/// Follows the flight under way for this request, or leads one.
pub(super) fn join(exchange: &Exchange, route: &Route, flight: &[u8], url: &[u8]) -> Join {
    let (shared, plan) = (&exchange.worker.shared, &exchange.live.plan);
    let spare = group_of(exchange, route).is_some_and(|group| shared.health.is_silent(plan, group));
    shared.cache.join(flight, url, viewer_url(exchange), spare)
}

impl Miss<'_> {
    /// True if a response that another request caused may be reused for this one (RFC 9111 §4).
    pub(super) fn may_share(&self, freshness: &Freshness) -> bool {
        let (own, policy) = (&self.missing.question.directives, &self.route.cache);
        let healthy = OriginHealth::Healthy;
        let decision = decide::decide(freshness, own, policy, healthy, self.exchange.now);
        !matches!(decision, Decision::Validate(_))
    }

    /// The response that this request may use and did not find when it was looked up.
    pub(super) fn arrived_meanwhile(&mut self) -> Option<EdgeResponse> {
        let entry = self.selected()?;
        let known = self.missing.stale.as_ref();
        if known.is_some_and(|stale| Arc::ptr_eq(stale, &entry)) {
            return None;
        }
        let entry = unpurged(self.exchange, entry)?;
        let object = entry.object()?;
        if !self.may_share(&object.freshness) {
            return None;
        }
        self.exchange.note.collapsed = true;
        let (served, begin) = (Served::Collapsed, Begin::Anywhere);
        let (exchange, route) = (&mut *self.exchange, self.route);
        Some(stored(exchange, route, &entry, object, served, begin))
    }

    /// True if a follower's own request selects this entry.
    pub(super) fn suits(&self, entry: &Entry) -> bool {
        *entry.key() == *self.missing.question.key.url()
            || (self.selected()).is_some_and(|own| *own.key() == *entry.key())
    }

    fn selected(&self) -> Option<Arc<Entry>> {
        let cache = &self.exchange.worker.shared.cache;
        cache.selected(&self.missing.question)
    }

    /// The key under which requests meet that agree in the fields that `Vary` names.
    pub(super) fn split(&self, names: &[FieldName], secondary: &[u8]) -> Vec<u8> {
        let mut flight = self.missing.question.key.bytes().to_vec();
        for name in names {
            flight.push(b'\n');
            flight.extend_from_slice(name.as_str().as_bytes());
        }
        flight.push(0);
        flight.extend_from_slice(secondary);
        flight
    }
}

/// Refreshes a stored response while the client is served with it: one fetch a key at a time, and from an
/// unhealthy origin as its trial only. `why` is for the metrics.
pub(super) fn refresh_behind(
    exchange: &Exchange,
    route: &Route,
    question: &Question<'_>,
    entry: Arc<Entry>,
    why: Detail,
) {
    let (worker, plan) = (&exchange.worker, &exchange.live.plan);
    let shared = &worker.shared;
    // A host of an image and a function have no health that is known.
    let admits = group_of(exchange, route).is_none_or(|group| shared.health.admits(plan, group));
    let key = &question.key;
    // Nothing would come of it that may be stored.
    if !admits || question.forbidden.is_some() || shared.cache.retry_after(key).is_some() {
        return;
    }
    let Join::Lead(lead) = join(exchange, route, key.bytes(), key.url()) else {
        return;
    };
    let Ok(mut request) = exchange.origin_request(route, true) else {
        return;
    };
    request.interims = None;
    request.method = Method::GET;
    worker.metrics.refreshed(why);
    let question = Question {
        method: Method::GET,
        ..question.owned()
    };
    let fetch = CacheFetch {
        stale: Some(entry),
        awaited: false,
        ..CacheFetch::new(exchange, route, Rc::new(question))
    };
    let worker = Rc::clone(worker);
    spawn_local(fly(worker, request, fetch, Some(lead), None));
}

/// Fetches a missing response while the client is served with another one: one fetch a key at a time.
pub(crate) fn fetch_behind(exchange: &Exchange, route: &Route, missing: &Missing) {
    let cache = &exchange.worker.shared.cache;
    let question = &missing.question;
    let barred = question.forbidden.is_some() || cache.retry_after(&question.key).is_some();
    if barred || missing.unshared || !missing.collapse {
        return;
    }
    let Join::Lead(lead) = join(exchange, route, &missing.flight, question.key.url()) else {
        return;
    };
    let Ok(mut request) = exchange.origin_request(route, true) else {
        return;
    };
    request.interims = None;
    let fetch = CacheFetch {
        stale: missing.stale.clone(),
        awaited: false,
        ..CacheFetch::new(exchange, route, Rc::clone(question))
    };
    let worker = Rc::clone(&exchange.worker);
    spawn_local(fly(worker, request, fetch, Some(lead), None));
}
