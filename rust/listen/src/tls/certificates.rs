//! The certificates of one TLS policy, chosen by SNI (RFC 6066 §3) and by the signatures that the client verifies.

use std::sync::Arc;

use edgerouter_core::tls::NameTable;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

#[derive(Debug, Default)]
pub(super) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    by_name: NameTable<Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    pub(super) fn add<'n>(
        &mut self,
        certificate: Arc<CertifiedKey>,
        names: impl Iterator<Item = &'n str>,
    ) {
        for name in names {
            let of_name = self.by_name.entry(name, Vec::new);
            of_name.push(Arc::clone(&certificate));
        }
        self.all.push(certificate);
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.by_name.find(name));
        let candidates = named.unwrap_or(&self.all);
        let verifiable = candidates.iter().find(|certificate| {
            let schemes = hello.signature_schemes();
            certificate.key.choose_scheme(schemes).is_some()
        });
        verifiable.or_else(|| candidates.first()).cloned()
    }
}
