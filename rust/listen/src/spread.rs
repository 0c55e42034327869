//! Hands connections on to the worker with the fewest (docs/decisions/0054): one that has accepted more than its share puts
//! the socket into the queue of another, which serves it as if it had accepted it itself.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use edgerouter_core::{bounds::spread, plan::Scheme};
use edgerouter_telemetry::life::Life;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};

use crate::{
    connection::{AllConnections, ConnectionOwner},
    http,
};

/// Sockets that may wait in the queue of a worker, within its reserve of descriptors (`core::bounds::descriptors`). Beyond
/// them each worker serves what it accepts.
const QUEUE: usize = 4;

/// The connections of one worker, and the queue of those that others hand on to it.
#[derive(Debug)]
pub(crate) struct Share {
    open: AtomicUsize,
    queue: mpsc::Sender<Handed>,
    /// Until the worker takes it.
    waiting: Mutex<Option<mpsc::Receiver<Handed>>>,
}

/// A socket on its way to another worker.
#[derive(Debug)]
struct Handed {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// One of the connections of a worker, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<AllConnections>,
    index: usize,
}

impl Share {
    pub(crate) fn new() -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Self {
            open: AtomicUsize::new(0),
            queue,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Place {
    fn of(all: &Arc<AllConnections>, index: usize) -> Self {
        if let Some(share) = all.shares.get(index) {
            share.open.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            all: Arc::clone(all),
            index,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(share) = self.all.shares.get(self.index) {
            share.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A new connection that this worker serves; `None`: another one does.
pub(crate) fn kept(
    owner: &impl ConnectionOwner,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Place)> {
    let connections = owner.connections();
    let (all, own) = (&connections.all, connections.index);
    let open = all
        .shares
        .iter()
        .map(|share| share.open.load(Ordering::Relaxed));
    let Some(to) = spread::handed_to(own, open) else {
        return Some((stream, Place::of(all, own)));
    };
    let free = all
        .shares
        .get(to)
        .and_then(|share| share.queue.try_reserve().ok());
    let Some(free) = free else {
        return Some((stream, Place::of(all, own)));
    };
    match stream.into_std() {
        Ok(stream) => free.send(Handed {
            stream,
            peer,
            place: Place::of(all, to),
        }),
        Err(error) => tracing::debug!(%error, %peer, "a connection could not be handed on"),
    }
    None
}

/// Serves the connections that other workers hand on, until the engine drains, and then those that are in the queue.
pub async fn take_handed<O: ConnectionOwner>(owner: Rc<O>, mut life: watch::Receiver<Life>) {
    let connections = owner.connections();
    let share = connections.all.shares.get(connections.index);
    let Some(mut queue) = share.and_then(|share| share.waiting.lock().take()) else {
        return;
    };
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            handed = queue.recv() => {
                let Some(Handed { stream, peer, place }) = handed else {
                    return;
                };
                match TcpStream::from_std(stream) {
                    Ok(stream) => drop(http::take(&owner, stream, peer, Scheme::Http, place, draining)),
                    Err(error) => tracing::debug!(%error, %peer, "a connection could not be taken over"),
                }
            }
            changed = life.changed(), if !draining => {
                if changed.is_err() || *life.borrow_and_update() != Life::Serving {
                    draining = true;
                    queue.close();
                }
            }
        }
    }
}
