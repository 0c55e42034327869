//! Client connections, from the socket to a request and from a response to the socket: accepting, HTTP, and the end.
//!
//! `tcp` and `unix` are the only files that know what a connection runs over, and `accept` is their loop: `tls`,
//! `http`, `http1`, `http2` and `tunnel` serve any [`Transport`]. `connection` is a connection as requests see it, and
//! all connections of a worker; `spread` hands new ones on to the worker with the fewest, `tight` ends idle ones for
//! new ones. `handshake` and `proxied` come before the first request, `inherited` has the sockets that a service
//! manager passes on, and `ahead`, `file` and `pipes` let the kernel carry content. The worker is known as a
//! [`ConnectionOwner`](connection::ConnectionOwner) only: it responds to the requests. No route is known here.

mod accept;
mod ahead;
pub mod connection;
mod file;
mod handshake;
mod http;
mod http1;
mod http2;
pub mod inherited;
mod pipes;
mod proxied;
mod socket;
pub mod spread;
pub mod tcp;
pub mod tight;
pub mod tls;
mod tunnel;
pub mod unix;

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use socket::BareSocket;

/// The bytes of a client connection, both ways.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Ready when there is something to read, or the end. Reads nothing, so that a silent connection needs no buffer.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// The socket itself, where the bytes that are written are those that the peer gets.
    fn bare(&self) -> Option<&dyn BareSocket> {
        None
    }

    /// The next close drops the bytes that the peer has not taken. By default the kernel keeps them for minutes, and for
    /// as long as the peer takes one now and then, outside of all counts.
    fn abandon(&self) {}
}
