//! Calls on the socket of a connection beside those of the runtime: to look at what it holds, to send from a file. The
//! runtime believes what the socket has said last, so each call is repeated until the socket itself has nothing to do.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd,
    task::{Context, Poll, ready},
};

use rustix::net::{SendAncillaryBuffer, SendFlags};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// A socket whose bytes are those that the peer sends and gets.
pub trait BareSocket: AsFd {
    /// Ready when the runtime believes that the socket is.
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>>;

    /// Makes a call. If it would wait, the runtime no longer believes that the socket is ready.
    fn tried(
        &self,
        interest: Interest,
        call: &mut dyn FnMut() -> io::Result<usize>,
    ) -> io::Result<usize>;
}

/// The streams of the runtime have the same methods, and no trait for them.
macro_rules! bare_socket {
    ($($stream:ty),+) => {$(
        impl BareSocket for $stream {
            fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
                if interest.is_readable() {
                    self.poll_read_ready(cx)
                } else {
                    self.poll_write_ready(cx)
                }
            }

            fn tried(
                &self,
                interest: Interest,
                call: &mut dyn FnMut() -> io::Result<usize>,
            ) -> io::Result<usize> {
                self.try_io(interest, call)
            }
        }
    )+};
}

bare_socket!(TcpStream, UnixStream);

/// Makes a call as soon as it need not wait.
pub(crate) fn poll_tried<S: BareSocket + ?Sized>(
    socket: &S,
    cx: &mut Context<'_>,
    interest: Interest,
    call: &mut dyn FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_ready(cx, interest))?;
        match socket.tried(interest, call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

/// As `poll_tried`; `at_once`: even if the socket has not said that it is ready. It says that there is room once a third
/// of its buffer is free, and a client whose network has become slow may need longer for that than it has.
pub(crate) fn poll_tried_at<S: BareSocket + ?Sized>(
    socket: &S,
    cx: &mut Context<'_>,
    interest: Interest,
    at_once: bool,
    call: &mut dyn FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    if at_once && let Ok(done) = call() {
        return Poll::Ready(Ok(done));
    }
    poll_tried(socket, cx, interest, call)
}

/// Writes as much as there is room for. `more`: the kernel keeps it back for a moment, as the rest of a packet comes.
pub(crate) fn write(
    socket: &dyn BareSocket,
    slices: &[IoSlice<'_>],
    more: bool,
) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    let flags = if more {
        SendFlags::MORE | SendFlags::NOSIGNAL
    } else {
        SendFlags::NOSIGNAL
    };
    #[cfg(not(target_os = "linux"))]
    let flags = SendFlags::empty();
    #[cfg(not(target_os = "linux"))]
    let _ = more;
    let none = &mut SendAncillaryBuffer::default();
    rustix::net::sendmsg(socket, slices, none, flags).map_err(Into::into)
}

/// Ready when a read would not wait: there are bytes, an end, or an error. The first byte is looked at and stays where
/// it is: the runtime takes a socket that was just accepted for readable before anything has come.
pub(crate) fn poll_readable<S: BareSocket>(socket: &S, cx: &mut Context<'_>) -> Poll<()> {
    let mut peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    poll_tried(socket, cx, Interest::READABLE, &mut peek).map(drop)
}
