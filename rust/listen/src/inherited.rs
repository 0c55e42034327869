//! Sockets that a service manager listens on for this process, and hands over when it starts it (sd_listen_fds(3)).
//! While the process starts anew, the kernel keeps their connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
    sync::OnceLock,
};

use listenfd::ListenFd;
use parking_lot::Mutex;
use socket2::SockRef;

/// Descriptors that are looked at, at most.
const MOST: usize = 1_024;

#[derive(Debug, Default)]
struct Inherited {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
}

static INHERITED: OnceLock<Mutex<Inherited>> = OnceLock::new();

fn inherited() -> &'static Mutex<Inherited> {
    INHERITED.get_or_init(|| {
        let mut passed = ListenFd::from_env();
        let mut found = Inherited::default();
        for index in 0..passed.len().min(MOST) {
            if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
                found.tcp.push(socket);
            } else if let Ok(Some(socket)) = passed.take_unix_listener(index) {
                found.unix.push(socket);
            } else {
                tracing::warn!(
                    "socket {index} of the service manager is no stream socket, and is not used"
                );
            }
        }
        Mutex::new(found)
    })
}

/// The addresses of those of TCP that no listener has taken.
pub fn addresses() -> Vec<SocketAddr> {
    let inherited = inherited().lock();
    let addresses = inherited.tcp.iter().map(TcpListener::local_addr);
    addresses.filter_map(Result::ok).collect()
}

/// All that no listener has taken, as users write addresses.
pub fn unused() -> Vec<String> {
    let tcp = addresses();
    let inherited = inherited().lock();
    let paths = inherited.unix.iter().filter_map(|socket| {
        let bound = socket.local_addr().ok()?;
        Some(format!("unix:{}", bound.as_pathname()?.display()))
    });
    tcp.iter().map(SocketAddr::to_string).chain(paths).collect()
}

/// Takes the one for an address: of the same port, on it, or else on all addresses.
pub(crate) fn tcp(address: SocketAddr) -> Option<TcpListener> {
    let mut inherited = inherited().lock();
    let fitting = inherited.tcp.iter().enumerate();
    let fitting = fitting.filter_map(|(index, socket)| Some((fit(socket, address)?, index)));
    let (_, index) = fitting.min()?;
    Some(inherited.tcp.swap_remove(index))
}

/// The distance of a socket from an address. `None`: clients of the address do not reach it.
fn fit(socket: &TcpListener, address: SocketAddr) -> Option<u8> {
    let bound = socket.local_addr().ok()?;
    if bound.port() != address.port() {
        return None;
    }
    if bound.ip() == address.ip() {
        return Some(0);
    }
    if !bound.ip().is_unspecified() {
        return None;
    }
    match (bound.is_ipv4(), address.is_ipv4()) {
        (true, true) | (false, false) => Some(1),
        // One of IPv6 takes clients of IPv4, too, unless the manager has it otherwise.
        (false, true) => (!SockRef::from(socket).only_v6().ok()?).then_some(2),
        (true, false) => None,
    }
}

/// Takes the one at a path.
pub(crate) fn unix(path: &Path) -> Option<UnixListener> {
    let mut inherited = inherited().lock();
    let fits = |socket: &UnixListener| {
        let bound = socket.local_addr();
        bound.is_ok_and(|bound| bound.as_pathname() == Some(path))
    };
    let index = inherited.unix.iter().position(fits)?;
    Some(inherited.unix.swap_remove(index))
}

/// `count` handles of one socket, for as many workers.
pub(crate) fn handles<S>(
    socket: S,
    count: usize,
    clone: impl Fn(&S) -> io::Result<S>,
) -> io::Result<Vec<S>> {
    let mut handles = Vec::with_capacity(count.max(1));
    for _ in 1..count {
        handles.push(clone(&socket)?);
    }
    handles.push(socket);
    Ok(handles)
}
