//! The way of an answer from a Python thread back to the worker that called.
//!
//! Waking a worker is a system call and, on a shared core, a switch to the worker and back. So a Python thread only puts
//! an answer among the [`ReadyAnswers`] of its worker, and [`Unannounced`] wakes each worker once for all of them: at
//! the end of the loop's turn, when a thread has no further call, or before a step that may take long. A task on the
//! worker ([`CallingWorker`]) then gives each call its answer, without a system call.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use edgerouter_functions::FunctionError;

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinHandle, spawn_local},
    time::sleep_until,
};

use super::{
    call::{Kind, Settled},
    pool::PATIENCE,
    queue::Queues,
};

/// Bound on the answers that a thread holds back while further quick calls run, and on the time for which it does.
#[derive(Debug, Clone, Copy)]
struct HoldLimits {
    answers: usize,
    time: Duration,
}

/// The turn of an event loop bounds them, too.
const LOOP: HoldLimits = HoldLimits {
    answers: usize::MAX,
    time: Duration::from_micros(200),
};
/// A thread of a pool takes calls for as long as there are any. On a core of its own the worker is to send the first
/// answers while the thread makes the next.
const POOL: HoldLimits = HoldLimits {
    answers: 8,
    time: Duration::from_micros(50),
};

/// Intervals at which a worker with several calls under way, or a plain one, looks at them itself: a Python thread that
/// holds answers back may be stuck in a step that was quick before, and a plain call may need a further thread. The
/// intervals double while no answer comes.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// Answers that their worker has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct ReadyAnswers {
    answers: Mutex<Vec<(oneshot::Sender<Settled>, Settled)>>,
    announced: Notify,
}

impl ReadyAnswers {
    /// Gives the answers to their calls. On the worker's own thread, where that wakes nobody by a system call.
    /// True if there were some.
    fn deliver(&self) -> bool {
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
        self.answers += 1;
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        first
    }

    /// Wakes each worker that has answers.
    pub(crate) fn announce(&mut self) {
        self.since = None;
        self.answers = 0;
        for worker in self.workers.drain(..) {
            worker.announced.notify_one();
        }
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

thread_local! {
    static WORKER: RefCell<Option<(Rc<CallingWorker>, JoinHandle<()>)>> = const { RefCell::new(None) };
}

/// Calls under way by deadline; the number tells apart those of the same instant.
type Calls = BTreeMap<(Instant, u64), Option<Waker>>;

/// A worker's own end of the way: a task that gives calls their answers, or the end of their time.
#[derive(Debug)]
pub(crate) struct CallingWorker {
    shared: Weak<Queues>,
    ready: Arc<ReadyAnswers>,
    calls: RefCell<Calls>,
    number: Cell<u64>,
    /// Plain calls among them: a thread may have to be woken for one that waits.
    plain: Cell<usize>,
    /// The time of the next look, and the interval that led to it.
    due: Cell<Option<Instant>>,
    interval: Cell<Duration>,
}

impl CallingWorker {
    /// The end of this very worker.
    fn current(shared: &Arc<Queues>) -> Rc<Self> {
        WORKER.with_borrow_mut(|found| {
            // The task ends with its runtime only.
            let known = found.as_ref().filter(|(worker, task)| {
                std::ptr::eq(worker.shared.as_ptr(), Arc::as_ptr(shared)) && !task.is_finished()
            });
            if let Some((worker, _)) = known {
                return Rc::clone(worker);
            }
            let worker = Rc::new(Self {
                shared: Arc::downgrade(shared),
                ready: Arc::default(),
                calls: RefCell::default(),
                number: Cell::new(0),
                plain: Cell::new(0),
                due: Cell::new(None),
                interval: Cell::new(LOOKS.0),
            });
            let task = spawn_local(Rc::clone(&worker).deliver());
            *found = Some((Rc::clone(&worker), task));
            worker
        })
    }

    /// Gives the calls of this worker their answers, for as long as its runtime lives.
    async fn deliver(self: Rc<Self>) {
        let mut look = pin!(sleep_until(Instant::now().into()));
        let mut set = None;
        loop {
            let due = self.due.get();
            if let Some(at) = due
                && due != set
            {
                look.as_mut().reset(at.into());
                set = due;
            }
            tokio::select! {
                () = self.ready.announced.notified() => {
                    self.interval.set(LOOKS.0);
                    self.ready.deliver();
                }
                () = look.as_mut(), if due.is_some() => self.look(),
            }
        }
    }

    /// One look over all calls, in place of a timer for each.
    fn look(&self) {
        let found = self.ready.deliver();
        if self.plain.get() > 0
            && let Some(shared) = self.shared.upgrade()
        {
            // The threads that are awake may all be in slow calls.
            shared.nudge(Kind::Plain);
        }
        let now = Instant::now();
        while let Some(waker) = self.expired(now) {
            waker.wake();
        }
        let interval = if found {
            LOOKS.0
        } else {
            (self.interval.get() * 2).min(LOOKS.1)
        };
        self.interval.set(interval);
        let calls = self.calls.borrow();
        let first = calls.first_key_value().map(|((deadline, _), _)| *deadline);
        let soon = (calls.len() > 1 || self.plain.get() > 0).then(|| now + interval);
        self.due
            .set(first.map(|first| soon.map_or(first, |soon| soon.min(first))));
    }

    /// Takes out one of the calls that are past their time.
    fn expired(&self, now: Instant) -> Option<Waker> {
        let mut calls = self.calls.borrow_mut();
        loop {
            let call = calls.first_entry().filter(|call| call.key().0 <= now)?;
            if let Some(waker) = call.remove() {
                return Some(waker);
            }
        }
    }

    /// Brings the next look forward to the time that a new call needs.
    fn expect(&self, at: Instant) {
        if self.due.get().is_none_or(|due| due > at) {
            self.due.set(Some(at));
            self.ready.announced.notify_one();
        }
    }
}

/// A call of this worker, from its start until it is answered or given up.
#[derive(Debug)]
pub(crate) struct UnderWay {
    worker: Rc<CallingWorker>,
    key: (Instant, u64),
    plain: bool,
    answer: oneshot::Receiver<Settled>,
}

impl UnderWay {
    pub(crate) fn new(
        shared: &Arc<Queues>,
        (now, deadline): (Instant, Instant),
    ) -> (AnswerTo, Self) {
        let worker = CallingWorker::current(shared);
        let (call, answer) = oneshot::channel();
        let to = AnswerTo {
            call,
            worker: Arc::clone(&worker.ready),
        };
        let number = worker.number.get();
        worker.number.set(number.wrapping_add(1));
        let key = (deadline, number);
        let mut calls = worker.calls.borrow_mut();
        calls.insert(key, None);
        // From the second call on an answer may be held back for the sake of another.
        let at = if calls.len() > 1 {
            deadline.min(now + LOOKS.0)
        } else {
            deadline
        };
        drop(calls);
        worker.expect(at);
        (
            to,
            Self {
                worker,
                key,
                plain: false,
                answer,
            },
        )
    }

    /// A thread has to be found for it when it has waited for [`PATIENCE`].
    pub(crate) fn is_plain(&mut self, now: Instant) {
        self.plain = true;
        self.worker.plain.set(self.worker.plain.get() + 1);
        self.worker.expect(now + PATIENCE);
    }

    /// Waits for the answer. `None`: there was none in time.
    pub(crate) async fn answer(&mut self) -> Option<Settled> {
        poll_fn(|context| {
            if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(context) {
                return Poll::Ready(Some(answer.unwrap_or(Err(FunctionError::Gone))));
            }
            match self.worker.calls.borrow_mut().get_mut(&self.key) {
                None => Poll::Ready(None),
                Some(waker) => {
                    let same = waker
                        .as_ref()
                        .is_some_and(|waker| waker.will_wake(context.waker()));
                    if !same {
                        *waker = Some(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker.calls.borrow_mut().remove(&self.key);
        self.worker
            .plain
            .set(self.worker.plain.get().saturating_sub(self.plain.into()));
    }
}
