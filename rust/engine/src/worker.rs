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
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use edgerouter_core::{
    bounds::descriptors::Descriptors,
    http::{cdn_loop::CdnLoop, date::LastDate},
    origin::balance::Turns,
    trial::TrialFault,
};
use tokio::sync::{Notify, mpsc};

use crate::{
    account::{Account, PerClientCounts, Rates},
    acme::AcmeService,
    beats::Beats,
    cache::{Cache, functions::Registry},
    clock::{self, Clock},
    compress::Compressors,
    connection::{AllConnections, Connections, IdleServers},
    counting::{Counting, Sent},
    deploys::{Candidate, DeployEnd, Deploys, NoDeploy},
    fetches::Fetches,
    files::Files,
    files::KeptFiles,
    identity::{Passwords, Remembered},
    image_variants::Images,
    listen::tls::HandshakeCounts,
    live::{Documents, Live, LocalLive},
    navigation::Navigation,
    observed::{Observed, Tails},
    secret::SecretNumbers,
    store::Fills,
    telemetry::{Metrics, Refused, WorkerMetrics, access::AccessLog, log, trace::TraceQueue},
    trial::{Side, Trial},
    upstream::{self, HealthBoard, PlanHealth, Upstreams},
    values::FieldValues,
    watched::Watched,
};

/// The state that all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub live: Arc<ArcSwap<Live>>,
    /// Changes with `live`, with the settings of experiments, and when the test clock is moved: workers compare it on
    /// each request instead of touching the pointer's counter.
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
    /// The member of this process in `CDN-Loop`.
    pub cdn_loop: CdnLoop,
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
    pub deploys: Deploys,
}

#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    pub shared: Arc<Shared>,
    pub upstreams: Rc<Upstreams>,
    pub metrics: WorkerMetrics,
    pub clock: Clock,
    pub values: FieldValues,
    pub last_date: LastDate,
    pub remembered: RefCell<Remembered>,
    pub connections: Connections,
    pub servers: IdleServers<Self>,
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
    /// True if requests get the version of this number.
    pub(crate) fn serves(&self, version: u64) -> bool {
        self.live.load().version == version || self.deploys.serves(version)
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
    fn observed(&self, trial: Option<(Arc<Trial>, Side)>) -> Option<Observed> {
        Observed::of(self.access_log.as_ref(), &self.tails, trial)
    }

    /// Rolls back a deploy whose version is at fault.
    #[cold]
    pub(crate) fn fault(&self, id: u64, fault: TrialFault) {
        // It may have ended meanwhile.
        let _ = self.roll_back(Some(id), &fault.to_string());
    }

    /// Ends the deploy under way, or the one of this id. No request that begins from the return on gets its version.
    pub(crate) fn roll_back(&self, id: Option<u64>, reason: &str) -> Result<(), NoDeploy> {
        let end = DeployEnd::RolledBack;
        let candidate = self.deploys.end(id, end, self.unix_now(), reason)?;
        self.next_epoch();
        let id = candidate.trial.id;
        let number = id.to_string();
        let about = [("deploy", number.as_str()), ("why", reason)];
        log::recent::note("warn", "a deploy was rolled back", &about);
        tracing::warn!(deploy = id, reason, "a deploy was rolled back");
        Ok(())
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
        self.deploys.render(&mut text);
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
        let turns = RefCell::new(Turns::new(&live.plan, random.u64(..)));
        let (all, account) = (Arc::clone(&shared.connections), Arc::clone(&shared.account));
        let connections = Connections::new(index, all, account);
        let metrics = shared.metrics.worker(index);
        Rc::new(Self {
            index,
            upstreams: Rc::new(Upstreams::new()),
            clock: Clock::new(shared.clock_shift()),
            values: FieldValues::default(),
            last_date: LastDate::default(),
            remembered: RefCell::new(Remembered::new(remembered)),
            connections,
            servers: IdleServers::default(),
            key: RefCell::new(Vec::with_capacity(1024)),
            random: RefCell::new(random),
            kept_files: RefCell::default(),
            sent: Sent::default(),
            live: RefCell::new(Rc::new(LocalLive {
                readings: live.readings.current(),
                health: PlanHealth::new(&shared.health, &live.plan),
                live,
                epoch,
                observed: shared.observed(None),
                metrics: metrics.of_service(),
                turns,
                candidate: None,
            })),
            metrics,
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
        let before = Rc::clone(&live);
        drop(live);
        let fresh = self.renewed(&before, epoch);
        *self.live.borrow_mut() = Rc::clone(&fresh);
        if fresh.version != before.version {
            self.metrics.serve(&fresh.metrics);
            self.values.clear();
        }
        self.clock.synchronise(self.shared.clock_shift());
        fresh
    }

    /// The plan in service, and the version beside it, with the counters that this worker has for them already.
    #[cold]
    fn renewed(&self, before: &LocalLive, epoch: u64) -> Rc<LocalLive> {
        let known = before.candidate.as_ref().map(|(_, candidate)| candidate);
        let metrics = |live: &Live| match (before, known) {
            (known, _) if known.version == live.version => known.metrics.clone(),
            (_, Some(known)) if known.version == live.version => known.metrics.clone(),
            _ => self.metrics.of_plan(&live.plan),
        };
        let live = self.shared.live.load_full();
        let candidate = self.shared.deploys.candidate();
        let candidate = candidate.filter(|candidate| candidate.live.version != live.version);
        let trial = |side| {
            let candidate = candidate.as_ref();
            candidate.map(|candidate| (Arc::clone(&candidate.trial), side))
        };
        let local = |live: Arc<Live>, side, candidate| LocalLive {
            metrics: metrics(&live),
            health: PlanHealth::new(&self.shared.health, &live.plan),
            readings: live.readings.current(),
            turns: RefCell::new(Turns::new(&live.plan, self.random())),
            live,
            epoch,
            observed: self.shared.observed(trial(side)),
            candidate,
        };
        let beside = candidate.as_ref().map(|Candidate { live, share, .. }| {
            let beside = local(Arc::clone(live), Side::Candidate, None);
            (Arc::clone(share), Rc::new(beside))
        });
        Rc::new(local(live, Side::Running, beside))
    }

    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get().wrapping_add(1);
        self.ids.set(id);
        id
    }

    /// The size of slices: the plan's, or less where the store would not take an entry of that size. `None` where that
    /// is too small for slices to make sense.
    pub(crate) fn slice_bytes(&self, live: &Live) -> Option<u64> {
        let memory = self.shared.cache.store.memory();
        memory.slice_bytes(live.plan.limits.cache.slice_bytes)
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// Once a second: the wall clock, idle connections on both sides. True: clients that do not read hold more memory
    /// than they may, and some have to go.
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
