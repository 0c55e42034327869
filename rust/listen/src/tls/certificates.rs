//! The certificates of one TLS policy, chosen by SNI (RFC 6066 §3) and by the signatures that the client verifies.

use std::{borrow::Cow, sync::Arc};

use edgerouter_acme::IssuedCertificates;
use edgerouter_core::tls::NameTable;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

#[derive(Debug, Default)]
pub(super) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    by_name: NameTable<Vec<Arc<CertifiedKey>>>,
    /// Those that the edge obtains by itself.
    obtained: Option<Obtained>,
}

#[derive(Debug)]
struct Obtained {
    issued: Arc<IssuedCertificates>,
    names: NameTable<()>,
    /// For clients that name no host, or one that no certificate is for.
    first: Box<str>,
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

    pub(super) fn add_obtained(&mut self, issued: &Arc<IssuedCertificates>, names: &[Box<str>]) {
        let Some(first) = names.first() else { return };
        let mut table = NameTable::default();
        for name in names {
            table.entry(name, || ());
        }
        self.obtained = Some(Obtained {
            issued: Arc::clone(issued),
            names: table,
            first: first.clone(),
        });
    }

    /// The certificates to choose from.
    fn candidates(&self, host: Option<&str>) -> Cow<'_, [Arc<CertifiedKey>]> {
        if let Some(named) = host.and_then(|host| self.by_name.find(host)) {
            return Cow::Borrowed(named);
        }
        let Some(obtained) = &self.obtained else {
            return Cow::Borrowed(&self.all);
        };
        let named = host.filter(|host| obtained.names.find(host).is_some());
        if named.is_none() && !self.all.is_empty() {
            return Cow::Borrowed(&self.all);
        }
        let found = obtained.issued.find(named.unwrap_or(&obtained.first));
        if found.is_none() {
            obtained.issued.uncertified();
        }
        Cow::Owned(found.into_iter().collect())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let verifiable = candidates.iter().find(|certificate| {
            let schemes = hello.signature_schemes();
            certificate.key.choose_scheme(schemes).is_some()
        });
        verifiable.or_else(|| candidates.first()).cloned()
    }
}
