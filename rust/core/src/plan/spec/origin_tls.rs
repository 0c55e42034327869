//! The terms of TLS with an origin, beside its verification.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{certificate as pair, reader::Fields, spelling::listed};
use crate::{
    outcome::Word,
    plan::{Certificate, TlsVersion},
};

/// The certificate that the edge shows.
pub(super) fn certificate(fields: &mut Fields<'_>) -> Option<Certificate> {
    let (path, problems) = (fields.at("tls_certificate"), fields.problems);
    let value = fields.some("tls_certificate")?;
    let certificate = pair::certificate(value, path.clone(), problems)?;
    if certificate.ocsp.is_some() {
        let why = "has no effect: an origin is sent no response of OCSP";
        problems.add(format!("{path}.ocsp"), None, why);
    }
    Some(certificate)
}

/// The versions of TLS that an origin is offered; `None`: nothing is said of them.
pub(super) fn versions(fields: &mut Fields<'_>) -> Option<Vec<TlsVersion>> {
    fields
        .raw("tls_versions")
        .filter(|value| !value.is_null())?;
    let mut found = Vec::new();
    for (path, text) in fields.texts("tls_versions") {
        let version = TlsVersion::ALL
            .into_iter()
            .find(|known| known.as_str() == text);
        let why = match version {
            Some(version) if !found.contains(&version) => {
                found.push(version);
                continue;
            }
            Some(_) => "is named twice".to_owned(),
            None => format!("must be one of {}", listed(TlsVersion::WORDS)),
        };
        fields.problems.add(path, Some(format!("{text:?}")), why);
    }
    if found.is_empty()
        && !fields
            .problems
            .at(&format!("{}[0]", fields.at("tls_versions")))
    {
        let why = format!("must have at least one of {}", listed(TlsVersion::WORDS));
        fields.problems.add(fields.at("tls_versions"), None, why);
    }
    Some(found)
}

/// The public keys of which an origin's certificate has one, as curl writes them; `None`: nothing is said of them.
pub(super) fn pins(fields: &mut Fields<'_>) -> Option<Vec<[u8; 32]>> {
    /// More than one are for a change of keys.
    const MOST: usize = 16;
    fields.raw("tls_pins").filter(|value| !value.is_null())?;
    let mut found = Vec::new();
    for (path, text) in fields.texts("tls_pins") {
        let pin = text
            .strip_prefix("sha256//")
            .and_then(|text| STANDARD.decode(text).ok());
        match pin.and_then(|pin| <[u8; 32]>::try_from(pin).ok()) {
            Some(pin) => found.push(pin),
            None => fields.problems.add(
                path,
                Some(format!("{text:?}")),
                "must be sha256// and the SHA-256 of the public key in Base64, as curl --pinnedpubkey has it",
            ),
        }
    }
    if found.len() > MOST {
        let why = format!("must have at most {MOST} public keys");
        fields
            .problems
            .add(fields.at("tls_pins"), Some(found.len().to_string()), why);
    }
    Some(found)
}
