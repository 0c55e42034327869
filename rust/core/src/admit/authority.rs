//! The authority of a request (RFC 9110 §7.2), in one spelling.

use std::{cell::RefCell, sync::Arc};

use http::{HeaderValue, Version};

use super::Refusal;
use crate::{
    http::{
        Fields, RequestParts,
        h1::{self, is_host},
        header,
    },
    plan::Scheme,
};

/// Host and port that a request is for. All spellings of one authority become one (RFC 3986 §6.2.2.1, §6.2.3): lower
/// case, no dot at the end, no default port. So the origin cannot distinguish requests that share a cache key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    text: Arc<str>,
    /// Bytes of the host, without a dot at its end.
    host: usize,
    /// `None` if it is the scheme's default.
    port: Option<u16>,
}

/// The authority of the request before this one on its connection: nearly always the same.
#[derive(Debug, Default)]
pub struct LastAuthority(RefCell<Option<(Scheme, Authority)>>);

impl Authority {
    /// Of a request, from its target if that names it (RFC 9112 §3.2.2), else from `Host`. An HTTP/1.0 request may name
    /// none.
    pub fn of(head: &RequestParts, scheme: Scheme, last: &LastAuthority) -> Result<Self, Refusal> {
        let named = match (&head.authority, head.headers.get(header::HOST)) {
            // RFC 9110 §7.4: an https URL is served over TLS only.
            (Some(target), _) if target.is_https && scheme == Scheme::Http => {
                return Err(Refusal::PlainText);
            }
            (Some(target), _) => target.value.as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) if head.version == Version::HTTP_10 => b"localhost",
            (None, None) => return Err(Refusal::BadHost),
        };
        if let Some((of, last)) = &*last.0.borrow()
            && *of == scheme
            && *named == *last.text.as_bytes()
        {
            return Ok(last.clone());
        }
        let authority = Self::spelled(named, scheme).ok_or(Refusal::BadHost)?;
        last.0.replace(Some((scheme, authority.clone())));
        Ok(authority)
    }

    /// The authority that the viewer requested from a trusted proxy, if the field names exactly one: like the scheme,
    /// it is the last member.
    pub fn forwarded(headers: &Fields, scheme: Scheme) -> Option<Self> {
        let line = headers.get_all("x-forwarded-host").iter().next_back()?;
        let last = line.as_bytes().rsplit(|&byte| byte == b',').next()?;
        Self::spelled(last.trim_ascii(), scheme)
    }

    /// `None`: it is not an authority.
    fn spelled(named: &[u8], scheme: Scheme) -> Option<Self> {
        if !is_host(named) {
            return None;
        }
        let length = host_length(named);
        let (host, after) = named.split_at_checked(length).unwrap_or((named, &[]));
        let port = port_in(after).filter(|port| *port != scheme.port());
        let mut text = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
        if let Some(port) = port {
            text.push_str(&format!(":{port}"));
        }
        Some(Self {
            text: text.into(),
            host: length,
            port,
        })
    }

    /// As it stands in a field.
    pub fn to_value(&self) -> HeaderValue {
        // A host's bytes are visible.
        HeaderValue::from_str(&self.text).unwrap_or(HeaderValue::from_static(""))
    }

    /// As text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host: lower case, without port.
    #[inline]
    pub fn host(&self) -> &str {
        self.text.get(..self.host).unwrap_or_default()
    }

    /// The port, if it is not the scheme's default.
    #[inline]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// The port in an authority, after its host.
fn port_in(after: &[u8]) -> Option<u16> {
    let digits = after.strip_prefix(b".").unwrap_or(after);
    let digits = digits.strip_prefix(b":")?;
    h1::port_number(digits)
}

/// Length of the host in an authority, without port and trailing dot.
pub fn host_length(bytes: &[u8]) -> usize {
    let end = match bytes.first() {
        Some(b'[') => memchr::memchr(b']', bytes).map_or(bytes.len(), |at| at + 1),
        _ => memchr::memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    match end.checked_sub(1).and_then(|last| bytes.get(last)) {
        Some(b'.') if end > 1 => end - 1,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::TargetAuthority;

    #[test]
    fn an_authority_has_one_spelling() {
        use Scheme::{Http, Https};
        for (scheme, host, want, port) in [
            (Http, "a.example", "a.example", None),
            (Http, "A.Example.:80", "a.example", None),
            (Http, "a.example:", "a.example", None),
            (Http, "a.example.:", "a.example", None),
            (Http, "a.example:080", "a.example", None),
            (Http, "a.example:08080", "a.example:8080", Some(8080)),
            (Http, "a.example.:443", "a.example:443", Some(443)),
            (Https, "a.example:443", "a.example", None),
            (Https, "a.example:80", "a.example:80", Some(80)),
            (Https, "[::A]:443", "[::a]", None),
            (Https, "[::1]:0", "[::1]:0", Some(0)),
        ] {
            let mut head = RequestParts::default();
            head.headers
                .insert(header::HOST, HeaderValue::from_str(host).unwrap());
            let last = LastAuthority::default();
            for _ in 0..2 {
                let found = Authority::of(&head, scheme, &last).unwrap();
                assert_eq!((found.as_str(), found.port()), (want, port), "{host}");
                assert_eq!(found.to_value(), want, "{host}");
            }
        }
        for host in ["a:65536", "a:x", "a:-1", "a:+1", "a:80:80", ":80"] {
            let mut head = RequestParts::default();
            head.headers
                .insert(header::HOST, HeaderValue::from_str(host).unwrap());
            let found = Authority::of(&head, Http, &LastAuthority::default());
            assert_eq!(found, Err(Refusal::BadHost), "{host}");
        }
    }

    #[test]
    fn an_https_url_is_served_over_tls_only() {
        use Scheme::{Http, Https};
        for (is_https, scheme, want) in [
            (false, Http, Ok("a.example")),
            (false, Https, Ok("a.example")),
            (true, Https, Ok("a.example")),
            (true, Http, Err(Refusal::PlainText)),
        ] {
            let head = RequestParts {
                authority: Some(TargetAuthority {
                    value: HeaderValue::from_static("a.example"),
                    is_https,
                }),
                ..RequestParts::default()
            };
            let found = Authority::of(&head, scheme, &LastAuthority::default());
            let found = found.as_ref().map(Authority::as_str).map_err(|why| *why);
            assert_eq!(found, want, "{is_https} {scheme:?}");
        }
    }

    #[test]
    fn the_last_authority_stands_only_for_itself_under_its_scheme() {
        use Scheme::{Http, Https};
        let last = LastAuthority::default();
        for (scheme, host, want, port) in [
            (Http, "a.example:443", "a.example:443", Some(443)),
            (Https, "a.example:443", "a.example", None),
            (Http, "a.example", "a.example", None),
            (Http, "A.example", "a.example", None),
            (Http, "b.example", "b.example", None),
            (Https, "b.example", "b.example", None),
        ] {
            let mut head = RequestParts::default();
            head.headers
                .insert(header::HOST, HeaderValue::from_str(host).unwrap());
            let found = Authority::of(&head, scheme, &last).unwrap();
            assert_eq!((found.as_str(), found.port()), (want, port), "{host}");
        }
    }

    #[test]
    fn hosts_are_measured() {
        for (authority, want) in [
            ("a.b:80", 3),
            ("a.b", 3),
            ("a.b.", 3),
            ("[::1]:80", 5),
            ("[::1]", 5),
        ] {
            assert_eq!(host_length(authority.as_bytes()), want, "{authority}");
        }
    }
}
