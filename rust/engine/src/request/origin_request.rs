//! A request to a group of origins, and its response.

use std::{pin::Pin, rc::Rc};

use bytes::Bytes;
use edgerouter_core::{
    admit::Authority,
    cache::{hooked::HookEffect, tags},
    finish,
    http::{Fields, PathAndQuery, header},
    images::ImageRequest,
    origin::balance::HashKey,
    plan::{GroupId, Route, RouteId, Scheme},
};
use http::{Method, StatusCode, Version};

use super::{answer::Early, foreign::ForeignImage, hooks::context::HookContext};
use crate::{
    account::Owner,
    body::{EdgeBody, PipedBody},
    connection::{Stream, interim::Ticket},
    live::LocalLive,
    telemetry::{access::Logged, trace::SpanParent},
    upstream::{Unavailable, Upgraded, UpstreamBody, Wanted},
    worker::Worker,
};

/// A request to a group of origins. It borrows nothing, so that it can outlive the client that caused it.
#[derive(Clone)]
pub(crate) struct OriginRequest {
    pub worker: Rc<Worker>,
    pub live: Rc<LocalLive>,
    pub route: RouteId,
    pub source: Source,
    /// Ranks the members of the group; `None`: they are in order, or have turns.
    pub hash_key: Option<HashKey>,
    pub method: Method,
    /// The variant that the response becomes.
    pub image: Option<Rc<ImageRequest>>,
    /// Has the image itself come by the cache; `None`: an origin is requested for this variant.
    pub original: Option<FetchOriginal>,
    /// The image, if another host has it: no origin of the group is requested.
    pub foreign: Option<Rc<ForeignImage>>,
    /// Path and query as the origin gets them, before the origin's own prefix.
    pub path_and_query: PathAndQuery,
    /// As prepared by `forward::base`.
    pub headers: Fields,
    pub authority: Authority,
    /// Host and port as the viewer requested them, of a trusted proxy where there is one.
    pub outer: Authority,
    pub scheme: Scheme,
    pub upgrade: bool,
    /// The client waits for a 100 before it sends the content (RFC 9110 §10.1.1).
    pub expects: bool,
    /// The client and the origin that its memory is charged to.
    pub owner: Owner,
    pub hooks: Option<Rc<HookContext>>,
    /// The client, where it may get interim responses.
    pub interims: Option<InterimReceiver>,
    /// Shows whether a client still waits for the response; `None`: it cannot stop waiting.
    pub wanted: Option<Wanted>,
    /// Notes the origin that answered, for the access log.
    pub(crate) logged: Option<Rc<Logged>>,
    /// The span of the request that it is made for.
    pub trace: Option<SpanParent>,
}

/// Fetches the image that the response to the request for a variant is made of.
pub(crate) type FetchOriginal = Rc<dyn Fn(OriginRequest) -> FetchedOriginal>;
/// The image.
pub(crate) type FetchedOriginal = Pin<Box<dyn Future<Output = Result<Box<Received>, Unanswered>>>>;

/// The source of a response.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Group(GroupId),
    /// The function of the route.
    Function,
    /// Another host, of an image.
    Foreign,
}

/// The client of a request, for the interim responses to it.
#[derive(Clone)]
pub(crate) struct InterimReceiver {
    pub stream: Rc<Stream>,
    pub ticket: Ticket,
}

impl InterimReceiver {
    /// The client of the request that is under way on a stream; `None`: it takes none.
    pub(super) fn of(stream: &Rc<Stream>) -> Option<Self> {
        let ticket = stream.interims.ticket()?;
        Some(Self {
            stream: Rc::clone(stream),
            ticket,
        })
    }

    /// Passes interim responses on (RFC 9110 §15.2): as this route's responses are, without fields of one hop or of
    /// a content that they do not have.
    pub(super) fn hear(&self, request: &OriginRequest) -> impl Fn(StatusCode, Version, Fields) {
        let OriginRequest {
            worker,
            live,
            route,
            ..
        } = request;
        move |status, version, mut headers| {
            finish::received(&mut headers, version, &live.plan.via);
            headers.remove(header::CONTENT_LENGTH);
            let route = live.plan.route(*route);
            if let Some(route) = route {
                tags::take(&mut headers, &route.cache);
            }
            self.send(worker, route, status, headers);
        }
    }

    /// Sends an interim response without the fields that the route removes from responses. Early hints that have no
    /// field then say nothing, and are left out.
    pub(super) fn send(
        &self,
        worker: &Worker,
        route: Option<&Route>,
        status: StatusCode,
        mut fields: Fields,
    ) {
        for name in route
            .iter()
            .flat_map(|route| &route.response_headers.remove)
        {
            fields.remove(name);
        }
        let sent = (status != StatusCode::EARLY_HINTS || !fields.is_empty())
            && self.stream.send_interim(self.ticket, status, &fields);
        worker.metrics.interim(sent);
    }
}

/// The response of an origin, before the cache decides about it.
pub(crate) struct Received {
    pub status: StatusCode,
    pub headers: Fields,
    pub body: ReceivedBody,
    pub upgrade: Option<Box<Upgraded>>,
    pub requested_at: u64,
    pub received_at: u64,
    /// `Location` and `Content-Location` as the origin wrote them, where they were rewritten.
    pub own: Fields,
    /// The effect of hooks on it.
    pub hooked: HookEffect,
}

pub(crate) enum ReceivedBody {
    Upstream(Box<UpstreamBody>),
    /// A hook answered in the origin's place, or a function.
    Whole(Bytes),
    /// A function that streams.
    Piped(PipedBody),
}

impl ReceivedBody {
    /// As it is sent.
    pub(crate) fn into_body(self) -> EdgeBody {
        match self {
            Self::Upstream(body) => EdgeBody::upstream(body),
            Self::Whole(bytes) => EdgeBody::made(bytes),
            Self::Piped(body) => EdgeBody::streamed(body),
        }
    }
}

/// No origin answered, or a hook ended the request.
pub(crate) enum Unanswered {
    Failed(Unavailable),
    Early(Early),
}
