//! Content of a file on its way into a socket, which the kernel takes from its own memory.

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    task::{Context, Poll},
};

use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;

use crate::socket::{self, BareSocket, poll_tried};

/// Content of a file from this length on goes with more of it ahead in the kernel.
pub(crate) const LONG: u64 = 1 << 20;
/// Bytes of such a file that the kernel takes ahead of those that it can send, in place of `socket::UNSENT`: they are
/// in its own memory already, and a worker need not wake up for each 128 KiB. As many of a stream to a quick client.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 512 << 10;

/// Lets the kernel take more or as much as ever ahead. A unix socket has no such bound.
pub(crate) fn take_ahead(socket: &dyn BareSocket, more: bool) {
    #[cfg(target_os = "linux")]
    {
        let unsent = if more { UNSENT } else { socket::UNSENT };
        let _ = socket2::SockRef::from(&socket.as_fd()).set_tcp_notsent_lowat(unsent);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, more);
}

/// Sends bytes of a file, as many as there is room for.
pub(crate) fn poll_send(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    length: usize,
) -> Poll<io::Result<usize>> {
    poll_tried(socket, cx, Interest::WRITABLE, &mut || {
        let mut offset = offset;
        rustix::fs::sendfile(socket, file, Some(&mut offset), length).map_err(Into::into)
    })
}

/// Writes what comes before bytes of a file, as much as there is room for. The kernel keeps it back for a moment, so
/// that both travel in the same packets.
pub(crate) fn poll_write_before(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    #[cfg(target_os = "linux")]
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    let flags = SendFlags::empty();
    poll_tried(socket, cx, Interest::WRITABLE, &mut || {
        let none = &mut SendAncillaryBuffer::default();
        rustix::net::sendmsg(socket, slices, none, flags).map_err(Into::into)
    })
}
