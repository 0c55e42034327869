//! The connections of each worker as the others see them: how many there are, and the queue of those handed on to it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use edgerouter_core::plan::ListenerId;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::AllConnections;

/// Sockets that may wait in the queue of a worker, within its reserve of descriptors (`core::bounds::descriptors`).
/// Beyond them each worker serves what it accepts.
const QUEUE: usize = 4;

/// The connections of one worker, and the queue of those that others hand on to it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) open: AtomicUsize,
    pub(crate) queue: mpsc::Sender<Handed>,
    /// Until the worker takes it.
    pub(crate) waiting: Mutex<Option<mpsc::Receiver<Handed>>>,
}

/// A socket on its way to another worker.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: Option<ListenerId>,
    pub(crate) place: Place,
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
    pub(crate) fn of(all: &Arc<AllConnections>, index: usize) -> Self {
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
