//! The guards of a site and of a route, at their places among the phases.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method};

use super::{Admitted, LookUps, PathDecision, PathEnd, with_query};
use crate::{
    guard::{
        addresses::AddressPolicy,
        basic::{self, BasicRefusal},
        cors,
        rate::{self, RateDecision, RateKey, RateLimit},
        signed::{self, SignedRequest},
    },
    http::{Fields, cookie, header},
    plan::{Plan, Route, RouteGuard, Scheme},
    viewer,
};

impl Admitted {
    /// Phase 2: the site's clients and hosts. Requests that the edge makes of itself pass.
    pub(super) fn pass_site(
        &mut self,
        plan: &Plan,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        if self.internal {
            return Ok(());
        }
        let site = &plan.guard;
        if let Some(policy) = &site.addresses {
            self.judge(policy, plan, look_ups)?;
        }
        let hosts = &site.hosts;
        if !hosts.is_empty() && !hosts.iter().any(|host| host.matches(self.host())) {
            return Err(PathEnd::Misdirected);
        }
        Ok(())
    }

    fn judge(
        &mut self,
        policy: &AddressPolicy,
        plan: &Plan,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        let address = self.client.address;
        let judged = policy.judge(address, || self.locate(plan, look_ups));
        judged.map_err(PathEnd::Address)
    }

    /// The method that the request is a preflight for, on a site that answers preflights.
    pub(super) fn preflight_method(&self, plan: &Plan) -> Option<Method> {
        (plan.guard.has_cors && self.is_preflight())
            .then(|| cors::requested_method(&self.head.headers))
            .flatten()
    }

    /// Phase 3, once the route is known: its clients.
    pub(super) fn pass_route(
        &mut self,
        plan: &Plan,
        guard: &RouteGuard,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        // Refusals are readable for the pages that may use the route, too.
        self.readable_for = guard
            .cors
            .as_ref()
            .and_then(|cors| cors.allows(&self.head.headers));
        if let Some(policy) = guard.addresses.as_ref().filter(|_| !self.internal) {
            self.judge(policy, plan, look_ups)?;
            look_ups.decided(PathDecision::Address(self.client.address));
        }
        if let Some(geo) = guard.geo.as_ref().filter(|_| !self.internal) {
            let place = self.locate(plan, look_ups);
            geo.set(&place, &mut self.head.headers);
        }
        Ok(())
    }

    /// Phase 4: answers a preflight, which has no token (Fetch §4.8).
    pub(super) fn pass_preflight(
        &self,
        guard: &RouteGuard,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        let Some(cors) = &guard.cors else {
            return Ok(());
        };
        if self.is_preflight() {
            let fields = self
                .readable_for
                .as_ref()
                .map(|_| Box::new(cors.preflight()));
            return Err(PathEnd::Preflight(fields));
        }
        look_ups.decided(PathDecision::Cors(self.readable_for.as_ref()));
        Ok(())
    }

    /// Phase 5: limits on requests. Requests that the edge or a function of it makes do not count.
    pub(super) fn pass_limits(
        &mut self,
        limits: &[Arc<RateLimit>],
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        if self.internal || self.counted_before {
            return Ok(());
        }
        for limit in limits {
            let claims = self.claims.as_deref();
            let claim = |name: &str| claims.and_then(|claims| claims.claim(name));
            let key = RateKey::of(&limit.by, self.client.address, &self.head.headers, claim);
            let decision = look_ups.rate(limit, key);
            self.met.push((Arc::clone(limit), decision));
            if let Err(seconds) = decision.result {
                self.take_back(look_ups);
                return Err(PathEnd::RateLimited(seconds));
            }
        }
        Ok(())
    }

    /// Takes the request back from the limits that it passed: one that is refused by a limit counts for none.
    pub fn take_back(&mut self, look_ups: &mut impl LookUps) {
        for (limit, decision) in &mut self.met {
            if decision.result.is_ok() {
                *decision = look_ups.take_back(limit, *decision);
            }
        }
    }

    /// Time until the turn of the request under the limits that it met.
    pub fn turn_in(&self) -> Duration {
        let waits = self
            .met
            .iter()
            .filter_map(|(_, decision)| decision.result.ok());
        waits.max().unwrap_or_default()
    }

    /// Phase 5: the signature of the URL, whose parts reach neither the key nor an origin.
    pub(super) fn pass_signed(
        &mut self,
        guard: &RouteGuard,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        let Some(policy) = &guard.signed else {
            return Ok(());
        };
        let scheme = self.client.scheme.as_str();
        let origin = format!("{scheme}://{}", self.outer().as_str());
        let judged = policy.judge(SignedRequest {
            origin: &origin,
            path: self.viewer_path.path(),
            sent_path: self.sent_path.as_ref().map(|sent| sent.path()),
            query: self.viewer_path.query(),
            headers: &self.head.headers,
            address: self.client.address,
            now: look_ups.now(),
        });
        judged.map_err(PathEnd::Signature)?;
        look_ups.decided(PathDecision::Signed);
        if let Some(query) = self.head.target.query() {
            let rest = signed::without_parameters(query);
            let target = with_query(self.head.target.path(), rest.as_deref());
            self.head.target = target.map_err(|_| PathEnd::NoPath)?;
        }
        let is_signature = |name: &[u8]| signed::COOKIES.iter().any(|own| own.as_bytes() == name);
        if cookie::pairs(&self.head.headers).any(|(name, _)| is_signature(name)) {
            cookie::retain(&mut self.head.headers, |name| !is_signature(name));
        }
        Ok(())
    }

    fn is_preflight(&self) -> bool {
        viewer::is_preflight(&self.head.method, &self.head.headers, self.has_body)
    }

    /// Phase 5: a user's password. The field never goes to an origin.
    pub(super) fn pass_basic(
        &mut self,
        guard: &RouteGuard,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        let Some(policy) = &guard.basic else {
            return Ok(());
        };
        let refused = |why| PathEnd::Basic(why, policy.challenge.clone());
        let credentials = basic::credentials(&self.head.headers).map_err(refused)?;
        match look_ups.password(policy, &credentials) {
            Some(true) => {}
            Some(false) => return Err(refused(BasicRefusal::Wrong)),
            None => return Err(PathEnd::Password),
        }
        look_ups.decided(PathDecision::Password(&credentials));
        self.head.headers.remove(header::AUTHORIZATION);
        Ok(())
    }

    /// Phase 15: the fields with which guards complete a response. `route`: `None` if there is none for the request.
    pub fn guard_response(&self, plan: &Plan, route: Option<&Route>, headers: &mut Fields) {
        let security = match route {
            None => plan.guard.security.as_ref(),
            Some(route) => {
                let Some(guard) = &route.guard else { return };
                if let Some(cors) = &guard.cors {
                    cors.finish(self.readable_for.as_ref(), headers);
                }
                guard.security.as_ref()
            }
        };
        if !self.met.is_empty() {
            let met = self
                .met
                .iter()
                .map(|(limit, decision)| (&**limit, *decision));
            rate::finish(met, headers);
        }
        if let Some(security) = security {
            security.finish(
                self.client.scheme == Scheme::Https,
                &self.page_nonce,
                headers,
            );
        }
    }
}

/// The origin whose pages may read the response; `None`: those of no other origin.
pub(super) type ReadableFor = Option<HeaderValue>;

/// The limits that the request met so far, with their answers.
pub(super) type MetLimits = Vec<(Arc<RateLimit>, RateDecision)>;
