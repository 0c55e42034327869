//! Signed URLs and cookies, in CloudFront's form: a policy, a signature, and the name of the key.
//!
//! `parameters` finds them in a request, `keys` verifies, `policy` reads what is signed. A *canned* policy is written
//! from the URL and a time; a *custom* one comes with the request and may name a pattern, a network and two times. The
//! signature is verified before anything in a policy is read. Data flows from the request to a [`SignatureRefusal`], or
//! to nothing.

mod keys;
mod parameters;
mod policy;

use std::net::IpAddr;

use bytes::Bytes;

pub use keys::UrlKey;
pub use parameters::{COOKIES, PARAMETERS, without_parameters};

use self::{
    keys::Hash,
    parameters::{Parameters, Said},
    policy::Statement,
};
use crate::{
    http::{Fields, readings::Readings},
    outcome::words,
};

/// Longest policy; `docs/limits.md` names it.
pub const MOST_POLICY: usize = 4 << 10;
/// Longest signature: that of an RSA key of 8,192 bits.
const MOST_SIGNATURE: usize = 1 << 10;
/// The most keys of a route; `docs/limits.md` names it.
pub const MOST_KEYS: usize = 100;

words! {
    /// Why a request's signature does not open the URL.
    pub enum SignatureRefusal {
        /// Neither the URL nor a cookie has one.
        Missing = "missing",
        /// A part is missing, occurs twice, or is not in its form.
        Malformed = "malformed",
        /// The route has no key of that name.
        UnknownKey = "unknown-key",
        /// The signature is not that of the key.
        Mismatch = "mismatch",
        /// The policy is signed and cannot be enforced.
        BadPolicy = "bad-policy",
        /// The policy is for other URLs.
        OtherUrl = "other-url",
        /// The policy is for other addresses.
        OtherAddress = "other-address",
        /// The policy's time has not come.
        NotYetValid = "not-yet-valid",
        /// The policy's time is over.
        Expired = "expired",
    }
}

impl SignatureRefusal {
    /// For the client: one text for all that a signature would have to be known for.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "The URL must be signed.",
            Self::Malformed => "The signature of the URL is malformed.",
            Self::Expired => "The signature of the URL has expired.",
            _ => "The signature does not open this URL.",
        }
    }
}

/// A request as a signature covers it.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// `https://host` and the port that is not the scheme's own.
    pub origin: &'a str,
    /// Normalised.
    pub path: &'a str,
    /// As the client sent it, if it has other escapes than `path` and nothing else that differs.
    pub sent_path: Option<&'a str>,
    /// With the parameters of the signature.
    pub query: Option<&'a str>,
    /// For its cookies.
    pub headers: &'a Fields,
    /// Of the client.
    pub address: IpAddr,
    /// Unix seconds.
    pub now: u64,
}

/// Keys whose signatures open the URLs of a route.
#[derive(Debug)]
pub struct SignedPolicy {
    /// By their names, each once.
    pub keys: Box<[(Box<str>, UrlKey)]>,
    /// Signatures over SHA-1 count, which is CloudFront's default.
    pub sha1: bool,
}

impl SignedPolicy {
    /// The decision about a request.
    pub fn judge(&self, request: SignedRequest<'_>) -> Result<(), SignatureRefusal> {
        let parameters = Parameters::of(request.query, request.headers)?;
        let hash = match parameters.hash {
            None | Some("SHA1") => Hash::Sha1,
            Some("SHA256") => Hash::Sha256,
            Some(_) => return Err(SignatureRefusal::Malformed),
        };
        let named = |(name, _): &&(Box<str>, UrlKey)| **name == *parameters.key;
        let (_, key) = self
            .keys
            .iter()
            .find(named)
            .ok_or(SignatureRefusal::UnknownKey)?;
        if hash == Hash::Sha1 && !self.sha1 && !key.is_secret() {
            return Err(SignatureRefusal::Malformed);
        }
        let signature = decoded(parameters.signature, MOST_SIGNATURE)?;
        match parameters.said {
            Said::Expires(digits) => {
                let verifies = |url: UrlText| {
                    let text = url.canned(digits);
                    text.is_some_and(|text| key.verifies(hash, text.as_bytes(), &signature))
                };
                // CloudFront takes the bytes of the request. They name the resource that the normal form names.
                let sent = request.sent_path;
                let sent_verifies = || sent.is_some_and(|path| verifies(request.url(path)));
                if !verifies(request.url(request.path)) && !sent_verifies() {
                    return Err(SignatureRefusal::Mismatch);
                }
                let expires: u64 = digits.parse().map_err(|_| SignatureRefusal::Malformed)?;
                if request.now >= expires {
                    return Err(SignatureRefusal::Expired);
                }
                Ok(())
            }
            Said::Policy(encoded) => {
                let text = decoded(encoded, MOST_POLICY)?;
                if !key.verifies(hash, &text, &signature) {
                    return Err(SignatureRefusal::Mismatch);
                }
                let statement = Statement::read(&text).ok_or(SignatureRefusal::BadPolicy)?;
                statement.judge(&request.url(request.path).0, request.address, request.now)?;
                // A server that finds dot segments behind escapes serves another URL, which has to be open, too. Only
                // the pattern of all URLs matches the empty text.
                let readings = Readings::of(request.path);
                let mut others = readings.others().filter(|reading| reading.resolved);
                let opens = |path: &str| statement.opens(&request.url(path).0);
                if !others.all(|reading| opens(&reading.path))
                    || readings.is_cut_off() && !statement.opens("")
                {
                    return Err(SignatureRefusal::OtherUrl);
                }
                Ok(())
            }
        }
    }
}

/// A URL without the parameters of its signature.
struct UrlText(String);

impl SignedRequest<'_> {
    fn url(&self, path: &str) -> UrlText {
        let mut text = String::with_capacity(self.origin.len() + path.len() + 64);
        text.push_str(self.origin);
        text.push_str(path);
        if let Some(rest) = self.query.and_then(without_parameters) {
            text.push('?');
            text.push_str(&rest);
        }
        UrlText(text)
    }
}

impl UrlText {
    /// The policy that `Expires` stands for. `None`: the URL would end the text that it stands in.
    fn canned(&self, expires: &str) -> Option<String> {
        if self.0.contains(['"', '\\']) {
            return None;
        }
        Some(format!(
            "{{\"Statement\":[{{\"Resource\":\"{}\",\"Condition\":{{\"DateLessThan\":{{\"AWS:EpochTime\":{expires}}}}}}}]}}",
            self.0
        ))
    }
}

/// Reads base64 in the alphabet that needs no escapes in a query: `-` for `+`, `~` for `/`, `_` for `=`.
fn decoded(text: &str, most: usize) -> Result<Bytes, SignatureRefusal> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    if text.len() > most.div_ceil(3) * 4 {
        return Err(SignatureRefusal::Malformed);
    }
    let standard: Vec<u8> = text
        .bytes()
        .map(|byte| match byte {
            b'-' => b'+',
            b'~' => b'/',
            b'_' => b'=',
            // Not of this alphabet, so that a signature has one spelling.
            b'+' | b'/' | b'=' => b' ',
            other => other,
        })
        .collect();
    match STANDARD.decode(standard) {
        Ok(bytes) if bytes.len() <= most => Ok(bytes.into()),
        _ => Err(SignatureRefusal::Malformed),
    }
}

#[cfg(test)]
mod tests;
