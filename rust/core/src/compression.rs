//! Compression of responses on their way to a viewer (phase 15): which ones, in which coding, and with which fields.
//!
//! A decision about the head alone. The bytes are compressed by threads of the crate `compress`.

use http::{HeaderValue, StatusCode};

use crate::{
    cache::slices::ContentRange,
    finish::may_have_content,
    http::{
        Fields, KnownSet,
        coding::{self, ContentCoding},
        etag, header, list, media_type, vary,
    },
};

/// Shorter content is sent as it is: it fits into one packet either way.
const LEAST_BYTES: u64 = 1_000;
/// Longer content is sent as it is, as CloudFront does: it would keep a thread for seconds.
const MOST_BYTES: u64 = 10_000_000;

/// Why a response is sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCompressed {
    /// It has no content, or content that is not a representation of its own (RFC 9110 §15).
    #[error("a response of this status has no content, or a part")]
    Status,
    /// `Content-Range`: the range counts bytes of the content as it is (RFC 9110 §14.4).
    #[error("it is a part")]
    Part,
    /// A part of content that may be coded as a whole.
    #[error("it is a part of a response that may be compressed")]
    PartOfWhole,
    /// `Content-Encoding`: the origin has coded it.
    #[error("it is coded already")]
    Coded,
    /// `no-transform` of the response (RFC 9111 §5.2.2.6).
    #[error("no-transform forbids it")]
    NoTransform,
    /// `no-transform` of the request (RFC 9111 §5.2.1.6).
    #[error("no-transform of the request forbids it")]
    RequestNoTransform,
    /// It sets a cookie: its length would betray a secret beside text that the client chose (BREACH).
    #[error("it sets a cookie")]
    SetCookie,
    /// A format that is compressed already, or none that is known to shrink.
    #[error("its type does not shrink")]
    Type,
    /// The coding would take more than it saves.
    #[error("it is too short")]
    Short,
    /// It would keep a thread for too long.
    #[error("it is too long")]
    Long,
    /// The client takes no coding that the route makes, or likes the identity better.
    #[error("the request accepts no coding of the route before the identity")]
    NotAccepted,
    /// As many responses are being compressed as may, or memory is short.
    #[error("the edge is busy")]
    Busy,
}

impl NotCompressed {
    /// True if another request might get the same response in another coding. One that the origin coded is fetched anew
    /// for a client that does not take its coding.
    fn may_differ(self) -> bool {
        matches!(
            self,
            Self::NotAccepted
                | Self::Busy
                | Self::PartOfWhole
                | Self::RequestNoTransform
                | Self::Coded
        )
    }
}

/// The outcome for a response: a coding, or the reason against.
pub type Compressed = Result<ContentCoding, NotCompressed>;

/// Decides about a response of a route that compresses. `length`: of its content, if known.
pub fn decide(
    request: &Fields,
    status: StatusCode,
    response: &Fields,
    length: Option<u64>,
) -> Compressed {
    if status == StatusCode::PARTIAL_CONTENT
        && let Some(part) = ContentRange::of(response)
    {
        // The fields that the whole would have (RFC 9110 §15.3.7).
        shrinks(response, Some(part.complete))?;
        return Err(NotCompressed::PartOfWhole);
    }
    compressible(status, response, length)?;
    if no_transform(request) {
        return Err(NotCompressed::RequestNoTransform);
    }
    preferred(request).ok_or(NotCompressed::NotAccepted)
}

/// The part of the decision that is the same for every request: only such a response has coded variants in the store.
pub fn compressible(
    status: StatusCode,
    response: &Fields,
    length: Option<u64>,
) -> Result<(), NotCompressed> {
    if !may_have_content(status)
        || status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::RANGE_NOT_SATISFIABLE
    {
        return Err(NotCompressed::Status);
    }
    if response.contains_key(header::CONTENT_RANGE) {
        return Err(NotCompressed::Part);
    }
    shrinks(response, length)
}

/// The part of the decision that is about the content as a whole.
fn shrinks(response: &Fields, length: Option<u64>) -> Result<(), NotCompressed> {
    if response.contains_key(header::CONTENT_ENCODING) {
        return Err(NotCompressed::Coded);
    }
    if no_transform(response) {
        return Err(NotCompressed::NoTransform);
    }
    if response.contains_key(header::SET_COOKIE) {
        return Err(NotCompressed::SetCookie);
    }
    let mut kinds = response.get_all(header::CONTENT_TYPE).iter();
    let kind = kinds
        .next()
        .map(|kind| media_type::shrinks(kind.as_bytes()));
    if kind != Some(true) || kinds.next().is_some() {
        return Err(NotCompressed::Type);
    }
    match length {
        Some(..LEAST_BYTES) => Err(NotCompressed::Short),
        Some(length) if length > MOST_BYTES => Err(NotCompressed::Long),
        _ => Ok(()),
    }
}

/// The coding in which a request takes a stored response, and `None` for the response as it is. A range counts the
/// bytes of the response as it is, in whatever state its variants are.
pub fn wanted(request: &Fields) -> Option<ContentCoding> {
    if request.contains_key(header::RANGE) || no_transform(request) {
        return None;
    }
    preferred(request)
}

/// Fits the head of a stored response to its variant in a coding, which has this many bytes.
pub fn coded(coding: ContentCoding, length: u64, headers: &mut Fields) {
    apply(Ok(coding), headers);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// The coding that a request likes best; `None` if that is the identity.
fn preferred(request: &Fields) -> Option<ContentCoding> {
    let best = coding::accepted(request).first().copied();
    best.filter(|coding| *coding != ContentCoding::Identity)
}

/// True if `Cache-Control` has `no-transform`, with or without an argument.
pub(crate) fn no_transform(fields: &Fields) -> bool {
    fields.get_all(header::CACHE_CONTROL).iter().any(|line| {
        list(line.as_bytes()).any(|member| {
            let name = member.split(|&byte| byte == b'=').next();
            name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
        })
    })
}

/// Fields that describe the bytes of the content before it was coded.
const OF_THE_BYTES: KnownSet = KnownSet::of(&[
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    header::DIGEST,
    header::CONTENT_DIGEST,
    header::REPR_DIGEST,
    header::CONTENT_MD5,
]);

/// Fits the head to the decision: the fields of a coded response, and `Vary` on each that might have been coded (RFC
/// 9110 §12.5.5).
pub fn apply(decision: Compressed, headers: &mut Fields) {
    match decision {
        Ok(coding) => {
            headers.remove_all(OF_THE_BYTES);
            if let Some(value) = coding.field() {
                headers.insert(header::CONTENT_ENCODING, value);
            }
            etag::weaken(headers);
            vary::add(headers, header::ACCEPT_ENCODING);
        }
        Err(why) if why.may_differ() => vary::add(headers, header::ACCEPT_ENCODING),
        Err(_) => {}
    }
}

/// Fits the head of a 304: the client may hold the coded content, and must not take its tag for that of the bytes as
/// they are, with which a range could be combined. `Vary` is that of the whole (RFC 9110 §15.4.5), whose type is not
/// known here.
pub fn not_modified(request: &Fields, headers: &mut Fields) {
    if preferred(request).is_some() {
        etag::weaken(headers);
    }
    vary::add(headers, header::ACCEPT_ENCODING);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
        let lines = lines.iter();
        lines
            .map(|&(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    const TAKES: (&str, &str) = ("accept-encoding", "gzip, br;q=0.9, zstd;q=0.5");

    #[test]
    fn a_response_is_compressed_unless_something_forbids_it() {
        use NotCompressed::{
            Coded, Long, NoTransform, NotAccepted, Part, PartOfWhole, RequestNoTransform,
            SetCookie, Short, Status, Type,
        };
        let gzip = Ok(ContentCoding::Gzip);
        for (status, response, request, length, want) in [
            (200, &[HTML][..], &[TAKES][..], Some(1_000), gzip),
            (200, &[HTML], &[TAKES], None, gzip),
            (404, &[HTML], &[TAKES], Some(5_000), gzip),
            (200, &[HTML], &[TAKES], Some(999), Err(Short)),
            (200, &[HTML], &[TAKES], Some(10_000_000), gzip),
            (200, &[HTML], &[TAKES], Some(10_000_001), Err(Long)),
            (200, &[HTML], &[], None, Err(NotAccepted)),
            (
                200,
                &[HTML],
                &[("accept-encoding", "identity, br;q=0.5")],
                None,
                Err(NotAccepted),
            ),
            (
                200,
                &[HTML],
                &[("accept-encoding", "br;q=0")],
                None,
                Err(NotAccepted),
            ),
            (
                200,
                &[HTML],
                &[("accept-encoding", "identity;q=0, zstd")],
                None,
                Ok(ContentCoding::Zstd),
            ),
            (
                200,
                &[HTML],
                &[("accept-encoding", "*")],
                None,
                Ok(ContentCoding::Brotli),
            ),
            (204, &[HTML], &[TAKES], None, Err(Status)),
            (205, &[HTML], &[TAKES], None, Err(Status)),
            (206, &[HTML], &[TAKES], None, Err(Status)),
            (
                206,
                &[HTML, ("content-range", "bytes 0-9/5000")],
                &[TAKES],
                Some(10),
                Err(PartOfWhole),
            ),
            (
                206,
                &[HTML, ("content-range", "bytes 0-9/500")],
                &[TAKES],
                Some(10),
                Err(Short),
            ),
            (304, &[HTML], &[TAKES], None, Err(Status)),
            (416, &[HTML], &[TAKES], None, Err(Status)),
            (
                200,
                &[HTML, ("content-range", "bytes 0-1/2")],
                &[TAKES],
                None,
                Err(Part),
            ),
            (
                200,
                &[HTML, ("content-encoding", "gzip")],
                &[TAKES],
                None,
                Err(Coded),
            ),
            (
                200,
                &[HTML, ("content-encoding", "aes128gcm")],
                &[TAKES],
                None,
                Err(Coded),
            ),
            (
                200,
                &[HTML, ("cache-control", "public, no-transform")],
                &[TAKES],
                None,
                Err(NoTransform),
            ),
            (
                200,
                &[HTML, ("cache-control", "No-Transform=x")],
                &[TAKES],
                None,
                Err(NoTransform),
            ),
            (
                200,
                &[HTML],
                &[TAKES, ("cache-control", "no-transform")],
                None,
                Err(RequestNoTransform),
            ),
            (
                200,
                &[HTML, ("set-cookie", "a=b")],
                &[TAKES],
                None,
                Err(SetCookie),
            ),
            (
                200,
                &[("content-type", "image/png")],
                &[TAKES],
                None,
                Err(Type),
            ),
            (200, &[], &[TAKES], None, Err(Type)),
            (
                200,
                &[HTML, ("content-type", "image/png")],
                &[TAKES],
                None,
                Err(Type),
            ),
            (
                200,
                &[("content-type", "text/event-stream")],
                &[TAKES],
                None,
                gzip,
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = decide(&fields(request), status, &fields(response), length);
            assert_eq!(found, want, "{status} {response:?} {request:?}");
        }
    }

    #[test]
    fn the_head_of_a_coded_response_says_nothing_of_the_bytes_before() {
        let mut headers = fields(&[
            HTML,
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("repr-digest", "sha-256=:x:"),
            ("content-digest", "sha-256=:x:"),
            ("etag", "\"a\""),
            ("last-modified", "Fri, 15 Jan 2027 07:58:20 GMT"),
            ("vary", "origin"),
        ]);
        apply(Ok(ContentCoding::Zstd), &mut headers);
        let names: Vec<_> = headers.keys().map(|name| name.to_string()).collect();
        assert_eq!(
            names,
            [
                "content-type",
                "etag",
                "last-modified",
                "vary",
                "content-encoding",
                "vary"
            ]
        );
        assert_eq!(headers.get(header::ETAG).unwrap(), "W/\"a\"");
        assert_eq!(headers.get(header::CONTENT_ENCODING).unwrap(), "zstd");
    }

    #[test]
    fn a_range_and_no_transform_want_the_response_as_it_is() {
        for (request, want) in [
            (&[TAKES][..], Some(ContentCoding::Gzip)),
            (&[], None),
            (&[("accept-encoding", "identity, br;q=0.5")], None),
            (&[TAKES, ("range", "bytes=0-9")], None),
            (&[TAKES, ("cache-control", "no-transform")], None),
        ] {
            assert_eq!(wanted(&fields(request)), want, "{request:?}");
        }
    }

    #[test]
    fn the_head_of_a_variant_has_its_own_length_and_a_weak_tag() {
        let mut headers = fields(&[HTML, ("content-length", "5000"), ("etag", "\"a\"")]);
        coded(ContentCoding::Brotli, 700, &mut headers);
        assert_eq!(headers.get(header::CONTENT_LENGTH).unwrap(), "700");
        assert_eq!(headers.get(header::CONTENT_ENCODING).unwrap(), "br");
        assert_eq!(headers.get(header::ETAG).unwrap(), "W/\"a\"");
        assert_eq!(headers.get(header::VARY).unwrap(), "accept-encoding");
    }

    #[test]
    fn vary_is_on_each_response_that_another_request_would_get_coded() {
        for (decision, vary, want) in [
            (Err(NotCompressed::NotAccepted), None, 1),
            (Err(NotCompressed::Busy), None, 1),
            (Err(NotCompressed::PartOfWhole), None, 1),
            (Err(NotCompressed::RequestNoTransform), None, 1),
            (
                Err(NotCompressed::NotAccepted),
                Some("Origin, Accept-Encoding"),
                1,
            ),
            (Err(NotCompressed::NotAccepted), Some("*"), 1),
            (Err(NotCompressed::Type), None, 0),
            (Err(NotCompressed::Short), None, 0),
            (Err(NotCompressed::Coded), None, 1),
        ] {
            let mut headers = Fields::new();
            if let Some(vary) = vary {
                headers.insert(header::VARY, HeaderValue::from_static(vary));
            }
            apply(decision, &mut headers);
            assert_eq!(
                headers.get_all(header::VARY).iter().count(),
                want,
                "{decision:?}"
            );
            assert!(!headers.contains_key(header::CONTENT_ENCODING));
        }
    }

    #[test]
    fn a_tag_is_weakened_in_a_304_to_a_client_that_takes_codings() {
        for (tag, takes, want) in [
            ("\"a\"", "br", "W/\"a\""),
            ("W/\"a\"", "br", "W/\"a\""),
            ("\"a\"", "identity", "\"a\""),
            ("a", "br", "a"),
        ] {
            let mut headers = fields(&[("etag", tag)]);
            not_modified(&fields(&[("accept-encoding", takes)]), &mut headers);
            assert_eq!(headers.get(header::ETAG).unwrap(), want, "{tag} {takes}");
            assert_eq!(headers.get(header::VARY).unwrap(), "accept-encoding");
        }
    }
}
