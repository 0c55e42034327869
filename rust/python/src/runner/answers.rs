//! The way of an answer from a Python thread back to the worker that called.
//!
//! Waking a worker is a system call and, on a shared core, a switch to the worker and back. So a Python thread only
//! puts an answer among the [`ReadyAnswers`] of its worker, and [`Unannounced`] wakes each worker once for all of them:
//! at the end of the loop's turn, when a thread has no further call, or before a step that may take long. A task on the
//! worker (`calls`) then gives each call its answer, without a system call.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use edgerouter_core::http::Fields;
use edgerouter_functions::{CallOutput, pipe::WokenTogether};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Bound on the answers that a thread holds back while further quick calls run, and on the time for which it does.
#[derive(Debug, Clone, Copy)]
struct HoldLimits {
    answers: usize,
    time: Duration,
}

/// The turn of an event loop bounds them, too. Each switch to the worker costs what both have in the caches of the
/// core, which is much of the time of a call that takes 50 µs, as in a web framework.
const LOOP: HoldLimits = HoldLimits {
    answers: usize::MAX,
    time: Duration::from_millis(1),
};
/// A thread of a pool takes calls for as long as there are any. On a core of its own the worker is to send the first
/// answers while the thread makes the next.
const POOL: HoldLimits = HoldLimits {
    answers: 32,
    time: Duration::from_micros(250),
};

/// Early hints of a call, at most: as many as a connection passes on.
const MOST_HINTS: u8 = 16;

/// Something that a call gives its worker.
#[derive(Debug)]
pub(super) enum Given {
    /// Early hints, and the way by which the next comes.
    Hints(Fields, oneshot::Receiver<Given>),
    Output(CallOutput),
}

/// Answers that their worker has not taken yet, and its tasks that may go on, as pieces have come for them.
#[derive(Debug, Default)]
pub(crate) struct ReadyAnswers {
    answers: Mutex<Vec<(oneshot::Sender<Given>, CallOutput)>>,
    tasks: Mutex<Vec<(Waker, usize)>>,
    pub(super) announced: Notify,
}

impl ReadyAnswers {
    /// Gives the answers to their calls, and wakes the tasks. On the worker's own thread, where that wakes nobody by a
    /// system call. True if there were some.
    pub(super) fn deliver(&self) -> bool {
        let answers = std::mem::take(&mut *self.answers.lock());
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let found = !answers.is_empty() || !tasks.is_empty();
        for (call, settled) in answers {
            // A call that was given up meanwhile needs none.
            let _ = call.send(Given::Output(settled));
        }
        for (task, _) in tasks {
            task.wake();
        }
        found
    }
}

impl WokenTogether for ReadyAnswers {
    fn keep(&self, task: Waker, place: usize) -> bool {
        let mut tasks = self.tasks.lock();
        let is_first = !tasks.iter().any(|(_, other)| *other == place);
        tasks.push((task, place));
        is_first
    }

    fn wake(&self) {
        self.announced.notify_one();
    }
}

/// The call that waits for an answer, and its worker.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    call: oneshot::Sender<Given>,
    worker: Arc<ReadyAnswers>,
    /// Early hints so far.
    hints: u8,
    /// Woken when nobody waits any more.
    watcher: Option<Waker>,
}

impl AnswerTo {
    pub(super) fn new(call: oneshot::Sender<Given>, worker: &Arc<ReadyAnswers>) -> Self {
        Self {
            call,
            worker: Arc::clone(worker),
            hints: 0,
            watcher: None,
        }
    }

    /// Sends early hints ahead of the answer, at once; false if nobody waits, or for too many.
    pub(crate) fn hint(&mut self, fields: Fields) -> bool {
        if self.hints >= MOST_HINTS {
            return false;
        }
        self.hints += 1;
        let (call, rest) = oneshot::channel();
        let before = std::mem::replace(&mut self.call, call);
        let sent = before.send(Given::Hints(fields, rest)).is_ok();
        if let Some(watcher) = &self.watcher
            && self
                .call
                .poll_closed(&mut Context::from_waker(watcher))
                .is_ready()
        {
            watcher.wake_by_ref();
        }
        sent
    }

    /// True if nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.call.is_closed()
    }

    /// Waits until nobody waits for the answer any more.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.call.poll_closed(cx);
        if polled.is_pending() {
            self.watcher = Some(cx.waker().clone());
        }
        polled
    }

    /// Answers, and wakes the worker for this alone.
    pub(crate) fn send(self, settled: CallOutput) {
        let _ = self.call.send(Given::Output(settled));
    }
}

/// The workers for which one Python thread has put answers and has not woken yet.
#[derive(Debug)]
pub(crate) struct Unannounced {
    limits: HoldLimits,
    workers: Vec<Arc<ReadyAnswers>>,
    since: Option<Instant>,
    answers: usize,
}

impl Unannounced {
    /// Of a thread of a pool, or of one that runs an event loop.
    pub(crate) fn new(of_pool: bool) -> Self {
        Self {
            limits: if of_pool { POOL } else { LOOP },
            workers: Vec::new(),
            since: None,
            answers: 0,
        }
    }

    /// Puts an answer among those of its worker; true if it is the first since the workers were woken.
    pub(crate) fn put(&mut self, to: AnswerTo, settled: CallOutput) -> bool {
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
        self.answers += 1;
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        first
    }

    /// Wakes each worker that has answers; false if there is none.
    pub(crate) fn announce(&mut self) -> bool {
        let wakes = !self.workers.is_empty();
        self.since = None;
        self.answers = 0;
        for worker in self.workers.drain(..) {
            worker.announced.notify_one();
        }
        wakes
    }

    /// True if many have been held back, or the first for long.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.answers >= self.limits.answers
            || self
                .since
                .is_some_and(|since| now.saturating_duration_since(since) > self.limits.time)
    }
}

impl Drop for Unannounced {
    fn drop(&mut self) {
        self.announce();
    }
}
