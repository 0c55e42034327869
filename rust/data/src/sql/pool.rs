//! Connections to a database server: a bounded number, taken in turn by the calls of one binding.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::position::Position;
use crate::{answer::WaitsForConnection, error::DataError};

/// Time after a failed attempt to connect in which calls fail without another.
const PAUSE: Duration = Duration::from_millis(250);
/// Age at which a connection is replaced, so that a name that points elsewhere is noticed.
const LONGEST_LIFE: Duration = Duration::from_secs(1_800);
/// The remedy where a server has no room for one more connection.
pub(super) const FEWER: &str =
    "lower limits.data.connections of the edges that use it, or raise the server's limit";
/// Time without use after which a connection is tried before a call depends on it.
const DOUBT: Duration = Duration::from_secs(1);

/// The statements that connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All.
    Write,
    /// Statements that change nothing; the server refuses others.
    Read,
}

/// The protocol of a server, as far as a pool needs it.
pub(super) trait Dial: Send + Sync + 'static {
    type Connection: Send + 'static;

    /// Makes a connection, and sets it up.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, DataError>> + Send;

    /// True if the server answers on it.
    fn is_alive(&self, connection: &mut Self::Connection) -> impl Future<Output = bool> + Send;

    /// Ends a connection that may still be at work.
    fn abandon(&self, connection: Self::Connection);
}

struct Idle<C> {
    connection: C,
    opened: Instant,
    used: Instant,
    /// Changes that the server was seen to have. Its own start ends all connections, so they stay true.
    has: Option<Position>,
}

/// The connections of a binding.
pub(super) struct Pool<D: Dial> {
    pub(super) dial: D,
    permits: Semaphore,
    /// The last one was used last.
    idle: Mutex<Vec<Idle<D::Connection>>>,
    failed: Mutex<Option<(Instant, String)>>,
    /// The last time at which connections were given up because their server was no primary.
    renewed: Mutex<Option<Instant>>,
}

impl<D: Dial> std::fmt::Debug for Pool<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A failure of TLS says only that the authority is not known.
fn advised(why: String) -> String {
    if why.ends_with("UnknownIssuer") {
        return format!("{why}; name the authority of its certificate by ?sslrootcert=FILE");
    }
    why
}

/// A connection that one call has. Unless it is given back, it is abandoned.
pub(super) struct Lease<'a, D: Dial> {
    pool: &'a Pool<D>,
    held: Option<Idle<D::Connection>>,
    _permit: SemaphorePermit<'a>,
}

impl<D: Dial> Pool<D> {
    pub(super) fn new(dial: D, connections: usize) -> Self {
        Self {
            dial,
            permits: Semaphore::new(connections),
            idle: Mutex::default(),
            failed: Mutex::default(),
            renewed: Mutex::default(),
        }
    }

    /// A connection, once one is free. The caller bounds the wait.
    pub(super) async fn lease(&self) -> Result<Lease<'_, D>, DataError> {
        let _waits = WaitsForConnection::begin();
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| DataError::Closed)?;
        let mut lease = Lease {
            pool: self,
            held: None,
            _permit: permit,
        };
        loop {
            let idle = self.idle.lock().pop();
            let Some(idle) = idle else { break };
            let (opened, used) = (idle.opened, idle.used);
            let held = lease.held.insert(idle);
            if opened.elapsed() < LONGEST_LIFE
                && (used.elapsed() < DOUBT || self.dial.is_alive(&mut held.connection).await)
            {
                return Ok(lease);
            }
            lease.held = None;
        }
        if let Some((at, why)) = &*self.failed.lock()
            && at.elapsed() < PAUSE
        {
            return Err(DataError::NotBegun(why.clone()));
        }
        match self.dial.connect().await {
            Ok(connection) => {
                *self.failed.lock() = None;
                let now = Instant::now();
                lease.held = Some(Idle {
                    connection,
                    opened: now,
                    used: now,
                    has: None,
                });
                Ok(lease)
            }
            Err(error) => {
                let error = match error.before_it_began() {
                    DataError::NotBegun(why) => DataError::NotBegun(advised(why)),
                    other => other,
                };
                if let DataError::NotBegun(why) = &error {
                    *self.failed.lock() = Some((Instant::now(), why.clone()));
                }
                Err(error)
            }
        }
    }

    /// Ends the connections that nobody uses; those in use end when they are given back, and calls that wait fail.
    pub(super) fn close(&self) {
        self.permits.close();
        self.forget();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Ends the connections that nobody uses, as the server is no primary any more, and the name may lead to the new one
    /// by now. False: that was done a moment ago, and the server is the same.
    pub(super) fn renew(&self) -> bool {
        let mut renewed = self.renewed.lock();
        let is_due = renewed.is_none_or(|at| at.elapsed() >= PAUSE);
        if is_due {
            *renewed = Some(Instant::now());
            self.forget();
        }
        is_due
    }

    /// Ends the connections that nobody uses, as the server went away.
    pub(super) fn forget(&self) {
        drop(std::mem::take(&mut *self.idle.lock()));
    }
}

impl<D: Dial> Lease<'_, D> {
    pub(super) fn connection(&mut self) -> Result<&mut D::Connection, DataError> {
        let held = self.held.as_mut().ok_or(DataError::Closed)?;
        Ok(&mut held.connection)
    }

    /// The changes that the server was seen to have.
    pub(super) fn has(&self) -> Option<&Position> {
        self.held.as_ref()?.has.as_ref()
    }

    /// Notes the changes that the server has.
    pub(super) fn saw(&mut self, position: Option<Position>) {
        if let Some(held) = &mut self.held {
            held.has = position;
        }
    }

    /// Keeps the connection for the next call.
    pub(super) fn give_back(mut self) {
        if self.pool.permits.is_closed() {
            return;
        }
        if let Some(mut held) = self.held.take() {
            held.used = Instant::now();
            self.pool.idle.lock().push(held);
        }
    }

    fn abandon(&mut self) {
        if let Some(held) = self.held.take() {
            self.pool.dial.abandon(held.connection);
        }
    }
}

impl<D: Dial> Drop for Lease<'_, D> {
    fn drop(&mut self) {
        self.abandon();
    }
}
