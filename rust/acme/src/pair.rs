//! A certificate with its key, as it is stored and as handshakes use it.

use std::sync::Arc;

use edgerouter_core::acme::{CertificateFault, judge};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// A certificate that handshakes can use.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certified: Arc<CertifiedKey>,
    /// Unix seconds from which, and until which, it is valid.
    pub(crate) valid: (i64, i64),
    /// The directory of its issuer, if the text names it.
    pub(crate) issuer: Option<Box<str>>,
}

/// The start of the line that names the issuer, before the first block: readers of PEM skip it (RFC 7468 §2).
const ISSUER: &str = "issuer: ";

/// The text of a certificate as it is stored.
pub(crate) fn text(issuer: &str, key: &str, chain: &str) -> String {
    format!("{ISSUER}{issuer}\n{key}{chain}")
}

fn issuer_of(pem: &[u8]) -> Option<Box<str>> {
    let first = pem.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(first).ok()?.strip_prefix(ISSUER)?;
    Some(line.trim().into())
}

/// The reason why a stored or issued certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairFault {
    #[error("there is no certificate in PEM")]
    NoCertificate,
    #[error("there is no private key in PEM")]
    NoKey,
    #[error("the key does not belong to the certificate")]
    OtherKey,
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
}

/// Reads a key and its chain from one text. `now` is given for a certificate that is new: it must not have expired.
pub(crate) fn read(pem: &[u8], name: &str, now: Option<i64>) -> Result<Pair, PairFault> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| PairFault::NoCertificate)?;
    let first = chain.first().ok_or(PairFault::NoCertificate)?;
    let valid = judge(first, name, now)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| PairFault::NoKey)?;
    let provider = aws_lc_rs::default_provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| PairFault::NoKey)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| PairFault::OtherKey)?;
    Ok(Pair {
        certified: Arc::new(certified),
        valid,
        issuer: issuer_of(pem),
    })
}
