//! The connection to a Redis server, or to one that speaks its protocol (Valkey), which all calls of a binding share:
//! their commands are sent without waiting for the replies of others.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use edgerouter_core::secret::Secret;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, aio::MultiplexedConnection};
use tokio::sync::Mutex;

use crate::{clock::millis, error::DataError};

/// Time after a failed attempt to connect in which calls fail without another.
const PAUSE: Duration = Duration::from_millis(250);

/// Codes by which a server says that it does nothing on this connection, or nothing at all now.
const OUT_OF_SERVICE: [&str; 4] = ["NOAUTH", "LOADING", "MASTERDOWN", "CLUSTERDOWN"];
/// Codes by which it refuses a part of its work until its operator does something: it has become a replica, has no
/// room, cannot write its file, has too few replicas, or its user may not do this.
const REFUSALS: [&str; 5] = ["READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM"];

/// The way to a server.
pub(crate) struct RedisLink {
    client: Client,
    state: Mutex<LinkState>,
    connect_timeout: Duration,
    began: Instant,
    /// When a reply came last, in milliseconds since `began`.
    replied: AtomicU64,
    /// The number of the connection on which no reply came for all the time of an operation: nothing else shows that a
    /// machine is gone, or that its name or address leads to another one, and the system would wait for many minutes.
    silent: AtomicU64,
}

/// An operation that waits for its reply. One whose time ends before it has one leaves a silent connection behind.
pub(crate) struct AwaitedReply<'a> {
    link: &'a RedisLink,
    number: u64,
    since: u64,
    has_come: bool,
}

impl AwaitedReply<'_> {
    /// It has come, whatever it is.
    pub(crate) fn came(mut self) {
        self.has_come = true;
        self.link
            .replied
            .store(self.link.millis(), Ordering::Relaxed);
    }
}

impl Drop for AwaitedReply<'_> {
    fn drop(&mut self) {
        if !self.has_come && self.link.replied.load(Ordering::Relaxed) <= self.since {
            self.link.silent.store(self.number, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct LinkState {
    connection: Option<MultiplexedConnection>,
    /// Distinguishes a broken connection from one that took its place meanwhile.
    number: u64,
    failed: Option<(Instant, String)>,
    /// A replica was connected to anew then: its name may lead to another server.
    renewed: Option<Instant>,
}

// By hand, as the URL may hold a password.
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

impl RedisLink {
    pub(crate) fn new(url: &Secret, timeout: Duration) -> Result<Self, String> {
        Ok(Self {
            client: client(url)?,
            state: Mutex::default(),
            // Less than the time of an operation: one that waits for the connection is then known to have done nothing.
            connect_timeout: (timeout * 4 / 5).min(Duration::from_secs(2)),
            began: Instant::now(),
            replied: AtomicU64::new(0),
            silent: AtomicU64::new(0),
        })
    }

    fn millis(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// To be made before an operation is sent on the connection of this number.
    pub(crate) fn awaited(&self, number: u64) -> AwaitedReply<'_> {
        AwaitedReply {
            link: self,
            number,
            since: self.millis(),
            has_come: false,
        }
    }

    /// The connection, and its number.
    pub(crate) async fn connection(&self) -> Result<(MultiplexedConnection, u64), DataError> {
        let mut state = self.state.lock().await;
        if self.silent.load(Ordering::Relaxed) == state.number {
            state.connection = None;
        }
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.number));
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(DataError::NotBegun(why.clone()));
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
                let why = worded(&error);
                state.failed = Some((Instant::now(), why.clone()));
                Err(DataError::NotBegun(why))
            }
        }
    }

    /// The failure of a call, if it means that the connection is broken, which is not used any more then.
    pub(crate) async fn lost(&self, error: &RedisError, number: u64) -> Option<DataError> {
        let is_out_of_service = is_out_of_service(error);
        if !is_out_of_service && !error.is_io_error() && !error.is_unrecoverable_error() {
            self.note_refusal(error, number).await;
            return None;
        }
        let why = worded(error);
        let mut state = self.state.lock().await;
        if state.number == number {
            state.connection = None;
            if is_out_of_service {
                state.failed = Some((Instant::now(), why.clone()));
            }
        }
        Some(DataError::Unreachable(why))
    }

    /// Logs a refusal that is not the program's fault. One that was the primary and is a replica now is left for the
    /// server that its name leads to.
    async fn note_refusal(&self, error: &RedisError, number: u64) {
        let Some(code) = error.code().filter(|code| REFUSALS.contains(code)) else {
            return;
        };
        let host = self.client.get_connection_info().addr();
        tracing::warn!(%host, %error, "a Redis server refuses operations; calls of it fail");
        if code != "READONLY" {
            return;
        }
        let mut state = self.state.lock().await;
        if state.number == number && state.renewed.is_none_or(|at| at.elapsed() >= PAUSE) {
            state.renewed = Some(Instant::now());
            state.connection = None;
        }
    }

    pub(crate) async fn close(&self) {
        self.state.lock().await.connection = None;
    }
}

/// The reason for `BindingError`. A parser's account of unknown bytes says nothing to a user and takes several lines.
fn worded(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Parse => {
            "the Redis server: sent a reply that no Redis server sends; check host and port"
                .to_owned()
        }
        _ => format!("the Redis server: {error}"),
    }
}

fn is_out_of_service(error: &RedisError) -> bool {
    let has_code = error
        .code()
        .is_some_and(|code| OUT_OF_SERVICE.contains(&code));
    // A long command before the password ends the connection in other words.
    has_code
        || error
            .detail()
            .is_some_and(|detail| detail.contains("unauthenticated"))
}
