//! What a worker knows of connections that may have to give way (`listen::tight` ends them).

use std::{collections::VecDeque, sync::atomic::AtomicBool, time::Instant};

use tokio::sync::Notify;

/// The connections that give way next, by what one look at all of them found.
#[derive(Debug, Default)]
pub(crate) struct Idlest {
    /// Seat, and since when it was idle.
    pub(crate) found: VecDeque<(usize, u64)>,
    /// When an error was logged last.
    pub(crate) said: Option<Instant>,
}

/// What other workers want of one.
#[derive(Debug, Default)]
pub struct Tight {
    /// Whatever the count of connections says: descriptors have run out.
    pub(crate) descriptors: AtomicBool,
    pub(crate) told: Notify,
}
