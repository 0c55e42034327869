//! Connections that wait for their next request, by origin.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::plan::{Origin, OriginTls, PoolBounds, Scheme};
use tokio::sync::Semaphore;

use super::{connection::OriginConnection, wanted::Holders};

/// The parts of an origin that make it the same server, within the same bounds: pools survive a reload that does not
/// change these.
#[derive(Debug)]
struct Identity {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    tls: Arc<OriginTls>,
    bounds: PoolBounds,
}

impl Identity {
    fn of(origin: &Origin) -> Self {
        Self {
            scheme: origin.scheme,
            host: Arc::clone(&origin.host),
            port: origin.port,
            tls: Arc::clone(&origin.tls),
            bounds: origin.pool,
        }
    }

    fn is(&self, origin: &Origin) -> bool {
        self.port == origin.port
            && self.scheme == origin.scheme
            && self.host == origin.host
            && self.bounds == origin.pool
            && self.tls == origin.tls
    }
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    identity: Identity,
    name: Arc<str>,
    idle: RefCell<Vec<Idle>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) holders: Holders,
    last_used: Cell<Instant>,
    /// Its last response was of HTTP/1.0.
    pub(super) http_10: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<OriginConnection>,
    since: Instant,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: Box<OriginConnection>,
    pub(super) pool: Weak<Pool>,
    /// It has served before.
    pub(super) kept: bool,
    name: Arc<str>,
}

impl Connected {
    pub(super) fn new(connection: Box<OriginConnection>, pool: &Rc<Pool>, kept: bool) -> Self {
        Self {
            connection,
            kept,
            pool: Rc::downgrade(pool),
            name: Arc::clone(&pool.name),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// To be called when the response is over: another request may use the connection.
    pub(super) fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        if !self.connection.is_reusable() {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < pool.identity.bounds.idle {
            idle.push(Idle {
                connection: self.connection,
                since: Instant::now(),
            });
        }
    }
}

impl Pool {
    fn new(origin: &Origin) -> Self {
        Self {
            identity: Identity::of(origin),
            name: Arc::clone(&origin.name),
            idle: RefCell::new(Vec::new()),
            permits: Arc::new(Semaphore::new(
                origin.pool.most.clamp(1, Semaphore::MAX_PERMITS),
            )),
            holders: Holders::default(),
            last_used: Cell::new(Instant::now()),
            http_10: Cell::new(false),
        }
    }

    /// The idle connection that was used last. If the origin has closed it meanwhile, sending the request fails: one
    /// that never left is sent again elsewhere.
    pub(super) fn take(self: &Rc<Self>) -> Option<Connected> {
        let connection = self.idle.borrow_mut().pop()?.connection;
        Some(Connected::new(connection, self, true))
    }
}

/// All pools of a worker.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: RefCell<Vec<Rc<Pool>>>,
}

/// A pool that has not been used for this long is dropped.
const UNUSED: Duration = Duration::from_secs(300);

impl Pools {
    /// The pool of an origin. Plans have few origins: a search beats a hash.
    pub(super) fn of(&self, origin: &Origin) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.iter().find(|pool| pool.identity.is(origin)) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(origin));
        pools.push(Rc::clone(&pool));
        pool
    }

    /// A pool that is not kept: its connection serves one request.
    pub(super) fn apart(origin: &Origin) -> Rc<Pool> {
        Rc::new(Pool::new(origin))
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|pool| {
            let timeout = pool.identity.bounds.idle_timeout;
            let mut idle = pool.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|one| {
                one.connection.is_alive() && now.saturating_duration_since(one.since) < timeout
            });
            let used =
                before > 0 || Rc::strong_count(pool) > 1 || pool.permits.available_permits() == 0;
            if used {
                pool.last_used.set(now);
            }
            now.saturating_duration_since(pool.last_used.get()) < UNUSED
        });
    }

    pub(super) fn clear(&self) {
        for pool in &*self.pools.borrow() {
            pool.idle.borrow_mut().clear();
        }
    }
}
