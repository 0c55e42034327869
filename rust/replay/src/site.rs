//! Decides how the plan treats the request of a line, by phases 2 to 8 of the edge.

use std::{net::IpAddr, sync::Arc};

use edgerouter_core::{
    admit::LastAuthority,
    cache::{agreement::Sees, key::Key, question::Question, validate},
    guard::{
        basic::{BasicPolicy, Credentials},
        rate::{RateDecision, RateKey, RateLimit},
    },
    http::{PathAndQuery, RequestParts, header},
    identity::jwt::{Claims, JwtPolicy, TokenError},
    outcome::Outcome,
    path::{Admitted, LookUps, PathEnd},
    plan::{
        Plan, Route, Scheme, Target,
        matcher::{Probe, ProbeQuery},
    },
    viewer,
};
use http::{HeaderValue, Method, StatusCode, Version};

use crate::{counts::Unlike, line::LogLine};

/// Experiments of a route that redirect to the URL with their cookie, at most.
const MOST_REDIRECTS: usize = 8;

/// The facts that the log lacks, for each request of it.
struct Facts {
    now: u64,
    random: fastrand::Rng,
}

impl LookUps for Facts {
    /// A log has no tokens: what needs one passes the cache.
    fn token(&mut self, _: &Arc<JwtPolicy>, _: &[u8]) -> Result<Option<Arc<Claims>>, TokenError> {
        Ok(None)
    }

    /// A request that the log shows was let through.
    fn rate(&mut self, limit: &RateLimit, _: RateKey<'_>) -> RateDecision {
        limit.decide(0, 1).0
    }

    fn password(&mut self, _: &Arc<BasicPolicy>, _: &Credentials) -> Option<bool> {
        Some(true)
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn chance(&mut self) -> u64 {
        self.random.u64(..)
    }
}

/// The plan, and what is assumed about requests where the log is silent.
pub(crate) struct Site<'p> {
    pub plan: &'p Plan,
    host: HeaderValue,
    scheme: Scheme,
    facts: Facts,
    last: LastAuthority,
}

/// The treatment of one request.
pub(crate) enum Treated<'p> {
    /// The edge answers by itself.
    Answered(Outcome),
    /// The request goes to the origin and passes the cache; a success may invalidate the responses of a URL.
    Passed(Option<Key>, Option<Unlike>),
    /// The request uses the cache.
    Asked(&'p Route, Box<Admitted>),
    /// The request of the line cannot be made.
    Unusable,
}

impl<'p> Site<'p> {
    pub(crate) fn new(plan: &'p Plan, host: HeaderValue, scheme: Scheme) -> Self {
        Self {
            plan,
            host,
            scheme,
            facts: Facts {
                now: 0,
                // The same log gives the same variants.
                random: fastrand::Rng::with_seed(0),
            },
            last: LastAuthority::default(),
        }
    }

    /// Phases 2 to 7 for a line at `now`.
    pub(crate) fn treat(&mut self, line: &LogLine<'_>, now: u64) -> Treated<'p> {
        self.facts.now = now;
        let Some(mut admitted) = self.arriving(line) else {
            return Treated::Unusable;
        };
        let mut cookies = String::new();
        for _ in 0..=MOST_REDIRECTS {
            let decided = admitted
                .admit(self.plan, None, &self.last)
                .and_then(|()| admitted.decide(self.plan, &mut self.facts));
            match decided {
                Ok(route) => return self.on_route(line, route, admitted),
                // The log shows the visitor that came back with the cookie.
                Err(PathEnd::Variant(_)) if line.status != 302 => {
                    let Some(again) = self.with_cookies(line, &admitted, &mut cookies) else {
                        return Treated::Unusable;
                    };
                    admitted = again;
                }
                Err(end) => return ended(&end, line.status),
            }
        }
        Treated::Answered(Outcome::Redirect)
    }

    /// The request of a line, before phase 2.
    fn arriving(&self, line: &LogLine<'_>) -> Option<Box<Admitted>> {
        let mut head = RequestParts {
            method: Method::from_bytes(&line.method).ok()?,
            version: Version::HTTP_11,
            ..RequestParts::default()
        };
        let target = std::str::from_utf8(&line.target).ok()?;
        let (mut scheme, mut host) = (line.scheme, None);
        let target = if target.starts_with('/') || target == "*" {
            target
        } else {
            let (name, rest) = target.split_once("://")?;
            scheme = scheme.or(match name {
                "https" | "wss" => Some(Scheme::Https),
                _ => Some(Scheme::Http),
            });
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            host = HeaderValue::from_str(authority).ok();
            path
        };
        if target.len() > self.plan.limits.http.url_bytes {
            return None;
        }
        head.target = PathAndQuery::try_from(target).ok()?;
        let host = host
            .or_else(|| HeaderValue::from_bytes(&line.host).ok())
            .filter(|host| !host.is_empty());
        head.headers
            .insert(header::HOST, host.unwrap_or_else(|| self.host.clone()));
        for (name, text) in [
            (header::REFERER, &line.referer),
            (header::USER_AGENT, &line.agent),
        ] {
            if !text.is_empty()
                && let Ok(value) = HeaderValue::from_bytes(text)
            {
                head.headers.insert(name, value);
            }
        }
        let client = line.client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let scheme = scheme.unwrap_or(self.scheme);
        Some(Box::new(Admitted::arriving(
            Box::new(head),
            false,
            client,
            scheme,
        )))
    }

    /// The request with the cookie of the variant that it was redirected for.
    fn with_cookies(
        &self,
        line: &LogLine<'_>,
        redirected: &Admitted,
        cookies: &mut String,
    ) -> Option<Box<Admitted>> {
        let route = self.plan.route(redirected.route?)?;
        let chosen = redirected.chosen.last()?;
        let experiment = route.experiments.get(chosen.experiment)?;
        if !cookies.is_empty() {
            cookies.push_str("; ");
        }
        cookies.push_str(&experiment.cookie);
        cookies.push('=');
        cookies.push_str(experiment.variant(chosen.variant));
        let mut again = self.arriving(line)?;
        let value = HeaderValue::from_str(cookies).ok()?;
        again.head.headers.insert(header::COOKIE, value);
        Some(again)
    }

    fn on_route(
        &self,
        line: &LogLine<'_>,
        route: &'p Route,
        mut admitted: Box<Admitted>,
    ) -> Treated<'p> {
        match &route.target {
            Target::Group(_) => {}
            // In the place of an origin, with the same cache.
            Target::Function(_) if route.cache.enabled => {}
            Target::Function(_) => return Treated::Answered(Outcome::Function),
            Target::Redirect(_) => return Treated::Answered(Outcome::Redirect),
            Target::Files(_) => return Treated::Answered(Outcome::File),
            // As in the metrics: a fixed response is counted among those that pass.
            Target::Respond(_) => return Treated::Answered(Outcome::Pass),
            // An image that the query names is stored with the URLs of another route.
            Target::Images(_) => return Treated::Answered(Outcome::Pass),
        }
        if let Err(end) = admitted.rewrite(route) {
            return ended(&end, line.status);
        }
        let method = &admitted.head.method;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        if matches!(route.target, Target::Function(_)) && !is_read {
            return Treated::Answered(Outcome::Function);
        }
        if !route.cache.enabled || !is_read {
            return Treated::Passed(self.invalidated(line, &admitted), None);
        }
        let sees = Sees { route, hooked: &[] };
        let stray = sees.stray(&admitted.head.headers, admitted.head.target.query());
        if stray.is_some() {
            return Treated::Passed(None, None);
        }
        Treated::Asked(route, admitted)
    }

    /// The key of the URL whose responses an unsafe request makes invalid (RFC 9111 §4.4).
    fn invalidated(&self, line: &LogLine<'_>, admitted: &Admitted) -> Option<Key> {
        let status = StatusCode::from_u16(line.status).ok()?;
        if !validate::invalidates(&admitted.head.method, status) {
            return None;
        }
        let (path, query) = (admitted.viewer_path.path(), admitted.viewer_path.query());
        let probe = Probe {
            path,
            query: ProbeQuery::Text(query),
            method: &Method::GET,
            ..admitted.probe()
        };
        let found = self.plan.router.find(&self.plan.routes, &probe)?;
        let route = self.plan.route(found)?;
        let path = viewer::target_path(route, path);
        Some(Key::of(
            Vec::new(),
            admitted.base(),
            &path,
            query,
            &route.cache,
        ))
    }

    /// Phase 8.
    pub(crate) fn question<'a>(
        &self,
        route: &Route,
        admitted: &'a Admitted,
        buffer: Vec<u8>,
    ) -> Question<'a> {
        let variants: Vec<(&str, &str)> = admitted.variants(route).collect();
        Question::of(self.plan, route, admitted, &variants, &[], buffer)
    }
}

/// The treatment after an end in phases 2 to 6, of a request that the log shows with `status`.
fn ended<'p>(end: &PathEnd, status: u16) -> Treated<'p> {
    let identity = matches!(
        end,
        PathEnd::Unauthorized(..)
            | PathEnd::Basic(..)
            | PathEnd::Password
            | PathEnd::Signature(_)
            | PathEnd::RateLimited(_)
    );
    // The log has neither tokens nor passwords, but it shows that they were good.
    if identity && (200..400).contains(&status) {
        return Treated::Passed(None, Some(Unlike::Credentials));
    }
    Treated::Answered(end.noted().0)
}
