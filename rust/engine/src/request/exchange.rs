//! One request and everything that the phases learn about it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    rc::Rc,
    time::Instant,
};

use edgerouter_core::{
    admit::Refusal,
    bounds,
    cache::{agreement::Sees, hooked::Written, question::Question, storable::NotStored},
    http::{FieldName, RequestParts},
    images::ImageRequest,
    outcome::Detail,
    path::Admitted,
    plan::{
        Route,
        matcher::{Probe, ProbeQuery},
    },
};
use http::Method;
use http_body::Body as _;
use smallvec::SmallVec;

use super::{
    answer::{self, Early},
    foreign::ForeignImage,
    note::Note,
    origin_request::FetchOriginal,
};
use crate::{
    account::{Hold, UnderWay},
    connection::{ClientBody, Stream},
    counting::VisitorNumbers,
    functions::fetch::{FetchCache, FetchChain},
    live::LocalLive,
    telemetry::{Outcome, Refused, access::Logged, trace::RequestTrace},
    worker::Worker,
};

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
    /// Facts for lines about the request; `None`: nobody reads single requests, by an access log or a live tail.
    pub(crate) logged: Option<Rc<Logged>>,
    id: Cell<Option<u64>>,
    /// `None`: it is not traced, or not yet.
    pub(crate) trace: Option<Box<RequestTrace>>,
    /// The response has `Server-Timing`.
    pub(super) shows_timing: bool,
    /// Parts of the response are requested by themselves: see [`Self::url_key`].
    pub(super) in_parts: bool,
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
            in_parts: false,
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

    /// Makes these fields a part of the key, as those that hooks set, where the origin gets them and the policy does
    /// not declare that responses do not depend on them.
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
}

/// The answer to a request whose body broke off or turned out to be malformed.
pub(crate) fn broken_body(exchange: &mut Exchange) -> Early {
    exchange.note.outcome = Outcome::Error;
    answer::refuse(
        &exchange.worker,
        exchange.stream.take_refusal().unwrap_or(Refusal::BadChunk),
    )
}
