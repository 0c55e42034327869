//! A client's socket with the guard in front: hyper sees only bytes that the guard has let through.
//!
//! A refused message is replaced by a tiny request of our own on which the service answers the refusal, so that it is
//! sent in turn, after the answers to what came before it on the connection.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use edgerouter_core::{
    admit::{GuardStep, HeadGuard, Refusal},
    bounds::{clients::Client, memory::Purpose},
};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    account::{Hold, Owner},
    connection::{Conn, Remains, conn::ConnectionState},
    telemetry::Refused,
    worker::Worker,
};

/// What of an incomplete head each connection may hold without asking.
const FREE: u64 = 4 << 10;

/// Bytes taken in behind a request that is being answered.
const MOST_BEHIND: usize = 16 << 10;

pub struct Guarded {
    /// Taken out when this is dropped, for what comes after HTTP.
    stream: Option<TcpStream>,
    guard: HeadGuard,
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    /// An incomplete head.
    held: Vec<u8>,
    /// Bytes that came behind a request which is being answered, not judged yet, and whether they end there.
    behind: Vec<u8>,
    ended: bool,
    /// The account's part in it, and how much that is.
    hold: Option<(Hold, u64)>,
    /// Judged bytes that hyper has not taken yet.
    passed: Vec<u8>,
    taken: usize,
    refused: bool,
    /// Interim responses of which the first byte may be written already.
    interim: Vec<u8>,
    interim_written: usize,
    /// Bytes of hyper's have been written, or were to be, since it last was done with all it had.
    within: bool,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded")
            .field("peer", &self.conn.peer)
            .finish_non_exhaustive()
    }
}

/// What hyper sees in place of a refused message: a request by a method that no client can guess, so that earlier
/// requests of a pipeline are not mistaken for it.
static IN_ITS_PLACE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = " / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
    [REFUSED_METHOD.as_bytes(), head.as_bytes()].concat()
});

/// The method of the request in a refused one's place.
pub static REFUSED_METHOD: LazyLock<String> = LazyLock::new(|| {
    let mut random = fastrand::Rng::new();
    format!("X{:016X}{:08X}", random.u64(..), random.u32(..))
});

impl Guarded {
    pub fn new(stream: TcpStream, guard: HeadGuard, worker: Rc<Worker>, conn: Rc<Conn>) -> Self {
        Self {
            stream: Some(stream),
            guard,
            worker,
            conn,
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

    /// Writes what of the interim responses is to come before hyper's next bytes, or, in their absence, now.
    fn poll_interims(&mut self, cx: &mut Context<'_>, bytes_follow: bool) -> Poll<io::Result<()>> {
        if self.conn.interims.some() {
            let more = if bytes_follow {
                self.conn.interims.before_final(!self.within)
            } else {
                self.conn.interims.after_all()
            };
            self.interim.extend(more.into_iter().flatten());
        }
        while let Some(rest) = self.interim.get(self.interim_written..)
            && !rest.is_empty()
        {
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(gone()));
            };
            match Pin::new(stream).poll_write(cx, rest) {
                Poll::Pending => {
                    self.conn.write_blocked(true);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.interim_written += written,
            }
        }
        if self.interim_written > 0 {
            self.conn.write_blocked(false);
            self.interim = Vec::new();
            self.interim_written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// While a request is answered nobody reads from its client: looks for its end, or a reset, behind whatever it has
    /// sent already. A reset ends the connection with what is done for it.
    fn look_behind(&mut self, cx: &mut Context<'_>) {
        while !self.ended
            && self.conn.is_answering()
            && !self.refused
            && !self.guard.in_body()
            && !self.guard.is_upgrading()
            && self.behind.len() < MOST_BEHIND
        {
            let worker = Rc::clone(&self.worker);
            let Ok(mut inbox) = worker.inbox.try_borrow_mut() else {
                return;
            };
            let room = (MOST_BEHIND - self.behind.len()).min(inbox.len());
            let (Some(space), Some(stream)) = (inbox.get_mut(..room), &mut self.stream) else {
                return;
            };
            let mut read = ReadBuf::new(space);
            match Pin::new(stream).poll_read(cx, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => return self.conn.set_state(ConnectionState::End),
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    self.ended = true;
                    self.conn.half_close();
                }
                Poll::Ready(Ok(())) => self.behind.extend_from_slice(read.filled()),
            }
        }
    }

    fn has_interims(&self) -> bool {
        self.conn.interims.some() || !self.interim.is_empty()
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused = true;
        self.held = Vec::new();
        self.conn.refuse(refusal);
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

    /// Judges what has come in. `Ok(true)`: hyper has something to read now.
    fn judge(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        let some = self.judge_all(fresh, buf)?;
        self.account_for_held()?;
        Ok(some)
    }

    /// Draws what a head takes that comes in slowly, beyond what each connection may.
    fn account_for_held(&mut self) -> io::Result<()> {
        let bytes = self.held.len() as u64;
        if bytes <= FREE {
            self.hold = None;
            return Ok(());
        }
        let (hold, drawn) = self.hold.get_or_insert_with(|| {
            let owner = Owner {
                client: Some(Client::of(self.conn.peer.ip())),
                origin: None,
            };
            let account = &self.worker.shared.account;
            (account.open_uncut(Purpose::Heads, owner), 0)
        });
        if bytes > *drawn {
            hold.draw(bytes - *drawn).map_err(|spent| {
                self.worker.metrics.refused(Refused::NoMemory);
                io::Error::new(io::ErrorKind::OutOfMemory, spent)
            })?;
        } else {
            hold.keep(bytes);
        }
        *drawn = bytes;
        Ok(())
    }

    fn judge_all(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> io::Result<bool> {
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
                        self.conn.head_begun();
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
            self.conn.head_begun();
        }
    }

    /// A broken body cannot be answered by a request in its place: the body itself ends in an error.
    fn refuse_or_break(&mut self, refusal: Refusal, in_body: bool) -> io::Result<()> {
        if in_body || self.guard.in_body() {
            self.refused = true;
            self.conn.refuse(refusal);
            return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.as_str()));
        }
        self.refuse(refusal);
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        let mut unseen = self.passed.get(self.taken..).unwrap_or_default().to_vec();
        unseen.append(&mut self.held);
        unseen.append(&mut self.behind);
        self.conn.leave(Remains {
            stream,
            unseen,
            in_body: self.guard.in_body(),
        });
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Read for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.conn.state() {
                ConnectionState::End => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                ConnectionState::HeadTooSlow if !this.refused => this.refuse(Refusal::HeadTooSlow),
                ConnectionState::BodyTooSlow if !this.refused && this.guard.in_body() => {
                    this.refused = true;
                    this.conn.refuse(Refusal::BodyTooSlow);
                    this.conn.read_blocked(false);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                _ => {}
            }
            if this.take_passed(&mut buf) {
                return Poll::Ready(Ok(()));
            }
            if this.guard.is_upgrading() && this.conn.is_idle() {
                // The upgrade was declined: what was held back is the next request.
                this.guard.resume();
                let held = std::mem::take(&mut this.held);
                if !held.is_empty() && this.judge(&held, &mut buf)? {
                    return Poll::Ready(Ok(()));
                }
            }
            if this.refused {
                // Nothing that follows is believed; the connection's own waker ends this.
                return Poll::Pending;
            }
            let worker = Rc::clone(&this.worker);
            let mut inbox = worker.inbox.borrow_mut();
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
            let Some(stream) = &mut this.stream else {
                return Poll::Ready(Err(gone()));
            };
            let polled = if read.filled().is_empty() {
                Pin::new(stream).poll_read(cx, &mut read)
            } else {
                Poll::Ready(Ok(()))
            };
            match polled {
                Poll::Pending => {
                    this.conn.read_blocked(this.guard.in_body());
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            this.conn.read_blocked(false);
            let fresh = read.filled();
            if fresh.is_empty() || this.judge(fresh, &mut buf)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_interims() {
            ready!(self.poll_interims(cx, true))?;
        }
        self.within = true;
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(gone()));
        };
        let polled = Pin::new(stream).poll_write(cx, bytes);
        self.conn.write_blocked(polled.is_pending());
        if let Poll::Ready(Ok(written)) = polled {
            self.conn.queue.written(written);
        }
        polled
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
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(gone()));
        };
        let polled = Pin::new(stream).poll_write_vectored(cx, bufs);
        self.conn.write_blocked(polled.is_pending());
        if let Poll::Ready(Ok(written)) = polled {
            self.conn.queue.written(written);
        }
        polled
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
        let flushed = match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        };
        self.look_behind(cx);
        flushed
    }

    /// How the connection ends is decided when HTTP on it is over: what the client still sends may have to be read away,
    /// or the connection goes on as a tunnel.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
