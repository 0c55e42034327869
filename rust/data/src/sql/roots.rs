//! The authorities whose certificates a database server may have.

use std::{path::Path, sync::Arc};

use ::aws_lc_rs::digest::{Context, SHA256};
use edgerouter_core::plan::{
    binding::{Binding, DataAddress},
    database_server::ServerTls,
};
use edgerouter_telemetry::regular;
use rustls_native_certs::load_native_certs;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Bytes of the largest file of certificates. That of a system has about 200 KiB.
const MOST_BYTES: u64 = 4 << 20;

/// Reads the file that an address names. `Err`: why a server could not be verified by it.
pub(crate) fn check(address: &DataAddress) -> Result<(), String> {
    match tls(address) {
        Some(ServerTls::Verified(Some(file))) => store(certificates(Some(file))?).map(drop),
        _ => Ok(()),
    }
}

fn tls(address: &DataAddress) -> Option<&ServerTls> {
    match address {
        DataAddress::Server(server) => Some(&server.tls),
        DataAddress::LibSql(server) => Some(&server.tls),
        _ => None,
    }
}

/// A digest of the certificates by which the servers of a binding are verified: a reload compares it, as files are
/// replaced. `None`: there are none, or they cannot be read.
pub(crate) fn digest(binding: &Binding) -> Option<[u8; 32]> {
    let replicas = binding.replicas.iter().map(|replica| &replica.tls);
    let mut all = Context::new(&SHA256);
    let mut is_verified = false;
    for tls in tls(&binding.address).into_iter().chain(replicas) {
        if let ServerTls::Verified(file) = tls {
            is_verified = true;
            for certificate in certificates(file.as_deref()).ok()? {
                all.update(&certificate);
            }
        }
    }
    is_verified
        .then(|| all.finish())
        .and_then(|digest| digest.as_ref().try_into().ok())
}

/// The certificates of a file, or of the system. Read at the start, so that a file that is none is noticed then.
pub(crate) fn certificates(file: Option<&str>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else {
        let found = load_native_certs().certs;
        if found.is_empty() {
            return Err(
                "there are no certificates to verify the server with; install the system's, or name a file by sslrootcert"
                    .to_owned(),
            );
        }
        return Ok(found);
    };
    let bad = |why: &dyn std::fmt::Display| format!("sslrootcert {file}: {why}");
    let text = regular::read(Path::new(file), MOST_BYTES).map_err(|error| bad(&error))?;
    // The error has its words as lists of bytes.
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            bad(&"holds a certificate in PEM that is damaged or cut off; write it anew")
        })?;
    if found.is_empty() {
        return Err(bad(&"holds no certificate in PEM"));
    }
    Ok(found)
}

/// A client that verifies a server by the certificates of a file, or of the system.
pub(crate) fn client(file: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let roots = store(certificates(file)?)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let made = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(
        made.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// The same as a store. Systems have certificates that this library does not accept; they verify nothing.
pub(crate) fn store(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("no certificate of sslrootcert can be used".to_owned());
    }
    Ok(roots)
}

/// The certificates that can be used as roots.
pub(super) fn usable(certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let is_usable = |it: &CertificateDer<'static>| RootCertStore::empty().add(it.clone()).is_ok();
    certificates.into_iter().filter(is_usable).collect()
}
