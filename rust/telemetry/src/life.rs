//! The state of an engine, and the end of its threads.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Waits for the end of a thread, at most until `deadline`. False: it goes on, as a disk, a file server or a callable
/// holds it, and is abandoned. The end of the process ends it.
pub fn joined(thread: JoinHandle<()>, deadline: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = thread.join();
    true
}

/// The state of the engine, published to all of its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Accepts connections and requests.
    Serving,
    /// Accepts no more connections; requests under way are finished.
    Draining,
    /// Everything stops, at once.
    Ended,
}
