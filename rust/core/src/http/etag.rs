//! Entity tags and the conditions on them (RFC 9110 §8.8.3, §13.1).

use http::HeaderValue;

use crate::http::{FieldValue, Fields, Known, header};

/// An entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// With `W/`: equal in meaning, perhaps not in bytes (RFC 9110 §8.8.1).
    pub weak: bool,
    /// Between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads one tag; without both quotes it is not a tag.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        (!opaque.contains(&b'"')).then_some(Self { weak, opaque })
    }

    /// Equal, weak or strong.
    pub fn weak_eq(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// Equal, and both strong.
    pub fn strong_eq(&self, other: &EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }
}

/// True if `If-None-Match` names the stored tag (weak comparison, §13.1.2); `None` without the field.
pub fn if_none_match(request: &Fields, stored: Option<FieldValue<'_>>) -> Option<bool> {
    condition(request, header::IF_NONE_MATCH, stored, |a, b| a.weak_eq(b))
}

/// True if `If-Match` names the stored tag (strong comparison, §13.1.1); `None` without the field.
pub fn if_match(request: &Fields, stored: Option<FieldValue<'_>>) -> Option<bool> {
    condition(request, header::IF_MATCH, stored, |a, b| a.strong_eq(b))
}

fn condition(
    request: &Fields,
    name: Known,
    stored: Option<FieldValue<'_>>,
    equal: impl Fn(&EntityTag<'_>, &EntityTag<'_>) -> bool,
) -> Option<bool> {
    if !request.contains_key(name) {
        return None;
    }
    let stored = stored.and_then(|value| EntityTag::parse(value.as_bytes()));
    let mut lines = request.get_all(name).iter();
    Some(lines.any(|line| {
        line.as_bytes().trim_ascii() == b"*"
            || members(line.as_bytes())
                .filter_map(EntityTag::parse)
                .any(|tag| stored.is_some_and(|stored| equal(&tag, &stored)))
    }))
}

/// The members of a list of tags. Unlike in other lists, a backslash in the quotes is a character of the tag and
/// escapes nothing (RFC 9110 §8.8.3).
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    })
}

/// Makes the tag of a response weak. A strong tag names bytes, and the same tag must not name others (RFC 9110
/// §8.8.3.3). A weak one names the meaning, which every coding has in common.
pub fn weaken(headers: &mut Fields) {
    let Some(tag) = headers.get(header::ETAG).map(|tag| tag.owned()) else {
        return;
    };
    let text = tag.as_bytes();
    if text.starts_with(b"\"") {
        let weak = HeaderValue::from_bytes(&[b"W/", text].concat());
        match weak {
            Ok(weak) => headers.insert(header::ETAG, weak),
            Err(_) => {
                headers.remove(header::ETAG);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn comparison_follows_the_table_of_rfc_9110_section_8_8_3_2() {
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            let (a, b) = (
                EntityTag::parse(a.as_bytes()).unwrap(),
                EntityTag::parse(b.as_bytes()).unwrap(),
            );
            assert_eq!((a.strong_eq(&b), a.weak_eq(&b)), (strong, weak));
        }
    }

    #[test]
    fn if_none_match_takes_lists_stars_and_commas_in_tags() {
        let stored = HeaderValue::from_static("\"a,b\"");
        for (value, want) in [
            ("*", true),
            ("\"a,b\"", true),
            ("\"x\", W/\"a,b\"", true),
            ("\"a\", b\"", false),
            ("a,b", false),
        ] {
            let mut request = Fields::new();
            request.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            assert_eq!(
                if_none_match(&request, Some((&stored).into())),
                Some(want),
                "{value}"
            );
        }
        assert_eq!(if_none_match(&Fields::new(), Some((&stored).into())), None);
    }

    #[test]
    fn a_backslash_in_a_tag_escapes_nothing() {
        let stored = HeaderValue::from_static(r#""a""#);
        let mut request = Fields::new();
        let both = HeaderValue::from_static(r#""a", "b""#);
        request.insert(header::IF_NONE_MATCH, both.clone());
        request.insert(header::IF_MATCH, both);
        assert_eq!(if_none_match(&request, Some((&stored).into())), Some(true));
        assert_eq!(if_match(&request, Some((&stored).into())), Some(true));
    }
}
