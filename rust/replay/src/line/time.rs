//! Times as logs write them, in Unix seconds.

use edgerouter_core::http::date;

use super::number;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `26/Nov/2026:16:27:54 +0000`.
pub(super) fn common(text: &[u8]) -> Option<u64> {
    let (day, month, year, clock) = (
        number(text.get(..2)?)?,
        text.get(3..6)?,
        number(text.get(7..11)?)?,
        text.get(12..20)?,
    );
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let local = date::seconds(year, month, day, time_of_day(clock)?)?;
    offset(local, text.get(20..).unwrap_or_default().trim_ascii())
}

/// `2026-11-26T16:27:54.123Z`, with any byte in place of the `T`, any offset, or none for UTC.
pub(super) fn iso(text: &[u8]) -> Option<u64> {
    let local = date_of(text.get(..10)?, time_of_day(text.get(11..19)?)?)?;
    let rest = text.get(19..).unwrap_or_default();
    let fraction = match rest.split_first() {
        Some((b'.' | b',', digits)) => {
            1 + digits
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        }
        _ => 0,
    };
    offset(local, rest.get(fraction..)?.trim_ascii())
}

/// `2026-11-26` and `16:27:54`.
pub(super) fn date_and_time(day: &[u8], clock: &[u8]) -> Option<u64> {
    date_of(day, time_of_day(clock)?)
}

/// A number since the epoch, in seconds, milliseconds, microseconds or nanoseconds: the year decides.
pub(super) fn epoch(value: f64) -> Option<u64> {
    let mut seconds = value;
    // No log is from the year 5138 or later.
    while seconds >= 1e11 {
        seconds /= 1e3;
    }
    (seconds >= 0.0).then_some(seconds as u64)
}

fn date_of(text: &[u8], time: u64) -> Option<u64> {
    let &[_, _, _, _, b'-', _, _, b'-', _, _] = text else {
        return None;
    };
    let month = number(text.get(5..7)?)?.checked_sub(1)?;
    if month > 11 {
        return None;
    }
    date::seconds(
        number(text.get(..4)?)?,
        month,
        number(text.get(8..10)?)?,
        time,
    )
}

fn time_of_day(text: &[u8]) -> Option<u64> {
    let &[_, _, b':', _, _, b':', _, _] = text else {
        return None;
    };
    date::clock(
        number(text.get(..2)?)?,
        number(text.get(3..5)?)?,
        number(text.get(6..8)?)?,
    )
}

/// Takes `+hhmm`, `+hh:mm`, `Z` or nothing off a local time.
fn offset(local: u64, text: &[u8]) -> Option<u64> {
    let Some((sign, digits)) = text.split_first() else {
        return Some(local);
    };
    let hours = || number(digits.get(..2)?);
    let minutes = || number(digits.get(digits.len().checked_sub(2)?..)?);
    let seconds = || Some((hours()? * 60 + minutes()?) * 60);
    match sign {
        b'Z' | b'z' => Some(local),
        b'+' => local.checked_sub(seconds()?),
        b'-' => local.checked_add(seconds()?),
        _ => None,
    }
}
