//! Accepting connections and seeing each through: HTTP/1.1 by hyper, then a tunnel or a gentle end.

use std::{future::poll_fn, rc::Rc, sync::atomic::Ordering, task::Poll, time::Duration};

use edgerouter_core::admit::{GuardLimits, HeadGuard};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
};

use super::{
    conn::{Conn, Verdict},
    guarded::{Guarded, Remains},
    tight::{self, Spare},
    tunnel,
};
use crate::{request, server::Life, telemetry::Refused, worker::Worker};

/// Accepts until the engine drains, and then what the kernel has already accepted for us.
pub async fn accept(worker: Rc<Worker>, listener: TcpListener, mut life: watch::Receiver<Life>) {
    let mut spare = Spare::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if take(&worker, stream, peer, false) == Taken::InPlaceOfAnother {
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
        take(&worker, stream, peer, true);
    }
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
) -> Taken {
    let shared = &worker.shared;
    let most = worker.live().connections;
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
        conn.sentence(Verdict::Drain);
    }
    let seat = worker.connections.borrow_mut().insert(Rc::clone(&conn));
    let left = Left {
        worker: Rc::clone(worker),
        seat,
    };
    spawn_local(async move {
        see_through(&left.worker, stream, conn).await;
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

async fn see_through(worker: &Rc<Worker>, stream: TcpStream, conn: Rc<Conn>) {
    let limits = &worker.live().plan.limits;
    let guard = HeadGuard::new(GuardLimits {
        head_bytes: limits.head_bytes,
        head_fields: limits.head_fields,
        url_bytes: limits.url_bytes,
        body_bytes: limits.body_bytes,
    });
    let io = Guarded::new(stream, guard, Rc::clone(worker), Rc::clone(&conn));
    let service = {
        let (worker, conn) = (Rc::clone(worker), Rc::clone(&conn));
        service_fn(move |request: Request<Incoming>| {
            conn.asked(request.version());
            request::serve(Rc::clone(&worker), Rc::clone(&conn), request)
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
        match conn.verdict() {
            Verdict::End => return Poll::Ready(false),
            Verdict::Drain => http.as_mut().graceful_shutdown(),
            Verdict::Live | Verdict::HeadTooSlow | Verdict::BodyTooSlow => {}
        }
        http.as_mut().poll(cx).map(|ended| match ended {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, peer = %conn.peer, "connection ended in an error");
                conn.was_refused()
            }
        })
    })
    .await;
    drop(http);
    let Some(Remains {
        mut stream,
        unseen,
        in_body,
    }) = conn.take_remains()
    else {
        return;
    };
    if !ended {
        return;
    }
    if let Some(upstream) = conn.take_tunnel() {
        let idle = worker.live().plan.limits.tunnel_idle;
        tunnel::join(&conn, stream, upstream, &unseen, idle).await;
    } else if conn.was_refused() || in_body {
        linger(stream).await;
    } else {
        let _ = stream.shutdown().await;
    }
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
