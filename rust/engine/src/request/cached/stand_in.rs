//! Stored responses in place of an origin that failed (RFC 5861 §4, RFC 9111 §4.2.4), or the edge's own error response.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::decide::{self, Allowance, Outage},
    http::header,
    outcome::Detail,
};
use http::StatusCode;

use super::{
    missing::{Miss, group_of},
    purged::unpurged,
    send::{Served, stored},
    slices::coverage::{Begin, Coverage, at_hand},
};
use crate::{
    body::EdgeResponse,
    request::{Exchange, answer, hooks},
    store::{Entry, Object},
    telemetry::Outcome,
    upstream::{FetchError, Unavailable},
};

/// How long a stored response that an error allows is held back once no origin is healthy: a response may still arrive.
const SHORT_WAIT: Duration = Duration::from_millis(250);

/// The response when no origin answered and nothing stands in for it.
pub(crate) fn failed(exchange: &mut Exchange, failed: &Unavailable) -> EdgeResponse {
    exchange.note.outcome = Outcome::Error;
    exchange.note.detail = Some((&failed.error).into());
    let mut response = match &failed.error {
        FetchError::NoMemory => answer::overloaded(),
        FetchError::Function(failure) => hooks::page(failure),
        error => answer::origin_failed(error.is_timeout()),
    };
    // The variant of an image fails as the image does.
    response.extensions_mut().insert(failed.clone());
    response
}

impl Miss<'_> {
    /// The last good response, where it may stand in, or the news that no origin answered.
    pub(super) fn on_failure(&mut self, error: &Unavailable) -> EdgeResponse {
        match self.stand_in(error.failure()) {
            Some(stale) => stale,
            None => failed(self.exchange, error),
        }
    }

    /// The stored response in place of an origin that failed, where it may be.
    pub(super) fn stand_in(&mut self, failure: Outage) -> Option<EdgeResponse> {
        let (exchange, missing) = (&mut *self.exchange, &self.missing);
        exchange.now = exchange.worker.clock.unix_now();
        let (stale, question) = (missing.stale.as_ref()?, &missing.question);
        let cache = &exchange.worker.shared.cache;
        // RFC 9111 §4.4: a response that an unsafe request has invalidated meanwhile does not stand in, and nor does
        // one that was purged.
        if cache.is_invalid(question.key.url(), missing.since) {
            return None;
        }
        let entry = unpurged(exchange, Arc::clone(stale))?;
        let object = entry.object()?;
        let (allowance, begin) = self.covers(&entry, &object, failure)?;
        let (served, exchange) = (Served::StaleOnError(allowance), &mut *self.exchange);
        Some(stored(exchange, self.route, &entry, object, served, begin))
    }

    /// The rule by which a stored response may stand in for an origin that failed so, and the place where it begins.
    fn covers(
        &self,
        entry: &Arc<Entry>,
        object: &Object,
        failure: Outage,
    ) -> Option<(Allowance, Begin)> {
        let (exchange, question) = (&*self.exchange, &self.missing.question);
        let (freshness, own) = (&object.freshness, &question.directives);
        let allowance = decide::on_error(freshness, own, &self.route.cache, failure, exchange.now)?;
        let coverage = at_hand(&exchange.worker.shared.cache, question, entry);
        Some((allowance, stands(coverage, allowance)?))
    }

    /// The answer while the `Retry-After` of a 503 on this key runs: a stale response that an error allows, or the
    /// edge's own 503, which has nothing of the origin's but its `Retry-After`.
    pub(super) fn spared(&mut self) -> Option<EdgeResponse> {
        let key = &self.missing.question.key;
        let retry_after = self.exchange.worker.shared.cache.retry_after(key)?;
        if let Some(stale) = self.stand_in(Outage::Error) {
            return Some(stale);
        }
        let note = &mut self.exchange.note;
        note.outcome = Outcome::Error;
        note.forward = None;
        note.detail = Some(Detail::OriginBusy);
        let busy = answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "The origin is busy. Try again a little later.",
        );
        Some(answer::with(busy, header::RETRY_AFTER, retry_after))
    }

    /// Waits for the outcome of a flight. `None`: every origin is unhealthy and silent, and the stored response that
    /// their failure would allow need not wait any longer.
    pub(super) async fn patiently<T>(
        &self,
        since: Instant,
        outcome: impl Future<Output = T>,
    ) -> Option<T> {
        let exchange = &*self.exchange;
        let stale = self.missing.stale.as_ref();
        let allowed = stale.and_then(|entry| {
            let object = entry.object()?;
            self.covers(entry, &object, Outage::Disconnected)
        });
        let Some(group) = allowed.and_then(|_| group_of(exchange, self.route)) else {
            return Some(outcome.await);
        };
        tokio::select! {
            biased;
            outcome = outcome => Some(outcome),
            () = async {
                let silent = exchange.worker.shared.health.silent(&exchange.live.plan, group).await;
                tokio::time::sleep_until((silent.max(since) + SHORT_WAIT).into()).await;
            } => None,
        }
    }

    /// The stored response because every origin is unhealthy and silent.
    pub(super) fn unhealthy(&mut self) -> EdgeResponse {
        let group = group_of(self.exchange, self.route);
        let name = group.map_or_else(String::new, |group| group.name.to_string());
        self.on_failure(&Unavailable {
            error: FetchError::Unhealthy(name),
            disconnected: true,
        })
    }
}

/// The place where a stored response begins, if all that is requested is here, so that it can stand in for its origin.
/// Bytes that are still on their way from an origin that cannot be reached do not count, and a response that would
/// break off in the middle does not stand in.
pub(super) fn stands(coverage: Coverage, allowance: Allowance) -> Option<Begin> {
    match coverage {
        Coverage::Coming(_) if allowance == Allowance::Disconnected => None,
        Coverage::Whole(begin) | Coverage::Coming(begin) => Some(begin),
        Coverage::Partly(_) | Coverage::Lacking(_) => None,
    }
}
