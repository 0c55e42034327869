//! A store in a SQLite file, which other edges on this machine may have open as well.

use std::sync::Arc;

use edgerouter_core::plan::limits::DataLimits;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::call::{Entry, KvCall, KvReply, PutCondition, added, after, page};
use crate::{
    answer::Answer,
    clock::{WallClock, millis},
    error::DataError,
    sqlite::{Access, Durability, SqliteFile},
};

/// Bindings of several names may share one file.
const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS edgerouter_kv (
    binding TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, metadata TEXT, expires INTEGER, version INTEGER NOT NULL,
    UNIQUE (binding, key)
);
CREATE INDEX IF NOT EXISTS edgerouter_kv_expires ON edgerouter_kv (expires) WHERE expires IS NOT NULL;";

const GET: &str = "\
SELECT value, metadata, expires, version FROM edgerouter_kv
WHERE binding = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)";
const PUT: &str = "\
INSERT INTO edgerouter_kv (binding, key, value, metadata, expires, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (binding, key) DO UPDATE SET
value = excluded.value, metadata = excluded.metadata, expires = excluded.expires, version = excluded.version";
const PUT_ABSENT: &str = "\
INSERT INTO edgerouter_kv (binding, key, value, metadata, expires, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (binding, key) DO UPDATE SET
value = excluded.value, metadata = excluded.metadata, expires = excluded.expires, version = excluded.version
WHERE expires <= ?7";
const PUT_VERSION: &str = "\
UPDATE edgerouter_kv SET value = ?3, metadata = ?4, expires = ?5, version = ?6
WHERE binding = ?1 AND key = ?2 AND version = ?8 AND (expires IS NULL OR expires > ?7)";
const DELETE: &str = "\
DELETE FROM edgerouter_kv WHERE binding = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)";
const LIST: &str = "\
SELECT key FROM edgerouter_kv
WHERE binding = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) AND (expires IS NULL OR expires > ?4)
ORDER BY key LIMIT ?5";
const SWEEP: &str = "\
DELETE FROM edgerouter_kv WHERE rowid IN (SELECT rowid FROM edgerouter_kv WHERE expires <= ?1 LIMIT 256)";

/// One write in so many, on average, removes expired entries, too.
const SWEEP_AFTER: u8 = 64;

fn set_up(connection: &Connection, first: bool) -> rusqlite::Result<()> {
    if first {
        connection.execute_batch(SCHEMA)?;
    }
    Ok(())
}

/// A store in a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    file: Arc<SqliteFile>,
    binding: Arc<str>,
    clock: Arc<WallClock>,
}

impl SqliteStore {
    pub(crate) fn new(
        path: &str,
        binding: &Arc<str>,
        limits: &DataLimits,
        clock: Arc<WallClock>,
    ) -> Self {
        Self {
            file: SqliteFile::new(path, Durability::Normal, set_up, limits),
            binding: Arc::clone(binding),
            clock,
        }
    }

    pub(crate) fn begin(&self, call: KvCall, answer: Answer) {
        let access = match call.changes() {
            Some(_) => Access::Write,
            None => Access::Read,
        };
        let (file, binding) = (Arc::clone(&self.file), Arc::clone(&self.binding));
        let clock = Arc::clone(&self.clock);
        self.file.begin(access, answer, move |connection| {
            let done = done(connection, &binding, &call, clock.millis());
            done.map(Into::into).map_err(|error| match error {
                StoreError::Sqlite(error) => file.failure(&error),
                StoreError::Data(error) => error,
            })
        });
    }

    pub(crate) fn close(&self) {
        self.file.close();
    }
}

enum StoreError {
    Sqlite(rusqlite::Error),
    Data(DataError),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<DataError> for StoreError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

type StoreResult = Result<KvReply, StoreError>;

/// A time, as SQLite has numbers.
fn integer(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// Twice the same for one key is as good as impossible.
fn new_version() -> i64 {
    i64::try_from(fastrand::u64(1..=i64::MAX as u64)).unwrap_or(1)
}

fn find(
    connection: &Connection,
    binding: &str,
    key: &str,
    now: u64,
) -> rusqlite::Result<Option<Entry>> {
    let mut statement = connection.prepare_cached(GET)?;
    let found = statement.query_row(params![binding, key, integer(now)], |row| {
        Ok(Entry {
            value: row.get::<_, Vec<u8>>(0)?.into(),
            metadata: row.get::<_, Option<String>>(1)?.map(Into::into),
            expires: row
                .get::<_, Option<i64>>(2)?
                .and_then(|at| u64::try_from(at).ok()),
            version: row.get::<_, i64>(3)?.to_string().into(),
        })
    });
    found.optional()
}

fn done(connection: &mut Connection, binding: &str, call: &KvCall, now: u64) -> StoreResult {
    if call.changes().is_some() && fastrand::u8(..SWEEP_AFTER) == 0 {
        connection.prepare_cached(SWEEP)?.execute([integer(now)])?;
    }
    let expiry =
        |ttl: Option<std::time::Duration>| ttl.map(|ttl| integer(now.saturating_add(millis(ttl))));
    match call {
        KvCall::Get { key, .. } => Ok(KvReply::Entry(find(connection, binding, key, now)?)),
        KvCall::Put {
            key,
            value,
            metadata,
            ttl,
            condition,
        } => {
            let (value, metadata) = (&**value, metadata.as_deref());
            let (expires, version, now) = (expiry(*ttl), new_version(), integer(now));
            let changed = match condition {
                PutCondition::Always => connection
                    .prepare_cached(PUT)?
                    .execute(params![binding, key, value, metadata, expires, version])?,
                PutCondition::Absent => connection.prepare_cached(PUT_ABSENT)?.execute(params![
                    binding, key, value, metadata, expires, version, now
                ])?,
                PutCondition::Version(wanted) => {
                    let Ok(wanted) = wanted.parse::<i64>() else {
                        return Ok(KvReply::Done(false));
                    };
                    connection.prepare_cached(PUT_VERSION)?.execute(params![
                        binding, key, value, metadata, expires, version, now, wanted
                    ])?
                }
            };
            Ok(KvReply::Done(changed > 0))
        }
        KvCall::Delete { key } => {
            let mut statement = connection.prepare_cached(DELETE)?;
            let changed = statement.execute(params![binding, key, integer(now)])?;
            Ok(KvReply::Done(changed > 0))
        }
        KvCall::Add { key, by, ttl } => {
            let change = Transaction::new(connection, TransactionBehavior::Immediate)?;
            let known = find(&change, binding, key, now)?;
            let number = match &known {
                Some(entry) => added(&entry.value, *by)?,
                None => *by,
            };
            let (metadata, expires) = match &known {
                Some(entry) => (entry.metadata.as_deref(), entry.expires.map(integer)),
                None => (None, expiry(*ttl)),
            };
            let value = number.to_string().into_bytes();
            change.prepare_cached(PUT)?.execute(params![
                binding,
                key,
                value,
                metadata,
                expires,
                new_version()
            ])?;
            change.commit()?;
            Ok(KvReply::Number(number))
        }
        KvCall::List {
            prefix,
            cursor,
            limit,
        } => {
            let after = after(cursor.as_deref())?;
            let mut statement = connection.prepare_cached(LIST)?;
            let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
            // The index leads to the first key of the page, whatever number of keys comes before it.
            let from = after.as_deref().unwrap_or_default().max(&**prefix);
            let found = params![binding, from, after, integer(now), most];
            let mut keys = Vec::new();
            for key in statement.query_map(found, |row| row.get::<_, String>(0))? {
                let key = key?;
                if !key.starts_with(&**prefix) {
                    break;
                }
                keys.push(key);
            }
            Ok(KvReply::Page(page(keys, *limit)))
        }
        KvCall::Ping => {
            connection.query_row("SELECT 1", [], |_| Ok(()))?;
            Ok(KvReply::Reached)
        }
    }
}
