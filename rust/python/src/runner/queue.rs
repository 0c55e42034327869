//! The bounded queues between workers and Python, and the counts of `/metrics` and `/readyz`: one for the event
//! loop, which runs what is awaited, and one for each [`ThreadPool`] of threads, which run plain calls.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::FunctionLimits;
use edgerouter_functions::{FunctionError, FunctionsLoad};
use edgerouter_telemetry::cores;
use parking_lot::{Condvar, Mutex};

use super::{
    arrivals::{Arrivals, TakesArrivals, Waiter},
    background::Background,
    job::{Job, Kind},
    pool::{Demand, PoolThread, ThreadPool, forget_closed},
    streams::Streams,
    watched_thread::WatchedThread,
};

/// More abandoned threads than this, and the process is not ready any more.
const MOST_ABANDONED: usize = 8;

/// State that workers and Python threads share.
pub(crate) struct Queues {
    /// Of the event loop.
    queue: Mutex<VecDeque<Box<Job>>>,
    queued: AtomicUsize,
    plain: ThreadPool,
    serial: ThreadPool,
    /// As many again as `plain` has, for calls that other calls wait for.
    nested: ThreadPool,
    /// Bound on calls that wait, wherever, and on tasks of the event loop.
    most: AtomicUsize,
    /// Python has been woken, or takes calls.
    awake: AtomicBool,
    /// Calls wait although Python is awake: so many run that the next one waits for one to end.
    held: AtomicBool,
    wake_writer: UnixStream,
    wake_reader: UnixStream,
    /// Tasks of the event loop.
    running: AtomicUsize,
    /// Threads that the watchdog is to start.
    wanted: Mutex<Vec<Kind>>,
    called: Condvar,
    abandoned: AtomicUsize,
    stopped: AtomicBool,
    /// Failures bring their traceback, for developers.
    traces: AtomicBool,
    pub(crate) watched: Mutex<Vec<Weak<WatchedThread>>>,
    pub(crate) background: Background,
    pub(crate) streams: Arc<Streams>,
    pub(crate) arrivals: Arrivals,
}

impl TakesArrivals for Queues {
    fn arrived(&self, waiter: Waiter) {
        Self::arrived(self, waiter);
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues")
            .field("running", &self.running)
            .field("abandoned", &self.abandoned)
            .finish_non_exhaustive()
    }
}

impl Queues {
    pub(crate) fn new(limits: &FunctionLimits) -> std::io::Result<Arc<Self>> {
        let (wake_writer, wake_reader) = UnixStream::pair()?;
        wake_writer.set_nonblocking(true)?;
        wake_reader.set_nonblocking(true)?;
        Ok(Arc::new_cyclic(|queues| Self {
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            plain: ThreadPool::new(threads(limits)),
            serial: ThreadPool::new(1),
            nested: ThreadPool::new(threads(limits)),
            most: AtomicUsize::new(limits.queue.max(1)),
            awake: AtomicBool::new(false),
            held: AtomicBool::new(false),
            wake_writer,
            wake_reader,
            running: AtomicUsize::new(0),
            wanted: Mutex::default(),
            called: Condvar::new(),
            abandoned: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            traces: AtomicBool::new(false),
            watched: Mutex::default(),
            background: Background::default(),
            streams: Streams::new(queues.clone() as Weak<dyn TakesArrivals>),
            arrivals: Arrivals::default(),
        }))
    }

    /// Puts a call into its queue; gives it back when the queue takes none. Never waits for Python.
    ///
    /// With a [`WakeOnDrop`] the caller wakes Python, at a time of its choice.
    pub(crate) fn push(
        self: &Arc<Self>,
        job: Box<Job>,
    ) -> Result<Option<WakeOnDrop>, (Box<Job>, FunctionError)> {
        let most = self.most.load(Ordering::Relaxed);
        if self.waiting() >= most {
            // Calls whose client has been answered 504 need not run.
            self.forget_closed();
            if self.waiting() >= most {
                return Err((job, FunctionError::QueueFull(most)));
            }
        }
        // A call that another one waits for must not wait for that one's place.
        let kind = match job.kind() {
            Kind::Plain if job.nested && self.plain.is_full() => Kind::Nested,
            kind => kind,
        };
        if job.nested
            && let Some(error) = self.no_place(kind, most)
        {
            return Err((job, error));
        }
        if let Some(pool) = self.pool(kind) {
            return match pool.push(job) {
                Ok(Demand::None) => Ok(None),
                Ok(Demand::Wake(pool_thread)) => Ok(Some(WakeOnDrop::Thread(pool_thread))),
                Ok(Demand::Start) => Ok(Some(WakeOnDrop::Start(Arc::clone(self), kind))),
                Err(job) => Err((job, FunctionError::Gone)),
            };
        }
        let mut queue = self.queue.lock();
        if self.stopped() {
            return Err((job, FunctionError::Gone));
        }
        queue.push_back(job);
        self.queued.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        let asleep = !self.awake.swap(true, Ordering::AcqRel);
        Ok(asleep.then(|| WakeOnDrop::Loop(Arc::clone(self))))
    }

    /// The reason why a call of this kind could not begin at once.
    fn no_place(&self, kind: Kind, most: usize) -> Option<FunctionError> {
        let (taken, most, bound) = match self.pool(kind) {
            None => {
                let running = self.running.load(Ordering::Acquire);
                (running >= most, most, "limits.functions.queue")
            }
            Some(pool) => {
                let bound = match kind {
                    Kind::Serial => "serial=True",
                    _ => "limits.functions.threads",
                };
                (pool.is_full(), pool.most(), bound)
            }
        };
        taken.then_some(FunctionError::NoPlace { most, bound })
    }

    fn forget_closed(&self) {
        self.plain.forget_closed();
        self.serial.forget_closed();
        self.nested.forget_closed();
        let mut queue = self.queue.lock();
        let closed = forget_closed(&mut queue);
        self.queued.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        // May free Python objects.
        drop(closed);
    }

    fn waiting(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
            + self.plain.waiting()
            + self.serial.waiting()
            + self.nested.waiting()
    }

    pub(crate) fn pool(&self, kind: Kind) -> Option<&ThreadPool> {
        match kind {
            Kind::Loop => None,
            Kind::Plain => Some(&self.plain),
            Kind::Serial => Some(&self.serial),
            Kind::Nested => Some(&self.nested),
        }
    }

    /// Has a further thread take a call that has waited for a while.
    pub(crate) fn nudge(&self, kind: Kind) {
        if let Some(pool) = self.pool(kind) {
            self.follow(kind, pool.nudge());
        }
    }

    pub(crate) fn follow(&self, kind: Kind, demand: Demand) {
        match demand {
            Demand::None => {}
            Demand::Wake(pool_thread) => pool_thread.wake(),
            Demand::Start => self.start(kind),
        }
    }

    /// Has the watchdog start a thread.
    fn start(&self, kind: Kind) {
        self.wanted.lock().push(kind);
        self.called.notify_one();
    }

    /// The threads to be started, after waiting for one for `patience` at most.
    pub(crate) fn wanted(&self, patience: Duration) -> Vec<Kind> {
        let mut wanted = self.wanted.lock();
        if wanted.is_empty() {
            let _ = self.called.wait_for(&mut wanted, patience);
        }
        std::mem::take(&mut *wanted)
    }

    /// Readable when calls wait for the event loop.
    pub(crate) fn fileno(&self) -> RawFd {
        self.wake_reader.as_raw_fd()
    }

    /// Has a task of the event loop wake up. Needs no interpreter.
    pub(crate) fn arrived(&self, waiter: Waiter) {
        if self.arrivals.keep(waiter) {
            self.wake_loop();
        }
    }

    fn wake_loop(&self) {
        // A full pipe wakes Python, too.
        let _ = (&self.wake_writer).write(&[1]);
    }

    pub(crate) fn drain_wakes(&self) {
        let mut woken = [0; 64];
        let _ = (&self.wake_reader).read(&mut woken);
    }

    /// The next call for the event loop whose worker still waits. `None`: the loop may sleep.
    pub(crate) fn next(&self) -> Option<Box<Job>> {
        loop {
            if self.running.load(Ordering::Acquire) >= self.most.load(Ordering::Relaxed) {
                self.held.store(true, Ordering::Release);
                // A call that ended meanwhile has not seen the flag.
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
                    // A call that came between the look and the store has woken nothing.
                    if self.queue.lock().is_empty() || self.awake.swap(true, Ordering::AcqRel) {
                        return None;
                    }
                }
            }
        }
    }

    /// Calls that the event loop has, or is about to take.
    pub(crate) fn going_on(&self) -> usize {
        self.running.load(Ordering::Relaxed) + self.queued.load(Ordering::Relaxed)
    }

    /// Time that the first call for the event loop has waited.
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

    /// Counts threads that were abandoned, or came back after all.
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
                + self.serial.running()
                + self.nested.running(),
            abandoned,
            streams: self.streams.open(),
            ready: abandoned <= MOST_ABANDONED,
            background: self.background.load(),
        }
    }

    pub(crate) fn bound(&self, limits: &FunctionLimits) {
        self.most.store(limits.queue.max(1), Ordering::Relaxed);
        self.plain.bound(threads(limits));
        self.nested.bound(threads(limits));
        self.background.bound(limits);
        self.streams.bound(limits.streams);
    }

    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        self.stopped.store(true, Ordering::Release);
        let left = std::mem::take(&mut *queue);
        self.queued.store(0, Ordering::Relaxed);
        drop(queue);
        // The drop notifies their workers; it may free Python objects, so not under a lock.
        let pools = [&self.plain, &self.serial, &self.nested].map(ThreadPool::stop);
        drop((left, pools));
        self.called.notify_all();
    }
}

/// Threads for plain calls.
fn threads(limits: &FunctionLimits) -> usize {
    limits.threads.unwrap_or_else(|| (cores() + 4).min(32))
}

/// Wakes Python when it is dropped.
#[derive(Debug)]
pub(crate) enum WakeOnDrop {
    Loop(Arc<Queues>),
    Thread(Arc<PoolThread>),
    Start(Arc<Queues>, Kind),
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        match self {
            Self::Loop(shared) => shared.wake_loop(),
            Self::Thread(pool_thread) => pool_thread.wake(),
            Self::Start(shared, kind) => shared.start(*kind),
        }
    }
}

/// A task that counts as running, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Running(Arc<Queues>);

impl Running {
    pub(crate) fn new(shared: &Arc<Queues>) -> Self {
        shared.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        if self.0.held.load(Ordering::Acquire) && self.0.held.swap(false, Ordering::AcqRel) {
            self.0.wake_loop();
        }
    }
}
