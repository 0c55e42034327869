//! The TLS of a connection as its requests see it.

use std::sync::Arc;

use edgerouter_core::{
    http::FieldName,
    plan::ListenerId,
    request_record::TlsRecord,
    tls::{ClientCertificate, ConnectionTerms, TermsDigest},
};
use http::HeaderValue;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};

use super::TlsListener;

/// The result of a handshake.
#[derive(Debug)]
pub struct TlsSession {
    pub(super) listener_id: ListenerId,
    /// As it was at the handshake.
    listener: Arc<TlsListener>,
    name: Option<Box<str>>,
    terms: TermsDigest,
    /// The name itself may be requested, by the plan of the handshake.
    is_name_served: bool,
    /// Fields that say who the client is, for each of its requests.
    pub client: Vec<(FieldName, HeaderValue)>,
    /// The verified certificate of the client.
    pub certificate: Option<Arc<ClientCertificate>>,
    version: &'static str,
    cipher: &'static str,
    resumed: bool,
}

/// The client that a handshake has verified: its certificate, and the fields that say who it is.
pub(crate) type VerifiedClient = (
    Vec<(FieldName, HeaderValue)>,
    Option<Arc<ClientCertificate>>,
);

impl TlsSession {
    pub(crate) fn new(
        listener_id: ListenerId,
        listener: Arc<TlsListener>,
        session: &ServerConnection,
        terms: TermsDigest,
        (client, certificate): VerifiedClient,
    ) -> Self {
        let name: Option<Box<str>> = session.server_name().map(Into::into);
        let of_connection = ConnectionTerms {
            name: name.as_deref(),
            terms,
        };
        let is_name_served = name
            .as_deref()
            .is_some_and(|name| !listener.names.misdirects(&of_connection, name));
        Self {
            listener_id,
            listener,
            name,
            terms,
            is_name_served,
            client,
            certificate,
            version: version(session),
            cipher: cipher(session),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Its part of a line in the access log.
    pub fn record(&self) -> TlsRecord<'_> {
        TlsRecord {
            version: self.version,
            cipher: self.cipher,
            server_name: self.name.as_deref(),
            resumed: self.resumed,
        }
    }

    pub(super) fn is_misdirected(&self, listener: &Arc<TlsListener>, host: &str) -> bool {
        let name = self.name.as_deref();
        if self.is_name_served && name == Some(host) && Arc::ptr_eq(listener, &self.listener) {
            return false;
        }
        let of_connection = ConnectionTerms {
            name,
            terms: self.terms,
        };
        listener.names.misdirects(&of_connection, host)
    }
}

fn version(session: &ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    }
}

/// The name at IANA: rustls has another one for the suites of TLS 1.3.
fn cipher(session: &ServerConnection) -> &'static str {
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(suite) => suite.as_str().unwrap_or(""),
        None => "",
    }
}
