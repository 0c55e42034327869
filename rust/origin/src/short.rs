//! Reads of a bounded size, which are counted: hyper's space cannot be looked into.
//!
//! hyper doubles its buffer for as long as reads fill it, up to the size of the largest head, and the rest of a buffer is
//! lost to pieces of it that are kept. Reads of one byte less than a power of two fill a buffer of that size and never the
//! next.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};

/// Most bytes of one read, and so the size of most pieces of a body.
const MOST_READ: u64 = (32 << 10) - 1;

#[derive(Debug)]
pub(super) struct Short<S> {
    stream: Take<S>,
    /// Bytes read so far.
    pub(super) count: u64,
}

impl<S: AsyncRead> Short<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: stream.take(MOST_READ),
            count: 0,
        }
    }

    /// The stream, to write on.
    pub(super) fn get_mut(&mut self) -> &mut S {
        self.stream.get_mut()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Short<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.set_limit(MOST_READ);
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count += MOST_READ - self.stream.limit();
        polled
    }
}
