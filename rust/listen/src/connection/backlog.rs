//! Connections with more to do than fits into a turn, those that have yet to show that they are worth the work, and those
//! that end: TLS handshakes, new connections of HTTP/2, those that take no response. They go on one after another, and
//! before each of them the worker looks for what has come in meanwhile: so a request on another connection waits for one
//! turn, not for all of them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::task::{spawn_local, yield_now};

use super::{Connection, ConnectionOwner};

/// Ends of connections that go on at once until the worker looks at its sockets: each is a fifth of a handshake.
const ENDS_AT_ONCE: u8 = 4;

/// The connections of a worker that wait for their next turn.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: RefCell<VecDeque<Rc<NextTurn>>>,
    /// Turns in the middle of long content. One of them and one of the others go on each time: a flood of handshakes
    /// takes half of the worker from them at most.
    long: RefCell<VecDeque<Rc<NextTurn>>>,
    /// Ends that went on at once since the task that gives the turns has run.
    ended: Cell<u8>,
    /// The task that gives the turns has something to do, and knows it.
    is_served: Cell<bool>,
    /// Wakes that task while it has nothing to do. `None`: it has yet to begin.
    server: RefCell<Option<Waker>>,
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
        let backlog = &owner.connections().backlog;
        backlog.wait_in(&backlog.waiting, owner, cx)
    }

    /// As `wait`, in the middle of long content.
    pub(crate) fn wait_to_go_on<O: ConnectionOwner>(
        owner: &Rc<O>,
        cx: &Context<'_>,
    ) -> Rc<NextTurn> {
        let backlog = &owner.connections().backlog;
        backlog.wait_in(&backlog.long, owner, cx)
    }

    fn wait_in<O: ConnectionOwner>(
        &self,
        queue: &RefCell<VecDeque<Rc<NextTurn>>>,
        owner: &Rc<O>,
        cx: &Context<'_>,
    ) -> Rc<NextTurn> {
        let turn = Rc::new(NextTurn {
            has_come: Cell::new(false),
            task: cx.waker().clone(),
        });
        queue.borrow_mut().push_back(Rc::clone(&turn));
        self.begin_to_serve(owner);
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

    /// Waits for the turn of a connection that ends, where many end at once. One that gives way to another does not wait.
    pub(crate) async fn turn_to_end<O: ConnectionOwner>(owner: &Rc<O>, connection: &Connection) {
        let backlog = &owner.connections().backlog;
        let ended = backlog.ended.get();
        if ended >= ENDS_AT_ONCE || backlog.is_waited_in() {
            connection.unless_ended(Self::turn(owner)).await;
            return;
        }
        backlog.ended.set(ended + 1);
        if ended == 0 {
            backlog.begin_to_serve(owner);
        }
    }

    fn begin_to_serve<O: ConnectionOwner>(&self, owner: &Rc<O>) {
        if self.is_served.replace(true) {
            return;
        }
        match &*self.server.borrow() {
            Some(server) => server.wake_by_ref(),
            None => drop(spawn_local(serve(Rc::clone(owner)))),
        }
    }

    /// Waits until a connection waits for its turn.
    async fn until_waited_in(&self) {
        poll_fn(|cx| {
            // All that was ready when the ends were counted has gone on by now.
            self.ended.set(0);
            if self.is_waited_in() || !self.long.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.server
                .borrow_mut()
                .get_or_insert_with(|| cx.waker().clone());
            self.is_served.set(false);
            Poll::Pending
        })
        .await;
    }
}

/// Gives its turn to the next connection in a queue that still waits.
fn give_turn(queue: &RefCell<VecDeque<Rc<NextTurn>>>) {
    let mut waiting = queue.borrow_mut();
    while let Some(next) = waiting.pop_front() {
        // Otherwise its connection has ended.
        if Rc::strong_count(&next) > 1 {
            next.has_come.set(true);
            next.task.wake_by_ref();
            return;
        }
    }
}

/// Gives the turns of a worker, for as long as that lives.
async fn serve<O: ConnectionOwner>(owner: Rc<O>) {
    let backlog = &owner.connections().backlog;
    loop {
        backlog.until_waited_in().await;
        // The runtime polls its sockets before it returns from this.
        yield_now().await;
        give_turn(&backlog.long);
        give_turn(&backlog.waiting);
    }
}
