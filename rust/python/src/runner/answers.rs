//! The way of an answer from a Python thread back to the worker that called.
//!
//! Waking a worker is a system call and, on a shared core, a switch to the worker and back. So a Python thread only
//! puts an answer among the [`ReadyAnswers`] of its worker, and [`Unannounced`] wakes each worker once for all of them:
//! at the end of the loop's turn, when a thread has no further call, or before a step that may take long. A task on the
//! worker (`calls`) then gives each call its answer, without a system call.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use edgerouter_functions::CallOutput;
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

/// Answers that their worker has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct ReadyAnswers {
    answers: Mutex<Vec<(oneshot::Sender<CallOutput>, CallOutput)>>,
    pub(super) announced: Notify,
}

impl ReadyAnswers {
    /// Gives the answers to their calls. On the worker's own thread, where that wakes nobody by a system call.
    /// True if there were some.
    pub(super) fn deliver(&self) -> bool {
        let answers = std::mem::take(&mut *self.answers.lock());
        let found = !answers.is_empty();
        for (call, settled) in answers {
            // A call that was given up meanwhile needs none.
            let _ = call.send(settled);
        }
        found
    }
}

/// The call that waits for an answer, and its worker.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    call: oneshot::Sender<CallOutput>,
    worker: Arc<ReadyAnswers>,
}

impl AnswerTo {
    pub(super) fn new(call: oneshot::Sender<CallOutput>, worker: &Arc<ReadyAnswers>) -> Self {
        Self {
            call,
            worker: Arc::clone(worker),
        }
    }

    /// True if nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.call.is_closed()
    }

    /// Waits until nobody waits for the answer any more.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.call.poll_closed(cx)
    }

    /// Answers, and wakes the worker for this alone.
    pub(crate) fn send(self, settled: CallOutput) {
        let _ = self.call.send(settled);
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
