//! A store on a Redis server, or on one that speaks its protocol (Valkey).
//!
//! An entry without metadata is a plain string, so other programs read and write it with `GET` and `SET`; one with
//! metadata is a hash of `value` and `metadata`. Its version is the hash of both, which the server computes.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use edgerouter_core::{plan::limits::DataLimits, secret::Secret};
use redis::{RedisError, Script, aio::MultiplexedConnection};
use tokio::runtime::Handle;

use super::call::{Entry, KeyPage, KvCall, KvReply, KvResult, PutCondition, not_a_cursor};
use crate::{
    answer::Answer,
    clock::{WallClock, millis},
    error::DataError,
    redis_link::RedisLink,
    remote::RemoteThread,
};

/// Steps of `SCAN` for one page.
const STEPS: usize = 64;

/// `ARGV`: whether the version is wanted, and the most bytes of a value.
static GET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return false end
local most = tonumber(ARGV[2])
local value, metadata = nil, false
if kind == 'hash' then
  if redis.call('HSTRLEN', KEYS[1], 'value') > most then return redis.error_reply('TOOLONG') end
  value = redis.call('HGET', KEYS[1], 'value')
  metadata = redis.call('HGET', KEYS[1], 'metadata')
  if not value then return redis.error_reply('NOENTRY') end
elseif kind == 'string' then
  if redis.call('STRLEN', KEYS[1]) > most then return redis.error_reply('TOOLONG') end
  value = redis.call('GET', KEYS[1])
else
  return redis.error_reply('NOENTRY')
end
local version = ''
if ARGV[1] == '1' then version = redis.sha1hex(value .. '\0' .. (metadata or '')) end
return {value, metadata, redis.call('PTTL', KEYS[1]), version}",
    )
});

/// `ARGV`: value, metadata, time to live in milliseconds, condition, version. Empty ones are absent.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if ARGV[4] ~= 'always' then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if ARGV[4] == 'absent' then
    if kind ~= 'none' then return 0 end
  else
    local value, metadata = false, false
    if kind == 'hash' then
      value = redis.call('HGET', KEYS[1], 'value')
      metadata = redis.call('HGET', KEYS[1], 'metadata')
    elseif kind == 'string' then
      value = redis.call('GET', KEYS[1])
    end
    if not value or redis.sha1hex(value .. '\0' .. (metadata or '')) ~= ARGV[5] then return 0 end
  end
end
if ARGV[2] == '' then
  if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[1])
  else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) end
else
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'value', ARGV[1], 'metadata', ARGV[2])
  if ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
return 1",
    )
});

/// `ARGV`: the number that is added, and the time to live of a new counter. The new number is given as text: numbers of
/// Lua are exact up to 2^53 only.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  redis.call('HINCRBY', KEYS[1], 'value', ARGV[1])
  return redis.call('HGET', KEYS[1], 'value')
end
redis.call('INCRBY', KEYS[1], ARGV[1])
if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])",
    )
});

/// A store on a server.
#[derive(Debug)]
pub(crate) struct RedisStore {
    inner: Arc<Inner>,
    handle: Handle,
}

#[derive(Debug)]
struct Inner {
    link: RedisLink,
    value_bytes: usize,
    clock: Arc<WallClock>,
}

impl RedisStore {
    pub(crate) fn new(
        url: &Secret,
        limits: &DataLimits,
        remote: &RemoteThread,
        clock: Arc<WallClock>,
    ) -> Result<Self, String> {
        let inner = Inner {
            link: RedisLink::new(url, limits.timeout)?,
            value_bytes: limits.value_bytes,
            clock,
        };
        Ok(Self {
            inner: Arc::new(inner),
            handle: remote.events()?,
        })
    }

    pub(crate) fn begin(&self, call: KvCall, answer: Answer) {
        let inner = Arc::clone(&self.inner);
        answer.after(&self.handle, async move { inner.call(&call).await });
    }

    pub(crate) fn close(&self) {
        let inner = Arc::clone(&self.inner);
        self.handle.spawn(async move { inner.link.close().await });
    }
}

impl Inner {
    async fn call(&self, call: &KvCall) -> KvResult {
        let (mut connection, number) = self.link.connection().await?;
        let reply = self.link.awaited(number);
        let done = self.done(&mut connection, call).await;
        reply.came();
        match done {
            Ok(done) => done,
            Err(error) => match self.link.lost(&error, number).await {
                Some(lost) => Err(lost),
                None => Err(refused(&error)),
            },
        }
    }

    async fn done(
        &self,
        connection: &mut MultiplexedConnection,
        call: &KvCall,
    ) -> Result<KvResult, RedisError> {
        type Found = (Vec<u8>, Option<String>, i64, String);
        let expiry =
            |ttl: &Option<Duration>| ttl.map_or(String::new(), |it| millis(it).to_string());
        Ok(Ok(match call {
            KvCall::Get { key, exact } => {
                let mut get = GET.key(&**key);
                get.arg(u8::from(*exact)).arg(self.value_bytes);
                let found: Option<Found> = get.invoke_async(connection).await?;
                KvReply::Entry(found.map(|(value, metadata, left, version)| {
                    Entry {
                        value: value.into(),
                        metadata: metadata.map(Into::into),
                        version: version.into(),
                        expires: u64::try_from(left)
                            .ok()
                            .map(|left| self.clock.millis().saturating_add(left)),
                    }
                }))
            }
            KvCall::Put {
                key,
                value,
                metadata,
                ttl,
                condition,
            } => {
                let (condition, version) = match condition {
                    PutCondition::Always => ("always", ""),
                    PutCondition::Absent => ("absent", ""),
                    PutCondition::Version(version) => ("version", &**version),
                };
                let mut put = PUT.key(&**key);
                put.arg(&value[..])
                    .arg(metadata.as_deref().unwrap_or_default())
                    .arg(expiry(ttl))
                    .arg(condition)
                    .arg(version);
                KvReply::Done(put.invoke_async::<u8>(connection).await? == 1)
            }
            KvCall::Delete { key } => {
                let mut delete = redis::cmd("DEL");
                let removed: u64 = delete.arg(&**key).query_async(connection).await?;
                KvReply::Done(removed > 0)
            }
            KvCall::Add { key, by, ttl } => {
                let mut add = ADD.key(&**key);
                add.arg(*by).arg(expiry(ttl));
                KvReply::Number(add.invoke_async(connection).await?)
            }
            KvCall::List {
                prefix,
                cursor,
                limit,
            } => {
                let Ok(from) = cursor.as_deref().unwrap_or("0").parse::<u64>() else {
                    return Ok(Err(not_a_cursor()));
                };
                KvReply::Page(scan(connection, prefix, from, *limit).await?)
            }
            KvCall::Ping => {
                redis::cmd("PING").query_async::<()>(connection).await?;
                KvReply::Reached
            }
        }))
    }
}

/// A page of keys in the order of the server's table: it has `limit` keys or somewhat more, or fewer after many steps.
async fn scan(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    from: u64,
    limit: usize,
) -> Result<KeyPage, RedisError> {
    let mut page = KeyPage::default();
    let (mut cursor, pattern) = (from, pattern(prefix));
    for _ in 0..STEPS {
        let mut step = redis::cmd("SCAN");
        step.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT");
        step.arg((limit - page.keys.len()).max(16));
        let (next, keys): (u64, Vec<Vec<u8>>) = step.query_async(connection).await?;
        // Keys that are no text are not of this store.
        page.keys.extend(
            keys.into_iter()
                .filter_map(|key| String::from_utf8(key).ok()),
        );
        cursor = next;
        if cursor == 0 || page.keys.len() >= limit {
            break;
        }
    }
    page.cursor = (cursor != 0).then(|| cursor.to_string());
    Ok(page)
}

/// The pattern of keys with a prefix, whose characters stand for themselves.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

fn refused(error: &RedisError) -> DataError {
    let text = error.to_string();
    let why = if text.contains("TOOLONG") {
        "the stored value is larger than limits.data.value_bytes".to_owned()
    } else if text.contains("NOENTRY") || text.contains("WRONGTYPE") {
        "the key holds another type of Redis than a string or a hash of value and metadata"
            .to_owned()
    } else if text.contains("not an integer") {
        "the value of this key is no whole number, so nothing can be added to it".to_owned()
    } else if text.contains("overflow") {
        "the counter would leave the range of 64 bits".to_owned()
    } else {
        format!("the Redis server: {text}")
    };
    DataError::Refused(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_characters_of_a_prefix_stand_for_themselves() {
        for (prefix, want) in [
            ("", "*"),
            ("user:", "user:*"),
            ("a*[b]?\\", "a\\*\\[b\\]\\?\\\\*"),
            ("ü", "ü*"),
        ] {
            assert_eq!(pattern(prefix), want);
        }
    }
}
