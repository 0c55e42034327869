//! The wall clock of expiry, which tests can move.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A span in milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    /// Offset of the test clock.
    shift: AtomicI64,
}

impl WallClock {
    pub(crate) fn shift(&self, seconds: i64) {
        self.shift.store(seconds, Ordering::Release);
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn millis(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let shift = self.shift.load(Ordering::Acquire).saturating_mul(1_000);
        millis(now).saturating_add_signed(shift)
    }
}
