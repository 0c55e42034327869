//! One worker: a thread with its own event loop, its own listeners, its own upstream connections.
//!
//! Everything a request needs from its worker is here, unshared and without locks. [`Shared`] has the
//! state of all workers.

use std::{
    cell::{Cell, RefCell},
    hash::RandomState,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use edgerouter_core::bounds::descriptors::Descriptors;
use tokio::sync::{Notify, mpsc};

use crate::{
    account::{Account, PerClientCounts, Rates},
    acme::AcmeService,
    beats::Beats,
    cache::{Cache, functions::Registry},
    clock::{self, Clock},
    compress::Compressors,
    connection::{AllConnections, Connections},
    counting::{Counting, Sent},
    fetches::Fetches,
    files::Files,
    files::KeptFiles,
    functions::FunctionCaches,
    identity::{Passwords, Remembered},
    image_variants::Images,
    listen::tls::HandshakeCounts,
    live::{Documents, Live, LocalLive},
    navigation::Navigation,
    observed::{Observed, Tails},
    secret::SecretNumbers,
    store::Fills,
    telemetry::{Metrics, Refused, WorkerMetrics, access::AccessLog, log, trace::TraceQueue},
    upstream::{self, HealthBoard, Upstreams},
    values::FieldValues,
    watched::Watched,
};

/// The state that all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub live: Arc<ArcSwap<Live>>,
    /// Changes with `live`, with the settings of experiments, and when the test clock is moved: workers compare it on each request instead of touching the
    /// pointer's counter.
    pub epoch: AtomicU64,
    /// Seconds that tests have moved the wall clock by. Only an engine that was started for tests has it.
    pub test_clock: Option<Arc<AtomicI64>>,
    pub cache: Cache,
    pub fills: Fills,
    /// To the next-page model; full: dropped.
    pub navigations: mpsc::Sender<Navigation>,
    /// The key under which visitors become numbers, new with each process.
    pub visitors: RandomState,
    pub secret: SecretNumbers,
    pub function_caches: Arc<Registry>,
    pub compressors: Arc<Compressors>,
    /// Files that routes serve.
    pub files: Arc<Files>,
    /// Addresses of the edge's own listeners, the admin listener among them.
    pub own_addresses: Box<[SocketAddr]>,
    /// Threads that make variants of images.
    pub images: Arc<Images>,
    /// The fields that hooks make part of the key.
    pub watched: Watched,
    pub health: Arc<HealthBoard>,
    pub metrics: Arc<Metrics>,
    pub account: Arc<Account>,
    pub connections: Arc<AllConnections>,
    pub handshakes: HandshakeCounts,
    /// Requests that are not answered from memory, by client.
    pub client_requests: Arc<PerClientCounts>,
    /// Counts of rate limits.
    pub rates: Arc<Rates>,
    pub passwords: Passwords,
    /// Certificates that are obtained.
    pub acme: AcmeService,
    /// `None` where the limit of the process is not known.
    pub descriptors: Option<Descriptors>,
    pub draining: AtomicBool,
    pub beats: Beats,
    /// Kept traces that wait to be sent, and the wake-up of the task that sends them.
    pub traces: Arc<TraceQueue>,
    pub traces_due: Arc<Notify>,
    /// `None`: no line is written for each request.
    pub access_log: Option<AccessLog>,
    /// Live tails of requests.
    pub tails: Tails,
    /// Visitors of experiments.
    pub counting: Arc<Counting>,
    /// The plan in service and the one before it, as they may be shown.
    pub documents: Documents,
}

#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    pub shared: Arc<Shared>,
    pub upstreams: Rc<Upstreams>,
    pub metrics: WorkerMetrics,
    pub clock: Clock,
    pub values: FieldValues,
    pub remembered: RefCell<Remembered>,
    pub connections: Connections,
    /// Scratch space for cache keys; borrowed for the length of one look-up.
    pub key: RefCell<Vec<u8>>,
    pub random: RefCell<fastrand::Rng>,
    pub kept_files: RefCell<KeptFiles>,
    /// Reports of visitors that were sent.
    pub sent: Sent,
    live: RefCell<Rc<LocalLive>>,
    ids: Cell<u64>,
    /// Makes requests for functions.
    pub fetches: Arc<Fetches>,
}

impl Shared {
    /// As callables have them.
    pub(crate) fn function_caches(&self) -> Weak<dyn FunctionCaches> {
        Arc::downgrade(&self.function_caches) as Weak<dyn FunctionCaches>
    }

    /// Has each worker look for a new plan and new settings before its next request.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn unguessable(&self) -> u128 {
        self.secret.unguessable()
    }

    /// Unix seconds, as the workers count them.
    pub(crate) fn unix_now(&self) -> u64 {
        clock::wall(self.clock_shift()).as_secs()
    }

    /// The readers of single requests now.
    fn observed(&self) -> Option<Observed> {
        Observed::of(self.access_log.as_ref(), &self.tails)
    }

    /// Offset of the test clock.
    fn clock_shift(&self) -> i64 {
        self.test_clock
            .as_ref()
            .map_or(0, |shift| shift.load(Ordering::Acquire))
    }

    /// `exemplars`: for OpenMetrics.
    pub(crate) fn metrics(&self, exemplars: bool) -> String {
        let live = self.live.load();
        let mut text = String::with_capacity(16 << 10);
        let connections = self.connections.count() as u64;
        let counts = (connections, live.version);
        self.metrics.render(&mut text, counts, exemplars);
        self.cache.render(&mut text);
        live.functions.load().render(&mut text);
        self.function_caches.render(&mut text);
        live.bindings.render(&mut text);
        live.readings.render(&mut text);
        if let Some(geo) = &live.geo {
            geo.render(&mut text);
        }
        let origins = live.plan.origins.iter();
        let states: Vec<_> = origins.map(|origin| self.health.state(origin)).collect();
        upstream::render_states(&states, &mut text);
        self.account.render(&mut text);
        self.handshakes.render(&mut text);
        live.tls.render(&mut text);
        self.acme.certificates().render(&mut text, self.unix_now());
        self.files.render(&mut text);
        self.images.render(&mut text);
        self.rates.render(&mut text);
        self.compressors.render(&mut text);
        self.cache.purges.render(&mut text);
        self.traces.render(&mut text);
        self.counting.render(&live.plan, &mut text);
        let access = self.access_log.as_ref().map(AccessLog::output);
        log::render(&mut text, access);
        text
    }

    /// `Err`: why the process should get no traffic now.
    pub(crate) fn readiness(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining: no new connections are taken".to_owned());
        }
        if !self.live.load().functions.load().ready {
            reasons.push("functions: too many callables had to be abandoned".to_owned());
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        workers: usize,
        shared: Arc<Shared>,
        fetches: Fetches,
    ) -> Rc<Self> {
        let epoch = shared.epoch.load(Ordering::Acquire);
        let live = shared.live.load_full();
        let remembered = live
            .plan
            .limits
            .identity
            .remembered_tokens
            .div_ceil(workers.max(1));
        let mut random = fastrand::Rng::new();
        let ids = Cell::new(random.u64(..));
        let (all, account) = (Arc::clone(&shared.connections), Arc::clone(&shared.account));
        let connections = Connections::new(index, all, account);
        Rc::new(Self {
            index,
            upstreams: Rc::new(Upstreams::new()),
            metrics: shared.metrics.worker(index),
            clock: Clock::new(shared.clock_shift()),
            values: FieldValues::default(),
            remembered: RefCell::new(Remembered::new(remembered)),
            connections,
            key: RefCell::new(Vec::with_capacity(1024)),
            random: RefCell::new(random),
            kept_files: RefCell::default(),
            sent: Sent::default(),
            live: RefCell::new(Rc::new(LocalLive {
                readings: live.readings.current(),
                live,
                epoch,
                observed: shared.observed(),
            })),
            ids,
            fetches: Arc::new(fetches),
            shared,
        })
    }

    /// The plan in service now. A request keeps the one it started with.
    pub(crate) fn live(&self) -> Rc<LocalLive> {
        let live = self.live.borrow();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if live.epoch == epoch {
            return Rc::clone(&live);
        }
        let before = live.version;
        drop(live);
        let live = self.shared.live.load_full();
        let fresh = Rc::new(LocalLive {
            readings: live.readings.current(),
            live,
            epoch,
            observed: self.shared.observed(),
        });
        *self.live.borrow_mut() = Rc::clone(&fresh);
        if fresh.version != before {
            self.metrics.plan_changed(&fresh.plan);
            self.values.clear();
        }
        self.clock.synchronise(self.shared.clock_shift());
        fresh
    }

    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get().wrapping_add(1);
        self.ids.set(id);
        id
    }

    /// The size of slices: the plan's, or less where the store would not take an entry of that size. `None` where that is
    /// too small for slices to make sense.
    pub(crate) fn slice_bytes(&self, live: &Live) -> Option<u64> {
        let memory = self.shared.cache.store.memory();
        memory.slice_bytes(live.plan.limits.cache.slice_bytes)
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// Once a second: the wall clock, idle connections on both sides. True: clients that do not read hold more memory than they
    /// may, and some have to go.
    pub(crate) fn tick(self: &Rc<Self>) -> bool {
        self.shared.beats.beat(self.index);
        self.clock.synchronise(self.shared.clock_shift());
        let live = self.live();
        let now = self.clock.ticks();
        for _ in 0..self.connections.check(now, &live.plan.limits.http) {
            self.metrics.refused(Refused::SlowReader);
        }
        self.upstreams.sweep(Instant::now());
        self.kept_files.borrow_mut().sweep();
        let pinned = self.shared.cache.store.memory().pinned();
        self.shared.account.pinned(pinned)
    }
}
