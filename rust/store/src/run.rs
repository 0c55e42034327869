//! A stretch of a large object on its way in, read by many as it arrives.
//!
//! One writer appends; completed slices also go into the store. Each reader has its own position: readers near the
//! front read the bytes that have just arrived, the others read the slices from the store. Bytes that a run has dropped
//! are in the store, and a reader that finds a slice in neither place looks again under the lock that guards the start
//! of a run: no byte that is here or on its way is requested again. A slice for which there is no memory is passed on
//! to the present readers and not stored. The writer runs ahead of the fastest reader by a bounded number of bytes, so
//! that a visitor who pauses a film does not make the edge fetch the rest of it.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_account::{Account, Cut, Hold, Owner};
use edgerouter_core::{
    bounds::memory::Purpose,
    http::range::Range,
    origin::unanswered::{FetchError, Unavailable},
    outcome::RunEnd,
};
use http::StatusCode;
use parking_lot::Mutex;

use super::buffer::{Buffer, NobodyReads};

/// Least number of bytes that a writer runs ahead of its readers, however little memory there is: the next piece comes
/// when all before it have been read.
const LEAST_AHEAD: u64 = 1;

/// The origin's response to a run's request.
#[derive(Debug, Clone)]
pub enum Begun {
    /// The requested bytes, with this status.
    Coming(StatusCode),
    /// Another representation.
    Changed,
    /// Neither.
    Refused,
    /// The origin gave no response.
    Failed(Unavailable),
}

/// A range of whole slices on its way from the origin; readers follow it at their own pace, each from its position.
#[derive(Debug)]
pub struct Run {
    first: u64,
    last: u64,
    ahead: u64,
    state: Mutex<State>,
    hold: Hold,
}

#[derive(Debug)]
struct State {
    /// Bytes that have arrived lately.
    buffer: Buffer<RunEnd>,
    /// Bytes of the slice that is being put together, from its beginning on.
    cutting: u64,
    /// Bytes before it are in the store, as far as the store keeps them, or are not going to be.
    stored: u64,
    begun: Option<Begun>,
}

impl Run {
    pub(super) fn new(
        first: u64,
        last: u64,
        ahead: u64,
        account: &Arc<Account>,
        owner: Owner,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            hold: account.open(Purpose::ReadAhead, owner, Weak::clone(own) as Weak<dyn Cut>),
            first,
            last,
            ahead: ahead.max(1),
            state: Mutex::new(State {
                buffer: Buffer::new(first),
                cutting: 0,
                stored: first,
                begun: None,
            }),
        })
    }

    /// The first byte of the range, as a position in the whole.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last byte of the range, included.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Gives the readers the origin's response, before any of its body.
    pub fn begin(&self, begun: Begun) {
        let mut state = self.state.lock();
        state.begun.get_or_insert(begun);
        state.buffer.wake_readers();
    }

    /// Draws memory for putting the next slice of this many bytes together, or goes on with the memory of the slice
    /// before. False if little would be left: passing bytes on must not wait for it.
    pub fn room_to_store(&self, slice: u64) -> bool {
        self.state.lock().cutting >= slice
            || self.hold.room() >= slice.saturating_mul(2) && self.hold.draw_free(slice).is_ok()
    }

    /// Draws memory for a piece of this many bytes, if there is some now without anybody giving way.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.hold.draw_free(bytes as u64).is_ok()
    }

    /// Waits for memory for a piece that is only passed on; false if there is none within `patience`. Drops the slice
    /// that was to be put together, as far as the readers have passed it.
    pub async fn room_for(&self, bytes: usize, patience: Duration) -> bool {
        if self.pass_on() {
            self.hold.drawn(bytes as u64, patience).await.is_ok()
        } else {
            // Bytes that nobody waits for are not worth a wait.
            self.hold.draw(bytes as u64).is_ok()
        }
    }

    /// Drops the slice that was to be put together; whether anybody reads.
    fn pass_on(&self) -> bool {
        let mut state = self.state.lock();
        state.stored = state.buffer.arrived;
        state.cutting = 0;
        state.trim(self.ahead);
        let (holds, read) = (state.buffer.held, state.buffer.is_read());
        drop(state);
        self.hold.keep(holds);
        read
    }

    /// Appends the next bytes and wakes the readers. Bytes before `stored` are in the store, or will not be. Takes the
    /// memory that was drawn for them; the slice that is being put together takes `cutting` bytes. False if the run has
    /// been cut.
    pub fn push(&self, bytes: Bytes, stored: u64, cutting: u64) -> bool {
        let mut state = self.state.lock();
        state.stored = stored;
        state.cutting = cutting;
        let going_on = state.buffer.end.is_none();
        if !bytes.is_empty() && going_on {
            state.buffer.push(bytes);
            state.trim(self.ahead);
        }
        let holds = state.buffer.held + state.cutting;
        drop(state);
        self.hold.settle(holds);
        going_on
    }

    /// Notes the end; readers that have read everything get it next.
    pub fn finish(&self, end: RunEnd) {
        let mut state = self.state.lock();
        state.buffer.finish(end);
        state.cutting = 0;
        let holds = state.buffer.held;
        drop(state);
        self.hold.keep(holds);
    }

    /// Ready when the writer may go on. `Err` when there were readers and all have gone.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), NobodyReads>> {
        let mut state = self.state.lock();
        let buffer = &mut state.buffer;
        if buffer.end.is_some() || buffer.was_read() && !buffer.is_read() {
            return Poll::Ready(Err(NobodyReads));
        }
        let fastest = buffer.fastest().unwrap_or(self.first);
        let ahead = buffer.arrived.saturating_sub(fastest);
        let least = LEAST_AHEAD.min(self.ahead);
        if ahead < least || ahead < self.hold.allowance(least, self.ahead) {
            return Poll::Ready(Ok(()));
        }
        buffer.wait_for_room(cx);
        Poll::Pending
    }

    /// A reader at the first byte, of a run that has just been started.
    pub fn first_reader(self: &Arc<Self>) -> Option<RunReader> {
        self.reader(self.first)
    }

    /// A reader at `position`, if the byte there is here or comes soon.
    pub(super) fn reader(self: &Arc<Self>, position: u64) -> Option<RunReader> {
        let mut state = self.state.lock();
        if !self.reaches(&state, position) {
            return None;
        }
        let id = state.buffer.join(position);
        Some(RunReader {
            run: Arc::clone(self),
            id,
        })
    }

    /// True if the byte at `position` is here, or will be when the writer has run ahead once more.
    fn reaches(&self, state: &State, position: u64) -> bool {
        let buffer = &state.buffer;
        buffer.end.is_none() && self.in_reach(buffer, position)
    }

    fn in_reach(&self, buffer: &Buffer<RunEnd>, position: u64) -> bool {
        position <= self.last
            && position >= buffer.start()
            && position <= buffer.arrived.saturating_add(self.ahead)
    }

    /// True if the run goes on and will bring the byte at `position`.
    pub(super) fn has_in_hand(&self, position: u64) -> bool {
        self.reaches(&self.state.lock(), position)
    }

    /// The range that will have arrived at the end, if the origin's response is here.
    pub(super) fn promises(&self) -> Option<Range> {
        let state = self.state.lock();
        let coming = matches!(state.begun, Some(Begun::Coming(_))) && state.buffer.end.is_none();
        coming.then(|| Range {
            first: state.buffer.start(),
            last: self.last,
        })
    }
}

impl State {
    /// Drops the pieces that every reader has passed, and those that only readers far behind need, who have the store.
    /// Pieces that are not stored yet stay, for a reader that comes. Returns the bytes dropped.
    fn trim(&mut self, most: u64) -> u64 {
        let (slowest, arrived) = (self.buffer.slowest(), self.buffer.arrived);
        let stored = self.stored;
        self.buffer.trim(|piece| {
            let passed = slowest.is_some_and(|slowest| piece.end() <= slowest);
            let far_behind = arrived - piece.start > most.saturating_mul(2);
            piece.end() <= stored && (passed || far_behind)
        })
    }
}

impl Cut for Run {
    /// Drops everything and ends. Nobody is cut off: readers find the rest in the store, or request it again when they
    /// read on.
    fn cut(&self) {
        let mut state = self.state.lock();
        let freed = state.buffer.trim(|_| true);
        state.buffer.finish(RunEnd::Stopped);
        state.buffer.wake_writer();
        drop(state);
        self.hold.give(freed);
    }
}

/// The outcome of a read.
#[derive(Debug)]
pub enum Next {
    /// The bytes from the reader's position on; at least one.
    Bytes(Bytes),
    /// The bytes are not here any more, or never will be: the store has them, or nobody.
    Elsewhere,
    /// The run has ended, and the reader has every byte that came.
    Over(RunEnd),
}

/// A reader's position in a run. Dropped, it lets the writer go on without it.
#[derive(Debug)]
pub struct RunReader {
    run: Arc<Run>,
    id: u64,
}

impl RunReader {
    /// The origin's response, once it is here.
    pub fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Begun> {
        let mut state = self.run.state.lock();
        match (&state.begun, state.buffer.end) {
            (Some(begun), _) => return Poll::Ready(begun.clone()),
            (None, Some(_)) => return Poll::Ready(Begun::Failed(FetchError::NoOrigin.into())),
            (None, None) => {}
        }
        state.buffer.wait(self.id, cx);
        Poll::Pending
    }

    /// True if the requested bytes are on their way.
    pub fn has_begun(&self) -> bool {
        matches!(self.run.state.lock().begun, Some(Begun::Coming(_)))
    }

    /// The bytes at `position`, once they are here.
    pub fn poll_at(&mut self, position: u64, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.run.state.lock();
        if state.buffer.advance(self.id, position) {
            self.run.hold.moved();
            self.run.hold.give(state.trim(self.run.ahead));
        }
        let buffer = &mut state.buffer;
        buffer.wake_writer();
        if !self.run.in_reach(buffer, position) {
            return Poll::Ready(Next::Elsewhere);
        }
        if let Some(bytes) = buffer.at(position) {
            return Poll::Ready(Next::Bytes(bytes));
        }
        if let Some(end) = buffer.end {
            return Poll::Ready(Next::Over(end));
        }
        buffer.wait(self.id, cx);
        Poll::Pending
    }
}

impl Drop for RunReader {
    fn drop(&mut self) {
        self.run.state.lock().buffer.leave(self.id);
    }
}
