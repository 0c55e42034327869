//! The bounded queue between workers and Python, and the counts that `/metrics` and `/readyz` tell.

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

use edgerouter_engine::functions::{FunctionError, FunctionsLoad};
use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{
    background::Background,
    call::Job,
    lane::Lane,
    seat::{Interrupt, Seat},
};

/// More abandoned threads than this, and the process is not ready any more.
const MOST_ABANDONED: usize = 8;

/// What workers and Python threads share.
pub(crate) struct Shared {
    queue: Mutex<VecDeque<Job>>,
    /// Bound on calls that wait, and on calls that run: async ones may be many.
    most: AtomicUsize,
    /// Python has been woken, or is at the queue.
    awake: AtomicBool,
    /// Calls wait although Python is awake: so many run that the next one waits for one to end.
    held: AtomicBool,
    bell: UnixStream,
    ear: UnixStream,
    running: AtomicUsize,
    /// Calls that wait for a thread of the pool.
    pooled: AtomicUsize,
    abandoned: AtomicUsize,
    stopped: AtomicBool,
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
    fn new(most: usize) -> std::io::Result<Arc<Self>> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Arc::new(Self {
            queue: Mutex::default(),
            most: AtomicUsize::new(most.max(1)),
            awake: AtomicBool::new(false),
            held: AtomicBool::new(false),
            bell,
            ear,
            running: AtomicUsize::new(0),
            pooled: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            seats: Mutex::default(),
            background: Background::default(),
        }))
    }

    /// Puts a call into the queue; gives it back when the queue takes none. Never waits for Python.
    ///
    /// With a [`Bell`] the caller has to wake Python, at a time of its choice.
    pub(crate) fn push(
        self: &Arc<Self>,
        job: Job,
    ) -> Result<Option<Bell>, (Box<Job>, FunctionError)> {
        let most = self.most.load(Ordering::Relaxed);
        let most_here = most.saturating_sub(self.pooled.load(Ordering::Relaxed));
        let mut queue = self.queue.lock();
        if self.stopped() {
            return Err((Box::new(job), FunctionError::Gone));
        }
        // Calls whose client was told that it took too long are not worth running.
        if queue.len() >= most_here {
            queue.retain(|job| !job.answer.is_closed());
        }
        if queue.len() >= most_here {
            return Err((Box::new(job), FunctionError::QueueFull(most)));
        }
        queue.push_back(job);
        drop(queue);
        let asleep = !self.awake.swap(true, Ordering::AcqRel);
        Ok(asleep.then(|| Bell(Arc::clone(self))))
    }

    fn ring(&self) {
        // A full pipe means that Python has been told.
        let _ = (&self.bell).write(&[1]);
    }

    pub(crate) fn hear(&self) {
        let mut rung = [0; 64];
        let _ = (&self.ear).read(&mut rung);
    }

    /// The next call that somebody waits for. `None`: Python may sleep.
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
            let found = self.queue.lock().pop_front();
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

    /// Seconds that the first call has waited.
    pub(crate) fn waited(&self, now: Instant) -> Option<Duration> {
        let queue = self.queue.lock();
        let first = queue.iter().find(|job| !job.answer.is_closed())?;
        Some((now + first.timeout).saturating_duration_since(first.deadline))
    }

    /// Counts calls that wait for a thread of the pool.
    pub(crate) fn pooled(&self, change: isize) {
        let _ = self
            .pooled
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |pooled| {
                pooled.checked_add_signed(change)
            });
    }

    pub(crate) fn holding(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Counts threads that were left behind, or came back after all.
    pub(crate) fn gave_up(&self, change: isize) {
        let _ = self
            .abandoned
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |abandoned| {
                abandoned.checked_add_signed(change)
            });
    }

    pub(crate) fn load(&self) -> FunctionsLoad {
        let abandoned = self.abandoned.load(Ordering::Acquire);
        FunctionsLoad {
            waiting: self.queue.lock().len() + self.pooled.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            abandoned,
            ready: abandoned <= MOST_ABANDONED,
            background: self.background.load(),
        }
    }

    pub(crate) fn bound(&self, most: usize) {
        self.most.store(most.max(1), Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        self.stopped.store(true, Ordering::Release);
        let left = std::mem::take(&mut *queue);
        drop(queue);
        // Their workers are told by the drop; it may free Python objects, so not under the lock.
        drop(left);
    }
}

/// Wakes Python when it is dropped.
#[derive(Debug)]
pub(crate) struct Bell(Arc<Shared>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// A call that counts as running, for as long as this lives.
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
    pub(crate) fn new(most: usize) -> PyResult<Self> {
        Ok(Self {
            shared: Shared::new(most)?,
        })
    }
}

#[pymethods]
impl Runner {
    /// Readable when calls wait.
    fn fileno(&self) -> i32 {
        self.shared.ear.as_raw_fd()
    }

    /// A lane for the event loop of this very thread. `create(coroutine)` makes a task, `submit(call)` hands a call to
    /// the pool.
    fn lane(&self, py: Python<'_>, create: Py<PyAny>, submit: Py<PyAny>) -> PyResult<Lane> {
        Lane::new(py, &self.shared, create, submit)
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
