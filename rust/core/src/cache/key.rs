//! The name of a stored response (RFC 9111 §2): the URL, and the parts of a request that the route's policy adds.
//!
//! A URL's key is host, base, path and query, each ended by a zero byte. The base is the part that scheme and port add
//! to the host: nothing for `http` with its default port, `s` for `https`, then the port if it is another. Two URLs
//! share a key if they are equivalent (RFC 3986 §6.2.2, §6.2.3), and only then (RFC 9110 §4.2.3).
//!
//! Parts are separated by bytes that cannot occur in them (a host, a normalised path and a query hold no control
//! characters), and values that could hold anything are preceded by their length. So no two different requests share a
//! key.

use http::HeaderValue;

use crate::{
    http::{
        FieldName, Fields,
        accept::{normalised_encoding, normalised_language},
        cookie, header, uri,
    },
    plan::{CachePolicy, Scheme, Select},
};

/// Ends the host, the base, the path and the query.
const END: u8 = 0;

/// The origin of a URL: the part before its path (RFC 9110 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base<'a> {
    /// A route's key distinguishes http and https.
    pub scheme: Scheme,
    /// Lower case, without port.
    pub host: &'a str,
    /// `None` for the scheme's default port.
    pub port: Option<u16>,
}

/// Separates the key of a URL from its dimensions. The bytes up to and including it are the key of the entry that leads
/// to the URL's responses with dimensions; a response without any is stored under the URL's own key. So a request that
/// has none of the cookies, fields and claims that its route keys by finds the response that another such request
/// stored (absent matches absent, RFC 9111 §4.1), and neither kind displaces the other.
pub const DIMENSIONS: u8 = b'd';

/// The key of a request: its URL's, followed by the dimensions. It grows on the way to the response that the request
/// selects ([`super::levels`]), and each look-up starts again from the plain key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    pub(super) bytes: Vec<u8>,
    url: usize,
    pub(super) end: usize,
}

impl Key {
    /// The key of a URL, written over the content of `out`. `path` is normalised.
    pub fn of(
        mut out: Vec<u8>,
        base: Base<'_>,
        path: &str,
        query: Option<&str>,
        policy: &CachePolicy,
    ) -> Self {
        out.clear();
        out.extend_from_slice(base.host.as_bytes());
        out.push(END);
        if base.scheme == Scheme::Https {
            out.push(b's');
        }
        if let Some(port) = base.port {
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        out.push(END);
        out.extend_from_slice(path.as_bytes());
        out.push(END);
        if let Some(query) = query {
            let start = out.len();
            out.push(b'?');
            uri::select_query(query, &policy.key_query, policy.sort_query, &mut out);
            // `/a?` and `/a` are different URLs, but only if the whole query counts unchanged.
            let raw = policy.key_query == Select::All && !policy.sort_query;
            if out.len() == start + 1 && !raw {
                out.pop();
            }
        }
        out.push(END);
        Self {
            url: out.len(),
            end: out.len(),
            bytes: out,
        }
    }

    /// Makes it the key under which a function stores in its cache of that name.
    pub(super) fn mark(&mut self, cache: &str) {
        pair(&mut self.bytes, FUNCTION, cache.as_bytes(), b"");
        (self.url, self.end) = (self.bytes.len(), self.bytes.len());
    }

    /// Appends the dimensions, if any.
    pub fn add(&mut self, parts: &KeyParts<'_>) {
        self.bytes.push(DIMENSIONS);
        all_dimensions(&mut self.bytes, parts);
        if self.bytes.len() == self.end + 1 {
            self.bytes.truncate(self.end);
        }
        self.end = self.bytes.len();
    }

    /// The key of the URL.
    pub fn url(&self) -> &[u8] {
        self.bytes.get(..self.url).unwrap_or_default()
    }

    /// The part that distinguishes responses for the URL besides `Vary`; empty for most routes.
    pub fn dimensions(&self) -> &[u8] {
        self.bytes.get(self.url..self.end).unwrap_or_default()
    }

    /// URL and dimensions, and the levels that a look-up has appended.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of the entry that leads to the responses of the URL: the URL's own, or with dimensions the key that
    /// leads to the responses with dimensions.
    pub fn top(&self) -> &[u8] {
        let last = (self.url + 1).min(self.end);
        self.bytes.get(..last).unwrap_or_default()
    }

    /// The key without the levels that a look-up has appended.
    pub fn plain(&self) -> Self {
        let bytes = self.bytes.get(..self.end).unwrap_or_default();
        Self {
            bytes: bytes.to_vec(),
            ..*self
        }
    }

    /// Gives the key's bytes without a copy.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Everything besides the URL that the key of a request contains: the parts that distinguish responses for one URL
/// besides `Vary`. Each part may be absent, empty or repeated, and each of these makes another key.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// As they go upstream: sent by the viewer, and changed by viewer hooks.
    pub headers: &'a Fields,
    /// The route's policy, which selects the fields, cookies, parameters and claims.
    pub policy: &'a CachePolicy,
    /// Experiment and variant.
    pub variants: &'a [(&'a str, &'a str)],
    /// Claims with a text form; those that the token lacks are left out.
    pub claims: &'a [(&'a str, &'a str)],
    /// Request fields that the edge sets from verified data, if they depend on more than `claims`.
    pub edge_set: &'a [(FieldName, HeaderValue)],
    /// Fields that hooks set, changed or removed before the key was made, sorted, each once: their values are those of
    /// `headers`.
    pub hooked: &'a [FieldName],
    /// Set for routes that share a URL with others by conditions.
    pub tag: Option<&'a str>,
}

fn all_dimensions(out: &mut Vec<u8>, parts: &KeyParts<'_>) {
    for (experiment, variant) in parts.variants {
        pair(out, b'v', experiment.as_bytes(), variant.as_bytes());
    }
    for (claim, value) in parts.claims {
        pair(out, b'c', claim.as_bytes(), value.as_bytes());
    }
    for name in &parts.policy.key_headers {
        if parts.policy.accept_language
            && *name == header::ACCEPT_LANGUAGE
            && let Some(value) = normalised_language(parts.headers)
        {
            pair(out, b'h', name.as_str().as_bytes(), value.as_bytes());
            continue;
        }
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
            pair(out, b'k', name, value);
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
    for (name, value) in parts.edge_set {
        pair(out, b'i', name.as_str().as_bytes(), value.as_bytes());
    }
    for name in parts.hooked {
        if !parts.headers.contains_key(name) {
            pair(out, b'r', name.as_str().as_bytes(), b"");
        }
        for value in parts.headers.get_all(name) {
            pair(out, b'f', name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if let Some(tag) = parts.tag {
        pair(out, b't', b"", tag.as_bytes());
    }
}

/// The kind of dimension that marks an entry that a function stored. No route's key has it.
pub const FUNCTION: u8 = b'n';

fn pair(out: &mut Vec<u8>, kind: u8, name: &[u8], value: &[u8]) {
    out.push(kind);
    for text in [name, value] {
        // Fields are bounded by the head, which is far below 4 GiB.
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text);
    }
}

/// Base, path and selected query of a key that [`Key::of`] began.
pub fn url_parts(key: &[u8]) -> Option<(Base<'_>, &str, Option<&str>)> {
    let mut parts = key.splitn(5, |&b| b == END);
    let mut next = || std::str::from_utf8(parts.next()?).ok();
    let (host, base, path, query) = (next()?, next()?, next()?, next()?);
    Some((base_of(host, base)?, path, query.strip_prefix('?')))
}

pub(super) fn base_of<'a>(host: &'a str, base: &str) -> Option<Base<'a>> {
    let (scheme, port) = match base.strip_prefix('s') {
        Some(port) => (Scheme::Https, port),
        None => (Scheme::Http, base),
    };
    let port = match port {
        "" => None,
        port => Some(port.parse().ok()?),
    };
    Some(Base { scheme, host, port })
}

/// A readable form of a key: the URL, and the number of bytes after it.
pub fn describe(key: &[u8]) -> String {
    let Some((base, path, query)) = url_parts(key) else {
        return String::from_utf8_lossy(key).into_owned();
    };
    let mut text = format!("{base}{path}");
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    match key.splitn(5, |&b| b == END).nth(4).map_or(0, <[u8]>::len) {
        0 => text,
        more => format!("{text} (+{more} bytes of variant)"),
    }
}

impl Base<'_> {
    /// The port, including the scheme's default.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.port())
    }
}

impl std::fmt::Display for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scheme_and_port_are_part_of_a_url_and_read_back() {
        let policy = CachePolicy::default();
        let mut keys = Vec::new();
        for scheme in [Scheme::Http, Scheme::Https] {
            for port in [None, Some(0), Some(9), Some(80), Some(8080), Some(u16::MAX)] {
                let base = Base {
                    scheme,
                    host: "[::1]",
                    port,
                };
                let key = Key::of(Vec::new(), base, "/a", Some("b"), &policy);
                assert_eq!(url_parts(key.url()), Some((base, "/a", Some("b"))));
                assert!(!keys.contains(&key), "{base}");
                keys.push(key);
            }
        }
    }

    fn key(path: &str, query: Option<&str>, select: Select) -> Key {
        Key::of(
            Vec::new(),
            Base {
                scheme: Scheme::Http,
                host: "h",
                port: None,
            },
            path,
            query,
            &CachePolicy {
                key_query: select,
                ..CachePolicy::default()
            },
        )
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
        assert_eq!(
            describe(key("/a", Some("b"), Select::All).url()),
            "http://h/a?b"
        );
    }

    #[test]
    fn dimensions_cannot_be_shifted_into_one_another() {
        let policy = CachePolicy::default();
        let headers = Fields::new();
        let of = |variants: &[(&str, &str)]| {
            let mut key = Key::default();
            key.add(&KeyParts {
                headers: &headers,
                policy: &policy,
                variants,
                claims: &[],
                edge_set: &[],
                hooked: &[],
                tag: None,
            });
            key
        };
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
        assert_ne!(of(&[("a", "b"), ("c", "d")]), of(&[("a", "b")]));
    }
}
