//! An absolute URL under which a function stores a response, and its key.

use std::borrow::Cow;

use http::Uri;

use super::key::{Base, Key};
use crate::{
    http::{h1, uri},
    plan::{CachePolicy, Scheme},
};

/// Bytes in a URL.
pub(crate) const LONGEST_URL: usize = 16 << 10;

/// An absolute URL in its canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUrl {
    /// Either http or https.
    pub scheme: Scheme,
    /// Lower case.
    pub host: String,
    /// `None` for the scheme's default port.
    pub port: Option<u16>,
    /// Normalised (RFC 3986 §6.2.2).
    pub path: String,
    /// Without `?`; kept as it is spelled. `None` for a URL without a query.
    pub query: Option<String>,
}

/// Why a text is not a URL of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No scheme or no host, or no URL at all.
    #[error("it must be absolute, as in https://www.example.com/path")]
    NotAbsolute,
    /// A character that a URL cannot have, and that no escape stands for.
    #[error(
        "it has a control character, or a host with a character that a host cannot have: write a name in its xn-- form"
    )]
    Character,
    /// A port that is none.
    #[error("its port must be a number from 1 to 65535")]
    Port,
    /// A scheme other than http and https.
    #[error("its scheme must be http or https")]
    Scheme,
    /// A user name or password before the host.
    #[error("a user name or password must not be part of it")]
    UserInfo,
    /// A wrong escape, an encoded control character, or a path that does not begin with `/`.
    #[error("its path has an invalid escape")]
    Path,
    /// More than 16 KiB; carries the length in bytes.
    #[error("it is {0} bytes long; the limit is {LONGEST_URL}")]
    TooLong(usize),
}

impl CacheUrl {
    /// Reads a URL. A fragment is left out: it never leaves the client (RFC 9110 §4.2.5). In path and query, characters
    /// that a URL cannot have are percent-encoded as UTF-8.
    pub fn parse(url: &str) -> Result<Self, PlaceError> {
        let (before, after) = split_at_path(url);
        let escaped = uri::escape_reference(after);
        let length = before.len() + escaped.len();
        if length > LONGEST_URL {
            return Err(PlaceError::TooLong(length));
        }
        let url = &*match escaped {
            Cow::Borrowed(_) => Cow::Borrowed(url),
            Cow::Owned(after) => Cow::Owned(format!("{before}{after}")),
        };
        let malformed = || match url.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.starts_with('/') => {
                PlaceError::Character
            }
            _ => PlaceError::NotAbsolute,
        };
        let url: Uri = url.parse().map_err(|_| malformed())?;
        let scheme = match url.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(PlaceError::Scheme),
            None => return Err(PlaceError::NotAbsolute),
        };
        let authority = url.authority().ok_or(PlaceError::NotAbsolute)?;
        if authority.as_str().contains('@') {
            return Err(PlaceError::UserInfo);
        }
        if authority.host().is_empty() {
            return Err(PlaceError::NotAbsolute);
        }
        let after = authority.as_str().get(authority.host().len()..);
        let port = match after.and_then(|after| after.strip_prefix(':')) {
            None | Some("") => None,
            Some(digits) => Some(h1::port_number(digits.as_bytes()).ok_or(PlaceError::Port)?),
        };
        Self::new(scheme, authority.host(), port, url.path(), url.query())
    }

    /// Makes a URL of its parts: normalises the path, lowers the host, and drops the scheme's default port.
    pub fn new(
        scheme: Scheme,
        host: &str,
        port: Option<u16>,
        path: &str,
        query: Option<&str>,
    ) -> Result<Self, PlaceError> {
        let path = uri::normalise_path(path).map_err(|_| PlaceError::Path)?;
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port: port.filter(|port| *port != scheme.port()),
            path: path.into_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// The key in a cache of that name. It begins like a route's key for the URL, so that purges of hosts and paths
    /// apply to it too, and continues with a mark that no route's key has.
    pub fn key(&self, cache: &str) -> Key {
        let base = Base {
            scheme: self.scheme,
            host: &self.host,
            port: self.port,
        };
        // With the default policy the whole query counts.
        let (query, policy) = (self.query.as_deref(), CachePolicy::default());
        let mut key = Key::of(Vec::new(), base, &self.path, query, &policy);
        key.mark(cache);
        key
    }
}

/// A URL as the part with scheme and host, and the rest.
fn split_at_path(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    let path = url
        .char_indices()
        .find(|(at, character)| *at >= host && matches!(character, '/' | '?' | '#'))
        .map_or(url.len(), |(at, _)| at);
    url.split_at_checked(path).unwrap_or((url, ""))
}
