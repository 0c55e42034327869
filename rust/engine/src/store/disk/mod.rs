//! The disk tier.

use std::sync::Arc;

use super::entry::Entry;

#[derive(Debug)]
pub struct Disk {
    _private: (),
}

/// Where the disk has an entry.
#[derive(Debug, Clone)]
pub struct Location {
    _private: (),
}

impl Disk {
    pub(super) fn find(&self, _key: &[u8]) -> Option<Location> {
        None
    }

    pub(super) async fn load(
        &self,
        _location: Location,
        _key: &[u8],
        _promote: impl Fn(Arc<Entry>) -> bool,
    ) -> Option<Arc<Entry>> {
        None
    }

    pub(super) fn insert(&self, _entry: &Arc<Entry>) {}

    pub(super) fn remove(&self, _key: &[u8]) -> bool {
        false
    }
}
