//! The way of functions to the worker that makes their requests (`ctx.fetch`).

use tokio::sync::mpsc;

use crate::functions::fetch::{Fetch, FetchError, Fetcher, TakeFetched};

/// Requests of functions that a worker has under way, and those that wait for it, at most.
pub(crate) const MOST: usize = 1_000;

/// The way of functions to a worker.
#[derive(Debug)]
pub(crate) struct Fetches(mpsc::Sender<(Fetch, TakeFetched)>);

pub(crate) type Waiting = mpsc::Receiver<(Fetch, TakeFetched)>;

impl Fetches {
    pub(crate) fn new() -> (Self, Waiting) {
        let (sender, waiting) = mpsc::channel(MOST);
        (Self(sender), waiting)
    }
}

impl Fetcher for Fetches {
    fn fetch(&self, fetch: Fetch, take: TakeFetched) {
        match self.0.try_send((fetch, take)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full((_, take))) => take(Err(FetchError::Busy(MOST))),
            Err(mpsc::error::TrySendError::Closed((_, take))) => take(Err(FetchError::Stopped)),
        }
    }
}
