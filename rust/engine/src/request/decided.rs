//! Phases 2 to 6, acted on: the look-ups that their decisions need, and the response for each answer that ends them.

use std::sync::Arc;

use edgerouter_core::{
    admit::Refusal,
    identity::jwt::{self, Claims, JwtPolicy, TokenError},
    path::{Answer, LookUps},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    answer::{self, Early},
    exchange::{Exchange, refuse},
};
use crate::{body::EdgeBody, live::LocalLive, telemetry::Outcome, worker::Worker};

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
    pub(super) fn end(&mut self, end: Answer) -> Early {
        let noted = match &end {
            Answer::Server => (Outcome::Pass, "options"),
            Answer::NoRoute => (Outcome::Error, "no-route"),
            Answer::MethodNotAllowed(_) => (Outcome::Error, "method-not-allowed"),
            Answer::HttpsOnly => (Outcome::Error, "https-only"),
            Answer::Unauthorized(..) => (Outcome::Error, "unauthorized"),
            Answer::Https(..) | Answer::Variant(_) | Answer::NoVariant | Answer::NoLocation => {
                (Outcome::Redirect, "redirect")
            }
            Answer::Refused(_) | Answer::Loop | Answer::Evades(_) | Answer::NoPath => {
                return ended(&self.worker, end);
            }
        };
        (self.note.outcome, self.note.detail) = (noted.0, Some(noted.1));
        ended(&self.worker, end)
    }
}

/// The response for an answer of phases 2 to 6.
pub(super) fn ended(worker: &Worker, end: Answer) -> Early {
    let status = end.status();
    let with_text = |name, value| answer::with(answer::text(status, end.message()), name, value);
    let response = match &end {
        Answer::Refused(refusal) => return refuse(worker, *refusal),
        Answer::Evades(_) => return refuse(worker, Refusal::AmbiguousPath),
        Answer::Server => answer::of(status, HeaderMap::new(), EdgeBody::empty()),
        Answer::MethodNotAllowed(allowed) => {
            let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            let allowed = HeaderValue::from_str(&allowed.join(", "));
            with_text(
                header::ALLOW,
                allowed.unwrap_or(HeaderValue::from_static("GET")),
            )
        }
        Answer::Https(_, location) => answer::redirect(status, location.clone()),
        Answer::Variant(location) => answer::with(
            answer::redirect(status, location.clone()),
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ),
        Answer::Unauthorized(error, _, challenge) => {
            worker
                .metrics
                .jwt(error.as_ref().map_or("absent", TokenError::as_str));
            if let Some(error) = error {
                tracing::debug!(reason = %error, "token refused");
            }
            match challenge {
                Some(challenge) => with_text(header::WWW_AUTHENTICATE, challenge.clone()),
                None if status == StatusCode::SERVICE_UNAVAILABLE => {
                    with_text(header::RETRY_AFTER, HeaderValue::from_static("5"))
                }
                None => answer::text(status, end.message()),
            }
        }
        _ => answer::text(status, end.message()),
    };
    response.into()
}
