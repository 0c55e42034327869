//! The calls that a worker has under way: each waits for its answer or for the end of its time, and one task of the
//! worker gives both to all of them.

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

use edgerouter_functions::{CallStep, FunctionError, FunctionOutput, StartedCall};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
    time::sleep_until,
};

use super::{
    Deadline,
    answers::{AnswerTo, Given, ReadyAnswers},
    job::Kind,
    pool::PATIENCE,
    queue::Queues,
};

/// Intervals at which a worker with several calls under way, or a plain one, looks at them itself: a Python thread that
/// holds answers back may be stuck in a step that was quick before, and a plain call may need a further thread. The
/// intervals double while no answer comes.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

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
            // It may be on either.
            shared.nudge(Kind::Plain);
            shared.nudge(Kind::Nested);
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
    fn bring_forward(&self, at: Instant) {
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
    deadline: Deadline,
    plain: bool,
    answer: oneshot::Receiver<Given>,
}

impl UnderWay {
    pub(crate) fn new(shared: &Arc<Queues>, now: Instant, deadline: Deadline) -> (AnswerTo, Self) {
        let worker = CallingWorker::current(shared);
        let (call, answer) = oneshot::channel();
        let to = AnswerTo::new(call, &worker.ready);
        let number = worker.number.get();
        worker.number.set(number.wrapping_add(1));
        let first = deadline.first();
        let key = (first, number);
        let mut calls = worker.calls.borrow_mut();
        calls.insert(key, None);
        // From the second call on an answer may be held back for the sake of another.
        let at = if calls.len() > 1 {
            first.min(now + LOOKS.0)
        } else {
            first
        };
        drop(calls);
        worker.bring_forward(at);
        (
            to,
            Self {
                worker,
                key,
                deadline,
                plain: false,
                answer,
            },
        )
    }

    /// A thread has to be found for it when it has waited for [`PATIENCE`].
    pub(crate) fn is_plain(&mut self, now: Instant) {
        self.plain = true;
        self.worker.plain.set(self.worker.plain.get() + 1);
        self.worker.bring_forward(now + PATIENCE);
    }

    /// Waits for the answer or early hints; an error when there was none in time.
    pub(crate) async fn step(mut self, timeout: Duration) -> CallStep {
        match self.given().await {
            Some(Given::Output(output)) => {
                if let Ok(FunctionOutput::Stream(answer)) = &output {
                    let thread = Arc::clone(&self.worker.ready);
                    answer.pieces.on_thread(thread);
                }
                CallStep::Ended(output)
            }
            Some(Given::Hints(fields, rest)) => {
                self.answer = rest;
                let rest = Box::pin(self.step(timeout));
                CallStep::Hints(fields, StartedCall::GoesOn(rest))
            }
            None => CallStep::Ended(Err(FunctionError::TimedOut(timeout))),
        }
    }

    async fn given(&mut self) -> Option<Given> {
        poll_fn(|context| {
            if let Poll::Ready(given) = Pin::new(&mut self.answer).poll(context) {
                let given = given.unwrap_or(Given::Output(Err(FunctionError::Gone)));
                return Poll::Ready(Some(given));
            }
            if let Some(waker) = self.worker.calls.borrow_mut().get_mut(&self.key) {
                let same = waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(context.waker()));
                if !same {
                    *waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
            let later = self.deadline.at();
            if later <= Instant::now() {
                return Poll::Ready(None);
            }
            self.again(later, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Its time ends later: it waited for content meanwhile.
    fn again(&mut self, later: Instant, waker: Waker) {
        self.key.0 = later;
        let mut calls = self.worker.calls.borrow_mut();
        calls.insert(self.key, Some(waker));
        drop(calls);
        self.worker.bring_forward(later);
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
