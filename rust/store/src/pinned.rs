//! Entries that the cache has evicted while clients still read them: bodies whose memory is not free yet.

use std::sync::Arc;

use parking_lot::Mutex;

use super::evictable::Evictable;

/// Smaller entries are not tracked: a connection may hold as much anyway.
const LEAST: u64 = 64 << 10;

/// Evicted entries of 64 KiB or more that clients still read: memory that the store does not count any more.
#[derive(Debug)]
pub struct Pinned<E> {
    entries: Mutex<Vec<Arc<E>>>,
}

impl<E> Default for Pinned<E> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<E: Evictable> Pinned<E> {
    /// Notes evicted entries.
    pub fn add(&self, gone: &[Arc<E>]) {
        let read = |entry: &&Arc<E>| entry.size() >= LEAST && entry.read_bytes() > 0;
        let mut read = gone.iter().filter(read).peekable();
        if read.peek().is_some() {
            self.entries.lock().extend(read.cloned());
        }
    }

    /// Forgets entries without readers; returns the bytes of the rest.
    pub fn bytes(&self) -> u64 {
        let mut bytes = 0;
        self.entries.lock().retain(|entry| {
            let read = entry.read_bytes();
            bytes += read;
            read > 0
        });
        bytes
    }
}
