//! A header section in few bytes, for stored responses, and quick to turn into `Fields` again.
//!
//! A million small responses would be more header section than response. But nearly all of them have the same names in
//! the same order, and the same values in some fields. So these are kept once, as fields with empty values in place of
//! the others, and a packed section is the number of that list and the other values. Dates take five bytes instead of
//! 29.

use std::sync::{LazyLock, OnceLock};

use edgerouter_core::http::{FieldValue, Fields, KnownSet, WireName, date, header};
use hashbrown::HashMap;
use http::HeaderValue;
use parking_lot::RwLock;

/// Number of shapes; an origin that invents more uses no more memory than this. Sections of other shapes are spelt out.
const MOST_SHAPES: usize = 4096;
/// Beyond this number shapes are names without values, so that values that differ too much do not use up the numbers.
const MOST_WITH_VALUES: usize = 2048;
/// The longest shape that is kept, in bytes.
const LONGEST_SHAPE: usize = 2048;

/// Fields that have the same value in many responses.
const COMMON: KnownSet = KnownSet::of(&[
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
]);

/// Fields whose value is a date.
const DATES: KnownSet = KnownSet::of(&[header::DATE, header::LAST_MODIFIED, header::EXPIRES]);

/// A map for each list of names and common values, in the order in which they were first stored. Shared by the whole
/// process, because entries outlive plans and move between stores; a number never changes its map.
static SHAPES: [OnceLock<Fields>; MOST_SHAPES] = [const { OnceLock::new() }; MOST_SHAPES];
static NUMBERS: LazyLock<RwLock<HashMap<Box<[u8]>, usize>>> = LazyLock::new(RwLock::default);

/// The number of a section in which each value's name precedes it.
const SPELT: usize = 0;

/// In place of a value's length plus one: the seconds of a date follow.
const DATE: usize = 0;

/// Set on every hit, so not packed.
const SET: KnownSet = KnownSet::of(&[header::AGE, header::CACHE_STATUS]);

/// Appends `headers` to `out`, without `Age` and `Cache-Status`. The mark of sensitive values is not kept:
/// those are not stored.
pub(super) fn pack(headers: &Fields, out: &mut Vec<u8>) {
    let (number, with_values) = number(headers);
    put(out, number);
    for (name, value) in headers.iter().filter(|(name, _)| !name.is_of(SET)) {
        if with_values && is_common(name, value) {
            continue;
        }
        if number == SPELT {
            put(out, name.as_wire().len());
            out.extend_from_slice(name.as_wire());
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
fn date_in(name: WireName<'_>, value: FieldValue<'_>) -> Option<usize> {
    if !name.is_of(DATES) {
        return None;
    }
    let seconds = date::parse(value.as_bytes())?;
    (value == date::format(seconds)).then_some(seconds as usize)
}

/// The header section that was packed into `text`.
pub(super) fn unpack(text: &[u8]) -> Fields {
    let mut rest = Rest(text);
    let number = rest.number().unwrap_or(SPELT);
    let shape = number.checked_sub(1).and_then(|at| SHAPES.get(at)?.get());
    let mut headers = Fields::with_capacity(24);
    match shape {
        Some(shape) => {
            for (name, common) in shape {
                if !common.is_empty() {
                    headers.append(name, common);
                } else if rest.value(|value| headers.append(name, value)).is_none() {
                    break;
                }
            }
        }
        None => while rest.field(&mut headers).is_some() {},
    }
    headers
}

fn is_common(name: WireName<'_>, value: FieldValue<'_>) -> bool {
    !value.is_empty() && name.is_of(COMMON)
}

/// The number of the map that fits, from 1, and whether it has the common values; `SPELT` if there is none.
fn number(headers: &Fields) -> (usize, bool) {
    if let Some(number) = numbered(headers, true, MOST_WITH_VALUES) {
        return (number, true);
    }
    let number = numbered(headers, false, MOST_SHAPES).unwrap_or(SPELT);
    (number, false)
}

/// The number of the map for `headers`; a new one as long as there are fewer than `most`.
fn numbered(headers: &Fields, with_values: bool, most: usize) -> Option<usize> {
    let mut list = Vec::with_capacity(512);
    list.push(u8::from(with_values));
    for (name, value) in headers.iter().filter(|(name, _)| !name.is_of(SET)) {
        list.extend_from_slice(name.as_wire());
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
        .set(shape(headers, with_values))
        .ok()?;
    let number = numbers.len() + 1;
    numbers.insert(list.into_boxed_slice(), number);
    Some(number)
}

fn shape(headers: &Fields, with_values: bool) -> Fields {
    let mut shape = Fields::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| !name.is_of(SET)) {
        if with_values && is_common(name, value) {
            shape.append(name, value);
        } else {
            shape.append(name, HeaderValue::from_static(""));
        }
    }
    shape
}

/// The unread rest. Sections written by `pack` are never truncated, but nothing here relies on that.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn field(&mut self, headers: &mut Fields) -> Option<()> {
        let length = self.number()?;
        let name = self.piece(length)?;
        self.value(|value| headers.append_wire(name, value).ok())?
    }

    /// Hands the next value over.
    fn value<R>(&mut self, take: impl FnOnce(FieldValue<'_>) -> R) -> Option<R> {
        Some(match self.number()?.checked_sub(1) {
            Some(length) => take(FieldValue::of(self.piece(length)?)?),
            None => take((&date::format(self.number()? as u64)).into()),
        })
    }

    /// The next `length` bytes.
    fn piece(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
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
    use edgerouter_core::http::{FieldName, header};

    /// The fields in order.
    fn list(headers: &Fields) -> Vec<(FieldName, HeaderValue)> {
        let fields = headers.iter();
        fields.map(|(n, v)| (n.owned(), v.owned())).collect()
    }

    /// Packed and unpacked.
    fn round(headers: &Fields) -> Fields {
        let mut text = Vec::new();
        pack(headers, &mut text);
        unpack(&text)
    }

    fn sample() -> Fields {
        let mut headers = Fields::new();
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
        let headers = Fields::new();
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
        let mut headers = Fields::new();
        let length = |headers: &Fields| {
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
            let name = FieldName::from_bytes(format!("x-made-up-{i}").as_bytes()).unwrap();
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
    fn age_and_cache_status_are_not_packed() {
        let mut headers = sample();
        headers.insert(
            header::CACHE_STATUS,
            HeaderValue::from_static("shield; hit"),
        );
        headers.insert(header::AGE, HeaderValue::from_static("7"));
        assert_eq!(list(&round(&headers)), list(&sample()));
    }

    #[test]
    fn text_that_was_cut_short_is_no_panic() {
        let mut text = Vec::new();
        pack(&sample(), &mut text);
        for end in 0..60 {
            assert!(unpack(&text[..end]).len() <= sample().len());
        }
    }
}
