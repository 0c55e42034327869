//! The calls that a worker has under way: each waits for its answer or for the end of its time, and one task of the
//! worker gives both to all of them.

use std::{
    cell::{Cell, RefCell},
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

/// A worker whose last call is over keeps this many places.
const KEPT_PLACES: usize = 1_024;

thread_local! {
    static WORKER: RefCell<Option<(Rc<CallingWorker>, JoinHandle<()>)>> = const { RefCell::new(None) };
}

/// The calls of a worker that are under way, each at a place of its own until it is over.
///
/// A call comes and goes with every request, and hardly any is past its time: so there is no order by time to be kept,
/// and all calls are looked at when the earliest end of a time that any of them ever had has come.
#[derive(Debug, Default)]
struct Calls {
    places: Vec<Place>,
    free: Vec<usize>,
    /// No call is past its time before. `None`: no call has come yet.
    earliest: Option<Instant>,
}

#[derive(Debug)]
enum Place {
    Free,
    /// Until its time ends, and the task that waits for the answer.
    Waits(Instant, Option<Waker>),
    /// Its task has been woken, as its time was over.
    Over,
}

impl Calls {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A place for a call whose time ends at `deadline`.
    fn insert(&mut self, deadline: Instant) -> usize {
        self.note(deadline);
        let place = Place::Waits(deadline, None);
        if let Some(at) = self.free.pop()
            && let Some(free) = self.places.get_mut(at)
        {
            *free = place;
            return at;
        }
        self.places.push(place);
        self.places.len() - 1
    }

    /// Has the call at a place wait until `deadline`, when its time has become longer.
    fn again(&mut self, at: usize, deadline: Instant, waker: Waker) {
        self.note(deadline);
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::Waits(deadline, Some(waker));
        }
    }

    fn note(&mut self, deadline: Instant) {
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
    }

    /// Keeps the task that waits for the answer; false if its time was over, as far as it was known.
    fn keep(&mut self, at: usize, task: &Waker) -> bool {
        let Some(Place::Waits(_, waker)) = self.places.get_mut(at) else {
            return false;
        };
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(task)) {
            *waker = Some(task.clone());
        }
        true
    }

    fn remove(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        *place = Place::Free;
        self.free.push(at);
        if self.len() == 0 {
            self.earliest = None;
            if self.places.len() > KEPT_PLACES {
                self.places = Vec::new();
                self.free = Vec::new();
            }
        }
    }

    /// The tasks of the calls whose time is over by now.
    fn expired(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return wakers;
        }
        self.earliest = None;
        for place in &mut self.places {
            let Place::Waits(deadline, waker) = place else {
                continue;
            };
            let deadline = *deadline;
            if deadline <= now {
                wakers.extend(waker.take());
                *place = Place::Over;
            } else if self.earliest.is_none_or(|earliest| deadline < earliest) {
                self.earliest = Some(deadline);
            }
        }
        wakers
    }
}

/// A worker's own end of the way: a task that gives calls their answers, or the end of their time.
#[derive(Debug)]
pub(crate) struct CallingWorker {
    shared: Weak<Queues>,
    ready: Arc<ReadyAnswers>,
    calls: RefCell<Calls>,
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
        let expired = self.calls.borrow_mut().expired(now);
        for waker in expired {
            waker.wake();
        }
        let interval = if found {
            LOOKS.0
        } else {
            (self.interval.get() * 2).min(LOOKS.1)
        };
        self.interval.set(interval);
        let calls = self.calls.borrow();
        let soon = (calls.len() > 1 || self.plain.get() > 0).then(|| now + interval);
        let earliest = calls.earliest;
        self.due
            .set(earliest.map(|first| soon.map_or(first, |soon| soon.min(first))));
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
    place: usize,
    deadline: Deadline,
    plain: bool,
    answer: oneshot::Receiver<Given>,
}

impl UnderWay {
    pub(crate) fn new(shared: &Arc<Queues>, now: Instant, deadline: Deadline) -> (AnswerTo, Self) {
        let worker = CallingWorker::current(shared);
        let (call, answer) = oneshot::channel();
        let to = AnswerTo::new(call, &worker.ready);
        let first = deadline.first();
        let mut calls = worker.calls.borrow_mut();
        let place = calls.insert(first);
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
                place,
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
            let mut calls = self.worker.calls.borrow_mut();
            if calls.keep(self.place, context.waker()) {
                return Poll::Pending;
            }
            drop(calls);
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
    fn again(&self, later: Instant, waker: Waker) {
        let mut calls = self.worker.calls.borrow_mut();
        calls.again(self.place, later, waker);
        drop(calls);
        self.worker.bring_forward(later);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker.calls.borrow_mut().remove(self.place);
        self.worker
            .plain
            .set(self.worker.plain.get().saturating_sub(self.plain.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_expires_at_its_own_time_however_they_come_and_go() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut calls = Calls::default();
        let [late, early, gone] = [30, 10, 5].map(|seconds| calls.insert(at(seconds)));
        for place in [late, early, gone] {
            assert!(calls.keep(place, Waker::noop()));
        }
        calls.remove(gone);
        assert_eq!(calls.len(), 2);

        assert_eq!(calls.expired(at(9)).len(), 0);
        assert_eq!(calls.expired(at(10)).len(), 1);
        assert!(!calls.keep(early, Waker::noop()), "its time is over");
        assert_eq!(calls.expired(at(11)).len(), 0, "it is woken once");
        calls.again(early, at(20), Waker::noop().clone());
        assert_eq!(calls.expired(at(20)).len(), 1);

        // The place of one that is over goes to the next.
        calls.remove(early);
        assert_eq!(calls.insert(at(25)), early);
        assert_eq!(calls.earliest, Some(at(25)));
        // Nobody waits yet: the first poll learns that the time is over.
        assert_eq!(calls.expired(at(30)).len(), 1);
        assert!(!calls.keep(early, Waker::noop()));
        calls.remove(early);
        calls.remove(late);
        assert_eq!((calls.len(), calls.earliest), (0, None));
    }
}
