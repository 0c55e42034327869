//! Phases 2 to 6 of a request, once: admission, its route, the viewer policy, identity, variants.
//!
//! [`Admitted::admit`] and [`Admitted::decide`] take values and [`LookUps`], and end with a route or with the
//! [`PathEnd`] that gives the reason why there is none. The engine acts on them and `explain` writes them down, so
//! neither has an order of its own. `guarded` has the guards of a route, `located` routes by countries, `visitor`
//! phases 5 and 6.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Version};
use smallvec::SmallVec;

use crate::{
    admit::{self, Authority, LastAuthority, Refusal},
    cache::{key::Base, validate},
    geo::Place,
    guard::nonce::PageNonce,
    http::{Fields, PathAndQuery, RequestParts, header, uri},
    identity::{
        client_address::{self, ResolvedClient},
        jwt::Claims,
    },
    plan::{
        FixedResponse, Plan, Redirect, Route, RouteId, Scheme,
        matcher::{Located, Probe, ProbeQuery},
    },
    viewer::{self, Https},
};

mod end;
mod guarded;
mod located;
mod look_ups;
#[cfg(test)]
mod tests;
mod visitor;

pub use end::PathEnd;
pub use look_ups::{LookUps, PathDecision};

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
    /// The same as it was sent, if only its escapes differ. Nothing but the URL's spelling is read from it.
    sent_path: Option<Box<PathAndQuery>>,
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
    if target.is_plain() || target.as_str() == "*" {
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

/// The route of a request for a target. The probe's method becomes that of `requested`, if the edge answers the
/// preflight.
fn route_of<'p, 'a>(
    plan: &'p Plan,
    target: &PathAndQuery,
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
    if !target.is_plain()
        && let Some(evasion) = admit::evades(plan, route, probe)
    {
        return Err(PathEnd::Evades(evasion));
    }
    Ok(route)
}

impl Admitted {
    /// A request from its connection, framed and parsed, before phase 2. `has_body`: false if the content is known to
    /// be empty. `scheme`: of the connection from `peer`; a trusted proxy may still say otherwise about the viewer's.
    #[inline]
    pub fn arriving(head: Box<RequestParts>, has_body: bool, peer: IpAddr, scheme: Scheme) -> Self {
        Self {
            viewer_path: head.target.clone(),
            sent_path: None,
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

    /// Phase 2, in place: checks that the guard could not make from the bytes alone. Fields that only the edge may set
    /// are removed before anything else is read (docs/design.md §3, spoofing rule). `length`: of the content, if
    /// announced; `last`: of the connection.
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
            let sent = std::mem::replace(&mut head.target, path.clone());
            if uri::differs_in_escapes_only(sent.path(), path.path()) {
                self.sent_path = Some(Box::new(sent));
            }
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

    /// Phases 3 to 6: the route of the request, if every phase before the first hook lets it continue. A route that is
    /// known before is that of an origin that a function has named.
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

    /// Continues where [`PathEnd::Password`], or the lack of any key, ended the request.
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
        let route = route_of(plan, &self.head.target, &mut probe, requested.as_ref())?;
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
                let location = viewer::https_location(authority, self.spelled(), port);
                location.map_or(Ok(()), |location| {
                    let status = viewer::https_redirect_status(&self.head.method);
                    Err(PathEnd::Https(status, location))
                })
            }
        }
    }

    /// The viewer's path and query in the viewer's own spelling, which a signature may cover.
    fn spelled(&self) -> &PathAndQuery {
        self.sent_path.as_deref().unwrap_or(&self.viewer_path)
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
}
