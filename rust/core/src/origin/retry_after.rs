//! The pause in requests to an origin that responded 503 with `Retry-After` (RFC 9110 §10.2.3, §15.6.4).

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::http::{Fields, date, header};

/// The longest pause: one response must not silence a key for long.
pub const MOST: Duration = Duration::from_secs(1);

/// The time for which the edge answers requests for the same key, and the field that they get. `now` is Unix seconds.
pub fn pause(status: StatusCode, headers: &Fields, now: u64) -> Option<(Duration, HeaderValue)> {
    if status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let mut values = headers.get_all(header::RETRY_AFTER).iter();
    let value = values.next()?;
    // Two that differ say nothing that could be relied on.
    if values.any(|other| other != value) {
        return None;
    }
    let pause = Duration::from_secs(date::retry_after(value.as_bytes(), now)?).min(MOST);
    (!pause.is_zero()).then(|| (pause, value.owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_503_with_a_time_is_kept_to_for_a_second_at_most() {
        let second = Some(Duration::from_secs(1));
        // 784111777 is Sun, 06 Nov 1994 08:49:37 GMT.
        for (status, values, now, want) in [
            (503, &["1"][..], 0, second),
            (503, &["120"], 0, second),
            (503, &["99999999999999999999999999"], 0, second),
            (503, &["0"], 0, None),
            (503, &["-1"], 0, None),
            (503, &["1.5"], 0, None),
            (503, &[""], 0, None),
            (503, &["soon"], 0, None),
            (503, &[], 0, None),
            (503, &["1", "1"], 0, second),
            (503, &["1", "0"], 0, None),
            (503, &["Sun, 06 Nov 1994 08:49:37 GMT"], 784_111_700, second),
            (503, &["Sun, 06 Nov 1994 08:49:37 GMT"], 784_111_777, None),
            (429, &["1"], 0, None),
            (200, &["1"], 0, None),
        ] {
            let mut headers = Fields::new();
            for value in values {
                headers.append(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            let got = pause(status, &headers, now).map(|(pause, _)| pause);
            assert_eq!(got, want, "{status} {values:?} at {now}");
        }
    }
}
