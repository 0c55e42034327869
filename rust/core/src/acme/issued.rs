//! Certificates as an issuer sends them, or a folder holds them: not used before they are what was ordered.

use crate::tls::{NameTable, certificate_facts};

/// The reason why a certificate is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It is for other names.
    #[error("the certificate is not for {0}")]
    OtherName(String),
    /// Its validity is over.
    #[error("the certificate has expired")]
    Expired,
}

/// The validity of a certificate in DER, if it is for a name and has not expired at `now`; `None` for one that was good
/// once, and is better than none. One that is valid from later on is accepted: the issuer's clock may be ahead.
pub fn judge(der: &[u8], name: &str, now: Option<i64>) -> Result<(i64, i64), CertificateFault> {
    let facts = certificate_facts(der).ok_or(CertificateFault::Unreadable)?;
    let mut names = NameTable::default();
    for known in &facts.names {
        if let Some(known) = known.strip_prefix("DNS:") {
            names.entry(known, || ());
        }
    }
    if names.find(name).is_none() {
        return Err(CertificateFault::OtherName(name.to_owned()));
    }
    if now.is_some_and(|now| facts.valid.1 <= now) {
        return Err(CertificateFault::Expired);
    }
    Ok(facts.valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_certificate() {
        for der in [&b""[..], b"\x30\x00", b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(
                judge(der, "a.example", None),
                Err(CertificateFault::Unreadable)
            );
        }
    }
}
