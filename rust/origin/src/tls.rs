//! TLS to origins (RFC 8446, RFC 9110 §4.3.4): the system's roots, or the origin's own.

use std::{cell::RefCell, sync::Arc};

use edgerouter_core::plan::OriginTls;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Configurations made so far: they hold the session tickets, so one a server is kept.
#[derive(Debug, Default)]
pub(super) struct Configs {
    made: RefCell<Vec<(bool, Option<Arc<str>>, Arc<ClientConfig>)>>,
}

impl Configs {
    pub(super) fn of(&self, tls: &OriginTls) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.made.borrow_mut();
        if let Some((.., config)) = made
            .iter()
            .find(|(verify, ca, _)| *verify == tls.verify && *ca == tls.ca_pem)
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make(tls)?);
        made.push((tls.verify, tls.ca_pem.clone(), Arc::clone(&config)));
        Ok(config)
    }
}

fn make(tls: &OriginTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = if tls.verify {
        builder
            .with_root_certificates(roots(tls)?)
            .with_no_client_auth()
    } else {
        tracing::warn!("the certificate of an origin is not verified (tls_verify is off)");
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(tls: &OriginTls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate
                    .map_err(|error| format!("tls_ca is no PEM certificate: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("tls_ca holds a bad certificate: {error}"))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(
            "there are no root certificates to verify with; install the system's, or give tls_ca"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// The name that the certificate must be for.
pub(super) fn server_name(host: &str, tls: &OriginTls) -> Result<ServerName<'static>, String> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name} is no name that a certificate could be for"))
}

/// Accepts any certificate; for `tls_verify=False` only.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
