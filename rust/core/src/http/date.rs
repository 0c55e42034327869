//! HTTP dates (RFC 9110 §5.6.7): all three forms are read, the fixed-length one is written. Also the calendar that
//! other forms of dates use.

use std::{
    cell::Cell,
    time::{Duration, UNIX_EPOCH},
};

use http::HeaderValue;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
pub(crate) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The last value that was a date: nearly all responses of one second have the same.
#[derive(Debug, Default)]
pub struct LastDate(Cell<[u8; 29]>);

impl LastDate {
    /// True if a value is a date.
    pub fn knows(&self, value: &[u8]) -> bool {
        if *value == self.0.get() {
            return true;
        }
        let is_date = parse(value).is_some();
        if is_date && let Ok(value) = value.try_into() {
            self.0.set(value);
        }
        is_date
    }
}

/// Seconds since the Unix epoch; `None` if the value is not an HTTP date, or before the epoch.
///
/// The grammar is followed strictly, with two exceptions: the case of letters, which is never ambiguous, and the name
/// of the day, which the rest of the date implies.
pub fn parse(value: &[u8]) -> Option<u64> {
    let text = Text(value.trim_ascii());
    fixed(text)
        .or_else(|| rfc850(text))
        .or_else(|| asctime(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: nearly all dates have this form, so it is read in place.
fn fixed(Text(text): Text<'_>) -> Option<u64> {
    let &[
        d1,
        d2,
        d3,
        b',',
        b' ',
        day1,
        day2,
        b' ',
        m1,
        m2,
        m3,
        b' ',
        y1,
        y2,
        y3,
        y4,
        b' ',
        h1,
        h2,
        b':',
        min1,
        min2,
        b':',
        s1,
        s2,
        b' ',
        g,
        m,
        t,
    ] = text
    else {
        return None;
    };
    let three = |a: u8, b: u8, c: u8| {
        [
            a.to_ascii_lowercase(),
            b.to_ascii_lowercase(),
            c.to_ascii_lowercase(),
        ]
    };
    let is_day = matches!(
        &three(d1, d2, d3),
        b"mon" | b"tue" | b"wed" | b"thu" | b"fri" | b"sat" | b"sun"
    );
    if !is_day || three(g, m, t) != *b"gmt" {
        return None;
    }
    let month = match &three(m1, m2, m3) {
        b"jan" => 0,
        b"feb" => 1,
        b"mar" => 2,
        b"apr" => 3,
        b"may" => 4,
        b"jun" => 5,
        b"jul" => 6,
        b"aug" => 7,
        b"sep" => 8,
        b"oct" => 9,
        b"nov" => 10,
        b"dec" => 11,
        _ => return None,
    };
    let two = |tens: u8, ones: u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| u64::from(tens - b'0') * 10 + u64::from(ones - b'0'))
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let time = clock(two(h1, h2)?, two(min1, min2)?, two(s1, s2)?)?;
    seconds(year, month, two(day1, day2)?, time)
}

/// The second of a day; `60` is a leap second.
pub fn clock(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(mut text: Text<'_>) -> Option<u64> {
    text.one_of(&LONG_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal("-")?;
    let month = text.one_of(&MONTHS)?;
    text.literal("-")?;
    let year = text.digits(2)?;
    text.literal(" ")?;
    let time = text.time()?;
    text.literal(" GMT")?;
    text.end()?;
    // Dates before the epoch are meaningless here, so those years are the next century's.
    seconds(year + if year < 70 { 2000 } else { 1900 }, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(mut text: Text<'_>) -> Option<u64> {
    text.one_of(&DAYS)?;
    text.literal(" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(" ")?;
    let day = match text.literal(" ") {
        Some(()) => text.digits(1)?,
        None => text.digits(2)?,
    };
    text.literal(" ")?;
    let time = text.time()?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.end()?;
    seconds(year, month, day, time)
}

/// The unread rest of a date.
#[derive(Clone, Copy)]
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn literal(&mut self, expected: &str) -> Option<()> {
        let (found, rest) = self.0.split_at_checked(expected.len())?;
        found
            .eq_ignore_ascii_case(expected.as_bytes())
            .then(|| self.0 = rest)
    }

    /// The position in `names` of the name that comes next.
    fn one_of(&mut self, names: &[&str]) -> Option<u64> {
        let place = names.iter().position(|name| self.literal(name).is_some())?;
        u64::try_from(place).ok()
    }

    fn digits(&mut self, count: usize) -> Option<u64> {
        let (found, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        found.iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u64::from(digit - b'0'))
        })
    }

    /// `08:49:37`, in seconds.
    fn time(&mut self) -> Option<u64> {
        let hour = self.digits(2)?;
        self.literal(":")?;
        let minute = self.digits(2)?;
        self.literal(":")?;
        let second = self.digits(2)?;
        clock(hour, minute, second)
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// `month` counts from 0, `day` from 1.
pub fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        1 => 28 + u64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if year < 1970 || day == 0 || day > length {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of its year.
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    let days = before + (month * 153 + 2) / 5 + day - 1;
    // From the first of March of the year 0 to the epoch.
    const TO_EPOCH: u64 = 719_468;
    Some((days - TO_EPOCH) * 86_400 + time)
}

/// Seconds of a `Retry-After` (RFC 9110 §10.2.3), which is a number or a date, from `now`; `None` if it is neither.
pub fn retry_after(value: &[u8], now: u64) -> Option<u64> {
    let value = value.trim_ascii();
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        let text = std::str::from_utf8(value).ok()?;
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    Some(parse(value)?.saturating_sub(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Seconds beyond the year 9999 are written as its end.
pub fn format(seconds: u64) -> HeaderValue {
    const END: u64 = 253_402_300_799;
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(END)));
    HeaderValue::from_str(&text)
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Year, month and day of a number of days since the epoch (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// Unix milliseconds in the form of RFC 3339, in UTC.
pub(crate) struct Iso(pub u64);

impl std::fmt::Display for Iso {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (year, month, day) = civil(seconds / 86_400);
        let second = seconds % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 nov 1994 08:49:37 gMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Thu Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in [
            "0",
            "-1",
            "",
            "tomorrow",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "\u{e9}",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn what_is_written_is_read_as_the_same_time() {
        // Every day of four centuries, each at another time of day.
        for day in 0..146_097u64 {
            let time = day * 86_400 + day * 7919 % 86_400;
            assert_eq!(parse(format(time).as_bytes()), Some(time));
        }
        assert_eq!(parse(b"Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_800));
    }
}
