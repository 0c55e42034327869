//! The bytes of a client connection inside TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::Transport;

/// A transport inside TLS, after the handshake.
#[derive(Debug)]
pub(crate) struct TlsTransport<T>(Box<TlsStream<T>>);

impl<T: Transport> Transport for TlsTransport<T> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (inner, session) = self.0.get_ref();
        // Text that is decrypted already, or the end of it, comes by no further bytes.
        if session.wants_read() {
            inner.poll_readable(cx)
        } else {
            Poll::Ready(())
        }
    }

    fn abandon(&self) {
        self.0.get_ref().0.abandon();
    }
}

impl<T: Transport> AsyncRead for TlsTransport<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl<T: Transport> AsyncWrite for TlsTransport<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl<T> TlsTransport<T> {
    pub(crate) fn new(stream: TlsStream<T>) -> Self {
        Self(Box::new(stream))
    }

    /// The state of TLS on it.
    pub(crate) fn session(&self) -> &ServerConnection {
        self.0.get_ref().1
    }
}
