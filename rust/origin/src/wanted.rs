//! Requests that no client waits for any more, and those whose client is slow to send their content, give their place
//! at an origin to those that a client waits for.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use slab::Slab;

use super::request_body::RequestStream;

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
    holders: RefCell<Slab<Holder>>,
    waiting: Cell<usize>,
}

#[derive(Debug)]
struct Holder {
    wanted: Wanted,
    /// The content that is still read from its client.
    upload: Option<RequestStream>,
    is_revoked: bool,
    waker: Option<Waker>,
}

impl Holder {
    fn is_unwanted(&self) -> bool {
        !self.is_revoked && !self.wanted.still()
    }

    fn is_slow(&self) -> bool {
        !self.is_revoked && self.upload.as_ref().is_some_and(RequestStream::is_slow)
    }
}

impl Holders {
    /// A request has got a connection, and is noted as long as this is kept.
    pub(super) fn hold(&self, wanted: Wanted, upload: Option<RequestStream>) -> Held<'_> {
        let number = self.holders.borrow_mut().insert(Holder {
            wanted,
            upload,
            is_revoked: false,
            waker: None,
        });
        Held {
            holders: self,
            number,
        }
    }

    /// Takes the connection from one request that no client waits for, or else from one whose client is slow.
    pub(super) fn revoke_one(&self) {
        let waker = {
            let mut holders = self.holders.borrow_mut();
            let first = |is: fn(&Holder) -> bool| {
                let found = holders.iter().find(|(_, holder)| is(holder));
                found.map(|(number, _)| number)
            };
            let number = first(Holder::is_unwanted).or_else(|| first(Holder::is_slow));
            let found = number.and_then(|number| holders.get_mut(number));
            found.and_then(|holder| {
                holder.is_revoked = true;
                holder.waker.take()
            })
        };
        if let Some(waker) = waker {
            waker.wake();
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

/// A request among the holders.
pub(super) struct Held<'h> {
    holders: &'h Holders,
    number: usize,
}

impl Held<'_> {
    /// Ready when the connection is taken away.
    pub(super) fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut holders = self.holders.holders.borrow_mut();
        let Some(holder) = holders.get_mut(self.number) else {
            return Poll::Pending;
        };
        if holder.is_revoked {
            return Poll::Ready(());
        }
        match &holder.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => holder.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let holder = self.holders.holders.borrow_mut().try_remove(self.number);
        // Letting go of its waker may let go of others: not while the list is borrowed.
        drop(holder);
    }
}
