//! Byte ranges (RFC 9110 §14).

use crate::http::{FieldValue, Fields, header};
use smallvec::SmallVec;

use super::{date, etag::EntityTag, list};

/// Bytes `first..=last` of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Counted from 0.
    pub first: u64,
    /// Included; less than the length of the representation.
    pub last: u64,
}

/// The meaning of a `Range` field for a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// A field that is ignored: the whole is sent (§14.2 allows it).
    None,
    /// 416.
    Unsatisfiable,
    /// At least one range, each within the representation.
    Satisfiable(SmallVec<[Range; 1]>),
}

/// More ranges than this are an attack on the program that assembles them (§14.2).
const MOST_RANGES: usize = 16;

/// The `Range` of a request. Two of them are none: the field is no list, so that they cannot be joined (§5.3, §14.2),
/// and a receiver that took the first one would send other bytes than one that takes the last.
pub fn of(request: &Fields) -> Option<FieldValue<'_>> {
    request.sole(header::RANGE)
}

/// Reads a `Range` field against a length. White space stands beside commas only (§14.1.1): servers differ about any
/// other, so that the edge would send a part where its origin sends the whole.
pub fn parse(value: FieldValue<'_>, length: u64) -> RangeRequest {
    let value = value.as_bytes();
    let Some((unit, set)) = value
        .iter()
        .position(|&b| b == b'=')
        .map(|at| value.split_at(at))
    else {
        return RangeRequest::None;
    };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return RangeRequest::None;
    }
    let mut ranges: SmallVec<[Range; 1]> = SmallVec::new();
    let mut given = 0usize;
    for member in list(set.get(1..).unwrap_or_default()) {
        given += 1;
        match one(member, length) {
            Err(Invalid) => return RangeRequest::None,
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
        }
        if given > MOST_RANGES {
            return RangeRequest::None;
        }
    }
    let wanted: u128 = ranges
        .iter()
        .map(|range| u128::from(range.last - range.first + 1))
        .sum();
    match ranges.len() {
        0 if given == 0 => RangeRequest::None,
        0 => RangeRequest::Unsatisfiable,
        // Overlapping ranges that add up to more than the whole are answered with the whole.
        2.. if wanted > u128::from(length) => RangeRequest::None,
        _ => RangeRequest::Satisfiable(ranges),
    }
}

struct Invalid;

fn one(member: &[u8], length: u64) -> Result<Option<Range>, Invalid> {
    let at = member.iter().position(|&b| b == b'-').ok_or(Invalid)?;
    let (first, last) = (
        member.get(..at).unwrap_or_default(),
        member.get(at + 1..).unwrap_or_default(),
    );
    if first.is_empty() {
        let suffix = number(last).ok_or(Invalid)?;
        if suffix == 0 {
            return Ok(None);
        }
        // The whole of an empty representation is meant, and no Content-Range could name it.
        if length == 0 {
            return Err(Invalid);
        }
        return Ok(Some(Range {
            first: length.saturating_sub(suffix),
            last: length - 1,
        }));
    }
    let first = number(first).ok_or(Invalid)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        number(last).ok_or(Invalid)?
    };
    if last < first {
        return Err(Invalid);
    }
    if first >= length {
        return Ok(None);
    }
    Ok(Some(Range {
        first,
        last: last.min(length - 1),
    }))
}

/// Digits only; a number that does not fit counts as the largest.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0u64, |n, digit| {
        n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

/// True if the ranges may be used: no `If-Range`, or a single one that names exactly the stored representation
/// (§13.1.5).
pub fn if_range(request: &Fields, stored: &Fields) -> bool {
    if !request.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(condition) = request.sole(header::IF_RANGE) else {
        return false;
    };
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        let stored = stored
            .get(header::ETAG)
            .and_then(|value| EntityTag::parse(value.as_bytes()));
        return stored.is_some_and(|stored| stored.strong_eq(&tag));
    }
    let given = date::parse(condition.as_bytes());
    let modified = stored
        .get(header::LAST_MODIFIED)
        .and_then(|value| date::parse(value.as_bytes()));
    let sent = stored
        .get(header::DATE)
        .and_then(|value| date::parse(value.as_bytes()));
    // A date is a strong validator only when it lies well before the response (§8.8.2.2).
    let strong = matches!((modified, sent), (Some(modified), Some(sent)) if sent > modified);
    given.is_some() && given == modified && strong
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn ranges_are_read_against_the_length() {
        let some =
            |first, last| RangeRequest::Satisfiable(smallvec::smallvec![Range { first, last }]);
        for (value, want) in [
            ("bytes=0-3", some(0, 3)),
            ("bytes=-2", some(8, 9)),
            ("bytes=-20", some(0, 9)),
            ("bytes=7-", some(7, 9)),
            ("bytes=5-100", some(5, 9)),
            ("BYTES=0-0", some(0, 0)),
            ("bytes=20- , 0-0,", some(0, 0)),
            ("bytes =0-0", RangeRequest::None),
            ("bytes=0 -0", RangeRequest::None),
            ("bytes=0- 0", RangeRequest::None),
            ("bytes=- 2", RangeRequest::None),
            ("bytes=10-", RangeRequest::Unsatisfiable),
            ("bytes=-0", RangeRequest::Unsatisfiable),
            ("bytes=3-1", RangeRequest::None),
            ("bytes=a-b", RangeRequest::None),
            ("bytes=", RangeRequest::None),
            ("items=0-1", RangeRequest::None),
            ("bytes=0-,0-,0-", RangeRequest::None),
            ("bytes=0-99999999999999999999999", some(0, 9)),
        ] {
            assert_eq!(
                parse((&HeaderValue::from_str(value).unwrap()).into(), 10),
                want,
                "{value}"
            );
        }
        for (value, want) in [
            ("bytes=-2", RangeRequest::None),
            ("bytes=-0", RangeRequest::Unsatisfiable),
            ("bytes=0-", RangeRequest::Unsatisfiable),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(parse((&value).into(), 0), want, "{value:?}");
        }
        let endless = HeaderValue::from_static("bytes=0-,0-");
        assert_eq!(parse((&endless).into(), u64::MAX), RangeRequest::None);
        let two = parse((&HeaderValue::from_static("bytes=0-1, 4-5")).into(), 10);
        assert!(matches!(two, RangeRequest::Satisfiable(ranges) if ranges.len() == 2));
    }

    #[test]
    fn a_field_that_stands_twice_is_no_range_and_no_condition_that_holds() {
        let fields = |lines: &[(&'static str, &'static str)]| -> Fields {
            let lines = lines.iter();
            lines
                .map(|&(name, value)| (name, HeaderValue::from_static(value)))
                .collect()
        };
        let range = fields(&[("range", "bytes=0-1")]);
        assert_eq!(of(&range).unwrap().as_bytes(), b"bytes=0-1");
        for second in ["bytes=0-1", "bytes=4-5", "4-5", ""] {
            let twice = fields(&[("range", "bytes=0-1"), ("host", "h"), ("range", second)]);
            assert!(of(&twice).is_none(), "{second}");
        }
        let stored = fields(&[("etag", "\"a\"")]);
        assert!(if_range(&fields(&[("if-range", "\"a\"")]), &stored));
        for second in ["\"a\"", "\"b\""] {
            let twice = fields(&[("if-range", "\"a\""), ("if-range", second)]);
            assert!(!if_range(&twice, &stored), "{second}");
        }
    }
}
