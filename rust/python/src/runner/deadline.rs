//! The end of a call's time.

use std::time::{Duration, Instant};

use edgerouter_functions::pipe::PieceWaits;

/// The longest wait that Python gives. Later moments might have no place on the clock.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The end of a wait of so many seconds, a day at most. Without a number there is no wait.
pub(crate) fn in_seconds(seconds: f64) -> Instant {
    let wait = match Duration::try_from_secs_f64(seconds) {
        Ok(wait) => wait.min(LONGEST),
        Err(_) if seconds > 0.0 => LONGEST,
        Err(_) => Duration::ZERO,
    };
    Instant::now() + wait
}

/// The end of the time of a call. An async function may wait for content of its client without a thread, and these
/// waits do not count: the limits of the listener bound them.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    /// Without any wait.
    first: Instant,
    waits: Option<PieceWaits>,
}

impl Deadline {
    pub(crate) fn new(first: Instant, waits: Option<PieceWaits>) -> Self {
        Self { first, waits }
    }

    /// As far as it is known now.
    pub(crate) fn at(&self) -> Instant {
        match &self.waits {
            None => self.first,
            Some(waits) => self.first + waits.total(),
        }
    }

    /// Before any wait.
    pub(crate) fn first(&self) -> Instant {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_any_number_of_seconds_has_an_end() {
        let none = Duration::ZERO;
        for (seconds, wait) in [
            (0.0, none),
            (-1.0, none),
            (f64::NAN, none),
            (f64::NEG_INFINITY, none),
            (0.5, Duration::from_millis(500)),
            (86_401.0, LONGEST),
            (1e18, LONGEST),
            (1e300, LONGEST),
            (f64::INFINITY, LONGEST),
        ] {
            let before = Instant::now();
            let end = in_seconds(seconds);
            let after = Instant::now();
            assert!(
                before + wait <= end && end <= after + wait,
                "{seconds}: {end:?}"
            );
        }
    }
}
