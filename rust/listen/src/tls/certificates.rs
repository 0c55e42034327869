//! The certificates of one TLS policy, chosen by SNI (RFC 6066 §3) and by the signatures that the client verifies.

use std::{borrow::Cow, sync::Arc};

use super::resumption::unix_now;
use edgerouter_acme::IssuedCertificates;
use edgerouter_core::{
    plan::{AcmePolicy, OnDemand},
    tls::NameTable,
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

#[derive(Debug, Default)]
pub(super) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    by_name: NameTable<Vec<Arc<CertifiedKey>>>,
    staples: Vec<Staple>,
    /// Certificates that the edge obtains by itself.
    obtained: Option<Obtained>,
}

/// A response of OCSP that clients refuse from its end on.
#[derive(Debug)]
struct Staple {
    of: Arc<CertifiedKey>,
    end: i64,
    /// The certificate without it.
    bare: Arc<CertifiedKey>,
}

#[derive(Debug)]
struct Obtained {
    issued: Arc<IssuedCertificates>,
    names: NameTable<()>,
    /// For clients that name no host, or one that no certificate is for.
    first: Option<Box<str>>,
    on_demand: OnDemand,
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

    /// Notes the Unix second from which a certificate goes without its response of OCSP.
    pub(super) fn staple_until(&mut self, certificate: &Arc<CertifiedKey>, end: i64) {
        let mut bare = CertifiedKey::clone(certificate);
        bare.ocsp = None;
        self.staples.push(Staple {
            of: Arc::clone(certificate),
            end,
            bare: Arc::new(bare),
        });
    }

    fn stapled(&self, certificate: Arc<CertifiedKey>) -> Arc<CertifiedKey> {
        let mut staples = self.staples.iter();
        let staple = staples.find(|staple| Arc::ptr_eq(&staple.of, &certificate));
        let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
        match staple.filter(|staple| staple.end <= now) {
            Some(staple) => Arc::clone(&staple.bare),
            None => certificate,
        }
    }

    pub(super) fn add_obtained(&mut self, issued: &Arc<IssuedCertificates>, terms: &AcmePolicy) {
        let names = &terms.names;
        let mut table = NameTable::default();
        for name in names {
            table.entry(name, || ());
        }
        self.obtained = Some(Obtained {
            issued: Arc::clone(issued),
            names: table,
            first: names.first().cloned(),
            on_demand: terms.on_demand.clone(),
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
        let named = host.filter(|host| obtained.takes(host));
        if named.is_none() && !self.all.is_empty() {
            return Cow::Borrowed(&self.all);
        }
        let name = named.or(obtained.first.as_deref());
        let found = name.and_then(|name| obtained.issued.find(name));
        if found.is_none() {
            obtained.issued.uncertified();
        }
        Cow::Owned(found.into_iter().collect())
    }
}

impl Obtained {
    fn takes(&self, host: &str) -> bool {
        self.names.find(host).is_some()
            || (self.on_demand.callable().is_some() && self.issued.find(host).is_some())
    }
}

impl Certificates {
    /// The place to demand a certificate for a host at, if it has none, and some are obtained on demand.
    pub(super) fn lacks(&self, host: &str) -> Option<&IssuedCertificates> {
        let obtained = self.obtained.as_ref()?;
        let may = match obtained.on_demand {
            OnDemand::Never => false,
            OnDemand::Listed => obtained.names.find(host).is_some(),
            OnDemand::Allowed(_) => true,
        };
        let lacks =
            may && self.by_name.find(host).is_none() && obtained.issued.find(host).is_none();
        lacks.then_some(&*obtained.issued)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let verifiable = candidates.iter().find(|certificate| {
            let schemes = hello.signature_schemes();
            certificate.key.choose_scheme(schemes).is_some()
        });
        let certificate = verifiable.or_else(|| candidates.first()).cloned()?;
        Some(match certificate.ocsp {
            Some(_) => self.stapled(certificate),
            None => certificate,
        })
    }
}
