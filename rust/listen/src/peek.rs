//! A look at what a socket holds. The runtime takes one that was just accepted for readable before it knows, so that
//! only the socket itself can say that nothing has come.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    task::{Context, Poll, ready},
};

use socket2::SockRef;

/// Ready when a read would not wait: there are bytes, an end, or an error. `ready`: the runtime believes that; `peek`:
/// the socket says so, and what it says is what the runtime believes from then on.
pub(crate) fn poll(
    cx: &mut Context<'_>,
    ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    peek: impl Fn() -> io::Result<()>,
) -> Poll<()> {
    loop {
        if ready!(ready(cx)).is_err() {
            return Poll::Ready(());
        }
        if !peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return Poll::Ready(());
        }
    }
}

/// Looks at the first byte, which stays where it is.
pub(crate) fn one(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket)
        .peek(&mut [MaybeUninit::uninit()])
        .map(drop)
}
