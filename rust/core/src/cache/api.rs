//! The cache that functions use themselves: `match`, `put` and `delete` as Cloudflare Workers define them, decided by
//! the rules that serve routes (RFC 9111).
//!
//! A function's responses have keys of their own kind: the URL, then a mark that no route's key can have. So a function
//! cannot change the responses that a route serves.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use super::{
    arrival::SharedHead,
    decide::{self, Decision, OriginHealth},
    freshness::{self, Freshness},
    storable::{self, Authorization, NotStored, StoreInput},
    validate::{self, Precondition},
    vary::{self, Vary},
};
use crate::{
    admit,
    finish::{self, Partial},
    http::{
        FieldName, Fields,
        cache_control::{RequestDirectives, ResponseDirectives},
        date, header,
        range::{self, Range, RangeRequest},
    },
    plan::CachePolicy,
};

pub use super::url::{CacheUrl, PlaceError};

/// The name of the cache that `ctx.cache` is.
pub const DEFAULT: &str = "default";
/// Bytes in a cache's name.
pub const LONGEST_NAME: usize = 64;

/// Why a text is not a name of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("a cache's name must not be empty")]
    Empty,
    /// More than [`LONGEST_NAME`]; carries the length in bytes.
    #[error("a cache's name is {0} bytes long; the limit is {LONGEST_NAME}")]
    TooLong(usize),
    /// A control character, such as a line break or NUL.
    #[error("a cache's name must not contain control characters")]
    Control,
}

/// Checks the name of a function's cache: 1 to [`LONGEST_NAME`] bytes without control characters.
pub fn name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() > LONGEST_NAME {
        Err(NameError::TooLong(name.len()))
    } else if name.chars().any(char::is_control) {
        Err(NameError::Control)
    } else {
        Ok(())
    }
}

/// The policy of these caches: RFC 9111 for a shared cache, and for a response without a lifetime the one that Workers
/// give its status.
pub fn policy() -> CachePolicy {
    const MOVED: u32 = 20 * 60;
    const GONE: u32 = 3 * 60;
    CachePolicy {
        default_ttl: Some(2 * 60 * 60),
        heuristics: false,
        stale_while_revalidate: None,
        stale_if_error: None,
        negative_ttl: vec![
            (StatusCode::FOUND, MOVED),
            (StatusCode::SEE_OTHER, MOVED),
            (StatusCode::NOT_FOUND, GONE),
            (StatusCode::GONE, GONE),
        ],
        ..CachePolicy::default()
    }
}

/// A response that cannot be stored: a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutRefused {
    /// The request's method is not GET.
    #[error("put: the request's method is {0}; only responses to GET can be stored")]
    Method(Method),
    /// The status is 206.
    #[error("put: a 206 is a part of a response; store the whole one, match() cuts ranges from it")]
    Partial,
    /// `Vary: *`, which no later request matches (RFC 9111 §4.1).
    #[error(
        "put: the response says Vary: *, so it could never be matched; name the fields instead"
    )]
    VaryStar,
}

/// A response in its stored form.
#[derive(Debug)]
pub struct Kept {
    /// The header section as `match` will send it.
    pub head: SharedHead,
    /// The times from which a later `match` decides whether it may still be sent.
    pub freshness: Freshness,
    /// The fields that select among variants, sorted.
    pub vary: SmallVec<[FieldName; 4]>,
}

/// Decides about a response given to `put`. `Err`: a mistake of the caller; `Ok(Err(…))`: a response that forbids
/// storing, or could never be matched.
pub fn put(
    method: &Method,
    status: StatusCode,
    mut headers: Fields,
    length: u64,
    policy: &CachePolicy,
    now: u64,
) -> Result<Result<Kept, NotStored>, PutRefused> {
    if method != Method::GET {
        return Err(PutRefused::Method(method.clone()));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        return Err(PutRefused::Partial);
    }
    let names = match vary::of(&headers) {
        Vary::Star => return Err(PutRefused::VaryStar),
        Vary::None => SmallVec::new(),
        Vary::Names(names) => names,
    };
    let directives = ResponseDirectives::parse(&headers, &policy.targets);
    let input = StoreInput {
        method,
        request_directives: &RequestDirectives::default(),
        // The function has seen the request and decided to share the response.
        authorization: Authorization::None,
        status,
        response: &headers,
        directives: &directives,
        policy,
        // The function chose the URL.
        is_static: false,
        now,
    };
    if let Err(why) = storable::storable(&input) {
        return Ok(Err(why));
    }
    let freshness = freshness::freshness(status, &headers, &directives, policy, now, now);
    // Nothing revalidates these responses, so only a fresh one is of use.
    if !reusable(&freshness, policy, now) {
        return Ok(Err(NotStored::NotReusable));
    }
    admit::strip_hop_by_hop(&mut headers);
    let mut head = SharedHead::take(&mut headers, &directives, policy);
    let headers = &mut head.headers;
    if !headers.contains_key(header::DATE) {
        // Later ages count from this date.
        headers.insert(header::DATE, date::format(now));
    }
    if !finish::bodiless(status) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Ok(Kept {
        head,
        freshness,
        vary: names,
    }))
}

/// True if `match` may answer with it: only while it is fresh. As in Workers, functions get no stale responses.
pub fn reusable(stored: &Freshness, policy: &CachePolicy, now: u64) -> bool {
    // There is no origin whose health could matter.
    let none = OriginHealth::Healthy;
    decide::decide(stored, &RequestDirectives::default(), policy, none, now) == Decision::Fresh
}

/// The response that `match` makes of a stored one.
#[derive(Debug)]
pub struct Reply {
    /// The stored status, or 206, 304, 412 or 416 by the request's conditions and ranges.
    pub status: StatusCode,
    /// The stored fields with `Age`, changed for a 206, 304, 412 or 416.
    pub headers: Fields,
    /// The bytes to send, as positions in the stored body.
    pub content: ReplyContent,
}

/// The body of a [`Reply`]: the caller cuts it from the stored one.
#[derive(Debug, PartialEq, Eq)]
pub enum ReplyContent {
    /// No bytes: 304, 412, 416, and statuses without content.
    Empty,
    /// The whole stored body.
    Whole,
    /// One range of it (206).
    Range(Range),
    /// `multipart/byteranges`.
    Parts {
        /// For each part the boundary with its fields, and the range that follows them.
        parts: Vec<(Bytes, Range)>,
        /// The closing boundary, sent after the last part.
        end: Bytes,
    },
}

/// Answers the request's conditions (RFC 9110 §13) and ranges (§14) from a stored response. `random` as for
/// [`finish::partial`].
pub fn reply(
    request: &Fields,
    status: StatusCode,
    stored: &Fields,
    length: u64,
    age: u64,
    random: u128,
) -> Reply {
    let mut headers = stored.clone();
    headers.insert(header::AGE, HeaderValue::from(age));
    let empty = |status, headers| Reply {
        status,
        headers,
        content: ReplyContent::Empty,
    };
    match validate::precondition(&Method::GET, request, status, stored) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            return empty(StatusCode::NOT_MODIFIED, headers);
        }
        Precondition::Failed => return empty(StatusCode::PRECONDITION_FAILED, Fields::new()),
    }
    let field =
        range::of(request).filter(|_| status == StatusCode::OK && range::if_range(request, stored));
    match field.map(|field| range::parse(field, length)) {
        None | Some(RangeRequest::None) => {}
        Some(RangeRequest::Unsatisfiable) => {
            return empty(
                StatusCode::RANGE_NOT_SATISFIABLE,
                finish::unsatisfiable(length),
            );
        }
        Some(RangeRequest::Satisfiable(ranges)) => {
            let content = match finish::partial(&mut headers, &ranges, length, random) {
                None => None,
                Some(Partial::Single(range)) => Some(ReplyContent::Range(range)),
                Some(Partial::Multi { parts, end, .. }) => Some(ReplyContent::Parts { parts, end }),
            };
            if let Some(content) = content {
                return Reply {
                    status: StatusCode::PARTIAL_CONTENT,
                    headers,
                    content,
                };
            }
        }
    }
    let content = if finish::bodiless(status) {
        ReplyContent::Empty
    } else {
        ReplyContent::Whole
    };
    Reply {
        status,
        headers,
        content,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        cache::key::{Base, FUNCTION, Key},
        plan::Scheme,
    };

    const NOW: u64 = 1_700_000_000;

    fn fields(lines: &[(&'static str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn put_at(
        status: u16,
        lines: &[(&'static str, &str)],
    ) -> Result<Result<Kept, NotStored>, PutRefused> {
        let status = StatusCode::from_u16(status).unwrap();
        put(&Method::GET, status, fields(lines), 5, &policy(), NOW)
    }

    #[test]
    fn a_url_has_one_key_in_each_cache() {
        let key = |url: &str, cache: &str| CacheUrl::parse(url).unwrap().key(cache);
        let one = key("https://WWW.example.com:443/a/../b?x=1#part", "default");
        assert_eq!(one, key("https://www.example.com/b?x=1", "default"));
        for (url, cache) in [
            ("http://www.example.com/b?x=1", "default"),
            ("https://www.example.com:8443/b?x=1", "default"),
            ("https://www.example.com/b?x=2", "default"),
            ("https://www.example.com/b?x=1", "other"),
        ] {
            assert_ne!(one, key(url, cache), "{url} in {cache}");
        }
        for (url, why) in [
            ("/a", PlaceError::NotAbsolute),
            ("a", PlaceError::NotAbsolute),
            ("ftp://h/a", PlaceError::Scheme),
            ("https://me:pw@h/a", PlaceError::UserInfo),
            ("https://h/%zz", PlaceError::Path),
        ] {
            assert_eq!(CacheUrl::parse(url), Err(why), "{url}");
        }
    }

    #[test]
    fn no_key_of_a_function_is_a_key_of_a_route() {
        let place = CacheUrl::parse("http://h/a").unwrap();
        let base = Base {
            scheme: Scheme::Http,
            host: "h",
            port: None,
        };
        let route = Key::of(Vec::new(), base, "/a", None, &CachePolicy::default());
        let (own, route) = (place.key("default"), route.url());
        let own = own.url();
        assert!(own.starts_with(route), "it is found by host and path");
        // A route's key ends there, or goes on with a dimension of another kind or the zero before a variant's nonce.
        assert_eq!(own.get(route.len()), Some(&FUNCTION));
        assert!(!b"vchket\0".contains(&FUNCTION));
    }

    #[test]
    fn put_honours_what_the_response_says_of_itself() {
        for (status, lines, want) in [
            (200, &[("cache-control", "max-age=60")][..], Ok(60)),
            (200, &[("cache-control", "s-maxage=10, max-age=60")], Ok(10)),
            (200, &[], Ok(7200)),
            (404, &[], Ok(180)),
            (302, &[], Ok(1200)),
            (500, &[], Err(NotStored::Status)),
            (
                304,
                &[("cache-control", "max-age=60")],
                Err(NotStored::Status),
            ),
            (
                200,
                &[("cache-control", "no-store")],
                Err(NotStored::NoStore),
            ),
            (
                200,
                &[("cache-control", "private")],
                Err(NotStored::Private),
            ),
            (
                200,
                &[("cache-control", "max-age=0")],
                Err(NotStored::NotReusable),
            ),
            (
                200,
                &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
                Err(NotStored::NotReusable),
            ),
            (
                200,
                &[("cache-control", "no-cache"), ("etag", "\"a\"")],
                Err(NotStored::NotReusable),
            ),
            (
                200,
                &[("cache-control", "max-age=60"), ("age", "60")],
                Err(NotStored::NotReusable),
            ),
            (
                200,
                &[("set-cookie", "a=b"), ("cache-control", "max-age=60")],
                Err(NotStored::SetCookie),
            ),
            (
                200,
                &[
                    ("set-cookie", "a=b"),
                    ("cache-control", "private=\"Set-Cookie\", max-age=60"),
                ],
                Ok(60),
            ),
        ] {
            let got = put_at(status, lines).unwrap();
            assert_eq!(
                got.map(|kept| kept.freshness.lifetime),
                want,
                "{status} {lines:?}"
            );
        }
        let kept = put_at(
            200,
            &[
                ("set-cookie", "a=b"),
                ("cache-control", "private=Set-Cookie"),
            ],
        );
        assert!(
            !kept
                .unwrap()
                .unwrap()
                .head
                .headers
                .contains_key("set-cookie")
        );
    }

    #[test]
    fn put_refuses_what_could_never_be_matched() {
        assert_eq!(put_at(206, &[]).unwrap_err(), PutRefused::Partial);
        assert_eq!(
            put_at(200, &[("vary", "accept, *")]).unwrap_err(),
            PutRefused::VaryStar
        );
        let posted = put(
            &Method::POST,
            StatusCode::OK,
            Fields::new(),
            0,
            &policy(),
            NOW,
        );
        assert_eq!(posted.unwrap_err(), PutRefused::Method(Method::POST));
    }

    #[test]
    fn conditions_and_ranges_are_answered_from_what_is_stored() {
        let stored = fields(&[("etag", "\"a\""), ("content-type", "text/plain")]);
        let answer = |lines: &[(&'static str, &str)]| {
            let reply = reply(&fields(lines), StatusCode::OK, &stored, 10, 3, 7);
            (reply.status.as_u16(), reply.content)
        };
        assert_eq!(answer(&[]), (200, ReplyContent::Whole));
        assert_eq!(
            answer(&[("if-none-match", "W/\"a\"")]),
            (304, ReplyContent::Empty)
        );
        assert_eq!(
            answer(&[("if-none-match", "\"b\"")]),
            (200, ReplyContent::Whole)
        );
        assert_eq!(
            answer(&[("range", "bytes=2-4")]),
            (206, ReplyContent::Range(Range { first: 2, last: 4 }))
        );
        assert_eq!(
            answer(&[("range", "bytes=20-")]),
            (416, ReplyContent::Empty)
        );
        assert_eq!(
            answer(&[("range", "bytes=2-4"), ("if-range", "\"b\"")]),
            (200, ReplyContent::Whole)
        );
    }
}
