//! The transport of a connection as the library sees it. Every byte is counted on its way; after a flood none is read.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::Transport;

/// A transport and its meter.
#[derive(Debug)]
pub(super) struct Wire<T> {
    transport: RefCell<T>,
    /// Bytes of the client that were read before.
    early: RefCell<BytesMut>,
    meter: Rc<Meter>,
}

/// The library's side of it.
pub(super) struct WireEnd<T>(pub(super) Rc<Wire<T>>);

impl<T: Transport> Wire<T> {
    pub(super) fn new(transport: T, early: BytesMut, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            transport: RefCell::new(transport),
            early: RefCell::new(early),
            meter,
        })
    }

    /// The transport, when the library is done with it.
    pub(super) fn into_transport(self: Rc<Self>) -> Option<T> {
        Rc::into_inner(self).map(|wire| wire.transport.into_inner())
    }

    fn written(&self, polled: &Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) {
        let connection = &self.meter.connection;
        connection.write_blocked(polled.is_pending());
        let Poll::Ready(Ok(count)) = polled else {
            return;
        };
        connection.taken(*count);
        let mut left = *count;
        for slice in slices {
            let taken = slice.len().min(left);
            self.meter.send(slice.get(..taken).unwrap_or_default());
            left -= taken;
        }
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
        if let Some(fresh) = buf.filled().get(before..) {
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
        let polled = Pin::new(&mut *wire.transport.borrow_mut()).poll_write_vectored(cx, slices);
        wire.written(&polled, slices);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.0.transport.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        // TLS may hold bytes that the socket has not taken.
        let polled = Pin::new(&mut *wire.transport.borrow_mut()).poll_flush(cx);
        wire.meter.connection.write_blocked(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_shutdown(cx)
    }
}
