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

/// The path at the start of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetPath {
    /// Bytes up to the first that no path has.
    pub(super) length: usize,
    /// As `is_plain` says.
    pub(super) is_plain: bool,
}

impl TargetPath {
    #[inline]
    pub(super) fn of(target: &[u8]) -> Self {
        let mut readings = Readings::default();
        let length = target.iter().position(|&byte| {
            let class = class(byte);
            readings.note(class);
            class & PATH == 0
        });
        let length = length.unwrap_or(target.len());
        Self {
            length,
            is_plain: target.first() == Some(&b'/') && readings.is_one(),
        }
    }

    /// A path whose bytes have been checked.
    pub(super) fn whole(path: &str) -> Self {
        Self {
            length: path.len(),
            is_plain: is_plain(path),
        }
    }
}

/// True if all bytes may stand in a query.
#[inline]
pub(super) fn is_query(text: &[u8]) -> bool {
    text.iter().all(|&byte| class(byte) & QUERY != 0)
}

/// True if a path has one reading only: nothing in it is normalised, and nothing is a delimiter to some servers and not
/// to others. Nearly every path is plain.
fn is_plain(path: &str) -> bool {
    let mut readings = Readings::default();
    for byte in path.bytes() {
        readings.note(class(byte));
    }
    path.starts_with('/') && readings.is_one()
}

/// Finds bytes by which a path could be read in more than one way, by the classes of its bytes.
#[derive(Default)]
struct Readings {
    /// Bits that the next byte must not have.
    forbidden: u8,
    found: u8,
}

impl Readings {
    #[inline]
    fn note(&mut self, class: u8) {
        self.found |= class & (self.forbidden | AMBIGUOUS);
        self.forbidden = (class & SLASH) >> 1;
    }

    #[inline]
    fn is_one(&self) -> bool {
        self.found == 0
    }
}

/// Bits of `CLASSES`: the byte may occur in a path, in a query; it is an escape or a delimiter to some servers; it is
/// `/` or `.`, which behind `/` are normalised; it is `/`.
const PATH: u8 = 1;
const QUERY: u8 = 2;
const AMBIGUOUS: u8 = 4;
const BEHIND_SLASH: u8 = 8;
const SLASH: u8 = BEHIND_SLASH << 1;
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < classes.len() {
        let byte = at as u8;
        classes[at] = (is_path_byte(byte) as u8 * PATH)
            | (is_query_byte(byte) as u8 * QUERY)
            | (matches!(byte, b'%' | b';' | b'\\') as u8 * AMBIGUOUS)
            | (matches!(byte, b'/' | b'.') as u8 * BEHIND_SLASH)
            | ((byte == b'/') as u8 * SLASH);
        at += 1;
    }
    classes
};

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// Bytes of a path, or of an authority before it: visible ASCII without a fragment. Brackets, braces and the like are
/// not in RFC 3986's grammar, but browsers send them and they are harmless; quotes, angle brackets and backslashes are
/// not.
const fn is_path_byte(byte: u8) -> bool {
    is_query_byte(byte) && !matches!(byte, b'?' | b'\\' | b'^' | b'`')
}

/// Bytes of a query: all that browsers send unescaped (the query percent-encode set of the WHATWG URL standard has
/// controls, space and these four).
const fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>')
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

/// True if a path and its normal form have the same segments, with other escapes: no dot segment was removed.
pub fn differs_in_escapes_only(path: &str, normal: &str) -> bool {
    normalise_escapes(path).is_ok_and(|escaped| escaped == normal)
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

/// A text with its escapes in normal form (RFC 3986 §6.2.2): upper case, and none for unreserved characters.
pub fn normalise_escapes(path: &str) -> Result<String, PathError> {
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
pub(super) fn remove_dot_segments(path: &str) -> String {
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

/// True if the dot segments of a path lead above its root, where the removal stays at the root.
pub(super) fn rises_above_root(path: &str) -> bool {
    let mut depth = 0_usize;
    path.split('/').skip(1).any(|segment| {
        let above = segment == ".." && depth == 0;
        match segment {
            "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
        above
    })
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
    fn a_target_s_path_ends_where_no_path_goes_on() {
        for (target, length, is_plain) in [
            ("/a-b.c/~d/?e=%2F//", 10, true),
            ("/a?/..;", 2, true),
            ("/a/.b", 5, false),
            ("/a/..", 5, false),
            ("//a", 3, false),
            ("/a/", 3, true),
            ("/a;b", 4, false),
            ("/a%20b", 6, false),
            ("/a^", 2, true),
            ("*", 1, false),
            ("", 0, false),
        ] {
            let want = TargetPath { length, is_plain };
            assert_eq!(TargetPath::of(target.as_bytes()), want, "{target}");
        }
    }

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
