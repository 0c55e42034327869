//! When a certificate is renewed, and when a failed order is tried again. All times are Unix seconds; chance is a
//! number from the caller, over the whole range of its type.

/// The window in which an issuer wants a certificate to be renewed (ACME Renewal Information, RFC 9773 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalWindow {
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

/// The rule that a time of renewal follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalReason {
    /// Two thirds of the validity have passed, and up to a thirtieth of it more.
    Age,
    /// The issuer's window.
    Window,
    /// The validity has a length that no certificate has.
    Unusable,
}

/// The time from which a certificate is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Unix seconds.
    pub at: i64,
    /// Its reason.
    pub reason: RenewalReason,
}

/// The time to renew a certificate that is valid from and until these seconds. An issuer's window counts as long as it
/// begins before nine tenths of the validity: one that lies, or that has its clock wrong, cannot make a certificate
/// expire. The part of the jitter is the same for one certificate each time, as `chance` is: it moves no time that was
/// announced.
pub fn renewal(valid: (i64, i64), window: Option<RenewalWindow>, chance: u32) -> Renewal {
    let (from, until) = valid;
    let Some(length) = until.checked_sub(from).filter(|length| *length > 0) else {
        return Renewal {
            at: from,
            reason: RenewalReason::Unusable,
        };
    };
    let part = |of: i64| (i128::from(of) * i128::from(chance) / (1 << 32)) as i64;
    let latest = until.saturating_sub(length / 10);
    let usable = window.filter(|window| window.start <= window.end && window.start < latest);
    if let Some(window) = usable {
        let width = window.end.min(latest).saturating_sub(window.start);
        return Renewal {
            at: window.start.saturating_add(part(width)),
            reason: RenewalReason::Window,
        };
    }
    Renewal {
        at: from
            .saturating_add(length / 3 * 2)
            .saturating_add(part(length / 30)),
        reason: RenewalReason::Age,
    }
}

/// Seconds until an issuer's window is read again: as the issuer wishes (RFC 9773 §4.3.2), from a minute to a day; 6
/// hours if it says nothing, or failed.
pub fn window_wait(wished: Option<i64>) -> i64 {
    wished.map_or(6 * 3_600, |seconds| seconds.clamp(60, LONGEST_WAIT))
}

/// Longest time between two attempts.
const LONGEST_WAIT: i64 = 24 * 3_600;

/// Seconds from the failure of an order to the next attempt: a minute, and twice as long after each further failure, up
/// to a day. A half of it is left to chance, so that many edges do not return together.
pub fn retry_wait(failures: u32, chance: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(11);
    let whole = (60_i64 << doublings).min(LONGEST_WAIT);
    let part = (i128::from(whole / 2) * i128::from(chance) / (1 << 32)) as i64;
    whole / 2 + part + 1
}

/// Certificates in a row, each of which was in use for too short a time, that are renewed as soon as they are due.
const HASTE: u32 = 3;
const SHORTEST_REST: i64 = 60;

/// True if a certificate that is valid from and until these seconds was in use for too short a time: its issuer, whose
/// window or clock says so, might have it renewed again and again.
pub fn is_hasty(valid: (i64, i64), in_use: i64) -> bool {
    (0..third(valid).min(2 * LONGEST_WAIT)).contains(&in_use)
}

/// Seconds for which a certificate is not renewed although it is due, after as many hasty ones in a row: none for the
/// first, then as after failures, but never more than a third of its validity.
pub fn rest(valid: (i64, i64), hasty: u32, chance: u32) -> i64 {
    match hasty.checked_sub(HASTE) {
        None | Some(0) => 0,
        Some(more) => retry_wait(more, chance).min(third(valid)),
    }
}

fn third((from, until): (i64, i64)) -> i64 {
    (until.saturating_sub(from) / 3).max(SHORTEST_REST)
}

/// Seconds that an issuer is left alone for one name, by its `Retry-After`: at most a day.
pub fn asked_wait(asked: u64) -> i64 {
    i64::try_from(asked).unwrap_or(i64::MAX).min(LONGEST_WAIT)
}

/// Seconds from the failure of an order to the next attempt, where each issuer wants to be left alone for some time, or
/// for none: the usual wait, or the one until the first of them may get a request.
pub fn patient_wait(usual: i64, issuers: impl IntoIterator<Item = i64>) -> i64 {
    issuers.into_iter().min().unwrap_or(0).max(usual)
}

/// True if the wait until `at` after a failure is over. One that lies further ahead than any wait is over, too: the
/// clock has been set back since.
pub fn may_retry(at: i64, now: i64) -> bool {
    now >= at || at.saturating_sub(now) > LONGEST_WAIT + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_validity_with_a_jitter() {
        let valid = (0, 90 * DAY);
        for (chance, want) in [(0, 60 * DAY), (u32::MAX, 63 * DAY - 1)] {
            let renewal = renewal(valid, None, chance);
            assert_eq!((renewal.at, renewal.reason), (want, RenewalReason::Age));
        }
    }

    #[test]
    fn an_issuers_window_moves_the_renewal_but_never_past_nine_tenths_of_the_validity() {
        let valid = (0, 100 * DAY);
        let at = |start, end, chance| renewal(valid, Some(RenewalWindow { start, end }), chance);
        for (start, end, chance, want, reason) in [
            (10, 20, 0, 10, RenewalReason::Window),
            (10, 20, u32::MAX, 19, RenewalReason::Window),
            // At once: the certificate will be revoked.
            (-50, -40, 0, -50, RenewalReason::Window),
            (
                80 * DAY,
                300 * DAY,
                u32::MAX,
                90 * DAY - 1,
                RenewalReason::Window,
            ),
            // Too late, or no window.
            (95 * DAY, 96 * DAY, 0, 66 * DAY + 57_600, RenewalReason::Age),
            (20, 10, 0, 66 * DAY + 57_600, RenewalReason::Age),
            (i64::MAX, i64::MAX, 0, 66 * DAY + 57_600, RenewalReason::Age),
        ] {
            let found = at(start, end, chance);
            assert_eq!(found.reason, reason, "{start} {end}");
            assert!(
                (found.at - want).abs() <= 57_600,
                "{start} {end}: {}",
                found.at
            );
        }
    }

    #[test]
    fn a_validity_of_no_length_is_renewed_at_once() {
        for valid in [(5, 5), (5, 4), (i64::MIN, i64::MAX)] {
            assert_eq!(renewal(valid, None, 7).reason, RenewalReason::Unusable);
        }
    }

    #[test]
    fn a_window_is_read_again_as_the_issuer_wishes_within_bounds() {
        for (wished, want) in [
            (None, 21_600),
            (Some(0), 60),
            (Some(-5), 60),
            (Some(7_200), 7_200),
            (Some(i64::MAX), DAY),
        ] {
            assert_eq!(window_wait(wished), want);
        }
    }

    #[test]
    fn waits_double_from_a_minute_to_a_day() {
        for (failures, shortest, longest) in [
            (0, 30, 61),
            (1, 30, 61),
            (2, 60, 121),
            (5, 480, 961),
            (20, DAY / 2, DAY + 1),
            (u32::MAX, DAY / 2, DAY + 1),
        ] {
            for chance in [0, u32::MAX / 2, u32::MAX] {
                let wait = retry_wait(failures, chance);
                assert!((shortest..=longest).contains(&wait), "{failures}: {wait}");
            }
        }
    }

    #[test]
    fn certificates_that_are_due_at_once_again_and_again_are_renewed_less_and_less_often() {
        let valid = (0, 90 * DAY);
        for (in_use, want) in [
            (0, true),
            (2 * DAY - 1, true),
            (2 * DAY, false),
            (-1, false),
        ] {
            assert_eq!(is_hasty(valid, in_use), want, "{in_use}");
        }
        for (hasty, shortest, longest) in [
            (0, 0, 0),
            (3, 0, 0),
            (4, 30, 61),
            (6, 120, 241),
            (40, DAY / 2, DAY + 1),
        ] {
            for chance in [0, u32::MAX] {
                let rest = rest(valid, hasty, chance);
                assert!((shortest..=longest).contains(&rest), "{hasty}: {rest}");
            }
        }
        // One of a day is renewed after two thirds of it, as ever.
        assert!(!is_hasty((0, DAY), DAY / 3 * 2) && rest((0, DAY), 40, u32::MAX) == DAY / 3);
        // None has such a validity, and none is ordered every second.
        assert!(is_hasty((5, 4), 59) && rest((5, 4), 40, 0) == SHORTEST_REST);
        assert!(rest((i64::MIN, i64::MAX), u32::MAX, u32::MAX) <= DAY + 1);
    }

    #[test]
    fn an_issuer_is_left_alone_as_it_wishes_for_a_day_at_most() {
        for (asked, want) in [(0, 0), (7_200, 7_200), (u64::MAX, DAY)] {
            assert_eq!(asked_wait(asked), want);
        }
        for (usual, issuers, want) in [
            (60, &[][..], 60),
            (60, &[0], 60),
            (60, &[7_200], 7_200),
            (60, &[7_200, 0], 60),
            (60, &[7_200, 90], 90),
            (9_000, &[7_200], 9_000),
        ] {
            assert_eq!(
                patient_wait(usual, issuers.iter().copied()),
                want,
                "{issuers:?}"
            );
        }
    }

    #[test]
    fn a_wait_is_over_at_its_time_and_when_the_clock_was_set_back() {
        assert!(may_retry(100, 100) && may_retry(100, 101));
        assert!(!may_retry(101, 100) && !may_retry(100 + DAY, 100));
        assert!(may_retry(100 + 3 * DAY, 100) && may_retry(i64::MAX, i64::MIN));
    }
}
