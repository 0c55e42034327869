//! Request fields that select a response (RFC 9111 §4.1, RFC 9110 §12.5.5).
//!
//! A hook may have read a single cookie: its selecting name is `cookie|` and the hexadecimal digits of the cookie's
//! name ([`cookie`]), which is not a valid field name.

use smallvec::SmallVec;

use crate::http::{
    FieldName, Fields, KnownSet,
    accept::{normalised_encoding, normalised_language},
    cookie as cookies, header, list, members,
};

/// A response's `Vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// No `Vary`, or an empty one: nothing selects.
    None,
    /// Never matches a later request.
    Star,
    /// Sorted, each once.
    Names(SmallVec<[FieldName; 4]>),
}

/// A response that names more fields in `Vary` is for one request only.
const MOST_NAMES: usize = 64;

/// Reads all lines. A member that is not a field name counts as `*`: it cannot be matched. So do too many names: each
/// look-up compares all of them.
pub fn of(response: &Fields) -> Vary {
    let mut names: SmallVec<[FieldName; 4]> = SmallVec::new();
    for line in response.get_all(header::VARY) {
        for member in list(line.as_bytes()) {
            match FieldName::from_bytes(member) {
                Ok(name) if member != b"*" && !name.as_str().starts_with(ONE_COOKIE) => {
                    names.push(name);
                }
                _ => return Vary::Star,
            }
        }
    }
    if names.is_empty() {
        return Vary::None;
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    if names.len() > MOST_NAMES {
        return Vary::Star;
    }
    Vary::Names(names)
}

/// Begins the selecting name of a single cookie.
const ONE_COOKIE: &str = "cookie|";

/// The selecting name of one cookie. A cookie whose name is too long for a field name selects by the whole field.
pub fn cookie(name: &str) -> FieldName {
    let mut text = String::with_capacity(ONE_COOKIE.len() + name.len() * 2);
    text.push_str(ONE_COOKIE);
    for byte in name.bytes() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    FieldName::from_bytes(text.as_bytes()).unwrap_or(FieldName::known(header::COOKIE))
}

/// The cookie of a selecting name.
pub fn cookie_of(name: &FieldName) -> Option<String> {
    let digits = name.as_str().strip_prefix(ONE_COOKIE)?.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|&[high, low]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(high)? << 4 | digit(low)?).ok()
        })
        .collect();
    String::from_utf8(bytes?).ok()
}

/// Fields that are not lists: white space and commas in them are significant.
const NO_LISTS: KnownSet = KnownSet::of(&[
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
]);

/// Fields that the edge reduces before it forwards them, so that variants are selected by the reduced values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reduced {
    /// `Accept-Encoding`, to `br`, `gzip` and `identity`.
    pub encoding: bool,
    /// `Accept-Language`, to one spelling of each meaning.
    pub language: bool,
}

/// Appends the selecting fields of a request, normalised where the meaning stays the same (§4.1): lines joined, white
/// space around members dropped, `Accept-Encoding` and `Accept-Language` in lower case, codings sorted. An absent field
/// differs from an empty one.
pub fn secondary(out: &mut Vec<u8>, names: &[FieldName], request: &Fields, reduced: Reduced) {
    for name in names {
        if *name == header::ACCEPT_ENCODING {
            if reduced.encoding {
                out.push(1);
                out.extend_from_slice(normalised_encoding(request).as_bytes());
            } else if request.contains_key(name) {
                out.push(1);
                weighted(out, name, request, true);
            }
            out.push(0);
            continue;
        }
        if *name == header::ACCEPT_LANGUAGE && request.contains_key(name) {
            out.push(1);
            match normalised_language(request).filter(|_| reduced.language) {
                Some(value) => out.extend_from_slice(value.as_bytes()),
                // Servers may read the order of equal weights as a preference (RFC 9110 §12.5.4), so it is kept.
                None => weighted(out, name, request, false),
            }
            out.push(0);
            continue;
        }
        if let Some(one) = cookie_of(name) {
            // Hooks decode names as Latin-1.
            let same = |name: &[u8]| one.chars().eq(name.iter().copied().map(char::from));
            for (_, value) in cookies::pairs(request).filter(|(name, _)| same(name)) {
                out.push(1);
                out.extend_from_slice(value);
            }
            out.push(0);
            continue;
        }
        if name.is_of(NO_LISTS) {
            for line in request.get_all(name) {
                out.push(1);
                out.extend_from_slice(line.as_bytes());
            }
            out.push(0);
            continue;
        }
        let mut lines = request.get_all(name).iter().peekable();
        if lines.peek().is_some() {
            out.push(1);
            let mut first = true;
            for member in lines.flat_map(|line| members(line.as_bytes())) {
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(member);
            }
        }
        // A field value holds no NUL.
        out.push(0);
    }
}

/// Appends the members of a list of weighted tokens in lower case, without white space and without weights of 1.
fn weighted(out: &mut Vec<u8>, name: &FieldName, request: &Fields, sort: bool) {
    let mut members: SmallVec<[SmallVec<[u8; 16]>; 8]> = request
        .get_all(name)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .map(|member| {
            let mut text: SmallVec<[u8; 16]> = member
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace())
                .map(u8::to_ascii_lowercase)
                .collect();
            for one in [&b";q=1.000"[..], b";q=1.00", b";q=1.0", b";q=1"] {
                if text.ends_with(one) {
                    text.truncate(text.len() - one.len());
                    break;
                }
            }
            text
        })
        .collect();
    if sort {
        members.sort_unstable();
        members.dedup();
    }
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn vary_is_read_from_all_lines() {
        assert_eq!(of(&request(&[])), Vary::None);
        assert_eq!(of(&request(&[("vary", "Accept, *")])), Vary::Star);
        assert_eq!(of(&request(&[("vary", "a b")])), Vary::Star);
        let names = of(&request(&[("vary", "X-B, x-a"), ("vary", "x-b")]));
        assert!(matches!(names, Vary::Names(names) if names.len() == 2));
    }

    #[test]
    fn more_names_than_the_bound_are_a_star() {
        let names = |count: usize| (0..count).map(|at| format!("x-{at}, ")).collect::<String>();
        let many = names(MOST_NAMES);
        assert!(
            matches!(of(&request(&[("vary", &many)])), Vary::Names(found) if found.len() == MOST_NAMES)
        );
        let twice = [("vary", &*many), ("vary", &*many)];
        assert!(matches!(of(&request(&twice)), Vary::Names(_)));
        assert_eq!(
            of(&request(&[("vary", &names(MOST_NAMES + 1))])),
            Vary::Star
        );
    }

    #[test]
    fn requests_match_by_meaning_not_by_spelling() {
        let names = [FieldName::from_static("x-a")];
        let key = |fields: &[(&'static str, &str)]| {
            let mut out = Vec::new();
            secondary(&mut out, &names, &request(fields), Reduced::default());
            out
        };
        assert_eq!(key(&[("x-a", "1,2")]), key(&[("x-a", "1 , 2")]));
        assert_eq!(key(&[("x-a", "1"), ("x-a", "2")]), key(&[("x-a", "1, 2")]));
        assert_ne!(key(&[("x-a", "1")]), key(&[("x-a", "2")]));
        // An empty member of a list does not count, but not every field is a list.
        assert_ne!(key(&[("x-a", "1"), ("x-a", "")]), key(&[("x-a", "1")]));
        assert_ne!(key(&[]), key(&[("x-a", "")]));
    }

    #[test]
    fn what_is_no_list_is_compared_as_it_stands() {
        let key = |value: &str| {
            let mut out = Vec::new();
            let names = [header::COOKIE].map(FieldName::known);
            secondary(
                &mut out,
                &names,
                &request(&[("cookie", value)]),
                Reduced::default(),
            );
            out
        };
        assert_eq!(key("a=1,2"), key("a=1,2"));
        assert_ne!(key("a=1,2"), key("a=1, 2"));
        assert_ne!(key("a=,1"), key("a=1"));
    }

    #[test]
    fn a_single_cookie_selects_by_its_own_values() {
        let name = cookie("Variant");
        assert_eq!(cookie_of(&name).as_deref(), Some("Variant"));
        assert_eq!(cookie_of(&header::COOKIE.into()), None);
        assert_eq!(of(&request(&[("vary", name.as_str())])), Vary::Star);
        let key = |lines: &[&str]| {
            let fields: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let mut out = Vec::new();
            secondary(
                &mut out,
                std::slice::from_ref(&name),
                &request(&fields),
                Reduced::default(),
            );
            out
        };
        assert_eq!(key(&["Variant=a; x=1"]), key(&["y=2", "Variant=a"]));
        for other in [
            &[][..],
            &["Variant="],
            &["Variant=b"],
            &["variant=a"],
            &["Variant=a; Variant=b"],
        ] {
            assert_ne!(key(&["Variant=a"]), key(other), "{other:?}");
        }
        assert_ne!(key(&[]), key(&["Variant="]));
    }

    #[test]
    fn encodings_and_languages_are_told_apart_by_meaning() {
        let names = [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE].map(FieldName::known);
        let key = |field: &'static str, value: &str, reduced: bool| {
            let mut out = Vec::new();
            let reduced = Reduced {
                encoding: reduced,
                language: reduced,
            };
            secondary(&mut out, &names, &request(&[(field, value)]), reduced);
            out
        };
        let encoding = |value| key("accept-encoding", value, false);
        assert_eq!(encoding("gzip, br"), encoding("BR;q=1.0 ,gzip"));
        assert_ne!(encoding("gzip, zstd"), encoding("gzip"));
        assert_ne!(encoding("gzip;q=0"), encoding("gzip"));
        let reduced = |value| key("accept-encoding", value, true);
        assert_eq!(reduced("gzip, deflate"), reduced("gzip"));
        assert_eq!(reduced("zstd;q=0.5, gzip"), reduced("gzip, zstd"));
        assert_ne!(reduced("gzip, zstd"), reduced("gzip"));
        let language = |value| key("accept-language", value, false);
        assert_eq!(language("en, de"), language("eN,De"));
        assert_ne!(language("en, de"), language("de, en"));
        let reduced = |value| key("accept-language", value, true);
        assert_eq!(reduced("en, de"), reduced("DE ,en;q=1.0"));
        assert_ne!(reduced("en, de;q=0.9"), reduced("de, en;q=0.9"));
    }
}
