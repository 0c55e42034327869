//! The name of a stored response (RFC 9111 §2): the URL, and what the route's policy makes part of it.
//!
//! Parts are separated by bytes that cannot occur in them (a host, a normalised path and a query hold no control
//! characters), and values that could hold anything are preceded by their length. So no two questions share a key.

use http::{HeaderMap, header};

use crate::{
    http::{cookie, list, uri},
    plan::{CachePolicy, Select},
};

/// Ends the host, the path and the query.
const END: u8 = 0;

/// Appends the key of a URL. `host` is lower case without port, `path` normalised.
pub fn url(out: &mut Vec<u8>, host: &str, path: &str, query: Option<&str>, policy: &CachePolicy) {
    out.extend_from_slice(host.as_bytes());
    out.push(END);
    out.extend_from_slice(path.as_bytes());
    out.push(END);
    if let Some(query) = query {
        let start = out.len();
        out.push(b'?');
        uri::select_query(query, &policy.key_query, out);
        // `/a?` and `/a` are different URLs, but only when the whole query counts.
        if out.len() == start + 1 && policy.key_query != Select::All {
            out.pop();
        }
    }
    out.push(END);
}

/// What tells responses for one URL apart besides `Vary`.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    pub headers: &'a HeaderMap,
    pub policy: &'a CachePolicy,
    /// Experiment and variant.
    pub variants: &'a [(&'a str, &'a str)],
    pub claims: &'a [(&'a str, &'a str)],
    /// Of routes that share a URL with others by conditions.
    pub tag: Option<&'a str>,
}

/// Appends the dimensions.
pub fn dimensions(out: &mut Vec<u8>, parts: &KeyParts<'_>) {
    for (experiment, variant) in parts.variants {
        pair(out, b'v', experiment.as_bytes(), variant.as_bytes());
    }
    for (claim, value) in parts.claims {
        pair(out, b'c', claim.as_bytes(), value.as_bytes());
    }
    for name in &parts.policy.key_headers {
        for value in parts.headers.get_all(name) {
            pair(
                out,
                b'h',
                name.as_str().as_bytes(),
                value.as_bytes().trim_ascii(),
            );
        }
    }
    if let Some(select) = &parts.policy.key_cookies
        && *select != Select::None
    {
        for (name, value) in cookie::pairs(parts.headers).filter(|(name, _)| select.has(name)) {
            pair(out, b'k', name.as_bytes(), value.as_bytes());
        }
    }
    if parts.policy.accept_encoding {
        pair(
            out,
            b'e',
            b"",
            normalised_encoding(parts.headers).as_bytes(),
        );
    }
    if let Some(tag) = parts.tag {
        pair(out, b't', b"", tag.as_bytes());
    }
}

/// The kind of dimension that marks what a function stored by itself. No route's key has it.
pub const FUNCTION: u8 = b'n';

pub(super) fn pair(out: &mut Vec<u8>, kind: u8, name: &[u8], value: &[u8]) {
    out.push(kind);
    for text in [name, value] {
        // Fields are bounded by the head, which is far below four GiB.
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text);
    }
}

/// The codings that the edge keeps apart, of those that the request takes: `br,gzip`, `br`, `gzip` or `identity`.
pub fn normalised_encoding(headers: &HeaderMap) -> &'static str {
    let (mut brotli, mut gzip) = (false, false);
    for line in headers.get_all(header::ACCEPT_ENCODING) {
        for member in list(line.as_bytes()) {
            let mut parts = member.split(|&b| b == b';');
            let coding = parts.next().unwrap_or_default().trim_ascii();
            let refused = parts.any(|parameter| {
                let parameter = parameter.trim_ascii();
                let weight = parameter
                    .strip_prefix(b"q=")
                    .or_else(|| parameter.strip_prefix(b"Q="));
                weight.is_some_and(|weight| {
                    !weight.is_empty() && weight.iter().all(|b| b"0.".contains(b))
                })
            });
            if refused {
                continue;
            }
            if coding.eq_ignore_ascii_case(b"br") {
                brotli = true;
            } else if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
            {
                gzip = true;
            } else if coding == b"*" {
                (brotli, gzip) = (true, true);
            }
        }
    }
    match (brotli, gzip) {
        (true, true) => "br,gzip",
        (true, false) => "br",
        (false, true) => "gzip",
        (false, false) => "identity",
    }
}

/// Host, path and selected query of a key that [`url`] began.
pub fn url_parts(key: &[u8]) -> Option<(&str, &str, Option<&str>)> {
    let mut parts = key.splitn(4, |&b| b == END);
    let mut next = || std::str::from_utf8(parts.next()?).ok();
    let (host, path, query) = (next()?, next()?, next()?);
    Some((host, path, query.strip_prefix('?')))
}

/// A key for people: host, path and query, and how much more there is.
pub fn describe(key: &[u8]) -> String {
    let mut parts = key.splitn(4, |&b| b == END);
    let mut text = String::new();
    for _ in 0..3 {
        text.push_str(&String::from_utf8_lossy(parts.next().unwrap_or_default()));
    }
    match parts.next().map_or(0, <[u8]>::len) {
        0 => text,
        more => format!("{text} (+{more} bytes of variant)"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn key(path: &str, query: Option<&str>, select: Select) -> Vec<u8> {
        let mut out = Vec::new();
        url(
            &mut out,
            "h",
            path,
            query,
            &CachePolicy {
                key_query: select,
                ..CachePolicy::default()
            },
        );
        out
    }

    #[test]
    fn the_query_counts_as_the_policy_says() {
        assert_ne!(
            key("/a", Some("b"), Select::All),
            key("/a", None, Select::All)
        );
        assert_ne!(
            key("/a", Some(""), Select::All),
            key("/a", None, Select::All)
        );
        assert_eq!(
            key("/a", Some("b"), Select::None),
            key("/a", None, Select::None)
        );
        let only = Select::Only(vec!["x".into()]);
        assert_eq!(
            key("/a", Some("b=1"), only.clone()),
            key("/a", None, only.clone())
        );
        assert_eq!(
            key("/a", Some("b=1&x=2"), only.clone()),
            key("/a", Some("x=2"), only)
        );
        assert_eq!(describe(&key("/a", Some("b"), Select::All)), "h/a?b");
    }

    #[test]
    fn dimensions_cannot_be_shifted_into_one_another() {
        let policy = CachePolicy::default();
        let headers = HeaderMap::new();
        let of = |variants: &[(&str, &str)]| {
            let mut out = Vec::new();
            dimensions(
                &mut out,
                &KeyParts {
                    headers: &headers,
                    policy: &policy,
                    variants,
                    claims: &[],
                    tag: None,
                },
            );
            out
        };
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
        assert_ne!(of(&[("a", "b"), ("c", "d")]), of(&[("a", "b")]));
    }

    #[test]
    fn encodings_are_normalised() {
        for (value, want) in [
            ("gzip, deflate, br", "br,gzip"),
            ("br;q=0, gzip", "gzip"),
            ("BR", "br"),
            ("*", "br,gzip"),
            ("identity", "identity"),
            ("gzip;q=0.000", "identity"),
            ("gzip;q=0.5", "gzip"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(value).unwrap(),
            );
            assert_eq!(normalised_encoding(&headers), want, "{value}");
        }
    }
}
