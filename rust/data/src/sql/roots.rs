//! The authorities whose certificates a database server may have.

use std::{path::Path, sync::Arc};

use edgerouter_core::plan::{binding::DataAddress, database_server::ServerTls};
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
    let tls = match address {
        DataAddress::Server(server) => &server.tls,
        DataAddress::LibSql(server) => &server.tls,
        _ => return Ok(()),
    };
    match tls {
        ServerTls::Verified(Some(file)) => store(certificates(Some(file))?).map(drop),
        _ => Ok(()),
    }
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
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(&error))?;
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
