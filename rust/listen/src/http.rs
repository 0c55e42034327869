//! The life of a connection: TLS where the listener has it, HTTP/1.1 or HTTP/2, then a tunnel or a lingering close.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use edgerouter_account::{PerClientCounts, UnderWay};
use edgerouter_core::{
    bounds::clients::Client,
    http::h1::request::RequestLimits,
    plan::{HttpProtocol, ListenerId, Plan, ProxyRule, Scheme},
    proxy_protocol::ProxySource,
};
use edgerouter_telemetry::Refused;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
};

use crate::{
    Transport,
    connection::{Backlog, Connection, ConnectionOwner, ConnectionState, Place, Stream},
    handshake::{Unshaken, handshake},
    http1::{Ended, Http1, Unread},
    http2::{self, Closing},
    proxied, tight,
    tls::TlsListener,
    tunnel,
};

/// Counts one more connection of a peer; `Err` when it has enough.
fn of_peer(
    counts: &Arc<PerClientCounts>,
    plan: &Plan,
    peer: IpAddr,
) -> Result<Option<UnderWay>, ()> {
    let bound = plan.limits.http.client_connections;
    let Some(most) = bound.connections(peer, &plan.trusted_proxies) else {
        return Ok(None);
    };
    counts.enter(Client::of(peer), most).map(Some).ok_or(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Beside,
    InPlaceOfAnother,
    No,
}

/// Serves a new connection, where there is room for it. `listener`: its listener, if it is one of the plan.
pub(super) fn take<O: ConnectionOwner>(
    owner: &Rc<O>,
    transport: impl Transport,
    peer: SocketAddr,
    listener: Option<ListenerId>,
    place: Place,
    draining: bool,
) -> Taken {
    let connections = owner.connections();
    let all = &connections.all;
    let (rule, of_peer, most, protocols) = owner.with_plan(|plan, most| {
        let listener = listener.and_then(|id| plan.listeners.get(usize::from(id.0)));
        let protocols = Protocols::of(listener.map_or(&[], |listener| &listener.protocols));
        let rule = listener.map_or(ProxyRule::None, |listener| listener.proxy_rule(peer.ip()));
        let of_peer = match rule {
            ProxyRule::None => of_peer(&all.by_peer, plan, peer.ip()),
            // The client that the header names is counted.
            ProxyRule::Header | ProxyRule::Untrusted => Ok(None),
        };
        (rule, of_peer, most, protocols)
    });
    if rule == ProxyRule::Untrusted {
        owner.metrics().refused(Refused::ProxyProtocol);
        return Taken::No;
    }
    let Ok(of_peer) = of_peer else {
        owner.metrics().refused(Refused::ClientConnections);
        return Taken::No;
    };
    let others = all.count.fetch_add(1, Ordering::AcqRel);
    let full = others >= most;
    // An idle one of this worker, or soon of another: the new one may have a request.
    if full && !tight::give_way(&**owner, others, most) {
        all.count.fetch_sub(1, Ordering::AcqRel);
        owner.metrics().refused(Refused::TooManyConnections);
        return Taken::No;
    }
    owner.metrics().accepted();
    let serial = connections.accepted.get();
    connections.accepted.set(serial + 1);
    let tls = listener.and_then(|id| Some((id, owner.tls(id)?)));
    let scheme = if tls.is_some() {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let connection = Rc::new(Connection::new(peer, scheme, owner.ticks(), serial));
    connection.bound_requests(owner.with_plan(|plan, _| plan.limits.http.connection_requests));
    if draining {
        connection.accept_late();
    }
    let index = connections.open.borrow_mut().insert(Rc::clone(&connection));
    let mut counted = Counted {
        owner: Rc::clone(owner),
        index,
        of_peer,
        _place: place,
    };
    spawn_local(async move {
        let mut transport = transport;
        let connection = match rule {
            ProxyRule::Header => {
                let announced = counted.announced(&mut transport, connection);
                match Box::pin(announced).await {
                    Some(announced) => announced,
                    None => return,
                }
            }
            _ => connection,
        };
        match tls {
            None => serve_connection(&counted.owner, protocols, transport, connection).await,
            Some(tls) => {
                serve_secured(&counted.owner, tls, protocols, transport, connection).await;
            }
        }
        drop(counted);
    });
    if full {
        Taken::InPlaceOfAnother
    } else {
        Taken::Beside
    }
}

/// The protocols that a client may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocols {
    Http1,
    Http2,
    /// Its first bytes say which (RFC 9113 §3.3).
    Both,
}

impl Protocols {
    fn of(offered: &[HttpProtocol]) -> Self {
        let has = |protocol| offered.contains(&protocol);
        match (has(HttpProtocol::Http1), has(HttpProtocol::Http2)) {
            (true, true) => Self::Both,
            (false, true) => Self::Http2,
            _ => Self::Http1,
        }
    }

    /// After a handshake of TLS: it says which (RFC 9113 §3.2). A client that has named none speaks HTTP/1.1, where
    /// that is offered.
    fn agreed(self, alpn: Option<&[u8]>) -> Self {
        match (self, alpn) {
            (_, Some(name)) if name == HttpProtocol::Http2.alpn() => Self::Http2,
            (Self::Http2, None) => Self::Http2,
            _ => Self::Http1,
        }
    }
}

/// Takes a connection out of the counts when its task ends, however it ends.
struct Counted<O: ConnectionOwner> {
    owner: Rc<O>,
    index: usize,
    of_peer: Option<UnderWay>,
    _place: Place,
}

impl<O: ConnectionOwner> Counted<O> {
    /// Reads the header of a proxy: the connection is its client's from here on.
    async fn announced<T: Transport>(
        &mut self,
        transport: &mut T,
        connection: Rc<Connection>,
    ) -> Option<Rc<Connection>> {
        let limit = self
            .owner
            .with_plan(|plan, _| plan.limits.http.head_timeout);
        let Some(source) = proxied::source(transport, &connection, limit).await else {
            self.owner.metrics().refused(Refused::ProxyProtocol);
            return None;
        };
        let ticks = self.owner.ticks();
        connection.introduced(ticks);
        let ProxySource::Client(client) = source else {
            return Some(connection);
        };
        let connections = self.owner.connections();
        let by_peer = &connections.all.by_peer;
        let of_peer = self
            .owner
            .with_plan(|plan, _| of_peer(by_peer, plan, client.ip()));
        let Ok(of_peer) = of_peer else {
            self.owner.metrics().refused(Refused::ClientConnections);
            return None;
        };
        self.of_peer = of_peer;
        let announced = Rc::new(connection.of_client(client, ticks));
        if let Some(open) = connections.open.borrow_mut().get_mut(self.index) {
            *open = Rc::clone(&announced);
        }
        Some(announced)
    }
}

impl<O: ConnectionOwner> Drop for Counted<O> {
    fn drop(&mut self) {
        let connections = self.owner.connections();
        connections.open.borrow_mut().try_remove(self.index);
        connections.all.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a connection that begins with TLS.
async fn serve_secured<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    listener: (ListenerId, Arc<TlsListener>),
    protocols: Protocols,
    transport: T,
    connection: Rc<Connection>,
) {
    let shaken = Box::pin(handshake(owner, listener, transport, &connection)).await;
    match shaken {
        Ok(transport) => {
            if connection.state() == ConnectionState::Drain {
                // The client may have sent its request as soon as it could.
                connection.accept_late();
            }
            let agreed = protocols.agreed(transport.session().alpn_protocol());
            serve_connection(owner, agreed, transport, connection).await;
        }
        Err(Unshaken::Refused(transport)) => {
            linger(owner, transport, &connection, LONG_SCRAP).await;
        }
        Err(Unshaken::Gone) => {}
    }
}

/// Serves a connection to its end. As long as nothing comes only its socket is kept: the machinery of HTTP is made when
/// there is something to read, and dropped once the connection has been idle for a second.
async fn serve_connection<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    mut protocols: Protocols,
    mut transport: T,
    connection: Rc<Connection>,
) {
    loop {
        if !connection.until_readable(&transport).await {
            close(owner, transport, &connection).await;
            return;
        }
        if protocols == Protocols::Http2 {
            return serve_http2(owner, transport, BytesMut::new(), &connection).await;
        }
        let knows_http2 = protocols == Protocols::Both;
        match Box::pin(serve_requests(owner, knows_http2, transport, &connection)).await {
            Some(silent) => transport = silent,
            None => return,
        }
        protocols = Protocols::Http1;
    }
}

/// Serves HTTP/2 to its end. `early`: bytes of it that were read already.
async fn serve_http2<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    transport: T,
    early: BytesMut,
    connection: &Rc<Connection>,
) {
    match Box::pin(http2::serve(owner, transport, early, connection)).await {
        Closing::CutOff => {}
        Closing::Done(transport) => close(owner, transport, connection).await,
        Closing::Linger(transport) => linger(owner, transport, connection, LONG_SCRAP).await,
    }
}

/// Serves requests until the connection is over, or idle for a while: then its socket is given back.
async fn serve_requests<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    knows_http2: bool,
    transport: T,
    connection: &Rc<Connection>,
) -> Option<T> {
    let limits = owner.with_plan(|plan, _| RequestLimits {
        head_bytes: plan.limits.http.head_bytes,
        head_fields: plan.limits.http.head_fields,
        url_bytes: plan.limits.http.url_bytes,
        body_bytes: plan.limits.http.body_bytes,
    });
    connection.set_active(true);
    let stream = Rc::new(Stream::new(Rc::clone(connection)));
    let mut http = Http1::new(
        transport,
        limits,
        knows_http2,
        Rc::clone(owner),
        Rc::clone(&stream),
    );
    let ended = {
        let mut run = pin!(http.run());
        poll_fn(|cx| {
            connection.listen(cx.waker());
            if stream.queue.is_cut() {
                connection.set_state(ConnectionState::End);
            }
            if connection.state() == ConnectionState::End {
                return Poll::Ready(Ended::CutOff);
            }
            run.as_mut().poll(cx)
        })
        .await
    };
    let (transport, unread) = http.into_parts();
    connection.set_active(false);
    connection.drop_unsent(&transport);
    match ended {
        Ended::CutOff => return None,
        Ended::Silent if unread == Unread::default() => return Some(transport),
        Ended::Preface => {
            serve_http2(owner, transport, unread.bytes, connection).await;
            return None;
        }
        Ended::Silent | Ended::All => {}
    }
    if let Some(upstream) = stream.take_tunnel() {
        let idle = owner.with_plan(|plan, _| plan.limits.http.tunnel_idle_timeout);
        tunnel::join(connection, transport, upstream, &unread.bytes, idle).await;
    } else if connection.was_refused() || unread.in_content {
        linger(owner, transport, connection, LONG_SCRAP).await;
    } else if unread.may_follow {
        linger(owner, transport, connection, SHORT_SCRAP).await;
    } else {
        close(owner, transport, connection).await;
    }
    None
}

/// Closes a connection that has nothing left to read. TLS says so to the client, which may not read that.
async fn close<O: ConnectionOwner>(
    owner: &Rc<O>,
    mut transport: impl Transport,
    connection: &Connection,
) {
    Backlog::turn_to_end(owner, connection).await;
    let _ = tokio::time::timeout(LINGER_QUIET, transport.shutdown()).await;
}

/// Time and bytes for which a client's input is still read and dropped, so that no reset destroys the response that it
/// has yet to read (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(10);
const LINGER_QUIET: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 256 << 20;
/// Bytes that are read at a time: of content, and of requests behind the last one, of which most clients send none.
const LONG_SCRAP: usize = 16 << 10;
const SHORT_SCRAP: usize = 1 << 10;

async fn linger<O: ConnectionOwner>(
    owner: &Rc<O>,
    mut transport: impl Transport,
    connection: &Connection,
    scrap: usize,
) {
    Backlog::turn_to_end(owner, connection).await;
    let _ = tokio::time::timeout(LINGER_QUIET, transport.shutdown()).await;
    let read_away = async {
        let mut scrap = vec![0u8; scrap];
        let mut left = LINGER_BYTES;
        while let Ok(Ok(n)) = tokio::time::timeout(LINGER_QUIET, transport.read(&mut scrap)).await {
            left = left.saturating_sub(n as u64);
            if n == 0 || left == 0 {
                break;
            }
            // Nobody waits for them, and a flood goes on behind its end: others go first.
            Backlog::turn(owner).await;
        }
    };
    let _ = tokio::time::timeout(LINGER, read_away).await;
}
