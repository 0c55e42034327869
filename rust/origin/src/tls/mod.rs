//! TLS to origins (RFC 8446, RFC 9110 §4.3.4): the terms of each come from the plan, a configuration of rustls for each
//! goes to `connect`. `verify` judges certificates, `advice` words what went wrong.

mod advice;
mod verify;

use std::{cell::RefCell, sync::Arc};

use edgerouter_core::{
    plan::{Certificate, OriginTls, Plan, Scheme, TlsVersion},
    problem::Problem,
};
use rustls::{
    ClientConfig, Error, RootCertStore, SupportedProtocolVersion,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

pub(super) use advice::{refused, worded};

/// Configurations that are kept: each change of an origin's terms makes another.
const MOST: usize = 256;

/// Configurations made so far: they hold the session tickets, so one for the same terms is kept.
#[derive(Debug, Default)]
pub(super) struct Configs {
    made: RefCell<Vec<(Arc<OriginTls>, Arc<ClientConfig>)>>,
}

impl Configs {
    pub(super) fn of(&self, tls: &Arc<OriginTls>) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.made.borrow_mut();
        if let Some((_, config)) = made.iter().find(|(known, _)| known.configures_as(tls)) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make(tls).map_err(|fault| fault.why)?);
        if !tls.verify && tls.pins.is_empty() {
            tracing::warn!("the certificate of an origin is not verified (tls_verify is off)");
        }
        if made.len() >= MOST {
            made.remove(0);
        }
        made.push((Arc::clone(tls), Arc::clone(&config)));
        Ok(config)
    }
}

/// A field of an origin by which no connection could be made, and the reason.
struct Fault {
    field: &'static str,
    why: String,
}

impl Fault {
    fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

/// Every problem of the certificates and keys of a plan's origins.
pub fn check(plan: &Plan) -> Result<(), Vec<Problem>> {
    let of_tls = plan
        .origins
        .iter()
        .enumerate()
        .filter(|(_, origin)| origin.scheme == Scheme::Https);
    let problems: Vec<Problem> = of_tls
        // The system's authorities may come while the edge serves.
        .filter(|(_, origin)| origin.tls.ca_pem.is_some() || origin.tls.client.is_some())
        .filter_map(|(at, origin)| {
            let fault = make(&origin.tls).err()?;
            Some(Problem {
                path: format!("origins[{at}].{}", fault.field),
                value: None,
                message: fault.why,
            })
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn make(tls: &OriginTls) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: Vec<&'static SupportedProtocolVersion> = tls
        .versions
        .iter()
        .map(|version| match version {
            TlsVersion::Tls12 => &TLS12,
            TlsVersion::Tls13 => &TLS13,
        })
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| Fault::new("tls_versions", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(tls, &provider)?);
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = pair(client)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let why = match error {
                    Error::InconsistentKeys(_) => {
                        "is not the key of the certificate; give the two that were issued together"
                    }
                    _ => "is of a kind that is not supported; use ECDSA P-256 or P-384, RSA of 2,048 bits or more, or Ed25519",
                };
                Fault::new("tls_certificate.key", client.key.fault(why))
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn pair(
    client: &Certificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(client.chain.as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        let why = "holds no certificate in PEM; give the file with the certificate and those that issued it, such as fullchain.pem";
        Fault::new("tls_certificate.chain", client.chain.fault(why))
    })?;
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).map_err(|_| {
        let why = "holds no private key in PEM; give the certificate's own, such as privkey.pem, not encrypted";
        Fault::new("tls_certificate.key", client.key.fault(why))
    })?;
    Ok((chain, key))
}

fn verifier(
    tls: &OriginTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let inner: Arc<dyn ServerCertVerifier> = if tls.verify {
        let roots = Arc::new(roots(tls)?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| Fault::new("tls_ca", error.to_string()))?
    } else {
        Arc::new(verify::Unverified(Arc::clone(provider)))
    };
    Ok(if tls.pins.is_empty() {
        inner
    } else {
        Arc::new(verify::Pinned {
            inner,
            pins: tls.pins.clone(),
        })
    })
}

fn roots(tls: &OriginTls) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                // The error has its words as lists of bytes.
                let certificate = certificate.map_err(|_| {
                    let why = "is no PEM certificate: it is damaged or cut off; write it anew";
                    Fault::new("tls_ca", why.to_owned())
                })?;
                roots.add(certificate).map_err(|error| {
                    Fault::new(
                        "tls_ca",
                        format!("holds a certificate that cannot be used: {error}"),
                    )
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        let why =
            "there are no root certificates to verify with; install the system's, or give tls_ca";
        return Err(Fault::new("tls_ca", why));
    }
    Ok(roots)
}

/// The name that the certificate must be for.
pub(super) fn server_name(host: &str, tls: &OriginTls) -> Result<ServerName<'static>, String> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name} is no name that a certificate could be for"))
}
