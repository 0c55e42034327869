//! Paths and queries (RFC 3986 §6.2.2): one spelling for each resource before anything is matched, keyed or forwarded.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::percent::{self, Written};
use crate::select::Select;

/// Why a path cannot be normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Also a `%` at the end.
    #[error("a % that is not followed by two hexadecimal digits")]
    BadEscape,
    /// `%00` to `%1F`, or `%7F`.
    #[error("an encoded NUL or other control character")]
    Control,
    /// Also an empty path.
    #[error("the path does not begin with /")]
    NotAbsolute,
}

/// True if a path has one reading only: nothing in it is normalised, and nothing is a delimiter to some servers and not
/// to others. Nearly every path is plain.
pub(super) fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.starts_with('/')
        && path.bytes().all(|byte| {
            let is_odd_segment = before == b'/' && matches!(byte, b'/' | b'.');
            before = byte;
            !is_odd_segment && !matches!(byte, b'%' | b';' | b'\\')
        })
}

/// Makes escapes upper case, decodes unreserved characters and removes dot segments (encoded ones too). A path that is
/// already normal is returned as it is. Idempotent.
pub fn normalise_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path) || (!path.contains('%') && !has_dot_segment(path)) {
        return Ok(Cow::Borrowed(path));
    }
    let escaped = normalise_escapes(path)?;
    let clean = if has_dot_segment(&escaped) {
        remove_dot_segments(&escaped)
    } else {
        escaped
    };
    Ok(if clean == path {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(clean)
    })
}

/// A reference to a URL as it may stand in a field: characters that a URL cannot have are percent-encoded as UTF-8 (RFC
/// 3987 §3.1). `%`, delimiters and control characters stay as they are. A backslash would be a slash to browsers.
pub fn escape_reference(reference: &str) -> Cow<'_, str> {
    let is_foreign = |byte: u8| !byte.is_ascii() || b" \"<>\\^`{|}".contains(&byte);
    if !reference.bytes().any(is_foreign) {
        return Cow::Borrowed(reference);
    }
    Cow::Owned(percent::encoded(reference.as_bytes(), |byte| {
        !is_foreign(byte)
    }))
}

fn has_dot_segment(path: &str) -> bool {
    path.contains("/.")
        && path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}

fn normalise_escapes(path: &str) -> Result<String, PathError> {
    let mut out = Vec::with_capacity(path.len());
    for written in percent::read(path.as_bytes()) {
        match written {
            Written::Plain(byte) => out.push(byte),
            Written::Escaped(byte) if byte.is_ascii_control() => return Err(PathError::Control),
            Written::Escaped(byte) if percent::is_unreserved(byte) => out.push(byte),
            Written::Escaped(byte) => percent::escape(byte, &mut out),
            Written::Broken => return Err(PathError::BadEscape),
        }
    }
    String::from_utf8(out).map_err(|_| PathError::BadEscape)
}

/// RFC 3986 §5.2.4 for absolute paths.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// Name and raw value of each pair; a pair without `=` has an empty value. Names are as sent, not decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Appends the chosen pairs, raw and joined by `&`: in order, or `sorted` by name, those of one name in their order.
/// Names are compared decoded, so that every spelling of a name is recognised.
pub fn select_query(query: &str, select: &Select, sorted: bool, out: &mut Vec<u8>) {
    if *select == Select::All && !sorted {
        out.extend_from_slice(query.as_bytes());
        return;
    }
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            (
                decode(pair.split_once('=').map_or(pair, |(name, _)| name)),
                pair,
            )
        })
        .filter(|(name, _)| select.has(&**name));
    let mut chosen: SmallVec<[(Cow<'_, str>, &str); 8]> = pairs.collect();
    if sorted {
        chosen.sort_by(|a, b| a.0.cmp(&b.0));
    }
    for (at, (_, pair)) in chosen.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(pair.as_bytes());
    }
}

/// The decoded value of the first parameter of that name.
pub fn get_query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query_pairs(query)
        .find(|(known, _)| *known == name || decode(known) == name)
        .map(|(_, value)| decode(value))
}

/// Percent and plus decoding as forms use it; invalid escapes stay as they are, invalid UTF-8 becomes U+FFFD.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let byte = |written| match written {
        Written::Plain(b'+') => b' ',
        Written::Plain(byte) | Written::Escaped(byte) => byte,
        Written::Broken => b'%',
    };
    let out: Vec<u8> = percent::read(text.as_bytes()).map(byte).collect();
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_get_one_spelling() {
        for (path, want) in [
            ("/a/b", "/a/b"),
            ("/", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/%7euser", "/~user"),
            ("/%2f", "/%2F"),
            ("/a//b", "/a//b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(normalise_path(path).as_deref(), Ok(want), "{path}");
        }
        assert_eq!(normalise_path("/%00"), Err(PathError::Control));
        assert_eq!(normalise_path("/%zz"), Err(PathError::BadEscape));
        assert_eq!(normalise_path("/%2"), Err(PathError::BadEscape));
        assert_eq!(normalise_path("a"), Err(PathError::NotAbsolute));
    }

    #[test]
    fn queries_keep_order_and_bytes() {
        let mut out = Vec::new();
        select_query(
            "a=1&b=2&a=%33&%61=4",
            &Select::Only(vec!["a".into()]),
            false,
            &mut out,
        );
        assert_eq!(out, b"a=1&a=%33&%61=4");
        out.clear();
        select_query("b=2&&a=1&%61=0&B=3&a", &Select::All, true, &mut out);
        assert_eq!(out, b"B=3&a=1&%61=0&a&b=2");
        assert_eq!(get_query("x=1&y=a%20b+c", "y").as_deref(), Some("a b c"));
    }
}
