//! A stream as the client's side of a tunnel (RFC 8441): its DATA frames are bytes both ways.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::OpenStream;

/// Most bytes of one frame.
const PIECE: usize = 16 << 10;

/// Both directions of a stream.
pub(super) struct StreamTunnel {
    pub(super) open: Rc<OpenStream>,
    pub(super) received: RecvStream,
    pub(super) sent: SendStream<Bytes>,
    /// Bytes that have come and are not read.
    pub(super) piece: Bytes,
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for StreamTunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            match this.received.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(data)) => this.piece = data.map_err(broken)?,
            }
            this.open.read(this.piece.len());
        }
        let count = this.piece.len().min(buf.remaining());
        buf.put_slice(this.piece.get(..count).unwrap_or_default());
        this.piece.advance(count);
        // Fails where the stream has ended.
        let _ = this.received.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamTunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wanted = bytes.len().min(PIECE);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        this.sent.reserve_capacity(wanted);
        loop {
            let room = this.sent.capacity().min(wanted);
            if room > 0 {
                let piece = bytes.get(..room).unwrap_or_default();
                let sent = this.sent.send_data(Bytes::copy_from_slice(piece), false);
                return Poll::Ready(sent.map(|()| room).map_err(broken));
            }
            match this.sent.poll_capacity(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Ready(Some(room)) => room.map_err(broken)?,
            };
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Fails where the stream has ended already.
        let _ = self.get_mut().sent.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
