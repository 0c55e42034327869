//! An entry that is charged for a body that it does not have, so that a prediction for gigabytes takes megabytes.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use edgerouter_core::cache::levels::{Level, Variants};
use edgerouter_store::{Entry, Evictable};

/// A stored entry in one predicted tier. Tiers that stored the same response share the entry itself; each counts its
/// own uses of it.
#[derive(Debug)]
pub(crate) struct Weighed {
    pub entry: Arc<Entry>,
    /// Bytes of the body that it stands for.
    pub length: u64,
    size: u64,
    uses: AtomicU8,
}

impl Weighed {
    pub(crate) fn new(entry: Arc<Entry>, length: u64) -> Self {
        let sliced = entry.slices().is_some();
        let size = entry.size_with(if sliced { 0 } else { length });
        Self {
            entry,
            length,
            size,
            uses: AtomicU8::new(0),
        }
    }
}

impl Evictable for Weighed {
    fn key(&self) -> &[u8] {
        self.entry.key()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_bytes(&self) -> u64 {
        0
    }

    fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed);
    }

    fn touch(&self) {
        let uses = self.uses();
        if uses < Entry::MOST_USES {
            self.set_uses(uses + 1);
        }
    }
}

impl Level for Weighed {
    fn variants(&self) -> Option<&Variants> {
        self.entry.variants()
    }
}
