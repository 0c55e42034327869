//! Content of a file on its way into a socket, which the kernel takes from its own memory.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll, ready},
};

use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// A socket that takes bytes of a file from the kernel's own memory.
pub trait BareSocket: AsFd {
    /// Ready when there may be room in it.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Calls `write`; it is not called again before there is room if it finds none.
    fn tried(&self, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;
}

impl BareSocket for TcpStream {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn tried(&self, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

impl BareSocket for UnixStream {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn tried(&self, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

/// Sends bytes of a file, as many as there is room for.
pub(crate) fn poll_send(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    length: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_room(cx))?;
        let mut send = || {
            let mut offset = offset;
            rustix::fs::sendfile(socket, file, Some(&mut offset), length).map_err(Into::into)
        };
        match socket.tried(&mut send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}
