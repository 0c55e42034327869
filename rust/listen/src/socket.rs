//! Calls on the socket of a connection beside those of the runtime: to look at what it holds, to send from a file. The
//! runtime believes what the socket has said last, so each call is repeated until the socket itself has nothing to do.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// Bytes of a response that the kernel takes for a client ahead of what it can send now: otherwise one that does not
/// read has up to 4 MiB there, which no account sees.
#[cfg(target_os = "linux")]
pub(crate) const UNSENT: u32 = 128 << 10;

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

/// Ready when a read would not wait: there are bytes, an end, or an error. The first byte is looked at and stays where
/// it is: the runtime takes a socket that was just accepted for readable before anything has come.
pub(crate) fn poll_readable<S: BareSocket>(socket: &S, cx: &mut Context<'_>) -> Poll<()> {
    let mut peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    poll_tried(socket, cx, Interest::READABLE, &mut peek).map(drop)
}
