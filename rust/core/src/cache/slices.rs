//! Large responses in slices: which bytes are requested from an origin, and whether its response may be combined with
//! the stored ones (RFC 9110 §14, §15.3.7; RFC 9111 §3.4).
//!
//! A representation is cut at multiples of the slice size, so that any two requests for overlapping ranges need the
//! same slices. Slices of one representation may come in different responses, at different times and from different
//! members of a group: only a strong validator shows that they are parts of one whole.

use http::{HeaderValue, StatusCode};

use crate::{
    http::{
        FieldValue, Fields, date,
        etag::EntityTag,
        header,
        range::{self, Range, RangeRequest},
    },
    outcome::Detail,
};

/// A Last-Modified this much older than Date is a strong validator (RFC 9110 §8.8.2.2).
const STRONG_AFTER: u64 = 60;

/// The validator that identifies the bytes of a representation: a strong entity tag, or a strong modification date.
pub fn strong_validator(headers: &Fields) -> Option<FieldValue<'_>> {
    if let Some(value) = headers.get(header::ETAG) {
        let tag = EntityTag::parse(value.as_bytes())?;
        return (!tag.weak).then_some(value);
    }
    let value = headers.get(header::LAST_MODIFIED)?;
    let modified = date::parse(value.as_bytes())?;
    let sent = date::parse(headers.get(header::DATE)?.as_bytes())?;
    (sent >= modified.saturating_add(STRONG_AFTER)).then_some(value)
}

/// True if a complete response of `length` bytes may be cut and is worth it: it has more than one slice, and the origin
/// does not refuse ranges.
pub fn worth_cutting(headers: &Fields, length: u64, slice: u64) -> bool {
    length > slice && strong_validator(headers).is_some() && !refuses_ranges(headers)
}

fn refuses_ranges(headers: &Fields) -> bool {
    headers
        .get(header::ACCEPT_RANGES)
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"none"))
}

/// The first range requested from an origin for a representation that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// This range, widened to whole slices.
    Slice(Range),
    /// This many bytes before the end: their position is not known.
    Suffix(u64),
}

impl First {
    /// The value of `Range`.
    pub fn value(self) -> Option<HeaderValue> {
        let text = match self {
            Self::Slice(range) => format!("bytes={}-{}", range.first, range.last),
            Self::Suffix(bytes) => format!("bytes=-{bytes}"),
        };
        HeaderValue::from_str(&text).ok()
    }

    /// The range in a representation of this length.
    fn of(self, complete: u64) -> Range {
        let end = complete.saturating_sub(1);
        match self {
            Self::Slice(range) => Range {
                first: range.first,
                last: range.last.min(end),
            },
            Self::Suffix(bytes) => Range {
                first: complete.saturating_sub(bytes),
                last: end,
            },
        }
    }
}

/// The first range to request for a range request on an unknown representation. `None`: the field is not one that is
/// followed. If several ranges count from the end, the first slice reveals the length.
pub fn first(value: FieldValue<'_>, slice: u64) -> Option<First> {
    let RangeRequest::Satisfiable(ranges) = range::parse(value, u64::MAX) else {
        return None;
    };
    let first = ranges.first()?.first;
    let from_the_end = first > u64::MAX / 2;
    Some(match ranges.as_slice() {
        // At least a slice: that is all of a small representation, and costs no more.
        [_] if from_the_end => First::Suffix(slice.max(u64::MAX - first)),
        _ => First::Slice(slice_at(if from_the_end { 0 } else { first }, slice)),
    })
}

/// The one range that a client gets of a part which is not stored: it lies wholly in the part, and nothing else is
/// requested. `Err`: none of the requested ranges exists in a representation of this length.
pub fn within(value: FieldValue<'_>, part: &ContentRange) -> Option<Result<Range, u64>> {
    match range::parse(value, part.complete) {
        RangeRequest::Unsatisfiable => Some(Err(part.complete)),
        RangeRequest::Satisfiable(ranges) => match ranges.as_slice() {
            [range] if part.range.first <= range.first && range.last <= part.range.last => {
                Some(Ok(*range))
            }
            _ => None,
        },
        RangeRequest::None => None,
    }
}

/// The slice that holds `position`.
pub fn slice_at(position: u64, slice: u64) -> Range {
    let slice = slice.max(1);
    let first = position / slice * slice;
    Range {
        first,
        last: first.saturating_add(slice - 1),
    }
}

/// The slices from the one at `position` on that hold everything up to `last`, at most `most` of them and none beyond
/// the end.
pub fn slices_for(position: u64, last: u64, slice: u64, most: u64, length: u64) -> Range {
    let first = slice_at(position, slice).first;
    let wanted = slice_at(last.max(position), slice).last;
    let allowed = first.saturating_add(slice.saturating_mul(most.max(1)) - 1);
    Range {
        first,
        last: wanted.min(allowed).min(length.saturating_sub(1)),
    }
}

/// `bytes FIRST-LAST/COMPLETE` (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First and last byte, both included.
    pub range: Range,
    /// Length of the whole representation in bytes.
    pub complete: u64,
}

impl ContentRange {
    /// True if the range is the whole representation.
    pub fn is_all(&self) -> bool {
        self.range.first == 0 && self.range.last + 1 == self.complete
    }

    /// Bytes in the range; at least 1.
    pub fn length(&self) -> u64 {
        self.range.last - self.range.first + 1
    }

    /// `None` for other units, an unknown complete length, or bounds that contradict each other.
    pub fn of(headers: &Fields) -> Option<Self> {
        let text = headers.sole(header::CONTENT_RANGE)?.to_str().ok()?.trim();
        let (unit, rest) = text.split_once(' ')?;
        let (range, complete) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        let (first, last, complete) = (number(first)?, number(last)?, number(complete)?);
        (unit.eq_ignore_ascii_case("bytes") && first <= last && last < complete).then_some(Self {
            range: Range { first, last },
            complete,
        })
    }
}

/// The length that a response announces (RFC 9110 §8.6).
pub fn content_length(headers: &Fields) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Why a response to a request for slices cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Neither 206 nor 200.
    Status,
    /// Other bytes than the requested ones.
    OtherRange,
    /// No strong validator, or several parts.
    NotCombinable,
    /// The representation has changed since.
    Changed,
}

impl From<Unusable> for Detail {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Status => Self::Status,
            Unusable::OtherRange => Self::OtherRange,
            Unusable::NotCombinable => Self::NotCombinable,
            Unusable::Changed => Self::Changed,
        }
    }
}

/// Checks a 206 for a requested range `requested` of a representation that is not stored: the range that came, and the
/// complete length.
pub fn usable(
    requested: First,
    status: StatusCode,
    headers: &Fields,
) -> Result<ContentRange, Unusable> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Err(Unusable::Status);
    }
    let came = ContentRange::of(headers).ok_or(Unusable::NotCombinable)?;
    if strong_validator(headers).is_none() {
        return Err(Unusable::NotCombinable);
    }
    let lies = |length: FieldValue<'_>| length.as_bytes() != came.length().to_string().as_bytes();
    if headers.get(header::CONTENT_LENGTH).is_some_and(lies) {
        return Err(Unusable::NotCombinable);
    }
    if came.range != requested.of(came.complete) {
        return Err(Unusable::OtherRange);
    }
    Ok(came)
}

/// Checks a response that should fill a stored representation of `length` bytes, and gives the position of its bytes. A
/// 200, which a server may send for any range request (§14.2), has all of them.
pub fn fills(
    requested: Range,
    length: u64,
    stored: &Fields,
    status: StatusCode,
    headers: &Fields,
    announced: Option<u64>,
) -> Result<u64, Unusable> {
    let same = || match (strong_validator(stored), strong_validator(headers)) {
        (Some(stored), Some(came)) if stored == came => Ok(()),
        _ => Err(Unusable::Changed),
    };
    match status {
        StatusCode::OK => {
            same()?;
            if announced != Some(length) {
                return Err(Unusable::Changed);
            }
            Ok(0)
        }
        StatusCode::PARTIAL_CONTENT => {
            same()?;
            let came = usable(First::Slice(requested), status, headers)?;
            if came.complete != length {
                return Err(Unusable::Changed);
            }
            Ok(came.range.first)
        }
        _ => Err(Unusable::Status),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_strong_validators_identify_bytes() {
        let early = "Sun, 06 Nov 1994 08:49:37 GMT";
        let late = "Sun, 06 Nov 1994 08:50:37 GMT";
        for (fields, strong) in [
            (vec![("etag", "\"a\"")], true),
            (vec![("etag", "W/\"a\"")], false),
            // A weak tag declares that the bytes may differ, whatever the date.
            (
                vec![
                    ("etag", "W/\"a\""),
                    ("last-modified", early),
                    ("date", late),
                ],
                false,
            ),
            (vec![("last-modified", early), ("date", late)], true),
            (vec![("last-modified", early), ("date", early)], false),
            (vec![("last-modified", early)], false),
            (vec![], false),
        ] {
            assert_eq!(
                strong_validator(&Fields::of_lines(&fields)).is_some(),
                strong,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn requests_for_overlapping_ranges_ask_for_the_same_slices() {
        let first = |value: &'static str| first((&HeaderValue::from_static(value)).into(), 100);
        let range = |first, last| Some(First::Slice(Range { first, last }));
        assert_eq!(first("bytes=0-5"), range(0, 99));
        assert_eq!(first("bytes=150-"), range(100, 199));
        assert_eq!(first("bytes=199-500"), range(100, 199));
        assert_eq!(first("bytes=-5"), Some(First::Suffix(100)));
        assert_eq!(first("bytes=-500"), Some(First::Suffix(500)));
        assert_eq!(first("bytes=-5, 200-300"), range(0, 99));
        assert_eq!(first("bytes=-0"), None);
        assert_eq!(first("bytes=x"), None);
        assert_eq!(
            slices_for(150, 420, 100, 8, 1000),
            Range {
                first: 100,
                last: 499
            }
        );
        assert_eq!(
            slices_for(150, 999, 100, 2, 1000),
            Range {
                first: 100,
                last: 299
            }
        );
        assert_eq!(
            slices_for(950, 999, 100, 8, 990),
            Range {
                first: 900,
                last: 989
            }
        );
    }

    #[test]
    fn a_part_that_is_not_stored_answers_what_lies_within_it() {
        let part = ContentRange {
            range: Range {
                first: 100,
                last: 199,
            },
            complete: 1000,
        };
        for (requested, want) in [
            ("bytes=110-119", Some(Ok((110, 119)))),
            ("bytes=100-199", Some(Ok((100, 199)))),
            ("bytes=100-200", None),
            ("bytes=99-199", None),
            ("bytes=110-", None),
            ("bytes=110-119, 130-139", None),
            ("bytes=-5", None),
            ("bytes=1000-", Some(Err(1000))),
            ("items=1", None),
        ] {
            let range = |(first, last)| Range { first, last };
            assert_eq!(
                within((&HeaderValue::from_static(requested)).into(), &part),
                want.map(|found: Result<_, u64>| found.map(range)),
                "{requested}"
            );
        }
    }

    #[test]
    fn what_is_asked_from_the_end_is_placed_by_the_length_that_came() {
        let tail = |range| Fields::of_lines(&[("etag", "\"a\""), ("content-range", range)]);
        let judge = |bytes, range| {
            let came = usable(
                First::Suffix(bytes),
                StatusCode::PARTIAL_CONTENT,
                &tail(range),
            );
            came.map(|part| (part.range.first, part.range.last))
        };
        assert_eq!(judge(5, "bytes 95-99/100"), Ok((95, 99)));
        assert_eq!(judge(500, "bytes 0-99/100"), Ok((0, 99)));
        assert_eq!(judge(5, "bytes 94-99/100"), Err(Unusable::OtherRange));
        assert_eq!(judge(5, "bytes 0-4/100"), Err(Unusable::OtherRange));
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        let of = |value: &str| ContentRange::of(&Fields::of_lines(&[("content-range", value)]));
        assert_eq!(
            of("bytes 0-4/10"),
            Some(ContentRange {
                range: Range { first: 0, last: 4 },
                complete: 10
            })
        );
        for wrong in [
            "bytes 0-4/*",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "items 0-4/10",
            "bytes 0-4",
            "bytes -4/10",
            "bytes +0-4/10",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        let twice = [
            ("content-range", "bytes 0-4/10"),
            ("content-range", "bytes 0-5/10"),
        ];
        let mut two = Fields::new();
        for (name, value) in twice {
            two.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(ContentRange::of(&two), None);
    }

    #[test]
    fn an_answer_fills_only_the_representation_it_belongs_to() {
        let stored = Fields::of_lines(&[("etag", "\"a\"")]);
        let requested = Range {
            first: 100,
            last: 199,
        };
        let part =
            |tag: &str, range: &str| Fields::of_lines(&[("etag", tag), ("content-range", range)]);
        let partial = StatusCode::PARTIAL_CONTENT;
        for (status, answer, announced, want) in [
            (partial, part("\"a\"", "bytes 100-199/1000"), None, Ok(100)),
            (
                partial,
                part("\"b\"", "bytes 100-199/1000"),
                None,
                Err(Unusable::Changed),
            ),
            (
                partial,
                part("W/\"a\"", "bytes 100-199/1000"),
                None,
                Err(Unusable::Changed),
            ),
            (
                partial,
                part("\"a\"", "bytes 100-199/1001"),
                None,
                Err(Unusable::Changed),
            ),
            (
                partial,
                part("\"a\"", "bytes 0-99/1000"),
                None,
                Err(Unusable::OtherRange),
            ),
            (
                StatusCode::OK,
                Fields::of_lines(&[("etag", "\"a\"")]),
                Some(1000),
                Ok(0),
            ),
            (
                StatusCode::OK,
                Fields::of_lines(&[("etag", "\"a\"")]),
                Some(999),
                Err(Unusable::Changed),
            ),
            (
                StatusCode::OK,
                Fields::of_lines(&[("etag", "\"b\"")]),
                Some(1000),
                Err(Unusable::Changed),
            ),
            (
                StatusCode::NOT_FOUND,
                Fields::of_lines(&[]),
                Some(0),
                Err(Unusable::Status),
            ),
        ] {
            assert_eq!(
                fills(requested, 1000, &stored, status, &answer, announced),
                want,
                "{status} {answer:?}"
            );
        }
    }
}
