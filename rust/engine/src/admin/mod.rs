//! The admin listener: health, metrics and operators' changes, separate from the traffic.
//!
//! One thread, and a few for work that waits for a disk; small bounds (`connections`). `guard` admits only requests
//! whose `Host` is an address of this machine or `localhost`, and none that a web page of another origin sends, so a
//! browser cannot be made to read or change anything (DNS rebinding, forms). Outside loopback a token is required.
//! `dashboard` is the page for browsers, which log in with a token. `endpoints` is the table of endpoints, `answer`
//! builds their responses; the other modules here are the endpoints themselves.

#![allow(clippy::result_large_err)] // a refusal is a response, and is moved once

mod answer;
mod cache;
mod call;
mod connections;
mod dashboard;
mod deploys;
mod endpoints;
mod guard;
mod invalidations;
mod probes;
mod purges;

use std::{
    convert::Infallible,
    future::poll_fn,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, LocalOptions},
    sync::{Semaphore, watch},
    task::spawn_local,
};

pub(crate) use self::guard::Credentials;
use self::{
    answer::AdminBody,
    call::{Peer, Room},
    connections::{AdminConnections, ConnectionSlot},
    dashboard::{history::Pulse, sessions::Sessions},
    guard::Guard,
};
use crate::{life::Life, worker::Shared};

/// Threads for work that waits for a disk; as many calls as there are connections may wait for one of them.
const THREADS_ASIDE: usize = 4;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which a connection is closed.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// The same for a stream of events, which ends by itself before.
const LAST_STREAM: Duration = Duration::from_secs(900);

/// The listener on an address, and the one on a unix socket with the user for whom it is.
pub(crate) type Sockets = (Option<TcpListener>, Option<(UnixListener, u32)>);

/// Serves until the engine has ended.
pub(crate) fn serve(
    sockets: Sockets,
    shared: Arc<Shared>,
    (credentials, cost_report): (Credentials, Option<PathBuf>),
    life: watch::Receiver<Life>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("edge-admin".to_owned())
        .spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(THREADS_ASIDE)
                .thread_name("edge-admin-aside")
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let with = (credentials, cost_report);
                    if let Err(error) = runtime.block_on(run(sockets, shared, with, life)) {
                        tracing::error!(%error, "the admin listener failed");
                    }
                    // A disk may hang, which must not keep the process from ending.
                    runtime.shutdown_timeout(Duration::from_secs(5));
                }
                Err(error) => {
                    tracing::error!(%error, "no admin listener: the event loop could not be made")
                }
            }
        })
}

async fn run(
    (tcp, unix): Sockets,
    shared: Arc<Shared>,
    (credentials, cost_report): (Credentials, Option<PathBuf>),
    mut life: watch::Receiver<Life>,
) -> std::io::Result<()> {
    let tcp = tcp.map(tokio::net::TcpListener::from_std).transpose()?;
    let user = unix.as_ref().map(|(_, user)| *user);
    let unix = unix.map(|(unix, _)| tokio::net::UnixListener::from_std(unix));
    let unix = unix.transpose()?;
    let room = Rc::new(Room {
        shared,
        guard: Guard {
            credentials,
            address: tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()),
        },
        walks: Semaphore::new(1),
        sessions: Sessions::default(),
        pages: dashboard::streams::permits(),
        pulse: Pulse::default(),
        cost_report,
    });
    spawn_local(dashboard::pulse::beat(Rc::clone(&room)));
    let connections = Rc::new(AdminConnections::default());
    loop {
        tokio::select! {
            accepted = accept(tcp.as_ref(), |tcp, cx| tcp.poll_accept(cx)) => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if let Some(slot) = AdminConnections::enter(&connections) {
                    spawn_local(serve_connection(Rc::clone(&room), Peer::Tcp, stream, slot));
                }
            }
            accepted = accept(unix.as_ref(), |unix, cx| unix.poll_accept(cx)) => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let peer = stream.peer_cred().map(|peer| peer.uid());
                let peer = peer.ok().filter(|peer| *peer == 0 || Some(*peer) == user);
                if let Some(peer) = peer
                    && let Some(slot) = AdminConnections::enter(&connections)
                {
                    let peer = Peer::User(peer);
                    spawn_local(serve_connection(Rc::clone(&room), peer, stream, slot));
                }
            }
            changed = life.changed() => {
                if changed.is_err() || *life.borrow_and_update() == Life::Ended {
                    return Ok(());
                }
            }
        }
    }
}

/// The next connection; waits for ever where there is no listener.
async fn accept<L, T>(
    listener: Option<&L>,
    poll: impl Fn(&L, &mut Context<'_>) -> Poll<std::io::Result<T>>,
) -> std::io::Result<T> {
    poll_fn(|cx| listener.map_or(Poll::Pending, |listener| poll(listener, cx))).await
}

async fn serve_connection(
    room: Rc<Room>,
    peer: Peer,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    slot: ConnectionSlot,
) {
    let slot = Rc::new(slot);
    let service = {
        let slot = Rc::clone(&slot);
        service_fn(move |request| {
            let (room, slot) = (Rc::clone(&room), Rc::clone(&slot));
            async move {
                let _answering = slot.answering();
                let answer = endpoints::answer(room, peer, request).await;
                slot.streams(matches!(answer.body(), AdminBody::Events(_)));
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(64)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let lived = tokio::select! {
        lived = tokio::time::timeout(CONNECTION_TIMEOUT, &mut connection) => lived.is_ok(),
        () = slot.evicted() => true,
    };
    if !lived {
        // The current request is answered first, with a notice that it is the last.
        connection.as_mut().graceful_shutdown();
        let last = if slot.is_streaming() {
            LAST_STREAM
        } else {
            LAST_ANSWER
        };
        tokio::select! {
            _ = tokio::time::timeout(last, connection) => {}
            () = slot.evicted() => {}
        }
    }
}
