//! Times in AWS's formats: `20261124T170605Z` in signatures, `2026-11-24T17:06:05.123Z` in responses.

/// Unix seconds of a signature's time.
pub fn basic(text: &str) -> Option<u64> {
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
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Unix milliseconds as ISO 8601.
pub fn extended(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (year, month, day) = civil(seconds / 86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1_000
    )
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year + era * 400 + u64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(extended(unix * 1_000), iso);
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
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }
}
