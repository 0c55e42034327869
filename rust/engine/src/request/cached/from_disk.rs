//! Phase 9 when memory has no answer and the disk may: read, then decide exactly as for a hit in memory.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::plan::Route;
use smallvec::SmallVec;

use super::{Found, OnDisk, look_up::look_up_with};
use crate::{request::Exchange, store::Entry};

/// What has been read from disk for one request: by key, what was found. A request takes it from here when memory has
/// no room for it or has let it go already.
#[derive(Default)]
pub(super) struct Loaded(SmallVec<[(Box<[u8]>, Option<Arc<Entry>>); 2]>);

/// The entries that lead to a response, the response and its first slice. What a request would read beyond that is being
/// replaced as fast as it is read, and counts as missing.
const MOST_READS: usize = 4;

impl Loaded {
    /// `Some(None)` when the disk was asked in vain, or has been asked enough.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Arc<Entry>>> {
        match self.0.iter().find(|(known, _)| **known == *key) {
            Some((_, entry)) => Some(entry.clone()),
            None => (self.0.len() >= MOST_READS).then_some(None),
        }
    }
}

/// Reads what the look-up lacks, and looks up again, until it needs nothing more from disk.
pub(super) async fn from_disk(x: &mut Exchange, route: &Route, first: Box<OnDisk>) -> Found {
    let worker = Rc::clone(&x.worker);
    let mut loaded = Loaded::default();
    let mut wanted = first;
    loop {
        let OnDisk { key, location } = *wanted;
        let entry = worker.shared.store.load(location, &key).await;
        loaded.0.push((key, entry));
        x.now = worker.clock.unix_now();
        match look_up_with(x, route, &loaded) {
            Ok(found) => return found,
            Err(next) => wanted = next,
        }
    }
}
