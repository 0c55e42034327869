//! Phase 9 when memory has no answer and the disk may: entries that have been read from disk for one request.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::store::{Entry, Location, Store};

/// An entry that memory lacks and the disk has.
pub(super) struct OnDisk {
    key: Box<[u8]>,
    location: Location,
}

/// By key, the entries that have been read from disk for one request. A request takes them from here when memory has no
/// room for them or has evicted them already.
#[derive(Default)]
pub(super) struct Loaded(SmallVec<[(Box<[u8]>, Option<Arc<Entry>>); 2]>);

/// The entries that lead to a response, the response and its first slice. Entries beyond that are replaced as
/// fast as they are read, and count as missing.
const MOST_READS: usize = 4;

impl Loaded {
    /// The entry under `key`; `Err` when it must be read from disk first.
    pub(super) fn find(
        &self,
        store: &Store,
        key: &[u8],
    ) -> Result<Option<Arc<Entry>>, Box<OnDisk>> {
        if let Some(entry) = store.get(key) {
            return Ok(Some(entry));
        }
        if let Some((_, entry)) = self.0.iter().find(|(known, _)| **known == *key) {
            return Ok(entry.clone());
        }
        match store.find(key) {
            Some(location) if self.0.len() < MOST_READS => Err(Box::new(OnDisk {
                key: key.into(),
                location,
            })),
            _ => Ok(None),
        }
    }

    pub(super) async fn load(&mut self, store: &Store, on_disk: OnDisk) {
        let OnDisk { key, location } = on_disk;
        let entry = store.load(location, &key).await;
        self.0.push((key, entry));
    }
}
