//! The request to an origin that a client's request leads to.

use std::rc::Rc;

use edgerouter_core::{
    admit, bounds,
    forward::{self, Viewer},
    http::{FieldName, FieldValue, Fields, PathAndQuery, header, uri},
    images::VARIANT,
    origin::balance::HashKey,
    path::MOST_LOOPS,
    plan::{Balance, GroupId, Route, Select, Target},
    transform,
};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use smallvec::SmallVec;

use super::{
    answer::{self, Early},
    exchange::Exchange,
    origin_request::{InterimReceiver, OriginRequest, Source},
};
use crate::{
    account::Owner,
    upstream::{RequestBody, Wanted},
};

impl Exchange {
    /// On whose behalf memory is held for this request.
    pub(crate) fn owner(&self, route: &Route) -> Owner {
        Owner {
            client: Some(bounds::clients::Client::of(self.client.address)),
            origin: match route.target {
                Target::Group(group) => Some(group.0),
                _ => None,
            },
        }
    }

    /// The request to the route's origins, without its body. `whole`: for the whole response, whatever part of it
    /// the viewer wants.
    pub(crate) fn origin_request(
        &self,
        route: &Route,
        whole: bool,
    ) -> Result<OriginRequest, Early> {
        let mut headers = self.head.headers.clone();
        if whole {
            forward::unconditional(&mut headers);
        }
        self.origin_request_with(route, headers)
    }

    /// The client still waits for the answer, as far as can be seen. One that has closed its side only may.
    pub(crate) fn wanted(&self) -> Wanted {
        let stream = Rc::clone(&self.stream);
        Wanted::new(move || stream.is_wanted())
    }

    /// As `origin_request`, with the request's own header section, which is gone after.
    pub(crate) fn origin_request_taking(&mut self, route: &Route) -> Result<OriginRequest, Early> {
        let headers = std::mem::take(&mut self.head.headers);
        self.origin_request_with(route, headers)
    }

    fn origin_request_with(
        &self,
        route: &Route,
        mut headers: Fields,
    ) -> Result<OriginRequest, Early> {
        let source = self.source(route)?;
        let hash_key = match source {
            Source::Group(group) => self.hash_key(group, route, &headers),
            _ => None,
        };
        if self.image.is_some() {
            headers.remove(VARIANT);
        }
        let path_and_query = self.upstream_path(route);
        let hooks = self.hook_context(route, path_and_query.query(), &headers);
        let upgrade = self
            .wants_upgrade
            .then(|| headers.get(header::UPGRADE).map(FieldValue::owned))
            .flatten();
        let is_upgrade = upgrade.is_some();
        self.make_outgoing(route, &source, upgrade, &mut headers)?;
        Ok(OriginRequest {
            worker: Rc::clone(&self.worker),
            live: Rc::clone(&self.live),
            route: route.id,
            source,
            hash_key,
            // The head of a variant is known once it is made.
            method: match self.image {
                Some(_) => Method::GET,
                None => self.head.method.clone(),
            },
            image: self.image.as_ref().map(|image| Rc::clone(&image.variant)),
            original: self.image.as_ref().and_then(|image| {
                let begin = image.original?;
                begin(self, route, &image.variant)
            }),
            foreign: self.foreign.clone(),
            path_and_query,
            headers,
            authority: self.authority.clone(),
            outer: self.outer().clone(),
            scheme: self.client.scheme,
            upgrade: is_upgrade,
            owner: self.owner(route),
            expects: self.expects,
            hooks,
            logged: self.logged.clone(),
            trace: self.trace.as_ref().map(|trace| trace.parent().clone()),
            interims: InterimReceiver::of(&self.stream),
            wanted: None,
        })
    }

    /// The place that answers in the place of an origin, or the origins.
    fn source(&self, route: &Route) -> Result<Source, Early> {
        match route.target {
            Target::Group(group) => Ok(Source::Group(group)),
            Target::Function(_) => Ok(Source::Function),
            _ if self.foreign.is_some() => Ok(Source::Foreign),
            _ => {
                let why = "This route has no origin.";
                Err(answer::text(StatusCode::INTERNAL_SERVER_ERROR, why).into())
            }
        }
    }

    /// Makes of the client's fields those that the origin gets. `upgrade`: the protocol that the client wants.
    fn make_outgoing(
        &self,
        route: &Route,
        source: &Source,
        upgrade: Option<HeaderValue>,
        headers: &mut Fields,
    ) -> Result<(), Early> {
        admit::strip_hop_by_hop(headers);
        let viewer = Viewer {
            peer: self.stream.connection.address(),
            scheme: self.client.scheme,
            authority: self.outer(),
            version: self.head.version,
        };
        let cdn_loop = &self.worker.shared.cdn_loop;
        if cdn_loop.passes(headers) > MOST_LOOPS {
            return Err(
                answer::looped("The request has passed this edge before (CDN-Loop).").into(),
            );
        }
        forward::base(
            headers,
            route,
            viewer,
            &self.edge_set(route),
            &self.live.plan.via,
        );
        // A function is reached without leaving the edge.
        if !matches!(source, Source::Function) {
            cdn_loop.append(headers);
        }
        if route.cache.enabled && !self.wants_upgrade {
            forward::without_rewriting(headers, route, &self.head.method);
        }
        if self.transforms(route) {
            transform::requested(&self.head.method, headers);
        }
        forward::prefix(headers, route);
        let sanitiser = self.live.plan.sanitiser(self.client.trusted_peer);
        admit::trailers(headers, |name| {
            !sanitiser.forbids(name)
                && route.forward.headers.has(name)
                && !admit::is_twin_of_any(name, route.request_headers.names())
        });
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        Ok(())
    }

    /// The number that ranks the members of a group whose balance is by hash.
    fn hash_key(&self, group: GroupId, route: &Route, headers: &Fields) -> Option<HashKey> {
        let group = self.live.plan.group(group)?;
        if !group.balance.is_spread() {
            return None;
        }
        let (host, target) = (self.outer().host(), &self.head.target);
        let key = match &group.balance {
            Balance::Hash(by) => {
                let address = self.client.address;
                HashKey::of(by, address, host, target, headers, &route.cache)
            }
            _ => None,
        };
        key.or_else(|| self.in_parts.then(|| self.url_key(route))?)
    }

    /// The number of the URL, if the route's group spreads its requests. Parts of one object are requested by it: other
    /// members may have other validators for them.
    pub(crate) fn url_key(&self, route: &Route) -> Option<HashKey> {
        let Target::Group(group) = route.target else {
            return None;
        };
        let is_spread = self.live.plan.group(group)?.balance.is_spread();
        let (host, target) = (self.outer().host(), &self.head.target);
        is_spread.then(|| HashKey::of_url(host, target, &route.cache))
    }

    /// Fields that the edge answers for: identity and variants.
    fn edge_set(&self, route: &Route) -> SmallVec<[(FieldName, HeaderValue); 4]> {
        let mut fields = SmallVec::new();
        if let Some(claims) = &self.claims {
            let storable = super::cached::cacheable(&self.head.method, route);
            let sees = self.sees(route);
            let forwarded = claims.forward().iter();
            let forwarded = forwarded.filter(|one| !storable || sees.may_forward(one));
            fields.extend(forwarded.map(|one| (one.field.clone(), one.value.clone())));
        }
        for chosen in &self.chosen {
            if let Some(experiment) = route.experiments.get(chosen.experiment) {
                fields.push((experiment.header.clone(), experiment.value(chosen.variant)));
                let source = experiment.config.as_ref();
                if let Some(name) = source.and_then(|source| source.header.as_ref())
                    && let Some(reading) = self.live.readings.get(experiment)
                    && let Some(payload) = reading.payload(chosen.variant)
                    && let Some(value) = &payload.header
                {
                    fields.push((name.clone(), value.clone()));
                }
            }
        }
        fields
    }

    fn upstream_path(&self, route: &Route) -> PathAndQuery {
        let own = || self.head.target.clone();
        let Some(query) = self.head.target.query() else {
            return own();
        };
        let sorted = route.cache.enabled && route.cache.sort_query;
        if route.forward.query == Select::All && !sorted {
            return own();
        }
        let mut target = self.head.target.path().as_bytes().to_vec();
        target.push(b'?');
        let before = target.len();
        uri::select_query(query, &route.forward.query, sorted, &mut target);
        if target.len() == before {
            target.pop();
        }
        let target = String::from_utf8(target).ok();
        target
            .and_then(|target| PathAndQuery::try_from(target).ok())
            .unwrap_or_else(own)
    }

    /// The request's body for the origin, counted against the limit.
    pub(crate) fn take_body(&mut self) -> RequestBody {
        match self.body.take() {
            Some(body) if !body.is_end_stream() => {
                let rate = self.live.plan.limits.http.min_rate;
                RequestBody::stream(body, rate)
            }
            _ => RequestBody::Empty,
        }
    }
}
