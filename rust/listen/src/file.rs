//! Content of a file on its way into a socket, which the kernel takes from its own memory.

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    task::{Context, Poll},
};

use tokio::io::Interest;

use crate::socket::{BareSocket, poll_tried, poll_tried_at, write};

/// Content of a file from this length on goes with more of it ahead in the kernel.
pub(crate) const LONG: u64 = 1 << 20;
/// Most bytes of one call, in whole pages: as many as the kernel sends in one go (docs/decisions/0127).
const AT_ONCE: usize = 60 << 10;

/// Sends bytes of a file, as many as there is room for.
pub(crate) fn poll_send(
    socket: &dyn BareSocket,
    cx: &mut Context<'_>,
    (file, offset, length): (BorrowedFd<'_>, u64, usize),
    at_once: bool,
) -> Poll<io::Result<usize>> {
    poll_tried_at(socket, cx, Interest::WRITABLE, at_once, &mut || {
        let mut offset = offset;
        let length = length.min(AT_ONCE);
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
    poll_tried(socket, cx, Interest::WRITABLE, &mut || {
        write(socket, slices, true)
    })
}
