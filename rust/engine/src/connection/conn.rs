//! What is known of one client connection, and the times it must keep.
//!
//! No timer is armed per request: the connection notes when it began to wait, and its worker looks over all of them
//! once a second (docs/design.md §6).

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    sync::Arc,
    task::Waker,
};

use edgerouter_core::{admit::Refusal, forward, plan::limits::HttpLimits};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use super::{
    interim::{Interims, Ticket},
    queue::Queue,
    remains::Remains,
};
use crate::account::{Account, Owner};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The next request, or the first.
    Request,
    /// The rest of a request's head.
    Head,
    /// Nothing from the client: a request is being answered.
    Nothing,
}

#[derive(Debug)]
pub struct Conn {
    pub peer: SocketAddr,
    pub tls: bool,
    address: OnceCell<HeaderValue>,
    waiting: Cell<Waiting>,
    /// Ticks (ms) at which `waiting` began.
    since: Cell<u64>,
    /// Ticks at which the client closed its side, or was last written to after that.
    half_closed: Cell<Option<u64>>,
    /// Ticks at which a read of a body, or a write, began to block.
    read_blocked: Cell<Option<u64>>,
    write_blocked: Cell<Option<u64>>,
    now: Cell<u64>,
    refusal: Cell<Option<Refusal>>,
    refused: Cell<bool>,
    state: Cell<ConnectionState>,
    /// Something reads and writes HTTP on it.
    pub speaks: Cell<bool>,
    /// It has been idle for a while.
    rest: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    tunnel: RefCell<Option<OnUpgrade>>,
    remains: RefCell<Option<Remains>>,
    pub interims: Interims,
    pub queue: Queue,
}

/// After so long without a request a connection keeps its socket only.
const REST: std::time::Duration = std::time::Duration::from_secs(1);

/// What the worker wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    Live,
    /// Answer what is being asked, then end.
    Drain,
    /// A head took too long: answer 408.
    HeadTooSlow,
    /// The rest of a body does not come: answer 408.
    BodyTooSlow,
    End,
}

impl Conn {
    pub fn new(peer: SocketAddr, tls: bool, ticks: u64) -> Self {
        Self {
            peer,
            tls,
            address: OnceCell::new(),
            waiting: Cell::new(Waiting::Request),
            since: Cell::new(ticks),
            half_closed: Cell::new(None),
            read_blocked: Cell::new(None),
            write_blocked: Cell::new(None),
            now: Cell::new(ticks),
            refusal: Cell::new(None),
            refused: Cell::new(false),
            state: Cell::new(ConnectionState::Live),
            speaks: Cell::new(false),
            rest: Cell::new(false),
            waker: RefCell::new(None),
            tunnel: RefCell::new(None),
            remains: RefCell::new(None),
            interims: Interims::new(),
            queue: Queue::default(),
        }
    }

    /// The other end's address as it stands in fields.
    pub fn address(&self) -> &HeaderValue {
        self.address
            .get_or_init(|| forward::address_value(self.peer.ip()))
    }

    /// A request has come in whole (its head).
    pub fn asked(&self, version: Version) {
        self.waiting.set(Waiting::Nothing);
        self.interims.asked(version);
    }

    /// Sends an interim response to the request that `ticket` was given for, unless it is too late or too much.
    pub fn send_interim(&self, ticket: Ticket, status: StatusCode, headers: &HeaderMap) -> bool {
        let sent = self.interims.add(ticket, status, headers);
        if sent && let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
        sent
    }

    /// Whether a request has come in on it.
    pub fn has_asked(&self) -> bool {
        self.interims.ever_asked()
    }

    /// A response that streams begins.
    pub fn streams(&self, account: &Arc<Account>, owner: Owner) {
        let connection = self.waker.borrow().clone();
        self.queue.open(account, owner, connection);
    }

    /// Its response is over.
    pub fn answered(&self) {
        self.queue.close();
        self.waiting.set(Waiting::Request);
        self.since.set(self.now.get());
    }

    /// Bytes of a head that is not complete have come in.
    pub fn head_begun(&self) {
        if self.waiting.get() == Waiting::Request {
            self.waiting.set(Waiting::Head);
            self.since.set(self.now.get());
        }
    }

    pub fn read_blocked(&self, blocked: bool) {
        self.read_blocked
            .set(blocked.then(|| self.read_blocked.get().unwrap_or(self.now.get())));
    }

    /// A request is being answered.
    pub fn is_answering(&self) -> bool {
        self.waiting.get() == Waiting::Nothing
    }

    /// The client has sent the end of its bytes. It may still read (RFC 9112 §9.6), or be gone.
    pub fn half_close(&self) {
        self.half_closed.set(Some(self.now.get()));
    }

    pub fn is_half_closed(&self) -> bool {
        self.half_closed.get().is_some()
    }

    pub fn write_blocked(&self, blocked: bool) {
        if !blocked && self.half_closed.get().is_some() {
            self.half_close();
        }
        self.write_blocked
            .set(blocked.then(|| self.write_blocked.get().unwrap_or(self.now.get())));
    }

    /// The next request that hyper sees is to be refused with this.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusal.set(Some(refusal));
        self.refused.set(true);
    }

    pub fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Whether something of what the client sent was refused: unread bytes may remain, and closing at once would
    /// destroy the answer on its way.
    pub fn was_refused(&self) -> bool {
        self.refused.get()
    }

    pub fn tunnel_to(&self, upstream: OnUpgrade) {
        *self.tunnel.borrow_mut() = Some(upstream);
    }

    pub fn take_tunnel(&self) -> Option<OnUpgrade> {
        self.tunnel.borrow_mut().take()
    }

    /// No request is being answered, and the connection is not about to become a tunnel.
    pub fn is_idle(&self) -> bool {
        self.waiting.get() != Waiting::Nothing && self.tunnel.borrow().is_none()
    }

    /// When it began to wait for a request or the rest of its head; `None` while one is being answered.
    pub fn idle_since(&self) -> Option<u64> {
        let live = matches!(
            self.state.get(),
            ConnectionState::Live | ConnectionState::HeadTooSlow
        );
        (live && self.is_idle()).then(|| self.since.get())
    }

    /// Since when its client has taken nothing of what is to be written.
    pub fn stalled_since(&self) -> Option<u64> {
        self.write_blocked.get()
    }

    /// Whether nothing is kept but the socket from now on: it was idle when it was looked at last, and is so still.
    pub fn take_rest(&self) -> bool {
        self.rest.take()
            && self.waiting.get() == Waiting::Request
            && self.is_idle()
            && !self.was_refused()
            && self.write_blocked.get().is_none()
            && self.read_blocked.get().is_none()
    }

    /// HTTP is over; what follows is with whoever takes this.
    pub fn leave(&self, remains: Remains) {
        *self.remains.borrow_mut() = Some(remains);
    }

    pub fn take_remains(&self) -> Option<Remains> {
        self.remains.borrow_mut().take()
    }

    pub fn state(&self) -> ConnectionState {
        self.state.get()
    }

    pub fn set_state(&self, state: ConnectionState) {
        if self.state.get() == ConnectionState::End {
            return;
        }
        self.state.set(state);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub fn listen(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match own.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *own = Some(waker.clone()),
        }
    }

    /// Once a second: ends what has waited too long.
    pub fn check(&self, now: u64, limits: &HttpLimits) {
        self.now.set(now);
        if self.state.get() == ConnectionState::End {
            return;
        }
        let over = |since: u64, limit: std::time::Duration| {
            now.saturating_sub(since) > limit.as_millis() as u64
        };
        match self.waiting.get() {
            Waiting::Request if over(self.since.get(), limits.idle_timeout) => {
                self.set_state(ConnectionState::End)
            }
            Waiting::Request if self.speaks.get() && over(self.since.get(), REST) => {
                self.rest.set(true);
                if let Some(waker) = self.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
            Waiting::Head if over(self.since.get(), limits.head_timeout) => {
                let next = if self.state.get() == ConnectionState::HeadTooSlow {
                    ConnectionState::End
                } else {
                    ConnectionState::HeadTooSlow
                };
                self.set_state(next);
            }
            _ => {}
        }
        let left = self.half_closed.get().filter(|_| self.is_answering());
        if left.is_some_and(|since| over(since, limits.half_close_timeout)) {
            self.set_state(ConnectionState::End);
        }
        let stalled = |blocked: &Cell<Option<u64>>| {
            blocked
                .get()
                .is_some_and(|since| over(since, limits.body_timeout))
        };
        if stalled(&self.write_blocked) {
            self.set_state(ConnectionState::End);
        } else if stalled(&self.read_blocked) {
            // A request that stalls is the client's doing and is answered so (RFC 9110 §15.5.9); after that, or where an answer
            // is under way already, the connection ends.
            let first = self.waiting.get() == Waiting::Nothing
                && self.state.get() != ConnectionState::BodyTooSlow;
            if first {
                self.read_blocked.set(Some(now));
            }
            self.set_state(if first {
                ConnectionState::BodyTooSlow
            } else {
                ConnectionState::End
            });
        }
    }
}
