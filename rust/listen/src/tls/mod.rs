//! TLS with clients (RFC 8446, RFC 5246): the listeners of a plan made ready for handshakes.
//!
//! `build` makes a plan's certificates into configurations and reports every problem of them, `certificates` chooses one
//! by SNI, `resumption` keeps the keys of tickets across plans. HTTP is served over a `TlsTransport` like over any other;
//! `crate::handshake` makes one. The policy that a name selects is decided by `core::tls`.

mod build;
mod certificates;
mod counts;
mod resumption;
mod transport;

use std::{sync::Arc, time::Duration};

use edgerouter_core::{
    plan::{ListenerId, Plan, Problem},
    tls::NameTable,
};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

pub use counts::HandshakeCounts;
pub(crate) use transport::TlsTransport;

use resumption::Resumptions;

/// The listeners of a plan that speak TLS.
#[derive(Debug)]
pub struct TlsListeners {
    listeners: Vec<Option<Arc<TlsListener>>>,
    resumptions: Resumptions,
}

/// The TLS policies of one listener.
#[derive(Debug)]
pub struct TlsListener {
    /// In the order of the plan; never empty.
    policies: Vec<Arc<ServerConfig>>,
    /// Positions among them.
    names: NameTable<usize>,
    pub(crate) timeout: Duration,
    /// Handshakes that may be under way, on all listeners together.
    pub(crate) places: Arc<Semaphore>,
}

impl TlsListeners {
    /// Those of a plan, with the keys of the plan before it where its TLS policies are the same.
    pub fn of(plan: &Plan, before: Option<&Self>) -> Result<Self, Vec<Problem>> {
        build::listeners(plan, before.map(|before| &before.resumptions))
    }

    /// The listener at a position; `None` for one without TLS.
    pub fn get(&self, id: ListenerId) -> Option<&Arc<TlsListener>> {
        self.listeners.get(usize::from(id.0))?.as_ref()
    }
}

impl TlsListener {
    /// The policy for the host that a client names, or for one that names none.
    pub(crate) fn select(&self, host: Option<&str>) -> Option<&Arc<ServerConfig>> {
        let position = host.and_then(|host| self.names.find(host));
        self.policies.get(position.copied().unwrap_or(0))
    }
}
