//! A stretch of a large object on its way in, read by many as it arrives.
//!
//! One writer appends; completed slices go into the store besides. Readers are at their own positions: those near the
//! front take what has just come in, those further behind take the slices from the store. Whatever a run has let go is in
//! the store, and whoever finds a slice in neither looks once more under the lock that new runs are started under: so no
//! byte that is here or coming is asked for again. Only where there is no memory to put a slice together in, it is passed on
//! to the readers that are there, and not stored. The writer runs ahead of the fastest reader by a bounded number of bytes
//! only, so that a visitor who pauses a film does not make the edge fetch the rest of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_account::{Account, Cut, Hold, Owner};
use edgerouter_core::{
    bounds::memory::Kind,
    cache::slices,
    http::range::Range,
    origin::unanswered::{FetchError, Unavailable},
};
use http::StatusCode;
use parking_lot::Mutex;

/// How far a writer runs ahead of its readers at least, however little memory there is: a piece comes once all before it
/// have been read.
const LEAST_AHEAD: u64 = 1;
/// Pieces below this are copied: each may keep a larger buffer alive.
const LEAST_PIECE: usize = 16 << 10;

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

/// What the origin's answer to a run's request was.
#[derive(Debug, Clone)]
pub enum Begun {
    /// The bytes that were asked for, with this status.
    Coming(StatusCode),
    /// Another representation.
    Changed,
    /// Neither.
    Refused,
    Failed(Unavailable),
}

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
    /// What has come in lately, in order and without gaps; the last piece ends at `arrived`.
    pieces: VecDeque<Piece>,
    /// Bytes of `pieces`, and those of the slice that is being put together, from its beginning on.
    held: u64,
    cutting: u64,
    arrived: u64,
    /// What is before it is in the store, as far as the store keeps it, or is not going to be.
    stored: u64,
    begun: Option<Begun>,
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
    fn new(first: u64, last: u64, ahead: u64, account: &Arc<Account>, owner: Owner) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            hold: account.open(Kind::ReadAhead, owner, Weak::clone(own) as Weak<dyn Cut>),
            first,
            last,
            ahead: ahead.max(1),
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                held: 0,
                cutting: 0,
                arrived: first,
                stored: first,
                begun: None,
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

    /// Tells what the answer is, before any of its body.
    pub fn begin(&self, begun: Begun) {
        let mut state = self.state.lock();
        state.begun.get_or_insert(begun);
        state.wake_readers();
    }

    /// Draws memory to put the next slice together in, of so many bytes, or goes on with that of the one before. False where
    /// little would be left: to pass on what comes must not wait for it.
    pub fn room_to_store(&self, slice: u64) -> bool {
        self.state.lock().cutting >= slice
            || self.hold.room() >= slice.saturating_mul(2) && self.hold.draw_free(slice).is_ok()
    }

    /// Draws memory for a piece of so many bytes, where there is some now without anybody giving way.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.hold.draw_free(bytes as u64).is_ok()
    }

    /// Ready when there is memory for a piece that is only passed on. False when there is none within `patience`. The slice
    /// that was to be put together is let go, and what of it the readers have passed.
    pub async fn room_for(&self, bytes: usize, patience: Duration) -> bool {
        if self.pass_on() {
            self.hold.drawn(bytes as u64, patience).await.is_ok()
        } else {
            // What nobody waits for is not worth anybody's waiting.
            self.hold.draw(bytes as u64).is_ok()
        }
    }

    /// Lets go of the slice that was to be put together. Whether anybody reads.
    fn pass_on(&self) -> bool {
        let mut state = self.state.lock();
        state.stored = state.arrived;
        state.cutting = 0;
        state.trim(self.ahead);
        let (holds, read) = (state.held, !state.seats.is_empty());
        drop(state);
        self.hold.keep(holds);
        read
    }

    /// Appends what comes next and wakes the readers. What comes before `stored` is in the store, or will not be. Takes what
    /// was drawn for it; the slice that is being put together takes `cutting` bytes. False when the run has been cut.
    pub fn push(&self, bytes: Bytes, stored: u64, cutting: u64) -> bool {
        let bytes = if bytes.len() < LEAST_PIECE {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes
        };
        let mut state = self.state.lock();
        state.stored = stored;
        state.cutting = cutting;
        if !bytes.is_empty() && state.end.is_none() {
            let start = state.arrived;
            state.arrived += bytes.len() as u64;
            state.held += bytes.len() as u64;
            state.pieces.push_back(Piece { start, bytes });
            state.trim(self.ahead);
            state.wake_readers();
        }
        let (holds, going_on) = (state.held + state.cutting, state.end.is_none());
        drop(state);
        self.hold.settle(holds);
        going_on
    }

    pub fn finish(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        state.cutting = 0;
        let holds = state.held;
        state.wake_readers();
        drop(state);
        self.hold.keep(holds);
    }

    /// Ready when the writer may go on. `Err` when there were readers and all have gone.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), NobodyReads>> {
        let mut state = self.state.lock();
        if state.had_readers && state.seats.is_empty() {
            return Poll::Ready(Err(NobodyReads));
        }
        if state.end.is_some() {
            return Poll::Ready(Err(NobodyReads));
        }
        let fastest = state.seats.iter().map(|seat| seat.position).max();
        let ahead = state.arrived.saturating_sub(fastest.unwrap_or(self.first));
        let least = LEAST_AHEAD.min(self.ahead);
        if ahead < least || ahead < self.hold.allowance(least, self.ahead) {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A reader at the first byte, of a run that has just been started.
    pub fn first_reader(self: &Arc<Self>) -> Option<Reader> {
        self.reader(self.first)
    }

    /// A reader at `position`, when the run has what is there or will soon.
    fn reader(self: &Arc<Self>, position: u64) -> Option<Reader> {
        let mut state = self.state.lock();
        if !self.reaches(&state, position) {
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

    /// Whether it has what is at `position`, or will when its writer has taken one more look ahead.
    fn reaches(&self, state: &State, position: u64) -> bool {
        state.end.is_none()
            && position <= self.last
            && position >= state.start()
            && position <= state.arrived.saturating_add(self.ahead)
    }

    /// What will have come when it is over, where its answer is here already.
    fn promises(&self) -> Option<Range> {
        let state = self.state.lock();
        let coming = matches!(state.begun, Some(Begun::Coming(_))) && state.end.is_none();
        coming.then(|| Range {
            first: state.start(),
            last: self.last,
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

    fn wait(&mut self, id: u64, cx: &Context<'_>) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.waker = Some(cx.waker().clone());
        }
    }

    fn wake_readers(&mut self) {
        for seat in &mut self.seats {
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops what every reader has passed, and what only readers far behind would need: they have the store. What is not
    /// in the store yet stays, for a reader that comes.
    fn trim(&mut self, most: u64) {
        let slowest = self.seats.iter().map(|seat| seat.position).min();
        while let Some(piece) = self.pieces.front() {
            let passed = slowest.is_some_and(|slowest| piece.end() <= slowest);
            let far_behind = self.arrived - piece.start > most.saturating_mul(2);
            if piece.end() > self.stored || !(passed || far_behind) {
                break;
            }
            self.held = self.held.saturating_sub(piece.bytes.len() as u64);
            self.pieces.pop_front();
        }
    }
}

impl Cut for Run {
    /// Lets go of everything and ends. Nobody is cut off: readers find the rest in the store, or ask for it again when
    /// they read on.
    fn cut(&self) {
        let mut state = self.state.lock();
        let freed = std::mem::take(&mut state.held);
        state.pieces.clear();
        state.end.get_or_insert(End::Stopped);
        state.wake_readers();
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        drop(state);
        self.hold.give(freed);
    }
}

/// What a reader finds.
#[derive(Debug)]
pub enum Next {
    Bytes(Bytes),
    /// The window has moved on, or never comes there: the store has it, or nobody.
    Elsewhere,
    Over(End),
}

#[derive(Debug)]
pub struct Reader {
    run: Arc<Run>,
    id: u64,
}

impl Reader {
    /// What the run's answer is, once it is here.
    pub fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Begun> {
        let mut state = self.run.state.lock();
        match (&state.begun, state.end) {
            (Some(begun), _) => return Poll::Ready(begun.clone()),
            (None, Some(_)) => return Poll::Ready(Begun::Failed(FetchError::no_origin().into())),
            (None, None) => {}
        }
        state.wait(self.id, cx);
        Poll::Pending
    }

    /// Whether the run's answer is here.
    pub fn has_begun(&self) -> bool {
        matches!(self.run.state.lock().begun, Some(Begun::Coming(_)))
    }

    /// What is at `position`, once it is here.
    pub fn poll_at(&mut self, position: u64, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.run.state.lock();
        let Some(seat) = state.seats.iter_mut().find(|seat| seat.id == self.id) else {
            return Poll::Ready(Next::Elsewhere);
        };
        if seat.position != position {
            seat.position = position;
            self.run.hold.moved();
            let held = state.held;
            state.trim(self.run.ahead);
            self.run.hold.give(held - state.held);
        }
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        let reach = state.arrived.saturating_add(self.run.ahead);
        if position < state.start() || position > self.run.last || position > reach {
            return Poll::Ready(Next::Elsewhere);
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
        state.wait(self.id, cx);
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

/// A reader's claim on bytes that it did not find.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub position: u64,
    /// What of the object is to be asked for, in whole slices.
    pub wanted: Range,
    pub slice: u64,
    pub ahead: u64,
    pub owner: Owner,
}

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// They are coming.
    Reader(Reader),
    /// They are in the store by now.
    Stored,
    /// Nobody fetches them yet: whoever gets this must.
    Started(Arc<Run>),
}

impl Runs {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A reader of a run that has `position` or soon will.
    pub fn join(&self, nonce: u64, position: u64) -> Option<Reader> {
        reader(self.by_object.lock().get(&nonce)?, position)
    }

    /// What the runs of an object will bring, as far as their answers are here.
    pub fn coming(&self, nonce: u64) -> Vec<Range> {
        let runs = self.by_object.lock();
        let of_object = runs.get(&nonce).into_iter().flatten();
        of_object
            .filter_map(|run| run.upgrade()?.promises())
            .collect()
    }

    /// Joins a run or starts one, in one step: two that claim the same at once, on whatever workers, start one. A run ends
    /// before the first slice that `stored` knows, or that another run has in hand.
    pub fn claim(
        &self,
        nonce: u64,
        claim: Claim,
        account: &Arc<Account>,
        stored: impl Fn(u64) -> bool,
    ) -> Claimed {
        let mut runs = self.by_object.lock();
        let of_object = runs.entry(nonce).or_default();
        if let Some(reader) = reader(of_object, claim.position) {
            return Claimed::Reader(reader);
        }
        // Only now: what a run had let go before that is found here.
        let slice = claim.slice.max(1);
        if stored(claim.position / slice) {
            if of_object.is_empty() {
                runs.remove(&nonce);
            }
            return Claimed::Stored;
        }
        let Range { first, mut last } = claim.wanted;
        let mut next = slices::slice_at(claim.position, slice)
            .last
            .saturating_add(1);
        while next <= last {
            let in_hand = |run: Arc<Run>| run.reaches(&run.state.lock(), next);
            if stored(next / slice) || of_object.iter().filter_map(Weak::upgrade).any(in_hand) {
                last = next - 1;
                break;
            }
            next = next.saturating_add(slice);
        }
        let run = Run::new(first, last, claim.ahead, account, claim.owner);
        of_object.push(Arc::downgrade(&run));
        Claimed::Started(run)
    }

    /// A run that nobody reads yet.
    pub fn start(
        &self,
        nonce: u64,
        coming: Range,
        ahead: u64,
        account: &Arc<Account>,
        owner: Owner,
    ) -> Arc<Run> {
        let run = Run::new(coming.first, coming.last, ahead, account, owner);
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

fn reader(runs: &[Weak<Run>], position: u64) -> Option<Reader> {
    runs.iter()
        .filter_map(Weak::upgrade)
        .find_map(|run| run.reader(position))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn account() -> Arc<Account> {
        Account::new(1 << 20)
    }

    fn start(runs: &Runs, nonce: u64, first: u64, last: u64, ahead: u64) -> Arc<Run> {
        let owner = Owner::default();
        runs.start(nonce, Range { first, last }, ahead, &account(), owner)
    }

    fn push(run: &Run, bytes: impl Into<Bytes>, stored: u64) {
        let bytes = bytes.into();
        run.hold.take(bytes.len() as u64);
        assert!(run.push(bytes, stored, 0));
    }

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
        let run = start(&runs, 1, 100, 199, 50);
        let mut reader = runs.join(1, 100).unwrap();
        assert!(reader.poll_at(100, &mut context()).is_pending());
        push(&run, Bytes::from_static(b"abcdef"), 100);
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
        let run = start(&runs, 1, 0, 999, 10);
        let mut fast = runs.join(1, 0).unwrap();
        let mut slow = runs.join(1, 0).unwrap();
        push(&run, Bytes::from(vec![b'x'; 10]), 10);
        assert!(run.poll_room(&mut context()).is_pending());
        assert_eq!(bytes(&mut fast, 0).len(), 10);
        let _ = fast.poll_at(10, &mut context());
        assert!(run.poll_room(&mut context()).is_ready());
        for at in 1..4 {
            push(&run, Bytes::from(vec![b'x'; 10]), at * 10 + 10);
            let _ = fast.poll_at(at * 10 + 10, &mut context());
        }
        assert!(matches!(
            slow.poll_at(0, &mut context()),
            Poll::Ready(Next::Elsewhere)
        ));
        drop((fast, slow));
        assert_eq!(run.poll_room(&mut context()), Poll::Ready(Err(NobodyReads)));
    }

    #[test]
    fn what_is_not_stored_yet_waits_for_a_second_reader() {
        let runs = Runs::new();
        let run = start(&runs, 1, 0, 999, 50);
        let mut first = runs.join(1, 0).unwrap();
        for at in 0..5 {
            // A slice of a hundred bytes is half here: the store has nothing of it.
            push(&run, Bytes::from(vec![b'x'; 10]), 0);
            assert_eq!(bytes(&mut first, at * 10).len(), 10);
            let _ = first.poll_at(at * 10 + 10, &mut context());
        }
        assert!(runs.join(1, 0).is_some());
        push(&run, Bytes::from(vec![b'x'; 50]), 100);
        let _ = first.poll_at(100, &mut context());
        push(&run, Bytes::from(vec![b'x'; 10]), 100);
        assert!(runs.join(1, 0).is_none(), "the store has it by now");
        assert!(runs.join(1, 100).is_some());
    }

    fn claim(position: u64, first: u64, last: u64) -> Claim {
        Claim {
            position,
            wanted: Range { first, last },
            slice: 10,
            ahead: 20,
            owner: Owner::default(),
        }
    }

    #[test]
    fn two_that_claim_at_once_start_one_run() {
        let runs = Runs::new();
        let nothing = |_| false;
        let Claimed::Started(run) = runs.claim(1, claim(5, 0, 9), &account(), nothing) else {
            panic!("nobody fetches")
        };
        assert!(matches!(
            runs.claim(1, claim(5, 0, 9), &account(), nothing),
            Claimed::Reader(_)
        ));
        // Dropped with its run, so the next one starts again.
        drop(run);
        let Claimed::Started(run) = runs.claim(1, claim(5, 0, 9), &account(), nothing) else {
            panic!("nobody fetches")
        };
        push(&run, Bytes::from_static(b"abcde"), 0);
        assert!(matches!(
            runs.claim(1, claim(6, 0, 9), &account(), nothing),
            Claimed::Reader(_)
        ));
    }

    #[test]
    fn what_came_into_the_store_meanwhile_is_not_claimed() {
        let runs = Runs::new();
        let third = |index| index == 3;
        assert!(matches!(
            runs.claim(1, claim(35, 30, 59), &account(), third),
            Claimed::Stored
        ));
        assert!(runs.is_empty());
    }

    #[test]
    fn a_run_ends_where_the_store_or_another_run_goes_on() {
        let runs = Runs::new();
        let bounds = |claimed: Claimed| match claimed {
            Claimed::Started(run) => (run.first(), run.last(), run),
            other => panic!("{other:?}"),
        };
        let (first, last, _one) = bounds(runs.claim(1, claim(60, 60, 99), &account(), |_| false));
        assert_eq!((first, last), (60, 99));
        let (first, last, _two) = bounds(runs.claim(1, claim(31, 30, 99), &account(), |_| false));
        assert_eq!((first, last), (30, 59), "the other begins there");
        let (first, last, _three) =
            bounds(runs.claim(1, claim(0, 0, 99), &account(), |index| index == 2));
        assert_eq!((first, last), (0, 19), "that is stored");
    }

    #[test]
    fn readers_wait_for_the_answer_and_hear_that_there_is_none() {
        let runs = Runs::new();
        let run = start(&runs, 1, 0, 99, 50);
        let mut reader = run.first_reader().unwrap();
        assert!(reader.poll_begun(&mut context()).is_pending());
        assert!(runs.coming(1).is_empty(), "it may still be another version");
        run.begin(Begun::Coming(StatusCode::PARTIAL_CONTENT));
        assert!(matches!(
            reader.poll_begun(&mut context()),
            Poll::Ready(Begun::Coming(StatusCode::PARTIAL_CONTENT))
        ));
        assert_eq!(runs.coming(1), [Range { first: 0, last: 99 }]);
        let lost = start(&runs, 2, 0, 99, 50);
        let mut reader = lost.first_reader().unwrap();
        lost.finish(End::Broken);
        assert!(matches!(
            reader.poll_begun(&mut context()),
            Poll::Ready(Begun::Failed(_))
        ));
    }
}
