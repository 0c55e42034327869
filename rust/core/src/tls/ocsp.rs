//! The response of OCSP that a server staples (RFC 6960 §4.2.1): if it is about its certificate, and until when.

use super::{
    certificate::{certificate_facts, hexadecimal, time},
    der::{Der, INTEGER, OCTET_STRING, SEQUENCE},
};

/// Why a response is not stapled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OcspFault {
    /// Other bytes, or an error of the responder.
    #[error(
        "is no successful response of OCSP in DER; fetch it again, as with openssl ocsp -respout"
    )]
    NoResponse,
    /// It has no answer for this serial number.
    #[error("is about another certificate; fetch the response for the first one of the chain")]
    OtherCertificate,
    /// Clients refuse the certificate.
    #[error("has the status revoked for this certificate; get a new certificate")]
    Revoked,
    /// Clients refuse the response.
    #[error(
        "has the status unknown for this certificate; fetch it from the responder that the certificate names"
    )]
    Unknown,
}

/// The Unix second from which a response for a certificate, both in DER, is out of date; `None` if it never is.
pub fn ocsp_end(response: &[u8], certificate: &[u8]) -> Result<Option<i64>, OcspFault> {
    let mut answers = answers(response).ok_or(OcspFault::NoResponse)?;
    let facts = certificate_facts(certificate).ok_or(OcspFault::OtherCertificate)?;
    while let Some(answer) = answers.next_of(SEQUENCE) {
        let mut fields = answer.inside();
        let Some(id) = fields.next_of(SEQUENCE) else {
            return Err(OcspFault::NoResponse);
        };
        if serial(id.inside()).is_none_or(|serial| serial != facts.serial) {
            continue;
        }
        match fields.next().map(|status| status.tag) {
            Some(0x80) => {}
            Some(0xa1) => return Err(OcspFault::Revoked),
            Some(0x82) => return Err(OcspFault::Unknown),
            _ => return Err(OcspFault::NoResponse),
        }
        let this_update = fields.next().and_then(time);
        this_update.ok_or(OcspFault::NoResponse)?;
        let Some(next_update) = fields.next_of(0xa0) else {
            return Ok(None);
        };
        let end = next_update.inside().next().and_then(time);
        return end.map(Some).ok_or(OcspFault::NoResponse);
    }
    Err(OcspFault::OtherCertificate)
}

/// The answers about single certificates in a response that is no error.
fn answers(response: &[u8]) -> Option<Der<'_>> {
    const ENUMERATED: u8 = 0x0a;
    let mut outside = Der(response);
    let mut fields = outside.next_of(SEQUENCE)?.inside();
    let status = fields.next_of(ENUMERATED)?;
    if status.content != [0] || outside.next().is_some() {
        return None;
    }
    let mut bytes = fields.next_of(0xa0)?.inside().next_of(SEQUENCE)?.inside();
    let _kind = bytes.next()?;
    let basic = bytes.next_of(OCTET_STRING)?.inside().next_of(SEQUENCE)?;
    let mut data = basic.inside().next_of(SEQUENCE)?.inside();
    // The version.
    data.next_of(0xa0);
    let _responder = data.next()?;
    let _produced_at = data.next()?;
    Some(data.next_of(SEQUENCE)?.inside())
}

/// The serial number in the identifier of a certificate.
fn serial(mut id: Der<'_>) -> Option<String> {
    let _algorithm = id.next()?;
    let _issuer = (id.next()?, id.next()?);
    Some(hexadecimal(id.next_of(INTEGER)?.content))
}
