//! TLS with clients (RFC 8446, RFC 5246): the listeners of a plan made ready for handshakes.
//!
//! `build` makes a plan's TLS policies into configurations and reports every problem of them, `given` reads their
//! files, `certificates` chooses one by SNI, `development` makes some for local names, `resumption` keeps the keys of
//! tickets across plans, `tickets` changes them, `stored` ends sessions with the certificates of their clients, `places`
//! bounds the handshakes under way. HTTP is served over a `TlsTransport` like over any other; `crate::handshake` makes
//! one. The policy that a name selects is decided by `core::tls`.

mod build;
mod certificates;
mod counts;
pub mod development;
mod expiry;
mod given;
mod places;
mod resumption;
mod session;
mod stored;
mod tickets;
mod transport;

use std::{sync::Arc, time::Duration};

use edgerouter_acme::{ALPN, IssuedCertificates};
use edgerouter_core::{
    plan::{ClientAuthentication, ListenerId, Plan, Problem},
    tls::{PolicyNames, TermsDigest},
};
use rustls::{ServerConfig, server::ClientHello};

pub use counts::HandshakeCounts;
pub(crate) use places::Places;
pub use session::TlsSession;
pub(crate) use session::VerifiedClient;
pub(crate) use transport::TlsTransport;

use certificates::Certificates;
use expiry::Expiries;
use resumption::Resumptions;

/// The listeners of a plan that speak TLS.
#[derive(Debug)]
pub struct TlsListeners {
    listeners: Vec<Option<Arc<TlsListener>>>,
    resumptions: Resumptions,
    expiries: Expiries,
    issued: Arc<IssuedCertificates>,
}

/// One TLS policy made ready.
#[derive(Debug)]
pub(crate) struct PolicyService {
    pub(crate) config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    pub(crate) client: Option<Arc<ClientAuthentication>>,
}

/// The TLS policies of one listener.
#[derive(Debug)]
pub struct TlsListener {
    /// In the order of the plan; never empty.
    policies: Vec<PolicyService>,
    pub(crate) names: PolicyNames,
    /// `None`: no policy obtains certificates.
    issued: Option<Arc<IssuedCertificates>>,
    pub(crate) timeout: Duration,
    /// Of the handshakes that are under way, on all listeners together.
    pub(crate) places: Arc<Places>,
}

impl TlsListeners {
    /// The listeners of a plan, with the keys of the plan before it where its TLS policies are the same. `issued` has
    /// the certificates that are obtained for it.
    pub fn of(
        plan: &Plan,
        before: Option<&Self>,
        issued: &Arc<IssuedCertificates>,
    ) -> Result<Self, Vec<Problem>> {
        build::listeners(plan, before.map(|before| &before.resumptions), issued)
    }

    /// True if a request for `host` may not be served on a connection with this TLS (RFC 9110 §15.5.20). A connection
    /// whose listener has no TLS any more is as good as one in plain text.
    pub fn misdirects(&self, session: &TlsSession, host: &str) -> bool {
        self.get(session.listener_id)
            .is_some_and(|listener| session.is_misdirected(listener, host))
    }

    /// Writes the ends of the certificates' validity in the format of Prometheus.
    pub fn render(&self, out: &mut String) {
        self.expiries.render(out, &self.issued.expiries());
    }

    /// Logs the certificates that have expired, or soon will. `now`: Unix seconds.
    pub fn warn_of_expiry(&self, now: u64) {
        self.expiries.warn(now);
    }

    /// The listener at a position; `None` for one without TLS.
    pub fn get(&self, id: ListenerId) -> Option<&Arc<TlsListener>> {
        self.listeners.get(usize::from(id.0))?.as_ref()
    }
}

impl PolicyService {
    /// The wait for the certificate of a host, if it is obtained on demand and is not there.
    pub(crate) fn certified(&self, host: Option<&str>) -> Option<impl Future<Output = ()>> {
        let host = host?;
        Some(self.certificates.lacks(host)?.demand(host))
    }
}

impl TlsListener {
    /// The handshake for an issuer that offers no other protocol than that of its challenge, while one is live.
    pub(crate) async fn proof(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        let is_challenge = offered.next() == Some(ALPN) && offered.next().is_none();
        let issued = self.issued.as_ref().filter(|_| is_challenge)?;
        issued.handshake(hello.server_name()?).await
    }

    /// The policy for the host that a client names, or for one that names none, and its terms.
    pub(crate) fn select(&self, host: Option<&str>) -> Option<(&PolicyService, TermsDigest)> {
        let position = self.names.select(host);
        let terms = self.names.terms.get(position)?;
        Some((self.policies.get(position)?, *terms))
    }
}
