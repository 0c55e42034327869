//! A pipe for the pieces of a body between a worker and the threads that run callables, in either direction.
//!
//! Neither end ever blocks on the other: each polls, and is woken by the [`Waker`] that it left. The bytes that wait
//! are bounded by the writer, which puts no further piece while there is no room; one piece may exceed the bound.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::http::Fields;
use parking_lot::Mutex;

/// Bytes that wait in a pipe before its writer has to.
pub const ROOM: usize = 64 << 10;
/// As much in one that was filled and then emptied, where its reader has the memory: writer and reader take fewer
/// turns.
pub const WIDE: usize = 1 << 20;

/// The reader is gone: nothing more is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing more is wanted: the reader is gone")]
pub struct Unwanted;

/// The pieces broke off: the content is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content broke off")]
pub struct BrokenOff;

/// A thread whose tasks read pipes: it can be woken once for several of them.
pub trait WokenTogether: Send + Sync + std::fmt::Debug {
    /// Keeps a task that may go on; true if it is the first of `place` since the thread was woken last. A place is any
    /// number of the caller's, and each has to wake the thread for its own.
    fn keep(&self, task: Waker, place: usize) -> bool;

    /// Has the thread wake the tasks that were kept.
    fn wake(&self);
}

/// A reader that waits no longer, and is to be woken soon.
#[derive(Debug)]
pub struct DueReader {
    /// Its task.
    pub task: Waker,
    /// Its thread, if that wakes several tasks at once.
    pub thread: Option<Arc<dyn WokenTogether>>,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    room: usize,
    /// `Some(true)`: the content is complete; `Some(false)`: it broke off.
    end: Option<bool>,
    /// Fields behind the content.
    trailers: Option<Box<Fields>>,
    unwanted: bool,
    reader: Option<Waker>,
    thread: Option<Arc<dyn WokenTogether>>,
    /// Waits for room.
    writer: Option<Waker>,
    /// Waits for the end of the reader.
    watcher: Option<Waker>,
    /// Waits until the reader wants a piece, or for its end.
    wisher: Option<Waker>,
    /// The reader has wanted a piece that was not there.
    wanted: bool,
    /// Somebody wants to know the time of its waits.
    is_timed: bool,
    /// The reader waits for a piece since this time.
    waits_since: Option<Instant>,
    waited: Duration,
}

impl State {
    /// The reader has to wait no longer.
    fn come(&mut self) -> Option<Waker> {
        if let Some(since) = self.waits_since.take() {
            self.waited += since.elapsed();
        }
        self.reader.take()
    }

    /// The same, for somebody who wakes it later.
    fn come_soon(&mut self) -> Option<DueReader> {
        let task = self.come()?;
        let thread = self.thread.clone();
        Some(DueReader { task, thread })
    }

    /// The reader has to wait; gives the waker of a writer that waits for just that.
    fn wait(&mut self, cx: &Context<'_>) -> Option<Waker> {
        keep(&mut self.reader, cx);
        if self.is_timed {
            self.waits_since.get_or_insert_with(Instant::now);
        }
        let first = !std::mem::replace(&mut self.wanted, true);
        first.then(|| self.wisher.take()).flatten()
    }
}

/// Keeps the waker of a poll that has to wait.
fn keep(kept: &mut Option<Waker>, cx: &Context<'_>) {
    match kept {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *kept = Some(cx.waker().clone()),
    }
}

/// A new pipe.
pub fn pipe() -> (PieceWriter, PieceReader) {
    let state = Arc::new(Mutex::new(State {
        pieces: VecDeque::new(),
        bytes: 0,
        room: ROOM,
        end: None,
        trailers: None,
        unwanted: false,
        reader: None,
        thread: None,
        writer: None,
        watcher: None,
        wisher: None,
        wanted: false,
        is_timed: false,
        waits_since: None,
        waited: Duration::ZERO,
    }));
    (PieceWriter(Arc::clone(&state)), PieceReader(state))
}

/// The end that puts pieces. Dropped without [`PieceWriter::finish`] the content breaks off.
#[derive(Debug)]
pub struct PieceWriter(Arc<Mutex<State>>);

impl PieceWriter {
    /// Puts a piece, whatever room there is; true while there is room for another.
    pub fn put(&self, piece: Bytes) -> Result<bool, Unwanted> {
        let (room, reader) = self.put_quietly(piece)?;
        if let Some(reader) = reader {
            reader.task.wake();
        }
        Ok(room)
    }

    /// Puts a piece, and gives a reader that waits for one: it is to be woken soon.
    pub fn put_quietly(&self, piece: Bytes) -> Result<(bool, Option<DueReader>), Unwanted> {
        let mut state = self.0.lock();
        if state.unwanted {
            return Err(Unwanted);
        }
        if !piece.is_empty() && state.end.is_none() {
            state.bytes += piece.len();
            state.pieces.push_back(piece);
        }
        Ok((state.bytes < state.room, state.come_soon()))
    }

    /// Waits for room for a piece.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Unwanted>> {
        let mut state = self.0.lock();
        if state.unwanted {
            return Poll::Ready(Err(Unwanted));
        }
        if state.bytes < state.room {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.writer, cx);
        Poll::Pending
    }

    /// Waits until the reader is gone.
    pub fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.unwanted {
            return Poll::Ready(());
        }
        keep(&mut state.watcher, cx);
        Poll::Pending
    }

    /// Waits until the reader wants a piece; an error when it is gone.
    pub fn poll_wanted(&self, cx: &Context<'_>) -> Poll<Result<(), Unwanted>> {
        let mut state = self.0.lock();
        if state.unwanted {
            return Poll::Ready(Err(Unwanted));
        }
        if state.wanted {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.wisher, cx);
        Poll::Pending
    }

    /// The content is complete.
    pub fn finish(&self) {
        self.end(true);
    }

    /// The content is complete, with fields behind it. Gives a reader that waits: it is to be woken soon.
    pub fn finish_quietly(&self, trailers: Option<Fields>) -> Option<DueReader> {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(true);
            state.trailers = trailers.map(Box::new);
        }
        state.come_soon()
    }

    fn end(&self, complete: bool) {
        let mut state = self.0.lock();
        state.end.get_or_insert(complete);
        let reader = state.come();
        // Nobody is left on this side whom the end of the reader concerns.
        let unasked = [
            state.writer.take(),
            state.watcher.take(),
            state.wisher.take(),
        ];
        drop(state);
        drop(unasked);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for PieceWriter {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// The end that takes pieces. Dropping it wakes its writer, which puts no more.
#[derive(Debug)]
pub struct PieceReader(Arc<Mutex<State>>);

impl PieceReader {
    /// Takes the next piece; `None`: the content is complete.
    pub fn poll_piece(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let mut state = self.0.lock();
        if let Some(piece) = state.pieces.pop_front() {
            state.bytes -= piece.len();
            // A writer that waits is woken for half of the room, not for each piece.
            let half = state.bytes < state.room / 2;
            let writer = half.then(|| state.writer.take()).flatten();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(true) => Poll::Ready(None),
            Some(false) => Poll::Ready(Some(Err(BrokenOff))),
            None => {
                let wisher = state.wait(cx);
                drop(state);
                if let Some(wisher) = wisher {
                    wisher.wake();
                }
                Poll::Pending
            }
        }
    }

    /// True if the writer has to wait.
    pub fn is_full(&self) -> bool {
        let state = self.0.lock();
        state.bytes >= state.room
    }

    /// Has the writer wait for so many bytes only.
    pub fn widen(&self, room: usize) {
        self.0.lock().room = room;
    }

    /// Waits until there is a piece or the end, and takes nothing.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if !state.pieces.is_empty() || state.end.is_some() {
            return Poll::Ready(());
        }
        let wisher = state.wait(cx);
        drop(state);
        if let Some(wisher) = wisher {
            wisher.wake();
        }
        Poll::Pending
    }

    /// The time that is spent in waits for pieces from here on.
    pub fn waits(&self) -> PieceWaits {
        self.0.lock().is_timed = true;
        PieceWaits(Arc::clone(&self.0))
    }

    /// True if every piece has been taken, the content is complete, and no fields are behind it.
    pub fn is_at_end(&self) -> bool {
        let state = self.0.lock();
        state.pieces.is_empty() && state.end == Some(true) && state.trailers.is_none()
    }

    /// Takes the fields behind the content, once all of it was taken.
    pub fn take_trailers(&self) -> Option<Box<Fields>> {
        let mut state = self.0.lock();
        let is_complete = state.pieces.is_empty() && state.end == Some(true);
        is_complete.then(|| state.trailers.take()).flatten()
    }

    /// The thread of the reader's task, which may be woken for several at once.
    pub fn on_thread(&self, thread: Arc<dyn WokenTogether>) {
        self.0.lock().thread = Some(thread);
    }
}

impl Drop for PieceReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unwanted = true;
        let left = std::mem::take(&mut state.pieces);
        state.bytes = 0;
        let waiting = [
            state.writer.take(),
            state.watcher.take(),
            state.wisher.take(),
        ];
        drop(state);
        drop(left);
        for waiting in waiting.into_iter().flatten() {
            waiting.wake();
        }
    }
}

/// The time that the reader of a pipe has spent in waits for pieces.
#[derive(Debug, Clone)]
pub struct PieceWaits(Arc<Mutex<State>>);

impl PieceWaits {
    /// As of now.
    pub fn total(&self) -> Duration {
        let state = self.0.lock();
        state.waited
            + state
                .waits_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests;
