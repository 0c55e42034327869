//! Requests that no client waits for any more give their place at an origin to those that a client waits for.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

/// True if a client still waits for the answer to a request.
#[derive(Clone)]
pub struct Wanted(Rc<dyn Fn() -> bool>);

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Wanted").field(&self.still()).finish()
    }
}

impl Wanted {
    /// `still` gives false as soon as nobody waits for the response.
    pub fn new(still: impl Fn() -> bool + 'static) -> Self {
        Self(Rc::new(still))
    }

    /// True if somebody waits for the response.
    pub fn still(&self) -> bool {
        (self.0)()
    }
}

/// The requests that hold a connection to one origin and wait for their answer, and how many wait for a connection.
#[derive(Debug, Default)]
pub(super) struct Holders {
    holders: RefCell<Vec<Weak<Holder>>>,
    waiting: Cell<usize>,
}

#[derive(Debug)]
pub(super) struct Holder {
    wanted: Wanted,
    revoked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Holders {
    /// A request has got a connection.
    pub(super) fn hold(&self, wanted: Wanted) -> Rc<Holder> {
        let holder = Rc::new(Holder {
            wanted,
            revoked: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut holders = self.holders.borrow_mut();
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(Rc::downgrade(&holder));
        holder
    }

    /// Takes the connection from one request that no client waits for.
    pub(super) fn revoke_one(&self) {
        let found = self.holders.borrow().iter().find_map(|holder| {
            holder
                .upgrade()
                .filter(|holder| !holder.revoked.get() && !holder.wanted.still())
        });
        if let Some(holder) = found {
            holder.revoked.set(true);
            if let Some(waker) = holder.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// A request that a client waits for is waiting for a connection, as long as this is kept.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waiting(self)
    }

    pub(super) fn anybody_waits(&self) -> bool {
        self.waiting.get() > 0
    }
}

pub(super) struct Waiting<'h>(&'h Holders);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

impl Holder {
    /// Ready when the connection is taken away.
    pub(super) fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.revoked.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
