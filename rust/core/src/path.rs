//! Phases 2 to 6 of a request, once: admission, its route, the viewer policy, identity, variants.
//!
//! [`Admitted::admit`] and [`Admitted::decide`] take values and [`LookUps`], and end with a route or with the
//! [`PathEnd`] that gives the reason why there is none. The engine acts on them and `explain` writes them down, so
//! neither has an order of its own.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use crate::http::{Fields, PathAndQuery, RequestParts, header};
use http::{HeaderValue, Method, StatusCode, Version};
use smallvec::SmallVec;

use crate::{
    admit::{self, Authority, LastAuthority, Refusal},
    cache::{key::Base, storable::Authorization, validate},
    experiment::{AssignedBy, Assignment, Experiment, Mode, Reading, Readings},
    forward,
    geo::Place,
    guard::{
        addresses::AddressRefusal,
        basic::{BasicPolicy, BasicRefusal, Credentials},
        nonce::PageNonce,
        rate::{RateDecision, RateKey, RateLimit},
        signed::SignatureRefusal,
    },
    http::uri,
    identity::{
        client_address::{self, ResolvedClient},
        jwt::{self, Claims, Extracted, JwtPolicy, TokenError},
    },
    outcome::{Detail, Outcome},
    plan::{
        FixedResponse, Plan, Preflight, Redirect, Route, RouteId, Scheme,
        matcher::{Located, Probe, ProbeQuery},
    },
    viewer::{self, Https},
};

mod guarded;
mod located;
#[cfg(test)]
mod tests;

/// Facts that the decisions need and that are not in the request or the plan.
pub trait LookUps {
    /// The claims of a valid token; `None` if it cannot be verified here, and the request continues without them.
    fn token(
        &mut self,
        policy: &Arc<JwtPolicy>,
        token: &str,
    ) -> Result<Option<Arc<Claims>>, TokenError>;

    /// The verified claims of the request around one that a function makes, if its policy is the very same.
    fn outer_claims(&mut self, _: &JwtPolicy) -> Option<Arc<Claims>> {
        None
    }

    /// Counts the request under a rate limit, and gives the answer of the limit.
    fn rate(&mut self, limit: &RateLimit, key: RateKey<'_>) -> RateDecision;

    /// True if the credentials are the policy's; `None`: they must be verified elsewhere first, which takes long.
    fn password(&mut self, policy: &Arc<BasicPolicy>, credentials: &Credentials) -> Option<bool>;

    /// The place of an address, as the files of the plan's `geo` say.
    fn place(&mut self, _: IpAddr) -> Place {
        Place::default()
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

/// An answer that ends a request in phases 2 to 6.
#[derive(Debug)]
pub enum PathEnd {
    /// The request is refused on admission.
    Refused(Refusal),
    /// It has passed this edge before (RFC 9110 §7.6.3).
    Loop,
    /// The site or the route does not serve the client's address.
    Address(AddressRefusal),
    /// The site does not serve the host (RFC 9110 §15.5.20).
    Misdirected,
    /// The answer to a preflight (Fetch §4.8); `None`: pages of its origin may not use the route.
    Preflight(Option<Box<Fields>>),
    /// No user with that password (RFC 7617), and the value of `WWW-Authenticate`.
    Basic(BasicRefusal, HeaderValue),
    /// The password must be verified first; [`Admitted::identify_again`] continues.
    Password,
    /// Too many requests (RFC 6585 §4): the seconds after which another one may come.
    RateLimited(u32),
    /// The URL is not signed as the route demands.
    Signature(SignatureRefusal),
    /// It is about the server itself, which is the edge (RFC 9110 §9.3.7).
    Server,
    /// No route matches host, path, method and fields, and none matches with another method.
    NoRoute,
    /// The methods that the URL accepts.
    MethodNotAllowed(Vec<Method>),
    /// A lenient server would read the path as one of this route, whose guard the request has not passed.
    Evades(RouteId),
    /// The route refuses plain http.
    HttpsOnly,
    /// The same URL over https.
    Https(StatusCode, HeaderValue),
    /// No token, or the reason why it is refused.
    Unauthorized(Option<TokenError>, StatusCode, Option<HeaderValue>),
    /// The same URL, to be requested again with the cookie of the variant.
    Variant(HeaderValue),
    /// The same URL is not valid in a `Location`.
    NoVariant,
    /// A parameter's value is not valid in that part of the location.
    NoLocation,
    /// The route's rewrite gives no valid path.
    NoPath,
}

impl PathEnd {
    /// The response's status, as far as it is decided here.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Address(_) | Self::Preflight(None) | Self::Signature(_) => StatusCode::FORBIDDEN,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Basic(BasicRefusal::Busy, _) | Self::Password => StatusCode::SERVICE_UNAVAILABLE,
            Self::Basic(..) => StatusCode::UNAUTHORIZED,
            Self::Server | Self::Preflight(Some(_)) => StatusCode::NO_CONTENT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Evades(_) => Refusal::AmbiguousPath.status(),
            Self::HttpsOnly => StatusCode::FORBIDDEN,
            Self::Https(status, _) | Self::Unauthorized(_, status, _) => *status,
            Self::Variant(_) => StatusCode::FOUND,
            Self::NoVariant | Self::NoLocation | Self::NoPath => StatusCode::BAD_REQUEST,
        }
    }

    /// The response's outcome and detail.
    pub fn noted(&self) -> (Outcome, Option<Detail>) {
        let (outcome, detail) = match self {
            Self::Refused(_) | Self::Loop | Self::Evades(_) | Self::NoPath => {
                return (Outcome::Pass, None);
            }
            Self::Server => (Outcome::Pass, Detail::Options),
            Self::Address(_) => (Outcome::Error, Detail::Address),
            Self::Misdirected => (Outcome::Error, Detail::Misdirected),
            Self::Preflight(_) => (Outcome::Pass, Detail::Preflight),
            Self::Signature(_) => (Outcome::Error, Detail::Signature),
            Self::RateLimited(_) => (Outcome::Error, Detail::RateLimited),
            Self::NoRoute => (Outcome::Error, Detail::NoRoute),
            Self::MethodNotAllowed(_) => (Outcome::Error, Detail::MethodNotAllowed),
            Self::HttpsOnly => (Outcome::Error, Detail::HttpsOnly),
            Self::Unauthorized(..) | Self::Basic(..) | Self::Password => {
                (Outcome::Error, Detail::Unauthorized)
            }
            Self::Https(..) | Self::Variant(_) | Self::NoVariant | Self::NoLocation => {
                (Outcome::Redirect, Detail::Redirect)
            }
        };
        (outcome, Some(detail))
    }

    /// For the client; empty if the status is enough.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.message(),
            Self::Evades(_) => Refusal::AmbiguousPath.message(),
            Self::Loop => "The request has passed this edge before (Via).",
            Self::Address(_) => "The edge does not serve this address.",
            Self::Misdirected => "The edge does not serve this host.",
            Self::Signature(refusal) => refusal.message(),
            Self::RateLimited(_) => "Too many requests.",
            Self::Basic(BasicRefusal::Busy, _) | Self::Password => {
                "Passwords cannot be verified right now."
            }
            Self::Basic(..) => "Unauthorized",
            Self::Preflight(None) => "Pages of this origin may not use the URL.",
            Self::NoRoute => "No route of this edge matches the request.",
            Self::MethodNotAllowed(_) => "This URL does not allow that method.",
            Self::HttpsOnly => "This URL is served over HTTPS only.",
            Self::Unauthorized(_, StatusCode::UNAUTHORIZED, _) => "Unauthorized",
            Self::Unauthorized(_, StatusCode::SERVICE_UNAVAILABLE, _) => {
                "Tokens cannot be verified right now."
            }
            Self::Unauthorized(..) => "Invalid token",
            Self::NoVariant => "The URL cannot be redirected to.",
            Self::NoLocation => "The URL cannot be redirected from.",
            Self::NoPath => "The URL cannot be rewritten.",
            Self::Server | Self::Https(..) | Self::Variant(_) | Self::Preflight(Some(_)) => "",
        }
    }
}

/// A request whose framing, host and path are accepted, and the decisions of phases 3 to 6 about it.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The head, its path normalised and, once the route is found, rewritten.
    pub head: Box<RequestParts>,
    /// The viewer's address and scheme, from a trusted proxy if there is one.
    pub client: ResolvedClient,
    /// False if the content is known to be empty.
    pub has_body: bool,
    /// The client requests another protocol with `Upgrade` (RFC 9110 §7.8).
    pub wants_upgrade: bool,
    /// The client waits for a 100 before it sends its content. An HTTP/1.0 client cannot (RFC 9110 §10.1.1).
    pub expects: bool,
    /// The client takes trailers (RFC 9110 §6.5.1, §10.1.4).
    pub wants_trailers: bool,
    /// The host that the viewer requested and its port.
    pub authority: Authority,
    /// The authority that the viewer requested from a trusted proxy, if it differs.
    outer: Option<Authority>,
    /// Path and query as the viewer requested them, normalised, before any rewrite.
    pub viewer_path: PathAndQuery,
    /// The edge makes the request of itself, for no client.
    pub internal: bool,
    /// A function makes the request for a client whose own request has counted already.
    pub counted_before: bool,
    readable_for: guarded::ReadableFor,
    /// The nonce in the content of the response.
    pub page_nonce: PageNonce,
    met: guarded::MetLimits,
    /// The client's place, once something has read it.
    place: Option<Arc<Place>>,
    /// `None` until phase 3 has found one.
    pub route: Option<RouteId>,
    /// Of a verified token; `None` if there is none.
    pub claims: Option<Arc<Claims>>,
    /// One for each experiment of the route, in their order.
    pub chosen: SmallVec<[Chosen; 1]>,
}

/// An experiment's decision.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    /// Position in the route's experiments.
    pub experiment: usize,
    /// Position among the experiment's declared variants.
    pub variant: usize,
    /// The visitor's cookie does not name it yet.
    pub fresh: bool,
    /// A stable id decided, rather than the cookie or chance.
    pub by_id: bool,
}

/// How often a request may pass the same edge: more than once, for origins that call back through it.
pub const MOST_LOOPS: usize = 4;

/// The target, normalised; `None` if it already was.
fn normalised(target: &PathAndQuery) -> Result<Option<PathAndQuery>, ()> {
    if target.as_str() == "*" {
        return Ok(None);
    }
    match uri::normalise_path(target.path()).map_err(|_| ())? {
        Cow::Borrowed(same) if same.len() == target.path().len() => Ok(None),
        path => Ok(Some(with_query(&path, target.query()).map_err(|_| ())?)),
    }
}

fn with_query(path: &str, query: Option<&str>) -> Result<PathAndQuery, http::uri::InvalidUri> {
    match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    }
}

/// The route of a request. The probe's method becomes that of `requested`, if the edge answers the preflight.
fn route_of<'p, 'a>(
    plan: &'p Plan,
    probe: &mut Probe<'a>,
    requested: Option<&'a Method>,
) -> Result<&'p Route, PathEnd> {
    if let Some(method) = requested {
        let preflighted = Probe { method, ..*probe };
        let answers = plan
            .router
            .find(&plan.routes, &preflighted)
            .and_then(|id| plan.route(id));
        if answers.is_some_and(Route::answers_preflights) {
            *probe = preflighted;
        }
    }
    let found = plan.router.find(&plan.routes, probe);
    let Some(route) = found.and_then(|id| plan.route(id)) else {
        let allowed = plan.router.allowed_methods(&plan.routes, probe);
        return Err(if allowed.is_empty() {
            PathEnd::NoRoute
        } else {
            PathEnd::MethodNotAllowed(allowed)
        });
    };
    match admit::evades(plan, route, probe) {
        Some(guarded) => Err(PathEnd::Evades(guarded.id)),
        None => Ok(route),
    }
}

impl Admitted {
    /// A request from its connection, framed and parsed, before phase 2. `has_body`: false if the content is known to be
    /// empty. `scheme`: of the connection from `peer`; a trusted proxy may still say otherwise about the viewer's.
    #[inline]
    pub fn arriving(head: Box<RequestParts>, has_body: bool, peer: IpAddr, scheme: Scheme) -> Self {
        Self {
            viewer_path: head.target.clone(),
            head,
            client: ResolvedClient {
                address: peer,
                scheme,
                trusted_peer: false,
            },
            has_body,
            wants_upgrade: false,
            expects: false,
            wants_trailers: false,
            authority: Authority::default(),
            outer: None,
            internal: false,
            counted_before: false,
            readable_for: None,
            page_nonce: PageNonce::Absent,
            met: Vec::new(),
            place: None,
            route: None,
            claims: None,
            chosen: SmallVec::new(),
        }
    }

    /// Phase 2, in place: checks that the guard could not make from the bytes alone. Fields that only the edge may set are
    /// removed before anything else is read (docs/design.md §3, spoofing rule). `length`: of the content, if announced;
    /// `last`: of the connection.
    pub fn admit(
        &mut self,
        plan: &Plan,
        length: Option<u64>,
        last: &LastAuthority,
    ) -> Result<(), PathEnd> {
        let (head, peer, proxies) = (&mut self.head, self.client.address, &plan.trusted_proxies);
        let tls = self.client.scheme == Scheme::Https;
        self.client = client_address::resolve(peer, &head.headers, proxies, tls);
        let (scheme, trusted) = (self.client.scheme, self.client.trusted_peer);
        let present = plan.sanitiser(trusted).clean(&mut head.headers);
        self.authority = Authority::of(head, scheme, last).map_err(PathEnd::Refused)?;
        self.outer = trusted
            .then(|| Authority::forwarded(&head.headers, scheme))
            .flatten()
            .filter(|outer| *outer != self.authority);
        let normalised = normalised(&head.target);
        if let Some(path) = normalised.map_err(|()| PathEnd::Refused(Refusal::BadTarget))? {
            head.target = path.clone();
            self.viewer_path = path;
        }
        if present.via && plan.via.loops(&head.headers, MOST_LOOPS) {
            return Err(PathEnd::Loop);
        }
        if present.content_length {
            admit::plain_length(&mut head.headers);
        }
        if length.is_some_and(|length| length > plan.limits.http.body_bytes) {
            return Err(PathEnd::Refused(Refusal::BodyTooLarge));
        }
        let modern = head.version >= Version::HTTP_11;
        self.wants_upgrade = present.upgrade && admit::upgrade(head, self.has_body).is_some();
        self.expects = self.has_body && modern && head.headers.contains_key(header::EXPECT);
        self.wants_trailers = present.te && modern && admit::accepts_trailers(&head.headers);
        Ok(())
    }

    /// Phases 3 to 6: the route of the request, if every phase before the first hook lets it continue. A route that is known
    /// before is that of an origin that a function has named.
    pub fn decide<'p>(
        &mut self,
        plan: &'p Plan,
        look_ups: &mut impl LookUps,
    ) -> Result<&'p Route, PathEnd> {
        // A function has named the origin: no other phase before the cache is about its request.
        if let Some(route) = self.route.and_then(|id| plan.route(id)) {
            return Ok(route);
        }
        self.pass_site(plan, look_ups)?;
        if self.viewer_path.as_str() == "*" {
            return Err(PathEnd::Server);
        }
        let route = self.find_route(plan, look_ups)?;
        let guard = route.guard.as_deref();
        if let Some(guard) = guard {
            self.pass_route(plan, guard, look_ups)?;
        }
        self.viewer(plan, route)?;
        look_ups.decided(PathDecision::Viewer(route));
        if let Some(guard) = guard {
            self.pass_preflight(guard, look_ups)?;
            self.pass_limits(&guard.limits, look_ups)?;
            self.pass_signed(guard, look_ups)?;
        }
        self.identify_on(route, look_ups)
    }

    /// Continues where [`PathEnd::Password`] ended the request.
    pub fn identify_again<'p>(
        &mut self,
        plan: &'p Plan,
        look_ups: &mut impl LookUps,
    ) -> Result<&'p Route, PathEnd> {
        let route = self.route.and_then(|id| plan.route(id));
        self.identify_on(route.ok_or(PathEnd::NoRoute)?, look_ups)
    }

    fn identify_on<'p>(
        &mut self,
        route: &'p Route,
        look_ups: &mut impl LookUps,
    ) -> Result<&'p Route, PathEnd> {
        let guard = route.guard.as_deref();
        if let Some(guard) = guard {
            self.pass_basic(guard, look_ups)?;
        }
        self.identify(route, look_ups)?;
        if let Some(guard) = guard {
            self.pass_limits(&guard.claim_limits, look_ups)?;
        }
        self.bucket(route, look_ups)?;
        Ok(route)
    }

    fn find_route<'p>(
        &mut self,
        plan: &'p Plan,
        look_ups: &mut impl LookUps,
    ) -> Result<&'p Route, PathEnd> {
        // A preflight is for the route of the request that it precedes.
        let requested = self.preflight_method(plan);
        if plan.guard.routes_by_country {
            let found = self.find_located_route(plan, requested.as_ref(), look_ups)?;
            look_ups.decided(PathDecision::Routed(found, &self.probe()));
            self.route = Some(found.id);
            return Ok(found);
        }
        let mut probe = self.unlocated_probe();
        let route = route_of(plan, &mut probe, requested.as_ref())?;
        look_ups.decided(PathDecision::Routed(route, &probe));
        self.route = Some(route.id);
        Ok(route)
    }

    fn viewer(&self, plan: &Plan, route: &Route) -> Result<(), PathEnd> {
        match viewer::https(route.viewer, self.client.scheme) {
            Https::Proceed => Ok(()),
            Https::Forbid => Err(PathEnd::HttpsOnly),
            Https::Redirect => {
                let authority = self.outer().as_str();
                // A request without a host has no other URL.
                // A proxy in front has ports of its own.
                let port = plan.https_port().filter(|_| self.outer.is_none());
                let location = viewer::https_location(authority, &self.viewer_path, port);
                location.map_or(Ok(()), |location| {
                    let status = viewer::https_redirect_status(&self.head.method);
                    Err(PathEnd::Https(status, location))
                })
            }
        }
    }

    fn identify(&mut self, route: &Route, look_ups: &mut impl LookUps) -> Result<(), PathEnd> {
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
                Err(error) => Some(error),
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

    fn bucket(&mut self, route: &Route, look_ups: &mut impl LookUps) -> Result<(), PathEnd> {
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
                .then(|| HeaderValue::from_str(&viewer::same_url(&self.viewer_path)))
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
            .is_some_and(|path| path == self.viewer_path.as_str())
            && !self.head.headers.contains_key(header::COOKIE)
    }

    /// The `Location` of a redirect route.
    pub fn location(&self, route: &Route, redirect: &Redirect) -> Result<HeaderValue, PathEnd> {
        let (path, query) = (self.head.target.path(), self.head.target.query());
        viewer::redirect_location(route, redirect, path, query).ok_or(PathEnd::NoLocation)
    }

    /// A fixed response's fields, and whether its validators make it conditional (RFC 9110 §13).
    pub fn fixed(&self, fixed: &FixedResponse) -> (validate::Precondition, Fields) {
        let fields: Fields = fixed.headers.iter().cloned().collect();
        let outcome = if validate::has_validator(&fields) {
            validate::precondition(&self.head.method, &self.head.headers, fixed.status, &fields)
        } else {
            validate::Precondition::Send
        };
        (outcome, fields)
    }

    /// Index document, prefixes, rewrite: from here on the path is the origin's.
    pub fn rewrite(&mut self, route: &Route) -> Result<(), PathEnd> {
        let (path, query) = (self.head.target.path(), self.head.target.query());
        let target = match viewer::target_path(route, path) {
            Cow::Borrowed(same) if same.len() == path.len() => return Ok(()),
            target => with_query(&target, query).map_err(|_| PathEnd::NoPath)?,
        };
        self.head.target = target;
        Ok(())
    }

    /// The requested host: lower case, without port.
    #[inline]
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The requested port, if it is not the scheme's default.
    #[inline]
    pub fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    /// Origin of the URL that the viewer requested.
    pub fn base(&self) -> Base<'_> {
        let outer = self.outer();
        Base {
            scheme: self.client.scheme,
            host: outer.host(),
            port: outer.port(),
        }
    }

    /// Host and port in the URL that the viewer requested, from a trusted proxy if there is one.
    #[inline]
    pub fn outer(&self) -> &Authority {
        self.outer.as_ref().unwrap_or(&self.authority)
    }

    /// The parts of the request that routes are compared with.
    pub fn probe(&self) -> Probe<'_> {
        Probe {
            place: self.place.as_deref().map(|place| place as &dyn Located),
            ..self.unlocated_probe()
        }
    }

    #[inline]
    fn unlocated_probe(&self) -> Probe<'_> {
        Probe {
            host: self.host(),
            path: self.head.target.path(),
            query: ProbeQuery::Of(&self.head.target),
            method: &self.head.method,
            headers: &self.head.headers,
            place: None,
        }
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
