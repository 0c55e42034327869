//! Phase 9: a stored response that a purge named is not found, or found stale.

use std::sync::Arc;

use edgerouter_core::cache::purge::{PurgeEffect, PurgeSubject};

use crate::{request::Exchange, store::Entry, worker::Worker};

/// Path and query as the viewer requests them.
pub(super) fn viewer_url(exchange: &Exchange) -> (&str, Option<&str>) {
    (exchange.viewer_path.path(), exchange.viewer_path.query())
}

/// The entry as the purges left it; `None`: gone. Costs one comparison if no purge came since its fetch started.
pub(super) fn unpurged(exchange: &Exchange, entry: Arc<Entry>) -> Option<Arc<Entry>> {
    let newest = exchange.worker.shared.cache.purges.newest();
    if entry.last_purge() >= newest {
        return Some(entry);
    }
    compared(exchange, entry, newest)
}

/// True if a purge other than a soft one has come for an entry since it was found: it may not stand in for its origin
/// either.
pub(super) fn gone(worker: &Worker, entry: &Entry) -> bool {
    worker.shared.cache.purges.effect_on(entry) == PurgeEffect::Gone
}

#[cold]
fn compared(exchange: &Exchange, entry: Arc<Entry>, newest: u64) -> Option<Arc<Entry>> {
    let cache = &exchange.worker.shared.cache;
    // An entry that the sweep cleared is cleared for the URLs that lead here by the same name; a request that comes by
    // another one (a rewrite, an error page) is compared again, with that name.
    let stored_for = entry.viewer();
    let same = exchange.viewer_path.path() == stored_for.unwrap_or(exchange.head.target.path());
    let since = if same {
        entry.cleared()
    } else {
        entry.last_purge()
    };
    if since >= newest {
        return Some(entry);
    }
    let Some(mut subject) = PurgeSubject::of(entry.key(), stored_for, entry.tags()) else {
        return Some(entry);
    };
    subject.requested = Some(viewer_url(exchange));
    let clears = same.then_some(newest);
    cache
        .purges
        .apply(&cache.store, &subject, since, &entry, clears)
}
