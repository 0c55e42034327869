//! A request that no stored response answers, and the fetch that it causes.

use std::{rc::Rc, sync::Arc, time::Duration};

use edgerouter_core::{
    cache::{agreement::Sees, arrival::AnsweredRequest, question::Question, slices::First},
    http::{range::Range, structured::Forward},
    origin::retry_after,
    outcome::Detail,
    plan::{Group, Route, Target},
};

use crate::{
    account::Owner,
    request::{Exchange, origin::Received},
    store::{Entry, PurgeFacts, flight::Departure},
    worker::Worker,
};

/// A question that no stored response answers, and why.
pub(crate) struct Missing {
    pub question: Rc<Question<'static>>,
    /// The key under which concurrent requests meet: those that it tells apart cannot share a response.
    pub flight: Vec<u8>,
    pub stale: Option<Arc<Entry>>,
    /// The newest purge and invalidation when `stale` was found.
    pub since: Departure,
    pub why: Forward,
    /// Why the store cannot answer.
    pub detail: Detail,
    /// A stored response that lacks these first bytes of what is requested, which are fetched before anything is sent.
    pub held: Option<(Arc<Entry>, Range)>,
    /// The slice to begin with, where a part of an unknown response is requested.
    pub slice: Option<First>,
    /// True if concurrent requests may wait for this one.
    pub collapse: bool,
    /// The last response for this URL could not be stored.
    pub unshared: bool,
}

/// Such a request until it is answered.
pub(super) struct Miss<'x> {
    pub exchange: &'x mut Exchange,
    pub route: &'x Route,
    pub missing: Box<Missing>,
}

impl Miss<'_> {
    /// A fetch that departs now.
    pub(super) fn fetch(&self) -> CacheFetch {
        CacheFetch {
            stale: self.missing.stale.clone(),
            slice: self.missing.slice,
            ..CacheFetch::new(self.exchange, self.route, Rc::clone(&self.missing.question))
        }
    }
}

/// One fetch whose response may be stored. It may outlive the request that caused it.
pub(super) struct CacheFetch {
    pub question: Rc<Question<'static>>,
    pub stale: Option<Arc<Entry>>,
    /// The part that is requested of the origin, where that is not the whole.
    pub slice: Option<First>,
    /// The newest purge and invalidation when the fetch departed.
    pub departs: Departure,
    /// The path that the viewer requested, where it is not the one in the key.
    pub viewer: Option<Box<str>>,
    /// True if a client waits for it.
    pub awaited: bool,
    /// True if the route compresses: the response may have coded variants.
    pub compresses: bool,
    /// How long the slowest reader may hold up an object that is too large to be stored.
    pub stall: Duration,
    /// The client and the origin whose shares of memory it draws on.
    pub owner: Owner,
}

impl CacheFetch {
    /// As decisions about a response see the request.
    pub(super) fn answered<'a>(&'a self, route: &'a Route) -> AnsweredRequest<'a> {
        AnsweredRequest {
            method: &self.question.method,
            directives: &self.question.directives,
            authorization: self.question.authorization,
            forbidden: self.question.forbidden,
            is_static: self.question.is_static,
            slice: self.slice,
            sees: Sees {
                route,
                hooked: &self.question.hooked,
            },
        }
    }

    pub(super) fn facts(&self, tags: Box<[u64]>) -> PurgeFacts {
        PurgeFacts {
            last_purge: self.departs.purge,
            viewer: self.viewer.clone(),
            tags,
        }
    }

    /// Stores an entry, unless the URL was invalidated after this fetch departed.
    pub(super) fn put(&self, worker: &Worker, entry: &Arc<Entry>) {
        let url = self.question.key.url();
        worker.shared.cache.put(url, self.departs, entry);
    }

    /// Notes that the origin wants to be spared.
    pub(super) fn spare(&self, worker: &Worker, received: &Received) {
        let now = received.received_at;
        if let Some((pause, field)) = retry_after::pause(received.status, &received.headers, now) {
            let cache = &worker.shared.cache;
            cache.spare(&self.question.key, pause, field);
        }
    }

    /// A fetch that departs now, of a whole response that is not stored.
    pub(super) fn new(exchange: &Exchange, route: &Route, question: Rc<Question<'static>>) -> Self {
        let viewer = exchange.viewer_path.path();
        Self {
            question,
            stale: None,
            slice: None,
            awaited: true,
            compresses: route.compress,
            departs: exchange.worker.shared.cache.departure(),
            viewer: (viewer != exchange.head.target.path()).then(|| viewer.into()),
            stall: exchange.live.plan.limits.http.body_timeout,
            owner: exchange.owner(route),
        }
    }
}

/// The time in which a response must have begun, and the name of its source.
pub(super) fn time_limit(exchange: &Exchange, route: &Route) -> (Duration, String) {
    let plan = &exchange.live.plan;
    if let Some(group) = group_of(exchange, route) {
        return (plan.deadline(group), group.name.to_string());
    }
    match route.target {
        Target::Function(call) => plan
            .callable(call)
            .map_or_else(Default::default, |callable| {
                (callable.timeout, callable.name.to_string())
            }),
        // Once to fetch it, and once to make the variant.
        _ => (plan.limits.images.timeout * 2, String::new()),
    }
}

/// The origins of a route that has some.
pub(super) fn group_of<'x>(exchange: &'x Exchange, route: &Route) -> Option<&'x Group> {
    match route.target {
        Target::Group(group) => exchange.live.plan.group(group),
        _ => None,
    }
}
