//! Arrival times by key, for rate limits: a table of fixed size that never allocates after its start.
//!
//! A key has eight places in one shard. Times that have passed say nothing, so their places are free; where all eight
//! are taken by keys that are limited now, the one that is nearest to its full quota is forgotten and counted. A worker
//! holds the lock of a shard for eight comparisons.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use edgerouter_core::guard::rate::{RateDecision, RateKey, RateLimit};
use edgerouter_telemetry::text;
use parking_lot::Mutex;

/// The counts of all rate limits, and the requests that wait for their turn.
#[derive(Debug, Default)]
pub struct Rates {
    /// Made when the first request meets a limit.
    table: OnceLock<RateTable>,
    hasher: RandomState,
    waiting: AtomicUsize,
}

/// A request that waits for its turn, counted until this is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Rates>);

impl Rates {
    /// Counts a request. `now`: nanoseconds since the Unix epoch. `keys`: the size of the table when it is made.
    pub fn decide(
        &self,
        limit: &RateLimit,
        key: RateKey<'_>,
        now: u64,
        keys: usize,
    ) -> RateDecision {
        let table = self.table.get_or_init(|| RateTable::new(keys));
        let key = self.hasher.hash_one((&*limit.name, key));
        let decision = table.update(key, now, |arrival| limit.decide(arrival, now));
        RateDecision {
            counted: key,
            ..decision
        }
    }

    /// Takes back a request that passed, and gives the decision without it.
    pub fn give_back(&self, limit: &RateLimit, passed: RateDecision, now: u64) -> RateDecision {
        let Some(table) = self.table.get() else {
            return passed;
        };
        table.update(passed.counted, now, |arrival| {
            limit.take_back(passed, arrival, now)
        })
    }

    /// One more request waits, unless `most` do already.
    pub fn wait(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let counted = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < most).then_some(waiting + 1)
            });
        counted.ok().map(|_| Waiting(Arc::clone(self)))
    }

    /// Writes the figures as metrics.
    pub fn render(&self, out: &mut String) {
        let (waiting, forgotten) = (
            self.waiting.load(Ordering::Relaxed) as u64,
            self.forgotten(),
        );
        for (name, help, value) in [
            (
                "edgerouter_rate_limit_waiting",
                "Requests that wait for their turn under a rate limit, or for keys of an issuer.",
                waiting,
            ),
            (
                "edgerouter_rate_limit_keys_forgotten_total",
                "Keys of rate limits that were forgotten while they were limited, because others needed the room.",
                forgotten,
            ),
        ] {
            text::one(out, name, help, value);
        }
    }

    /// Keys that were forgotten while they were limited.
    pub fn forgotten(&self) -> u64 {
        self.table.get().map_or(0, RateTable::forgotten)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

const SHARDS: usize = 64;
const WAYS: usize = 8;

/// A key and its arrival time; 0: the place is empty.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    arrival: u64,
}

type Bucket = [Slot; WAYS];

/// Arrival times of the keys that are limited now.
#[derive(Debug)]
pub struct RateTable {
    shards: Box<[Mutex<Box<[Bucket]>>]>,
    forgotten: AtomicU64,
}

impl RateTable {
    /// With room for about so many keys, 16 bytes each.
    pub fn new(keys: usize) -> Self {
        let buckets = keys.div_ceil(SHARDS * WAYS).max(1);
        let shard = || Mutex::new(vec![Bucket::default(); buckets].into_boxed_slice());
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Gives the arrival time of a key (0: none) to `decide`, and keeps the one that it gives back. `key` is a hash
    /// that clients cannot choose.
    pub fn update<R>(&self, key: u64, now: u64, decide: impl FnOnce(u64) -> (R, Option<u64>)) -> R {
        let place = key as usize;
        let Some(shard) = self.shards.get(place % SHARDS) else {
            return decide(0).0;
        };
        let mut buckets = shard.lock();
        let number = (place / SHARDS) % buckets.len().max(1);
        let Some(bucket) = buckets.get_mut(number) else {
            return decide(0).0;
        };
        if let Some(slot) = bucket.iter_mut().find(|slot| slot.key == key) {
            let (result, kept) = decide(slot.arrival);
            slot.arrival = kept.unwrap_or(slot.arrival);
            return result;
        }
        let (result, kept) = decide(0);
        if let Some(arrival) = kept
            && let Some(slot) = bucket.iter_mut().min_by_key(|slot| slot.arrival)
        {
            if slot.arrival > now {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            *slot = Slot { key, arrival };
        }
        result
    }

    /// Keys that were forgotten while they were limited.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves the arrival time of a key by one from now.
    fn count(table: &RateTable, key: u64, now: u64) -> u64 {
        table.update(key, now, |arrival| {
            let next = arrival.max(now) + 1;
            (next, Some(next))
        })
    }

    #[test]
    fn each_key_has_its_own_time_as_long_as_it_matters() {
        let table = RateTable::new(1_024);
        assert_eq!(
            (
                count(&table, 7, 100),
                count(&table, 7, 100),
                count(&table, 8, 100)
            ),
            (101, 102, 101)
        );
        assert_eq!(count(&table, 7, 200), 201);
        let looked = table.update(7, 200, |arrival| (arrival, None));
        assert_eq!((looked, table.forgotten()), (201, 0));
    }

    #[test]
    fn a_full_bucket_forgets_the_key_that_is_nearest_to_its_quota() {
        let table = RateTable::new(1);
        let keys: Vec<u64> = (0..=WAYS as u64)
            .map(|at| (at + 1) * SHARDS as u64)
            .collect();
        for (at, key) in keys.iter().take(WAYS).enumerate() {
            table.update(*key, 100, |_| ((), Some(110 + at as u64)));
        }
        assert_eq!(table.forgotten(), 0);
        table.update(keys[WAYS], 100, |_| ((), Some(120)));
        let time = |key: u64| table.update(key, 100, |arrival| (arrival, None));
        assert_eq!(
            (time(keys[0]), time(keys[1]), time(keys[WAYS])),
            (0, 111, 120)
        );
        assert_eq!(table.forgotten(), 1);
        // Times that have passed make room without anything being forgotten.
        table.update(keys[0], 200, |_| ((), Some(210)));
        assert_eq!(table.forgotten(), 1);
    }

    #[test]
    fn only_so_many_requests_wait_at_a_time() {
        let rates = Arc::new(Rates::default());
        let first = rates.wait(2);
        let second = rates.wait(2);
        assert!(first.is_some() && second.is_some() && rates.wait(2).is_none());
        drop(first);
        assert!(rates.wait(2).is_some());
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let table = RateTable::new(1_024);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        count(&table, 7, 1);
                    }
                });
            }
        });
        assert_eq!(table.update(7, 1, |arrival| (arrival, None)), 4_001);
    }
}
