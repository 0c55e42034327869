//! Listeners of a plan: addresses for clients, the TLS policies of each, and the protocols that it speaks.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::AcmePolicy;
use crate::{http::FieldName, outcome::words, secret::FileSecret};

/// Position of a listener in [`super::Plan::listeners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// An address that can be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// From `IP:PORT`, `:PORT` for all addresses of IPv4, `localhost:PORT`, or `unix:` and an absolute path.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.starts_with('/') && path.len() <= MOST_PATH && !path.contains('\0');
            return (fits && Path::new(path).file_name().is_some())
                .then(|| Self::Unix(path.into()));
        }
        let parsed = match (text.strip_prefix("localhost:"), text.strip_prefix(':')) {
            (Some(port), _) => format!("127.0.0.1:{port}").parse(),
            (None, Some(port)) => format!("0.0.0.0:{port}").parse(),
            (None, None) => text.parse(),
        };
        parsed.ok().map(Self::Tcp)
    }

    /// True if another listener can have the same: a free port is another each time.
    pub fn excludes(&self, other: &Self) -> bool {
        match self {
            Self::Tcp(address) => address.port() != 0 && self == other,
            Self::Unix(_) => self == other,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Bytes of a path that `sockaddr_un` holds.
const MOST_PATH: usize = 107;

/// An address for clients.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its address.
    pub address: ListenAddress,
    /// The first is for clients that name no host, or one of which no certificate is. Empty: plain text.
    pub tls: Vec<TlsPolicy>,
    /// By preference, as in ALPN (RFC 7301); never empty. Without TLS a client chooses by its first bytes (RFC 9113
    /// §3.3).
    pub protocols: Vec<HttpProtocol>,
    /// Proxies that begin each connection with a header of the PROXY protocol. Empty: none does.
    pub proxies: Vec<IpNet>,
}

/// The place of the PROXY protocol on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyRule {
    /// The peer is the client.
    None,
    /// A header comes first.
    Header,
    /// The peer is none of the proxies of a listener that only they may use.
    Untrusted,
}

impl Listener {
    /// The rule for a peer.
    pub fn proxy_rule(&self, peer: IpAddr) -> ProxyRule {
        let peer = peer.to_canonical();
        if self.proxies.is_empty() {
            ProxyRule::None
        } else if self.proxies.iter().any(|network| network.contains(&peer)) {
            ProxyRule::Header
        } else {
            ProxyRule::Untrusted
        }
    }
}

/// A protocol that a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1, and HTTP/1.0 for clients that speak no other.
    Http1,
    /// HTTP/2.
    Http2,
}

impl HttpProtocol {
    /// Its name in ALPN.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The terms of TLS for the names of some certificates.
#[derive(Debug, Clone)]
pub struct TlsPolicy {
    /// Empty only where some are obtained. The names that they are for select the policy.
    pub certificates: Vec<Certificate>,
    /// Certificates that the edge obtains by itself.
    pub acme: Option<AcmePolicy>,
    /// Versions and cipher suites.
    pub security: SecurityPolicy,
    /// `None`: clients need no certificate, and none is requested.
    pub client: Option<ClientAuthentication>,
}

/// The certificates that clients of a TLS policy have to show.
#[derive(Debug, Clone)]
pub struct ClientAuthentication {
    /// PEM: the authorities that issue them.
    pub ca: FileSecret,
    /// A client without one gets no connection; otherwise it is served without an identity.
    pub required: bool,
    /// Request fields that say who the client is. A client's own copies are removed from every request.
    pub fields: Vec<(ClientFact, FieldName)>,
}

words! {
    /// A fact about the client's certificate that a request field holds.
    pub enum ClientFact {
        /// The certificate itself, as `Client-Cert` has it (RFC 9440 §2.2).
        Certificate = "certificate",
        /// SHA-256 of it, in hexadecimal.
        Fingerprint = "fingerprint",
        /// Its subject by RFC 4514.
        Subject = "subject",
        /// Its alternative names.
        Names = "names",
        /// Its serial number, in hexadecimal.
        Serial = "serial",
    }
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM: the certificate, and after it those that issued it.
    pub chain: FileSecret,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: FileSecret,
    /// DER: a response of OCSP about it, which is stapled (RFC 6066 §8).
    pub ocsp: Option<FileSecret>,
}

words! {
    /// Versions and cipher suites of TLS by the names of CloudFront's security policies.
    pub enum SecurityPolicy {
        /// TLS 1.2 and 1.3, with AES-GCM and ChaCha20.
        Tls12From2021 = "TLSv1.2_2021",
        /// The same without ChaCha20 in TLS 1.2.
        Tls12From2025 = "TLSv1.2_2025",
        /// TLS 1.3 with AES-GCM.
        Tls13From2025 = "TLSv1.3_2025",
    }
}

/// CloudFront's policies that allow what RFC 8996 and RFC 9325 forbid, or cipher suites without forward secrecy.
pub(super) const OUTDATED_SECURITY_POLICIES: [&str; 6] = [
    "SSLv3",
    "TLSv1",
    "TLSv1_2016",
    "TLSv1.1_2016",
    "TLSv1.2_2018",
    "TLSv1.2_2019",
];

/// Most listeners of a plan.
pub(super) const MOST_LISTENERS: usize = 64;
