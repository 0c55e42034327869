//! Path and query of a URL (RFC 9112 §3.2.1), in one text that its copies share.

use std::{fmt, sync::Arc};

use http::uri::{self, InvalidUri};

use super::uri::TargetPath;

/// Path and query, as they stand in an origin-form target; or `*`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathAndQuery {
    text: Arc<str>,
    /// Bytes of the path.
    path: usize,
    /// The path has one reading only.
    is_plain: bool,
}

impl PathAndQuery {
    /// A text whose bytes have been checked, and the path that it begins with.
    #[inline]
    pub(super) fn checked(text: &str, path: TargetPath) -> Self {
        Self {
            text: text.into(),
            path: path.length,
            is_plain: path.is_plain,
        }
    }

    /// Of a constant, which is one.
    pub fn from_static(text: &'static str) -> Self {
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        Self::checked(text, TargetPath::whole(path))
    }

    /// The whole text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path; it begins with `/`, unless it is `*`.
    #[inline]
    pub fn path(&self) -> &str {
        self.text.get(..self.path).unwrap_or(&self.text)
    }

    /// True if the path has one reading only: it is normal, and no server reads it as another one.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The query, without its `?`. An empty one is not the same as none.
    #[inline]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path + 1..)
    }
}

impl TryFrom<&str> for PathAndQuery {
    type Error = InvalidUri;

    fn try_from(text: &str) -> Result<Self, InvalidUri> {
        let parsed = uri::PathAndQuery::try_from(text)?;
        let path = TargetPath::whole(parsed.path());
        Ok(match (parsed.path(), parsed.query()) {
            (whole, None) => Self::checked(whole, path),
            (before, Some(query)) => Self::checked(&format!("{before}?{query}"), path),
        })
    }
}

impl TryFrom<String> for PathAndQuery {
    type Error = InvalidUri;

    fn try_from(text: String) -> Result<Self, InvalidUri> {
        Self::try_from(text.as_str())
    }
}

impl Default for PathAndQuery {
    /// The root.
    fn default() -> Self {
        Self::from_static("/")
    }
}

impl fmt::Display for PathAndQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathAndQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_has_one_reading() {
        for (text, want) in [
            ("/", true),
            ("/a-b.c/~d/?e=%2F//", true),
            ("/a/.b", false),
            ("/a/..", false),
            ("//a", false),
            ("/a;b", false),
            ("/a%20b", false),
            ("*", false),
        ] {
            assert_eq!(PathAndQuery::from_static(text).is_plain(), want, "{text}");
        }
    }

    #[test]
    fn an_empty_query_is_not_the_same_as_none() {
        for (text, path, query) in [
            ("/", "/", None),
            ("*", "*", None),
            ("/a", "/a", None),
            ("/a?", "/a", Some("")),
            ("/a?b?c", "/a", Some("b?c")),
            ("", "/", None),
            ("?q", "/", Some("q")),
            ("/a#f", "/a", None),
        ] {
            let read = PathAndQuery::try_from(text).unwrap_or_default();
            assert_eq!((read.path(), read.query()), (path, query), "{text}");
            let again = PathAndQuery::try_from(read.as_str()).unwrap_or_default();
            assert_eq!(again, read, "{text}");
        }
        assert!(PathAndQuery::try_from("/a b").is_err());
    }
}
