//! Connections with more to do than fits into a turn, and those that have yet to show that they are worth the work: TLS
//! handshakes, new connections of HTTP/2, and those that take no response. They go on one after another, and before
//! each of them the worker looks for what has come in meanwhile: so a request on another connection waits for one turn,
//! not for all of them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::task::{spawn_local, yield_now};

use super::ConnectionOwner;

/// The connections of a worker that wait for their next turn.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: RefCell<VecDeque<Rc<NextTurn>>>,
    /// A task gives the turns.
    is_served: Cell<bool>,
}

/// A connection's place among them. It takes one at a time.
#[derive(Debug)]
pub(crate) struct NextTurn {
    has_come: Cell<bool>,
    task: Waker,
}

impl NextTurn {
    pub(crate) fn has_come(&self) -> bool {
        self.has_come.get()
    }
}

impl Backlog {
    /// True if a connection waits.
    pub(crate) fn is_waited_in(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// A place behind all others. The task of `cx` is woken when its turn has come.
    pub(crate) fn wait<O: ConnectionOwner>(owner: &Rc<O>, cx: &Context<'_>) -> Rc<NextTurn> {
        let turn = Rc::new(NextTurn {
            has_come: Cell::new(false),
            task: cx.waker().clone(),
        });
        let backlog = &owner.connections().backlog;
        backlog.waiting.borrow_mut().push_back(Rc::clone(&turn));
        if !backlog.is_served.replace(true) {
            spawn_local(serve(Rc::clone(owner)));
        }
        turn
    }

    /// Waits for a turn behind all others.
    pub(crate) async fn turn<O: ConnectionOwner>(owner: &Rc<O>) {
        let mut own = None;
        poll_fn(|cx| {
            let turn = own.get_or_insert_with(|| Self::wait(owner, cx));
            match turn.has_come() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// The next connection that still waits.
    fn next(&self) -> Option<Rc<NextTurn>> {
        let mut waiting = self.waiting.borrow_mut();
        loop {
            let next = waiting.pop_front()?;
            // Otherwise its connection has ended.
            if Rc::strong_count(&next) > 1 {
                return Some(next);
            }
        }
    }
}

async fn serve<O: ConnectionOwner>(owner: Rc<O>) {
    let backlog = &owner.connections().backlog;
    loop {
        // The runtime polls its sockets before it returns from this.
        yield_now().await;
        let Some(next) = backlog.next() else { break };
        next.has_come.set(true);
        next.task.wake_by_ref();
    }
    backlog.is_served.set(false);
}
