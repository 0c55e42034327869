//! The pace of a client: bytes that it takes or sends while the edge waits for it.

use std::cell::Cell;

use edgerouter_core::plan::limits::HttpLimits;

/// Bytes in one direction, looked at once a second.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    bytes: Cell<u64>,
    /// Ticks (ms) and bytes at the start of the time that is measured.
    start: Cell<Option<(u64, u64)>>,
}

impl Pace {
    /// Bytes have moved.
    pub(crate) fn moved(&self, count: usize) {
        self.bytes.set(self.bytes.get().wrapping_add(count as u64));
    }

    /// True if the client was waited for at each look within `body_timeout`, and moved fewer bytes in that time than
    /// `min_rate` wants.
    pub(crate) fn is_slow(&self, is_waited_for: bool, now: u64, limits: &HttpLimits) -> bool {
        if !is_waited_for || limits.min_rate == 0 {
            self.start.set(None);
            return false;
        }
        let bytes = self.bytes.get();
        let Some((since, before)) = self.start.get() else {
            self.start.set(Some((now, bytes)));
            return false;
        };
        let took = now.saturating_sub(since);
        if u128::from(took) < limits.body_timeout.as_millis() {
            return false;
        }
        self.start.set(Some((now, bytes)));
        bytes.wrapping_sub(before) < limits.min_rate.saturating_mul(took) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(min_rate: u64) -> HttpLimits {
        HttpLimits {
            body_timeout: Duration::from_secs(10),
            min_rate,
            ..HttpLimits::default()
        }
    }

    /// True at the second at which a client that moves so many bytes a second is found slow.
    fn found(bytes: usize, min_rate: u64, is_waited_for: impl Fn(u64) -> bool) -> Option<u64> {
        let (pace, limits) = (Pace::default(), limits(min_rate));
        (1..=60).find(|second| {
            pace.moved(bytes);
            pace.is_slow(is_waited_for(*second), second * 1_000, &limits)
        })
    }

    #[test]
    fn a_client_is_slow_that_is_waited_for_all_the_time_and_below_the_rate() {
        for (bytes, rate, want) in [
            (0, 100, Some(11)),
            (99, 100, Some(11)),
            (100, 100, None),
            (0, 0, None),
        ] {
            assert_eq!(found(bytes, rate, |_| true), want, "{bytes} {rate}");
        }
        // The origin is slow, not the client: it takes all that there is now and then.
        assert_eq!(found(1, 100, |second| second % 10 != 0), None);
        assert_eq!(found(1, 100, |second| second > 30), Some(41));
    }
}
