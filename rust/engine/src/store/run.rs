//! A stretch of a large object on its way in, read by many as it arrives.
//!
//! One writer appends; completed slices go into the store besides. Readers are at their own positions: those near the
//! front take what has just come in, those further behind take the slices from the store. The writer runs ahead of the
//! fastest reader by a bounded number of bytes only, so that a visitor who pauses a film does not make the edge fetch
//! the rest of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every byte came.
    Complete,
    /// Nobody read on; what came is stored.
    Stopped,
    /// The origin failed or stopped early.
    Broken,
    /// The origin has another representation by now.
    Changed,
}

#[derive(Debug)]
pub struct Run {
    first: u64,
    last: u64,
    ahead: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What has come in lately, in order and without gaps; the last piece ends at `arrived`.
    pieces: VecDeque<Piece>,
    arrived: u64,
    end: Option<End>,
    seats: Vec<Seat>,
    had_readers: bool,
    next_id: u64,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[derive(Debug)]
struct Seat {
    id: u64,
    position: u64,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NobodyReads;

impl Run {
    fn new(first: u64, last: u64, ahead: u64) -> Arc<Self> {
        Arc::new(Self {
            first,
            last,
            ahead: ahead.max(1),
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                arrived: first,
                end: None,
                seats: Vec::new(),
                had_readers: false,
                next_id: 0,
                writer: None,
            }),
        })
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends what comes next and wakes the readers.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let start = state.arrived;
        state.arrived += bytes.len() as u64;
        state.pieces.push_back(Piece { start, bytes });
        state.trim(self.ahead);
        state.wake_readers();
    }

    pub fn finish(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        state.wake_readers();
    }

    /// Ready when the writer may go on. `Err` when there were readers and all have gone.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), NobodyReads>> {
        let mut state = self.state.lock();
        if state.had_readers && state.seats.is_empty() {
            return Poll::Ready(Err(NobodyReads));
        }
        let fastest = state.seats.iter().map(|seat| seat.position).max();
        if state.arrived.saturating_sub(fastest.unwrap_or(self.first)) < self.ahead {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A reader at `position`, when the run has what is there or is at most `reach` bytes away from it.
    fn reader(self: &Arc<Self>, position: u64, reach: u64) -> Option<Reader> {
        let mut state = self.state.lock();
        let start = state.start();
        if state.end.is_some()
            || position > self.last
            || position < start
            || position > state.arrived.saturating_add(reach)
        {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.had_readers = true;
        state.seats.push(Seat {
            id,
            position,
            waker: None,
        });
        Some(Reader {
            run: Arc::clone(self),
            id,
        })
    }
}

impl State {
    /// Where the window begins.
    fn start(&self) -> u64 {
        self.pieces
            .front()
            .map_or(self.arrived, |piece| piece.start)
    }

    fn wake_readers(&mut self) {
        for seat in &mut self.seats {
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops what every reader has passed, and what only readers far behind would need: they have the store.
    fn trim(&mut self, most: u64) {
        let slowest = self.seats.iter().map(|seat| seat.position).min();
        while let Some(piece) = self.pieces.front() {
            let passed = slowest.is_some_and(|slowest| piece.end() <= slowest);
            if !passed && self.arrived - piece.start <= most.saturating_mul(2) {
                break;
            }
            self.pieces.pop_front();
        }
    }
}

/// What a reader finds.
#[derive(Debug)]
pub enum Next {
    Bytes(Bytes),
    /// The window has moved on: the store has it, or nobody.
    Behind,
    Over(End),
}

#[derive(Debug)]
pub struct Reader {
    run: Arc<Run>,
    id: u64,
}

impl Reader {
    /// What is at `position`, once it is here.
    pub fn poll_at(&mut self, position: u64, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.run.state.lock();
        let Some(seat) = state.seats.iter_mut().find(|seat| seat.id == self.id) else {
            return Poll::Ready(Next::Behind);
        };
        seat.position = position;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        if position < state.start() {
            return Poll::Ready(Next::Behind);
        }
        let at = state
            .pieces
            .partition_point(|piece| piece.end() <= position);
        if let Some(piece) = state.pieces.get(at) {
            let skip = usize::try_from(position - piece.start).unwrap_or(usize::MAX);
            let bytes = piece.bytes.slice(skip.min(piece.bytes.len())..);
            return Poll::Ready(Next::Bytes(bytes));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Next::Over(end));
        }
        if let Some(seat) = state.seats.iter_mut().find(|seat| seat.id == self.id) {
            seat.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.run.state.lock();
        state.seats.retain(|seat| seat.id != self.id);
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }
}

/// The runs that are going on, by the nonce of their object's slices.
#[derive(Debug, Default)]
pub struct Runs {
    by_object: Mutex<HashMap<u64, Vec<Weak<Run>>>>,
}

/// The outcome of asking for bytes that the store lacks.
#[derive(Debug)]
pub enum Joined {
    /// They are coming.
    Reader(Reader),
    /// Nobody fetches them yet: whoever gets this must, and has the first reader.
    Started(Arc<Run>, Option<Reader>),
}

impl Runs {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A reader of a run that has `position` or soon will.
    pub fn join(&self, nonce: u64, position: u64) -> Option<Reader> {
        let runs = self.by_object.lock();
        runs.get(&nonce)?
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|run| run.reader(position, run.ahead))
    }

    /// Joins a run, or starts one of `first..=last`, in one step: two that ask at once start one.
    pub fn join_or_start(
        &self,
        nonce: u64,
        position: u64,
        first: u64,
        last: u64,
        ahead: u64,
    ) -> Joined {
        let mut runs = self.by_object.lock();
        let of_object = runs.entry(nonce).or_default();
        let found = of_object
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|run| run.reader(position, run.ahead));
        if let Some(reader) = found {
            return Joined::Reader(reader);
        }
        let run = Run::new(first, last, ahead);
        of_object.push(Arc::downgrade(&run));
        let reader = run.reader(position, u64::MAX);
        Joined::Started(run, reader)
    }

    /// A run that nobody reads yet.
    pub fn start(&self, nonce: u64, first: u64, last: u64, ahead: u64) -> Arc<Run> {
        let run = Run::new(first, last, ahead);
        let mut runs = self.by_object.lock();
        runs.entry(nonce).or_default().push(Arc::downgrade(&run));
        run
    }

    /// Forgets a run that is over.
    pub fn end(&self, nonce: u64, run: &Arc<Run>) {
        let mut runs = self.by_object.lock();
        if let Some(of_object) = runs.get_mut(&nonce) {
            of_object.retain(|known| {
                known
                    .upgrade()
                    .is_some_and(|known| !Arc::ptr_eq(&known, run))
            });
            if of_object.is_empty() {
                runs.remove(&nonce);
            }
        }
    }

    /// Runs going on now.
    pub fn len(&self) -> usize {
        self.by_object.lock().values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn bytes(reader: &mut Reader, position: u64) -> Bytes {
        match reader.poll_at(position, &mut context()) {
            Poll::Ready(Next::Bytes(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn readers_take_what_is_at_their_position() {
        let runs = Runs::new();
        let run = runs.start(1, 100, 199, 50);
        let mut reader = runs.join(1, 100).unwrap();
        assert!(reader.poll_at(100, &mut context()).is_pending());
        run.push(Bytes::from_static(b"abcdef"));
        assert_eq!(bytes(&mut reader, 100), "abcdef");
        assert_eq!(bytes(&mut reader, 104), "ef");
        assert!(reader.poll_at(106, &mut context()).is_pending());
        run.finish(End::Broken);
        assert!(matches!(
            reader.poll_at(106, &mut context()),
            Poll::Ready(Next::Over(End::Broken))
        ));
        runs.end(1, &run);
        assert!(runs.join(1, 106).is_none());
        assert!(runs.is_empty());
    }

    #[test]
    fn the_writer_waits_for_the_fastest_and_forgets_the_slowest() {
        let runs = Runs::new();
        let run = runs.start(1, 0, 999, 10);
        let mut fast = runs.join(1, 0).unwrap();
        let mut slow = runs.join(1, 0).unwrap();
        run.push(Bytes::from(vec![b'x'; 10]));
        assert!(run.poll_room(&mut context()).is_pending());
        assert_eq!(bytes(&mut fast, 0).len(), 10);
        let _ = fast.poll_at(10, &mut context());
        assert!(run.poll_room(&mut context()).is_ready());
        for at in 1..4 {
            run.push(Bytes::from(vec![b'x'; 10]));
            let _ = fast.poll_at(at * 10 + 10, &mut context());
        }
        assert!(matches!(
            slow.poll_at(0, &mut context()),
            Poll::Ready(Next::Behind)
        ));
        drop((fast, slow));
        assert_eq!(run.poll_room(&mut context()), Poll::Ready(Err(NobodyReads)));
    }

    #[test]
    fn two_that_ask_at_once_start_one_run() {
        let runs = Runs::new();
        assert!(matches!(
            runs.join_or_start(1, 5, 0, 9, 10),
            Joined::Started(..)
        ));
        // The first was dropped with its run, so the next one starts again.
        let Joined::Started(run, reader) = runs.join_or_start(1, 5, 0, 9, 2) else {
            panic!("nobody fetches")
        };
        assert!(reader.is_some(), "who starts it waits for its position");
        run.push(Bytes::from_static(b"abcde"));
        assert!(matches!(
            runs.join_or_start(1, 6, 0, 9, 2),
            Joined::Reader(_)
        ));
    }
}
