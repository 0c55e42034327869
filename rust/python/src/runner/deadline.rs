//! The end of a call's time.

use std::time::Instant;

use edgerouter_functions::pipe::PieceWaits;

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
