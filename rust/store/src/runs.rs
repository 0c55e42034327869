//! The runs that are going on. A reader that needs bytes which are not stored joins one of them, or starts one.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use edgerouter_account::{Account, Owner};
use edgerouter_core::{cache::slices, http::range::Range};
use parking_lot::Mutex;

use super::run::{Run, RunReader};

/// The runs that are going on, by the nonce of their object's slices.
#[derive(Debug, Default)]
pub struct Runs {
    by_object: Mutex<HashMap<u64, Vec<Weak<Run>>>>,
}

/// A reader's claim to bytes that it did not find.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The byte that the reader needs next, as a position in the whole.
    pub position: u64,
    /// The range to request, in whole slices.
    pub wanted: Range,
    /// Bytes of each slice.
    pub slice: u64,
    /// Bytes that the run may be ahead of its fastest reader.
    pub ahead: u64,
    /// The client and origins for which its memory is held.
    pub owner: Owner,
}

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The bytes are on their way.
    Reader(RunReader),
    /// The bytes are in the store by now.
    Stored,
    /// Nobody fetches them yet: the caller must.
    Started(Arc<Run>),
}

impl Runs {
    /// Starts without runs.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A reader of a run that has the byte at `position` or soon will.
    pub fn join(&self, nonce: u64, position: u64) -> Option<RunReader> {
        reader(self.by_object.lock().get(&nonce)?, position)
    }

    /// Ranges that the runs of an object will bring, as far as the origin has responded.
    pub fn coming(&self, nonce: u64) -> Vec<Range> {
        let runs = self.by_object.lock();
        let of_object = runs.get(&nonce).into_iter().flatten();
        of_object
            .filter_map(|run| run.upgrade()?.promises())
            .collect()
    }

    /// Joins a run or starts one, in one step: two readers that claim the same bytes at once, on any workers, start one
    /// run. It ends before the first slice that `stored` knows, or that another run brings.
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
        // Only after the runs were searched: bytes that a run has dropped are stored.
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
            let in_hand = |run: Arc<Run>| run.has_in_hand(next);
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

    /// Removes a run that is over.
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
}

fn reader(runs: &[Weak<Run>], position: u64) -> Option<RunReader> {
    runs.iter()
        .filter_map(Weak::upgrade)
        .find_map(|run| run.reader(position))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use edgerouter_core::outcome::RunEnd;
    use http::StatusCode;

    use super::*;
    use crate::{
        NobodyReads,
        run::{Begun, Next},
    };

    fn account() -> Arc<Account> {
        Account::new(1 << 20)
    }

    fn start(runs: &Runs, nonce: u64, first: u64, last: u64, ahead: u64) -> Arc<Run> {
        let owner = Owner::default();
        runs.start(nonce, Range { first, last }, ahead, &account(), owner)
    }

    fn push(run: &Run, bytes: impl Into<Bytes>, stored: u64) {
        let bytes = bytes.into();
        assert!(run.has_room(bytes.len()));
        assert!(run.push(bytes, stored, 0));
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn bytes(reader: &mut RunReader, position: u64) -> Bytes {
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
        run.finish(RunEnd::Broken);
        assert!(matches!(
            reader.poll_at(106, &mut context()),
            Poll::Ready(Next::Over(RunEnd::Broken))
        ));
        runs.end(1, &run);
        assert!(runs.join(1, 106).is_none());
        assert!(runs.by_object.lock().is_empty());
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
        assert!(runs.by_object.lock().is_empty());
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
        lost.finish(RunEnd::Broken);
        assert!(matches!(
            reader.poll_begun(&mut context()),
            Poll::Ready(Begun::Failed(_))
        ));
    }
}
