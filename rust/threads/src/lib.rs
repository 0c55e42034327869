//! Threads beside the workers, for work that waits for a disk or takes long.
//!
//! A [`ThreadPool`] starts its threads on demand, up to a bound, and has a bounded queue before them. It knows nothing
//! of the work: a job is a closure, and its result comes back to the task that waits for it. Jobs that nobody waits for
//! any more are left out. One that panics costs its own caller only: another thread takes the place of the one it ends.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// As many wait as may, no thread could be started, or the pool has ended.
    #[error("too many jobs wait for a thread")]
    Busy,
    /// It did not end in the time that its caller waits.
    #[error("the job did not end in time")]
    TimedOut,
}

/// Threads of one kind.
#[derive(Debug)]
pub struct ThreadPool {
    /// Of the threads, before a number.
    name: &'static str,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    most_threads: usize,
    most_waiting: usize,
    /// New work, which is refused when too much waits.
    submitted: VecDeque<Job>,
    /// Work that goes on for a response that has begun, at most one job for each: it comes first.
    continued: VecDeque<Job>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("threads", &self.threads)
            .field("submitted", &self.submitted.len())
            .field("continued", &self.continued.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The jobs that wait, which the caller drops when the lock is free: they may hold values that use the pool as they
    /// are dropped.
    fn take(&mut self) -> [VecDeque<Job>; 2] {
        [&mut self.submitted, &mut self.continued].map(std::mem::take)
    }
}

impl ThreadPool {
    /// Without any thread yet. `name`: of the threads, before a number.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::default(),
            work: Condvar::new(),
        })
    }

    /// Sets the bounds. Threads beyond a lower bound stay until the end; they are idle.
    pub fn bound(&self, threads: usize, waiting: usize) {
        let mut state = self.state.lock();
        state.most_threads = threads.max(1);
        state.most_waiting = waiting.max(1);
    }

    /// Threads that were started.
    pub fn count(&self) -> usize {
        self.state.lock().threads
    }

    /// Has a thread do new work; refused if too much waits.
    pub async fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (job, done) = answered(job);
        self.push(job)?;
        wait(patience, done).await
    }

    /// True if new work is not refused.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        !state.ended && state.submitted.len() < state.most_waiting
    }

    /// Has a thread do new work that delivers its result itself; refused if too much waits. The work is dropped when
    /// the pool ends before.
    pub fn enqueue(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> Result<(), NotDone> {
        self.push(Box::new(job))
    }

    fn push(self: &Arc<Self>, job: Job) -> Result<(), NotDone> {
        let mut state = self.state.lock();
        if state.ended || state.submitted.len() >= state.most_waiting {
            return Err(NotDone::Busy);
        }
        state.submitted.push_back(job);
        self.wake(state)
    }

    /// Has a thread go on with work for a response that has begun. The caller bounds the number of them.
    pub async fn proceed<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (job, done) = answered(job);
        {
            let mut state = self.state.lock();
            if state.ended {
                return Err(NotDone::Busy);
            }
            state.continued.push_back(job);
            self.wake(state)?;
        }
        wait(patience, done).await
    }

    /// Has a thread drop a value whose end may take a while. Without a thread it is dropped here.
    pub fn drop_aside<T: Send + 'static>(self: &Arc<Self>, value: T) {
        let mut state = self.state.lock();
        if !state.ended {
            state.continued.push_back(Box::new(move || drop(value)));
            let _ = self.wake(state);
        }
    }

    /// The threads end once they are idle.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let jobs = state.take();
        self.work.notify_all();
        // A file that a job holds comes back to this pool to be closed.
        drop(state);
        drop(jobs);
    }

    /// Wakes an idle thread, or starts a further one while there are few.
    fn wake(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> Result<(), NotDone> {
        let waiting = state.submitted.len() + state.continued.len();
        if state.idle >= waiting || state.threads >= state.most_threads {
            self.work.notify_one();
            return Ok(());
        }
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(format!("{}-{}", self.name, state.threads))
            .spawn(move || own.run());
        match thread {
            Ok(_) => state.threads += 1,
            Err(_) if state.threads > 0 => {
                self.work.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, name = self.name, "a thread could not be started");
                let jobs = state.take();
                drop(state);
                drop(jobs);
                return Err(NotDone::Busy);
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>) {
        let _replaced = Replaced(self);
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            let continued = state.continued.pop_front();
            if let Some(job) = continued.or_else(|| state.submitted.pop_front()) {
                return Some(job);
            }
            if state.ended {
                return None;
            }
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
    }
}

/// A thread that may end by the panic of a job.
struct Replaced<'p>(&'p Arc<ThreadPool>);

impl Drop for Replaced<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut state = self.0.state.lock();
        state.threads = state.threads.saturating_sub(1);
        if !(state.submitted.is_empty() && state.continued.is_empty()) {
            let _ = self.0.wake(state);
        }
    }
}

/// A job that sends its result, unless nobody waits for it any more.
fn answered<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> (Job, oneshot::Receiver<T>) {
    let (answer, done) = oneshot::channel();
    let job = Box::new(move || {
        if !answer.is_closed() {
            let _ = answer.send(job());
        }
    });
    (job, done)
}

async fn wait<T>(patience: Duration, done: oneshot::Receiver<T>) -> Result<T, NotDone> {
    match tokio::time::timeout(patience, done).await {
        Ok(done) => done.map_err(|_| NotDone::Busy),
        Err(_) => Err(NotDone::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{future::poll_fn, pin::Pin, sync::mpsc, task::Poll};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn threads(most: usize, waiting: usize) -> Arc<ThreadPool> {
        let threads = ThreadPool::new("test");
        threads.bound(most, waiting);
        threads
    }

    async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
    }

    /// Occupies a thread until the sender is dropped; returns when the thread has begun.
    async fn occupy(threads: &Arc<ThreadPool>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let own = Arc::clone(threads);
        tokio::spawn(async move {
            let job = move || {
                let _ = begun.send(());
                let _ = released.recv();
            };
            own.submit(PATIENCE, job).await
        });
        begins.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_job_is_refused_when_as_many_wait_as_may() {
        let threads = threads(1, 1);
        let release = occupy(&threads).await;
        let mut waiting = Box::pin(threads.submit(PATIENCE, || 1));
        assert!(is_pending(&mut waiting).await);
        let refused = threads.submit(PATIENCE, || 2).await;
        assert_eq!(refused, Err(NotDone::Busy));
        drop(release);
        assert_eq!(waiting.await, Ok(1));
        assert_eq!(threads.count(), 1);
        threads.end();
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_any_more_is_not_done() {
        let threads = threads(1, 10);
        let release = occupy(&threads).await;
        let (done, doing) = mpsc::channel();
        let late = threads.submit(Duration::from_millis(1), move || done.send(()));
        assert!(matches!(late.await, Err(NotDone::TimedOut)));
        drop(release);
        assert_eq!(threads.submit(PATIENCE, || 3).await, Ok(3));
        assert!(doing.try_recv().is_err());
        threads.end();
    }

    /// A value that comes back to the pool as it is dropped.
    struct Returns(Arc<ThreadPool>);

    impl Drop for Returns {
        fn drop(&mut self) {
            self.0.drop_aside(());
        }
    }

    #[tokio::test]
    async fn an_end_drops_jobs_whose_values_come_back_to_the_pool() {
        let threads = threads(1, 10);
        let release = occupy(&threads).await;
        let value = Returns(Arc::clone(&threads));
        let mut waiting = Box::pin(threads.proceed(PATIENCE, move || drop(value)));
        assert!(is_pending(&mut waiting).await);
        threads.end();
        assert_eq!(waiting.await, Err(NotDone::Busy));
        drop(release);
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_job_that_panics_costs_no_thread_and_no_job_behind_it() {
        let threads = threads(1, 10);
        let release = occupy(&threads).await;
        let mut broken = Box::pin(threads.submit(PATIENCE, || panic!("by a test")));
        let mut behind = Box::pin(threads.submit(PATIENCE, || 1));
        assert!(is_pending(&mut broken).await && is_pending(&mut behind).await);
        drop(release);
        assert_eq!(broken.await, Err::<(), _>(NotDone::Busy));
        assert_eq!(behind.await, Ok(1));
        assert_eq!(threads.submit(PATIENCE, || 2).await, Ok(2));
        assert_eq!(threads.count(), 1);
        threads.end();
    }

    #[tokio::test]
    async fn threads_are_no_more_than_the_bound_and_none_is_started_while_one_is_idle() {
        let threads = threads(2, 10);
        for _ in 0..5 {
            let _ = threads.proceed(PATIENCE, || ()).await;
        }
        let some = threads.count();
        let all = [occupy(&threads).await, occupy(&threads).await];
        let mut more = Box::pin(threads.proceed(PATIENCE, || ()));
        assert!(is_pending(&mut more).await);
        assert_eq!((threads.count(), some <= 2), (2, true));
        drop(all);
        assert_eq!(more.await, Ok(()));
        threads.end();
    }
}
