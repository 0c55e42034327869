//! Certificates and live challenges as handshakes and requests find them, and the numbers about them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use edgerouter_core::{acme::normalised_name, tls::NameTable};
use edgerouter_telemetry::text;
use parking_lot::{Mutex, RwLock};
use rustls::{ServerConfig, sign::CertifiedKey};
use tokio::sync::{mpsc, oneshot};

use crate::{alpn, pair::Pair};

/// A challenge that an issuer comes with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Challenge {
    /// HTTP-01, by the token.
    Token(Box<str>),
    /// TLS-ALPN-01, by the name.
    Handshake(Box<str>),
}

/// A name that a client has come with, and the place that is dropped when nothing more is to be waited for.
pub(crate) type Demand = (Box<str>, oneshot::Sender<()>);

/// Names that handshakes may bring at a time.
const DEMANDS: usize = 256;

/// A challenge that this process does not know, and the place for its key authorization: another process may have it.
pub(crate) type ProofQuery = (Challenge, oneshot::Sender<Option<String>>);

/// Challenges that requests and handshakes may have looked up at a time.
const QUERIES: usize = 32;
/// Time that a request waits for such a look-up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything about the certificates of the process that others see.
#[derive(Debug)]
pub struct IssuedCertificates {
    by_name: ArcSwap<NameTable<Pair>>,
    /// Key authorizations of live challenges. At most one for each order under way.
    live: RwLock<HashMap<Challenge, Box<str>>>,
    queries: mpsc::Sender<ProofQuery>,
    demands: mpsc::Sender<Demand>,
    /// For the service, which takes them when it starts.
    pub(crate) asked: Mutex<Option<(mpsc::Receiver<ProofQuery>, mpsc::Receiver<Demand>)>>,
    pub(crate) states: Mutex<BTreeMap<Box<str>, NameState>>,
    pub(crate) counts: Counts,
}

/// The state of one name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameState {
    pub(crate) valid: Option<(i64, i64)>,
    /// Failed attempts since the last success.
    pub(crate) failures: u32,
    /// False while its certificate is in use and could not be stored.
    pub(crate) is_stored: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) issued: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) under_way: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) uncertified: AtomicU64,
}

impl Default for IssuedCertificates {
    fn default() -> Self {
        let (queries, asked) = mpsc::channel(QUERIES);
        let (demands, demanded) = mpsc::channel(DEMANDS);
        Self {
            by_name: ArcSwap::default(),
            live: RwLock::default(),
            queries,
            demands,
            asked: Mutex::new(Some((asked, demanded))),
            states: Mutex::default(),
            counts: Counts::default(),
        }
    }
}

impl IssuedCertificates {
    /// The certificate for a host that a client names.
    pub fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let by_name = self.by_name.load();
        by_name.find(host).map(|pair| Arc::clone(&pair.certified))
    }

    /// Counts a handshake for which there is no certificate yet.
    pub fn uncertified(&self) {
        self.counts.uncertified.fetch_add(1, Ordering::Relaxed);
    }

    /// Has a certificate obtained for a name that has none, if that is allowed; returns when there is one, or will be
    /// none for now. The caller bounds the time.
    pub async fn demand(&self, name: &str) {
        let is_name = normalised_name(name)
            .ok()
            .filter(|name| !name.starts_with('*'));
        let Some(name) = is_name else { return };
        let (waits, ended) = oneshot::channel();
        // A full queue is one that is flooded.
        if self.demands.try_send((name.into(), waits)).is_ok() {
            let _ = ended.await;
        }
    }

    /// The key authorization of a token as long as its challenge is live, in this process or in one that shares the
    /// folder.
    pub async fn answer(&self, token: &str) -> Option<String> {
        self.proof(Challenge::Token(token.into())).await
    }

    /// The handshake that proves a name, as long as its challenge is live.
    pub async fn handshake(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let authorization = self.proof(Challenge::Handshake(name.into())).await?;
        alpn::proof(name, &authorization)
    }

    async fn proof(&self, challenge: Challenge) -> Option<String> {
        let known = self.live.read().get(&challenge).map(|it| it.to_string());
        let proof = match known {
            Some(known) => Some(known),
            None => self.elsewhere(challenge).await,
        };
        if proof.is_some() {
            self.counts.answered.fetch_add(1, Ordering::Relaxed);
        }
        proof
    }

    async fn elsewhere(&self, challenge: Challenge) -> Option<String> {
        let (found, proof) = oneshot::channel();
        // A full queue is one that is flooded: the request goes on as any other.
        self.queries.try_send((challenge, found)).ok()?;
        tokio::time::timeout(PATIENCE, proof).await.ok()?.ok()?
    }

    pub(crate) fn publish(&self, pairs: NameTable<Pair>) {
        self.by_name.store(Arc::new(pairs));
    }

    pub(crate) fn add_proof(&self, challenge: Challenge, authorization: &str) {
        self.live.write().insert(challenge, authorization.into());
    }

    pub(crate) fn remove_proof(&self, challenge: &Challenge) {
        self.live.write().remove(challenge);
    }

    /// The name and the end of the validity of each certificate.
    pub fn expiries(&self) -> Vec<(Box<str>, i64)> {
        let states = self.states.lock();
        let held = states.iter();
        held.filter_map(|(name, state)| Some((name.clone(), state.valid?.1)))
            .collect()
    }

    /// Writes the numbers in the format of Prometheus. `now`: Unix seconds.
    pub fn render(&self, out: &mut String, now: u64) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        // Before the states: an order is counted when its certificate is published, so no scrape has the count alone.
        let counted = [
            (["issued"], self.counts.issued.load(Ordering::Acquire)),
            (["failed"], self.counts.failed.load(Ordering::Acquire)),
        ];
        let states = self.states.lock().clone();
        text::labelled(
            out,
            "edgerouter_acme_orders_total",
            "Orders of certificates that have ended, by result.",
            ["result"],
            counted,
        );
        text::one(
            out,
            "edgerouter_acme_orders_under_way",
            "Orders of certificates that have begun and not ended.",
            self.counts.under_way.load(Ordering::Relaxed),
        );
        let expired = |state: &&NameState| state.valid.is_some_and(|(_, end)| end <= now);
        let absent = states
            .values()
            .filter(|state| state.valid.is_none())
            .count();
        let expired = states.values().filter(expired).count();
        let valid = states.len() - absent - expired;
        text::labelled(
            out,
            "edgerouter_acme_certificates",
            "Names that certificates are obtained for, by the state of their certificate.",
            ["state"],
            [
                (["valid"], valid),
                (["expired"], expired),
                (["absent"], absent),
            ],
        );
        text::one(
            out,
            "edgerouter_acme_certificates_not_stored",
            "Certificates that are in use and could not be stored yet.",
            states.values().filter(|state| !state.is_stored).count() as u64,
        );
        text::labelled(
            out,
            "edgerouter_acme_failures",
            "Attempts to obtain the certificate of a name that have failed since the last success.",
            ["name"],
            states.iter().map(|(of, state)| ([of], state.failures)),
        );
        for (name, help, count) in [
            (
                "edgerouter_acme_challenges_answered_total",
                "Requests and handshakes of issuers for a live challenge that were answered.",
                &self.counts.answered,
            ),
            (
                "edgerouter_acme_handshakes_without_certificate_total",
                "TLS handshakes that failed because no certificate had been obtained for the name yet.",
                &self.counts.uncertified,
            ),
        ] {
            text::one(out, name, help, count.load(Ordering::Relaxed));
        }
    }
}
