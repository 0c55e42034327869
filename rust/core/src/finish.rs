//! What a viewer is sent: the last decisions about a response (phase 15), and its preparation for the store.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

pub use crate::http::framing::fit::bodiless;
use crate::{
    admit,
    experiment::{By, Experiment},
    http::{date, list, range::Range, via::Via},
};

/// Prepares an origin's header section to be sent on or stored: hop-by-hop fields end here (RFC 9110 §7.6.1) and
/// `Via` gains this hop.
pub fn received(headers: &mut HeaderMap, version: Version, via: &Via) {
    admit::strip_hop_by_hop(headers);
    via.append(headers, version);
}

/// Tells caches behind this one what an experiment chose a response by (RFC 9110 §12.5.5): the cookie, or a field. What a
/// verified claim chose is for its holder alone (RFC 9111 §5.2.2.7). Never part of what is stored here: the key has the
/// variant itself.
pub fn experiments<'e>(
    headers: &mut HeaderMap,
    experiments: impl Iterator<Item = &'e Experiment>,
    targets: &[HeaderName],
) {
    for experiment in experiments {
        match &experiment.by {
            By::Chance => vary(headers, &header::COOKIE),
            By::Header(name) => vary(headers, name),
            By::Claim(_) => private(headers, targets),
        }
    }
}

fn vary(headers: &mut HeaderMap, name: &HeaderName) {
    let named = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .any(|member| member == b"*" || member.eq_ignore_ascii_case(name.as_str().as_bytes()));
    if !named {
        headers.append(header::VARY, HeaderValue::from(name.clone()));
    }
}

/// Fields for caches between speak alone where they understand them (RFC 9213 §2.1), so they go.
fn private(headers: &mut HeaderMap, targets: &[HeaderName]) {
    let of_cdns = [
        HeaderName::from_static("cdn-cache-control"),
        HeaderName::from_static("surrogate-control"),
    ];
    for name in targets.iter().chain(&of_cdns) {
        headers.remove(name);
    }
    let mut kept: Vec<u8> = Vec::new();
    for line in headers.get_all(header::CACHE_CONTROL) {
        for member in list(line.as_bytes()) {
            let name = member
                .split(|&byte| byte == b'=')
                .next()
                .unwrap_or_default();
            // `private="field"` would leave the rest to everybody.
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

/// Fields that describe the content, or a part of it, and nothing else: they mean nothing beside other content (RFC 9110
/// §8.4, §8.6, §8.8, §14.3, §14.4; RFC 9530; RFC 3230; RFC 1864).
const OF_THE_CONTENT: [HeaderName; 10] = [
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_ENCODING,
    header::ETAG,
    header::LAST_MODIFIED,
    header::ACCEPT_RANGES,
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-md5"),
];

/// Fits a head to content that a hook gave it: a part, or the refusal of one, becomes the whole, and what was said of the
/// content before goes, but for the fields that the hook `set` itself.
pub fn replaced(
    status: &mut StatusCode,
    headers: &mut HeaderMap,
    set: impl Fn(&HeaderName) -> bool,
) {
    whole(status);
    for name in &OF_THE_CONTENT {
        if !set(name) {
            headers.remove(name);
        }
    }
}

/// Content that a hook made is whole, and ranges are cut from it afterwards.
pub fn whole(status: &mut StatusCode) {
    if matches!(
        *status,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
    ) {
        *status = StatusCode::OK;
    }
}

/// A response without a date, or with one that cannot be read, was made when it came (RFC 9110 §6.6.1).
pub fn date(headers: &mut HeaderMap, received_at: u64) {
    let known = headers
        .get(header::DATE)
        .is_some_and(|value| date::parse(value.as_bytes()).is_some());
    if !known {
        headers.insert(header::DATE, date::format(received_at));
    }
}

/// How a 206 answer is made of a stored response of `length` bytes (RFC 9110 §15.3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partial {
    Single(Range),
    /// `multipart/byteranges`: each part's head and range, then the end.
    Multi {
        parts: Vec<(Bytes, Range)>,
        end: Bytes,
        length: u64,
    },
}

/// Turns the header section of a stored 200 into that of a 206 and says which bytes follow. `random` comes from a generator
/// that nobody can foretell: a boundary that can be known beforehand may be written into the content, which then forges
/// parts (RFC 2046 §5.1.1 forbids it there).
pub fn partial(
    headers: &mut HeaderMap,
    ranges: &[Range],
    length: u64,
    random: u128,
) -> Option<Partial> {
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
            let kind = headers.remove(header::CONTENT_TYPE);
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
pub fn unsatisfiable(length: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = text(&format!("bytes */{length}")) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers
}

/// Makes the header section of a response that of a 412 (RFC 9110 §15.5.13): what says where the answer came from, and what
/// the condition was held against.
pub fn condition_failed(headers: &mut HeaderMap) {
    let kept = [
        header::AGE,
        HeaderName::from_static("cache-status"),
        header::DATE,
        header::ETAG,
        header::LAST_MODIFIED,
        header::VIA,
    ];
    let mut fields = HeaderMap::with_capacity(kept.len());
    for name in kept {
        for value in headers.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    *headers = fields;
}

fn text(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn other_content_keeps_nothing_that_was_said_of_the_old() {
        for (status, want) in [(200, 200), (206, 200), (416, 200), (404, 404), (203, 203)] {
            let mut headers = HeaderMap::new();
            for name in OF_THE_CONTENT.into_iter().chain([header::CONTENT_TYPE]) {
                headers.insert(name, HeaderValue::from_static("old"));
            }
            headers.insert(header::ETAG, HeaderValue::from_static("\"own\""));
            let mut status = StatusCode::from_u16(status).unwrap_or_default();
            replaced(&mut status, &mut headers, |name| *name == header::ETAG);
            assert_eq!(status.as_u16(), want);
            assert_eq!(headers.len(), 2);
            assert_eq!(headers[header::ETAG], "\"own\"");
        }
    }
}
