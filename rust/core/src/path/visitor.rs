//! Phases 5 and 6: who the visitor is by its token, and the variants of the experiments that it gets.

use http::{HeaderValue, Method};

use super::{Admitted, Chosen, LookUps, PathDecision, PathEnd};
use crate::{
    cache::storable::Authorization,
    experiment::{AssignedBy, Mode, Readings},
    forward,
    http::header,
    identity::jwt::{self, Extracted},
    plan::{Preflight, Route},
    viewer,
};

impl Admitted {
    #[inline]
    pub(super) fn identify(
        &mut self,
        route: &Route,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        let Some(policy) = &route.auth else {
            return Ok(());
        };
        if route.preflight == Preflight::Origin
            && viewer::is_preflight(&self.head.method, &self.head.headers, self.has_body)
        {
            // A preflight carries no identity, and no field may turn it into another method.
            forward::preflight(&mut self.head.headers);
            look_ups.decided(PathDecision::Preflight);
            return Ok(());
        }
        let error = match jwt::extract(policy, &self.head.headers) {
            Extracted::Token(token) => match look_ups.token(policy, token) {
                Ok(claims) => {
                    look_ups.decided(claims.as_ref().map_or(PathDecision::Unverified, |claims| {
                        PathDecision::Verified(policy, claims)
                    }));
                    self.claims = claims;
                    return Ok(());
                }
                Err(error) => Some(jwt::check_form(token).err().unwrap_or(error)),
            },
            Extracted::Absent => {
                if let Some(claims) = look_ups.outer_claims(policy) {
                    look_ups.decided(PathDecision::Verified(policy, &claims));
                    self.claims = Some(claims);
                    return Ok(());
                }
                if policy.optional {
                    look_ups.decided(PathDecision::Anonymous);
                    return Ok(());
                }
                None
            }
            Extracted::Malformed(error) => Some(error),
        };
        let (status, challenge) = jwt::challenge(policy, error.as_ref());
        Err(PathEnd::Unauthorized(error, status, challenge))
    }

    #[inline]
    pub(super) fn bucket(
        &mut self,
        route: &Route,
        look_ups: &mut impl LookUps,
    ) -> Result<(), PathEnd> {
        for (index, experiment) in route.experiments.iter().enumerate() {
            let reading = match &experiment.config {
                Some(_) => look_ups.reading(experiment),
                None => None,
            };
            let assigned = experiment.assign(
                &self.head.headers,
                self.claims.as_deref(),
                look_ups.chance(),
                reading.as_deref(),
            );
            look_ups.decided(PathDecision::Assigned(
                experiment,
                &assigned,
                reading.as_deref(),
            ));
            let redirects = assigned.fresh
                && experiment.mode == Mode::Redirect
                && matches!(self.head.method, Method::GET | Method::HEAD)
                && !self.loops_without_cookies();
            let location = redirects
                .then(|| HeaderValue::from_str(&viewer::same_url(self.spelled())))
                .transpose()
                .map_err(|_| PathEnd::NoVariant)?;
            self.chosen.push(Chosen {
                experiment: index,
                variant: assigned.index,
                fresh: assigned.fresh,
                by_id: assigned.reason == AssignedBy::Id,
            });
            if let Some(location) = location {
                return Err(PathEnd::Variant(location));
            }
        }
        Ok(())
    }

    /// A visitor that refuses cookies would be redirected for ever: the query of the redirect cannot be changed ("the
    /// same URL"), so a request that already comes from that very URL is served instead.
    fn loops_without_cookies(&self) -> bool {
        self.head
            .headers
            .get(header::REFERER)
            .and_then(|referer| referer.to_str().ok())
            .and_then(|referer| referer.split_once("://"))
            .and_then(|(_, rest)| rest.strip_prefix(self.authority.as_str()))
            .is_some_and(|path| path == self.spelled().as_str())
            && !self.head.headers.contains_key(header::COOKIE)
    }

    /// Names and variants of the route's experiments.
    pub fn variants<'r>(&self, route: &'r Route) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.chosen.iter().filter_map(|chosen| {
            let experiment = route.experiments.get(chosen.experiment)?;
            Some((&*experiment.name, experiment.variant(chosen.variant)))
        })
    }

    /// Names of the route's experiments, and the parts of the key that stand for their variants.
    pub fn dimensions<'r>(
        &self,
        route: &'r Route,
        readings: &'r Readings,
    ) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.chosen.iter().filter_map(|chosen| {
            let experiment = route.experiments.get(chosen.experiment)?;
            let reading = readings.get(experiment).map(|reading| &**reading);
            Some((
                &*experiment.name,
                experiment.dimension(chosen.variant, reading),
            ))
        })
    }

    /// The credentials, as RFC 9111 §3.5 distinguishes them. Responses to verified claims may be shared if
    /// the policy declares it, or if the cache's key holds claims.
    pub fn authorization(&self, route: &Route) -> Authorization {
        match (&self.claims, &route.auth) {
            (Some(_), Some(policy)) => Authorization::Verified {
                shared: policy.shared || !route.cache.key_claims.is_empty(),
            },
            _ if self.head.headers.contains_key(header::AUTHORIZATION) => Authorization::Present,
            _ => Authorization::None,
        }
    }
}
