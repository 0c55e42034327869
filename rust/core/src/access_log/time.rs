//! Times as the forms write them, in UTC.

use super::digits::two;
use crate::http::date::{MONTHS, civil};

/// Hours, minutes and seconds of a day, as `HH:MM:SS`.
fn clock(second: u64) -> [u8; 8] {
    let [h, i] = two(second / 3_600);
    let [m, n] = two(second / 60 % 60);
    let [s, t] = two(second % 60);
    [h, i, b':', m, n, b':', s, t]
}

/// Unix milliseconds in the form of RFC 3339, in UTC.
pub(super) fn iso(out: &mut Vec<u8>, at: u64) {
    let (second, millis) = (at / 1_000, at % 1_000);
    let (year, month, day) = civil(second / 86_400);
    let ([y, e], [a, r]) = (two(year / 100), two(year));
    let ([m, n], [d, f]) = (two(month), two(day));
    out.extend_from_slice(&[y, e, a, r, b'-', m, n, b'-', d, f, b'T']);
    out.extend_from_slice(&clock(second % 86_400));
    let [t, u] = two(millis / 10);
    out.extend_from_slice(&[b'.', t, u, b'0' + (millis % 10) as u8, b'Z']);
}

/// Unix seconds in Apache's form, in UTC.
pub(super) fn clf(out: &mut Vec<u8>, at: u64) {
    let (year, month, day) = civil(at / 86_400);
    out.extend_from_slice(&two(day));
    out.push(b'/');
    out.extend_from_slice(MONTHS.get(month as usize - 1).unwrap_or(&"Jan").as_bytes());
    out.push(b'/');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year));
    out.push(b':');
    out.extend_from_slice(&clock(at % 86_400));
    out.extend_from_slice(b" +0000");
}
