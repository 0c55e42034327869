//! A client's bytes with the guard in front: hyper sees only those that the guard has let through.
//!
//! A tiny request stands in for a refused message, and the service answers it with the refusal: so that is sent in
//! turn, after the responses to the requests before it on the connection.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use edgerouter_account::{Hold, Owner};
use edgerouter_core::{
    admit::{GuardStep, HeadGuard, Refusal},
    bounds::{clients::Client, memory::Purpose},
};
use edgerouter_telemetry::Refused;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::ReadBuf;

use crate::{
    Transport,
    connection::{ConnectionOwner, ConnectionState, Stream},
};

/// Bytes of an incomplete head that each connection may hold beside the account.
const FREE: u64 = 4 << 10;

/// Bytes taken in behind a request that is under way.
const MOST_BEHIND: usize = 16 << 10;

pub(crate) struct Guarded<T, O> {
    transport: T,
    guard: HeadGuard,
    owner: Rc<O>,
    stream: Rc<Stream>,
    /// An incomplete head.
    held: Vec<u8>,
    /// Bytes behind a request that is under way, not inspected yet, and whether they end there.
    behind: Vec<u8>,
    ended: bool,
    /// The account's part in the incomplete head, and its bytes.
    hold: Option<(Hold, u64)>,
    /// Inspected bytes that hyper has not taken yet.
    passed: Vec<u8>,
    taken: usize,
    refused: bool,
    /// Interim responses of which the first byte may be written already.
    interim: Vec<u8>,
    interim_written: usize,
    /// hyper has written, or tried to, since it was last done with all its bytes.
    within: bool,
}

/// Input that HTTP has left unread at its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) bytes: Vec<u8>,
    /// The client has not sent all of the last message.
    pub(super) in_body: bool,
}

/// The request that stands in for a refused message, by a method that no client can guess, so that earlier requests of
/// a pipeline are not mistaken for it.
static IN_ITS_PLACE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = " / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
    [REFUSED_METHOD.as_bytes(), head.as_bytes()].concat()
});

/// The method of the request that stands in for a refused message.
pub(super) static REFUSED_METHOD: LazyLock<String> = LazyLock::new(|| {
    let mut random = fastrand::Rng::new();
    format!("X{:016X}{:08X}", random.u64(..), random.u32(..))
});

impl<T: Transport, O: ConnectionOwner> Guarded<T, O> {
    pub(crate) fn new(transport: T, guard: HeadGuard, owner: Rc<O>, stream: Rc<Stream>) -> Self {
        Self {
            transport,
            guard,
            owner,
            stream,
            held: Vec::new(),
            behind: Vec::new(),
            ended: false,
            hold: None,
            passed: Vec::new(),
            taken: 0,
            refused: false,
            interim: Vec::new(),
            interim_written: 0,
            within: false,
        }
    }

    /// The transport, and the input that nobody has read: for the time after HTTP.
    pub(super) fn into_parts(mut self) -> (T, Unread) {
        let mut bytes = self.passed.get(self.taken..).unwrap_or_default().to_vec();
        bytes.append(&mut self.held);
        bytes.append(&mut self.behind);
        let in_body = self.guard.in_body();
        (self.transport, Unread { bytes, in_body })
    }

    /// Writes the interim responses that come before hyper's next bytes, or, where there are none, now.
    fn poll_interims(&mut self, cx: &mut Context<'_>, bytes_follow: bool) -> Poll<io::Result<()>> {
        if self.stream.interims.some() {
            let more = if bytes_follow {
                self.stream.interims.before_final(!self.within)
            } else {
                self.stream.interims.after_all()
            };
            self.interim.extend(more.into_iter().flatten());
        }
        while let Some(rest) = self.interim.get(self.interim_written..)
            && !rest.is_empty()
        {
            match Pin::new(&mut self.transport).poll_write(cx, rest) {
                Poll::Pending => {
                    self.stream.connection.write_blocked(true);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.interim_written += written,
            }
        }
        if self.interim_written > 0 {
            self.stream.connection.write_blocked(false);
            self.interim = Vec::new();
            self.interim_written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Looks for the end of a client's bytes, or a reset, behind those that it has sent already: nothing else reads
    /// from it while a request is under way. A reset ends the connection and the work for it.
    fn look_behind(&mut self, cx: &mut Context<'_>) {
        while !self.ended
            && !self.stream.connection.is_idle()
            && !self.refused
            && !self.guard.in_body()
            && !self.guard.is_upgrading()
            && self.behind.len() < MOST_BEHIND
        {
            let owner = Rc::clone(&self.owner);
            let Ok(mut inbox) = owner.connections().inbox.try_borrow_mut() else {
                return;
            };
            let room = (MOST_BEHIND - self.behind.len()).min(inbox.len());
            let Some(space) = inbox.get_mut(..room) else {
                return;
            };
            let mut read = ReadBuf::new(space);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => {
                    return self.stream.connection.set_state(ConnectionState::End);
                }
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    self.ended = true;
                    self.stream.connection.half_close();
                }
                Poll::Ready(Ok(())) => self.behind.extend_from_slice(read.filled()),
            }
        }
    }

    fn written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.stream.connection.write_blocked(polled.is_pending());
        if let Poll::Ready(Ok(written)) = polled {
            self.stream.queue.written(written);
        }
        polled
    }

    fn has_interims(&self) -> bool {
        self.stream.interims.some() || !self.interim.is_empty()
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused = true;
        self.held = Vec::new();
        self.stream.refuse(refusal);
        self.passed.extend_from_slice(&IN_ITS_PLACE);
    }

    fn take_passed(&mut self, buf: &mut ReadBufCursor<'_>) -> bool {
        let waiting = self.passed.get(self.taken..).unwrap_or_default();
        if waiting.is_empty() {
            return false;
        }
        let now = waiting
            .get(..waiting.len().min(buf.remaining()))
            .unwrap_or_default();
        buf.put_slice(now);
        self.taken += now.len();
        if self.taken == self.passed.len() {
            self.passed.clear();
            self.passed.shrink_to(4096);
            self.taken = 0;
        }
        true
    }

    /// Inspects bytes that have come in. `Ok(true)`: hyper has something to read now.
    fn inspect(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        let some = self.inspect_all(fresh, buf)?;
        self.account_for_held()?;
        Ok(some)
    }

    /// Draws the memory of a head that comes in slowly, beyond the bytes that each connection may hold.
    fn account_for_held(&mut self) -> io::Result<()> {
        let bytes = self.held.len() as u64;
        if bytes <= FREE {
            self.hold = None;
            return Ok(());
        }
        let (hold, drawn) = self.hold.get_or_insert_with(|| {
            let owner = Owner {
                client: Some(Client::of(self.stream.connection.peer.ip())),
                origin: None,
            };
            let account = &self.owner.connections().account;
            (account.open_uncut(Purpose::Heads, owner), 0)
        });
        if bytes > *drawn {
            hold.draw(bytes - *drawn).map_err(|spent| {
                self.owner.metrics().refused(Refused::NoMemory);
                io::Error::new(io::ErrorKind::OutOfMemory, spent)
            })?;
        } else {
            hold.keep(bytes);
        }
        *drawn = bytes;
        Ok(())
    }

    fn inspect_all(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        let was_in_body = self.guard.in_body();
        if self.held.is_empty() {
            match self.guard.inspect(fresh) {
                GuardStep::Deliver(now) => {
                    let (now, later) = fresh.split_at_checked(now).unwrap_or((fresh, &[]));
                    buf.put_slice(now);
                    self.hold(later);
                    Ok(!now.is_empty())
                }
                GuardStep::Refuse { after, refusal } => {
                    let before = fresh.get(..after).unwrap_or_default();
                    buf.put_slice(before);
                    self.refuse_or_break(refusal, was_in_body && after == 0)?;
                    Ok(!before.is_empty())
                }
            }
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(fresh);
            match self.guard.inspect(&all) {
                GuardStep::Deliver(now) => {
                    let (now, later) = all.split_at_checked(now).unwrap_or((&all, &[]));
                    self.passed.extend_from_slice(now);
                    let some = !now.is_empty();
                    if some {
                        self.hold(later);
                        self.take_passed(buf);
                    } else {
                        self.held = all;
                        self.stream.connection.head_begun();
                    }
                    Ok(some)
                }
                GuardStep::Refuse { after, refusal } => {
                    self.passed
                        .extend_from_slice(all.get(..after).unwrap_or_default());
                    self.refuse_or_break(refusal, false)?;
                    self.take_passed(buf);
                    Ok(true)
                }
            }
        }
    }

    fn hold(&mut self, incomplete: &[u8]) {
        if !incomplete.is_empty() {
            self.held.extend_from_slice(incomplete);
            self.stream.connection.head_begun();
        }
    }

    /// A broken body cannot be answered by a request in its place: the body itself ends in an error.
    fn refuse_or_break(&mut self, refusal: Refusal, in_body: bool) -> io::Result<()> {
        if in_body || self.guard.in_body() {
            self.refused = true;
            self.stream.refuse(refusal);
            return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.as_str()));
        }
        self.refuse(refusal);
        Ok(())
    }
}

impl<T: Transport, O: ConnectionOwner> Read for Guarded<T, O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.stream.connection.state() {
                ConnectionState::End => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                ConnectionState::HeadTooSlow if !this.refused => this.refuse(Refusal::HeadTooSlow),
                ConnectionState::BodyTooSlow if !this.refused && this.guard.in_body() => {
                    this.refused = true;
                    this.stream.refuse(Refusal::BodyTooSlow);
                    this.stream.connection.read_blocked(false);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                _ => {}
            }
            if this.take_passed(&mut buf) {
                return Poll::Ready(Ok(()));
            }
            if this.guard.is_upgrading() && this.stream.connection.is_idle() {
                // The upgrade was declined: the bytes held back are the next request.
                this.guard.resume();
                let held = std::mem::take(&mut this.held);
                if !held.is_empty() && this.inspect(&held, &mut buf)? {
                    return Poll::Ready(Ok(()));
                }
            }
            if this.refused {
                // Nothing that follows is trusted; the connection's waker ends this.
                return Poll::Pending;
            }
            let owner = Rc::clone(&this.owner);
            let mut inbox = owner.connections().inbox.borrow_mut();
            let room = buf.remaining().min(inbox.len());
            let Some(space) = inbox.get_mut(..room).filter(|space| !space.is_empty()) else {
                return Poll::Ready(Ok(()));
            };
            let mut read = ReadBuf::new(space);
            if !this.behind.is_empty() {
                let now = this.behind.len().min(read.remaining());
                read.put_slice(this.behind.get(..now).unwrap_or_default());
                this.behind.drain(..now);
                if this.behind.is_empty() {
                    this.behind = Vec::new();
                }
            } else if this.ended {
                return Poll::Ready(Ok(()));
            }
            let polled = if read.filled().is_empty() {
                Pin::new(&mut this.transport).poll_read(cx, &mut read)
            } else {
                Poll::Ready(Ok(()))
            };
            match polled {
                Poll::Pending => {
                    this.stream.connection.read_blocked(this.guard.in_body());
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            this.stream.connection.read_blocked(false);
            let fresh = read.filled();
            if fresh.is_empty() || this.inspect(fresh, &mut buf)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: Transport, O: ConnectionOwner> Write for Guarded<T, O> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_interims() {
            ready!(self.poll_interims(cx, true))?;
        }
        self.within = true;
        let polled = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has_interims() {
            ready!(self.poll_interims(cx, true))?;
        }
        self.within = true;
        let polled = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper comes here with nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_interims() {
            ready!(self.poll_interims(cx, false))?;
        }
        self.within = false;
        let flushed = Pin::new(&mut self.transport).poll_flush(cx);
        self.look_behind(cx);
        flushed
    }

    /// Does nothing: the end of the connection is decided when HTTP on it is over, as it may go on as a tunnel, or
    /// close while the client still sends.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
