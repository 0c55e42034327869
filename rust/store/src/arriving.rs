//! A body that is still coming in, read by many as it arrives.
//!
//! One writer appends, any number of readers follow at their own pace on their own threads. Pieces are kept until the
//! end because they are being stored. When the object turns out too large to store, or memory gets short, only what
//! some reader still needs is kept, and the writer waits for the slowest reader.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_account::{Account, Cut, Hold, Owner};
use edgerouter_core::bounds::memory::Purpose;
use parking_lot::{Mutex, MutexGuard};

use super::buffer::{Buffer, LeftBehind, NobodyReads};

/// Bytes that the writer may run ahead of the slowest reader once the pieces are not being stored.
const WINDOW: u64 = 1 << 20;
/// The same at least, however little memory there is.
const LEAST_WINDOW: u64 = 32 << 10;

/// The end of a body from the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalEnd {
    /// The whole body has arrived.
    Complete,
    /// The origin stopped before the end of the message.
    Broken,
}

/// A body on its way from the origin: readers get the pieces that have arrived and wait for the next. Its memory is
/// bounded by the account.
#[derive(Debug)]
pub struct Arriving {
    state: Mutex<State>,
    hold: Hold,
}

#[derive(Debug)]
struct State {
    buffer: Buffer<ArrivalEnd>,
    keep: bool,
}

impl Arriving {
    /// Starts an empty body. `owner`: the client and origins for which its memory is held.
    pub fn new(account: &Arc<Account>, owner: Owner) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            hold: account.open(Purpose::ReadAhead, owner, Weak::clone(own) as Weak<dyn Cut>),
            state: Mutex::new(State {
                buffer: Buffer::new(0),
                keep: true,
            }),
        })
    }

    /// A reader from the first byte; `None` when the first bytes are already gone.
    pub fn reader(self: &Arc<Self>) -> Option<ArrivalReader> {
        let mut state = self.state.lock();
        if state.buffer.start() > 0 {
            return None;
        }
        let id = state.buffer.join(0);
        Some(ArrivalReader {
            arriving: Arc::clone(self),
            id,
        })
    }

    /// Appends a piece and wakes the readers. Waits, for at most `patience`, until there is memory for it; from then on
    /// only the pieces that readers need are kept. False if there is none.
    pub async fn push(&self, piece: Bytes, patience: Duration) -> bool {
        let bytes = piece.len() as u64;
        if self.hold.draw(bytes).is_err() {
            self.stop_keeping();
            if self.hold.drawn(bytes, patience).await.is_err() {
                return false;
            }
        }
        let mut state = self.state.lock();
        if state.buffer.end.is_some() {
            // It was cut meanwhile.
            drop(state);
            self.hold.give(bytes);
            return false;
        }
        state.buffer.push(piece);
        self.trimmed(state);
        true
    }

    /// Bytes that have arrived so far.
    pub fn length(&self) -> u64 {
        self.state.lock().buffer.arrived
    }

    /// From now on pieces are dropped when every reader has passed them.
    pub fn stop_keeping(&self) {
        let mut state = self.state.lock();
        state.keep = false;
        self.trimmed(state);
    }

    /// Drops the pieces that nobody needs any more, and gives their bytes back.
    fn trimmed(&self, mut state: MutexGuard<'_, State>) {
        let freed = state.trim();
        drop(state);
        self.hold.give(freed);
    }

    /// Notes the end; readers that have read everything get it next.
    pub fn finish(&self, end: ArrivalEnd) {
        self.state.lock().buffer.finish(end);
    }

    /// All pieces, for storing; `None` when some are gone.
    pub fn pieces(&self) -> Option<Vec<Bytes>> {
        let state = self.state.lock();
        (state.buffer.start() == 0 && state.keep).then(|| {
            state
                .buffer
                .pieces
                .iter()
                .map(|piece| piece.bytes.clone())
                .collect()
        })
    }

    /// Ready when the writer may go on: at once while the pieces are stored, within the window otherwise. `Err` when
    /// nobody reads any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), NobodyReads>> {
        let mut state = self.state.lock();
        if state.keep {
            return Poll::Ready(Ok(()));
        }
        if !state.buffer.is_read() {
            return Poll::Ready(Err(NobodyReads));
        }
        let held = state.buffer.held;
        if held < LEAST_WINDOW || held < self.hold.allowance(LEAST_WINDOW, WINDOW) {
            return Poll::Ready(Ok(()));
        }
        state.buffer.wait_for_room(cx);
        Poll::Pending
    }

    /// Position of the reader that the writer waits for.
    pub fn slowest(&self) -> Option<u64> {
        self.state.lock().buffer.slowest()
    }

    /// For a writer that has had no room for a while, since the slowest reader was at `slowest`: true if it may wait on.
    /// Readers that others wait for are left behind, and find the body broken off. One that keeps nobody waiting has as
    /// long as it takes, if it reads at all.
    pub fn may_wait_on(&self, slowest: Option<u64>) -> bool {
        let mut state = self.state.lock();
        let buffer = &mut state.buffer;
        let (arrived, last) = (buffer.arrived, buffer.slowest());
        if buffer.fastest() != Some(arrived) {
            return last > slowest;
        }
        if last == Some(arrived) {
            // It has caught up since the wait ended, and nobody waits for it.
            return true;
        }
        buffer.leave_behind(last.max(arrived.checked_sub(WINDOW)).unwrap_or(0));
        self.trimmed(state);
        true
    }
}

/// Ends the body as broken when its writer is dropped before the end.
#[derive(Debug)]
pub struct Writing<'a>(pub &'a Arriving);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.finish(ArrivalEnd::Broken);
    }
}

impl State {
    /// Drops the pieces that nobody needs any more; gives their bytes.
    fn trim(&mut self) -> u64 {
        if self.keep {
            return 0;
        }
        let slowest = self.buffer.slowest().unwrap_or(u64::MAX);
        self.buffer.wake_writer();
        self.buffer.trim(|piece| piece.end() <= slowest)
    }
}

impl Cut for Arriving {
    /// Keeps nothing for the store any more; if readers are far behind as well, they are cut off.
    fn cut(&self) {
        let mut state = self.state.lock();
        state.keep = false;
        let mut freed = state.trim();
        if state.buffer.held > LEAST_WINDOW {
            freed += state.buffer.break_off(ArrivalEnd::Broken);
        }
        drop(state);
        self.hold.give(freed);
    }
}

/// One reader of an arriving body.
#[derive(Debug)]
pub struct ArrivalReader {
    arriving: Arc<Arriving>,
    id: u64,
}

impl ArrivalReader {
    /// The next piece; `Ready(None)` at the end, `Err` when the body broke off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut state = self.arriving.state.lock();
        let buffer = &mut state.buffer;
        let next = match buffer.next(self.id) {
            Ok(next) => next,
            Err(LeftBehind) => return Poll::Ready(Some(Err(Broken))),
        };
        if let Some(piece) = next {
            self.arriving.hold.moved();
            self.arriving.trimmed(state);
            return Poll::Ready(Some(Ok(piece)));
        }
        match buffer.end {
            Some(ArrivalEnd::Complete) => Poll::Ready(None),
            Some(ArrivalEnd::Broken) => Poll::Ready(Some(Err(Broken))),
            None => {
                buffer.wait(self.id, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for ArrivalReader {
    fn drop(&mut self) {
        let mut state = self.arriving.state.lock();
        state.buffer.leave(self.id);
        self.arriving.trimmed(state);
    }
}

/// The error that readers of a body get when its origin stopped before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin stopped in the middle of the body")]
pub struct Broken;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::Waker;

    use super::*;

    const PIECE: usize = 512 << 10;

    fn large() -> Arc<Arriving> {
        let owner = Owner {
            client: None,
            origin: None,
        };
        Arriving::new(&Account::new(64 << 20), owner)
    }

    /// Four pieces, which are not stored any more.
    async fn fill(body: &Arriving) {
        for _ in 0..4 {
            let piece = Bytes::from(vec![0; PIECE]);
            assert!(body.push(piece, Duration::ZERO).await);
        }
        body.stop_keeping();
    }

    fn read(reader: &mut ArrivalReader) -> Poll<Option<Result<usize, Broken>>> {
        let polled = reader.poll_next(&mut Context::from_waker(Waker::noop()));
        polled.map(|read| read.map(|read| read.map(|piece| piece.len())))
    }

    fn has_room(body: &Arriving) -> bool {
        let polled = body.poll_room(&mut Context::from_waker(Waker::noop()));
        polled == Poll::Ready(Ok(()))
    }

    #[tokio::test]
    async fn a_writer_waits_for_one_slow_reader_for_as_long_as_it_reads() {
        let body = large();
        let mut slow = body.reader().unwrap();
        fill(&body).await;
        assert!(!has_room(&body));
        let before = body.slowest();
        assert!(!body.may_wait_on(before), "it reads nothing");
        assert_eq!(read(&mut slow), Poll::Ready(Some(Ok(PIECE))));
        assert!(!has_room(&body));
        assert!(body.may_wait_on(before));
        for _ in 0..3 {
            assert_eq!(read(&mut slow), Poll::Ready(Some(Ok(PIECE))));
        }
        assert!(has_room(&body) && read(&mut slow).is_pending());
    }

    #[tokio::test]
    async fn a_reader_that_catches_up_at_the_last_moment_is_not_left_behind() {
        let body = large();
        let mut slow = body.reader().unwrap();
        fill(&body).await;
        let before = body.slowest();
        while read(&mut slow).is_ready() {}
        assert!(body.may_wait_on(before) && has_room(&body));
        body.finish(ArrivalEnd::Complete);
        assert_eq!(read(&mut slow), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_slow_reader_that_others_wait_for_is_left_behind() {
        let body = large();
        let [mut slow, mut quick] = [body.reader().unwrap(), body.reader().unwrap()];
        fill(&body).await;
        while read(&mut quick).is_ready() {}
        let before = body.slowest();
        assert_eq!(read(&mut slow), Poll::Ready(Some(Ok(PIECE))));
        assert!(!has_room(&body) && body.may_wait_on(before));
        assert!(has_room(&body));
        assert_eq!(read(&mut slow), Poll::Ready(Some(Err(Broken))));
        assert!(read(&mut quick).is_pending());
    }
}
