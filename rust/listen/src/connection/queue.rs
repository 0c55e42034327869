//! Bytes of a response that its body has given and that are not written into the client's socket yet.
//!
//! A response that streams gives no more than a part of the free memory, and draws those bytes on the account.
//! One that is in memory anyway draws nothing.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use edgerouter_account::{Account, Cut, Hold, Owner};
use edgerouter_core::bounds::memory::Purpose;
use parking_lot::Mutex;

/// Bytes that are taken ahead of the socket, at least.
const LEAST: u64 = 4 << 10;

/// Bytes that are taken ahead of the socket, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// Of content that is made or fetched when it is wanted.
    Piece,
    /// Of content whose pieces wait in memory: they are written together, as a write wakes the client. One that has not
    /// taken all before is sent no more for it.
    Pieces,
}

impl Ahead {
    const fn most(self, is_slow: bool) -> u64 {
        match self {
            Self::Pieces if !is_slow => 512 << 10,
            _ => 64 << 10,
        }
    }
}

/// Bytes of responses that the socket has not taken yet.
#[derive(Debug, Default)]
pub struct Queue {
    /// Bytes taken and not written.
    waiting: Cell<u64>,
    /// Of these, bytes for which memory is drawn.
    drawn: Cell<u64>,
    /// The last write has left some.
    is_slow: Cell<bool>,
    open: RefCell<Option<Open>>,
    body: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Open {
    hold: Hold,
    ending: Arc<Ending>,
    /// No more comes of the body.
    over: bool,
}

/// Ends the connection, from any thread.
#[derive(Debug)]
struct Ending {
    cut: AtomicBool,
    connection: Mutex<Option<Waker>>,
}

impl Cut for Ending {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        if let Some(connection) = self.connection.lock().take() {
            connection.wake();
        }
    }
}

/// True if a response with content of this length is counted: as much as a small one has is always taken.
pub fn is_counted(length: Option<u64>) -> bool {
    length.is_none_or(|length| length > LEAST)
}

impl Queue {
    /// A response that streams begins; `connection` is woken when it has to end.
    pub fn open(&self, account: &Arc<Account>, owner: Owner, connection: Option<Waker>) {
        let ending = Arc::new(Ending {
            cut: AtomicBool::new(false),
            connection: Mutex::new(connection),
        });
        let weak: Weak<dyn Cut> = Arc::downgrade(&ending) as Weak<dyn Cut>;
        let hold = account.open(Purpose::Queues, owner, weak);
        self.drawn.set(0);
        *self.open.borrow_mut() = Some(Open {
            hold,
            ending,
            over: false,
        });
    }

    /// True if bytes of it are counted.
    pub(crate) fn is_open(&self) -> bool {
        self.open.borrow().is_some()
    }

    /// True if others need the memory more.
    pub(crate) fn is_cut(&self) -> bool {
        let open = self.open.borrow();
        open.as_ref()
            .is_some_and(|open| open.ending.cut.load(Ordering::Acquire))
    }

    /// Ready when more may be taken.
    pub fn poll_room(&self, ahead: Ahead, cx: &Context<'_>) -> Poll<()> {
        let waiting = self.waiting.get();
        let open = self.open.borrow();
        let Some(open) = open.as_ref().filter(|_| waiting > LEAST) else {
            return Poll::Ready(());
        };
        if waiting < open.hold.allowance(LEAST, ahead.most(self.is_slow.get())) {
            return Poll::Ready(());
        }
        *self.body.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The last write has left some.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow.get()
    }

    /// The number of bytes that one piece may have now, of the `most` that it wants.
    pub fn allowance(&self, most: u64) -> u64 {
        let open = self.open.borrow();
        let allowed = open.as_ref().map(|open| open.hold.allowance(LEAST, most));
        allowed.unwrap_or(LEAST)
    }

    /// So many bytes were taken. `cached`: the cache has them, too.
    pub fn put(&self, bytes: u64, cached: bool) {
        let open = self.open.borrow();
        let Some(open) = open.as_ref() else { return };
        self.waiting.set(self.waiting.get() + bytes);
        if !cached {
            open.hold.take(bytes);
            self.drawn.set(self.drawn.get() + bytes);
        }
    }

    /// So many bytes have been written.
    pub fn written(&self, bytes: usize) {
        let waiting = self.waiting.get();
        if waiting == 0 {
            return;
        }
        let left = waiting.saturating_sub(bytes as u64);
        self.waiting.set(left);
        self.is_slow.set(left > 0);
        let mut open = self.open.borrow_mut();
        if let Some(known) = open.as_ref() {
            known.hold.moved();
            let over = self.drawn.get().saturating_sub(left);
            if over > 0 {
                known.hold.give(over);
                self.drawn.set(left);
            }
            if left == 0 && known.over {
                *open = None;
            }
        }
        drop(open);
        if let Some(body) = self.body.borrow_mut().take() {
            body.wake();
        }
    }

    /// The body is over; some of it may still be unwritten.
    pub fn close(&self) {
        let mut open = self.open.borrow_mut();
        if self.waiting.get() == 0 {
            *open = None;
        } else if let Some(open) = open.as_mut() {
            open.over = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(queue: &Queue) -> bool {
        queue
            .poll_room(Ahead::Piece, &Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn pieces_are_taken_together_for_a_client_that_takes_all() {
        let account = Account::new(64 << 20);
        let queue = Queue::default();
        queue.open(&account, Owner::default(), None);
        let cx = Context::from_waker(Waker::noop());
        let room = |ahead| queue.poll_room(ahead, &cx).is_ready();
        queue.put(256 << 10, false);
        assert!(room(Ahead::Pieces) && !room(Ahead::Piece));
        queue.written(64 << 10);
        assert!(!room(Ahead::Pieces), "it has left some");
        queue.written(192 << 10);
        queue.put(256 << 10, false);
        assert!(room(Ahead::Pieces), "it has taken all");
        queue.put(256 << 10, false);
        assert!(!room(Ahead::Pieces));
    }

    #[test]
    fn what_is_drawn_is_what_waits_and_was_not_in_memory() {
        let account = Account::new(8 << 20);
        let queue = Queue::default();
        let used = || account.figures().used[Purpose::Queues as usize];
        queue.put(1 << 20, false);
        assert_eq!(used(), 0, "nothing streams");
        queue.open(&account, Owner::default(), None);
        queue.put(1 << 20, true);
        assert_eq!(used(), 0, "the cache has it");
        assert!(!room(&queue));
        queue.written(1 << 20);
        assert!(room(&queue));
        queue.put(48 << 10, false);
        assert!(room(&queue));
        queue.put(48 << 10, false);
        assert!(!room(&queue));
        assert_eq!(used(), 96 << 10);
        queue.close();
        queue.written(64 << 10);
        assert_eq!(used(), 32 << 10);
        queue.written(64 << 10);
        assert_eq!((used(), account.figures().holders), (0, 0));
    }
}
