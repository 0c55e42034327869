//! A lane: the event loop of one thread, as it takes calls from the queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{
    call::Job,
    queue::{Running, Shared},
    seat::{GRACE, Seat},
    task::TaskCall,
};

/// Calls taken at once; between batches the loop looks after its tasks.
const BATCH: usize = 64;
/// A lane that has not come to its waiting calls for so long is stuck outside any callable: in a background task that
/// somebody started, for instance.
const MISSING: Duration = Duration::from_secs(5);

/// Tasks by deadline; the number tells apart those of the same instant.
type Tasks = BTreeMap<(Instant, u64), Py<PyAny>>;

/// What a lane and its tasks share.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seat: Arc<Seat>,
    tasks: Mutex<Tasks>,
    numbers: AtomicU64,
    last_here: Mutex<Instant>,
    left: AtomicBool,
}

impl Track {
    pub(crate) fn forget(&self, key: (Instant, u64)) {
        let mut tasks = self.tasks.lock();
        let mut found = tasks.remove(&key);
        if found.is_none() {
            // It was told to end before, and then waits under a later time.
            let later = tasks.keys().find(|(_, number)| *number == key.1).copied();
            found = later.and_then(|key| tasks.remove(&key));
        }
        drop(tasks);
        drop(found);
    }
}

/// An event loop's way to the queue.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Lane {
    track: Arc<Track>,
    create: Py<PyAny>,
}

impl Lane {
    pub(crate) fn new(py: Python<'_>, shared: &Arc<Shared>, create: Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            track: Arc::new(Track {
                shared: Arc::clone(shared),
                seat: Seat::here(py, shared, false, None)?,
                tasks: Mutex::default(),
                numbers: AtomicU64::new(0),
                last_here: Mutex::new(Instant::now()),
                left: AtomicBool::new(false),
            }),
            create,
        })
    }

    fn start(&self, py: Python<'_>, job: Job) -> PyResult<()> {
        let running = Running::new(&self.track.shared);
        let key = (
            job.deadline,
            self.track.numbers.fetch_add(1, Ordering::Relaxed),
        );
        let call = Py::new(
            py,
            TaskCall::new(Arc::clone(&self.track), key, job, running),
        )?;
        let task = self.create.call1(py, (&call,))?;
        if !call.get().over() {
            self.track.tasks.lock().insert(key, task);
        }
        Ok(())
    }
}

#[pymethods]
impl Lane {
    /// Takes and starts calls; `rung`: because the descriptor is readable. True when more wait.
    fn run(&self, py: Python<'_>, rung: bool) -> bool {
        let shared = &self.track.shared;
        if self.left() {
            return false;
        }
        if rung {
            shared.hear();
        }
        let mut more = true;
        for _ in 0..BATCH {
            let Some(job) = shared.next() else {
                more = false;
                break;
            };
            if let Err(error) = self.start(py, job) {
                error.write_unraisable(py, None);
            }
            // Its place was taken while it was stuck in that call.
            if self.left() {
                return false;
            }
        }
        *self.track.last_here.lock() = Instant::now();
        more
    }

    /// Tasks past their time, to be cancelled. One that goes on all the same comes again.
    fn expired(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let now = Instant::now();
        let mut tasks = self.track.tasks.lock();
        let mut found = Vec::new();
        while let Some(entry) = tasks.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), task) = entry.remove_entry();
            found.push((number, task));
        }
        for (number, task) in &found {
            tasks.insert((now + GRACE, *number), task.clone_ref(py));
        }
        drop(tasks);
        found.into_iter().map(|(_, task)| task).collect()
    }

    /// Whether this lane is stuck; then another takes its place, and this one takes no more calls.
    fn stuck(&self) -> bool {
        let (track, now) = (&self.track, Instant::now());
        let missing = || {
            let shared = &track.shared;
            !shared.holding()
                && now.saturating_duration_since(*track.last_here.lock()) > MISSING
                && shared.waited(now).is_some_and(|waited| waited > MISSING)
        };
        let stuck = track.seat.abandoned() || missing();
        if stuck {
            track.left.store(true, Ordering::Release);
        }
        stuck
    }

    /// Whether a callable is in one of its steps.
    #[getter]
    fn busy(&self) -> bool {
        self.track.seat.taken()
    }

    /// Whether its place was taken.
    #[getter]
    fn left(&self) -> bool {
        self.track.left.load(Ordering::Acquire)
    }
}
