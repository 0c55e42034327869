//! Accepting connections and seeing each through: HTTP/1.1 by hyper, then a tunnel or a gentle end.

use std::{
    convert::Infallible, future::poll_fn, net::IpAddr, rc::Rc, sync::atomic::Ordering, task::Poll,
    time::Duration,
};

use edgerouter_core::{
    admit::{GuardLimits, HeadGuard},
    bounds::clients::Client,
};
use http::Response;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
};

use super::{
    guarded::Guarded,
    tight::{self, Spare},
    tunnel,
};
use crate::{
    account::UnderWay,
    body::EdgeBody,
    connection::{Conn, Remains, conn::ConnectionState},
    life::Life,
    live::Live,
    telemetry::Refused,
    worker::Worker,
};

/// Answers one request of a connection.
pub trait Serve:
    Fn(Rc<Worker>, Rc<Conn>, Request<Incoming>) -> Self::Answer + Copy + 'static
{
    type Answer: Future<Output = Result<Response<EdgeBody>, Infallible>> + 'static;
}

impl<F, A> Serve for F
where
    F: Fn(Rc<Worker>, Rc<Conn>, Request<Incoming>) -> A + Copy + 'static,
    A: Future<Output = Result<Response<EdgeBody>, Infallible>> + 'static,
{
    type Answer = A;
}

/// Accepts until the engine drains, and then what the kernel has already accepted for us.
pub async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    mut life: watch::Receiver<Life>,
    serve: impl Serve,
) {
    let mut spare = Spare::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if take(&worker, stream, peer, false, serve) == Taken::InPlaceOfAnother {
                        // The other one closes before the next one is accepted.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if tight::exhausted(&error) => spare.refuse_one(&worker, &listener, &error).await,
                // It was closed before it was accepted; the next one may be well.
                Err(error) => tracing::debug!(%error, "a connection could not be accepted"),
            },
            changed = life.changed() => {
                if changed.is_err() || *life.borrow_and_update() != Life::Serving {
                    break;
                }
            }
        }
    }
    // Handshakes that the kernel completed before the socket closes would be reset otherwise.
    loop {
        let accepted = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
        let Poll::Ready(Ok((stream, peer))) = accepted else {
            return;
        };
        take(&worker, stream, peer, true, serve);
    }
}

/// One more connection of a peer; `Err` when it has enough.
fn of_peer(worker: &Worker, live: &Live, peer: IpAddr) -> Result<Option<UnderWay>, ()> {
    let bound = live.plan.limits.http.client_connections;
    let Some(most) = bound.connections(peer, &live.plan.trusted_proxies) else {
        return Ok(None);
    };
    let counts = &worker.shared.client_connections;
    counts.enter(Client::of(peer), most).map(Some).ok_or(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Beside,
    InPlaceOfAnother,
    No,
}

fn take(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    draining: bool,
    serve: impl Serve,
) -> Taken {
    let shared = &worker.shared;
    let live = worker.live();
    let Ok(of_peer) = of_peer(worker, &live, peer.ip()) else {
        worker.metrics.refused(Refused::ClientConnections);
        return Taken::No;
    };
    let most = live.connections;
    let others = shared.connections.fetch_add(1, Ordering::AcqRel);
    let full = others >= most;
    // An idle one of this worker, or soon of another: the new one may have a request.
    if full && !tight::give_way(worker, others - most) {
        shared.connections.fetch_sub(1, Ordering::AcqRel);
        worker.metrics.refused(Refused::TooManyConnections);
        return Taken::No;
    }
    worker.metrics.accepted();
    let conn = Rc::new(Conn::new(peer, false, worker.clock.ticks()));
    if draining {
        conn.set_state(ConnectionState::Drain);
    }
    let seat = worker.connections.borrow_mut().insert(Rc::clone(&conn));
    let left = Left {
        worker: Rc::clone(worker),
        seat,
        _of_peer: of_peer,
    };
    spawn_local(async move {
        see_through(&left.worker, stream, conn, serve).await;
        drop(left);
    });
    if full {
        Taken::InPlaceOfAnother
    } else {
        Taken::Beside
    }
}

/// Takes a connection out of the accounts when its task ends, however it ends.
struct Left {
    worker: Rc<Worker>,
    seat: usize,
    _of_peer: Option<UnderWay>,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().try_remove(self.seat);
        self.worker
            .shared
            .connections
            .fetch_sub(1, Ordering::AcqRel);
        self.worker.metrics.closed();
    }
}

/// For as long as nothing comes only the socket is kept: what reads and writes HTTP is made when there is something to
/// read, and given up again once the connection has been idle for a second.
async fn see_through(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    conn: Rc<Conn>,
    serve: impl Serve,
) {
    loop {
        if !something_comes(&stream, &conn).await {
            let _ = stream.shutdown().await;
            return;
        }
        match Box::pin(speak(worker, stream, &conn, serve)).await {
            Some(silent) => stream = silent,
            None => return,
        }
    }
}

/// Waits for bytes, or the end of them. False when the connection is to end.
async fn something_comes(stream: &TcpStream, conn: &Conn) -> bool {
    poll_fn(|cx| {
        conn.listen(cx.waker());
        match conn.state() {
            ConnectionState::End => Poll::Ready(false),
            // The first request of a connection is answered, and any that is on its way.
            ConnectionState::Drain => {
                Poll::Ready(!conn.has_asked() || stream.poll_read_ready(cx).is_ready())
            }
            ConnectionState::Live | ConnectionState::HeadTooSlow | ConnectionState::BodyTooSlow => {
                stream.poll_read_ready(cx).map(|_| true)
            }
        }
    })
    .await
}

/// Speaks HTTP until the connection is over, or has nothing to say for a while: then its socket is given back.
async fn speak(
    worker: &Rc<Worker>,
    stream: TcpStream,
    conn: &Rc<Conn>,
    serve: impl Serve,
) -> Option<TcpStream> {
    let limits = &worker.live().plan.limits.http;
    let guard = HeadGuard::new(GuardLimits {
        head_bytes: limits.head_bytes,
        head_fields: limits.head_fields,
        url_bytes: limits.url_bytes,
        body_bytes: limits.body_bytes,
    });
    conn.speaks.set(true);
    let io = Guarded::new(stream, guard, Rc::clone(worker), Rc::clone(conn));
    let service = {
        let (worker, conn) = (Rc::clone(worker), Rc::clone(conn));
        service_fn(move |request: Request<Incoming>| {
            conn.asked(request.version());
            serve(Rc::clone(&worker), Rc::clone(&conn), request)
        })
    };
    // The guard's bounds are the ones that count; hyper's only need to be no tighter.
    let http = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_headers(limits.head_fields + 8)
        .max_buf_size((limits.head_bytes + (16 << 10)).max(128 << 10))
        .serve_connection(io, service);
    let mut http = Box::pin(http);
    let ended = poll_fn(|cx| {
        conn.listen(cx.waker());
        if conn.queue.is_cut() {
            conn.set_state(ConnectionState::End);
        }
        match conn.state() {
            ConnectionState::End => return Poll::Ready(Spoken::CutOff),
            ConnectionState::Drain => http.as_mut().graceful_shutdown(),
            ConnectionState::Live | ConnectionState::HeadTooSlow | ConnectionState::BodyTooSlow => {
            }
        }
        match http.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Spoken::All),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, peer = %conn.peer, "connection ended in an error");
                Poll::Ready(if conn.was_refused() {
                    Spoken::All
                } else {
                    Spoken::CutOff
                })
            }
            Poll::Pending if conn.take_rest() => Poll::Ready(Spoken::Silent),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    drop(http);
    conn.speaks.set(false);
    let Remains {
        mut stream,
        unseen,
        in_body,
    } = conn.take_remains()?;
    match ended {
        Spoken::CutOff => return None,
        Spoken::Silent if unseen.is_empty() && !in_body => return Some(stream),
        Spoken::Silent | Spoken::All => {}
    }
    if let Some(upstream) = conn.take_tunnel() {
        let idle = worker.live().plan.limits.http.tunnel_idle_timeout;
        tunnel::join(conn, stream, upstream, &unseen, idle).await;
    } else if conn.was_refused() || in_body {
        linger(stream).await;
    } else {
        let _ = stream.shutdown().await;
    }
    None
}

/// How the talk on a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    All,
    CutOff,
    /// It goes on when there is something to read.
    Silent,
}

/// How long and how much of what a client still sends is read away, so that the answer it should read is not destroyed
/// by a reset (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(10);
const LINGER_QUIET: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 256 << 20;

async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let read_away = async {
        let mut scrap = vec![0u8; 16 << 10];
        let mut left = LINGER_BYTES;
        while let Ok(Ok(n)) = tokio::time::timeout(LINGER_QUIET, stream.read(&mut scrap)).await {
            left = left.saturating_sub(n as u64);
            if n == 0 || left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, read_away).await;
}
