//! Start, reload and stop: the engine as its owner sees it.

mod memory;
mod settings;
mod sharing;
mod thread;
mod versions;

pub use settings::{Settings, StartError};
use sharing::share;
pub use sharing::{check_tls, default_capacity};

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering, mpsc as signals},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgerouter_core::plan::{
    ListenAddress, Listener, ListenerId, Plan, Scheme, limits::FunctionLimits,
};
use edgerouter_telemetry::cores;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use thread::WorkerSocket;

use crate::{
    acme::RecordCalls,
    admin, background,
    data::Bindings,
    functions::Functions,
    life::{Life, joined},
    listen::{
        inherited, tcp,
        unix::{self, SocketFile},
    },
    navigation::QUEUE,
    purge,
    worker::Shared,
};

/// Bytes of a worker's stack, as the main thread has: the interpreter reads nested data by calls within calls, in
/// inline callables on a worker, and bounds them for a stack of this size.
const STACK: usize = 8 << 20;

/// Time that the threads have for their end when a stop cuts calls off. An inline callable that catches its interrupt
/// would keep its thread for ever.
const ENDING: Duration = Duration::from_secs(5);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    life: watch::Sender<Life>,
    /// The address of each listener, and its scheme.
    listeners: Vec<(ListenAddress, Option<ListenerId>)>,
    /// The files of unix sockets, for as long as they are listened on.
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
        let workers = settings.workers.unwrap_or_else(cores).clamp(1, 1024);
        let Bound {
            sockets,
            listeners,
            mut files,
        } = bind(workers, &settings.listen, &plan.listeners)?;
        let admin = bind_admin(&settings, &mut files)?;
        let admin_address = (admin.0.as_ref()).and_then(|socket| socket.local_addr().ok());

        let (navigations, navigated) = mpsc::channel(QUEUE);
        let own = listeners.iter().filter_map(|(address, _)| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        let own = own.chain(admin_address).collect();
        let calls = (functions, bindings);
        let shared = share(plan, calls, workers, &settings, (navigations, own))?;
        let (life, watched) = watch::channel(Life::Serving);
        let mut threads = start_workers(sockets, &shared, &life)?;
        threads.push(
            background::start(
                workers,
                Arc::clone(&shared),
                navigated,
                watched.clone(),
                settings.tend_memory,
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
        if admin.0.is_some() || admin.1.is_some() {
            let not_empty = |token: &String| !token.is_empty();
            let credentials = admin::Credentials {
                token: settings.admin_token.filter(not_empty),
                reader_token: settings.admin_reader_token.filter(not_empty),
                keys: settings.admin_keys,
            };
            let with = (credentials, settings.cost_report);
            let thread = admin::serve(admin, Arc::clone(&shared), with, watched)
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

    /// Moves the wall clock of every decision to `seconds` from the real one, from the next request on. False, and
    /// nothing moves, unless the engine was started for tests.
    pub fn shift_clock(&self, seconds: i64) -> bool {
        let Some(shift) = &self.shared.test_clock else {
            return false;
        };
        shift.store(seconds, Ordering::Release);
        self.shared.function_caches.shift_clock(seconds);
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
            None => Some(purge::orders::list(&self.shared.cache.purges, usize::MAX)),
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
        let began = Instant::now();
        self.drain();
        while self.shared.connections.count() > 0 && began.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let drained = self.shared.connections.count() == 0;
        self.life.send_replace(Life::Ended);
        self.shared.cache.purges.wake();
        let drained = self.join() && drained;
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

impl Engine {
    /// Waits for the end of the threads. False: an inline callable that does not come back holds one, which is
    /// abandoned.
    fn join(&self) -> bool {
        let deadline = Instant::now() + ENDING;
        let mut all = true;
        for thread in self.threads.lock().drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if !joined(thread, deadline) {
                tracing::error!(
                    thread = name,
                    "a thread did not end: an inline callable on it does not come back"
                );
                all = false;
            }
        }
        all
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.life.send_replace(Life::Ended);
        self.shared.cache.purges.wake();
        self.shared.counting.end();
    }
}

/// Everything that is bound for clients.
struct Bound {
    /// Of each worker, one for each listener.
    sockets: Vec<Vec<WorkerSocket>>,
    listeners: Vec<(ListenAddress, Option<ListenerId>)>,
    files: Vec<SocketFile>,
}

/// Binds the listeners for clients, once for each worker.
fn bind(workers: usize, settings: &[SocketAddr], plan: &[Listener]) -> Result<Bound, StartError> {
    let mut sockets: Vec<Vec<WorkerSocket>> = (0..workers).map(|_| Vec::new()).collect();
    let (mut listeners, mut files) = (Vec::new(), Vec::new());
    for (address, id) in all_listeners(settings, plan) {
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
    for address in inherited::unused() {
        tracing::warn!(
            "the socket {address} of the service manager has no listener, so its connections wait for nothing: add \
             --listen or Edge.listen for it, or take it out of the unit"
        );
    }
    Ok(Bound {
        sockets,
        listeners,
        files,
    })
}

/// Binds the addresses of the admin listener that the settings name.
fn bind_admin(
    settings: &Settings,
    files: &mut Vec<SocketFile>,
) -> Result<admin::Sockets, StartError> {
    let tcp = match settings.admin {
        Some(address) => tcp::bind(address, 1, "--admin")?.pop(),
        None => None,
    };
    let unix = match &settings.admin_socket {
        Some(path) => {
            let (socket, file) = unix::bind_private(path)?;
            files.extend(file);
            Some(socket)
        }
        None => None,
    };
    Ok((tcp, unix))
}

/// Starts a worker for each set of sockets, and returns when all of them accept.
fn start_workers(
    sockets: Vec<Vec<WorkerSocket>>,
    shared: &Arc<Shared>,
    life: &watch::Sender<Life>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let workers = sockets.len();
    let mut threads = Vec::with_capacity(workers);
    let (ready, started) = signals::channel();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (shared, life, ready) = (Arc::clone(shared), life.subscribe(), ready.clone());
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
    Ok(threads)
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
