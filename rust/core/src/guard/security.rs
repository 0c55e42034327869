//! Fields with which a site restricts browsers: HSTS, Content-Security-Policy and their like.
//!
//! They are set in phase 15, on every response of a route and on the edge's own, and are never stored.

use http::HeaderValue;

use super::nonce::{self, NoncePlaceholder, NoncedPolicy, PageNonce};
use crate::http::{FieldName, Fields, header};

/// Fields for every response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityFields {
    /// Names and values.
    pub fields: Vec<(FieldName, HeaderValue)>,
    /// `Strict-Transport-Security`, which may be sent over https only (RFC 6797 §7.2).
    pub hsts: Option<HeaderValue>,
    /// Policies with a nonce, which depend on the response.
    pub nonced: Vec<NoncedPolicy>,
    /// The text in pages for which the nonce is put; present if a policy has one.
    pub placeholder: Option<NoncePlaceholder>,
    /// They replace those of the origin; otherwise the origin's are kept.
    pub replaces: bool,
}

impl SecurityFields {
    /// Sets the fields on a response. `secure`: the viewer's connection is https.
    pub fn finish(&self, secure: bool, nonce: &PageNonce, headers: &mut Fields) {
        let mut set = |name: &FieldName, value: &HeaderValue| {
            if self.replaces || !headers.contains_key(name) {
                headers.insert(name, value);
            }
        };
        for (name, value) in &self.fields {
            set(name, value);
        }
        for policy in &self.nonced {
            if let Some(value) = policy.value(nonce) {
                set(&policy.name, &value);
            }
        }
        match &self.hsts {
            Some(value) if secure => set(&header::STRICT_TRANSPORT_SECURITY.into(), value),
            // An origin behind TLS of its own sends it without knowing how its response goes on.
            Some(_) if self.replaces => {
                headers.remove(header::STRICT_TRANSPORT_SECURITY);
            }
            _ => {}
        }
    }
}

/// The value of `Strict-Transport-Security` (RFC 6797 §6.1).
pub fn hsts(max_age: u32, include_subdomains: bool, preload: bool) -> Option<HeaderValue> {
    let mut text = format!("max-age={max_age}");
    if include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if preload {
        text.push_str("; preload");
    }
    HeaderValue::from_str(&text).ok()
}

/// The least `max-age` with which browsers' lists take a site (hstspreload.org).
pub const LEAST_PRELOAD: u32 = 31_536_000;

/// Keywords that have an effect between quotes only (CSP 3 §2.3.1).
const KEYWORDS: [&str; 9] = [
    "self",
    "none",
    "unsafe-inline",
    "unsafe-eval",
    "unsafe-hashes",
    "strict-dynamic",
    "report-sample",
    "wasm-unsafe-eval",
    "inline-speculation-rules",
];

/// Mistakes in a Content-Security-Policy that browsers pass over in silence; `Err`: the mistake and its remedy.
pub fn check_csp(policy: &str) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for directive in policy
        .split(';')
        .map(str::trim)
        .filter(|one| !one.is_empty())
    {
        let mut words = directive.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if !is_name {
            return Err(format!(
                "has {name:?} where the name of a directive must stand, in lower case"
            ));
        }
        if seen.contains(&name) {
            return Err(format!(
                "has {name} twice: browsers ignore the second one (CSP 3 §2.2.1)"
            ));
        }
        seen.push(name);
        for word in words {
            if word.contains(',') {
                return Err(
                    "has a comma, which would begin another policy: separate directives by \";\""
                        .into(),
                );
            }
            if KEYWORDS.contains(&word)
                && !matches!(name, "sandbox" | "report-to" | "trusted-types")
            {
                return Err(format!(
                    "needs quotes in {name}: '{word}' is the keyword, {word} would be a host"
                ));
            }
            if word != nonce::PLACE && word.to_ascii_lowercase().starts_with("'nonce-") {
                return Err(format!(
                    "has the nonce {word}, the same in all responses: anybody could use it. Name hashes ('sha256-…'), or write 'nonce-{{nonce}}' and give the placeholder of your pages as nonce"
                ));
            }
        }
    }
    if seen.is_empty() {
        return Err("has no directive".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mistakes_that_browsers_pass_over_are_refused() {
        for (policy, wrong) in [
            ("default-src 'self'", None),
            (
                "default-src 'self'; img-src * data:; upgrade-insecure-requests",
                None,
            ),
            ("default-src 'self';", None),
            (
                "script-src 'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='",
                None,
            ),
            ("sandbox allow-scripts", None),
            ("", Some("no directive")),
            (" ; ", Some("no directive")),
            ("default-src self", Some("needs quotes")),
            ("script-src unsafe-inline", Some("needs quotes")),
            ("script-src 'self'; script-src 'none'", Some("twice")),
            ("default-src 'self', script-src 'none'", Some("comma")),
            ("script-src 'nonce-abc'", Some("nonce")),
            ("script-src 'Nonce-abc'", Some("nonce")),
            ("Default-Src 'self'", Some("lower case")),
            ("'self'", Some("name of a directive")),
        ] {
            let found = check_csp(policy);
            match wrong {
                None => assert_eq!(found, Ok(()), "{policy}"),
                Some(part) => assert!(found.is_err_and(|text| text.contains(part)), "{policy}"),
            }
        }
    }

    #[test]
    fn hsts_goes_over_https_only_and_the_origins_fields_are_kept_on_request() {
        let policy = |replaces| SecurityFields {
            nonced: Vec::new(),
            placeholder: None,
            fields: vec![(
                header::X_FRAME_OPTIONS.into(),
                HeaderValue::from_static("DENY"),
            )],
            hsts: hsts(31_536_000, true, true),
            replaces,
        };
        for (replaces, secure, frame, transport) in [
            (
                true,
                true,
                "DENY",
                Some("max-age=31536000; includeSubDomains; preload"),
            ),
            (true, false, "DENY", None),
            (
                false,
                true,
                "SAMEORIGIN",
                Some("max-age=31536000; includeSubDomains; preload"),
            ),
            (false, false, "SAMEORIGIN", None),
        ] {
            let mut headers = Fields::new();
            headers.insert(
                header::X_FRAME_OPTIONS,
                HeaderValue::from_static("SAMEORIGIN"),
            );
            if replaces {
                let value = HeaderValue::from_static("max-age=1");
                headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
            }
            policy(replaces).finish(secure, &PageNonce::Absent, &mut headers);
            assert_eq!(headers.get(header::X_FRAME_OPTIONS).unwrap(), frame);
            let found = headers.get(header::STRICT_TRANSPORT_SECURITY);
            assert_eq!(
                found.map(|value| value.to_str().unwrap()),
                transport,
                "{replaces} {secure}"
            );
        }
    }
}
