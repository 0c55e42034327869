//! What the cache has let go while clients still read it: bodies whose memory is not free yet.

use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::Entry;

/// Entries below this are not worth remembering: a connection may hold as much anyway.
const LEAST: u64 = 64 << 10;

#[derive(Debug, Default)]
pub struct Pinned {
    entries: Mutex<Vec<Arc<Entry>>>,
}

impl Pinned {
    /// These have been evicted.
    pub fn add(&self, gone: &[Arc<Entry>]) {
        let read = |entry: &&Arc<Entry>| entry.size() >= LEAST && entry.read_bytes() > 0;
        let mut read = gone.iter().filter(read).peekable();
        if read.peek().is_some() {
            self.entries.lock().extend(read.cloned());
        }
    }

    /// Forgets what nobody reads any more; the bytes of the rest.
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
