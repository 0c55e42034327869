//! A worker's clock.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The clock of one worker. The monotonic clock is read once a request; the wall clock is derived from it and corrected
/// once a second.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    unix_at_start: Cell<Duration>,
}

impl Clock {
    pub(crate) fn new(shift: i64) -> Self {
        let clock = Self {
            start: Instant::now(),
            unix_at_start: Cell::new(Duration::ZERO),
        };
        clock.synchronise(shift);
        clock
    }

    pub(crate) fn synchronise(&self, shift: i64) {
        let unix = wall(shift);
        self.unix_at_start
            .set(unix.saturating_sub(self.start.elapsed()));
    }

    /// Time since the Unix epoch at `now`.
    pub(crate) fn since_epoch(&self, now: Instant) -> Duration {
        self.unix_at_start.get() + now.duration_since(self.start)
    }

    /// Seconds since the Unix epoch at `now`.
    pub(crate) fn unix(&self, now: Instant) -> u64 {
        self.since_epoch(now).as_secs()
    }

    /// Milliseconds since the Unix epoch at `now`.
    pub(crate) fn unix_millis(&self, now: Instant) -> u64 {
        self.since_epoch(now).as_millis() as u64
    }

    /// Nanoseconds since the Unix epoch at `now`; until the year 2554.
    pub(crate) fn unix_nanos(&self, now: Instant) -> u64 {
        self.since_epoch(now).as_nanos() as u64
    }

    pub(crate) fn unix_now(&self) -> u64 {
        self.unix(Instant::now())
    }

    /// Milliseconds since the worker's start.
    pub(crate) fn ticks(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// The wall clock for other crates, with the shift of tests.
pub(crate) fn shared(shift: Option<Arc<AtomicI64>>) -> crate::acme::Clock {
    let shifted = move || {
        shift
            .as_ref()
            .map_or(0, |shift| shift.load(Ordering::Acquire))
    };
    Arc::new(move || wall(shifted()).as_secs())
}

/// Time since the Unix epoch, `shift` seconds from the system's.
pub(crate) fn wall(shift: i64) -> Duration {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let by = Duration::from_secs(shift.unsigned_abs());
    if shift < 0 {
        unix.saturating_sub(by)
    } else {
        unix.saturating_add(by)
    }
}
