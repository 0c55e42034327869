//! Phase 16, the next-page model: who went where, for routes that predict.

use std::hash::BuildHasher;

use edgerouter_core::{
    http::{PathAndQuery, header},
    outcome::Outcome,
    plan::{PrefetchTarget, Select},
    predict,
    request_record::RequestRecord,
};

use http_body::Body as _;

use super::Exchange;
use crate::{body::EdgeResponse, navigation::Navigation};

impl Exchange {
    /// Reports a navigation to the model: only of a page that any visitor may be sent, and never with a query, which
    /// may be private. For the visitor it gets a number that means nothing outside this process.
    pub(super) fn report_navigation(&self, response: &EdgeResponse, record: &RequestRecord<'_>) {
        let Some(route) = self.route.and_then(|id| self.live.plan.route(id)) else {
            return;
        };
        let Some(policy) = &route.predict else { return };
        let headers = &self.head.headers;
        let (method, status) = (&self.head.method, response.status());
        if !is_shared(record)
            || !predict::is_navigation(method, headers, status, response.headers())
        {
            return;
        }
        if self.viewer_path.query().is_some() && route.cache.key_query != Select::None {
            return;
        }
        let agent = headers
            .get(header::USER_AGENT)
            .map(|agent| agent.as_bytes());
        let visitor = self
            .worker
            .shared
            .visitors
            .hash_one((self.client.address, agent));
        if (visitor >> 11) as f64 / (1_u64 << 53) as f64 >= policy.sample {
            return;
        }
        let Ok(path_and_query) = PathAndQuery::try_from(self.viewer_path.path()) else {
            return;
        };
        let navigation = Navigation {
            visitor,
            target: PrefetchTarget {
                scheme: self.client.scheme,
                authority: self.authority.to_value(),
                path_and_query,
            },
            bytes: response.body().size_hint().exact().unwrap_or(0),
            found: matches!(
                record.outcome,
                Outcome::Hit | Outcome::Stale | Outcome::Coalesced
            ),
        };
        let queued = self.worker.shared.navigations.try_send(navigation).is_ok();
        self.worker.shared.metrics.navigation(queued);
    }
}

/// True if the response came from the store or went into it.
fn is_shared(record: &RequestRecord<'_>) -> bool {
    record.stored
        || matches!(
            record.outcome,
            Outcome::Hit | Outcome::Stale | Outcome::Coalesced | Outcome::Revalidated
        )
}
