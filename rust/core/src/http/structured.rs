//! Structured fields as far as the edge needs them (RFC 9651): the dictionaries of targeted cache control, and
//! `Cache-Status` (RFC 9211).

use bytes::Bytes;
use http::HeaderValue;

use crate::outcome::words;

mod dictionary;

pub use dictionary::{Bare, Dictionary, dictionary, is_list_of_names};

words! {
    /// Why a request went forward (RFC 9211 §2.2).
    pub enum Forward {
        /// The edge is configured not to use the cache for the request.
        Bypass = "bypass",
        /// The method's semantics require it.
        Method = "method",
        /// Nothing is stored for the URL.
        UriMiss = "uri-miss",
        /// Responses are stored for the URL, and `Vary` selects none of them.
        VaryMiss = "vary-miss",
        /// Nothing usable is stored; used where the two reasons above are not distinguished.
        Miss = "miss",
        /// The request's cache directives do not allow the stored response.
        Request = "request",
        /// The stored response is stale.
        Stale = "stale",
        /// The stored response lacks a part of the requested content.
        Partial = "partial",
    }
}

/// A member of `Cache-Status` (RFC 9211 §2), without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CacheStatus {
    /// Served from the store without going forward: `forward` is not written then.
    pub hit: bool,
    /// `None`: the request did not go forward.
    pub forward: Option<Forward>,
    /// Status of the origin's response (RFC 9211 §2.3); written only beside `forward`.
    pub forward_status: Option<u16>,
    /// Seconds of freshness left; negative for a stale response (RFC 9211 §2.4).
    pub ttl: Option<i64>,
    /// The origin's response was stored (RFC 9211 §2.5).
    pub stored: bool,
    /// The request shared the fetch of another (RFC 9211 §2.6).
    pub collapsed: bool,
    /// A word of the edge's own, listed in docs/caching.md (RFC 9211 §2.8).
    pub detail: Option<&'static str>,
}

/// Writes a member for the cache called `node`, with the key if the policy shows it.
pub fn cache_status(node: &str, status: &CacheStatus, key: Option<&str>) -> HeaderValue {
    let mut out = Vec::with_capacity(64);
    token_or_string(&mut out, node);
    if status.hit {
        out.extend_from_slice(b"; hit");
    } else if let Some(forward) = status.forward {
        out.extend_from_slice(b"; fwd=");
        out.extend_from_slice(forward.as_str().as_bytes());
        if let Some(code) = status.forward_status {
            out.extend_from_slice(b"; fwd-status=");
            out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
        }
    }
    if let Some(ttl) = status.ttl {
        out.extend_from_slice(b"; ttl=");
        out.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
    }
    if status.stored {
        out.extend_from_slice(b"; stored");
    }
    if status.collapsed {
        out.extend_from_slice(b"; collapsed");
    }
    if let Some(key) = key {
        out.extend_from_slice(b"; key=");
        string(&mut out, key);
    }
    if let Some(detail) = status.detail {
        out.extend_from_slice(b"; detail=");
        token_or_string(&mut out, detail);
    }
    HeaderValue::from_maybe_shared(Bytes::from(out))
        .unwrap_or(HeaderValue::from_static("edgerouter"))
}

/// `node; hit; ttl=N`, the member of most responses.
pub fn hit(out: &mut Vec<u8>, node: &[u8], ttl: i64) {
    token_or_string(out, std::str::from_utf8(node).unwrap_or("edgerouter"));
    out.extend_from_slice(b"; hit; ttl=");
    out.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
}

fn token_or_string(out: &mut Vec<u8>, text: &str) {
    let token = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'*')
        && text
            .bytes()
            .all(|b| super::is_token_byte(b) || b":/".contains(&b));
    if token {
        out.extend_from_slice(text.as_bytes());
    } else {
        string(out, text);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_in_order() {
        let status = CacheStatus {
            forward: Some(Forward::UriMiss),
            forward_status: Some(200),
            stored: true,
            detail: Some("a b"),
            ..CacheStatus::default()
        };
        assert_eq!(
            cache_status("edge", &status, None),
            "edge; fwd=uri-miss; fwd-status=200; stored; detail=\"a b\""
        );
        let mut out = Vec::new();
        hit(&mut out, b"edge", 7);
        assert_eq!(out, b"edge; hit; ttl=7");
        assert_eq!(
            cache_status(
                "1 edge",
                &CacheStatus {
                    hit: true,
                    ..CacheStatus::default()
                },
                None
            ),
            "\"1 edge\"; hit"
        );
    }
}
