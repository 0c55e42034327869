//! From sockets to requests: accepting connections, guarding the bytes that come in, and the life of a connection.
//!
//! `tcp` accepts and is the only file that knows what a connection runs over: `http`, `guarded` and `tunnel` serve any
//! [`Transport`]. Each request goes to a function that is given; its answer comes back as a response.

pub mod guarded;
pub mod http;
pub mod tcp;
pub mod tight;
mod tunnel;

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

/// The bytes of a client connection, both ways.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Ready when there is something to read, or the end. Reads nothing, so that a silent connection needs no buffer.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Has a peer found that is gone without a word.
    fn keep_alive(&self);
}
