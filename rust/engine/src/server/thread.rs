//! The thread of a worker: its event loop, its listeners and its housekeeping.

use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    rc::Rc,
    sync::{Arc, mpsc as signals},
    time::Duration,
};

use edgerouter_core::plan::ListenerId;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::watch,
    task::spawn_local,
};

use crate::{
    fetches::Fetches,
    life::Life,
    listen::{spread, tcp, tight, unix},
    request::fetches,
    worker::{Shared, Worker},
};

/// A listening socket of a worker.
pub(super) enum WorkerSocket {
    /// Without a position: an address of the settings.
    Tcp(TcpListener, Option<ListenerId>),
    Unix(UnixListener, ListenerId),
}

/// The life of one worker thread.
pub(super) fn work(
    index: usize,
    workers: usize,
    shared: Arc<Shared>,
    sockets: Vec<WorkerSocket>,
    life: watch::Receiver<Life>,
    ready: &signals::Sender<std::io::Result<()>>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let (fetches, wanted) = Fetches::new();
        let worker = Worker::new(index, workers, shared, fetches);
        spawn_local(fetches::serve(Rc::clone(&worker), wanted));
        spawn_local(spread::take_handed(Rc::clone(&worker), life.clone()));
        for socket in sockets {
            let (owner, life) = (Rc::clone(&worker), life.clone());
            let accepting = match socket {
                WorkerSocket::Tcp(socket, id) => tokio::net::TcpListener::from_std(socket)
                    .map(|listener| spawn_local(tcp::accept(owner, listener, id, life))),
                WorkerSocket::Unix(socket, id) => tokio::net::UnixListener::from_std(socket)
                    .map(|listener| spawn_local(unix::accept(owner, listener, id, life))),
            };
            if let Err(error) = accepting {
                let _ = ready.send(Err(error));
                return;
            }
        }
        let _ = ready.send(Ok(()));
        tend(&worker, life).await;
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
}

/// Pause between two looks at the connections that may bring one more request while the worker drains.
const LAST_CALLS: Duration = Duration::from_millis(50);

/// The worker's housekeeping, until the engine ends.
async fn tend(worker: &Rc<Worker>, mut life: watch::Receiver<Life>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_calls = tokio::time::interval(LAST_CALLS);
    last_calls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut drains = false;
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                if worker.tick() {
                    tight::end_stalled(&worker.connections, worker.clock.ticks());
                }
            }
            _ = last_calls.tick(), if drains => worker.connections.end_last_calls(worker.clock.ticks()),
            () = tight::give_way_to_others(&**worker) => {}
            changed = life.changed() => {
                let now = if changed.is_err() { Life::Ended } else { *life.borrow_and_update() };
                match now {
                    Life::Serving => {}
                    Life::Draining => {
                        drains = true;
                        worker.connections.drain(worker.clock.ticks());
                        worker.upstreams.clear();
                    }
                    Life::Ended => return,
                }
            }
        }
    }
}
