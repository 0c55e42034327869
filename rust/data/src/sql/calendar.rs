//! Dates and times as text, in the form that SQLite gives: `2026-11-27 16:00:00`, with a fraction only where there is
//! one.

/// A day by its number since 1970-01-01 in the proleptic Gregorian calendar.
pub(crate) fn date(days: i64) -> String {
    // Days are counted from 0000-03-01, so that a leap day is the last of its year (Hinnant, "chrono-compatible
    // low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}"),
        // As PostgreSQL writes it: there was no year 0.
        _ => format!("{:04}-{month:02}-{day:02} BC", 1 - year),
    }
}

/// A time by its microseconds.
pub(super) fn time(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text
}

const DAY: i64 = 86_400_000_000;

/// A moment by its microseconds since 1970-01-01. `None`: it is out of range.
pub(super) fn moment(micros: i64) -> String {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (date, time) = (date(days), time(rest.unsigned_abs()));
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time} BC"),
        None => format!("{date} {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (days, want) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_784, "2026-11-27"),
            (-25_508, "1900-03-01"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "10000-01-01"),
        ] {
            assert_eq!(date(days), want);
        }
    }

    #[test]
    fn a_fraction_is_there_only_if_it_is_some() {
        assert_eq!(time(0), "00:00:00");
        assert_eq!(time(86_399_000_000), "23:59:59");
        assert_eq!(time(1_500_000), "00:00:01.5");
        assert_eq!(time(1), "00:00:00.000001");
        assert_eq!(moment(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(moment(1_795_795_200_000_000), "2026-11-27 16:00:00");
    }
}
