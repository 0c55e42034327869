//! The plan in service.

use std::{
    cell::RefCell,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, Weak},
};

use edgerouter_core::{
    experiment::Readings,
    http::Fields,
    identity::client_address,
    origin::balance::Turns,
    plan::{Plan, Scheme},
    trial::Share,
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    data::Bindings,
    functions::{FunctionCaches, Functions},
    geo::GeoFiles,
    identity::KeySources,
    listen::tls::TlsListeners,
    observed::Observed,
    readings::ReadingBoard,
    telemetry::PlanMetrics,
    upstream::PlanHealth,
};

/// A plan in service with the runner of its callables and the holder of its keys: swapped as one.
#[derive(Debug)]
pub(crate) struct Live {
    pub plan: Plan,
    pub functions: Arc<dyn Functions>,
    /// Data that functions find on their context.
    pub bindings: Arc<Bindings>,
    /// The caches of its functions.
    pub caches: Arc<dyn FunctionCaches>,
    pub version: u64,
    pub keys: KeySources,
    /// The files that have the places of clients; `None`: the plan has no `geo`.
    pub geo: Option<Arc<GeoFiles>>,
    /// Settings of experiments that are read while it serves.
    pub readings: ReadingBoard,
    pub tls: TlsListeners,
    /// Bound on client connections: the plan's, as far as the process has descriptors for them.
    pub connections: usize,
}

impl Live {
    /// Its caches as callables have them.
    pub(crate) fn caches(&self) -> Weak<dyn FunctionCaches> {
        Arc::downgrade(&self.caches)
    }
}

/// A worker's own handle on the plan: cloning it touches no memory that other cores write.
#[derive(Debug)]
pub(crate) struct LocalLive {
    pub(crate) live: Arc<Live>,
    pub(crate) epoch: u64,
    /// The settings of experiments in use: a request keeps those that it began with.
    pub(crate) readings: Readings,
    /// The readers of single requests, if there are any.
    pub(crate) observed: Option<Observed>,
    /// This worker's counters of the plan.
    pub(crate) metrics: PlanMetrics,
    /// Of the plan's origins.
    pub(crate) health: PlanHealth,
    /// The turns of members in each group, by this worker's count.
    pub(crate) turns: RefCell<Turns>,
    /// The version that serves some of the clients; `None`: no deploy is under way, or this is that version.
    pub(crate) candidate: Option<(Arc<Share>, Rc<LocalLive>)>,
}

impl LocalLive {
    /// The version for a client's request: this one, or the one beside it.
    #[cold]
    pub(crate) fn chosen(
        self: &Rc<Self>,
        peer: IpAddr,
        scheme: Scheme,
        headers: &Fields,
    ) -> Rc<Self> {
        let Some((share, candidate)) = &self.candidate else {
            return Rc::clone(self);
        };
        let proxies = &self.plan.trusted_proxies;
        let client = client_address::resolve(peer, headers, proxies, scheme == Scheme::Https);
        match share.takes(client.address, headers) {
            true => Rc::clone(candidate),
            false => Rc::clone(self),
        }
    }

    /// The version of this number, if it still serves, and else the one in service.
    #[cold]
    pub(crate) fn of_version(self: &Rc<Self>, version: u64) -> Rc<Self> {
        let candidate = self.candidate.as_ref().map(|(_, candidate)| candidate);
        let same = candidate.filter(|candidate| candidate.version == version);
        Rc::clone(same.unwrap_or(self))
    }
}

impl std::ops::Deref for LocalLive {
    type Target = Live;
    fn deref(&self) -> &Live {
        &self.live
    }
}

/// A plan's data as it may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub version: u64,
    /// Unix seconds at which it came in service.
    pub since: u64,
    pub data: Value,
}

/// The documents of the plan in service and of the one before it.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<[Option<Arc<Document>>; 2]>);

impl Documents {
    /// Puts the document of the plan in service before the others.
    pub(crate) fn add(&self, version: u64, since: u64, data: Value) {
        let document = Arc::new(Document {
            version,
            since,
            data,
        });
        let mut kept = self.0.lock();
        let [newest, before] = &mut *kept;
        *before = newest.replace(document);
    }

    /// Of the plan in service, and of the one before it.
    pub(crate) fn get(&self) -> [Option<Arc<Document>>; 2] {
        self.0.lock().clone()
    }
}
