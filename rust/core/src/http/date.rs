//! HTTP dates (RFC 9110 §5.6.7): all three forms are read, the fixed-length one is written.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

/// Seconds since the Unix epoch; `None` for what is no HTTP date, or lies before the epoch.
///
/// The grammar is kept to the letter but for the case of letters, which nobody can misread.
pub fn parse(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let time = httpdate::parse_http_date(text)
        .or_else(|_| httpdate::parse_http_date(&recased(text)))
        .ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Words begin with a capital, and `GMT` is all capitals.
fn recased(text: &str) -> String {
    // The longest form, RFC 850's with a Wednesday, has 33 characters: what is longer is no date whatever its case.
    let mut inside = false;
    let cased: String = text
        .chars()
        .take(40)
        .map(|c| {
            let first = !std::mem::replace(&mut inside, c.is_ascii_alphabetic());
            if first {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    cased.replace("Gmt", "GMT")
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Seconds beyond the year 9999 are written as its end.
pub fn format(seconds: u64) -> HeaderValue {
    const END: u64 = 253_402_300_799;
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(END)));
    HeaderValue::from_str(&text)
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
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
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
