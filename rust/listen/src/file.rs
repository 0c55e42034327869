//! Content of a file on its way into a socket, which the kernel takes from its own memory.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll, ready},
};

use rustix::net::{SendAncillaryBuffer, SendFlags};
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
    poll_tried(socket, cx, &mut || {
        let mut offset = offset;
        rustix::fs::sendfile(socket, file, Some(&mut offset), length).map_err(Into::into)
    })
}

/// Writes what comes before bytes of a file, as much as there is room for. The kernel keeps it back for a moment, so that
/// both travel in the same packets.
pub(crate) fn poll_write_before(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    #[cfg(target_os = "linux")]
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    let flags = SendFlags::empty();
    poll_tried(socket, cx, &mut || {
        let none = &mut SendAncillaryBuffer::default();
        rustix::net::sendmsg(socket, slices, none, flags).map_err(Into::into)
    })
}

fn poll_tried(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    write: &mut dyn FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_room(cx))?;
        match socket.tried(write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return Poll::Ready(written),
        }
    }
}
