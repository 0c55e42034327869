//! Start, reload and stop: the engine as its owner sees it.

mod thread;
mod versions;

use std::{
    hash::RandomState,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc as signals,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use edgerouter_core::{
    bounds::{descriptors::Descriptors, memory::Budget},
    http::cdn_loop::CdnLoop,
    plan::{ListenAddress, Listener, ListenerId, Plan, Problem, Scheme, limits::FunctionLimits},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use thread::WorkerSocket;

use crate::{
    account::{Account, PerClientCounts},
    acme::{AcmeService, IssuedCertificates, RecordCalls},
    admin, background,
    beats::Beats,
    cache::{Cache, functions::Registry},
    clock,
    compress::Compressors,
    connection::AllConnections,
    counting::{Counting, CountsError},
    data::Bindings,
    deploys::Deploys,
    files::Files,
    functions::{FunctionCaches, Functions},
    geo::GeoFiles,
    identity::{KeySources, Passwords},
    image_variants::Images,
    life::Life,
    listen::{
        tcp::{self, BindError},
        tight,
        tls::{HandshakeCounts, TlsListeners},
        unix::{self, SocketFile, UnixBindError},
    },
    live::{Documents, Live},
    navigation::{Navigation, QUEUE},
    observed::Tails,
    purge,
    readings::ReadingBoard,
    secret::SecretNumbers,
    store::{Fills, disk::FolderError},
    telemetry::{Metrics, access::AccessLog, trace::TraceQueue},
    upstream::{self, HealthBoard},
    watched::Watched,
    worker::Shared,
};

/// Bytes of a worker's stack, as the main thread has: the interpreter reads nested data by calls within calls, in inline
/// callables on a worker, and bounds them for a stack of this size.
const STACK: usize = 8 << 20;

/// Addresses and workers of the engine. Everything else is in the plan.
#[derive(Clone)]
pub struct Settings {
    /// Addresses for clients besides the plan's listeners, in plain text; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// Path of the unix socket of the admin listener, for the user of the process; `None`: there is none.
    pub admin_socket: Option<PathBuf>,
    /// Token of the admin listener; needed unless its address is a loopback one.
    pub admin_token: Option<String>,
    /// Another token, whose holder may read and change nothing.
    pub admin_reader_token: Option<String>,
    /// Access keys and secrets of the CloudFront-compatible calls.
    pub admin_keys: Vec<(String, String)>,
    /// `None`: one for each core.
    pub workers: Option<usize>,
    /// Files and sockets that the process may have open (`RLIMIT_NOFILE`).
    pub descriptors: Option<u64>,
    /// The destination of the line for each request.
    pub access_log: Option<AccessLog>,
    /// The file that keeps the counts of experiments.
    pub experiments_file: Option<PathBuf>,
    /// The file with the report on costs that the dashboard shows.
    pub cost_report: Option<PathBuf>,
    /// Tests may move the wall clock.
    pub test_clock: bool,
    /// Returns memory that is free for a while to the system. Called every few seconds, by the thread of the background.
    pub give_back: fn(),
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .field("admin_socket", &self.admin_socket)
            .field("admin_token", &self.admin_token.as_ref().map(|_| "…"))
            .field(
                "admin_reader_token",
                &self.admin_reader_token.as_ref().map(|_| "…"),
            )
            .field("admin_keys", &self.admin_keys.len())
            .field("workers", &self.workers)
            .field("descriptors", &self.descriptors)
            .field("test_clock", &self.test_clock)
            .finish()
    }
}

/// Why the engine did not start; one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is none in `listen`, nor in the plan.
    #[error("no address to listen on; give at least one, such as --listen 127.0.0.1:8080")]
    NoAddress,
    /// An address could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A unix socket could not be listened on.
    #[error(transparent)]
    Unix(#[from] UnixBindError),
    /// The admin listener would be open to other machines.
    #[error(
        "the admin listener on {0} can be reached from other machines and needs a token; set one, or use a loopback address such as --admin 127.0.0.1:9090"
    )]
    AdminNeedsToken(SocketAddr),
    /// Certificates or keys of the plan's listeners cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tls(Vec<Problem>),
    /// Files of the plan's `geo` cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Geo(Vec<Problem>),
    /// The folder of the disk cache cannot be used.
    #[error(transparent)]
    Disk(#[from] FolderError),
    /// The file for the counts of experiments cannot be used.
    #[error(transparent)]
    Counts(#[from] CountsError),
    /// The system refused a thread.
    #[error("a thread could not be started: {0}; raise the limit on threads or lower --workers")]
    Thread(std::io::Error),
    /// The system refused an event loop.
    #[error("an event loop could not be made: {0}; raise the limit on open files (ulimit -n)")]
    Runtime(std::io::Error),
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    life: watch::Sender<Life>,
    /// The address of each listener, and its scheme.
    listeners: Vec<(ListenAddress, Option<ListenerId>)>,
    /// Those of unix sockets, for as long as they are listened on.
    files: Mutex<Vec<SocketFile>>,
    admin_address: Option<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Plans are swapped one at a time; the version of the newest.
    reloading: Mutex<u64>,
}

impl Engine {
    /// Binds every address, starts the workers, and returns when all of them accept.
    pub fn start(
        plan: Plan,
        functions: Arc<dyn Functions>,
        bindings: Arc<Bindings>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        if settings.listen.is_empty() && plan.listeners.is_empty() {
            return Err(StartError::NoAddress);
        }
        if let Some(admin) = settings.admin
            && !admin.ip().is_loopback()
            && settings.admin_token.as_ref().is_none_or(String::is_empty)
        {
            return Err(StartError::AdminNeedsToken(admin));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = settings.workers.unwrap_or(cores).clamp(1, 1024);
        let mut sockets: Vec<Vec<WorkerSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let (mut listeners, mut files) = (Vec::new(), Vec::new());
        for (address, id) in all_listeners(&settings.listen, &plan.listeners) {
            let bound: Vec<WorkerSocket> = match (address, id) {
                (ListenAddress::Unix(path), Some(id)) => {
                    let (bound, file) = unix::bind(&path, workers)?;
                    files.extend(file);
                    listeners.push((ListenAddress::Unix(path), Some(id)));
                    let of_worker = |socket| WorkerSocket::Unix(socket, id);
                    bound.into_iter().map(of_worker).collect()
                }
                (ListenAddress::Tcp(address), id) => {
                    let option = match id {
                        Some(_) => "Edge.listen",
                        None => "--listen",
                    };
                    let bound = tcp::bind(address, workers, option)?;
                    let bound_to = bound.first().and_then(|socket| socket.local_addr().ok());
                    listeners.extend(bound_to.map(|address| (ListenAddress::Tcp(address), id)));
                    let of_worker = |socket| WorkerSocket::Tcp(socket, id);
                    bound.into_iter().map(of_worker).collect()
                }
                // The settings have addresses of TCP only.
                (ListenAddress::Unix(_), None) => continue,
            };
            for (socket, worker) in bound.into_iter().zip(&mut sockets) {
                worker.push(socket);
            }
        }
        let admin_tcp = match settings.admin {
            Some(address) => tcp::bind(address, 1, "--admin")?.pop(),
            None => None,
        };
        let admin_address = admin_tcp
            .as_ref()
            .and_then(|socket| socket.local_addr().ok());
        let admin_unix = match &settings.admin_socket {
            Some(path) => {
                let (socket, file) = unix::bind_private(path)?;
                files.extend(file);
                Some(socket)
            }
            None => None,
        };

        let (navigations, navigated) = mpsc::channel(QUEUE);
        let own = listeners.iter().filter_map(|(address, _)| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        let own = own.chain(admin_address).collect();
        let calls = (functions, bindings);
        let shared = share(plan, calls, workers, &settings, (navigations, own))?;
        let (life, watched) = watch::channel(Life::Serving);
        let mut threads = Vec::new();
        let (ready, started) = signals::channel();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (shared, life, ready) = (Arc::clone(&shared), watched.clone(), ready.clone());
            let thread = std::thread::Builder::new()
                .name(format!("edge-{index}"))
                .stack_size(STACK)
                .spawn(move || thread::work(index, workers, shared, sockets, life, &ready))
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        drop(ready);
        for _ in 0..workers {
            if let Ok(Err(error)) = started.recv() {
                life.send_replace(Life::Ended);
                return Err(StartError::Runtime(error));
            }
        }
        threads.push(
            background::start(
                workers,
                Arc::clone(&shared),
                navigated,
                watched.clone(),
                settings.give_back,
            )
            .map_err(StartError::Thread)?,
        );
        threads.push(
            purge::sweep::start(
                Arc::clone(&shared.cache.purges),
                Arc::clone(&shared.cache.store),
                watched.clone(),
            )
            .map_err(StartError::Thread)?,
        );
        if admin_tcp.is_some() || admin_unix.is_some() {
            let credentials = admin::Credentials {
                token: settings.admin_token.filter(|token| !token.is_empty()),
                reader_token: settings
                    .admin_reader_token
                    .filter(|token| !token.is_empty()),
                keys: settings.admin_keys,
            };
            let with = (credentials, settings.cost_report);
            let sockets = (admin_tcp, admin_unix);
            let thread = admin::serve(sockets, Arc::clone(&shared), with, watched)
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        shared.live.load().tls.warn_of_expiry(shared.unix_now());
        tracing::debug!(workers, ?listeners, admin = ?admin_address, "serving");
        Ok(Self {
            shared,
            life,
            listeners,
            files: Mutex::new(files),
            admin_address,
            threads: Mutex::new(threads),
            reloading: Mutex::new(1),
        })
    }

    /// Time since the last beat of the worker whose last one is oldest: each beats once a second while it serves.
    pub fn silence(&self) -> Duration {
        self.shared.beats.silence()
    }

    /// Moves the wall clock of every decision to `seconds` from the real one, from the next request on. False, and nothing
    /// moves, unless the engine was started for tests.
    pub fn shift_clock(&self, seconds: i64) -> bool {
        let Some(shift) = &self.shared.test_clock else {
            return false;
        };
        shift.store(seconds, Ordering::Release);
        self.shared.next_epoch();
        true
    }

    /// True if the plan's disk tier is the one that is open: a reload cannot give it another.
    pub fn keeps_disk(&self, plan: &Plan) -> bool {
        self.shared.live.load().plan.disk_cache == plan.disk_cache
    }

    /// True if the plan's listeners are the ones that are bound: a reload binds and closes none.
    pub fn keeps_listeners(&self, plan: &Plan) -> bool {
        let bound = &self.shared.live.load().plan.listeners;
        bound.len() == plan.listeners.len()
            && bound
                .iter()
                .zip(&plan.listeners)
                .all(|(bound, wanted)| bound.address == wanted.address)
    }

    /// Addresses of the listeners for clients, with the ports that the system chose, and their schemes: those of the
    /// settings first.
    pub fn addresses(&self) -> Vec<(Scheme, ListenAddress)> {
        let live = self.shared.live.load();
        let scheme = |id: Option<ListenerId>| match id.and_then(|id| live.tls.get(id)) {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        self.listeners
            .iter()
            .map(|(address, id)| (scheme(*id), address.clone()))
            .collect()
    }

    /// Address of the admin listener, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The limits of functions.
    pub fn function_limits(&self) -> FunctionLimits {
        self.shared.live.load().plan.limits.functions.clone()
    }

    /// Time that a stop waits by default.
    pub fn drain_timeout(&self) -> Duration {
        self.shared.live.load().plan.limits.http.drain_timeout
    }

    /// All metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared.metrics(false)
    }

    /// Orders a purge, given and answered as the admin endpoint's JSON. Effective for every request from the return on.
    pub fn purge(&self, order: &serde_json::Value) -> Result<serde_json::Value, purge::Denied> {
        let live = self.shared.live.load_full();
        self.shared.cache.purge(&live.plan, order)
    }

    /// The purge with this id, or all that are remembered, as the admin endpoint's JSON.
    pub fn purges(&self, id: Option<&str>) -> Option<serde_json::Value> {
        match id {
            Some(id) => Some(self.shared.cache.purges.find(id)?.to_json()),
            None => Some(purge::orders::list(&self.shared.cache.purges)),
        }
    }

    /// Stops accepting; requests that are being answered go on. Needs only the engine's own threads.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.life.send_if_modified(|life| {
            let first = *life == Life::Serving;
            if first {
                *life = Life::Draining;
            }
            first
        });
    }

    /// Opens log files again by their names.
    pub fn reopen_logs(&self) {
        if let Some(access) = &self.shared.access_log {
            access.reopen();
        }
    }

    /// The records of DNS that issuers of certificates have to find.
    pub fn dns_records(&self) -> &Arc<RecordCalls> {
        self.shared.acme.records()
    }

    /// True if clients are connected.
    pub fn is_busy(&self) -> bool {
        self.shared.connections.count() > 0
    }

    /// Stops accepting, lets current requests finish for at most `drain` (the plan's limit when `None`), and
    /// ends. True when nothing was cut off.
    pub fn stop(&self, drain: Option<Duration>) -> bool {
        let patience = drain.unwrap_or_else(|| self.drain_timeout());
        let deadline = Instant::now() + patience;
        self.drain();
        while self.shared.connections.count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let drained = self.shared.connections.count() == 0;
        self.life.send_replace(Life::Ended);
        self.shared.cache.purges.wake();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        self.files.lock().clear();
        self.shared.acme.close();
        self.shared.counting.close();
        self.shared.cache.purges.close();
        if let Some(disk) = self.shared.cache.store.disk() {
            disk.close();
        }
        self.shared.files.close();
        self.shared.images.close();
        self.shared.compressors.close();
        if let Some(access) = &self.shared.access_log {
            access.close();
        }
        tracing::debug!(drained, "stopped");
        drained
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.life.send_replace(Life::Ended);
        self.shared.cache.purges.wake();
        self.shared.counting.end();
    }
}

/// The addresses of the settings, and those of the plan with their positions in it.
fn all_listeners(
    settings: &[SocketAddr],
    plan: &[Listener],
) -> impl Iterator<Item = (ListenAddress, Option<ListenerId>)> {
    let of_plan = plan.iter().zip(0u16..);
    settings
        .iter()
        .map(|address| (ListenAddress::Tcp(*address), None))
        .chain(of_plan.map(|(listener, at)| (listener.address.clone(), Some(ListenerId(at)))))
}

/// Every problem of a plan's certificates and keys.
pub fn check_tls(plan: &Plan) -> Result<(), Vec<Problem>> {
    tls_of(plan, None, &Arc::default()).map(drop)
}

/// TLS with clients; refuses certificates and keys that cannot be used, those for origins included.
fn tls_of(
    plan: &Plan,
    previous: Option<&TlsListeners>,
    issued: &Arc<IssuedCertificates>,
) -> Result<TlsListeners, Vec<Problem>> {
    let listeners = TlsListeners::of(plan, previous, issued);
    match (listeners, upstream::check_tls(plan)) {
        (Ok(listeners), Ok(())) => Ok(listeners),
        (listeners, origins) => {
            let of_listeners = listeners.err().into_iter().flatten();
            Err(of_listeners
                .chain(origins.err().into_iter().flatten())
                .collect())
        }
    }
}

fn of_process(path: &str, message: &str) -> Problem {
    Problem {
        path: path.to_owned(),
        value: None,
        message: message.to_owned(),
    }
}

/// The files of a plan's `geo`: those of the previous plan if it named the same.
fn places(
    plan: &Plan,
    previous: Option<&Arc<GeoFiles>>,
) -> Result<Option<Arc<GeoFiles>>, Vec<Problem>> {
    let policy = plan.geo.as_ref();
    policy
        .map(|policy| GeoFiles::succeed(previous, policy))
        .transpose()
}

fn share(
    plan: Plan,
    (functions, bindings): (Arc<dyn Functions>, Arc<Bindings>),
    workers: usize,
    settings: &Settings,
    (navigations, own_addresses): (mpsc::Sender<Navigation>, Box<[SocketAddr]>),
) -> Result<Arc<Shared>, StartError> {
    let geo = places(&plan, None).map_err(StartError::Geo)?;
    let test_clock = settings.test_clock.then(Arc::<AtomicI64>::default);
    let acme = AcmeService::new(clock::shared(test_clock.clone()));
    let secret = SecretNumbers::default();
    let counting = Counting::open(
        settings.experiments_file.as_deref(),
        secret.unguessable(),
        test_clock.clone(),
    )?;
    let counting = Arc::new(counting);
    counting.serve(&plan).map_err(StartError::Thread)?;
    let tls = tls_of(&plan, None, acme.certificates()).map_err(StartError::Tls)?;
    acme.serve(&plan).map_err(StartError::Thread)?;
    // Before the disk tier opens files of its own, which are reckoned with apart.
    let descriptors = settings
        .descriptors
        .map(|limit| tight::descriptors(limit, workers));
    let cache = Cache::open(&plan, default_capacity)?;
    // One more than serve: the background has a worker of its own.
    let metrics = Metrics::new(workers + 1, &plan);
    let keys = KeySources::of(&plan);
    let connections = tight::fit(descriptors, &plan, None);
    let health = Arc::new(HealthBoard::new(&plan));
    let account = Account::new(Budget::of_bound(plan.limits.http.request_memory_bytes).capacity);
    let compressors = Compressors::new(&plan.limits.compression);
    let files = Files::new(&plan.limits.files, open_files(descriptors, &plan));
    let images = Images::new(&plan.limits.images);
    let named_caches = plan.limits.functions.named_caches;
    let traces_due = Arc::<Notify>::default();
    let due = Arc::clone(&traces_due);
    let traces = Arc::new(TraceQueue::new(move || due.notify_one()));
    if let Some(policy) = &plan.tracing {
        traces.bound(policy.queue_spans);
    }
    let readings = ReadingBoard::begin(&plan, &bindings, None);
    let (store, purges) = (Arc::clone(&cache.store), Arc::clone(&cache.purges));
    let function_caches = Arc::new(Registry::new(store, purges, named_caches));
    let caches = Arc::clone(&function_caches) as Arc<dyn FunctionCaches>;
    let cdn_loop = CdnLoop::new(plan.via.pseudonym(), fastrand::u64(..));
    let live = Arc::new(ArcSwap::from_pointee(Live {
        plan,
        functions,
        bindings,
        caches,
        version: 1,
        keys,
        geo,
        readings,
        tls,
        connections,
    }));
    Ok(Arc::new(Shared {
        cache,
        fills: Fills::default(),
        watched: Watched::default(),
        navigations,
        visitors: RandomState::new(),
        cdn_loop,
        secret,
        counting,
        function_caches,
        compressors,
        files,
        images,
        own_addresses,
        health,
        metrics,
        connections: AllConnections::new(workers),
        handshakes: HandshakeCounts::default(),
        account,
        client_requests: PerClientCounts::new(),
        rates: Arc::default(),
        passwords: Passwords::default(),
        descriptors,
        draining: AtomicBool::new(false),
        beats: Beats::new(workers),
        access_log: settings.access_log.clone(),
        tails: Tails::default(),
        documents: Documents::default(),
        deploys: Deploys::default(),
        traces,
        traces_due,
        epoch: AtomicU64::new(0),
        test_clock,
        acme,
        live,
    }))
}

/// The number of files of routes that may be open at a time.
fn open_files(descriptors: Option<Descriptors>, plan: &Plan) -> usize {
    descriptors.map_or(plan.limits.files.open_files, |descriptors| {
        descriptors.open_files(plan)
    })
}

/// Bytes of the memory cache if the plan sets none: a quarter of the machine's memory, at most 4 GiB (docs/design.md
/// §11).
pub fn default_capacity() -> u64 {
    const MOST: u64 = 4 << 30;
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(1 << 30, |kib| kib << 10);
    (total / 4).min(MOST)
}
