//! The threads that open and read files: started on demand up to a bound, with a bounded queue before them.

use std::{collections::VecDeque, fs::File, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::FileTrouble;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(crate) struct FileThreads {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    most_threads: usize,
    most_waiting: usize,
    /// Searches, which are refused when too many wait.
    searches: VecDeque<Job>,
    /// Reads of files that are open, at most one for each of them: they come first, since clients wait in the middle of
    /// a response.
    reads: VecDeque<Job>,
    /// Files to close: the last holder of a removed file waits for its blocks to be freed.
    closing: Vec<File>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("threads", &self.threads)
            .field("searches", &self.searches.len())
            .field("reads", &self.reads.len())
            .finish_non_exhaustive()
    }
}

enum Work {
    Job(Job),
    Close(Vec<File>),
}

impl FileThreads {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets the bounds. Threads beyond a lower bound stay until the end; they are idle.
    pub(crate) fn bound(&self, threads: usize, waiting: usize) {
        let mut state = self.state.lock();
        state.most_threads = threads.max(1);
        state.most_waiting = waiting.max(1);
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().threads
    }

    /// Has a thread do a search; refused if too many wait.
    pub(crate) async fn search<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FileTrouble> {
        let (job, done) = answered(job);
        {
            let mut state = self.state.lock();
            if state.ended || state.searches.len() >= state.most_waiting {
                return Err(FileTrouble::Busy);
            }
            state.searches.push_back(job);
            self.wake(&mut state)?;
        }
        wait(patience, done).await
    }

    /// Has a thread read from an open file.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FileTrouble> {
        let (job, done) = answered(job);
        {
            let mut state = self.state.lock();
            if state.ended {
                return Err(FileTrouble::Busy);
            }
            state.reads.push_back(job);
            self.wake(&mut state)?;
        }
        wait(patience, done).await
    }

    /// Has a thread close a file.
    pub(crate) fn close(self: &Arc<Self>, file: File) {
        let mut state = self.state.lock();
        // Without a thread it is closed here, when the process ends anyway.
        if !state.ended {
            state.closing.push(file);
            let _ = self.wake(&mut state);
        }
    }

    /// The threads end once nothing is left to do.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.searches.clear();
        state.reads.clear();
        self.work.notify_all();
    }

    /// Wakes an idle thread, or starts a further one while there are few.
    fn wake(self: &Arc<Self>, state: &mut State) -> Result<(), FileTrouble> {
        let waiting =
            state.searches.len() + state.reads.len() + usize::from(!state.closing.is_empty());
        if state.idle >= waiting || state.threads >= state.most_threads {
            self.work.notify_one();
            return Ok(());
        }
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(format!("edge-files-{}", state.threads))
            .spawn(move || own.run());
        match thread {
            Ok(_) => state.threads += 1,
            Err(_) if state.threads > 0 => {
                self.work.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, "no thread to read files could be started");
                state.searches.clear();
                state.reads.clear();
                return Err(FileTrouble::Busy);
            }
        }
        Ok(())
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            match work {
                Work::Job(job) => job(),
                Work::Close(files) => drop(files),
            }
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.reads.pop_front() {
                return Some(Work::Job(job));
            }
            if let Some(job) = state.searches.pop_front() {
                return Some(Work::Job(job));
            }
            if !state.closing.is_empty() {
                return Some(Work::Close(std::mem::take(&mut state.closing)));
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

async fn wait<T>(patience: Duration, done: oneshot::Receiver<T>) -> Result<T, FileTrouble> {
    match tokio::time::timeout(patience, done).await {
        Ok(done) => done.map_err(|_| FileTrouble::Busy),
        Err(_) => Err(FileTrouble::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn threads(most: usize, waiting: usize) -> Arc<FileThreads> {
        let threads = FileThreads::new();
        threads.bound(most, waiting);
        threads
    }

    /// Occupies a thread until the sender is dropped; returns when the thread has begun.
    async fn occupy(threads: &Arc<FileThreads>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let own = Arc::clone(threads);
        tokio::spawn(async move {
            let job = move || {
                let _ = begun.send(());
                let _ = released.recv();
            };
            own.search(PATIENCE, job).await
        });
        begins.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_search_is_refused_when_as_many_wait_as_may() {
        let threads = threads(1, 1);
        let release = occupy(&threads).await;
        let mut waiting = Box::pin(threads.search(PATIENCE, || 1));
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())
        });
        assert!(polled.await);
        let refused = threads.search(PATIENCE, || 2).await;
        assert_eq!(refused, Err(FileTrouble::Busy));
        drop(release);
        assert_eq!(waiting.await, Ok(1));
        assert_eq!(threads.count(), 1);
        threads.end();
    }

    #[tokio::test]
    async fn a_search_that_nobody_waits_for_any_more_is_not_done() {
        let threads = threads(1, 10);
        let release = occupy(&threads).await;
        let (done, doing) = mpsc::channel();
        let late = threads.search(Duration::from_millis(1), move || done.send(()));
        assert!(matches!(late.await, Err(FileTrouble::TimedOut)));
        drop(release);
        assert_eq!(threads.search(PATIENCE, || 3).await, Ok(3));
        assert!(doing.try_recv().is_err());
        threads.end();
    }

    #[tokio::test]
    async fn threads_are_no_more_than_the_bound_and_none_is_started_while_one_is_idle() {
        let threads = threads(2, 10);
        for _ in 0..5 {
            let _ = threads.read(PATIENCE, || ()).await;
        }
        let some = threads.count();
        let all = [occupy(&threads).await, occupy(&threads).await];
        let mut more = Box::pin(threads.read(PATIENCE, || ()));
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(more.as_mut().poll(cx).is_pending()));
        assert!(polled.await);
        assert_eq!((threads.count(), some <= 2), (2, true));
        drop(all);
        assert_eq!(more.await, Ok(()));
        threads.end();
    }
}
