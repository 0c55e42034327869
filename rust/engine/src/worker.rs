//! One worker: a thread with its own event loop, its own listeners, its own upstream connections.
//!
//! Everything a request needs from its worker is here, unshared and without locks. What all workers share is in
//! [`Shared`].

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher as _, RandomState},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use edgerouter_core::{
    bounds::descriptors::Descriptors,
    http::structured::{self, CacheStatus},
    plan::Plan,
};
use hashbrown::HashMap;
use http::HeaderValue;
use slab::Slab;
use tokio::sync::mpsc;

use crate::{
    account::{Account, PerClientCounts},
    function_cache,
    functions::Functions,
    identity::{KeySources, Remembered},
    listen::{
        Conn,
        tight::{self, Idlest, Tight},
    },
    prefetch::predicted::Navigation,
    purge::Purges,
    request::hooks::Watched,
    store::{Fills, Flights, Invalidations, Runs, Store},
    telemetry::{Metrics, WorkerMetrics, access::AccessLog},
    upstream::{HealthBoard, Upstreams},
};

/// A plan in service, with what runs its callables and holds its keys: swapped as one.
#[derive(Debug)]
pub struct Live {
    pub plan: Plan,
    pub functions: Arc<dyn Functions>,
    pub version: u64,
    pub keys: KeySources,
    /// Client connections: those of the plan, as far as the process has descriptors for them.
    pub connections: usize,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    pub live: ArcSwap<Live>,
    /// Changes with `live`, and when the test clock is moved: workers compare it on each request instead of touching the
    /// pointer's counter.
    pub epoch: AtomicU64,
    /// Seconds that tests have moved the wall clock by. Only an engine that was started for tests has it.
    pub test_clock: Option<AtomicI64>,
    pub store: Store,
    pub flights: Arc<Flights>,
    pub invalidations: Invalidations,
    pub fills: Fills,
    /// Large objects that are coming in.
    pub runs: Arc<Runs>,
    /// To the next-page model; full: dropped.
    pub navigations: mpsc::Sender<Navigation>,
    /// The key under which visitors become numbers, new with each process.
    pub visitors: RandomState,
    pub secret: Secret,
    pub purges: Arc<Purges>,
    pub function_caches: function_cache::Registry,
    /// What hooks make part of the key.
    pub watched: Watched,
    pub health: Arc<HealthBoard>,
    pub metrics: Arc<Metrics>,
    pub account: Arc<Account>,
    pub connections: AtomicUsize,
    /// Connections by peer, and requests that are not answered from memory by client.
    pub client_connections: Arc<PerClientCounts>,
    pub client_requests: Arc<PerClientCounts>,
    /// `None` where the limit of the process is not known.
    pub descriptors: Option<Descriptors>,
    /// For each worker, that others need a connection of its own to give way.
    pub tight: Box<[Tight]>,
    pub draining: AtomicBool,
    /// `None`: nobody wants a line for each request.
    pub access_log: Option<AccessLog>,
}

#[derive(Debug)]
pub struct Worker {
    pub shared: Arc<Shared>,
    pub upstreams: Rc<Upstreams>,
    pub metrics: WorkerMetrics,
    pub clock: Clock,
    pub values: Values,
    pub remembered: RefCell<Remembered>,
    pub connections: RefCell<Slab<Rc<Conn>>>,
    pub(crate) idlest: RefCell<Idlest>,
    pub(crate) index: usize,
    /// Scratch space for cache keys; borrowed for the length of one look-up.
    pub key: RefCell<Vec<u8>>,
    pub random: RefCell<fastrand::Rng>,
    /// Bytes as they come from a socket, before the guard has judged them.
    pub inbox: RefCell<Box<[u8]>>,
    live: RefCell<Rc<LocalLive>>,
    ids: Cell<u64>,
}

/// Numbers that nobody outside can foretell: a count, hashed under keys that the operating system gave.
#[derive(Debug, Default)]
pub struct Secret {
    keys: [RandomState; 2],
    drawn: AtomicU64,
}

impl Shared {
    pub fn unguessable(&self) -> u128 {
        let Secret { keys, drawn } = &self.secret;
        let drawn = drawn.fetch_add(1, Ordering::Relaxed);
        keys.iter().fold(0, |number, key| {
            number << 64 | u128::from(key.hash_one(drawn))
        })
    }

    /// What the wall clock is set forward by.
    fn clock_shift(&self) -> i64 {
        self.test_clock
            .as_ref()
            .map_or(0, |shift| shift.load(Ordering::Acquire))
    }
}

/// A worker's own handle on the plan: cloning it touches no memory that other cores write.
#[derive(Debug)]
pub struct LocalLive {
    live: Arc<Live>,
    epoch: u64,
}

impl std::ops::Deref for LocalLive {
    type Target = Live;
    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Worker {
    pub fn new(index: usize, workers: usize, shared: Arc<Shared>) -> Rc<Self> {
        let epoch = shared.epoch.load(Ordering::Acquire);
        let live = shared.live.load_full();
        let remembered = live.plan.limits.remembered_tokens.div_ceil(workers.max(1));
        let mut random = fastrand::Rng::new();
        let ids = Cell::new(random.u64(..));
        Rc::new(Self {
            upstreams: Rc::new(Upstreams::new()),
            metrics: shared.metrics.worker(index),
            clock: Clock::new(shared.clock_shift()),
            values: Values::default(),
            remembered: RefCell::new(Remembered::new(remembered)),
            connections: RefCell::new(Slab::new()),
            idlest: RefCell::default(),
            index,
            key: RefCell::new(Vec::with_capacity(1024)),
            random: RefCell::new(random),
            inbox: RefCell::new(vec![0; INBOX].into_boxed_slice()),
            live: RefCell::new(Rc::new(LocalLive { live, epoch })),
            ids,
            shared,
        })
    }

    /// The plan in service now. A request keeps the one it started with.
    pub fn live(&self) -> Rc<LocalLive> {
        let live = self.live.borrow();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if live.epoch == epoch {
            return Rc::clone(&live);
        }
        let before = live.version;
        drop(live);
        let fresh = Rc::new(LocalLive {
            live: self.shared.live.load_full(),
            epoch,
        });
        *self.live.borrow_mut() = Rc::clone(&fresh);
        if fresh.version != before {
            self.metrics.plan_changed(&fresh.plan);
            self.values.clear();
        }
        self.clock.synchronise(self.shared.clock_shift());
        fresh
    }

    pub fn next_id(&self) -> u64 {
        let id = self.ids.get().wrapping_add(1);
        self.ids.set(id);
        id
    }

    /// The size of slices: the plan's, or less where the store would not take an entry of that size. `None` where it
    /// takes too little for slices to make sense.
    pub fn slice_bytes(&self, live: &Live) -> Option<u64> {
        let size = live
            .plan
            .limits
            .slice_bytes
            .min(self.shared.store.largest() / 2);
        (size >= LEAST_SLICE).then_some(size)
    }

    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// Once a second: the wall clock, idle connections on both sides.
    pub fn tick(self: &Rc<Self>) {
        self.clock.synchronise(self.shared.clock_shift());
        let live = self.live();
        let now = self.clock.ticks();
        for (_, conn) in self.connections.borrow().iter() {
            conn.check(now, &live.plan.limits);
        }
        let pinned = self.shared.store.memory().pinned();
        if self.shared.account.pinned(pinned) {
            tight::end_stalled(self, now);
        }
        self.upstreams.sweep(Instant::now());
    }
}

/// Below this a slice costs more to keep than it holds.
const LEAST_SLICE: u64 = 4 << 10;

/// How much one read takes from a socket at most.
const INBOX: usize = 64 << 10;

/// Time for one worker. One reading of the monotonic clock a request; the wall clock follows from it and is set right
/// once a second.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    unix_at_start: Cell<Duration>,
}

impl Clock {
    fn new(shift: i64) -> Self {
        let clock = Self {
            start: Instant::now(),
            unix_at_start: Cell::new(Duration::ZERO),
        };
        clock.synchronise(shift);
        clock
    }

    fn synchronise(&self, shift: i64) {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let by = Duration::from_secs(shift.unsigned_abs());
        let unix = if shift < 0 {
            unix.saturating_sub(by)
        } else {
            unix.saturating_add(by)
        };
        self.unix_at_start
            .set(unix.saturating_sub(self.start.elapsed()));
    }

    /// Seconds since the Unix epoch at `now`.
    pub fn unix(&self, now: Instant) -> u64 {
        (self.unix_at_start.get() + now.duration_since(self.start)).as_secs()
    }

    /// Milliseconds since the Unix epoch at `now`.
    pub fn unix_millis(&self, now: Instant) -> u64 {
        (self.unix_at_start.get() + now.duration_since(self.start)).as_millis() as u64
    }

    pub fn unix_now(&self) -> u64 {
        self.unix(Instant::now())
    }

    /// Milliseconds since the worker's start.
    pub fn ticks(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Field values that many responses need, made once: small ages, `Cache-Status` of hits by seconds to live, and of what
/// was forwarded by all that it says.
#[derive(Debug, Default)]
pub struct Values {
    ages: RefCell<Vec<Option<HeaderValue>>>,
    hits: RefCell<Vec<Option<HeaderValue>>>,
    forwards: RefCell<HashMap<CacheStatus, HeaderValue>>,
}

const VALUES: usize = 4096;

impl Values {
    pub fn age(&self, age: u64) -> HeaderValue {
        Self::nth(&self.ages, age, || HeaderValue::from(age))
    }

    /// `node; hit; ttl=N`.
    pub fn hit(&self, node: &str, ttl: u64) -> HeaderValue {
        Self::nth(&self.hits, ttl, || {
            let mut value = Vec::with_capacity(32);
            edgerouter_core::http::structured::hit(
                &mut value,
                node.as_bytes(),
                i64::try_from(ttl).unwrap_or(i64::MAX),
            );
            HeaderValue::from_maybe_shared(bytes::Bytes::from(value))
                .unwrap_or(HeaderValue::from_static("hit"))
        })
    }

    /// The member for any response. What can hardly come again (a time to live, a key) is made each time.
    pub fn cache_status(&self, node: &str, status: &CacheStatus, key: Option<&str>) -> HeaderValue {
        let make = || structured::cache_status(node, status, key);
        if status.ttl.is_some() || key.is_some() {
            return make();
        }
        let mut forwards = self.forwards.borrow_mut();
        if let Some(known) = forwards.get(status) {
            return known.clone();
        }
        let made = make();
        if forwards.len() < VALUES {
            forwards.insert(*status, made.clone());
        }
        made
    }

    /// The pseudonym may change with the plan.
    pub fn clear(&self) {
        self.hits.borrow_mut().clear();
        self.forwards.borrow_mut().clear();
    }

    fn nth(
        table: &RefCell<Vec<Option<HeaderValue>>>,
        n: u64,
        make: impl FnOnce() -> HeaderValue,
    ) -> HeaderValue {
        let Some(index) = usize::try_from(n).ok().filter(|&n| n < VALUES) else {
            return make();
        };
        let mut table = table.borrow_mut();
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        match table.get_mut(index) {
            Some(slot) => slot.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}
