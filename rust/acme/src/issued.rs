//! Certificates and live challenges as handshakes and requests find them, and the numbers about them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use edgerouter_core::tls::NameTable;
use edgerouter_telemetry::text;
use parking_lot::{Mutex, RwLock};
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, oneshot};

use crate::pair::Pair;

/// A token that this process does not know, and the place for its answer: another process may have stored it.
pub(crate) type TokenQuery = (Box<str>, oneshot::Sender<Option<String>>);

/// Tokens that requests may have looked up at a time.
const QUERIES: usize = 32;
/// Time that a request waits for such a look-up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything about the certificates of the process that others see.
#[derive(Debug)]
pub struct IssuedCertificates {
    by_name: ArcSwap<NameTable<Pair>>,
    /// Key authorizations by token. At most one for each order under way.
    tokens: RwLock<HashMap<Box<str>, Box<str>>>,
    queries: mpsc::Sender<TokenQuery>,
    /// For the service, which takes it when it starts.
    pub(crate) asked: Mutex<Option<mpsc::Receiver<TokenQuery>>>,
    pub(crate) states: Mutex<BTreeMap<Box<str>, NameState>>,
    pub(crate) counts: Counts,
}

/// The state of one name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameState {
    pub(crate) valid: Option<(i64, i64)>,
    /// Failed attempts since the last success.
    pub(crate) failures: u32,
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
        Self {
            by_name: ArcSwap::default(),
            tokens: RwLock::default(),
            queries,
            asked: Mutex::new(Some(asked)),
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

    /// The key authorization of a token as long as its challenge is live, in this process or in one that shares the folder.
    pub async fn answer(&self, token: &str) -> Option<String> {
        let known = self.tokens.read().get(token).map(|known| known.to_string());
        let answer = match known {
            Some(known) => Some(known),
            None => self.elsewhere(token).await,
        };
        if answer.is_some() {
            self.counts.answered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn elsewhere(&self, token: &str) -> Option<String> {
        let (found, answer) = oneshot::channel();
        // A full queue is one that is flooded: the request goes on as any other.
        self.queries.try_send((token.into(), found)).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?
    }

    pub(crate) fn publish(&self, pairs: NameTable<Pair>) {
        self.by_name.store(Arc::new(pairs));
    }

    pub(crate) fn add_token(&self, token: &str, authorization: &str) {
        self.tokens
            .write()
            .insert(token.into(), authorization.into());
    }

    pub(crate) fn remove_token(&self, token: &str) {
        self.tokens.write().remove(token);
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
        let states = self.states.lock().clone();
        let name = "edgerouter_acme_orders_total";
        let help = "Orders of certificates that have ended, by result.";
        text::head(out, name, "counter", help);
        for (result, count) in [
            ("issued", &self.counts.issued),
            ("failed", &self.counts.failed),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
        text::one(
            out,
            "edgerouter_acme_orders_under_way",
            "Orders of certificates that have begun and not ended.",
            self.counts.under_way.load(Ordering::Relaxed),
        );
        let name = "edgerouter_acme_certificates";
        let help = "Names that certificates are obtained for, by the state of their certificate.";
        text::head(out, name, "gauge", help);
        let expired = |state: &&NameState| state.valid.is_some_and(|(_, end)| end <= now);
        let absent = states
            .values()
            .filter(|state| state.valid.is_none())
            .count();
        let expired = states.values().filter(expired).count();
        let valid = states.len() - absent - expired;
        for (state, count) in [("valid", valid), ("expired", expired), ("absent", absent)] {
            let _ = writeln!(out, "{name}{{state=\"{state}\"}} {count}");
        }
        let name = "edgerouter_acme_failures";
        let help =
            "Attempts to obtain the certificate of a name that have failed since the last success.";
        text::head(out, name, "gauge", help);
        for (of, state) in &states {
            let _ = writeln!(
                out,
                "{name}{{name=\"{}\"}} {}",
                text::escaped(of),
                state.failures
            );
        }
        for (name, help, count) in [
            (
                "edgerouter_acme_challenges_answered_total",
                "Requests of issuers for a live token that were answered.",
                &self.counts.answered,
            ),
            (
                "edgerouter_acme_handshakes_without_certificate_total",
                "TLS handshakes that failed because no certificate had been obtained for the name yet.",
                &self.counts.uncertified,
            ),
        ] {
            text::head(out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", count.load(Ordering::Relaxed));
        }
    }
}
