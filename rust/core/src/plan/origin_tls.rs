//! The terms of TLS with origins.

use std::sync::Arc;

use super::Certificate;
use crate::outcome::words;

/// The terms of TLS with an `https` origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    /// `false` accepts any certificate; `true` by default.
    pub verify: bool,
    /// Name in SNI and in the certificate; `None`: the host of the URL.
    pub server_name: Option<Arc<str>>,
    /// PEM certificates that replace the system's roots.
    pub ca_pem: Option<Arc<str>>,
    /// The certificate that the edge shows where the origin requests one.
    pub client: Option<Certificate>,
    /// The versions that are offered; at least one.
    pub versions: Vec<TlsVersion>,
    /// Digests of the public keys (SHA-256 of SubjectPublicKeyInfo) of which the certificate has one; empty: any.
    pub pins: Vec<[u8; 32]>,
}

impl OriginTls {
    /// True if the same configuration serves both: a name is given with each connection.
    pub fn configures_as(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.verify == other.verify
                && self.ca_pem == other.ca_pem
                && self.client == other.client
                && self.versions == other.versions
                && self.pins == other.pins)
    }

    /// The terms of an origin about which nothing is said.
    pub fn of_system() -> Self {
        Self {
            verify: true,
            server_name: None,
            ca_pem: None,
            client: None,
            versions: TlsVersion::ALL.to_vec(),
            pins: Vec::new(),
        }
    }
}

words! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// RFC 5246.
        Tls12 = "TLSv1.2",
        /// RFC 8446.
        Tls13 = "TLSv1.3",
    }
}
