//! Facts that are in neither the request nor the plan, and the decisions that let a request continue.

use std::{net::IpAddr, sync::Arc};

use http::HeaderValue;

use crate::{
    experiment::{Assignment, Experiment, Reading},
    geo::Place,
    guard::{
        basic::{BasicPolicy, Credentials},
        rate::{RateDecision, RateKey, RateLimit},
    },
    identity::jwt::{Claims, JwtPolicy, TokenError},
    plan::{Route, matcher::Probe},
};

/// Facts that the decisions need and that are not in the request or the plan.
pub trait LookUps {
    /// The claims of a valid token; `None` if it cannot be verified here, and the request continues without them.
    fn token(
        &mut self,
        policy: &Arc<JwtPolicy>,
        token: &[u8],
    ) -> Result<Option<Arc<Claims>>, TokenError>;

    /// The verified claims of the request around one that a function makes, if its policy is the very same.
    fn outer_claims(&mut self, _: &JwtPolicy) -> Option<Arc<Claims>> {
        None
    }

    /// Counts the request under a rate limit, and gives the answer of the limit.
    fn rate(&mut self, limit: &RateLimit, key: RateKey<'_>) -> RateDecision;

    /// Takes a request back that passed a limit, and gives the decision without it.
    fn take_back(&mut self, _: &RateLimit, passed: RateDecision) -> RateDecision {
        passed
    }

    /// True if the credentials are the policy's; `None`: they must be verified elsewhere first, which takes long.
    fn password(&mut self, policy: &Arc<BasicPolicy>, credentials: &Credentials) -> Option<bool>;

    /// The place of an address, as the files of the plan's `geo` say.
    fn place(&mut self, _: IpAddr) -> Arc<Place> {
        Arc::default()
    }

    /// The settings of an experiment that are in use; `None`: they are as declared.
    fn reading(&mut self, _: &Experiment) -> Option<Arc<Reading>> {
        None
    }

    /// Unix seconds of every decision about the request.
    fn now(&self) -> u64;

    /// A fresh uniform number.
    fn chance(&mut self) -> u64;

    /// Notes a decision that lets the request continue. Costs nothing if it is not implemented.
    #[inline]
    fn decided(&mut self, _: PathDecision<'_>) {}
}

/// A decision that lets a request continue, with its reason.
#[derive(Debug)]
pub enum PathDecision<'a> {
    /// The route that was found, and the parts of the request that routes are compared with.
    Routed(&'a Route, &'a Probe<'a>),
    /// The route's https policy is met.
    Viewer(&'a Route),
    /// The client's place was looked up.
    Located(IpAddr, &'a Place),
    /// The route's policy serves the client's address.
    Address(IpAddr),
    /// The route's policy for pages of other origins, and the value for the page that may read the response.
    Cors(Option<&'a HeaderValue>),
    /// The signature of the URL opens it.
    Signed,
    /// The password is the user's.
    Password(&'a Credentials),
    /// A preflight that the route lets through without a token.
    Preflight,
    /// There is no token, and the policy is optional.
    Anonymous,
    /// The token cannot be verified here.
    Unverified,
    /// The token is valid under the policy.
    Verified(&'a JwtPolicy, &'a Claims),
    /// The variant of one experiment; decided once for each experiment of the route.
    Assigned(&'a Experiment, &'a Assignment<'a>, Option<&'a Reading>),
}
