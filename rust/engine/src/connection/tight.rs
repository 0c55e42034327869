//! A worker's view of connections that may have to give way (`listen::tight` ends them).

use std::{collections::VecDeque, sync::atomic::AtomicBool, time::Instant};

use tokio::sync::Notify;

/// The connections that give way next, as found by one look at all of them.
#[derive(Debug, Default)]
pub struct Idlest {
    /// Position in the worker's connections, and the time since which it was idle.
    pub(crate) found: VecDeque<(usize, u64)>,
    /// Time of the last log line.
    pub(crate) logged: Option<Instant>,
}

/// Demand of other workers that a connection of this one ends.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Descriptors have run out, whatever the count of connections is.
    pub(crate) descriptors: AtomicBool,
    pub(crate) changed: Notify,
}
