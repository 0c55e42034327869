//! Fields with which a site restricts browsers: HSTS, Content-Security-Policy and their like.
//!
//! They are set in phase 15, on every response of a route and on the edge's own, and are never stored.

use http::HeaderValue;

use super::{
    csp,
    nonce::{NoncePlaceholder, NoncedPolicy, PageNonce},
};
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

    /// The policies about content; true: one that only reports.
    pub fn policies(&self) -> impl Iterator<Item = (&str, bool)> {
        let fixed = self.fields.iter();
        let fixed = fixed.filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
        let nonced = self
            .nonced
            .iter()
            .map(|policy| (&policy.name, policy.text()));
        fixed.chain(nonced).filter_map(|(name, text)| {
            let only_reports = *name == csp::REPORT_ONLY;
            let is_one = only_reports || *name == header::CONTENT_SECURITY_POLICY;
            is_one.then_some((text, only_reports))
        })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
