//! A tunnel between client and origin, after HTTP between them is over (RFC 9110 §7.8).

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};

use crate::{
    Transport,
    connection::{Connection, TunnelEnd},
};

/// The end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// Both sides have sent their end.
    Ended,
    Broken,
}

/// Joins a connection to an origin's until both have ended, or nothing has passed for `idle`. The kernel finds clients
/// that are gone without a word before that, as the listening socket says (`tcp`).
pub(super) async fn join(
    connection: &Connection,
    client: impl Transport,
    upstream: Box<dyn TunnelEnd>,
    early: &[u8],
    idle: Duration,
) {
    let joined = between(connection.peer, client, upstream, early, idle);
    connection.unless_ended(joined).await;
}

/// Joins the two until both have ended, or nothing has passed for `idle`.
pub(super) async fn between(
    peer: SocketAddr,
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: Box<dyn TunnelEnd>,
    early: &[u8],
    idle: Duration,
) -> Joined {
    let last = Cell::new(Instant::now());
    let mut client = Noted {
        stream: client,
        last: &last,
    };
    let mut upstream = Noted {
        stream: upstream,
        last: &last,
    };
    if !early.is_empty() && upstream.write_all(early).await.is_err() {
        return Joined::Broken;
    }
    let silence = async {
        loop {
            let until = last.get() + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        joined = tokio::io::copy_bidirectional(&mut client, &mut upstream) => match joined {
            Ok(_) => Joined::Ended,
            Err(error) => {
                tracing::debug!(%error, %peer, "tunnel ended in an error");
                Joined::Broken
            }
        },
        () = silence => {
            tracing::debug!(?idle, %peer, "tunnel was silent for too long");
            Joined::Broken
        }
    }
}

/// One side of a tunnel; notes when bytes last came from it.
struct Noted<'a, S> {
    stream: S,
    last: &'a Cell<Instant>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            this.last.set(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
