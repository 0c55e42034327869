//! TCP listeners: one socket a worker and address, shared out by the kernel (SO_REUSEPORT).

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Why an address could not be listened on, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{address} is already in use; stop the other program or choose another address with {option}"
    )]
    InUse {
        address: SocketAddr,
        option: &'static str,
    },
    #[error(
        "{address} may not be listened on ({source}); ports below 1024 need CAP_NET_BIND_SERVICE: choose one above, or grant it"
    )]
    Forbidden {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address} is not an address of this machine; use one of its own, or 0.0.0.0 for all")]
    NotHere { address: SocketAddr },
    #[error("{address} could not be listened on: {source}")]
    Other {
        address: SocketAddr,
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, option: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, option },
            io::ErrorKind::PermissionDenied => Self::Forbidden { address, source },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

const BACKLOG: i32 = 4096;
/// Bytes of a response that the kernel takes for a client ahead of what it can send now: otherwise one that does not read
/// has up to 4 MiB there, which no account sees.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// `count` listening sockets on `address`, which `option` of the command line chooses; all on the same port when it asks
/// for any (0).
pub fn bind(
    address: SocketAddr,
    count: usize,
    option: &'static str,
) -> Result<Vec<TcpListener>, BindError> {
    let fail = |source| BindError::new(address, option, source);
    // With SO_REUSEPORT a second edge on the same port would silently take half of the connections: ask first, without.
    // The listening socket is needed for that, as a bound one that does not listen is in nobody's way.
    let probe = open(address, false).map_err(fail)?;
    let bound = probe.local_addr().map_err(fail)?;
    drop(probe);
    (0..count.max(1))
        .map(|_| open(bound, true).map_err(fail))
        .collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `[::]` means both families unless the system says otherwise.
        let _ = socket.set_only_v6(false);
    }
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_busy_port_is_refused_even_when_its_owner_shares_it() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2, "--listen").unwrap();
        let address = first.first().unwrap().local_addr().unwrap();
        assert!(matches!(
            bind(address, 1, "--listen"),
            Err(BindError::InUse { .. })
        ));
    }
}
