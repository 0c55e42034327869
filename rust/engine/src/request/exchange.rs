//! One request and everything that the phases learn about it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    rc::Rc,
    time::Instant,
};

use edgerouter_core::http::{FieldName, FieldValue, Fields, PathAndQuery, RequestParts, header};
use edgerouter_core::{
    admit::{self, Refusal},
    bounds,
    cache::{agreement::Sees, hooked::Written, question::Question, storable::NotStored},
    forward::{self, Viewer},
    http::{structured::Forward, uri},
    images::{ImageRequest, VARIANT},
    outcome::Detail,
    path::{Admitted, MOST_LOOPS},
    plan::{
        Route, Select, Target,
        matcher::{Probe, ProbeQuery},
    },
    request_record::RequestRecord,
    transform,
};
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use smallvec::SmallVec;

use super::{
    answer::{self, Early},
    foreign::ForeignImage,
    origin_request::{FetchOriginal, InterimReceiver, OriginRequest, Source},
};
use crate::{
    account::{Hold, Owner, UnderWay},
    body::{EdgeBody, EdgeResponse},
    connection::{ClientBody, Stream},
    counting::VisitorNumbers,
    functions::fetch::{FetchCache, FetchChain},
    live::LocalLive,
    telemetry::{Outcome, Refused, access::Logged, trace::RequestTrace},
    upstream::{RequestBody, Wanted},
    worker::Worker,
};

/// Content of this length is counted with its head, as buffers take all of it. More is counted by what was sent: clients
/// often leave large content before its end.
const SURELY_SENT: u64 = 64 << 10;

/// A request on its way through the phases.
pub(crate) struct Exchange {
    pub worker: Rc<Worker>,
    pub live: Rc<LocalLive>,
    pub stream: Rc<Stream>,
    pub started: Instant,
    /// Unix seconds: the *now* of every decision about this request.
    pub now: u64,
    /// The request, and the decisions of phases 2 to 6.
    pub request: Admitted,
    pub body: Option<ClientBody>,
    /// Edits by `viewer_request` hooks; `None` before them, and where there are none.
    pub written: Option<Rc<Written>>,
    /// Seconds for which a stored response must stay fresh to answer; only internal requests set it.
    pub fresh_for: Option<u32>,
    /// The part of stored responses in a request of a function.
    pub fetch_cache: FetchCache,
    /// The requests around this one, if a function made it.
    pub chain: FetchChain,
    /// The variant of an image that is requested.
    pub image: Option<WantedImage>,
    /// The image, if another host has it.
    pub foreign: Option<Rc<ForeignImage>>,
    /// Fields that viewer hooks set, changed or removed, sorted, each once: part of the key.
    pub hooked: Vec<FieldName>,
    /// Where single requests are read: there is an access log, or a live tail.
    pub(crate) logged: Option<Rc<Logged>>,
    id: Cell<Option<u64>>,
    /// `None`: it is not traced, or not yet.
    pub(crate) trace: Option<Box<RequestTrace>>,
    /// The response has `Server-Timing`.
    pub(super) shows_timing: bool,
    pub note: Note,
    /// The account's part in a body that is held whole.
    pub held_body: Option<Hold>,
    /// Counts it among its client's requests.
    pub under_way: Option<UnderWay>,
    /// Its visitor in each experiment of the plan; empty if nothing is counted.
    pub(super) visitor: VisitorNumbers,
}

impl Deref for Exchange {
    type Target = Admitted;

    fn deref(&self) -> &Admitted {
        &self.request
    }
}

impl DerefMut for Exchange {
    fn deref_mut(&mut self) -> &mut Admitted {
        &mut self.request
    }
}

/// The variant of an image that is requested.
pub(crate) struct WantedImage {
    pub variant: Rc<ImageRequest>,
    /// Fetches the image through the cache, if the response may be stored.
    pub original: Option<BeginOriginal>,
}

/// Begins the fetch of the image; `None`: an origin is requested for each variant.
pub(crate) type BeginOriginal = fn(&Exchange, &Route, &ImageRequest) -> Option<FetchOriginal>;

/// Facts for `Cache-Status`, the metrics and the log.
#[derive(Debug)]
pub(crate) struct Note {
    pub outcome: Outcome,
    pub hit: bool,
    pub forward: Option<Forward>,
    pub forward_status: Option<StatusCode>,
    pub ttl: Option<i64>,
    pub stored: bool,
    pub collapsed: bool,
    /// Why the store did not give the response.
    pub detail: Option<Detail>,
    /// The key, where the policy shows it.
    pub key: Option<Box<str>>,
    /// The field is in the response already.
    pub written: bool,
}

impl Note {
    /// Something else is sent than the response of the cache or of an origin.
    pub(crate) fn replaced(&mut self, detail: Detail) {
        self.hit = false;
        self.ttl = None;
        self.written = false;
        self.detail = Some(detail);
    }
}

impl Exchange {
    /// An exchange before phase 2. Without a body: a request that the edge makes of itself.
    pub(crate) fn new(
        worker: Rc<Worker>,
        stream: Rc<Stream>,
        head: Box<RequestParts>,
        body: Option<ClientBody>,
        started: Instant,
    ) -> Self {
        let live = worker.live();
        let observed = live.observed.as_ref();
        let logged = observed.map(|_| Rc::new(Logged::of(&head)));
        let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
        let (peer, scheme) = (stream.connection.peer.ip(), stream.connection.scheme);
        Self {
            live,
            now: worker.clock.unix(started),
            request: Admitted::arriving(head, has_body, peer, scheme),
            worker,
            stream,
            started,
            body,
            written: None,
            fresh_for: None,
            fetch_cache: FetchCache::Default,
            chain: FetchChain::default(),
            image: None,
            foreign: None,
            hooked: Vec::new(),
            logged,
            id: Cell::new(None),
            trace: None,
            shows_timing: false,
            note: Note {
                outcome: Outcome::Pass,
                hit: false,
                forward: None,
                forward_status: None,
                ttl: None,
                stored: false,
                collapsed: false,
                detail: None,
                key: None,
                written: false,
            },
            held_body: None,
            under_way: None,
            visitor: VisitorNumbers::new(),
        }
    }

    /// Chooses one of two versions for a client, before phase 2.
    #[cold]
    pub(super) fn choose_version(&mut self) {
        let (peer, headers) = (self.client.address, &self.head.headers);
        self.live = self.live.chosen(peer, self.client.scheme, headers);
    }

    /// Phase 2: checks that could not be made from the bytes alone.
    pub(crate) fn admit(&mut self) -> Result<(), Early> {
        let length = self.body.as_ref().and_then(|body| body.size_hint().exact());
        let last = &self.stream.last_authority;
        let admitted = self.request.admit(&self.live.plan, length, last);
        admitted.map_err(|end| answer::ended(&self.worker, end))?;
        if let Some(session) = self.stream.connection.tls()
            && self.live.tls.misdirects(session, self.request.host())
        {
            return Err(answer::misdirected(&self.worker));
        }
        self.identify_client();
        Ok(())
    }

    /// Sets the fields that say who a client with a certificate is. Its own copies are gone.
    fn identify_client(&mut self) {
        let Some(session) = self.stream.connection.tls() else {
            return;
        };
        for (name, value) in &session.client {
            self.request
                .head
                .headers
                .insert(name.clone(), value.clone());
        }
    }

    /// Makes these fields a part of the key, as those that hooks set, where the origin gets them and the policy does not
    /// declare that responses do not depend on them.
    pub(super) fn key_client(&mut self, route: &Route) {
        let Some(session) = self.stream.connection.tls() else {
            return;
        };
        for (name, _) in &session.client {
            let is_sent = route.forward.headers.has(name.as_str());
            if is_sent && !self.hooked.contains(name) && !self.sees(route).declared(name) {
                self.hooked.push(name.clone());
            }
        }
    }

    /// True if the client is on this machine: its connection, and what a trusted proxy says of it.
    pub(crate) fn client_is_local(&self) -> bool {
        let addresses = [self.stream.connection.peer.ip(), self.client.address];
        addresses
            .iter()
            .all(|address| address.to_canonical().is_loopback())
    }

    /// The request's id, in logs and in error pages.
    pub(crate) fn id(&self) -> u64 {
        self.id.get().unwrap_or_else(|| {
            let id = self.worker.next_id();
            self.id.set(Some(id));
            id
        })
    }

    /// The route that a GET of another path on this host would take.
    pub(crate) fn route_for_get<'l>(
        &self,
        live: &'l LocalLive,
        path: &str,
        query: Option<&str>,
    ) -> Option<&'l Route> {
        let probe = Probe {
            path,
            query: ProbeQuery::Text(query),
            method: &Method::GET,
            ..self.probe()
        };
        live.plan
            .route(live.plan.router.find(&live.plan.routes, &probe)?)
    }

    /// Phase 8: the question that this request is for the cache. `buffer` is what the key is written into.
    pub(crate) fn question(&self, route: &Route, buffer: Vec<u8>) -> Question<'_> {
        let (plan, request) = (&self.live.plan, &self.request);
        let readings = &self.live.readings;
        let variants: SmallVec<[_; 2]> = self.dimensions(route, readings).collect();
        let mut question = Question::of(plan, route, request, &variants, &self.hooked, buffer);
        question.forbidden = self.forbidden();
        question
    }

    /// Why no response to this request may be stored, whatever it says.
    pub(crate) fn forbidden(&self) -> Option<NotStored> {
        self.written.as_ref()?.forbids()
    }

    /// Everything that the key sees of this request.
    pub(crate) fn sees<'a>(&'a self, route: &'a Route) -> Sees<'a> {
        Sees {
            route,
            hooked: &self.hooked,
        }
    }

    /// True if nothing goes upstream that would make the request pass the cache.
    pub(crate) fn agrees(&self, route: &Route) -> bool {
        let stray = self
            .sees(route)
            .stray(&self.head.headers, self.head.target.query());
        stray.is_none()
    }

    /// From here on it is one of its client's requests that are under way: what comes may take a while (RFC 6585 §4).
    pub(crate) fn enter(&mut self) -> Result<(), Early> {
        self.trace_work();
        let bound = self.live.plan.limits.http.client_requests;
        let Some(most) = bound.requests(self.client.address) else {
            return Ok(());
        };
        if self.under_way.is_some() {
            return Ok(());
        }
        let client = bounds::clients::Client::of(self.client.address);
        self.under_way = self.worker.shared.client_requests.enter(client, most);
        if self.under_way.is_some() {
            return Ok(());
        }
        self.worker.metrics.refused(Refused::ClientRequests);
        self.note.outcome = Outcome::Error;
        self.note.detail = Some(Detail::ClientRequests);
        Err(answer::too_many().into())
    }

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
        let source = match route.target {
            Target::Group(group) => Source::Group(group),
            Target::Function(_) => Source::Function,
            _ if self.foreign.is_some() => Source::Foreign,
            _ => {
                let why = "This route has no origin.";
                return Err(answer::text(StatusCode::INTERNAL_SERVER_ERROR, why).into());
            }
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
        admit::strip_hop_by_hop(&mut headers);
        let viewer = Viewer {
            peer: self.stream.connection.address(),
            scheme: self.client.scheme,
            authority: self.outer(),
            version: self.head.version,
        };
        let cdn_loop = &self.worker.shared.cdn_loop;
        if cdn_loop.passes(&headers) > MOST_LOOPS {
            return Err(
                answer::looped("The request has passed this edge before (CDN-Loop).").into(),
            );
        }
        forward::base(
            &mut headers,
            route,
            viewer,
            &self.edge_set(route),
            &self.live.plan.via,
        );
        cdn_loop.append(&mut headers);
        if route.cache.enabled && !self.wants_upgrade {
            forward::without_rewriting(&mut headers, route, &self.head.method);
        }
        if self.transforms(route) {
            transform::requested(&self.head.method, &mut headers);
        }
        forward::prefix(&mut headers, route);
        let sanitiser = self.live.plan.sanitiser(self.client.trusted_peer);
        admit::trailers(&mut headers, |name| {
            !sanitiser.forbids(name)
                && route.forward.headers.has(name)
                && !admit::is_twin_of_any(name, route.request_headers.names())
        });
        if let Some(protocol) = upgrade.clone() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        Ok(OriginRequest {
            worker: Rc::clone(&self.worker),
            live: Rc::clone(&self.live),
            route: route.id,
            source,
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
            upgrade: upgrade.is_some(),
            owner: self.owner(route),
            expects: self.expects,
            hooks,
            logged: self.logged.clone(),
            trace: self.trace.as_ref().map(|trace| trace.parent().clone()),
            interims: self.stream.interims.ticket().map(|ticket| InterimReceiver {
                stream: Rc::clone(&self.stream),
                ticket,
            }),
            wanted: None,
        })
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
            Some(body) if !body.is_end_stream() => RequestBody::stream(body),
            _ => RequestBody::Empty,
        }
    }

    /// Phase 16: one record of the request, for everything that keeps account of it.
    pub(crate) fn account(&mut self, response: &mut EdgeResponse) {
        let (trace, head) = (self.trace.take(), micros(self.started));
        let trace = self.keep_trace(trace, response.status().as_u16(), head);
        let plan = &self.live.plan;
        let route = self.route.and_then(|id| plan.route(id));
        let variants: SmallVec<[(&str, &str); 2]> =
            route.map_or_else(SmallVec::new, |route| self.variants(route).collect());
        let logged = self.logged.as_deref();
        let origin = logged.and_then(|logged| plan.origin(logged.origin.get()?));
        let record = RequestRecord {
            // Only lines of the log name it.
            at: logged.map_or(0, |_| self.worker.clock.unix_millis(self.started)),
            client: self.client.address,
            user: self.claims.as_ref().and_then(|claims| claims.sub()),
            scheme: self.client.scheme.as_str(),
            host: self.authority.as_str(),
            method: logged
                .map_or(&self.head.method, |logged| &logged.method)
                .as_str(),
            target: self.viewer_path.as_str(),
            version: version(self.head.version),
            status: response.status().as_u16(),
            referer: logged.and_then(|logged| Some(logged.referer.as_ref()?.as_bytes())),
            agent: logged.and_then(|logged| Some(logged.agent.as_ref()?.as_bytes())),
            outcome: self.note.outcome,
            hit: self.note.hit,
            stored: self.note.stored,
            detail: self.note.detail,
            forward: self.note.forward,
            refusal: None,
            route: self.route.map(|route| route.0),
            label: route.map_or("", |route| &*route.label),
            origin: origin.map(|origin| &*origin.name),
            variants: &variants,
            id: self.id(),
            trace: trace.as_ref().map(|(trace, _)| trace.id()),
            head,
            bytes: response
                .body()
                .size_hint()
                .exact()
                .filter(|&bytes| bytes <= SURELY_SENT),
            tls: logged.and_then(|_| Some(self.stream.connection.tls()?.record())),
        };
        self.live.metrics.count(&record);
        let counted = plan.geo.as_ref().filter(|geo| geo.count_countries);
        let country = counted.map(|_| self.country());
        if let (Some(country), Some(bytes)) = (country, record.bytes) {
            self.live.metrics.bytes_to(country, bytes);
        }
        if plan.predicts {
            self.report_navigation(response, &record);
        }
        if !self.visitor.is_empty() {
            self.report_visitor(record.method, response.status());
        }
        let trace = trace.and_then(|trace| self.trace_end(trace, &record));
        let observed = self.live.observed.as_ref();
        let line = observed.and_then(|observed| {
            if let Some((id, fault)) = observed.judge(&record) {
                self.worker.shared.fault(id, fault);
            }
            observed.begin(&record, &plan.access_log)
        });
        let count = record.bytes.is_none().then(|| Rc::clone(&self.live));
        if line.is_none() && count.is_none() && trace.is_none() {
            return;
        }
        let (started, route) = (self.started, record.route);
        let body = std::mem::replace(response.body_mut(), EdgeBody::empty());
        *response.body_mut() = body.on_end(move |bytes| {
            if let Some(live) = count {
                live.metrics.bytes_out(route, bytes);
                if let Some(country) = country {
                    live.metrics.bytes_to(country, bytes);
                }
            }
            if let Some(line) = line {
                line.end(bytes, micros(started));
            }
            if let Some(trace) = trace {
                trace.end(bytes);
            }
        });
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Microseconds since an instant.
fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The answer to a request whose body broke off or turned out to be malformed.
pub(crate) fn broken_body(exchange: &mut Exchange) -> Early {
    exchange.note.outcome = Outcome::Error;
    answer::refuse(
        &exchange.worker,
        exchange.stream.take_refusal().unwrap_or(Refusal::BadChunk),
    )
}
