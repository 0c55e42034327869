//! A body that is still coming in, read by many as it arrives.
//!
//! One writer appends, any number of readers follow at their own pace on their own threads. Pieces are kept until the
//! end because they are being stored. When the object turns out too large to store, only what some reader still needs
//! is kept, and the writer waits for the slowest reader.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

/// How far the writer may run ahead of the slowest reader once the pieces are not being stored.
const WINDOW: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The origin stopped before the end of the message.
    Broken,
}

#[derive(Debug)]
pub struct Arriving {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Number of the first piece in `pieces`.
    first: u64,
    length: u64,
    keep: bool,
    end: Option<End>,
    readers: Vec<Seat>,
    writer: Option<Waker>,
}

/// A reader's place.
#[derive(Debug)]
struct Seat {
    id: u64,
    next: u64,
    waker: Option<Waker>,
}

impl Arriving {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                first: 0,
                length: 0,
                keep: true,
                end: None,
                readers: Vec::new(),
                writer: None,
            }),
        })
    }

    /// A reader from the first byte; `None` when the first bytes are already gone.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state.lock();
        if state.first > 0 {
            return None;
        }
        let id = state
            .readers
            .iter()
            .map(|seat| seat.id + 1)
            .max()
            .unwrap_or(0);
        state.readers.push(Seat {
            id,
            next: 0,
            waker: None,
        });
        Some(Reader {
            arriving: Arc::clone(self),
            id,
        })
    }

    /// Appends a piece and wakes the readers.
    pub fn push(&self, piece: Bytes) {
        let mut state = self.state.lock();
        state.length += piece.len() as u64;
        state.pieces.push_back(piece);
        state.trim();
        state.wake_readers();
    }

    pub fn length(&self) -> u64 {
        self.state.lock().length
    }

    /// From now on pieces are dropped when every reader has passed them.
    pub fn stop_keeping(&self) {
        let mut state = self.state.lock();
        state.keep = false;
        state.trim();
    }

    pub fn finish(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        state.wake_readers();
    }

    /// All pieces, for storing; `None` when some are gone.
    pub fn pieces(&self) -> Option<Vec<Bytes>> {
        let state = self.state.lock();
        (state.first == 0 && state.keep).then(|| state.pieces.iter().cloned().collect())
    }

    /// Ready when the writer may go on: at once while the pieces are stored, within the window otherwise. `Err` when
    /// nobody reads any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), NobodyReads>> {
        let mut state = self.state.lock();
        if state.keep {
            return Poll::Ready(Ok(()));
        }
        if state.readers.is_empty() {
            return Poll::Ready(Err(NobodyReads));
        }
        let waiting: u64 = state.pieces.iter().map(|piece| piece.len() as u64).sum();
        if waiting < WINDOW {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The writer's place: when it is given up before the end, the readers learn that nothing more comes.
#[derive(Debug)]
pub struct Writing<'a>(pub &'a Arriving);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.finish(End::Broken);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NobodyReads;

impl State {
    fn wake_readers(&mut self) {
        for seat in &mut self.readers {
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    fn trim(&mut self) {
        if self.keep {
            return;
        }
        let slowest = self
            .readers
            .iter()
            .map(|seat| seat.next)
            .min()
            .unwrap_or(u64::MAX);
        while self.first < slowest && self.pieces.pop_front().is_some() {
            self.first += 1;
        }
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// One reader of an arriving body.
#[derive(Debug)]
pub struct Reader {
    arriving: Arc<Arriving>,
    id: u64,
}

impl Reader {
    /// The next piece; `Ready(None)` at the end, `Err` when the body broke off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut state = self.arriving.state.lock();
        let State {
            pieces,
            first,
            end,
            readers,
            ..
        } = &mut *state;
        let Some(seat) = readers.iter_mut().find(|seat| seat.id == self.id) else {
            return Poll::Ready(Some(Err(Broken)));
        };
        let at = seat
            .next
            .checked_sub(*first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(piece) = at.and_then(|at| pieces.get(at)) {
            let piece = piece.clone();
            seat.next += 1;
            state.trim();
            return Poll::Ready(Some(Ok(piece)));
        }
        match end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Broken) => Poll::Ready(Some(Err(Broken))),
            None => {
                seat.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.arriving.state.lock();
        state.readers.retain(|seat| seat.id != self.id);
        state.trim();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin stopped in the middle of the body")]
pub struct Broken;
