//! A store on a Redis server, or on one that speaks its protocol (Valkey).
//!
//! An entry without metadata is a plain string, so other programs read and write it with `GET` and `SET`; one with
//! metadata is a hash of `value` and `metadata`. Its version is the hash of both, which the server computes.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use edgerouter_core::{plan::limits::DataLimits, secret::Secret};
use redis::{AsyncConnectionConfig, Client, RedisError, Script, aio::MultiplexedConnection};
use tokio::{runtime::Handle, sync::Mutex};

use super::call::{Entry, KeyPage, KvCall, KvReply, KvResult, PutCondition, millis, not_a_cursor};
use crate::{answer::Answer, clock::WallClock, error::DataError, remote::RemoteThread};

/// Time after a failed attempt to connect in which calls fail without another.
const PAUSE: Duration = Duration::from_millis(250);
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

/// `ARGV`: the number that is added, and the time to live of a new counter.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then return redis.call('HINCRBY', KEYS[1], 'value', ARGV[1]) end
local number = redis.call('INCRBY', KEYS[1], ARGV[1])
if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return number",
    )
});

/// A store on a server.
#[derive(Debug)]
pub(crate) struct RedisStore {
    link: Arc<RedisLink>,
    handle: Handle,
}

/// The connection, which all calls share: their commands are sent without waiting for the replies of others.
struct RedisLink {
    client: Client,
    state: Mutex<LinkState>,
    connect_timeout: Duration,
    value_bytes: usize,
    clock: Arc<WallClock>,
}

#[derive(Default)]
struct LinkState {
    connection: Option<MultiplexedConnection>,
    /// Distinguishes a broken connection from one that took its place meanwhile.
    number: u64,
    failed: Option<(Instant, String)>,
}

impl std::fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLink").finish_non_exhaustive()
    }
}

/// `Err`: why the URL cannot be used; without any of it, as it may hold a password.
pub(crate) fn client(url: &Secret) -> Result<Client, String> {
    let url = std::str::from_utf8(url.as_bytes()).map_err(|_| "is not text".to_owned())?;
    Client::open(url).map_err(|_| {
        "is no URL of a Redis server; write redis://HOST:PORT/DATABASE, or rediss:// for TLS, with special characters of \
         a password percent-encoded"
            .to_owned()
    })
}

impl RedisStore {
    pub(crate) fn new(
        url: &Secret,
        limits: &DataLimits,
        remote: &RemoteThread,
        clock: Arc<WallClock>,
    ) -> Result<Self, String> {
        let client = client(url)?;
        let handle = remote.events()?;
        Ok(Self {
            link: Arc::new(RedisLink {
                client,
                state: Mutex::default(),
                connect_timeout: limits.timeout.min(Duration::from_secs(2)),
                value_bytes: limits.value_bytes,
                clock,
            }),
            handle,
        })
    }

    pub(crate) fn begin(&self, call: KvCall, answer: Answer) {
        let link = Arc::clone(&self.link);
        answer.after(&self.handle, async move { link.call(&call).await });
    }

    pub(crate) fn close(&self) {
        let link = Arc::clone(&self.link);
        self.handle.spawn(async move {
            link.state.lock().await.connection = None;
        });
    }
}

impl RedisLink {
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), DataError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.number));
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(DataError::Unreachable(why.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match connected {
            Ok(connection) => {
                state.number += 1;
                state.failed = None;
                state.connection = Some(connection.clone());
                Ok((connection, state.number))
            }
            Err(error) => {
                let why = format!("the Redis server: {error}");
                state.failed = Some((Instant::now(), why.clone()));
                Err(DataError::Unreachable(why))
            }
        }
    }

    async fn call(&self, call: &KvCall) -> KvResult {
        let (mut connection, number) = self.connection().await?;
        let done = self.done(&mut connection, call).await;
        match done {
            Ok(done) => done,
            Err(error) => {
                if error.is_io_error() || error.is_unrecoverable_error() {
                    let mut state = self.state.lock().await;
                    if state.number == number {
                        state.connection = None;
                    }
                    drop(state);
                    return Err(DataError::Unreachable(format!("the Redis server: {error}")));
                }
                Err(refused(&error))
            }
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
