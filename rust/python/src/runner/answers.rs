//! The way of an answer from a Python thread back to the worker that called.
//!
//! Waking a worker is a system call and, on a shared core, a switch to the worker and back. So a Python thread only puts
//! an answer among the [`ReadyAnswers`] of its worker, and [`Unannounced`] wakes each worker once for all of them: at
//! the end of the loop's turn, when a thread has no further call, or before a step that may take long. A task on the
//! worker ([`CallingWorker`]) then gives each call its answer, without a system call.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::call::Settled;

/// The time for which an answer may be held back while further quick calls run.
const LATE: Duration = Duration::from_micros(200);
/// Intervals at which a worker with several calls under way looks for answers itself: a Python thread that holds some
/// may be stuck in a step that was quick before. They double while nothing comes.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// Answers that their worker has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct ReadyAnswers {
    answers: Mutex<Vec<(oneshot::Sender<Settled>, Settled)>>,
    announced: Notify,
}

impl ReadyAnswers {
    /// Gives the answers to their calls. On the worker's own thread, where that wakes nobody by a system call.
    fn deliver(&self) {
        let answers = std::mem::take(&mut *self.answers.lock());
        for (call, settled) in answers {
            // A call that was given up meanwhile needs none.
            let _ = call.send(settled);
        }
    }
}

/// The call that waits for an answer, and its worker.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    call: oneshot::Sender<Settled>,
    worker: Arc<ReadyAnswers>,
}

impl AnswerTo {
    /// True if nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.call.is_closed()
    }

    /// Answers, and wakes the worker for this alone.
    pub(crate) fn send(self, settled: Settled) {
        let _ = self.call.send(settled);
    }
}

/// The workers for which one Python thread has put answers and has not woken yet.
#[derive(Debug, Default)]
pub(crate) struct Unannounced {
    workers: Vec<Arc<ReadyAnswers>>,
    since: Option<Instant>,
}

impl Unannounced {
    /// Puts an answer among those of its worker; true if it is the first since the workers were woken.
    pub(crate) fn put(&mut self, to: AnswerTo, settled: Settled) -> bool {
        if to.is_closed() {
            return false;
        }
        to.worker.answers.lock().push((to.call, settled));
        if !self
            .workers
            .iter()
            .any(|worker| Arc::ptr_eq(worker, &to.worker))
        {
            self.workers.push(to.worker);
        }
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        first
    }

    /// Wakes each worker that has answers.
    pub(crate) fn announce(&mut self) {
        self.since = None;
        for worker in self.workers.drain(..) {
            worker.announced.notify_one();
        }
    }

    /// True if the first has been held back for long.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > LATE)
    }
}

impl Drop for Unannounced {
    fn drop(&mut self) {
        self.announce();
    }
}

thread_local! {
    static WORKER: RefCell<Option<(Rc<CallingWorker>, JoinHandle<()>)>> = const { RefCell::new(None) };
}

/// A worker's own end of the way.
#[derive(Debug, Default)]
pub(crate) struct CallingWorker {
    ready: Arc<ReadyAnswers>,
    under_way: Cell<usize>,
}

impl CallingWorker {
    /// The end of this very worker.
    fn current() -> Rc<Self> {
        WORKER.with_borrow_mut(|found| {
            // The task ends with its runtime only.
            if let Some((worker, _)) = found.as_ref().filter(|(_, task)| !task.is_finished()) {
                return Rc::clone(worker);
            }
            let worker = Rc::<Self>::default();
            let task = spawn_local(Rc::clone(&worker).deliver());
            *found = Some((Rc::clone(&worker), task));
            worker
        })
    }

    /// Gives the calls of this worker their answers, for as long as its runtime lives.
    async fn deliver(self: Rc<Self>) {
        let (shortest, longest) = LOOKS;
        let mut interval = shortest;
        let mut look = pin!(sleep(interval));
        loop {
            tokio::select! {
                () = self.ready.announced.notified() => interval = shortest,
                () = &mut look, if self.under_way.get() > 1 => {
                    interval = (interval * 2).min(longest);
                    look.set(sleep(interval));
                }
            }
            self.ready.deliver();
        }
    }
}

/// A call of this worker, from its start until it is answered or given up.
#[derive(Debug)]
pub(crate) struct UnderWay {
    worker: Rc<CallingWorker>,
    answer: oneshot::Receiver<Settled>,
}

impl UnderWay {
    pub(crate) fn new() -> (AnswerTo, Self) {
        let worker = CallingWorker::current();
        let (call, answer) = oneshot::channel();
        let to = AnswerTo {
            call,
            worker: Arc::clone(&worker.ready),
        };
        let calls = worker.under_way.get() + 1;
        worker.under_way.set(calls);
        if calls == 2 {
            // From now on an answer may be held back for the sake of another: the looks begin.
            worker.ready.announced.notify_one();
        }
        (to, Self { worker, answer })
    }

    /// The answer; an error when the runtime has dropped the call.
    pub(crate) fn answer(&mut self) -> &mut oneshot::Receiver<Settled> {
        &mut self.answer
    }

    /// An answer that has come and was not announced yet.
    pub(crate) fn last_look(&mut self) -> Option<Settled> {
        self.worker.ready.deliver();
        self.answer.try_recv().ok()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker
            .under_way
            .set(self.worker.under_way.get().saturating_sub(1));
    }
}
