//! The state of a client connection, and the times that it must keep.
//!
//! No timer is armed per request: the connection notes when it began to wait, and its worker looks over all of them
//! once a second (docs/design.md §6).

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    task::{Poll, Waker},
    time::Duration,
};

use edgerouter_core::{
    forward,
    plan::{Scheme, limits::HttpLimits},
};
use http::HeaderValue;

use super::{multiplexed::Multiplexed, pace::Pace};
use crate::{Transport, tls::TlsSession};

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    /// The other end of the connection, which may be a proxy.
    pub peer: SocketAddr,
    /// `https` behind TLS.
    pub scheme: Scheme,
    /// Its place in the order in which its worker has accepted connections.
    pub serial: u64,
    address: OnceCell<HeaderValue>,
    /// Set by the handshake; boxed, as most connections may have none.
    tls: OnceCell<Box<TlsSession>>,
    /// Set where many requests are under way at a time.
    multiplexed: OnceCell<Box<Multiplexed>>,
    state: Cell<ConnectionState>,
    /// Requests whose responses have not ended.
    streams: Cell<u32>,
    /// It was accepted while the worker drains, and no request has come in on it: its first one gets a response.
    is_late: Cell<bool>,
    /// The worker drains, and the client may not know it: no response with `Connection: close` has gone to it.
    in_last_call: Cell<bool>,
    /// A part of a request's head has come in.
    in_head: Cell<bool>,
    /// Ticks (ms) since which it has waited for a request, or for the rest of its head.
    since: Cell<u64>,
    /// Of the time for the first head, the milliseconds that the header of a proxy took.
    head_spent: Cell<u64>,
    /// Ticks at which the client closed its side, or at which the last bytes were written to it after that.
    half_closed: Cell<Option<u64>>,
    /// It is time to find out whether a client that has closed its side still reads.
    probe: Cell<bool>,
    /// Ticks at which a read of a body, or a write, began to block.
    read_blocked: Cell<Option<u64>>,
    write_blocked: Cell<Option<u64>>,
    /// The write has waited for half of its time: to be tried again, whatever the socket has said.
    retry: Cell<bool>,
    /// Bytes of bodies that the client sends, and bytes that it takes.
    sent: Pace,
    taken: Pace,
    /// Requests that it may still bring.
    left: Cell<u64>,
    now: Cell<u64>,
    refused: Cell<bool>,
    /// HTTP is read and written on it.
    is_active: Cell<bool>,
    /// It has been idle for a while.
    rest: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Time without a request after which a connection keeps its socket only.
const REST: Duration = Duration::from_secs(1);
/// A connection with a request so long ago, or less, may bring another one at any time.
const RECENT: Duration = Duration::from_secs(2);
/// Time for a client that uses its connection to send one more request while the worker drains: its response says that
/// the connection ends. A close at any moment would meet requests on their way, which then have no response.
const LAST_CALL: Duration = Duration::from_millis(500);

/// The state that the worker gives a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It takes requests.
    Live,
    /// It responds to the requests that have come in, and ends.
    Drain,
    /// A head took too long: the response is a 408.
    HeadTooSlow,
    /// The rest of a body does not come: the response is a 408.
    BodyTooSlow,
    /// It ends at once.
    End,
}

impl Connection {
    /// A connection accepted at `ticks` (milliseconds since the worker's start), after `serial` others.
    pub fn new(peer: SocketAddr, scheme: Scheme, ticks: u64, serial: u64) -> Self {
        Self {
            peer,
            scheme,
            serial,
            address: OnceCell::new(),
            tls: OnceCell::new(),
            multiplexed: OnceCell::new(),
            state: Cell::new(ConnectionState::Live),
            streams: Cell::new(0),
            is_late: Cell::new(false),
            in_last_call: Cell::new(false),
            in_head: Cell::new(false),
            since: Cell::new(ticks),
            head_spent: Cell::new(0),
            half_closed: Cell::new(None),
            probe: Cell::new(false),
            read_blocked: Cell::new(None),
            write_blocked: Cell::new(None),
            retry: Cell::new(false),
            sent: Pace::default(),
            taken: Pace::default(),
            left: Cell::new(u64::MAX),
            now: Cell::new(ticks),
            refused: Cell::new(false),
            is_active: Cell::new(false),
            rest: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// The header of a proxy has come in by `ticks`: what it took of its time is no longer there for the first head.
    pub(crate) fn introduced(&self, ticks: u64) {
        let spent = ticks.saturating_sub(self.since.get());
        self.head_spent.set(spent);
    }

    /// The same connection as that of the client that the header names.
    pub(crate) fn of_client(&self, client: SocketAddr, ticks: u64) -> Self {
        let own = Self::new(client, self.scheme, ticks, self.serial);
        own.head_spent.set(self.head_spent.get());
        own.bound_requests(self.left.get());
        if self.state() == ConnectionState::Drain {
            own.accept_late();
        }
        own
    }

    /// Ticks at which the time for a head began whose first bytes have come in now.
    pub(crate) fn head_since(&self) -> u64 {
        self.now.get().saturating_sub(self.head_spent.take())
    }

    /// It ends after so many requests.
    pub(crate) fn bound_requests(&self, most: u64) {
        self.left.set(most);
    }

    /// The client has sent bytes of a body.
    pub(crate) fn sent(&self, count: usize) {
        self.sent.moved(count);
    }

    /// The client has taken bytes.
    pub(crate) fn taken(&self, count: usize) {
        self.taken.moved(count);
        if self.half_closed.get().is_some() {
            self.half_closed.set(Some(self.now.get()));
        }
    }

    /// The peer's address as it stands in fields.
    pub fn address(&self) -> &HeaderValue {
        self.address
            .get_or_init(|| forward::address_value(self.peer.ip()))
    }

    /// The TLS that it runs inside; `None` in plain text.
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.get().map(|session| &**session)
    }

    /// Notes the result of the handshake.
    pub(crate) fn secure(&self, session: TlsSession) {
        let _ = self.tls.set(Box::new(session));
    }

    /// Many requests may be under way from here on.
    pub(crate) fn multiplex(&self) -> &Multiplexed {
        self.multiplexed.get_or_init(Box::default)
    }

    /// Ticks at the last check.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// A stream begins.
    pub fn begin(&self) {
        self.streams.set(self.streams.get() + 1);
        self.is_late.set(false);
        self.in_last_call.set(false);
        self.in_head.set(false);
        self.head_spent.set(0);
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 && self.state.get() == ConnectionState::Live {
            self.set_state(ConnectionState::Drain);
        }
    }

    /// A stream has ended.
    pub fn end(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.since.set(self.now.get());
    }

    /// True if no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Notes that it was accepted while the worker drains.
    pub(crate) fn accept_late(&self) {
        self.is_late.set(true);
        self.set_state(ConnectionState::Drain);
    }

    /// The worker drains: it ends when it has responded to the requests that have come in, and to one more if its
    /// client has just used it and cannot know that. HTTP/2 says it by a frame.
    pub(crate) fn drain(&self, now: u64) {
        self.now.set(now);
        let is_used = !self.is_idle() || !is_over(self.since.get(), now, RECENT);
        if is_used && self.multiplexed.get().is_none() {
            self.in_last_call.set(true);
            if self.is_idle() && !self.in_head.get() {
                self.since.set(now);
            }
        }
        self.set_state(ConnectionState::Drain);
    }

    /// Ends it if it drains and its client has not brought one more request in time.
    pub(crate) fn end_last_call(&self, now: u64) {
        self.now.set(now);
        let waits = self.in_last_call.get() && self.is_idle() && !self.in_head.get();
        if waits && is_over(self.since.get(), now, LAST_CALL) {
            self.in_last_call.set(false);
            self.wake();
        }
    }

    /// True if it ends unless a request is on its way.
    pub(crate) fn is_drained(&self) -> bool {
        let is_waited_for = self.is_late.get() || self.in_last_call.get();
        self.state.get() == ConnectionState::Drain && !is_waited_for
    }

    /// Bytes of an incomplete head have come in.
    pub(crate) fn head_begun(&self) {
        if self.is_idle() && !self.in_head.replace(true) {
            self.since.set(self.head_since());
        }
    }

    /// Notes that a read waits for bytes of the client, or no longer does.
    pub(crate) fn read_blocked(&self, blocked: bool) {
        self.read_blocked
            .set(blocked.then(|| self.read_blocked.get().unwrap_or(self.now.get())));
    }

    /// Notes that a write waits for the client to take bytes, or no longer does.
    pub(crate) fn write_blocked(&self, blocked: bool) {
        self.write_blocked
            .set(blocked.then(|| self.write_blocked.get().unwrap_or(self.now.get())));
    }

    /// True once a second, while a write has waited for half of its time.
    pub(crate) fn takes_retry(&self) -> bool {
        self.retry.take()
    }

    /// The client has sent the end of its bytes. It may still read (RFC 9112 §9.6), or be gone.
    pub(crate) fn half_close(&self) {
        self.half_closed.set(Some(self.now.get()));
        self.probe.set(true);
    }

    /// True once a second, from the end of the client's bytes on.
    pub(crate) fn takes_probe(&self) -> bool {
        self.probe.take()
    }

    /// True if the client has sent the end of its bytes.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.half_closed.get().is_some()
    }

    /// Something that the client sent is refused.
    pub fn refused(&self) {
        self.refused.set(true);
    }

    /// True if something that the client sent was refused: unread bytes may remain, and a close at once would destroy
    /// the response on its way.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.get()
    }

    /// HTTP on it begins or ends; between, only its socket is kept.
    pub(crate) fn set_active(&self, is_active: bool) {
        self.is_active.set(is_active);
    }

    /// Time since which it has waited for a request or the rest of its head; `None` while one is under way.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        use ConnectionState::{HeadTooSlow, Live};
        let live = matches!(self.state.get(), Live | HeadTooSlow);
        (live && self.is_idle()).then(|| self.since.get())
    }

    /// Time since which its client has taken nothing of the bytes to be written.
    pub(crate) fn stalled_since(&self) -> Option<u64> {
        self.write_blocked.get()
    }

    /// Drops the bytes that its client has still to take, if it ends at once.
    pub(crate) fn drop_unsent(&self, transport: &impl Transport) {
        if self.state.get() == ConnectionState::End && self.write_blocked.get().is_some() {
            transport.abandon();
        }
    }

    /// True if only the socket is kept from now on: it was idle at the last check, and still is.
    pub(crate) fn take_rest(&self) -> bool {
        self.rest.take()
            && self.is_idle()
            && !self.in_head.get()
            && !self.was_refused()
            && self.write_blocked.get().is_none()
            && self.read_blocked.get().is_none()
    }

    /// Its state, which says what it may still do: see [`ConnectionState`].
    pub fn state(&self) -> ConnectionState {
        self.state.get()
    }

    /// Changes the state; `End` is final.
    pub(crate) fn set_state(&self, state: ConnectionState) {
        if self.state.get() != ConnectionState::End {
            self.state.set(state);
            self.wake();
        }
    }

    /// Registers the task that drives the connection.
    pub fn listen(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match own.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *own = Some(waker.clone()),
        }
    }

    /// Makes its task look at its state.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Waits for a future; `None` if the connection is to end before.
    pub(crate) async fn unless_ended<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.listen(cx.waker());
            if self.state() == ConnectionState::End {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Waits for bytes, or the end of them. False when the connection is to end.
    pub(crate) async fn until_readable(&self, transport: &impl Transport) -> bool {
        poll_fn(|cx| {
            self.listen(cx.waker());
            match self.state() {
                ConnectionState::End => Poll::Ready(false),
                _ if self.is_drained() => Poll::Ready(transport.poll_readable(cx).is_ready()),
                _ => transport.poll_readable(cx).map(|()| true),
            }
        })
        .await
    }

    /// The waker of its task; `None` before the first poll.
    pub fn waker(&self) -> Option<Waker> {
        self.waker.borrow().clone()
    }

    /// As `check`, with many requests: those are the driver's to look at.
    fn check_multiplexed(&self, multiplexed: &Multiplexed, now: u64, limits: &HttpLimits) -> bool {
        let over = |since: u64, limit: Duration| is_over(since, now, limit);
        if let Some(since) = multiplexed.incomplete_since() {
            if over(since, limits.head_timeout) {
                self.set_state(ConnectionState::HeadTooSlow);
            }
        } else if self.is_idle() && over(self.since.get(), limits.idle_timeout) {
            self.set_state(ConnectionState::End);
        }
        let blocked = self.write_blocked.get();
        let awaits = blocked.is_some() || multiplexed.awaits_room();
        let takes_slowly = self.taken.is_slow(awaits, now, limits)
            || blocked.is_some_and(|since| over(since, limits.body_timeout));
        let sends_slowly = self.sent.is_slow(multiplexed.awaits_content(), now, limits);
        if takes_slowly || sends_slowly {
            self.set_state(ConnectionState::End);
        } else if !self.is_idle()
            || multiplexed.is_open()
            || self.state.get() == ConnectionState::Drain
        {
            multiplexed.check();
            self.wake();
        }
        takes_slowly
    }

    /// Ends a connection that has waited too long. To be called once a second. True if its client takes a response too
    /// slowly.
    pub fn check(&self, now: u64, limits: &HttpLimits) -> bool {
        use ConnectionState::{BodyTooSlow, End, HeadTooSlow};
        self.now.set(now);
        if self.state.get() == End {
            return false;
        }
        if let Some(multiplexed) = self.multiplexed.get() {
            return self.check_multiplexed(multiplexed, now, limits);
        }
        let over = |since: u64, limit: Duration| is_over(since, now, limit);
        let blocked = |since: &Cell<Option<u64>>| {
            let since = since.get();
            since.is_some_and(|since| over(since, limits.body_timeout))
        };
        let since = self.since.get();
        if self.is_idle() {
            if self.in_head.get() && over(since, limits.head_timeout) {
                let is_second = self.state.get() == HeadTooSlow;
                self.set_state(if is_second { End } else { HeadTooSlow });
            } else if !self.in_head.get() && over(since, limits.idle_timeout) {
                self.set_state(End);
            } else if !self.in_head.get() && self.is_active.get() && over(since, REST) {
                self.rest.set(true);
                self.wake();
            }
        } else if let Some(since) = self.half_closed.get() {
            if over(since, limits.half_close_timeout) {
                self.set_state(End);
            } else {
                self.probe.set(true);
                self.wake();
            }
        }
        let waits = self.write_blocked.get();
        if waits.is_some_and(|since| over(since, limits.body_timeout / 2)) {
            self.retry.set(true);
            self.wake();
        }
        let is_waited_for =
            |since: &Cell<Option<u64>>| self.is_active.get() && since.get().is_some();
        let takes_slowly = self
            .taken
            .is_slow(is_waited_for(&self.write_blocked), now, limits);
        let sends_slowly = self
            .sent
            .is_slow(is_waited_for(&self.read_blocked), now, limits);
        let takes_slowly = takes_slowly || blocked(&self.write_blocked);
        if takes_slowly {
            self.set_state(End);
        } else if sends_slowly || blocked(&self.read_blocked) {
            // A request that stalls is the client's fault and gets a response that says so (RFC 9110 §15.5.9); after
            // that, or where a response is under way already, the connection ends.
            let is_first = !self.is_idle() && self.state.get() != BodyTooSlow;
            if is_first {
                self.read_blocked.set(Some(now));
            }
            self.set_state(if is_first { BodyTooSlow } else { End });
        }
        takes_slowly
    }
}

/// True if more than `limit` has passed from `since` to `now`, in ticks.
pub(crate) fn is_over(since: u64, now: u64, limit: Duration) -> bool {
    u128::from(now.saturating_sub(since)) > limit.as_millis()
}

#[cfg(test)]
mod tests;
