//! Connections that wait for their next request, by origin.
//!
//! They follow the origin's name: the name is looked up while they are kept, and those that lead to an address that it
//! does not have any more serve no further request.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::plan::{Origin, OriginTls, PoolBounds, Scheme};
use tokio::sync::Semaphore;

use super::{connection::OriginConnection, names::Resolver, wanted::Holders};

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
    /// Its host is a name that is looked up.
    is_named: bool,
    idle: RefCell<Vec<Idle>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) holders: Holders,
    last_used: Cell<Instant>,
    /// Its last response was of HTTP/1.0.
    pub(super) http_10: Cell<bool>,
    /// The addresses of its name at the last look; `None`: it has no name, or was not looked at.
    addresses: RefCell<Option<Arc<[SocketAddr]>>>,
    /// The number of their changes.
    changes: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<OriginConnection>,
    since: Instant,
    changes: u32,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: Box<OriginConnection>,
    pub(super) pool: Weak<Pool>,
    /// It has served before.
    pub(super) kept: bool,
    name: Arc<str>,
    /// The changes of the pool's addresses after which it still led to one of them.
    changes: u32,
}

impl Connected {
    /// A new one. `changes` of the pool from before it was made.
    pub(super) fn new(connection: Box<OriginConnection>, pool: &Rc<Pool>, changes: u32) -> Self {
        Self {
            connection,
            kept: false,
            pool: Rc::downgrade(pool),
            name: Arc::clone(&pool.name),
            changes,
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
        let changes = pool.changes.get();
        if self.changes != changes && !pool.leads_there(&self.connection) {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < pool.identity.bounds.idle {
            idle.push(Idle {
                connection: self.connection,
                since: Instant::now(),
                changes,
            });
        }
    }
}

impl Pool {
    fn new(origin: &Origin) -> Self {
        Self {
            identity: Identity::of(origin),
            name: Arc::clone(&origin.name),
            is_named: origin.socket.is_none() && origin.host.parse::<IpAddr>().is_err(),
            idle: RefCell::new(Vec::new()),
            permits: Arc::new(Semaphore::new(
                origin.pool.most.clamp(1, Semaphore::MAX_PERMITS),
            )),
            holders: Holders::default(),
            last_used: Cell::new(Instant::now()),
            http_10: Cell::new(false),
            addresses: RefCell::default(),
            changes: Cell::new(0),
        }
    }

    /// Connections that serve a request, or are made for one.
    pub(super) fn in_use(&self) -> usize {
        let most = self.identity.bounds.most.clamp(1, Semaphore::MAX_PERMITS);
        let open = most.saturating_sub(self.permits.available_permits());
        open.saturating_sub(self.idle.borrow().len())
    }

    /// The number of changes of its addresses.
    pub(super) fn changes(&self) -> u32 {
        self.changes.get()
    }

    /// Notes the addresses of its name, if it has any connection. True if they have changed.
    fn follow(&self, names: &Resolver) -> bool {
        let Identity { host, port, .. } = &self.identity;
        let most = self.identity.bounds.most.clamp(1, Semaphore::MAX_PERMITS);
        if self.permits.available_permits() == most || !self.is_named {
            return false;
        }
        let Some(found) = names.known(host, *port) else {
            return false;
        };
        let mut addresses = self.addresses.borrow_mut();
        if addresses
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &found))
        {
            return false;
        }
        *addresses = Some(found);
        self.changes.set(self.changes.get().wrapping_add(1));
        true
    }

    /// True if the name still has the address that the connection leads to.
    fn leads_there(&self, connection: &OriginConnection) -> bool {
        match (&*self.addresses.borrow(), connection.address()) {
            (Some(addresses), Some(address)) => addresses.contains(&address),
            _ => true,
        }
    }

    /// The idle connection that was used last. If the origin has closed it meanwhile, sending the request fails: one
    /// that never left is sent again elsewhere.
    pub(super) fn take(self: &Rc<Self>) -> Option<Connected> {
        let Idle {
            connection,
            changes,
            ..
        } = self.idle.borrow_mut().pop()?;
        Some(Connected {
            kept: true,
            ..Connected::new(connection, self, changes)
        })
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

    /// Once a second: closes what has been idle for too long, or leads to an address that its name has no more.
    pub(super) fn sweep(&self, names: &Resolver, now: Instant) {
        self.pools.borrow_mut().retain(|pool| {
            let timeout = pool.identity.bounds.idle_timeout;
            let has_changed = pool.follow(names);
            let mut idle = pool.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|one| {
                one.connection.is_alive()
                    && now.saturating_duration_since(one.since) < timeout
                    && (!has_changed || pool.leads_there(&one.connection))
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
