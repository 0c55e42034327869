//! The cache as the rest of the engine sees it: stored responses, the fetches under way for them, and everything that
//! has made some of them invalid.
//!
//! `purge` empties it by an operator's order, `functions` has the caches of callables. In the engine `request::cached`
//! uses it for requests, and `inspect` shows it to operators.

pub mod functions;
pub mod purge;

use std::{sync::Arc, time::Duration};

use edgerouter_core::{
    cache::{key::Key, question::Question},
    plan::Plan,
};
use edgerouter_store::{
    Disk, Entry, Flights, Invalidations, Join, MemoryStore, Runs, Store,
    disk::FolderError,
    flight::{Departure, Lead},
};
use http::HeaderValue;
use serde_json::Value;

use crate::purge::{Denied, Purges, orders};

/// The shared cache: what is stored, what is being fetched for it, and the purges.
#[derive(Debug)]
pub struct Cache {
    /// Responses in memory and on disk.
    pub store: Arc<Store>,
    /// Fetches under way that several requests may share.
    flights: Arc<Flights>,
    /// Large objects that are coming in.
    pub runs: Arc<Runs>,
    invalidations: Invalidations,
    /// Purges that are remembered, and their effect.
    pub purges: Arc<Purges>,
}

impl Cache {
    /// Opens the disk cache as it was left; the memory is empty, and has room for `capacity` bytes.
    pub fn open(plan: &Plan, capacity: u64) -> Result<Self, FolderError> {
        let largest = plan.limits.cache.largest_object_bytes;
        let memory = Arc::new(MemoryStore::new(capacity, largest));
        let disk = match &plan.disk_cache {
            Some(disk) => Some(Arc::new(Disk::open(disk, Arc::clone(&memory))?)),
            None => None,
        };
        Ok(Self {
            purges: Purges::open(disk.as_deref(), &plan.limits.purge)?,
            store: Arc::new(Store::new(memory, disk)),
            flights: Flights::new(),
            runs: Runs::new(),
            invalidations: Invalidations::default(),
        })
    }

    /// A fetch that departs now brings nothing that what has come until now made invalid.
    pub fn departure(&self) -> Departure {
        Departure {
            purge: self.purges.newest(),
            invalidation: self.invalidations.newest(),
        }
    }

    /// The stored response that a request selects, in memory.
    pub fn selected(&self, question: &Question<'_>) -> Option<Arc<Entry>> {
        let selected = question.selected(|key| self.store.peek(key));
        selected.found.filter(|entry| entry.is_object())
    }

    /// Follows the flight under way for `flight`, unless a purge or an unsafe request for its URL has come since it
    /// departed, or leads one. `requested` and `spare` as for [`Purges::outdates`] and [`Flights::join`].
    pub fn join(
        &self,
        flight: &[u8],
        url: &[u8],
        requested: (&str, Option<&str>),
        spare: bool,
    ) -> Join {
        let outdated = |then: Departure| {
            self.purges.outdates(then.purge, url, requested) || self.is_invalid(url, then)
        };
        let now = self.departure();
        self.flights.join(flight, now, outdated, spare)
    }

    /// Leads a new flight in place of one that takes too long, as [`Flights::take_over`] allows.
    pub fn take_over(&self, flight: &[u8]) -> Option<Lead> {
        self.flights.take_over(flight, self.departure())
    }

    /// Notes that the origin is to be spared requests for this key.
    pub fn spare(&self, key: &Key, pause: Duration, retry_after: HeaderValue) {
        self.flights
            .spare(key.url(), key.dimensions(), pause, retry_after);
    }

    /// The `Retry-After` of a key whose origin is to be spared now.
    pub fn retry_after(&self, key: &Key) -> Option<HeaderValue> {
        self.flights.retry_after(key.url(), key.dimensions())
    }

    /// Shared fetches going on now.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Writes the metrics of what is stored and of what is being fetched.
    pub fn render(&self, out: &mut String) {
        self.store.render(out);
        self.flights.render(out);
    }

    /// True if an unsafe request has invalidated a URL since `then` (RFC 9111 §4.4).
    pub fn is_invalid(&self, url: &[u8], then: Departure) -> bool {
        self.invalidations.outdate(url, then.invalidation)
    }

    /// Stores the result of a fetch that departed after the last unsafe request to its URL. It compares again once the
    /// entry is stored: so that is either found out of date here, or there for the unsafe request to remove.
    pub fn put(&self, url: &[u8], departed: Departure, entry: &Arc<Entry>) {
        if self.is_invalid(url, departed) {
            return;
        }
        self.store.insert(Arc::clone(entry));
        if self.is_invalid(url, departed) {
            self.store.remove_same(entry);
        }
    }

    /// Makes all responses for a URL invalid, stored ones and those on their way.
    pub fn invalidate(&self, key: Key) {
        self.invalidations.mark(key.url());
        for top in key.tops() {
            self.store.remove(&top);
        }
    }

    /// Orders a purge, as [`orders::place`] does.
    pub fn purge(&self, plan: &Plan, order: &Value) -> Result<Value, Denied> {
        orders::place(&self.purges, &self.store, plan, order)
    }
}
