//! A store in the memory of this process: lost at its end, and not shared with any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use edgerouter_core::plan::limits::DataLimits;
use parking_lot::Mutex;

use super::call::{Entry, KvCall, KvReply, KvResult, PutCondition, added, after, page};
use crate::{
    clock::{WallClock, millis},
    error::DataError,
};

/// Bytes that an entry takes beside its key, value and metadata.
const OVERHEAD: usize = 256;

/// A store in memory.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    most_bytes: usize,
    most_entries: usize,
    clock: Arc<WallClock>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    entries: BTreeMap<Arc<str>, Entry>,
    expiring: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
    versions: u64,
}

fn weight(key: &str, entry: &Entry) -> usize {
    let metadata = entry.metadata.as_ref().map_or(0, |it| it.len());
    OVERHEAD + key.len() + entry.value.len() + metadata
}

impl Held {
    fn remove(&mut self, key: &str) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(weight(&key, &entry));
        if let Some(at) = entry.expires {
            self.expiring.remove(&(at, key));
        }
        true
    }

    fn expire(&mut self, now: u64) {
        while let Some((at, key)) = self.expiring.first().cloned() {
            if at > now {
                return;
            }
            self.remove(&key);
        }
    }

    fn insert(&mut self, key: &str, mut entry: Entry) {
        self.remove(key);
        self.versions += 1;
        entry.version = self.versions.to_string().into();
        let key: Arc<str> = key.into();
        self.bytes += weight(&key, &entry);
        if let Some(at) = entry.expires {
            self.expiring.insert((at, Arc::clone(&key)));
        }
        self.entries.insert(key, entry);
    }
}

impl MemoryStore {
    pub(crate) fn new(limits: &DataLimits, clock: Arc<WallClock>) -> Self {
        Self {
            most_bytes: limits.store_bytes,
            most_entries: limits.store_entries,
            clock,
            held: Mutex::default(),
        }
    }

    pub(crate) fn call(&self, call: &KvCall) -> KvResult {
        let now = self.clock.millis();
        let mut held = self.held.lock();
        held.expire(now);
        match call {
            KvCall::Get { key, .. } => Ok(KvReply::Entry(held.entries.get(&**key).cloned())),
            KvCall::Put {
                key,
                value,
                metadata,
                ttl,
                condition,
            } => {
                let known = held.entries.get(&**key);
                let holds = match condition {
                    PutCondition::Always => true,
                    PutCondition::Absent => known.is_none(),
                    PutCondition::Version(version) => {
                        known.is_some_and(|entry| *entry.version == **version)
                    }
                };
                if !holds {
                    return Ok(KvReply::Done(false));
                }
                let entry = Entry {
                    value: value.clone(),
                    metadata: metadata.as_deref().map(Into::into),
                    version: Arc::default(),
                    expires: ttl.map(|ttl| now.saturating_add(millis(ttl))),
                };
                self.store(&mut held, key, entry)?;
                Ok(KvReply::Done(true))
            }
            KvCall::Delete { key } => Ok(KvReply::Done(held.remove(key))),
            KvCall::Add { key, by, ttl } => {
                let known = held.entries.get(&**key);
                let number = match known {
                    Some(entry) => added(&entry.value, *by)?,
                    None => *by,
                };
                let entry = Entry {
                    value: number.to_string().into(),
                    metadata: known.and_then(|entry| entry.metadata.clone()),
                    version: Arc::default(),
                    expires: match known {
                        Some(entry) => entry.expires,
                        None => ttl.map(|ttl| now.saturating_add(millis(ttl))),
                    },
                };
                self.store(&mut held, key, entry)?;
                Ok(KvReply::Number(number))
            }
            KvCall::List {
                prefix,
                cursor,
                limit,
            } => {
                let after = after(cursor.as_deref())?;
                let from: Bound<&str> = match &after {
                    Some(after) if **after >= **prefix => Bound::Excluded(after),
                    _ => Bound::Included(prefix),
                };
                let keys = held.entries.range::<str, _>((from, Bound::Unbounded));
                let keys = keys
                    .map(|(key, _)| key)
                    .take_while(|key| key.starts_with(&**prefix));
                let keys = keys.take(limit + 1).map(|key| key.to_string()).collect();
                Ok(KvReply::Page(page(keys, *limit)))
            }
            KvCall::Ping => Ok(KvReply::Reached),
        }
    }

    fn store(&self, held: &mut Held, key: &str, entry: Entry) -> Result<(), DataError> {
        let known = held.entries.get(key);
        let freed = known.map_or(0, |known| weight(key, known));
        if known.is_none() && held.entries.len() >= self.most_entries {
            return Err(DataError::Full(
                "there are as many entries as limits.data.store_entries allows; delete some, give entries a ttl, or raise it",
            ));
        }
        if held.bytes - freed.min(held.bytes) + weight(key, &entry) > self.most_bytes {
            return Err(DataError::Full(
                "its entries take as many bytes as limits.data.store_bytes allows; delete some, give entries a ttl, or raise it",
            ));
        }
        held.insert(key, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn put(key: &str, bytes: usize, ttl: Option<u64>) -> KvCall {
        KvCall::Put {
            key: key.into(),
            value: vec![b'1'; bytes].into(),
            metadata: None,
            ttl: ttl.map(Duration::from_secs),
            condition: PutCondition::Always,
        }
    }

    #[test]
    fn a_full_store_refuses_a_new_entry_until_there_is_room() {
        let limits = DataLimits {
            store_bytes: 10_000,
            store_entries: 3,
            ..DataLimits::default()
        };
        let clock = Arc::new(WallClock::default());
        let store = MemoryStore::new(&limits, Arc::clone(&clock));
        assert!(store.call(&put("a", 9_000, Some(60))).is_ok());
        assert!(matches!(
            store.call(&put("b", 1_000, None)),
            Err(DataError::Full(_))
        ));
        assert!(
            store.call(&put("a", 9_100, Some(60))).is_ok(),
            "it takes its own place"
        );
        clock.shift(61);
        for key in ["b", "c", "d"] {
            assert!(store.call(&put(key, 1_000, None)).is_ok());
        }
        assert!(matches!(
            store.call(&put("e", 1, None)),
            Err(DataError::Full(_))
        ));
        let deleted = KvCall::Delete { key: "b".into() };
        assert_eq!(store.call(&deleted), Ok(KvReply::Done(true)));
        assert!(store.call(&put("e", 1, None)).is_ok());
        let held = store.held.lock();
        let weighed: usize = held
            .entries
            .iter()
            .map(|(key, entry)| weight(key, entry))
            .sum();
        assert_eq!((held.bytes, held.expiring.len()), (weighed, 0));
    }
}
