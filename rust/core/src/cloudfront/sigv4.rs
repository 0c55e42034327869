//! AWS Signature Version 4, the verifying side: canonical request, string to sign, a chain of HMACs.

use aws_lc_rs::{constant_time, digest, hmac};
use http::Method;

use super::time;
use crate::http::{Fields, percent, uri};

/// Seconds by which the two clocks may differ.
pub const MOST_SKEW: u64 = 15 * 60;
const SERVICE: &str = "cloudfront";

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no `Authorization`.
    #[error("the request is not signed: Authorization: AWS4-HMAC-SHA256 … is missing")]
    Missing,
    /// The scheme is another, or the credential, the signed names or the signature are missing.
    #[error("the Authorization field is not one of Signature Version 4")]
    Malformed,
    /// A request whose host or date is not signed could be sent again, elsewhere or later.
    #[error("the signature must cover Host and X-Amz-Date")]
    Uncovered,
    /// The credential's service is not `cloudfront`, or its day is not that of `X-Amz-Date`.
    #[error("the signature is for another service or day")]
    Scope,
    /// More than [`MOST_SKEW`] before or after now.
    #[error("X-Amz-Date is missing or more than 15 minutes away from the edge's clock")]
    Skew,
    /// `X-Amz-Content-Sha256` is not the hash of the body.
    #[error("the body is not the one that was signed")]
    Body,
    /// One error for both, so that nobody learns which access keys exist.
    #[error("the access key is unknown, or the signature does not match")]
    Mismatch,
}

/// The parts of a request that a signature covers.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// In the first line of the canonical request.
    pub method: &'a Method,
    /// As sent.
    pub path: &'a str,
    /// Without the `?`, as sent.
    pub query: &'a str,
    /// All fields; the signature names those that it covers.
    pub headers: &'a Fields,
    /// Whole.
    pub body: &'a [u8],
}

struct SignedAuthorization<'a> {
    key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    signed: &'a str,
    signature: &'a str,
}

fn authorization(headers: &Fields) -> Result<SignedAuthorization<'_>, SignatureError> {
    let value = headers
        .get(crate::http::header::AUTHORIZATION)
        .ok_or(SignatureError::Missing)?;
    let value = value.to_str().map_err(|_| SignatureError::Malformed)?;
    let parameters = value
        .strip_prefix("AWS4-HMAC-SHA256")
        .ok_or(SignatureError::Malformed)?;
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for parameter in parameters.split(',') {
        match parameter.trim().split_once('=') {
            Some(("Credential", value)) => credential = Some(value),
            Some(("SignedHeaders", value)) => signed = Some(value),
            Some(("Signature", value)) => signature = Some(value),
            _ => return Err(SignatureError::Malformed),
        }
    }
    let mut parts = credential.ok_or(SignatureError::Malformed)?.rsplitn(5, '/');
    let mut next = || parts.next().ok_or(SignatureError::Malformed);
    let (end, service, region, day, key) = (next()?, next()?, next()?, next()?, next()?);
    if end != "aws4_request" {
        return Err(SignatureError::Malformed);
    }
    Ok(SignedAuthorization {
        key,
        day,
        region,
        service,
        signed: signed.ok_or(SignatureError::Malformed)?,
        signature: signature.ok_or(SignatureError::Malformed)?,
    })
}

/// Checks that the request carries a signature at all, valid or not: no form of a web page can add one.
pub fn is_signed(headers: &Fields) -> Result<(), SignatureError> {
    authorization(headers).map(|_| ())
}

/// Verifies a signature. `secret_of` gives the secret of an access key.
pub fn verify<'k>(
    request: &Signed<'_>,
    secret_of: impl FnOnce(&str) -> Option<&'k str>,
    now: u64,
) -> Result<(), SignatureError> {
    let given = authorization(request.headers)?;
    let text = |name: &str| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let date = text("x-amz-date").unwrap_or_default();
    let sent = time::basic(date).ok_or(SignatureError::Skew)?;
    if sent.abs_diff(now) > MOST_SKEW {
        return Err(SignatureError::Skew);
    }
    if !date.starts_with(given.day) || given.day.len() != 8 || given.service != SERVICE {
        return Err(SignatureError::Scope);
    }
    let covers = |name: &str| given.signed.split(';').any(|signed| signed == name);
    if !covers("host") || !covers("x-amz-date") {
        return Err(SignatureError::Uncovered);
    }
    let body = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    if text("x-amz-content-sha256").is_some_and(|claimed| claimed != body) {
        return Err(SignatureError::Body);
    }
    let canonical = canonical_request(request, given.signed, &body);
    let scope = format!("{}/{}/{SERVICE}/aws4_request", given.day, given.region);
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let secret = secret_of(given.key);
    // An unknown key takes the same time as a known one.
    let key = format!("AWS4{}", secret.unwrap_or_default());
    let mut chained = mac(key.as_bytes(), given.day.as_bytes());
    for part in [given.region, SERVICE, "aws4_request", &to_sign] {
        chained = mac(chained.as_ref(), part.as_bytes());
    }
    let right = hex(chained.as_ref());
    let same = constant_time::verify_slices_are_equal(right.as_bytes(), given.signature.as_bytes())
        .is_ok();
    if same && secret.is_some() {
        Ok(())
    } else {
        Err(SignatureError::Mismatch)
    }
}

fn mac(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

fn canonical_request(request: &Signed<'_>, signed: &str, body: &str) -> String {
    let mut pairs: Vec<(String, String)> = uri::query_pairs(request.query)
        .map(|(name, value)| {
            let plain = |text: &str| encoded(&uri::decode(&text.replace('+', "%2B")), false);
            (plain(name), plain(value))
        })
        .collect();
    pairs.sort();
    let query: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut headers = String::new();
    for name in signed.split(';') {
        let values: Vec<String> = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    format!(
        "{}\n{}\n{}\n{headers}\n{signed}\n{body}",
        request.method,
        encoded(request.path, true),
        query.join("&"),
    )
}

fn encoded(text: &str, path: bool) -> String {
    percent::encoded(text.as_bytes(), |byte| {
        percent::is_unreserved(byte) || (path && byte == b'/')
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
