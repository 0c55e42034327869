//! Turns of the responses of a connection: the library sends what it is given in the order in which it gets it, so it
//! is given a little ahead of the socket, by the most urgent response that is ready.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    task::Poll,
};

use edgerouter_core::http::h2::priority::{Priority, Rank};

use super::meter::OpenStream;

/// Content of all responses that the library is given ahead of the socket.
pub(super) const MOST_AHEAD: usize = 128 << 10;

/// The responses that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Bytes that the library was given and the socket has not taken.
    ahead: Cell<usize>,
    /// The number of turns that began.
    begun: Cell<u64>,
    waiting: RefCell<BTreeMap<Rank, Rc<OpenStream>>>,
}

/// A response's place in the order.
#[derive(Debug, Default)]
pub(super) struct Turn {
    rank: Cell<Option<Rank>>,
    ahead: Cell<usize>,
}

impl Turns {
    /// Ready when a response may give the library content: nothing more urgent is ready, and the socket is not far
    /// behind.
    pub(super) fn poll_turn(&self, open: &Rc<OpenStream>, priority: Priority) -> Poll<()> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && self.has_room() {
            return Poll::Ready(());
        }
        let rank = open.turn.rank.get().unwrap_or_else(|| {
            self.begun.set(self.begun.get() + 1);
            priority.rank(open.id, self.begun.get())
        });
        let is_first = waiting.keys().next().is_none_or(|first| *first >= rank);
        if self.has_room() && is_first {
            waiting.remove(&rank);
            open.turn.rank.set(None);
            drop(waiting);
            self.wake_next();
            return Poll::Ready(());
        }
        open.turn.rank.set(Some(rank));
        waiting.insert(rank, Rc::clone(open));
        Poll::Pending
    }

    /// True if the library has content that the socket has not taken.
    pub(super) fn are_ahead(&self) -> bool {
        self.ahead.get() > 0
    }

    fn has_room(&self) -> bool {
        self.ahead.get() < MOST_AHEAD
    }

    fn wake_next(&self) {
        let next = self.waiting.borrow().values().next().map(Rc::clone);
        if let Some(next) = next
            && self.has_room()
        {
            next.stream.wake();
        }
    }

    /// The library was given content of a response.
    pub(super) fn gave(&self, open: &OpenStream, bytes: usize) {
        self.ahead.set(self.ahead.get() + bytes);
        open.turn.ahead.set(open.turn.ahead.get() + bytes);
    }

    /// The socket has taken some of it.
    pub(super) fn taken(&self, open: &OpenStream, bytes: usize) {
        let ahead = open.turn.ahead.get();
        let bytes = bytes.min(ahead);
        open.turn.ahead.set(ahead - bytes);
        self.ahead.set(self.ahead.get().saturating_sub(bytes));
        self.wake_next();
    }

    /// A response has left, or was reset: then the library has dropped the rest of it.
    pub(super) fn left(&self, open: &OpenStream) {
        if let Some(rank) = open.turn.rank.take() {
            self.waiting.borrow_mut().remove(&rank);
        }
        self.taken(open, usize::MAX);
    }
}
