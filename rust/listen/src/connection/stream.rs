//! One request of a connection: its interim responses, its upgrade, its refusal, and the bytes of its response on their
//! way.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use edgerouter_account::{Account, Owner};
use edgerouter_core::{
    admit::{LastAuthority, Refusal},
    http::Fields,
};
use http::{StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Connection,
    interim::{Interims, Ticket},
    queue::Queue,
};

/// The origin's side of a tunnel.
pub trait TunnelEnd: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug> TunnelEnd for T {}

/// One request. HTTP/1.1 has one at a time and uses it again for the next; a protocol that multiplexes makes one for
/// each.
#[derive(Debug)]
pub struct Stream {
    /// The connection that the request came by.
    pub connection: Rc<Connection>,
    refusal: Cell<Option<Refusal>>,
    tunnel: RefCell<Option<Box<dyn TunnelEnd>>>,
    /// The task that sends the response; `None`: the connection's.
    task: RefCell<Option<Waker>>,
    /// The authority of the request before this one.
    pub last_authority: LastAuthority,
    /// Interim responses on their way to the client.
    pub interims: Interims,
    /// Bytes on their way to the client.
    pub queue: Queue,
}

impl Stream {
    /// A stream without a request.
    pub fn new(connection: Rc<Connection>) -> Self {
        Self {
            connection,
            refusal: Cell::new(None),
            tunnel: RefCell::new(None),
            task: RefCell::new(None),
            last_authority: LastAuthority::default(),
            interims: Interims::default(),
            queue: Queue::default(),
        }
    }

    /// Its response is sent by the task of `waker`.
    pub(crate) fn sent_by(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Makes the task that sends its response look at its state.
    pub(crate) fn wake(&self) {
        match &*self.task.borrow() {
            Some(task) => task.wake_by_ref(),
            None => self.connection.wake(),
        }
    }

    /// The head of a request has come in whole.
    pub fn begin(&self, version: Version) {
        self.connection.begin();
        self.interims.begin(version);
    }

    /// Its response has ended.
    pub fn end(&self) {
        self.queue.close();
        self.connection.end();
    }

    /// True if its client still waits for the response, as far as can be seen: one that has closed its side may.
    pub fn is_wanted(&self) -> bool {
        !self.connection.is_half_closed()
    }

    /// Sends an interim response to the request that `ticket` was given for, unless it is too late or too much.
    pub fn send_interim(&self, ticket: Ticket, status: StatusCode, headers: &Fields) -> bool {
        let sent = self.interims.add(ticket, status, headers);
        if sent {
            self.wake();
        }
        sent
    }

    /// Counts the bytes of a response that streams from here on.
    pub fn count(&self, account: &Arc<Account>, owner: Owner) {
        let task = self.task.borrow().clone();
        let task = task.or_else(|| self.connection.waker());
        self.queue.open(account, owner, task);
    }

    /// The client has taken bytes of what waits for it.
    #[inline]
    pub(crate) fn written(&self, count: usize) {
        self.connection.taken(count);
        self.queue.written(count);
    }

    /// Refuses the request whose bytes are read next, or now.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusal.set(Some(refusal));
        self.connection.refused();
    }

    /// The reason for which the message was refused; once.
    pub fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Joins the client to the origin's side of an upgrade when the response is sent. A tunnel is a stream until it
    /// ends.
    pub fn tunnel_to(&self, upstream: impl TunnelEnd + 'static) {
        self.connection.begin();
        *self.tunnel.borrow_mut() = Some(Box::new(upstream));
    }

    /// The upgraded connection that a tunnel takes over (RFC 9110 §7.8); once.
    pub(crate) fn take_tunnel(&self) -> Option<Box<dyn TunnelEnd>> {
        self.tunnel.borrow_mut().take()
    }
}
