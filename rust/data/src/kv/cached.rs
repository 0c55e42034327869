//! The read cache before a store outside this process: entries, and the absence of entries, for a stated time.
//!
//! A change made through this edge is seen at once. The number of changes distinguishes a read that began before one,
//! whose result would be older than the change, from one that began after it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::call::{Entry, KvReply};

/// Bytes that an entry takes beside its key and value.
const OVERHEAD: usize = 160;

/// Entries that were read a short while ago.
#[derive(Debug)]
pub(crate) struct ReadCache {
    staleness: Duration,
    most_bytes: usize,
    held: Mutex<Held>,
    /// Begins and ends of changes.
    changes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<Arc<str>, Cached>,
    /// In the order in which they were read. A key that was read again is in it twice.
    order: VecDeque<(Arc<str>, Instant)>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    entry: Option<Entry>,
    read: Instant,
    bytes: usize,
}

impl Held {
    fn remove(&mut self, key: &str) {
        if let Some(cached) = self.entries.remove(key) {
            self.bytes = self.bytes.saturating_sub(cached.bytes);
        }
    }
}

/// The part of a call that concerns the cache, from its begin to its end.
#[derive(Debug)]
pub(crate) enum Learning {
    Reading(Arc<ReadCache>, Arc<str>, u64, Instant),
    Changing(Arc<ReadCache>, Arc<str>),
}

impl Learning {
    /// Takes the result of the call; `None`: it failed.
    pub(crate) fn learn(self, reply: Option<&KvReply>) {
        match self {
            Self::Reading(cache, key, changes, began) => {
                if let Some(KvReply::Entry(entry)) = reply {
                    cache.keep(key, entry.as_ref(), changes, began);
                }
            }
            // It may have taken effect even if it failed.
            Self::Changing(cache, key) => cache.forget(&key),
        }
    }
}

impl ReadCache {
    pub(crate) fn new(staleness: Duration, most_bytes: usize) -> Self {
        Self {
            staleness,
            most_bytes,
            held: Mutex::default(),
            changes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// `Some(None)`: it is known that there is none.
    pub(crate) fn find(&self, key: &str) -> Option<Option<Entry>> {
        let now = Instant::now();
        let held = self.held.lock();
        let found = held
            .entries
            .get(key)
            .filter(|cached| now.saturating_duration_since(cached.read) <= self.staleness);
        let found = found.map(|cached| cached.entry.clone());
        drop(held);
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn reading(cache: &Arc<Self>, key: &str) -> Learning {
        let changes = cache.changes.load(Ordering::Acquire);
        Learning::Reading(Arc::clone(cache), key.into(), changes, Instant::now())
    }

    pub(crate) fn changing(cache: &Arc<Self>, key: &str) -> Learning {
        cache.forget(key);
        Learning::Changing(Arc::clone(cache), key.into())
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    fn forget(&self, key: &str) {
        let mut held = self.held.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        held.remove(key);
    }

    fn keep(&self, key: Arc<str>, entry: Option<&Entry>, changes: u64, began: Instant) {
        let size = entry.map_or(0, |entry| {
            entry.value.len() + entry.metadata.as_ref().map_or(0, |it| it.len())
        });
        let bytes = OVERHEAD + 2 * key.len() + size;
        let mut held = self.held.lock();
        if self.changes.load(Ordering::Acquire) != changes {
            return;
        }
        held.remove(&key);
        if bytes > self.most_bytes / 4 {
            return;
        }
        held.bytes += bytes;
        let cached = Cached {
            entry: entry.cloned(),
            read: began,
            bytes,
        };
        held.entries.insert(Arc::clone(&key), cached);
        held.order.push_back((key, began));
        while let Some((key, read)) = held.order.front().cloned() {
            let old = began.saturating_duration_since(read) > self.staleness;
            let known = held.entries.get(&key).is_some_and(|it| it.read == read);
            if known && !old && held.bytes <= self.most_bytes {
                break;
            }
            held.order.pop_front();
            if known {
                held.remove(&key);
            }
        }
        if held.order.len() > 4 * held.entries.len() + 64 {
            let Held { entries, order, .. } = &mut *held;
            order.retain(|(key, read)| entries.get(key).is_some_and(|it| it.read == *read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> KvReply {
        KvReply::Entry(Some(Entry {
            value: vec![0; bytes].into(),
            metadata: None,
            version: "".into(),
            expires: None,
        }))
    }

    #[test]
    fn an_entry_that_was_read_before_a_change_is_not_kept() {
        let cache = Arc::new(ReadCache::new(Duration::from_secs(60), 1 << 20));
        let reading = ReadCache::reading(&cache, "k");
        let changing = ReadCache::changing(&cache, "k");
        reading.learn(Some(&entry(1)));
        assert!(cache.find("k").is_none());
        let reading = ReadCache::reading(&cache, "k");
        changing.learn(Some(&KvReply::Done(true)));
        reading.learn(Some(&entry(1)));
        assert!(cache.find("k").is_none());
        ReadCache::reading(&cache, "k").learn(Some(&entry(1)));
        assert!(cache.find("k").is_some());
        ReadCache::changing(&cache, "k").learn(None);
        assert!(cache.find("k").is_none());
    }

    #[test]
    fn the_absence_of_an_entry_is_kept_too() {
        let cache = Arc::new(ReadCache::new(Duration::from_secs(60), 1 << 20));
        ReadCache::reading(&cache, "k").learn(Some(&KvReply::Entry(None)));
        assert_eq!(cache.find("k"), Some(None));
        assert_eq!(cache.counts(), (1, 0));
    }

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let cache = Arc::new(ReadCache::new(Duration::from_secs(60), 10_000));
        for at in 0..100 {
            ReadCache::reading(&cache, &format!("k{at}")).learn(Some(&entry(500)));
            assert!(cache.held.lock().bytes <= 10_000);
        }
        assert!(cache.find("k99").is_some() && cache.find("k0").is_none());
        ReadCache::reading(&cache, "large").learn(Some(&entry(9_000)));
        assert!(cache.find("large").is_none());
    }
}
