//! Threads without an event loop, which take plain calls from a queue of their own.
//!
//! One thread is enough for as long as it keeps up: every switch between threads costs more than a quick call. It is
//! the pool's *leader* and takes calls as they come. A call that has waited for [`PATIENCE`] makes a further thread the
//! leader, a parked one or a new one; the old one goes on with what has waited that long, and parks when nothing has.
//! No thread is started and no Python object touched under the lock, which workers take, too.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::job::Job;

/// Time that a call waits before a further thread is woken for it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1);

/// A thread of a pool, to be woken by others.
#[derive(Debug)]
pub(crate) struct PoolThread {
    number: u64,
    thread: Thread,
    woken: AtomicBool,
}

impl PoolThread {
    /// Waits to be woken. Not while attached to the interpreter.
    pub(crate) fn park(&self) {
        while !self.woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The way in which a waiting call gets a thread.
#[derive(Debug)]
#[must_use]
pub(crate) enum Demand {
    /// A thread that is awake will take it, or all are busy.
    None,
    Wake(Arc<PoolThread>),
    /// A thread has to be started.
    Start,
}

/// The next thing that a thread does.
pub(crate) enum ThreadStep {
    Take(Box<Job>, Demand),
    Park,
    End(Demand),
}

#[derive(Debug)]
pub(crate) struct ThreadPool {
    state: Mutex<State>,
    waiting: AtomicUsize,
    running: AtomicUsize,
}

struct State {
    waiting: VecDeque<Box<Job>>,
    parked: Vec<Arc<PoolThread>>,
    leader: Option<Leader>,
    /// A thread has been requested and has not started yet.
    starting: bool,
    most: usize,
    threads: usize,
    /// Threads that are stuck and counted as lost.
    abandoned: usize,
    numbers: u64,
    stopped: bool,
}

#[derive(Debug, Clone, Copy)]
struct Leader {
    number: u64,
    /// It has taken a call since it was woken.
    came: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .field("parked", &self.parked.len())
            .field("threads", &self.threads)
            .field("abandoned", &self.abandoned)
            .finish_non_exhaustive()
    }
}

impl State {
    /// A further thread, unless one is on its way. It leads from now on.
    fn further(&mut self) -> Demand {
        if self.starting || self.leader.is_some_and(|leader| !leader.came) || self.stopped {
            return Demand::None;
        }
        if let Some(pool_thread) = self.parked.pop() {
            self.leader = Some(Leader {
                number: pool_thread.number,
                came: false,
            });
            return Demand::Wake(pool_thread);
        }
        if self.threads < self.most + self.abandoned {
            self.starting = true;
            return Demand::Start;
        }
        Demand::None
    }

    fn has_waited(&self, now: Instant) -> bool {
        self.waiting
            .front()
            .is_some_and(|job| job.waited(now) >= PATIENCE)
    }

    fn leads(&self, pool_thread: &PoolThread) -> bool {
        self.leader
            .is_some_and(|leader| leader.number == pool_thread.number)
    }

    fn resign(&mut self, pool_thread: &PoolThread) {
        if self.leads(pool_thread) {
            self.leader = None;
        }
    }
}

impl ThreadPool {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                parked: Vec::new(),
                leader: None,
                starting: false,
                most: most.max(1),
                threads: 0,
                abandoned: 0,
                numbers: 0,
                stopped: false,
            }),
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        }
    }

    pub(crate) fn bound(&self, most: usize) {
        self.state.lock().most = most.max(1);
    }

    /// Adds a call; gives it back when the pool has stopped.
    pub(crate) fn push(&self, job: Box<Job>) -> Result<Demand, Box<Job>> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(job);
        }
        state.waiting.push_back(job);
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        if state.leader.is_some() {
            return Ok(Demand::None);
        }
        Ok(state.further())
    }

    /// A call has waited for [`PATIENCE`]: a further thread takes it, if it still waits.
    pub(crate) fn nudge(&self) -> Demand {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.has_waited(now) {
            return state.further();
        }
        Demand::None
    }

    /// A new thread comes to the pool.
    pub(crate) fn join(&self) -> Arc<PoolThread> {
        let mut state = self.state.lock();
        state.starting = false;
        state.threads += 1;
        state.numbers += 1;
        let number = state.numbers;
        state.leader = Some(Leader {
            number,
            came: false,
        });
        Arc::new(PoolThread {
            number,
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        })
    }

    /// A thread leaves for good. A call that waits gets another one.
    pub(crate) fn leave(&self, pool_thread: &PoolThread) -> Demand {
        let mut state = self.state.lock();
        state.threads = state.threads.saturating_sub(1);
        state.resign(pool_thread);
        if state.waiting.is_empty() {
            Demand::None
        } else {
            state.further()
        }
    }

    /// The thread that was requested could not be started; the next call that waits too long requests one again.
    pub(crate) fn not_started(&self) {
        self.state.lock().starting = false;
    }

    /// The next thing that a thread does; calls whose client has been answered already are dropped.
    pub(crate) fn next(&self, pool_thread: &Arc<PoolThread>) -> ThreadStep {
        let mut forgotten = Vec::new();
        let mut state = self.state.lock();
        while state
            .waiting
            .front()
            .is_some_and(|job| job.answer.is_closed())
        {
            forgotten.extend(state.waiting.pop_front());
        }
        let next = Self::next_of(&mut state, pool_thread);
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        // May free Python objects.
        drop(forgotten);
        next
    }

    fn next_of(state: &mut State, pool_thread: &Arc<PoolThread>) -> ThreadStep {
        let leads = state.leads(pool_thread);
        if state.stopped || state.threads > state.most + state.abandoned {
            state.resign(pool_thread);
            let waits = !state.waiting.is_empty();
            return ThreadStep::End(if waits { state.further() } else { Demand::None });
        }
        let takes = leads || state.leader.is_none() || state.has_waited(Instant::now());
        if takes && let Some(job) = state.waiting.pop_front() {
            if leads || state.leader.is_none() {
                state.leader = Some(Leader {
                    number: pool_thread.number,
                    came: true,
                });
            }
            let late = !state.waiting.is_empty() && state.has_waited(Instant::now());
            let demand = if late { state.further() } else { Demand::None };
            return ThreadStep::Take(job, demand);
        }
        state.resign(pool_thread);
        state.parked.push(Arc::clone(pool_thread));
        ThreadStep::Park
    }

    /// Drops calls whose client has been answered already: they are not worth their place.
    pub(crate) fn forget_closed(&self) {
        let mut state = self.state.lock();
        let closed = forget_closed(&mut state.waiting);
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        drop(closed);
    }

    /// Counts threads that are stuck, or came back after all.
    pub(crate) fn gave_up(&self, change: isize) -> Demand {
        let mut state = self.state.lock();
        state.abandoned = state.abandoned.saturating_add_signed(change);
        if change > 0 && !state.waiting.is_empty() {
            return state.further();
        }
        Demand::None
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// True if each thread that there may be runs a call, or one waits for it already.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state.lock();
        let most = state.most + state.abandoned;
        drop(state);
        self.running() + self.waiting() >= most
    }

    /// The number of threads that there may be, those that are stuck apart.
    pub(crate) fn most(&self) -> usize {
        self.state.lock().most
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts a call as running while the guard lives.
    pub(crate) fn run(&self) -> Ran<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Ran(self)
    }

    /// Takes no more, ends its threads, and gives back what waits: dropping it may free Python objects.
    pub(crate) fn stop(&self) -> VecDeque<Box<Job>> {
        let mut state = self.state.lock();
        state.stopped = true;
        self.waiting.store(0, Ordering::Relaxed);
        for pool_thread in state.parked.drain(..) {
            pool_thread.wake();
        }
        std::mem::take(&mut state.waiting)
    }
}

/// Takes the calls out whose client has been answered already. Dropping them may free Python objects.
pub(crate) fn forget_closed(jobs: &mut VecDeque<Box<Job>>) -> VecDeque<Box<Job>> {
    let (closed, open) = std::mem::take(jobs)
        .into_iter()
        .partition(|job| job.answer.is_closed());
    *jobs = open;
    closed
}

/// See [`ThreadPool::run`].
#[derive(Debug)]
pub(crate) struct Ran<'p>(&'p ThreadPool);

impl Drop for Ran<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
