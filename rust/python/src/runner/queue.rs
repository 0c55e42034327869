//! The bounded queues between workers and Python, and the counts that `/metrics` and `/readyz` tell: one for the event
//! loop, which runs what is awaited, and one for each [`Pool`] of threads, which run plain calls.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::FunctionLimits;
use edgerouter_engine::functions::{FunctionError, FunctionsLoad};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use super::{
    background::Background,
    call::Job,
    lane::Lane,
    pool::{Bed, Kind, Next, Pool, Summons},
    seat::{Interrupt, Seat},
};

/// More abandoned threads than this, and the process is not ready any more.
const MOST_ABANDONED: usize = 8;

/// What workers and Python threads share.
pub(crate) struct Shared {
    /// Of the event loop.
    queue: Mutex<VecDeque<Job>>,
    queued: AtomicUsize,
    plain: Pool,
    serial: Pool,
    /// Bound on calls that wait, wherever, and on tasks of the event loop.
    most: AtomicUsize,
    /// Python has been woken, or is at the queue.
    awake: AtomicBool,
    /// Calls wait although Python is awake: so many run that the next one waits for one to end.
    held: AtomicBool,
    bell: UnixStream,
    ear: UnixStream,
    /// Tasks of the event loop.
    running: AtomicUsize,
    /// Threads to be started, told to the watchdog.
    wanted: Mutex<Vec<Kind>>,
    called: Condvar,
    abandoned: AtomicUsize,
    stopped: AtomicBool,
    /// Failures bring their traceback, for developers.
    traces: AtomicBool,
    pub(crate) seats: Mutex<Vec<Weak<Seat>>>,
    pub(crate) background: Background,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("running", &self.running)
            .field("abandoned", &self.abandoned)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new(limits: &FunctionLimits) -> std::io::Result<Arc<Self>> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Arc::new(Self {
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            plain: Pool::new(threads(limits)),
            serial: Pool::new(1),
            most: AtomicUsize::new(limits.queue.max(1)),
            awake: AtomicBool::new(false),
            held: AtomicBool::new(false),
            bell,
            ear,
            running: AtomicUsize::new(0),
            wanted: Mutex::default(),
            called: Condvar::new(),
            abandoned: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            traces: AtomicBool::new(false),
            seats: Mutex::default(),
            background: Background::default(),
        }))
    }

    /// Puts a call into its queue; gives it back when the queue takes none. Never waits for Python.
    ///
    /// With a [`Bell`] the caller has to wake Python, at a time of its choice.
    pub(crate) fn push(
        self: &Arc<Self>,
        job: Job,
    ) -> Result<Option<Bell>, (Box<Job>, FunctionError)> {
        let most = self.most.load(Ordering::Relaxed);
        if self.waiting() >= most {
            // Calls whose client was told that it took too long are not worth running.
            self.forget_closed();
            if self.waiting() >= most {
                return Err((Box::new(job), FunctionError::QueueFull(most)));
            }
        }
        if let Some(pool) = self.pool(job.kind()) {
            let kind = job.kind();
            return match pool.push(job) {
                Ok(Summons::None) => Ok(None),
                Ok(Summons::Wake(bed)) => Ok(Some(Bell::Thread(bed))),
                Ok(Summons::Start) => Ok(Some(Bell::Start(Arc::clone(self), kind))),
                Err(job) => Err((job, FunctionError::Gone)),
            };
        }
        let mut queue = self.queue.lock();
        if self.stopped() {
            return Err((Box::new(job), FunctionError::Gone));
        }
        queue.push_back(job);
        self.queued.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        let asleep = !self.awake.swap(true, Ordering::AcqRel);
        Ok(asleep.then(|| Bell::Loop(Arc::clone(self))))
    }

    fn forget_closed(&self) {
        self.plain.forget_closed();
        self.serial.forget_closed();
        let mut queue = self.queue.lock();
        let (closed, open): (VecDeque<Job>, _) = std::mem::take(&mut *queue)
            .into_iter()
            .partition(|job| job.answer.is_closed());
        *queue = open;
        self.queued.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        // May free Python objects.
        drop(closed);
    }

    fn waiting(&self) -> usize {
        self.queued.load(Ordering::Relaxed) + self.plain.waiting() + self.serial.waiting()
    }

    pub(crate) fn pool(&self, kind: Kind) -> Option<&Pool> {
        match kind {
            Kind::Loop => None,
            Kind::Plain => Some(&self.plain),
            Kind::Serial => Some(&self.serial),
        }
    }

    /// A call of this kind has waited for a while: a further thread takes it.
    pub(crate) fn nudge(&self, kind: Kind) {
        if let Some(pool) = self.pool(kind) {
            self.follow(kind, pool.nudge());
        }
    }

    pub(crate) fn follow(&self, kind: Kind, summons: Summons) {
        match summons {
            Summons::None => {}
            Summons::Wake(bed) => bed.wake(),
            Summons::Start => self.start(kind),
        }
    }

    /// Has the watchdog start a thread.
    fn start(&self, kind: Kind) {
        self.wanted.lock().push(kind);
        self.called.notify_one();
    }

    fn ring(&self) {
        // A full pipe means that Python has been told.
        let _ = (&self.bell).write(&[1]);
    }

    pub(crate) fn hear(&self) {
        let mut rung = [0; 64];
        let _ = (&self.ear).read(&mut rung);
    }

    /// The next call for the event loop that somebody waits for. `None`: it may sleep.
    pub(crate) fn next(&self) -> Option<Job> {
        loop {
            if self.running.load(Ordering::Acquire) >= self.most.load(Ordering::Relaxed) {
                self.held.store(true, Ordering::Release);
                // One that ended meanwhile has not seen that it is waited for.
                let full =
                    self.running.load(Ordering::Acquire) >= self.most.load(Ordering::Relaxed);
                if full || !self.held.swap(false, Ordering::AcqRel) {
                    return None;
                }
            }
            let found = {
                let mut queue = self.queue.lock();
                let found = queue.pop_front();
                self.queued.store(queue.len(), Ordering::Relaxed);
                found
            };
            match found {
                Some(job) if job.answer.is_closed() => {}
                Some(job) => return Some(job),
                None => {
                    self.awake.store(false, Ordering::Release);
                    // A call that came after the look and before the store has rung nothing.
                    if self.queue.lock().is_empty() || self.awake.swap(true, Ordering::AcqRel) {
                        return None;
                    }
                }
            }
        }
    }

    /// How long the first call for the event loop has waited.
    pub(crate) fn waited(&self, now: Instant) -> Option<Duration> {
        let queue = self.queue.lock();
        let first = queue.iter().find(|job| !job.answer.is_closed())?;
        Some(first.waited(now))
    }

    pub(crate) fn holding(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(crate) fn show_traces(&self, show: bool) {
        self.traces.store(show, Ordering::Relaxed);
    }

    pub(crate) fn traces(&self) -> bool {
        self.traces.load(Ordering::Relaxed)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Counts threads that were left behind, or came back after all.
    pub(crate) fn gave_up(&self, kind: Option<Kind>, change: isize) {
        let _ = self
            .abandoned
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |abandoned| {
                abandoned.checked_add_signed(change)
            });
        if let Some(kind) = kind
            && let Some(pool) = self.pool(kind)
        {
            self.follow(kind, pool.gave_up(change));
        }
    }

    pub(crate) fn load(&self) -> FunctionsLoad {
        let abandoned = self.abandoned.load(Ordering::Acquire);
        FunctionsLoad {
            waiting: self.waiting(),
            running: self.running.load(Ordering::Relaxed)
                + self.plain.running()
                + self.serial.running(),
            abandoned,
            ready: abandoned <= MOST_ABANDONED,
            background: self.background.load(),
        }
    }

    pub(crate) fn bound(&self, limits: &FunctionLimits) {
        self.most.store(limits.queue.max(1), Ordering::Relaxed);
        self.plain.bound(threads(limits));
        self.background.bound(limits);
    }

    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        self.stopped.store(true, Ordering::Release);
        let left = std::mem::take(&mut *queue);
        self.queued.store(0, Ordering::Relaxed);
        drop(queue);
        // Their workers are told by the drop; it may free Python objects, so not under a lock.
        drop((left, self.plain.stop(), self.serial.stop()));
        self.called.notify_all();
    }
}

/// Threads for plain calls.
fn threads(limits: &FunctionLimits) -> usize {
    limits.threads.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores + 4).min(32)
    })
}

/// Wakes Python when it is dropped.
#[derive(Debug)]
pub(crate) enum Bell {
    Loop(Arc<Shared>),
    Thread(Arc<Bed>),
    Start(Arc<Shared>, Kind),
}

impl Drop for Bell {
    fn drop(&mut self) {
        match self {
            Self::Loop(shared) => shared.ring(),
            Self::Thread(bed) => bed.wake(),
            Self::Start(shared, kind) => shared.start(*kind),
        }
    }
}

/// A task that counts as running, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Running {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        if self.0.held.load(Ordering::Acquire) && self.0.held.swap(false, Ordering::AcqRel) {
            self.0.ring();
        }
    }
}

/// The Python side's end of the queue.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
}

impl Runner {
    pub(crate) fn new(limits: &FunctionLimits) -> PyResult<Self> {
        let shared = Shared::new(limits)?;
        shared.background.bound(limits);
        Ok(Self { shared })
    }
}

#[pymethods]
impl Runner {
    /// Readable when calls wait.
    fn fileno(&self) -> i32 {
        self.shared.ear.as_raw_fd()
    }

    /// A lane for the event loop of this very thread. `create(coroutine)` makes a task.
    fn lane(&self, py: Python<'_>, create: Py<PyAny>) -> PyResult<Lane> {
        Lane::new(py, &self.shared, create)
    }

    /// Runs plain calls on this very thread until it is not needed any more; `serial`: those that run one at a time.
    fn work(&self, py: Python<'_>, serial: bool) -> PyResult<()> {
        let kind = if serial { Kind::Serial } else { Kind::Plain };
        let shared = &self.shared;
        let Some(pool) = shared.pool(kind) else {
            return Ok(());
        };
        let bed = pool.join();
        let worked = Seat::here(py, shared, false, Some(kind)).map(|seat| {
            loop {
                let (job, summons) = match pool.next(&bed) {
                    Next::Take(job, summons) => (job, summons),
                    Next::Park => {
                        py.detach(|| bed.park());
                        continue;
                    }
                    Next::End(summons) => return shared.follow(kind, summons),
                };
                shared.follow(kind, summons);
                let running = pool.run();
                let rest = job.run(py, &seat);
                drop(running);
                // An awaitable is for an event loop.
                if let Some(job) = rest
                    && let Err((job, error)) = shared.push(job)
                {
                    let _ = job.answer.send(Err(error));
                }
            }
        });
        shared.follow(kind, pool.leave(&bed));
        worked
    }

    /// Waits until threads are wanted, for `seconds` at most. Each item: whether it is the one of serial calls.
    fn watch(&self, py: Python<'_>, seconds: f64) -> Vec<bool> {
        let patience = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let shared = &self.shared;
        let wanted = py.detach(|| {
            let mut wanted = shared.wanted.lock();
            if wanted.is_empty() {
                let _ = shared.called.wait_for(&mut wanted, patience);
            }
            std::mem::take(&mut *wanted)
        });
        wanted.iter().map(|kind| *kind == Kind::Serial).collect()
    }

    /// A thread that was wanted could not be started.
    fn not_started(&self, serial: bool) {
        let kind = if serial { Kind::Serial } else { Kind::Plain };
        if let Some(pool) = self.shared.pool(kind) {
            pool.not_started();
        }
    }

    /// `start(call, awaited)` goes on with what `wait_until` was given.
    fn background(&self, start: Py<PyAny>) {
        self.shared.background.attach(Some(start));
    }

    /// Threads whose callable is past its time: each is to be interrupted, and told so by `sent()`.
    fn overdue(&self) -> Vec<Interrupt> {
        let now = Instant::now();
        let seats: Vec<Arc<Seat>> = self
            .shared
            .seats
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        seats.iter().filter_map(|seat| seat.overdue(now)).collect()
    }

    /// Calls waiting, running, and threads abandoned.
    fn load(&self) -> (usize, usize, usize) {
        let load = self.shared.load();
        (load.waiting, load.running, load.abandoned)
    }
}
