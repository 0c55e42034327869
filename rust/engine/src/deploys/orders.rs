//! Orders that need Python: a file is to be loaded, or a version to be put in service.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Orders that wait or are carried out at a time.
const MOST: usize = 4;

/// A status of HTTP, and JSON.
pub(crate) type OrderAnswer = (u16, String);

/// Why an order is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The process was started without a folder for deploys.
    Off,
    /// As many wait as may.
    Busy,
}

/// The queue of orders.
#[derive(Debug, Default)]
pub struct DeployOrders {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// There is somebody who takes them.
    is_on: bool,
    last: u64,
    queue: VecDeque<(u64, String)>,
    waiting: HashMap<u64, oneshot::Sender<OrderAnswer>>,
}

impl DeployOrders {
    /// From now on orders are taken.
    pub fn open(&self) {
        self.state.lock().is_on = true;
    }

    /// The next order, as its number and JSON; waits for one, at most this long.
    pub fn take(&self, patience: Duration) -> Option<(u64, String)> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            self.arrived.wait_for(&mut state, patience);
        }
        state.queue.pop_front()
    }

    /// The answer to an order. One that nobody waits for any more is dropped.
    pub fn answer(&self, number: u64, status: u16, body: String) {
        if let Some(waiting) = self.state.lock().waiting.remove(&number) {
            let _ = waiting.send((status, body));
        }
    }

    /// Places an order.
    pub(crate) fn place(&self, order: String) -> Result<oneshot::Receiver<OrderAnswer>, NotTaken> {
        let mut state = self.state.lock();
        if !state.is_on {
            return Err(NotTaken::Off);
        }
        if state.waiting.len() >= MOST {
            return Err(NotTaken::Busy);
        }
        state.last += 1;
        let number = state.last;
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(number, sender);
        state.queue.push_back((number, order));
        drop(state);
        self.arrived.notify_one();
        Ok(receiver)
    }
}
