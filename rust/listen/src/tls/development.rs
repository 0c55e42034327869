//! Certificates for development: an authority on the developer's machine, and what it issues for local names.
//!
//! Nothing here writes a file or a trust store.

use std::time::Duration;

use ::aws_lc_rs::digest::{SHA256, digest};
use edgerouter_core::tls::hexadecimal;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A new authority, valid from `now` (Unix seconds) for some days.
pub fn authority(now: u64, days: u32) -> Result<PemPair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = named(&key);
    valid(&mut params, now, days);
    Ok(PemPair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// A certificate for host names and addresses, issued by the authority with this key.
pub fn issue(
    authority_key: &str,
    names: Vec<String>,
    now: u64,
    days: u32,
) -> Result<PemPair, rcgen::Error> {
    let authority_key = KeyPair::from_pem(authority_key)?;
    let issuer = Issuer::new(named(&authority_key), authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, days);
    Ok(PemPair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

/// The authority with a key. Its name follows from the key, so that two of them are told apart in a trust store.
fn named(key: &KeyPair) -> CertificateParams {
    let digest = hexadecimal(digest(&SHA256, key.public_key_raw()).as_ref());
    let short = digest.get(..8).unwrap_or_default();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("edgerouter development CA {short}"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From a day before `now`, as clocks differ.
fn valid(params: &mut CertificateParams, now: u64, days: u32) {
    const DAY: u64 = 86_400;
    let epoch = date_time_ymd(1970, 1, 1);
    // Up to the year 5000: times beyond the year 9999 have no form.
    let at = |seconds: u64| epoch + Duration::from_secs(seconds.min(95_617_584_000));
    params.not_before = at(now.saturating_sub(DAY));
    params.not_after = at(now.saturating_add(u64::from(days) * DAY));
}
