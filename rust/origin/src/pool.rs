//! Connections that wait for their next request, by origin.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use edgerouter_core::plan::{Origin, OriginTls, Scheme};
use hyper::client::conn::http1::{Connection, SendRequest};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    request_body::{Outbound, RequestStream, Turn},
    responses::{Answering, Responses, Wire},
    wanted::Holders,
};

/// The parts of an origin that make it the same server: pools survive a reload that does not change these.
#[derive(Debug)]
struct Identity {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    tls: OriginTls,
}

impl Identity {
    fn of(origin: &Origin) -> Self {
        Self {
            scheme: origin.scheme,
            host: Arc::clone(&origin.host),
            port: origin.port,
            tls: origin.tls.clone(),
        }
    }

    fn is(&self, origin: &Origin) -> bool {
        self.port == origin.port
            && self.scheme == origin.scheme
            && self.host == origin.host
            && self.tls == origin.tls
    }
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    identity: Identity,
    name: Arc<str>,
    idle: RefCell<Vec<Idle>>,
    most_idle: Cell<usize>,
    idle_timeout: Cell<Duration>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) holders: Holders,
    last_used: Cell<Instant>,
    /// Its last response was of HTTP/1.0.
    pub(super) http_10: Cell<bool>,
    /// Its last response had a length, and not a large one: the next may come whole at once.
    pub(super) is_short: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// hyper's two halves of one connection.
pub(super) struct Link {
    pub(super) sender: SendRequest<Outbound>,
    /// `None` once the connection has closed: requests that still wait to be sent are dropped, which notifies the sender.
    pub(super) driver: Option<Pin<Box<Connection<Answering, Outbound>>>>,
    /// The heads that the edge has read on it.
    pub(super) responses: Responses,
    /// The bytes below hyper, for requests that are sent without it.
    pub(super) wire: Arc<Mutex<Wire>>,
    /// A write on it has failed.
    pub(super) broken: Arc<AtomicBool>,
    /// The right to be one of `max_connections`.
    pub(super) _permit: tokio::sync::OwnedSemaphorePermit,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_none() || self.broken.load(Ordering::Relaxed)
    }
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) pool: Weak<Pool>,
    /// It has served before.
    pub(super) kept: bool,
    /// The request's body, where it is still read while it is sent.
    pub(super) sending: Option<RequestStream>,
    /// A part of the request was not sent.
    pub(super) spent: bool,
    name: Arc<str>,
}

impl Connected {
    pub(super) fn new(link: Link, pool: &Rc<Pool>, kept: bool) -> Self {
        Self {
            link,
            kept,
            sending: None,
            spent: false,
            pool: Rc::downgrade(pool),
            name: Arc::clone(&pool.name),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.link.drive(cx);
    }

    /// To be called when the response is over: another request may use the connection.
    pub(super) fn give_back(mut self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        // The answer came before the end of the request: the rest of it is not sent (RFC 9112 §9.5).
        let whole = |stream: &RequestStream| matches!(stream.turn(), Turn::Whole(_));
        if self.spent || !self.sending.as_ref().is_none_or(whole) {
            return;
        }
        // The connection learns that its message is over only by being polled; mostly it was, by the body's last read.
        if !self.link.sender.is_ready() {
            self.link
                .drive(&mut Context::from_waker(std::task::Waker::noop()));
        }
        if self.link.is_closed() || !self.link.sender.is_ready() {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < pool.most_idle.get() {
            idle.push(Idle {
                link: self.link,
                since: Instant::now(),
            });
        }
    }
}

impl Pool {
    /// The idle connection that was used last, and was ready for another request at the last check. If the origin has
    /// closed it meanwhile, sending the request fails: one that never left is sent again elsewhere.
    pub(super) fn take(self: &Rc<Self>) -> Option<Connected> {
        loop {
            let link = self.idle.borrow_mut().pop()?.link;
            if !link.is_closed() && link.sender.is_ready() {
                return Some(Connected::new(link, self, true));
            }
        }
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
        let pool = Rc::new(Pool {
            identity: Identity::of(origin),
            name: Arc::clone(&origin.name),
            idle: RefCell::new(Vec::new()),
            most_idle: Cell::new(origin.idle_connections),
            idle_timeout: Cell::new(origin.idle_timeout),
            permits: Arc::new(Semaphore::new(
                origin.max_connections.clamp(1, Semaphore::MAX_PERMITS),
            )),
            holders: Holders::default(),
            last_used: Cell::new(Instant::now()),
            http_10: Cell::new(false),
            is_short: Cell::new(true),
        });
        pools.push(Rc::clone(&pool));
        pool
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|pool| {
            let timeout = pool.idle_timeout.get();
            let mut idle = pool.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|one| {
                one.link
                    .drive(&mut Context::from_waker(std::task::Waker::noop()));
                !one.link.is_closed() && now.saturating_duration_since(one.since) < timeout
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

/// For callers that need to poll inside a `poll_fn`.
pub(super) fn poll_ready(link: &mut Link, cx: &mut Context<'_>) -> Poll<bool> {
    link.drive(cx);
    if link.is_closed() {
        return Poll::Ready(false);
    }
    link.sender.poll_ready(cx).map(|ready| ready.is_ok())
}
