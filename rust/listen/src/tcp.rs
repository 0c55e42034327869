//! TCP listeners: one socket a worker and address, shared out by the kernel (SO_REUSEPORT).

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use edgerouter_core::plan::ListenerId;
use edgerouter_telemetry::life::Life;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    Transport, accept,
    connection::ConnectionOwner,
    http::{self, Taken},
    inherited,
    socket::{self, BareSocket},
    spread,
    tight::Listening,
};

impl Listening for TcpListener {
    type Accepted = (TcpStream, SocketAddr);

    fn poll_accepted(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        self.poll_accept(cx)
    }
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        socket::poll_readable(self, cx)
    }

    fn bare(&self) -> Option<&dyn BareSocket> {
        Some(self)
    }

    fn abandon(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// The reason why an address could not be listened on, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "{address} is already in use; stop the other program or choose another address with {option}"
    )]
    InUse {
        /// The address of the listener.
        address: SocketAddr,
        /// The option that names another address.
        option: &'static str,
    },
    /// A port that needs a privilege.
    #[error(
        "{address} may not be listened on ({source}); ports below 1024 need CAP_NET_BIND_SERVICE: choose one above, or grant it"
    )]
    Forbidden {
        /// The address of the listener.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The machine does not have the address.
    #[error("{address} is not an address of this machine; use one of its own, or 0.0.0.0 for all")]
    NotHere {
        /// The address of the listener.
        address: SocketAddr,
    },
    /// Any other error.
    #[error("{address} could not be listened on: {source}")]
    Other {
        /// The address of the listener.
        address: SocketAddr,
        /// The system's error.
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
/// A client that is gone without a word, as its network is: nothing shows it, and a silent response would be kept for
/// it. The kernel sends probes when nothing has passed for a minute, and ends the connection when four got no answer.
const SILENT: Duration = Duration::from_secs(60);
const PROBES: (u32, Duration) = (4, Duration::from_secs(15));

/// `count` listening sockets on `address`, which `option` of the command line chooses; all on the same port where that
/// is any (0).
pub fn bind(
    address: SocketAddr,
    count: usize,
    option: &'static str,
) -> Result<Vec<std::net::TcpListener>, BindError> {
    let fail = |source| BindError::new(address, option, source);
    if let Some(socket) = inherited::tcp(address) {
        prepare(&SockRef::from(&socket)).map_err(fail)?;
        return inherited::handles(socket, count, std::net::TcpListener::try_clone).map_err(fail);
    }
    // With SO_REUSEPORT a second edge on the same port would silently take half of the connections: the first socket
    // listens without it, and shares the port from then on. Clients may be connected to it already, so it stays.
    let first = open(address, false).map_err(fail)?;
    let bound = first.local_addr().map_err(fail)?;
    SockRef::from(&first).set_reuse_port(true).map_err(fail)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(open(bound, true).map_err(fail)?);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
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
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what accepted sockets inherit.
fn prepare(socket: &Socket) -> io::Result<()> {
    let (count, interval) = PROBES;
    let probes = TcpKeepalive::new()
        .with_time(SILENT)
        .with_interval(interval)
        .with_retries(count);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(crate::ahead::FEW)?;
    socket.set_nonblocking(true)
}

/// Accepts until the engine drains, and then those that the kernel has accepted by then. `id`: of a listener of the
/// plan.
pub async fn accept<O: ConnectionOwner>(
    owner: Rc<O>,
    listener: TcpListener,
    id: Option<ListenerId>,
    life: watch::Receiver<Life>,
) {
    accept::accept(owner, listener, life, |owner, (stream, peer), draining| {
        spread::kept(&**owner, stream, peer, id).map_or(Taken::No, |(stream, place)| {
            http::take(owner, stream, peer, id, place, draining)
        })
    })
    .await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        io::{Read as _, Write as _},
        thread,
    };

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

    #[test]
    fn a_client_that_connects_while_the_sockets_are_made_is_served() {
        for _ in 0..200 {
            let address = free_address();
            let client = thread::spawn(move || {
                let mut stream = connected(address);
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                stream.read_exact(&mut [0])
            });
            let listeners = bind(address, 3, "--listen").unwrap();
            while !client.is_finished() {
                for listener in &listeners {
                    if let Ok((mut stream, _)) = listener.accept() {
                        stream.write_all(b"!").unwrap();
                    }
                }
            }
            client.join().unwrap().unwrap();
        }
    }

    /// One that no client of another test has.
    fn free_address() -> SocketAddr {
        let any = std::net::TcpListener::bind("127.0.0.3:0").unwrap();
        any.local_addr().unwrap()
    }

    /// A connection as soon as there is one: not to itself, as its own address is another one.
    fn connected(address: SocketAddr) -> std::net::TcpStream {
        let own: SocketAddr = "127.0.0.2:0".parse().unwrap();
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&own.into()).unwrap();
            if socket.connect(&address.into()).is_ok() {
                return socket.into();
            }
        }
    }

    #[test]
    fn all_sockets_of_an_address_get_clients() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 2, "--listen").unwrap();
        let address = listeners.first().unwrap().local_addr().unwrap();
        let mut clients = Vec::new();
        let mut counts = [0; 2];
        while counts.contains(&0) {
            clients.push(std::net::TcpStream::connect(address).unwrap());
            assert!(clients.len() < 500, "{counts:?}");
            for (listener, count) in listeners.iter().zip(&mut counts) {
                while listener.accept().is_ok() {
                    *count += 1;
                }
            }
        }
    }
}
