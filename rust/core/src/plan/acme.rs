//! Certificates that the edge obtains by itself: names, issuers, and the proof that a name is the edge's (RFC 8555).

use std::path::PathBuf;

use crate::{
    outcome::words,
    secret::{FileSecret, Secret},
};

/// The terms by which certificates are obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmePolicy {
    /// Each gets a certificate of its own, so that one that fails holds up no other. In lower case; empty only where a
    /// callable allows names.
    pub names: Vec<Box<str>>,
    /// The address by which issuers reach the owner of the account.
    pub email: Option<Box<str>>,
    /// In the order in which they are tried; never empty.
    pub issuers: Vec<Issuer>,
    /// The folder of accounts, keys and certificates.
    pub storage: PathBuf,
    /// In the order in which they are tried; never empty.
    pub challenges: Vec<ChallengeKind>,
    /// The name of the callable that sets records of DNS, which the Python side knows.
    pub dns: Option<Box<str>>,
    /// The time of the first order.
    pub on_demand: OnDemand,
}

/// The time at which a certificate is ordered for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDemand {
    /// When the edge starts.
    Never,
    /// When a client first comes with one of the names.
    Listed,
    /// The same, and for any other name that the callable of this name allows.
    Allowed(Box<str>),
}

impl OnDemand {
    /// The callable that allows names.
    pub fn callable(&self) -> Option<&str> {
        match self {
            Self::Allowed(callable) => Some(callable),
            Self::Never | Self::Listed => None,
        }
    }
}

/// An issuer of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// URL of its directory (RFC 8555 §7.1.1), by https.
    pub directory: Box<str>,
    /// PEM: the authorities of its server's certificate; `None`: the system's.
    pub ca: Option<FileSecret>,
    /// The kind of certificate that is ordered, by the issuer's name for it; `None`: the issuer's choice.
    pub profile: Option<Box<str>>,
    /// The account at the issuer that a new account of ACME is bound to.
    pub external_account: Option<ExternalAccount>,
}

impl Issuer {
    /// The host of its directory, by which metrics and logs name it.
    pub fn host(&self) -> &str {
        let rest = self.directory.strip_prefix("https://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }
}

/// External account binding (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier of the key.
    pub key_id: Box<str>,
    /// The key of HMAC, as its bytes.
    pub hmac_key: Secret,
}

words! {
    /// A way to prove that a name is the edge's.
    pub enum ChallengeKind {
        /// A file, fetched in plain text from port 80 (RFC 8555 §8.3).
        Http01 = "http-01",
        /// A certificate, shown in a handshake on port 443 (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
        /// A record of DNS, which a callable sets (RFC 8555 §8.4).
        Dns01 = "dns-01",
    }
}

/// Let's Encrypt.
pub(super) const DEFAULT_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Most names that certificates are obtained for, on all listeners together.
pub(super) const MOST_NAMES: usize = 10_000;
