//! Bytes of a response that the kernel takes for a client ahead of what it can send now (`TCP_NOTSENT_LOWAT`). No account
//! sees these bytes. A unix socket has no such bound.

use crate::socket::BareSocket;

/// Bytes ahead of a client. With the kernel's own bound one that does not read has up to 4 MiB there.
pub(crate) const FEW: u32 = 128 << 10;
/// The same of a long file, which the kernel has in memory already, and of a stream to a quick client: a worker need not
/// wake up for each 128 KiB.
pub(crate) const MORE: u32 = 512 << 10;

/// Sets the bytes that the kernel takes ahead from here on.
pub(crate) fn bound(socket: &dyn BareSocket, bytes: u32) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&socket.as_fd()).set_tcp_notsent_lowat(bytes);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, bytes);
}
