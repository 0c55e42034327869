//! The TLS of a connection as its requests see it.

use std::sync::Arc;

use edgerouter_core::{
    http::FieldName,
    plan::ListenerId,
    tls::{ConnectionTerms, TermsDigest},
};
use http::HeaderValue;

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
}

impl TlsSession {
    pub(crate) fn new(
        listener_id: ListenerId,
        listener: Arc<TlsListener>,
        name: Option<&str>,
        terms: TermsDigest,
        client: Vec<(FieldName, HeaderValue)>,
    ) -> Self {
        let name: Option<Box<str>> = name.map(Into::into);
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
