//! Requests to hosts that are no origins: made at an address that the core has judged, and at no other.
//!
//! A name is resolved once for each request, every address of it is judged, and the connection is made to such an
//! address.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::{
    http::{Fields, PathAndQuery, framing::head::HeadLimits, header},
    origin::foreign::{self, ForeignRefusal},
    plan::{ForeignHosts, Origin, OriginTimes, OriginTls, PoolBounds, Scheme, UpstreamHost},
};
use http::{HeaderValue, Method};

use crate::{
    live::LocalLive,
    upstream::{FetchError, UpstreamResponse},
    worker::Worker,
};

/// Addresses of a name that are tried in turn.
const MOST_ADDRESSES: usize = 3;
/// Time for a connection, name look-up and handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// A request to a host that is no origin.
pub(super) struct OutsideRequest<'r> {
    pub method: Method,
    pub place: (Scheme, &'r str, u16),
    pub target: &'r PathAndQuery,
    /// Without `Host`.
    pub headers: Fields,
    pub content: Bytes,
}

/// Time for the head of a response and silence within its content, and time for all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub silence: Duration,
    pub total: Duration,
}

/// Why there is no response.
pub(super) enum OutsideError {
    /// An address of the host is not connected to.
    Address(ForeignRefusal),
    /// The host is none.
    NoHost,
    Failed(FetchError),
}

/// Makes a request to a host that the caller has found among `hosts`.
pub(super) async fn fetch(
    worker: &Worker,
    live: &LocalLive,
    hosts: &ForeignHosts,
    request: OutsideRequest<'_>,
    waits: Waits,
) -> Result<UpstreamResponse, OutsideError> {
    let OutsideRequest {
        method,
        place: (scheme, host, port),
        target,
        mut headers,
        content,
    } = request;
    let addresses = resolved(host, port).await?;
    let own = &worker.shared.own_addresses;
    for address in &*addresses {
        foreign::judge(*address, &hosts.networks, own, is_local(*address))
            .map_err(OutsideError::Address)?;
    }
    let authority =
        HeaderValue::from_str(&authority(scheme, host, port)).map_err(|_| OutsideError::NoHost)?;
    headers.insert(header::HOST, authority.clone());
    if !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static("edgerouter"));
    }
    let mut last = FetchError::Dns(host.to_owned(), "it has no address".to_owned());
    for address in addresses.iter().take(MOST_ADDRESSES) {
        let origin = at(live, scheme, (host, *address), authority.clone(), waits);
        match worker
            .upstreams
            .fetch_apart(&origin, method.clone(), target, &headers, content.clone())
            .await
        {
            Err(error @ (FetchError::Connect(..) | FetchError::ConnectTimeout(..))) => last = error,
            Err(error) => return Err(OutsideError::Failed(error)),
            Ok(answer) => return Ok(answer),
        }
    }
    Err(OutsideError::Failed(last))
}

async fn resolved(host: &str, port: u16) -> Result<Arc<[SocketAddr]>, OutsideError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Arc::from([SocketAddr::new(address, port)]));
    }
    let failed = |why: String| OutsideError::Failed(FetchError::Dns(host.to_owned(), why));
    let looked_up = crate::upstream::resolve(host, port);
    match tokio::time::timeout(CONNECT, looked_up).await {
        Ok(found) => found.map_err(failed),
        Err(_) => Err(failed("no name server answered in time".to_owned())),
    }
}

/// True if the address is one of this machine: a socket that would send to it sends from it. Nothing is sent.
fn is_local(address: SocketAddr) -> bool {
    let any: SocketAddr = match address.ip().to_canonical() {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let to = SocketAddr::new(address.ip().to_canonical(), address.port());
    let Ok(socket) = UdpSocket::bind(any) else {
        return false;
    };
    let from = socket.connect(to).and_then(|()| socket.local_addr());
    from.is_ok_and(|from| from.ip().to_canonical() == to.ip())
}

fn authority(scheme: Scheme, host: &str, port: u16) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port == scheme.port() {
        host
    } else {
        format!("{host}:{port}")
    }
}

/// The host as an origin whose name is the judged address, so that nothing is resolved again.
fn at(
    live: &LocalLive,
    scheme: Scheme,
    (host, address): (&str, SocketAddr),
    authority: HeaderValue,
    waits: Waits,
) -> Origin {
    let limits = &live.plan.limits.origins;
    Origin {
        name: host.into(),
        scheme,
        host: address.ip().to_string().into(),
        port: address.port(),
        socket: None,
        authority,
        path_prefix: "".into(),
        upstream_host: UpstreamHost::Origin,
        times: OriginTimes {
            connect: CONNECT,
            first_byte: waits.silence,
            expect: waits.silence,
            between_bytes: waits.silence,
            total: Some(waits.total),
        },
        pool: PoolBounds {
            most: 1,
            idle: 0,
            idle_timeout: Duration::ZERO,
        },
        retries: 0,
        head_limits: HeadLimits {
            bytes: limits.head_bytes,
            fields: limits.head_fields,
        },
        event_idle: waits.silence,
        headers: Vec::new(),
        health: None,
        tls: Arc::new(OriginTls {
            server_name: Some(host.into()),
            ..OriginTls::of_system()
        }),
        rewrite_urls: false,
    }
}
