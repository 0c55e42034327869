//! A certificate that the plan gives, with its key and its response of OCSP: each file by itself, and if they fit.

use std::sync::Arc;

use edgerouter_core::{
    plan::{Certificate, SecurityPolicy},
    tls::{certificate_facts, ocsp_end},
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use webpki::EndEntityCert;

use super::{
    build::{PolicyBuild, provider},
    certificates::Certificates,
};

impl PolicyBuild<'_> {
    /// Reads one, and the end of its response of OCSP. `None`: it cannot be used, which is reported.
    pub(super) fn certificate(
        &mut self,
        certificate: &Certificate,
        field: &str,
        security: SecurityPolicy,
    ) -> Option<(CertifiedKey, Option<i64>)> {
        let chain = chain(certificate.chain.as_bytes());
        if let Err(why) = &chain {
            self.refuse_file(&certificate.chain, &format!("{field}.chain"), why);
        }
        let Ok(key) = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()) else {
            self.refuse_file(
                &certificate.key,
                &format!("{field}.key"),
                "holds no private key in PEM; give the certificate's own, such as privkey.pem, not encrypted",
            );
            return None;
        };
        let Ok(key) = provider(security).key_provider.load_private_key(key) else {
            self.refuse_file(
                &certificate.key,
                &format!("{field}.key"),
                "is of a kind that is not supported; use ECDSA P-256 or P-384, RSA of 2,048 bits or more, or Ed25519",
            );
            return None;
        };
        let mut key = CertifiedKey::new(chain.ok()?, key);
        let mut end = None;
        if let (Some(ocsp), Some(der)) = (&certificate.ocsp, key.cert.first()) {
            match ocsp_end(ocsp.as_bytes(), der) {
                Ok(found) => {
                    end = found;
                    key.ocsp = Some(ocsp.as_bytes().to_vec());
                }
                Err(fault) => {
                    self.refuse_file(ocsp, &format!("{field}.ocsp"), &fault.to_string());
                }
            }
        }
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Some((key, end))
            }
            Err(rustls::Error::InconsistentKeys(_)) => {
                if let Some(at) = place_in_chain(&key) {
                    let why = format!(
                        "does not begin with the certificate of the key, which is number {at} in it; put that one first"
                    );
                    self.refuse_file(&certificate.chain, &format!("{field}.chain"), &why);
                } else {
                    self.refuse_file(
                        &certificate.key,
                        &format!("{field}.key"),
                        "is not the key of the certificate; give the two that were issued together",
                    );
                }
                None
            }
            Err(error) => {
                self.refuse(
                    &format!("{field}.chain"),
                    format!("does not begin with a certificate of a server: {error}"),
                );
                None
            }
        }
    }

    /// Adds a certificate by its names, each of which may select one policy of the listener only. `staple_end`: of its
    /// response of OCSP.
    pub(super) fn add(
        &mut self,
        key: CertifiedKey,
        staple_end: Option<i64>,
        certificates: &mut Certificates,
        field: &str,
    ) {
        let key = Arc::new(key);
        let end_entity = key.cert.first().map(EndEntityCert::try_from);
        let Some(Ok(end_entity)) = end_entity else {
            let why =
                "does not begin with a certificate of a server; put the one for this host first";
            return self.refuse(&format!("{field}.chain"), why);
        };
        let mut names = Vec::new();
        for name in end_entity.valid_dns_names() {
            self.all.entry(name, || ());
            let position = *self.names.entry(name, || self.position);
            if position == self.position {
                names.push(name);
            } else {
                let why = format!(
                    "is for {name}, and so is a certificate of tls[{position}]: a name selects one TLS policy; remove one \
                     of them"
                );
                self.refuse(&format!("{field}.chain"), why);
            }
        }
        if let Some(facts) = key.cert.first().and_then(|der| certificate_facts(der)) {
            let first = names.first().copied().unwrap_or(&facts.subject);
            self.expiries.note(first, facts.valid.1);
            if let Some(end) = staple_end {
                self.expiries.note_staple(first, end);
            }
        }
        certificates.add(Arc::clone(&key), names.into_iter());
        if let Some(end) = staple_end {
            certificates.staple_until(&key, end);
        }
    }
}

/// The certificates of a file, each of which is one.
fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(pem).collect();
    // The error has its words as lists of bytes.
    let chain = chain.map_err(|_| {
        "holds a certificate in PEM that is damaged or cut off; write the file anew".to_owned()
    })?;
    if chain.is_empty() {
        let why = "holds no certificate in PEM; give the file with the certificate and those that issued it, such as \
                   fullchain.pem";
        return Err(why.to_owned());
    }
    // The first one has more to be.
    let bad = |der: &CertificateDer<'_>| certificate_facts(der).is_none();
    match chain.iter().skip(1).position(bad) {
        Some(at) => Err(format!(
            "holds a certificate that cannot be read, number {} in it; write the file anew",
            at + 2
        )),
        None => Ok(chain),
    }
}

/// The place of a key's certificate, which is not the first of the chain.
fn place_in_chain(key: &CertifiedKey) -> Option<usize> {
    let is_of = |der: &CertificateDer<'static>| {
        let signing: Arc<dyn SigningKey> = Arc::clone(&key.key);
        CertifiedKey::new(vec![der.clone()], signing)
            .keys_match()
            .is_ok()
    };
    key.cert.iter().position(is_of).map(|at| at + 1)
}
