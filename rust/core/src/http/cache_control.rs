//! `Cache-Control` on requests and responses (RFC 9111 §5.2), `Pragma` (§5.4), targeted fields (RFC 9213), and
//! `Surrogate-Control` (Edge Architecture Specification §2.2).

use crate::http::{FieldName, FieldValue, Fields, header};
use smallvec::SmallVec;

use super::{
    is_token_byte, list,
    structured::{self, Bare},
};

/// Larger numbers of seconds count as this (RFC 9111 §1.2.2).
pub const MOST_SECONDS: u32 = 1 << 31;

/// The directives of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestDirectives {
    /// RFC 9111 §5.2.1.4, or `Pragma: no-cache` without a `Cache-Control` (§5.4).
    pub no_cache: bool,
    /// RFC 9111 §5.2.1.5.
    pub no_store: bool,
    /// RFC 9111 §5.2.1.7: 504 rather than a request to the origin.
    pub only_if_cached: bool,
    /// RFC 9111 §5.2.1.6.
    pub no_transform: bool,
    /// Seconds (RFC 9111 §5.2.1.1); the smallest of several, and 0 if it is not a number.
    pub max_age: Option<u32>,
    /// Seconds (RFC 9111 §5.2.1.3); the largest of several, and [`MOST_SECONDS`] if it is not a number.
    pub min_fresh: Option<u32>,
    /// `Some(None)`: any staleness.
    pub max_stale: Option<Option<u32>>,
    /// Seconds (RFC 5861 §4); the smallest of several, and 0 if it is not a number.
    pub stale_if_error: Option<u32>,
}

impl RequestDirectives {
    /// Reads all lines of `Cache-Control`; only if there is none, `Pragma`.
    pub fn parse(headers: &Fields) -> Self {
        let mut found = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            if headers.contains_key(header::PRAGMA) {
                let lines = headers.get_all(header::PRAGMA).iter();
                found.no_cache = lines
                    .flat_map(|line| list(line.as_bytes()))
                    .any(|member| member.eq_ignore_ascii_case(b"no-cache"));
            }
            return found;
        }
        for line in headers.get_all(header::CACHE_CONTROL) {
            for (name, argument) in directives(line.as_bytes()) {
                let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                if is("no-cache") {
                    found.no_cache = true;
                } else if is("no-store") {
                    found.no_store = true;
                } else if is("only-if-cached") {
                    found.only_if_cached = true;
                } else if is("no-transform") {
                    found.no_transform = true;
                } else if is("max-age") {
                    // An invalid number counts as the strictest.
                    smaller(&mut found.max_age, argument.and_then(seconds).unwrap_or(0));
                } else if is("min-fresh") {
                    let given = argument.and_then(seconds).unwrap_or(MOST_SECONDS);
                    found.min_fresh = Some(found.min_fresh.map_or(given, |known| known.max(given)));
                } else if is("max-stale") {
                    match argument {
                        None => found.max_stale = found.max_stale.or(Some(None)),
                        // The strictest of several; an invalid one allows nothing.
                        Some(argument) => {
                            let allowed = seconds(argument).unwrap_or(0);
                            let known = found.max_stale.flatten().unwrap_or(allowed);
                            found.max_stale = Some(Some(allowed.min(known)));
                        }
                    }
                } else if is("stale-if-error") {
                    let allowed = argument.and_then(seconds).unwrap_or(0);
                    smaller(&mut found.stale_if_error, allowed);
                }
            }
        }
        found
    }
}

/// The directives of a response for a shared cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseDirectives {
    /// RFC 9111 §5.2.2.5.
    pub no_store: bool,
    /// Without field names.
    pub no_cache: bool,
    /// Without field names.
    pub private: bool,
    /// RFC 9111 §5.2.2.9.
    pub public: bool,
    /// RFC 9111 §5.2.2.2: never served stale.
    pub must_revalidate: bool,
    /// RFC 9111 §5.2.2.8: `must-revalidate` for shared caches.
    pub proxy_revalidate: bool,
    /// RFC 9111 §5.2.2.3: stored only if the cache knows the meaning of the status.
    pub must_understand: bool,
    /// RFC 8246 §2.
    pub immutable: bool,
    /// RFC 9111 §5.2.2.6.
    pub no_transform: bool,
    /// Seconds (RFC 9111 §5.2.2.1).
    pub max_age: Option<u32>,
    /// Seconds (RFC 9111 §5.2.2.10): replaces `max_age` in a shared cache.
    pub s_maxage: Option<u32>,
    /// Seconds after the response became stale (RFC 5861 §3).
    pub stale_while_revalidate: Option<u32>,
    /// Seconds after the response became stale (RFC 5861 §4).
    pub stale_if_error: Option<u32>,
    /// From a targeted field: `Expires` and `Cache-Control` do not count (RFC 9213 §2.2).
    pub targeted: bool,
    fields: SmallVec<[FieldName; 2]>,
}

impl ResponseDirectives {
    /// Reads the first of `targets` that is present, valid and not empty, alone; otherwise `Cache-Control`.
    pub fn parse(headers: &Fields, targets: &[FieldName]) -> Self {
        for target in targets {
            if headers.contains_key(target) {
                let found = if *target == header::SURROGATE_CONTROL {
                    Self::surrogate(headers, target)
                } else {
                    Self::targeted(headers, target)
                };
                if let Some(found) = found {
                    return found;
                }
            }
        }
        let mut found = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            for member in list(line.as_bytes()) {
                let (name, argument) = directive(member);
                found.take(name, argument);
                found.take_malformed(member);
            }
        }
        found
    }

    fn targeted(headers: &Fields, target: &FieldName) -> Option<Self> {
        let mut found = Self {
            targeted: true,
            ..Self::default()
        };
        let lines = headers.get_all(target).iter();
        let members = structured::dictionary(lines.map(FieldValue::as_bytes))?;
        for &(name, value) in &members {
            match value {
                Bare::True => found.take(name, None),
                Bare::Integer(text) => found.take(name, Some(text)),
                // `?0` is as if it were not there.
                Bare::False => {}
                Bare::String(names) if is_any(name, &NAMING) => found.take(name, Some(names)),
                // With an argument of another type a directive permits nothing, and forbids what it forbids with any.
                Bare::String(_) | Bare::Other if is_any(name, &PERMITTING) => {}
                Bare::String(_) | Bare::Other => found.take(name, None),
            }
        }
        (!members.is_empty()).then_some(found)
    }

    /// Like `Cache-Control`, except `max-age=N+M`: M more seconds for which it may be served stale.
    fn surrogate(headers: &Fields, target: &FieldName) -> Option<Self> {
        let mut found = Self {
            targeted: true,
            ..Self::default()
        };
        let mut any = false;
        for line in headers.get_all(target) {
            for member in list(line.as_bytes()) {
                let (name, argument) = directive(member);
                any = true;
                found.take_malformed(member);
                let plus = argument.and_then(|text| text.iter().position(|&byte| byte == b'+'));
                match (argument, plus) {
                    (Some(text), Some(plus)) if name.eq_ignore_ascii_case(b"max-age") => {
                        found.take(name, text.get(..plus));
                        found.take(b"stale-while-revalidate", text.get(plus + 1..));
                    }
                    _ => found.take(name, argument),
                }
            }
        }
        any.then_some(found)
    }

    /// Fields that may not be sent from the store without validation: those that `no-cache="…"` and `private="…"` name.
    pub fn unshared_fields(&self) -> impl Iterator<Item = &FieldName> {
        self.fields.iter()
    }

    /// A member that is none by the grammar (§5.2), as `private; max-age=0` or `no-store =1`, allows nothing. Its words
    /// forbid all the same: a page that was meant to be private is not shared for a wrong separator.
    fn take_malformed(&mut self, member: &[u8]) {
        if is_well_formed(member) {
            return;
        }
        for word in member.split(|&byte| !is_token_byte(byte)) {
            self.no_store |= word.eq_ignore_ascii_case(b"no-store");
            self.no_cache |= word.eq_ignore_ascii_case(b"no-cache");
            self.private |= word.eq_ignore_ascii_case(b"private");
        }
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") || is("private") {
            let names: SmallVec<[FieldName; 2]> = argument
                .map(|argument| {
                    list(argument)
                        .filter_map(|name| FieldName::from_bytes(name).ok())
                        .collect()
                })
                .unwrap_or_default();
            if !names.is_empty() {
                self.fields.extend(names);
            } else if is("private") {
                self.private = true;
            } else {
                self.no_cache = true;
            }
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("immutable") {
            self.immutable = true;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if is("max-age") {
            // §4.2.1: an invalid value makes the response stale.
            smaller(&mut self.max_age, argument.and_then(seconds).unwrap_or(0));
        } else if is("s-maxage") {
            smaller(&mut self.s_maxage, argument.and_then(seconds).unwrap_or(0));
        } else if is("stale-while-revalidate") {
            smaller(
                &mut self.stale_while_revalidate,
                argument.and_then(seconds).unwrap_or(0),
            );
        } else if is("stale-if-error") {
            smaller(
                &mut self.stale_if_error,
                argument.and_then(seconds).unwrap_or(0),
            );
        }
    }
}

/// Directives whose argument is a list of fields (RFC 9111 §5.2.2.4, §5.2.2.7), in a targeted field a string.
const NAMING: [&[u8]; 2] = [b"no-cache", b"private"];

/// Directives that let a cache do more than it might without them.
const PERMITTING: [&[u8]; 3] = [b"public", b"immutable", b"must-understand"];

fn is_any(name: &[u8], known: &[&[u8]]) -> bool {
    known.contains(&name)
}

fn smaller(known: &mut Option<u32>, found: u32) {
    *known = Some(known.map_or(found, |known| known.min(found)));
}

/// delta-seconds (§1.2.2); nothing but digits.
fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0u64, |n, digit| {
        n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(
        u32::try_from(seconds)
            .unwrap_or(MOST_SECONDS)
            .min(MOST_SECONDS),
    )
}

/// Names and arguments; quotes around an argument are removed.
fn directives(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    list(line).map(directive)
}

fn directive(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    match member.iter().position(|&byte| byte == b'=') {
        None => (member, None),
        Some(at) => {
            let (name, argument) = member.split_at(at);
            let argument = argument.get(1..).unwrap_or_default();
            // White space around `=` is not allowed: a name that contains it is not a known name.
            (name, Some(unquoted(argument).unwrap_or(argument)))
        }
    }
}

fn unquoted(argument: &[u8]) -> Option<&[u8]> {
    argument.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// `token [ "=" ( token / quoted-string ) ]` (RFC 9111 §5.2).
fn is_well_formed(member: &[u8]) -> bool {
    let is_token = |text: &[u8]| text.iter().all(|&byte| is_token_byte(byte));
    let mut halves = member.splitn(2, |&byte| byte == b'=');
    halves.next().is_none_or(is_token)
        && halves
            .next()
            .is_none_or(|argument| is_token(argument) || unquoted(argument).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn response(fields: &[(&'static str, &str)]) -> ResponseDirectives {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        ResponseDirectives::parse(&headers, &[header::CDN_CACHE_CONTROL.into()])
    }

    #[test]
    fn numbers_are_read_as_rfc_9111_says() {
        for (value, want) in [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=60, max-age=30", Some(30)),
            ("max-age=-1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age=99999999999999", Some(MOST_SECONDS)),
            ("x=\"max-age=60\"", None),
            ("x, ,max-age=5", Some(5)),
            ("max-age =60", None),
        ] {
            assert_eq!(
                response(&[("cache-control", value)]).max_age,
                want,
                "{value}"
            );
        }
    }

    #[test]
    fn the_words_of_a_malformed_member_forbid_and_allow_nothing() {
        for (value, no_store, no_cache, private) in [
            ("private; max-age=60", false, false, true),
            ("max-age=60; Private", false, false, true),
            ("no-store;", true, false, false),
            ("no-store =1", true, false, false),
            ("no-cache no-store", true, true, false),
            ("max-age=60; no-cache=\"set-cookie\"", false, true, false),
            ("x=\"private, no-store", true, false, true),
            ("x=\"private, no-store\"", false, false, false),
            ("private=\"x-a\"", false, false, false),
            ("x=private", false, false, false),
            ("max-age=60; public", false, false, false),
            ("unprivate; no-stored", false, false, false),
        ] {
            let found = response(&[("cache-control", value)]);
            assert_eq!(
                (found.no_store, found.no_cache, found.private),
                (no_store, no_cache, private),
                "{value}"
            );
            assert!(!found.public, "{value}");
        }
    }

    #[test]
    fn qualified_forms_set_fields_aside() {
        let found = response(&[(
            "cache-control",
            "no-cache=\"set-cookie, x-a\", private=\"x-b\"",
        )]);
        assert!(!found.no_cache && !found.private);
        let names: Vec<_> = found.unshared_fields().map(FieldName::as_str).collect();
        assert_eq!(names, ["set-cookie", "x-a", "x-b"]);
    }

    #[test]
    fn a_targeted_field_speaks_alone_when_it_is_valid() {
        let both = response(&[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=60"),
        ]);
        assert_eq!(
            (both.no_store, both.max_age, both.targeted),
            (false, Some(60), true)
        );
        let broken = response(&[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=60, &"),
        ]);
        assert_eq!((broken.no_store, broken.targeted), (true, false));
        let lines = response(&[
            ("cdn-cache-control", "max-age=1, max-age=2"),
            ("cdn-cache-control", "max-age=60"),
        ]);
        assert_eq!(lines.max_age, Some(60));
        let empty = response(&[("cache-control", "max-age=1"), ("cdn-cache-control", "")]);
        assert_eq!((empty.max_age, empty.targeted), (Some(1), false));
    }

    #[test]
    fn an_argument_of_another_type_permits_nothing_and_forbids_what_the_directive_forbids() {
        let targeted = |value| response(&[("cdn-cache-control", value)]);
        let named = targeted("no-cache=\"set-cookie, x-a\", private=\"x-b\"");
        let names: Vec<_> = named.unshared_fields().map(FieldName::as_str).collect();
        assert_eq!(names, ["set-cookie", "x-a", "x-b"]);
        assert!(!named.no_cache && !named.private);
        for value in ["private=x-b", "private=(\"x-b\")", "private=\"\""] {
            assert!(targeted(value).private, "{value}");
        }
        assert!(targeted("no-cache=x-b").no_cache);
        assert!(targeted("no-store=\"x\"").no_store);
        assert!(targeted("must-revalidate=x").must_revalidate);
        for value in ["max-age=\"60\"", "max-age=60.0", "max-age=x", "max-age=@60"] {
            assert_eq!(targeted(value).max_age, Some(0), "{value}");
        }
        let nothing = targeted("public=x, immutable=\"\", must-understand=1.0, private=?0");
        assert!(!nothing.public && !nothing.immutable && !nothing.must_understand);
        assert!(!nothing.private);
    }

    #[test]
    fn surrogate_control_is_read_in_its_own_way() {
        let mut headers = Fields::new();
        for (name, value) in [
            ("cache-control", "no-store"),
            ("surrogate-control", "Max-Age=60+30, content=\"ESI/1.0\""),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let found = ResponseDirectives::parse(&headers, &[header::SURROGATE_CONTROL.into()]);
        assert_eq!(
            (found.no_store, found.max_age, found.stale_while_revalidate),
            (false, Some(60), Some(30))
        );
    }

    #[test]
    fn requests_are_read() {
        let mut headers = Fields::new();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-stale, min-fresh=5, max-age=0, only-if-cached"),
        );
        let found = RequestDirectives::parse(&headers);
        assert_eq!(found.max_stale, Some(None));
        assert_eq!(
            (found.min_fresh, found.max_age, found.only_if_cached),
            (Some(5), Some(0), true)
        );
        let mut headers = Fields::new();
        headers.insert(header::PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(RequestDirectives::parse(&headers).no_cache);
        for (value, want) in [
            ("max-stale=30, max-stale=10", Some(Some(10))),
            ("max-stale, max-stale=10", Some(Some(10))),
            ("max-stale=x", Some(Some(0))),
        ] {
            let mut headers = Fields::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
            let found = RequestDirectives::parse(&headers);
            assert_eq!(found.max_stale, want, "{value}");
        }
    }
}
