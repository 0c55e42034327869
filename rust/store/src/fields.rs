//! A header section in few bytes, for stored responses, and quick to turn into a `HeaderMap` again.
//!
//! A `HeaderMap` of ten fields takes 1.5 KiB besides its text, so a million small responses would be more map than
//! response. But nearly all of them have the same names in the same order, and the same values in some fields. So these
//! are kept once, as a map with placeholders for other values, and a packed section is the number of that map and the
//! other values. Unpacking copies the map, which is three times as quick as making one, and fills in the values. Dates
//! take five bytes instead of 29.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use edgerouter_core::http::{date, structured::CACHE_STATUS};
use hashbrown::HashMap;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use parking_lot::RwLock;

/// Number of shapes; an origin that invents more uses no more memory than this. Sections of other shapes are spelt out.
const MOST_SHAPES: usize = 4096;
/// Beyond this number shapes are names without values, so that values that differ too much do not use up the numbers.
const MOST_WITH_VALUES: usize = 2048;
/// The longest shape that is kept, in bytes.
const LONGEST_SHAPE: usize = 2048;

/// Fields that have the same value in many responses.
const COMMON: [HeaderName; 12] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::VIA,
    header::SERVER,
    header::VARY,
    header::ACCEPT_RANGES,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
];

/// A map for each list of names and common values, in the order in which they were first stored. Shared by the whole
/// process, because entries outlive plans and move between stores; a number never changes its map.
static SHAPES: [OnceLock<HeaderMap>; MOST_SHAPES] = [const { OnceLock::new() }; MOST_SHAPES];
static NUMBERS: LazyLock<RwLock<HashMap<Box<[u8]>, usize>>> = LazyLock::new(RwLock::default);

/// The number of a section in which each value's name precedes it.
const SPELT: usize = 0;

/// In place of a value's length plus one: the seconds of a date follow.
const DATE: usize = 0;

/// Set on every hit, so not packed; a map has placeholders for them, because it would have to grow otherwise.
fn is_place(name: &HeaderName) -> bool {
    *name == header::AGE || *name == CACHE_STATUS
}

/// `Age` and `Cache-Status` last, to be replaced or removed.
fn add_places(headers: &mut HeaderMap) {
    headers.insert(header::AGE, HeaderValue::from_static("0"));
    headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
}

/// Appends `headers` to `out`, without `Age` and `Cache-Status`. The mark of sensitive values is not kept:
/// those are not stored.
pub(super) fn pack(headers: &HeaderMap, out: &mut Vec<u8>) {
    let (number, with_values) = number(headers);
    put(out, number);
    for (name, value) in headers.iter().filter(|(name, _)| !is_place(name)) {
        if with_values && is_common(name, value) {
            continue;
        }
        if number == SPELT {
            put(out, name.as_str().len());
            out.extend_from_slice(name.as_str().as_bytes());
        }
        if let Some(seconds) = date_in(name, value) {
            put(out, DATE);
            put(out, seconds);
        } else {
            put(out, value.len() + 1);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// A date that is unpacked to exactly the same text.
fn date_in(name: &HeaderName, value: &HeaderValue) -> Option<usize> {
    if ![header::DATE, header::LAST_MODIFIED, header::EXPIRES].contains(name) {
        return None;
    }
    let seconds = date::parse(value.as_bytes())?;
    (date::format(seconds) == *value).then_some(seconds as usize)
}

/// The header section that was packed into `text`, with placeholders for `Age` and `Cache-Status`. Values share
/// `text`'s memory.
pub(super) fn unpack(text: &Bytes) -> HeaderMap {
    let mut rest = Rest { text, at: 0 };
    let number = rest.number().unwrap_or(SPELT);
    let shape = number.checked_sub(1).and_then(|at| SHAPES.get(at)?.get());
    if let Some(shape) = shape {
        let mut headers = shape.clone();
        for place in headers.values_mut().filter(|place| place.is_empty()) {
            let Some(value) = rest.value() else { break };
            *place = value;
        }
        return headers;
    }
    let mut headers = HeaderMap::new();
    while let Some((name, value)) = rest.field() {
        if headers.try_append(name, value).is_err() {
            break;
        }
    }
    add_places(&mut headers);
    headers
}

fn is_common(name: &HeaderName, value: &HeaderValue) -> bool {
    !value.is_empty() && COMMON.contains(name)
}

/// The number of the map that fits, from 1, and whether it has the common values; `SPELT` if there is none.
fn number(headers: &HeaderMap) -> (usize, bool) {
    if let Some(number) = numbered(headers, true, MOST_WITH_VALUES) {
        return (number, true);
    }
    let number = numbered(headers, false, MOST_SHAPES).unwrap_or(SPELT);
    (number, false)
}

/// The number of the map for `headers`; a new one as long as there are fewer than `most`.
fn numbered(headers: &HeaderMap, with_values: bool, most: usize) -> Option<usize> {
    let mut list = Vec::with_capacity(512);
    list.push(u8::from(with_values));
    for (name, value) in headers.iter().filter(|(name, _)| !is_place(name)) {
        list.extend_from_slice(name.as_str().as_bytes());
        // Neither byte occurs in a name or a value.
        list.push(0);
        if with_values && is_common(name, value) {
            list.extend_from_slice(value.as_bytes());
        }
        list.push(b'\n');
    }
    if list.len() > LONGEST_SHAPE {
        return None;
    }
    if let Some(&known) = NUMBERS.read().get(&*list) {
        return Some(known);
    }
    let mut numbers = NUMBERS.write();
    if let Some(&known) = numbers.get(&*list) {
        return Some(known);
    }
    if numbers.len() >= most {
        return None;
    }
    SHAPES
        .get(numbers.len())?
        .set(shape(headers, with_values)?)
        .ok()?;
    let number = numbers.len() + 1;
    numbers.insert(list.into_boxed_slice(), number);
    Some(number)
}

fn shape(headers: &HeaderMap, with_values: bool) -> Option<HeaderMap> {
    let mut shape = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers.iter().filter(|(name, _)| !is_place(name)) {
        // Text of its own: text parsed from the wire shares the connection's read buffer. It is never freed, because
        // the shape is not, and so needs no reference count.
        let text: &'static str = Box::leak(name.as_str().into());
        let common = if with_values && is_common(name, value) {
            let text: &'static [u8] = Box::leak(value.as_bytes().into());
            HeaderValue::from_maybe_shared(Bytes::from_static(text)).ok()?
        } else {
            HeaderValue::from_static("")
        };
        shape
            .try_append(HeaderName::from_static(text), common)
            .ok()?;
    }
    add_places(&mut shape);
    Some(shape)
}

/// The unread rest. Sections written by `pack` are never truncated, but nothing here relies on that.
struct Rest<'a> {
    text: &'a Bytes,
    at: usize,
}

impl Rest<'_> {
    fn field(&mut self) -> Option<(HeaderName, HeaderValue)> {
        let length = self.number()?;
        let name = self.piece(length)?;
        let name = HeaderName::from_lowercase(self.text.get(name)?).ok()?;
        Some((name, self.value()?))
    }

    fn value(&mut self) -> Option<HeaderValue> {
        let value = match self.number()?.checked_sub(1) {
            Some(length) => self.piece(length)?,
            None => return Some(date::format(self.number()? as u64)),
        };
        HeaderValue::from_maybe_shared(self.text.slice(value)).ok()
    }

    /// The position of the next `length` bytes.
    fn piece(&mut self, length: usize) -> Option<std::ops::Range<usize>> {
        let start = self.at;
        let end = start.checked_add(length)?;
        if end > self.text.len() {
            return None;
        }
        self.at = end;
        Some(start..end)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// A number in groups of seven bits, the last group below 128.
fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The fields in order.
    fn list(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let fields = headers.iter();
        fields.map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// Packed and unpacked, without the two placeholders.
    fn round(headers: &HeaderMap) -> HeaderMap {
        let mut text = Vec::new();
        pack(headers, &mut text);
        let mut back = unpack(&Bytes::from(text));
        assert!(back.remove(header::AGE).is_some());
        assert!(back.remove(CACHE_STATUS).is_some());
        back
    }

    fn sample() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/html".to_owned()),
            ("x-one", "1".to_owned()),
            ("link", String::new()),
            ("cache-control", "max-age=60".to_owned()),
            ("vary", String::new()),
            ("cache-control", "s-maxage=70".to_owned()),
            ("x-one", "2".to_owned()),
            ("x-long", "v".repeat(70_000)),
            ("x-one", "3".to_owned()),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
            ("expires", "0".to_owned()),
            ("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT".to_owned()),
            ("etag", "\"caf\u{e9}\"".to_owned()),
        ] {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn unpacked_fields_are_those_packed_in_order_with_repeats() {
        let headers = HeaderMap::new();
        assert_eq!(round(&headers), headers);
        let mut headers = sample();
        for _ in 0..3 {
            let back = round(&headers);
            assert_eq!(back, headers);
            assert_eq!(list(&back), list(&headers));
            let (name, _) = list(&headers).pop().unwrap();
            headers.remove(name);
        }
    }

    #[test]
    fn dates_are_five_bytes_and_a_mark() {
        let mut headers = HeaderMap::new();
        let length = |headers: &HeaderMap| {
            let mut text = Vec::new();
            pack(headers, &mut text);
            text.len()
        };
        let before = length(&headers);
        for (count, name) in [header::DATE, header::EXPIRES, header::LAST_MODIFIED]
            .into_iter()
            .enumerate()
        {
            headers.insert(name, date::format(1_780_000_000 + count as u64));
            assert_eq!(length(&headers), before + 6 * (count + 1));
            assert_eq!(round(&headers), headers);
        }
    }

    #[test]
    fn names_too_long_for_a_number_are_spelt_out() {
        let mut headers = sample();
        for i in 0..300 {
            let name = HeaderName::from_bytes(format!("x-made-up-{i}").as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from(i));
        }
        assert_eq!(number(&headers), (SPELT, false));
        let back = round(&headers);
        assert_eq!(list(&back), list(&headers));
    }

    #[test]
    fn values_that_differ_too_much_use_numbers_up_and_nothing_is_lost() {
        let mut headers = sample();
        for i in 0..MOST_SHAPES + 100 {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from(i));
            assert_eq!(list(&round(&headers)), list(&headers));
        }
        assert!(!number(&headers).1 && number(&headers).0 != SPELT);
        headers.insert("x-new", HeaderValue::from_static("1"));
        assert_eq!(list(&round(&headers)), list(&headers));
    }

    #[test]
    fn age_and_cache_status_are_places_whatever_they_said() {
        let mut headers = sample();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("shield; hit"));
        headers.insert(header::AGE, HeaderValue::from_static("7"));
        let mut text = Vec::new();
        pack(&headers, &mut text);
        let back = unpack(&Bytes::from(text));
        assert_eq!(back.get(header::AGE).unwrap(), "0");
        assert_eq!(back.get(CACHE_STATUS).unwrap(), "");
        assert_eq!(back.len(), headers.len());
    }

    #[test]
    fn text_that_was_cut_short_is_no_panic() {
        let mut text = Vec::new();
        pack(&sample(), &mut text);
        for end in 0..60 {
            assert!(unpack(&Bytes::copy_from_slice(&text[..end])).len() <= sample().len() + 2);
        }
    }
}
