//! Phases 2 to 6, acted on: the look-ups that their decisions need, and what is noted of an answer that ends them.

use std::sync::Arc;

use edgerouter_core::{
    identity::jwt::{self, Claims, JwtPolicy, TokenError},
    outcome::Detail,
    path::{LookUps, PathEnd},
};

use super::{
    answer::{self, Early},
    exchange::Exchange,
};
use crate::{live::LocalLive, telemetry::Outcome, worker::Worker};

/// Look-ups of one worker, at `now` (Unix seconds).
pub(super) struct Worked<'a> {
    pub worker: &'a Worker,
    pub live: &'a LocalLive,
    pub now: u64,
}

impl LookUps for Worked<'_> {
    /// From memory where the token was verified before, by its signature otherwise.
    fn token(
        &mut self,
        policy: &Arc<JwtPolicy>,
        token: &str,
    ) -> Result<Option<Arc<Claims>>, TokenError> {
        let mut remembered = self.worker.remembered.borrow_mut();
        let keys = self.live.keys.keys_of(policy)?;
        if let Some(claims) = remembered.get(policy, &keys, token, self.now) {
            self.worker.metrics.jwt("remembered");
            return Ok(Some(claims));
        }
        let verified = jwt::verify(policy, &keys, token.as_bytes(), self.now);
        if let Err(error) = &verified
            && policy.may_be_rotated(error)
        {
            self.live.keys.ask_for_more(policy);
        }
        let claims = Arc::new(verified?);
        self.worker.metrics.jwt("verified");
        remembered.put(policy, &keys, token, Arc::clone(&claims));
        Ok(Some(claims))
    }

    fn chance(&mut self) -> u64 {
        self.worker.random()
    }
}

impl Exchange {
    /// The response for an answer that ends the request, noted for phase 16.
    pub(super) fn end(&mut self, end: PathEnd) -> Early {
        let noted = match &end {
            PathEnd::Server => (Outcome::Pass, Detail::Options),
            PathEnd::NoRoute => (Outcome::Error, Detail::NoRoute),
            PathEnd::MethodNotAllowed(_) => (Outcome::Error, Detail::MethodNotAllowed),
            PathEnd::HttpsOnly => (Outcome::Error, Detail::HttpsOnly),
            PathEnd::Unauthorized(..) => (Outcome::Error, Detail::Unauthorized),
            PathEnd::Https(..) | PathEnd::Variant(_) | PathEnd::NoVariant | PathEnd::NoLocation => {
                (Outcome::Redirect, Detail::Redirect)
            }
            PathEnd::Refused(_) | PathEnd::Loop | PathEnd::Evades(_) | PathEnd::NoPath => {
                return answer::ended(&self.worker, end);
            }
        };
        (self.note.outcome, self.note.detail) = (noted.0, Some(noted.1));
        answer::ended(&self.worker, end)
    }
}
