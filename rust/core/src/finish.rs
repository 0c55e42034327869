//! The last decisions about a response to a viewer (phase 15), and its preparation for the store.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version};

pub use crate::http::framing::fit::{bodiless, may_have_content};
use crate::{
    admit,
    experiment::{By, Experiment},
    http::{
        FieldName, Fields, KnownSet,
        date::{self, LastDate},
        header, list,
        range::Range,
        structured, vary,
        via::Via,
    },
};

/// Prepares an origin's header section to be sent on or stored: removes hop-by-hop fields (RFC 9110 §7.6.1) and adds
/// this hop to `Via`.
pub fn received(headers: &mut Fields, version: Version, via: &Via) {
    admit::strip_hop_by_hop(headers);
    via.append(headers, version);
}

/// Declares to downstream caches how an experiment chose the response (RFC 9110 §12.5.5): by the cookie, or by a field,
/// without which the cookie decides. The flag says that a stable id decided. A response chosen by a verified claim is
/// private to its holder (RFC 9111 §5.2.2.7). Never part of what is stored here: the key has the variant itself.
pub fn experiments<'e>(
    headers: &mut Fields,
    experiments: impl Iterator<Item = (&'e Experiment, bool)>,
    targets: &[FieldName],
) {
    for (experiment, by_id) in experiments {
        match &experiment.by {
            By::Chance => vary::add(headers, header::COOKIE),
            By::Header(name) => {
                vary::add(headers, name);
                if !by_id {
                    vary::add(headers, header::COOKIE);
                }
            }
            By::Claim(_) => private(headers, targets),
        }
    }
}

/// Removes targeted fields for downstream caches: caches that understand them ignore the others (RFC 9213 §2.1).
fn private(headers: &mut Fields, targets: &[FieldName]) {
    const OF_CDNS: KnownSet = KnownSet::of(&[header::CDN_CACHE_CONTROL, header::SURROGATE_CONTROL]);
    for name in targets {
        headers.remove(name);
    }
    headers.remove_all(OF_CDNS);
    let mut kept: Vec<u8> = Vec::new();
    for line in headers.get_all(header::CACHE_CONTROL) {
        for member in list(line.as_bytes()) {
            let name = member
                .split(|&byte| byte == b'=')
                .next()
                .unwrap_or_default();
            // `private="field"` would leave the rest shareable.
            if [&b"public"[..], b"s-maxage", b"private"]
                .iter()
                .any(|shared| name.trim_ascii().eq_ignore_ascii_case(shared))
            {
                continue;
            }
            kept.extend_from_slice(member);
            kept.extend_from_slice(b", ");
        }
    }
    kept.extend_from_slice(b"private");
    let value = HeaderValue::from_bytes(&kept).unwrap_or(HeaderValue::from_static("private"));
    headers.insert(header::CACHE_CONTROL, value);
}

/// Fields that describe the content, or a part of it, and nothing else: they are wrong beside other content (RFC 9110
/// §8.4, §8.6, §8.8, §14.3, §14.4; RFC 9530; RFC 3230; RFC 1864).
const OF_THE_CONTENT: KnownSet = KnownSet::of(&[
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_ENCODING,
    header::ETAG,
    header::LAST_MODIFIED,
    header::ACCEPT_RANGES,
    header::DIGEST,
    header::CONTENT_DIGEST,
    header::REPR_DIGEST,
    header::CONTENT_MD5,
]);

/// Fields that describe the content of one message (RFC 9530 §2, RFC 1864 §2): wrong beside a part of it, beside the
/// whole that it is a part of, and without it. `Repr-Digest` and `Digest` are of the representation (RFC 9530 §3, RFC
/// 3230 §4.3.2), so they stay.
pub(crate) const OF_ONE_MESSAGE: KnownSet =
    KnownSet::of(&[header::CONTENT_DIGEST, header::CONTENT_MD5]);

/// Fits a head to content that a hook gave it: a 206 or 416 becomes a 200, and fields that described the old content
/// are removed, except those that the hook `set` itself.
pub fn replaced(status: &mut StatusCode, headers: &mut Fields, set: impl Fn(&FieldName) -> bool) {
    whole(status);
    headers.retain(|name, _| !name.is_of(OF_THE_CONTENT) || set(&name.owned()));
}

/// The effect of a status that a hook sets on a response whose content it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restated {
    /// The response has that status.
    Applies,
    /// The response has that status, and nothing of the content: that was a part of another one, or none.
    WithoutContent,
    /// The response keeps the status that it had. The content is not the whole that a success would promise, and caches
    /// would keep it as such.
    Ignored,
}

/// Decides about the status `set` on a response that had the status `had`.
fn restated(had: StatusCode, set: StatusCode) -> Restated {
    let is_partial = matches!(
        had,
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE
    );
    match set {
        _ if had == set || !is_partial => Restated::Applies,
        StatusCode::NOT_MODIFIED => Restated::Ignored,
        _ if set.is_success() || set.is_informational() => Restated::Ignored,
        _ => Restated::WithoutContent,
    }
}

/// Sets the status `set` on a response whose head is a hook's. True: it goes without its content.
pub fn restate(status: &mut StatusCode, headers: &mut Fields, set: StatusCode) -> bool {
    let effect = restated(*status, set);
    if effect != Restated::Ignored {
        *status = set;
    }
    if effect == Restated::WithoutContent {
        headers.remove_all(OF_THE_CONTENT);
        headers.remove(header::CONTENT_TYPE);
    }
    effect == Restated::WithoutContent
}

/// Makes the response to content from a hook a whole one; ranges are cut from it afterwards.
pub fn whole(status: &mut StatusCode) {
    if matches!(
        *status,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
    ) {
        *status = StatusCode::OK;
    }
}

/// Sets the date of arrival on a response whose `Date` is absent or invalid (RFC 9110 §6.6.1). `last`: of the responses
/// before.
pub fn date(headers: &mut Fields, received_at: u64, last: &LastDate) {
    let known = headers
        .get(header::DATE)
        .is_some_and(|value| last.knows(value.as_bytes()));
    if !known {
        headers.insert(header::DATE, date::format(received_at));
    }
}

/// The form of a 206 made from a stored response of `length` bytes (RFC 9110 §15.3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partial {
    /// One range: its bytes are the content.
    Single(Range),
    /// `multipart/byteranges`: each part's head and range, then the end.
    Multi {
        /// Head of each part, and its range of the stored content.
        parts: Vec<(Bytes, Range)>,
        /// The closing boundary.
        end: Bytes,
        /// Bytes of the whole.
        length: u64,
    },
}

/// Turns the header section of a stored 200 into that of a 206 and gives the bytes that follow. `random` comes from an
/// unpredictable generator: a predictable boundary could be written into the content, which would then forge parts (RFC
/// 2046 §5.1.1 forbids it there).
pub fn partial(
    headers: &mut Fields,
    ranges: &[Range],
    length: u64,
    random: u128,
) -> Option<Partial> {
    if !ranges.is_empty() {
        headers.remove_all(OF_ONE_MESSAGE);
    }
    match ranges {
        [] => None,
        [range] => {
            headers.insert(
                header::CONTENT_RANGE,
                text(&format!("bytes {}-{}/{length}", range.first, range.last))?,
            );
            headers.insert(
                header::CONTENT_LENGTH,
                HeaderValue::from(range.last - range.first + 1),
            );
            Some(Partial::Single(*range))
        }
        ranges => {
            let boundary = format!("{random:032x}");
            let kind = headers.take(header::CONTENT_TYPE);
            let kind = kind
                .as_ref()
                .map_or(&b"application/octet-stream"[..], HeaderValue::as_bytes);
            let mut total = 0u64;
            let mut parts = Vec::with_capacity(ranges.len());
            for range in ranges {
                let mut head = Vec::with_capacity(128);
                head.extend_from_slice(format!("\r\n--{boundary}\r\ncontent-type: ").as_bytes());
                head.extend_from_slice(kind);
                let place = format!(
                    "\r\ncontent-range: bytes {}-{}/{length}\r\n\r\n",
                    range.first, range.last
                );
                head.extend_from_slice(place.as_bytes());
                total += head.len() as u64 + (range.last - range.first + 1);
                parts.push((Bytes::from(head), *range));
            }
            let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
            total += end.len() as u64;
            headers.remove(header::CONTENT_RANGE);
            headers.insert(
                header::CONTENT_TYPE,
                text(&format!("multipart/byteranges; boundary={boundary}"))?,
            );
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(total));
            Some(Partial::Multi {
                parts,
                end,
                length: total,
            })
        }
    }
}

/// The header section of a 416 (RFC 9110 §15.5.17).
pub fn unsatisfiable(length: u64) -> Fields {
    let mut headers = Fields::new();
    if let Some(value) = text(&format!("bytes */{length}")) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers
}

/// Makes the header section of a response that of a 412 (RFC 9110 §15.5.13): keeps the fields that name the response's
/// source and its validators.
pub fn condition_failed(headers: &mut Fields) {
    let kept = [
        header::AGE,
        header::CACHE_STATUS,
        header::DATE,
        header::ETAG,
        header::LAST_MODIFIED,
        header::VIA,
    ];
    let mut fields = Fields::with_capacity(kept.len());
    for name in kept {
        for value in headers.get_all(&name) {
            fields.append(name, value);
        }
    }
    *headers = fields;
}

/// Removes the members of caches before this one if they are not such a list: with the edge's own behind it, a client
/// would have to ignore that one, too (RFC 9211 §2, RFC 9651 §4.2).
pub fn drop_malformed_cache_status(headers: &mut Fields) {
    let lines = headers.get_all(header::CACHE_STATUS);
    let mut lines = lines.iter();
    if !lines.all(|line| structured::is_list_of_names(line.as_bytes())) {
        headers.remove(header::CACHE_STATUS);
    }
}

fn text(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::http::{Known, Named as _};

    #[test]
    fn other_content_keeps_nothing_that_was_said_of_the_old() {
        for (status, want) in [(200, 200), (206, 200), (416, 200), (404, 404), (203, 203)] {
            let mut headers = Fields::new();
            for name in Known::all() {
                headers.insert(name, HeaderValue::from_static("old"));
            }
            headers.insert(header::ETAG, HeaderValue::from_static("\"own\""));
            let mut status = StatusCode::from_u16(status).unwrap_or_default();
            replaced(&mut status, &mut headers, |name| *name == header::ETAG);
            assert_eq!(status.as_u16(), want);
            let removed = |name: &Known| OF_THE_CONTENT.has(*name) && *name != header::ETAG;
            let kept = Known::all().filter(|name| !removed(name));
            assert!(kept.eq(headers.keys().filter_map(|name| name.known())));
            assert_eq!(headers.get(header::ETAG).unwrap(), "\"own\"");
        }
    }

    #[test]
    fn a_part_never_becomes_a_whole_by_its_status() {
        use Restated::{Applies, Ignored, WithoutContent};
        for (had, set, want) in [
            (200, 404, Applies),
            (404, 200, Applies),
            (206, 206, Applies),
            (206, 200, Ignored),
            (206, 304, Ignored),
            (206, 403, WithoutContent),
            (206, 302, WithoutContent),
            (304, 200, Ignored),
            (304, 206, Ignored),
            (304, 410, WithoutContent),
            (416, 200, Ignored),
            (416, 404, WithoutContent),
        ] {
            let status = |code| StatusCode::from_u16(code).unwrap();
            assert_eq!(restated(status(had), status(set)), want, "{had} {set}");
        }
    }
}
