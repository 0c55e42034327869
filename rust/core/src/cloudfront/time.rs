//! Times of signatures: `20261124T170605Z`.

use crate::http::date;

/// Unix seconds of a signature's time.
pub(crate) fn basic(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.last() != Some(&b'Z') {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let month = number(4, 6)?.checked_sub(1).filter(|month| *month < 12)?;
    let time = date::clock(number(9, 11)?, number(11, 13)?, number(13, 15)?)?;
    date::seconds(number(0, 4)?, month, number(6, 8)?, time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::date::Iso;

    #[test]
    fn times_are_read_and_written() {
        for (text, unix, iso) in [
            ("19700101T000000Z", 0, "1970-01-01T00:00:00.000Z"),
            ("20000229T235959Z", 951_868_799, "2000-02-29T23:59:59.000Z"),
            (
                "20261124T170605Z",
                1_795_539_965,
                "2026-11-24T17:06:05.000Z",
            ),
            (
                "20991231T000000Z",
                4_102_358_400,
                "2099-12-31T00:00:00.000Z",
            ),
        ] {
            assert_eq!(basic(text), Some(unix), "{text}");
            assert_eq!(Iso(unix * 1_000).to_string(), iso);
        }
        for wrong in [
            "",
            "20261124",
            "20261324T000000Z",
            "2026112AT170605Z",
            "20261124T170605+",
            "20261124T250605Z",
        ] {
            assert_eq!(basic(wrong), None, "{wrong}");
        }
        for day in 0..60_000 {
            let (year, month, of_month) = date::civil(day);
            assert_eq!(
                date::seconds(year, month - 1, of_month, 0),
                Some(day * 86_400)
            );
        }
    }
}
