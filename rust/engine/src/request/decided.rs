//! Phases 2 to 6, acted on: the look-ups that their decisions need, and the response to an answer that ends them.

use std::sync::Arc;

use edgerouter_core::{
    identity::jwt::{self, Claims, JwtPolicy, TokenError},
    outcome::TokenResult,
    path::{LookUps, PathEnd},
};

use super::{
    answer::{self, Early},
    exchange::Exchange,
};
use crate::{live::LocalLive, worker::Worker};

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
            self.worker.metrics.jwt(Ok(TokenResult::Remembered));
            return Ok(Some(claims));
        }
        let verified = jwt::verify(policy, &keys, token.as_bytes(), self.now);
        if let Err(error) = &verified
            && policy.may_be_rotated(error)
        {
            self.live.keys.request_keys(policy);
        }
        let claims = Arc::new(verified?);
        self.worker.metrics.jwt(Ok(TokenResult::Verified));
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
        (self.note.outcome, self.note.detail) = end.noted();
        answer::ended(&self.worker, end)
    }
}
