//! The transport of a connection as the library sees it. Every byte is counted on its way; after a flood none is read.
//!
//! The library writes and flushes each frame of content by itself. Small writes are gathered here, until the driver
//! sends them when the library has nothing more to write: one record of TLS and one system call for the frames of many
//! streams.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use edgerouter_core::http::h2::frames::kind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::Transport;

/// Bytes that are gathered before they are sent, at most.
const GATHERED: usize = 32 << 10;
/// Bytes that a connection reads in a turn, and frames: small ones are more work. So are bytes of field sections, of
/// which each may stand for a whole field.
const A_TURN: usize = 64 << 10;
const MOST_FRAMES: u32 = 64;
const MOST_OF_SECTIONS: u32 = 8 << 10;
/// Bytes that a connection sends in a turn.
const MOST_SENT: usize = 128 << 10;
/// Writes from this length on are not gathered: the copy would cost more than it saves.
const LARGE: usize = 8 << 10;

/// A transport and its meter.
#[derive(Debug)]
pub(super) struct Wire<T> {
    transport: RefCell<T>,
    /// Bytes of the client that were read before.
    early: RefCell<BytesMut>,
    /// Bytes of the library that are still to be sent.
    gathered: RefCell<BytesMut>,
    /// Bytes that may be read in this turn.
    left: Cell<usize>,
    /// Bytes that were sent since the connection had to give others their turn for it.
    sent: Cell<usize>,
    /// The client is gone, which the library does not know: it would end all streams at once.
    has_ended: Cell<bool>,
    meter: Rc<Meter>,
}

/// The library's side of it.
pub(super) struct WireEnd<T>(pub(super) Rc<Wire<T>>);

impl<T: Transport> Wire<T> {
    pub(super) fn new(transport: T, early: BytesMut, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            transport: RefCell::new(transport),
            early: RefCell::new(early),
            gathered: RefCell::default(),
            left: Cell::new(A_TURN),
            sent: Cell::new(0),
            has_ended: Cell::new(false),
            meter,
        })
    }

    /// The transport, when the library is done with it.
    pub(super) fn into_transport(self: Rc<Self>) -> Option<T> {
        Rc::into_inner(self).map(|wire| wire.transport.into_inner())
    }

    /// The connection has its turn.
    pub(super) fn begin_turn(&self) {
        self.left.set(A_TURN);
        self.meter.begin_turn();
    }

    /// True if the client is gone, with many streams open.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// True if bytes of the client may be left for the next turn.
    pub(super) fn has_read_enough(&self) -> bool {
        let meter = &self.meter;
        self.left.get() == 0
            || meter.frames() >= MOST_FRAMES
            || meter.sections() >= MOST_OF_SECTIONS
    }

    /// True if enough was sent for a turn, which is over then: a client and an origin that are as fast as the kernel
    /// would go on in turn, and nobody else would be looked at.
    pub(super) fn has_sent_enough(&self) -> bool {
        let enough = self.sent.get() >= MOST_SENT;
        if enough {
            self.sent.set(0);
        }
        enough
    }

    /// Sends what was gathered, and has the transport send it.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        // TLS may hold bytes that the socket has not taken.
        let flushed = Pin::new(&mut *self.transport.borrow_mut()).poll_flush(cx);
        self.meter.connection.write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_gathered(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.gathered.borrow_mut();
        while !gathered.is_empty() {
            let polled = Pin::new(&mut *self.transport.borrow_mut()).poll_write(cx, &gathered);
            self.written(&polled, &[IoSlice::new(&gathered)]);
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => gathered.advance(count),
            }
        }
        // An idle connection keeps no buffer.
        *gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Gathers a small write; `None` for a large one, which is sent at once, behind what was gathered before.
    fn gather(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let waiting = self.gathered.borrow().len();
        if length >= LARGE || waiting + length > GATHERED {
            ready!(self.poll_gathered(cx))?;
        }
        if length >= LARGE {
            return Poll::Ready(Ok(None));
        }
        let mut gathered = self.gathered.borrow_mut();
        for slice in slices {
            gathered.extend_from_slice(slice);
        }
        if let Some(code) = self.meter.fault() {
            correct(&mut gathered, code);
        }
        Poll::Ready(Ok(Some(length)))
    }

    fn written(&self, polled: &Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) {
        let connection = &self.meter.connection;
        connection.write_blocked(polled.is_pending());
        let Poll::Ready(Ok(count)) = polled else {
            return;
        };
        connection.taken(*count);
        self.sent.set(self.sent.get() + *count);
        let mut left = *count;
        for slice in slices {
            let taken = slice.len().min(left);
            self.meter.send(slice.get(..taken).unwrap_or_default());
            left -= taken;
        }
    }
}

/// Puts the code of an error into the GOAWAY at the end of these bytes, in the place of the library's PROTOCOL_ERROR.
fn correct(bytes: &mut [u8], code: u8) {
    const HEAD: [u8; 9] = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0];
    if let Some(frame) = bytes.last_chunk_mut::<17>()
        && frame.starts_with(&HEAD)
        && let [.., 0, 0, 0, last @ 1] = frame
    {
        *last = code;
    }
}

impl<T: Transport> AsyncRead for WireEnd<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        if wire.meter.flood().is_some() {
            // The driver sees it as soon as the library has nothing else to do.
            return Poll::Pending;
        }
        if wire.has_read_enough() {
            // The same.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut early = wire.early.borrow_mut();
        let polled = if early.is_empty() {
            Pin::new(&mut *wire.transport.borrow_mut()).poll_read(cx, buf)
        } else {
            let count = early.len().min(buf.remaining());
            buf.put_slice(early.get(..count).unwrap_or_default());
            early.advance(count);
            Poll::Ready(Ok(()))
        };
        let has_ended = match &polled {
            Poll::Ready(Ok(())) => buf.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if has_ended && wire.meter.has_many() {
            wire.has_ended.set(true);
            return Poll::Pending;
        }
        if let Some(fresh) = buf.filled().get(before..) {
            wire.left.set(wire.left.get().saturating_sub(fresh.len()));
            wire.meter.receive(fresh);
        }
        polled
    }
}

impl<T: Transport> AsyncWrite for WireEnd<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &*self.0;
        if let Some(count) = ready!(wire.gather(cx, &[IoSlice::new(bytes)]))? {
            return Poll::Ready(Ok(count));
        }
        let polled = Pin::new(&mut *wire.transport.borrow_mut()).poll_write(cx, bytes);
        wire.written(&polled, &[IoSlice::new(bytes)]);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &*self.0;
        if let Some(count) = ready!(wire.gather(cx, slices))? {
            return Poll::Ready(Ok(count));
        }
        let polled = Pin::new(&mut *wire.transport.borrow_mut()).poll_write_vectored(cx, slices);
        wire.written(&polled, slices);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.0.transport.borrow().is_write_vectored()
    }

    /// The driver sends what was gathered.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_send(cx))?;
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_shutdown(cx)
    }
}
