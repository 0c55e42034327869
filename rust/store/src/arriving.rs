//! A body that is still coming in, read by many as it arrives.
//!
//! One writer appends, any number of readers follow at their own pace on their own threads. Pieces are kept until the
//! end because they are being stored. When the object turns out too large to store, or memory gets short, only what some
//! reader still needs is kept, and the writer waits for the slowest reader.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::bounds::memory::Kind;
use parking_lot::Mutex;

use edgerouter_account::{Account, Cut, Hold, Owner};

/// How far the writer may run ahead of the slowest reader once the pieces are not being stored.
const WINDOW: u64 = 1 << 20;
/// And at least, however little memory there is.
const LEAST_WINDOW: u64 = 32 << 10;
/// Pieces below this are copied: each may keep a larger buffer alive.
const LEAST_PIECE: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The origin stopped before the end of the message.
    Broken,
}

#[derive(Debug)]
pub struct Arriving {
    state: Mutex<State>,
    hold: Hold,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Number of the first piece in `pieces`.
    first: u64,
    /// Bytes of `pieces`.
    held: u64,
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
    pub fn new(account: &Arc<Account>, owner: Owner) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            hold: account.open(Kind::ReadAhead, owner, Weak::clone(own) as Weak<dyn Cut>),
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                first: 0,
                held: 0,
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

    /// Appends a piece and wakes the readers. Waits, for at most `patience`, until there is memory for it; rather than wait,
    /// no more is kept than readers need. False when there is none.
    pub async fn push(&self, piece: Bytes, patience: Duration) -> bool {
        let bytes = piece.len() as u64;
        if self.hold.draw(bytes).is_err() {
            self.stop_keeping();
            if self.hold.drawn(bytes, patience).await.is_err() {
                return false;
            }
        }
        let piece = if piece.len() < LEAST_PIECE {
            Bytes::copy_from_slice(&piece)
        } else {
            piece
        };
        let mut state = self.state.lock();
        if state.end.is_some() {
            // It was cut meanwhile.
            drop(state);
            self.hold.give(bytes);
            return false;
        }
        state.length += bytes;
        state.held += bytes;
        state.pieces.push_back(piece);
        let freed = state.trim();
        state.wake_readers();
        drop(state);
        self.hold.give(freed);
        true
    }

    pub fn length(&self) -> u64 {
        self.state.lock().length
    }

    /// From now on pieces are dropped when every reader has passed them.
    pub fn stop_keeping(&self) {
        let mut state = self.state.lock();
        state.keep = false;
        let freed = state.trim();
        drop(state);
        self.hold.give(freed);
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
        if state.held < LEAST_WINDOW || state.held < self.hold.allowance(LEAST_WINDOW, WINDOW) {
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

    /// Drops what nobody needs any more; gives its bytes.
    fn trim(&mut self) -> u64 {
        if self.keep {
            return 0;
        }
        let mut freed = 0;
        let slowest = self
            .readers
            .iter()
            .map(|seat| seat.next)
            .min()
            .unwrap_or(u64::MAX);
        while self.first < slowest
            && let Some(piece) = self.pieces.pop_front()
        {
            self.first += 1;
            freed += piece.len() as u64;
        }
        self.held = self.held.saturating_sub(freed);
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
        freed
    }
}

impl Cut for Arriving {
    /// First it keeps nothing for the store; where readers are far behind as well, they are cut off.
    fn cut(&self) {
        let mut state = self.state.lock();
        state.keep = false;
        let mut freed = state.trim();
        if state.held > LEAST_WINDOW {
            freed += state.held;
            state.held = 0;
            state.first += state.pieces.len() as u64;
            state.pieces.clear();
            state.end = Some(End::Broken);
            state.wake_readers();
        }
        drop(state);
        self.hold.give(freed);
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
            let freed = state.trim();
            drop(state);
            self.arriving.hold.moved();
            self.arriving.hold.give(freed);
            return Poll::Ready(Some(Ok(piece)));
        }
        if seat.next < *first {
            return Poll::Ready(Some(Err(Broken)));
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
        let freed = state.trim();
        drop(state);
        self.arriving.hold.give(freed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin stopped in the middle of the body")]
pub struct Broken;
