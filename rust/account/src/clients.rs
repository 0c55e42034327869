//! Counts something per client. Sharded, because every worker counts.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use edgerouter_core::bounds::clients::Client;
use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::Mutex;

const SHARDS: usize = 16;

/// Counts by client; a client without any has no entry.
#[derive(Debug)]
pub struct PerClientCounts {
    shards: Box<[Mutex<HashMap<Client, usize>>]>,
    hasher: RandomState,
}

/// One of a client's, counted until this is dropped.
#[derive(Debug)]
pub struct UnderWay {
    counts: Arc<PerClientCounts>,
    client: Client,
}

impl PerClientCounts {
    /// Counts that are all 0.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Counts one more for `client`, unless it has `most` already.
    pub fn enter(self: &Arc<Self>, client: Client, most: usize) -> Option<UnderWay> {
        let mut counts = self.shard(&client)?.lock();
        let count = counts.entry(client).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(UnderWay {
            counts: Arc::clone(self),
            client,
        })
    }

    fn shard(&self, client: &Client) -> Option<&Mutex<HashMap<Client, usize>>> {
        self.shards
            .get(self.hasher.hash_one(client) as usize % SHARDS)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(shard) = self.counts.shard(&self.client)
            && let Entry::Occupied(mut count) = shard.lock().entry(self.client)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_client_has_its_own_bound_and_leaves_nothing_behind() {
        let counts = PerClientCounts::new();
        let (one, other) = (Client::V4(1), Client::V6(1));
        let first = counts.enter(one, 2).unwrap();
        let second = counts.enter(one, 2).unwrap();
        assert!(counts.enter(one, 2).is_none());
        assert!(counts.enter(other, 2).is_some());
        drop(first);
        assert!(counts.enter(one, 2).is_some());
        drop(second);
        assert!(counts.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
