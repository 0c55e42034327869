//! Beats of the workers: one that is stuck, whatever the reason, no longer beats, and a service manager restarts the
//! process.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The last beat of each worker.
#[derive(Debug)]
pub(crate) struct Beats {
    start: Instant,
    /// Milliseconds since the start.
    last: Box<[AtomicU64]>,
}

impl Beats {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            start: Instant::now(),
            last: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn beat(&self, worker: usize) {
        if let Some(last) = self.last.get(worker) {
            last.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Time since the oldest of the last beats.
    pub(crate) fn silence(&self) -> Duration {
        let last = self.last.iter().map(|last| last.load(Ordering::Relaxed));
        let oldest = last.min().unwrap_or_else(|| self.now());
        Duration::from_millis(self.now().saturating_sub(oldest))
    }
}
