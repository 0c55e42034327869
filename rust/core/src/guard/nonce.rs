//! Nonces of Content-Security-Policy (CSP 3 §2.3.1): a placeholder in the pages of a site, and a nonce of the same
//! length in its place, another one in each response.
//!
//! Pages are stored with the placeholder. It is a secret of the site and its edge: somebody who knew it and could put a
//! script into a page would have the edge make the script valid.

use http::HeaderValue;

use crate::{
    http::{FieldName, Fields, KnownSet, coding, etag, header, media_type},
    secret::Secret,
};

/// The place of the nonce in a policy.
pub const PLACE: &str = "'nonce-{nonce}'";

/// Lengths of a placeholder: 24 characters of a nonce are 144 random bits, and CSP demands 128.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// The placeholder for nonces in the pages of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoncePlaceholder(Secret);

impl NoncePlaceholder {
    /// `None` if the secret is none.
    pub fn new(secret: Secret) -> Option<Self> {
        let text = secret.as_bytes();
        let fits = LENGTHS.contains(&text.len())
            && text
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        fits.then_some(Self(secret))
    }

    /// The text in pages.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// A nonce of the placeholder's length. `random`: unpredictable numbers.
    pub fn nonce(&self, mut random: impl FnMut() -> u128) -> Box<str> {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (mut bits, mut left) = (0, 0);
        let length = self.as_bytes().len();
        let digits = (0..length).map(|_| {
            if left == 0 {
                (bits, left) = (random(), 21);
            }
            let digit = DIGITS.get((bits & 63) as usize).copied().unwrap_or(b'A');
            (bits, left) = (bits >> 6, left - 1);
            char::from(digit)
        });
        digits.collect()
    }
}

/// The nonce of one response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PageNonce {
    /// The content has none.
    #[default]
    Absent,
    /// It is in the content.
    Fresh(Box<str>),
    /// A 304: the client uses the page that it has, with the nonce and the policy that came with it.
    Kept,
}

/// A policy with places for the nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoncedPolicy {
    /// Its field.
    pub name: FieldName,
    text: Box<str>,
    without: HeaderValue,
}

impl NoncedPolicy {
    /// `None` for a text without a place, or of more than one line.
    pub fn new(name: FieldName, text: &str) -> Option<Self> {
        let without: Vec<&str> = text.split(PLACE).map(str::trim_end).collect();
        if without.len() < 2 {
            return None;
        }
        Some(Self {
            name,
            text: text.into(),
            without: HeaderValue::from_str(&without.concat()).ok()?,
        })
    }

    /// As it is declared, with its places.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The policy for a response; `None`: it is not sent.
    pub fn value(&self, nonce: &PageNonce) -> Option<HeaderValue> {
        match nonce {
            PageNonce::Absent => Some(self.without.clone()),
            PageNonce::Fresh(nonce) => {
                let source = format!("'nonce-{nonce}'");
                HeaderValue::from_str(&self.text.replace(PLACE, &source)).ok()
            }
            PageNonce::Kept => None,
        }
    }
}

/// Why the placeholder is not looked for in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoNonce {
    /// It is no page.
    NoPage,
    /// Its content is coded, although the edge requested it as it is.
    Coded,
}

/// Fields that name the bytes of one response: another one has other bytes.
const OF_THE_BYTES: KnownSet = KnownSet::of(&[
    header::ACCEPT_RANGES,
    header::DIGEST,
    header::CONTENT_DIGEST,
    header::REPR_DIGEST,
    header::CONTENT_MD5,
]);

/// Fits the head of a page to content with a nonce: its length stays, its tag becomes weak.
pub fn apply(headers: &mut Fields) -> Result<(), NoNonce> {
    let kind = headers.get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| media_type::is_page(kind.as_bytes())) {
        return Err(NoNonce::NoPage);
    }
    if coding::is_coded(headers) {
        return Err(NoNonce::Coded);
    }
    headers.remove_all(OF_THE_BYTES);
    etag::weaken(headers);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACEHOLDER: &str = "Qm9yZWQtb2YtcGxhY2Vob2xkZXJz";

    fn placeholder(text: &str) -> Option<NoncePlaceholder> {
        NoncePlaceholder::new(Secret(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_placeholder_is_as_hard_to_guess_as_a_nonce() {
        for (text, fits) in [
            (PLACEHOLDER, true),
            (&"a".repeat(24), true),
            (&"a".repeat(64), true),
            (&"a".repeat(23), false),
            (&"a".repeat(65), false),
            ("Qm9yZWQtb2YtcGxhY2Vob2xk\"xx", false),
            ("Qm9yZWQtb2YtcGxhY2Vob2xk xx", false),
            ("", false),
        ] {
            assert_eq!(placeholder(text).is_some(), fits, "{text}");
        }
    }

    #[test]
    fn a_nonce_has_the_length_of_the_placeholder_and_uses_each_number_once() {
        for length in [24, 42, 43, 64] {
            let mut numbers = 0;
            let made = placeholder(&"a".repeat(length)).unwrap().nonce(|| {
                numbers += 1;
                u128::MAX / numbers
            });
            assert_eq!(
                (made.len(), numbers as usize),
                (length, length.div_ceil(21))
            );
            assert!(
                made.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
        }
    }

    #[test]
    fn a_policy_has_the_nonce_of_its_response_or_none() {
        let name = || FieldName::from(header::CONTENT_SECURITY_POLICY);
        let policy = NoncedPolicy::new(
            name(),
            "script-src 'self' 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src *",
        )
        .unwrap();
        let value = |nonce| {
            policy
                .value(&nonce)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        for (nonce, want) in [
            (
                PageNonce::Fresh("abc".into()),
                Some("script-src 'self' 'nonce-abc'; style-src 'nonce-abc'; img-src *"),
            ),
            (
                PageNonce::Absent,
                Some("script-src 'self'; style-src; img-src *"),
            ),
            (PageNonce::Kept, None),
        ] {
            assert_eq!(value(nonce.clone()).as_deref(), want, "{nonce:?}");
        }
        assert!(NoncedPolicy::new(name(), "script-src 'self'").is_none());
    }
}
