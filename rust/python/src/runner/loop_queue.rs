//! The end of the queue from which the event loop of one thread takes calls.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::{intern, prelude::*, types::PyDict};

use super::{
    Deadline,
    answers::AnswerTo,
    call::Settled,
    job::Job,
    queue::{Queues, Running},
    task::TaskCall,
    watched_thread::{GRACE, WatchedThread},
};

/// Calls taken at once; between batches the loop looks after its tasks.
const BATCH: usize = 64;
/// An event loop that has not come to its waiting calls for so long is stuck outside any callable, for instance in a
/// background task of the program.
const MISSING: Duration = Duration::from_secs(5);

/// Tasks by deadline; the number tells apart those of the same instant.
type Tasks = BTreeMap<(Instant, u64), Task>;

/// A task, and the end of its time; `None`: it is over.
type Task = (Py<PyAny>, Option<Deadline>);

/// State that the queue's end and its tasks share.
#[derive(Debug)]
pub(crate) struct LoopState {
    pub(crate) shared: Arc<Queues>,
    pub(crate) thread: Arc<WatchedThread>,
    tasks: Mutex<Tasks>,
    /// Has the loop call [`LoopQueue::announce`] at the end of its turn.
    later: Py<PyAny>,
    numbers: AtomicU64,
    last_run: Mutex<Instant>,
    replaced: AtomicBool,
}

impl LoopState {
    /// Answers a call. Its worker is woken at the end of the loop's turn, once for all answers; at once when no other
    /// call goes on.
    pub(crate) fn answer(&self, py: Python<'_>, to: AnswerTo, settled: Settled) {
        let first = self.thread.answer(to, settled);
        let alone = self.shared.going_on() <= 1;
        if alone || (first && self.later.call0(py).is_err()) {
            self.thread.announce();
        }
    }

    pub(crate) fn forget(&self, key: (Instant, u64)) {
        let mut tasks = self.tasks.lock();
        let mut found = tasks.remove(&key);
        if found.is_none() {
            // It was cancelled before, or waited for content, and then is found under a later time.
            let later = tasks.keys().find(|(_, number)| *number == key.1).copied();
            found = later.and_then(|key| tasks.remove(&key));
        }
        drop(tasks);
        drop(found);
    }
}

/// The end of the queue from which an event loop takes calls.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct LoopQueue {
    loop_state: Arc<LoopState>,
    create: Py<PyAny>,
}

impl LoopQueue {
    pub(crate) fn new(
        py: Python<'_>,
        shared: &Arc<Queues>,
        create: Py<PyAny>,
        later: Py<PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            loop_state: Arc::new(LoopState {
                shared: Arc::clone(shared),
                thread: WatchedThread::current(py, shared, false, None)?,
                tasks: Mutex::default(),
                later,
                numbers: AtomicU64::new(0),
                last_run: Mutex::new(Instant::now()),
                replaced: AtomicBool::new(false),
            }),
            create,
        })
    }

    fn start(&self, py: Python<'_>, job: Box<Job>) -> PyResult<()> {
        let running = Running::new(&self.loop_state.shared);
        let deadline = job.deadline.clone();
        let number = self.loop_state.numbers.fetch_add(1, Ordering::Relaxed);
        let key = (deadline.first(), number);
        let scope = job.scope(py);
        let call = Py::new(
            py,
            TaskCall::new(Arc::clone(&self.loop_state), key, job, running),
        )?;
        let task = match scope {
            None => self.create.call1(py, (&call,))?,
            Some(scope) => {
                let context = PyDict::new(py);
                context.set_item(intern!(py, "context"), scope)?;
                self.create.call(py, (&call,), Some(&context))?
            }
        };
        // From CPython 3.12 on its first step is over by now.
        if call.get().is_limited() {
            self.loop_state
                .tasks
                .lock()
                .insert(key, (task, Some(deadline)));
        }
        Ok(())
    }
}

#[pymethods]
impl LoopQueue {
    /// Takes and starts calls; `woken`: because the descriptor is readable. True when more wait.
    fn run(&self, py: Python<'_>, woken: bool) -> bool {
        let shared = &self.loop_state.shared;
        if self.replaced() {
            return false;
        }
        if woken {
            shared.drain_wakes();
            shared.arrivals.settle(py);
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
            // Another loop replaced it while it was stuck in that call.
            if self.replaced() {
                return false;
            }
        }
        *self.loop_state.last_run.lock() = Instant::now();
        more
    }

    /// Wakes the workers whose calls were answered in this turn of the loop.
    fn announce(&self) {
        self.loop_state.thread.announce();
    }

    /// Tasks past their time, to be cancelled; one that goes on all the same is given again.
    fn expired(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let now = Instant::now();
        let mut tasks = self.loop_state.tasks.lock();
        let mut found = Vec::new();
        while let Some(entry) = tasks.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), (task, deadline)) = entry.remove_entry();
            match deadline.as_ref().map(Deadline::at) {
                // It waited for content meanwhile.
                Some(later) if later > now => {
                    tasks.insert((later, number), (task, deadline));
                }
                _ => found.push((number, task)),
            }
        }
        for (number, task) in &found {
            tasks.insert((now + GRACE, *number), (task.clone_ref(py), None));
        }
        drop(tasks);
        found.into_iter().map(|(_, task)| task).collect()
    }

    /// True if the event loop is stuck; then another replaces it, and this one takes no more calls.
    fn stuck(&self) -> bool {
        let (loop_state, now) = (&self.loop_state, Instant::now());
        let missing = || {
            let shared = &loop_state.shared;
            !shared.holding()
                && now.saturating_duration_since(*loop_state.last_run.lock()) > MISSING
                && shared.waited(now).is_some_and(|waited| waited > MISSING)
        };
        let stuck = loop_state.thread.is_abandoned() || missing();
        if stuck {
            loop_state.replaced.store(true, Ordering::Release);
        }
        stuck
    }

    /// True if a callable is in one of its steps.
    #[getter]
    fn busy(&self) -> bool {
        self.loop_state.thread.is_busy()
    }

    /// True if another event loop has replaced this one.
    #[getter]
    fn replaced(&self) -> bool {
        self.loop_state.replaced.load(Ordering::Acquire)
    }
}
