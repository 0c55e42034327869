//! From an origin's name to a connection: addresses, TCP, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use edgerouter_core::plan::{Origin, Scheme};
use edgerouter_telemetry::system_error::in_words;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    FetchError,
    names::{NAMES, Resolver},
    tls::{self, Configs},
};

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum OriginStream {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl OriginStream {
    /// The socket, if its bytes are those of the origin and the kernel can move them.
    pub(super) fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) if cfg!(target_os = "linux") => Some(stream),
            _ => None,
        }
    }
}

impl AsyncRead for OriginStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for OriginStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The way to origins: their addresses and what TLS needs.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) names: Resolver,
    pub(super) tls: Configs,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            names: NAMES.clone(),
            tls: Configs::default(),
        }
    }
}

/// A new connection to an origin.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: OriginStream,
    /// `None`: a unix socket.
    pub(super) address: Option<SocketAddr>,
}

/// Pause before a unix socket with a full backlog is tried again.
const FULL_BACKLOG: Duration = Duration::from_millis(5);
/// Delay before the next address is tried, too (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

impl Addresses {
    /// A connection to the origin, within its `connect_timeout` in all.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<Dialled, FetchError> {
        let connected = tokio::time::timeout(origin.times.connect, self.unbounded(origin)).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(FetchError::ConnectTimeout(
                origin.name.to_string(),
                origin.times.connect,
            ))
        });
        // It may have moved: its next connections are not to wait for the addresses to grow old.
        if connected.is_err() && origin.socket.is_none() {
            self.names.doubt(&origin.host, origin.port);
        }
        connected
    }

    async fn unbounded(&self, origin: &Origin) -> Result<Dialled, FetchError> {
        let refused =
            |error: io::Error| FetchError::Connect(origin.name.to_string(), in_words(&error));
        if let Some(path) = &origin.socket {
            let stream = OriginStream::Unix(socket(path).await.map_err(refused)?);
            return Ok(Dialled {
                stream,
                address: None,
            });
        }
        let addresses = self.of(&origin.host, origin.port).await?;
        let (tcp, reached) = dial(&addresses).await.map_err(refused)?;
        let _ = tcp.set_nodelay(true);
        if reached.others_silent && addresses.first() != Some(&reached.at) {
            self.names.prefer(&origin.host, origin.port, reached.at);
        }
        let dialled = |stream| Dialled {
            stream,
            address: Some(reached.at),
        };
        if origin.scheme == Scheme::Http {
            return Ok(dialled(OriginStream::Plain(tcp)));
        }
        let failed = |error: String| FetchError::Tls(origin.name.to_string(), error);
        let config = self.tls.of(&origin.tls).map_err(failed)?;
        let name = tls::server_name(&origin.host, &origin.tls).map_err(failed)?;
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| failed(tls::worded(&error)))?;
        Ok(dialled(OriginStream::Tls(Box::new(stream))))
    }

    async fn of(&self, host: &Arc<str>, port: u16) -> Result<Arc<[SocketAddr]>, FetchError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::from([SocketAddr::new(address, port)]));
        }
        let found = self.names.of(host, port).await;
        found.map_err(|why| FetchError::Dns(host.to_string(), why))
    }
}

/// Connects to a unix socket, again until there is room: a full backlog is an error at once, where TCP would wait.
async fn socket(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_BACKLOG).await;
            }
            connected => return connected,
        }
    }
}

/// The address that answered.
#[derive(Debug, Clone, Copy)]
struct Reached {
    at: SocketAddr,
    /// It was tried beside others, from which nothing had come.
    others_silent: bool,
}

/// The first address that answers; each gets a head start before the next is tried beside it.
async fn dial(addresses: &[SocketAddr]) -> io::Result<(TcpStream, Reached)> {
    use futures_util::StreamExt as _;
    let attempt = |at: SocketAddr| async move { (at, TcpStream::connect(at).await) };
    let mut trying = futures_util::stream::FuturesUnordered::new();
    let mut left = addresses.iter().copied();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    trying.extend(left.next().map(attempt));
    loop {
        tokio::select! {
            done = trying.next() => match done {
                Some((at, Ok(stream))) => {
                    let others_silent = !trying.is_empty();
                    return Ok((stream, Reached { at, others_silent }));
                }
                Some((_, Err(error))) => {
                    last = error;
                    trying.extend(left.next().map(attempt));
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER), if left.len() > 0 => {
                trying.extend(left.next().map(attempt));
            }
        }
    }
}
