//! Upgrades: after a 101 the connection is a tunnel (RFC 9110 §7.8), for WebSocket and whatever else was agreed on. Its
//! other end is an origin's connection, or a function that takes and gives bytes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use edgerouter_core::http::{Fields, header};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    answer::{self, Early},
    exchange::Exchange,
};
use crate::{
    account::Hold,
    body::{EdgeBody, EdgeResponse},
    connection::TunnelEnd,
    functions::{
        Functions,
        pipe::{PieceReader, PieceWriter},
    },
    telemetry::Outcome,
};

/// Responds with 101 and leaves the other end with the stream: the client's connection joins the two once the response
/// is written.
pub(crate) fn open(
    exchange: &mut Exchange,
    mut headers: Fields,
    end: Option<impl TunnelEnd + 'static>,
) -> Result<EdgeResponse, Early> {
    let Some(end) = end.filter(|_| exchange.wants_upgrade) else {
        return Err(answer::text(
            StatusCode::BAD_GATEWAY,
            "The origin switched protocols without being asked.",
        )
        .into());
    };
    exchange.note.outcome = Outcome::Tunnel;
    exchange.note.written = true;
    exchange.stream.tunnel_to(end);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let status = StatusCode::SWITCHING_PROTOCOLS;
    Ok(answer::of(status, headers, EdgeBody::empty()))
}

/// A function as the end of a tunnel.
#[derive(Debug)]
pub(crate) struct PipedEnd {
    to_function: PieceWriter,
    from_function: PieceReader,
    /// The rest of a piece that was larger than the room of its reader.
    left: Bytes,
    /// The memory for the pieces that wait.
    _hold: Hold,
    /// The version of the application does not end before its tunnels.
    _functions: Arc<dyn Functions>,
}

impl PipedEnd {
    pub(crate) fn new(
        functions: &Arc<dyn Functions>,
        to_function: PieceWriter,
        from_function: PieceReader,
        hold: Hold,
    ) -> Self {
        Self {
            to_function,
            from_function,
            left: Bytes::new(),
            _hold: hold,
            _functions: Arc::clone(functions),
        }
    }
}

impl AsyncRead for PipedEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            self.left = match ready!(self.from_function.poll_piece(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(piece)) => piece,
                Some(Err(broken)) => return Poll::Ready(Err(io::Error::other(broken))),
            };
        }
        let room = buffer.remaining().min(self.left.len());
        buffer.put_slice(self.left.get(..room).unwrap_or_default());
        self.left.advance(room);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipedEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.to_function.poll_room(cx)).map_err(gone)?;
        let put = self.to_function.put(Bytes::copy_from_slice(bytes));
        Poll::Ready(put.map(|_| bytes.len()).map_err(gone))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_function.finish();
        Poll::Ready(Ok(()))
    }
}
