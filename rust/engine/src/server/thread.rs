//! The thread of a worker: its event loop, its listeners and its housekeeping.

use std::{
    net::TcpListener,
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
    life::Life,
    listen::{spread, tcp, tight},
    worker::{Shared, Worker},
};

/// The life of one worker thread.
pub(super) fn work(
    index: usize,
    workers: usize,
    shared: Arc<Shared>,
    sockets: Vec<(TcpListener, Option<ListenerId>)>,
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
        let worker = Worker::new(index, workers, shared);
        spawn_local(spread::take_handed(Rc::clone(&worker), life.clone()));
        for (socket, id) in sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => {
                    spawn_local(tcp::accept(Rc::clone(&worker), listener, id, life.clone()));
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            }
        }
        let _ = ready.send(Ok(()));
        tend(&worker, life).await;
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
}

/// The worker's housekeeping, until the engine ends.
async fn tend(worker: &Rc<Worker>, mut life: watch::Receiver<Life>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                if worker.tick() {
                    tight::end_stalled(&worker.connections, worker.clock.ticks());
                }
            }
            () = tight::give_way_to_others(&**worker) => {}
            changed = life.changed() => {
                let now = if changed.is_err() { Life::Ended } else { *life.borrow_and_update() };
                match now {
                    Life::Serving => {}
                    Life::Draining => {
                        worker.connections.drain();
                        worker.upstreams.clear();
                    }
                    Life::Ended => return,
                }
            }
        }
    }
}
