//! The policies of a site and of a route about who may use them, and about what browsers may do with the responses.

use std::sync::Arc;

use super::HostPattern;
use crate::{
    geo::RouteGeo,
    guard::{
        addresses::AddressPolicy, basic::BasicPolicy, cors::Cors, rate::RateLimit,
        security::SecurityFields, signed::SignedPolicy,
    },
};

/// Policies for every request of the site.
#[derive(Debug, Default)]
pub struct SiteGuard {
    /// Hosts that are served; empty: all. Others get 421 (RFC 9110 §15.5.20).
    pub hosts: Vec<HostPattern>,
    /// Clients that are served; `None`: all.
    pub addresses: Option<AddressPolicy>,
    /// For responses of routes without fields of their own, and of no route.
    pub security: Option<Arc<SecurityFields>>,
    /// Limits of all routes, each name once.
    pub limits: Vec<Arc<RateLimit>>,
    /// At least one route answers preflights.
    pub has_cors: bool,
    /// At least one route has a condition on the client's country.
    pub routes_by_country: bool,
}

/// Policies for the requests of one route.
#[derive(Debug, Default)]
pub struct RouteGuard {
    /// Clients that are served; `None`: all that the site serves.
    pub addresses: Option<AddressPolicy>,
    /// Pages of other origins that may use it; `None`: the origin decides.
    pub cors: Option<Cors>,
    /// Limits on requests, met before a signature or a token is looked at.
    pub limits: Vec<Arc<RateLimit>>,
    /// Limits by a claim, met once the token is verified.
    pub claim_limits: Vec<Arc<RateLimit>>,
    /// Keys whose signatures open its URLs; `None`: they need none.
    pub signed: Option<SignedPolicy>,
    /// Users and their passwords; `None`: none is read.
    pub basic: Option<Arc<BasicPolicy>>,
    /// Fields of every response.
    pub security: Option<Arc<SecurityFields>>,
    /// Facts about the client's place in the request's fields; `None`: there are none.
    pub geo: Option<RouteGeo>,
}

impl RouteGuard {
    /// The names of the policies that it has.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [
            ("addresses", self.addresses.is_some()),
            ("cors", self.cors.is_some()),
            (
                "rate limit",
                !self.limits.is_empty() || !self.claim_limits.is_empty(),
            ),
            ("signed", self.signed.is_some()),
            ("basic", self.basic.is_some()),
            ("security", self.security.is_some()),
            ("geo", self.geo.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
    }

    /// True without any policy.
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// Its limits, those of the site among them.
    pub fn every_limit(&self) -> impl Iterator<Item = &RateLimit> {
        self.limits
            .iter()
            .chain(&self.claim_limits)
            .map(|limit| &**limit)
    }

    /// True if some requests may not have the responses of the route: no other path may lead to them.
    pub fn refuses(&self) -> bool {
        self.addresses.is_some() || self.signed.is_some() || self.basic.is_some()
    }
}
