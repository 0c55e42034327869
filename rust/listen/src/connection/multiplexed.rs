//! Times of a connection with many requests at a time, beside those of the requests.

use std::cell::Cell;

/// The part of the state that only such a connection has.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    /// Ticks (ms) since which the client has begun something that blocks everything behind it.
    incomplete_since: Cell<Option<u64>>,
    /// Requests whose content is waited for, and responses that wait for room.
    awaits_content: Cell<usize>,
    awaits_room: Cell<usize>,
    /// Some response has not left.
    is_open: Cell<bool>,
    is_checked: Cell<bool>,
}

impl Multiplexed {
    /// Notes at `now` whether the client has begun something and not ended it.
    pub(crate) fn note_incomplete(&self, is_incomplete: bool, now: u64) {
        self.incomplete_since
            .set(is_incomplete.then(|| self.incomplete_since.get().unwrap_or(now)));
    }

    pub(super) fn incomplete_since(&self) -> Option<u64> {
        self.incomplete_since.get()
    }

    /// Notes the requests whose content is waited for, and the responses that wait for room.
    pub(crate) fn note_waiting(&self, for_content: usize, for_room: usize) {
        self.awaits_content.set(for_content);
        self.awaits_room.set(for_room);
    }

    pub(super) fn awaits_content(&self) -> bool {
        self.awaits_content.get() > 0
    }

    /// True if a response waited for room at the last check.
    pub(crate) fn awaits_room(&self) -> bool {
        self.awaits_room.get() > 0
    }

    /// Notes whether some response has not left.
    pub(crate) fn note_open(&self, is_open: bool) {
        self.is_open.set(is_open);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    pub(super) fn check(&self) {
        self.is_checked.set(true);
    }

    /// True if its requests are to be looked at, which they are once a second.
    pub(crate) fn take_check(&self) -> bool {
        self.is_checked.take()
    }
}
