//! The parts of a signature in a query or in cookies.

use super::SignatureRefusal;
use crate::http::{Fields, cookie};

/// Parameters of a query that belong to a signature. They reach neither the key of the cache nor an origin.
pub const PARAMETERS: [&str; 5] = [
    "Policy",
    "Expires",
    "Signature",
    "Key-Pair-Id",
    "Hash-Algorithm",
];

/// Cookies that belong to a signature, in the same order.
pub const COOKIES: [&str; 5] = [
    "CloudFront-Policy",
    "CloudFront-Expires",
    "CloudFront-Signature",
    "CloudFront-Key-Pair-Id",
    "CloudFront-Hash-Algorithm",
];

/// The policy of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The canned one, with its time in decimal digits.
    Expires(&'a str),
    /// A custom one, encoded.
    Policy(&'a str),
}

/// The parts of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameters<'a> {
    pub said: Said<'a>,
    pub signature: &'a str,
    pub key: &'a str,
    pub hash: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// The parameters in the query if it has any of a signature, otherwise those in the cookies.
    pub(super) fn of(
        query: Option<&'a str>,
        headers: &'a Fields,
    ) -> Result<Self, SignatureRefusal> {
        let query = query.unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = Found::among(
            pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            &PARAMETERS,
        );
        // An application's own `Policy` or `Expires` does not keep the cookies from being read.
        if found.is_signed() {
            return found.parameters();
        }
        let found = Found::among(cookie::pairs(headers), &COOKIES);
        if found.is_signed() {
            return found.parameters();
        }
        Err(SignatureRefusal::Missing)
    }
}

/// Values by their position among the names; `Err`: one occurs twice, or is not text.
struct Found<'a>([Result<Option<&'a str>, ()>; 5]);

impl<'a> Found<'a> {
    fn among(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>, names: &[&str; 5]) -> Self {
        let mut found = [Ok(None); 5];
        for (name, value) in pairs {
            for (known, slot) in names.iter().zip(&mut found) {
                if known.as_bytes() == name {
                    *slot = match (*slot, std::str::from_utf8(value)) {
                        (Ok(None), Ok(value)) => Ok(Some(value)),
                        _ => Err(()),
                    };
                }
            }
        }
        Self(found)
    }

    fn is_signed(&self) -> bool {
        let [_, _, signature, key, _] = &self.0;
        *signature != Ok(None) || *key != Ok(None)
    }

    fn parameters(self) -> Result<Parameters<'a>, SignatureRefusal> {
        let malformed = SignatureRefusal::Malformed;
        let [policy, expires, signature, key, hash] = self.0;
        let (Ok(policy), Ok(expires)) = (policy, expires) else {
            return Err(malformed);
        };
        let said = match (policy, expires) {
            (Some(policy), None) => Said::Policy(policy),
            // One spelling for each time.
            (None, Some(digits))
                if (1..=15).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
                    && !digits.starts_with('0') =>
            {
                Said::Expires(digits)
            }
            _ => return Err(malformed),
        };
        match (signature, key, hash) {
            (Ok(Some(signature)), Ok(Some(key)), Ok(hash)) => Ok(Parameters {
                said,
                signature,
                key,
                hash,
            }),
            _ => Err(malformed),
        }
    }
}

/// A query without the parameters of a signature; `None` if nothing is left.
pub fn without_parameters(query: &str) -> Option<String> {
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !PARAMETERS.contains(&name)
    });
    let mut rest = String::with_capacity(query.len());
    for (at, pair) in kept.enumerate() {
        if at > 0 {
            rest.push('&');
        }
        rest.push_str(pair);
    }
    (!rest.is_empty()).then_some(rest)
}
