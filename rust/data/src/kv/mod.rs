//! Key-value stores: the operations, and the engine that does them, in memory, in a SQLite file, on a Redis server or
//! in a table of DynamoDB.
//!
//! A call is checked here, is answered from the read cache where its staleness allows it, and goes to its engine
//! otherwise. Engines know no callers: each answers through the `Answer` that comes with a call.

mod cached;
pub(crate) mod call;
mod dynamodb;
mod memory;
mod redis;
mod sqlite;

use std::sync::Arc;

use edgerouter_core::plan::{
    binding::{Binding, DataAddress},
    limits::DataLimits,
};

use crate::{answer::Answer, clock::WallClock, redis_link, remote::RemoteThread};
use cached::ReadCache;
use call::{KvCall, KvReply, KvResult};

/// `Err`: why the address cannot be used.
pub(crate) fn check(address: &DataAddress) -> Result<(), String> {
    match address {
        DataAddress::Memory | DataAddress::Sqlite(_) => Ok(()),
        DataAddress::Redis(url) => redis_link::client(url).map(drop),
        // Their addresses were read with the plan.
        DataAddress::Dynamo(_) | DataAddress::Server(_) | DataAddress::LibSql(_) => Ok(()),
    }
}

#[derive(Debug)]
enum KvEngine {
    Memory(memory::MemoryStore),
    Sqlite(sqlite::SqliteStore),
    Redis(redis::RedisStore),
    Dynamo(dynamodb::DynamoStore),
}

/// A key-value store.
#[derive(Debug)]
pub(crate) struct KeyValues {
    engine: KvEngine,
    cache: Option<Arc<ReadCache>>,
    limits: DataLimits,
}

impl KeyValues {
    pub(crate) fn open(
        binding: &Binding,
        limits: &DataLimits,
        clock: &Arc<WallClock>,
        remote: &RemoteThread,
    ) -> Result<Self, String> {
        let engine = match &binding.address {
            DataAddress::Memory => {
                KvEngine::Memory(memory::MemoryStore::new(limits, Arc::clone(clock)))
            }
            DataAddress::Sqlite(path) => KvEngine::Sqlite(sqlite::SqliteStore::new(
                path,
                &binding.name,
                limits,
                Arc::clone(clock),
            )),
            DataAddress::Redis(url) => KvEngine::Redis(redis::RedisStore::new(
                url,
                limits,
                remote,
                Arc::clone(clock),
            )?),
            DataAddress::Dynamo(table) => KvEngine::Dynamo(dynamodb::DynamoStore::new(
                table,
                &binding.name,
                limits,
                remote,
                Arc::clone(clock),
            )?),
            DataAddress::Server(_) | DataAddress::LibSql(_) => {
                return Err(
                    "must be memory:, sqlite:FILE, redis://, rediss:// or dynamodb://".to_owned(),
                );
            }
        };
        let cached =
            !binding.staleness.is_zero() && !matches!(binding.address, DataAddress::Memory);
        let cache = cached.then(|| Arc::new(ReadCache::new(binding.staleness, limits.cache_bytes)));
        Ok(Self {
            engine,
            cache,
            limits: limits.clone(),
        })
    }

    /// True if every call is answered at once.
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self.engine, KvEngine::Memory(_))
    }

    /// The result of a call that needs no wait.
    pub(crate) fn at_once(&self, call: &KvCall) -> Option<KvResult> {
        if let Err(error) = call.check(&self.limits) {
            return Some(Err(error));
        }
        if let KvEngine::Memory(store) = &self.engine {
            return Some(store.call(call));
        }
        match (&self.cache, call) {
            (Some(cache), KvCall::Get { key, exact: false }) => {
                cache.find(key).map(|found| Ok(KvReply::Entry(found)))
            }
            _ => None,
        }
    }

    /// Has the engine do a call that [`Self::at_once`] did not do.
    pub(crate) fn begin(&self, call: KvCall, answer: Answer) {
        match &self.engine {
            KvEngine::Memory(store) => answer.send(store.call(&call).map(Into::into)),
            KvEngine::Sqlite(store) => store.begin(call, answer),
            KvEngine::Redis(store) => store.begin(call, answer),
            KvEngine::Dynamo(store) => store.begin(call, answer),
        }
    }

    /// Hits and misses of the read cache; `None`: there is none.
    pub(crate) fn cache_counts(&self) -> Option<(u64, u64)> {
        self.cache.as_ref().map(|cache| cache.counts())
    }

    /// The part of a call that the read cache learns from; called before it begins.
    pub(crate) fn learning(&self, call: &KvCall) -> Option<cached::Learning> {
        let cache = self.cache.as_ref()?;
        match call {
            KvCall::Get { key, .. } => Some(ReadCache::reading(cache, key)),
            call => call.changes().map(|key| ReadCache::changing(cache, key)),
        }
    }

    pub(crate) fn close(&self) {
        match &self.engine {
            KvEngine::Memory(_) => {}
            KvEngine::Sqlite(store) => store.close(),
            KvEngine::Redis(store) => store.close(),
            KvEngine::Dynamo(store) => store.close(),
        }
    }
}
