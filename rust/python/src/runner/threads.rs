//! The runner as Python's threads use it: the event loop and the pools take their calls here, and the watchdog learns
//! which threads to start or to interrupt.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::FunctionLimits;
use edgerouter_functions::{FunctionError, Phase};
use pyo3::prelude::*;

use super::{
    job::{Coroutine, Job, Kind, Work},
    loop_queue::LoopQueue,
    outcome::CallSite,
    pool::ThreadStep,
    queue::Queues,
    scope,
    watched_thread::{Interrupt, WatchedThread},
};
use crate::message::response;

/// The runner, as Python's threads hold it.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) shared: Arc<Queues>,
}

impl Runner {
    pub(crate) fn new(limits: &FunctionLimits) -> PyResult<Self> {
        let shared = Queues::new(limits)?;
        shared.background.bound(limits);
        shared.streams.bound(limits.streams);
        Ok(Self { shared })
    }
}

#[pymethods]
impl Runner {
    /// Readable when calls wait.
    fn fileno(&self) -> i32 {
        self.shared.fileno()
    }

    /// The queue for the event loop of this very thread; `create(coroutine)` makes a task, `later()` has the loop call
    /// `announce` at the end of its turn.
    fn loop_queue(
        &self,
        py: Python<'_>,
        create: Py<PyAny>,
        later: Py<PyAny>,
    ) -> PyResult<LoopQueue> {
        LoopQueue::new(py, &self.shared, create, later)
    }

    /// Runs plain calls on this very thread until it is not needed any more: `"plain"`, `"serial"` or `"nested"` ones.
    fn work(&self, py: Python<'_>, kind: &str) -> PyResult<()> {
        let shared = &self.shared;
        let Some((kind, pool)) = Kind::of(kind).and_then(|kind| Some((kind, shared.pool(kind)?)))
        else {
            return Ok(());
        };
        let pool_thread = pool.join();
        let worked = WatchedThread::current(py, shared, false, Some(kind)).map(|thread| {
            loop {
                let (job, demand) = match pool.next(&pool_thread) {
                    ThreadStep::Take(job, demand) => (job, demand),
                    ThreadStep::Park => {
                        thread.announce();
                        py.detach(|| pool_thread.park());
                        continue;
                    }
                    ThreadStep::End(demand) => {
                        thread.announce();
                        return shared.follow(kind, demand);
                    }
                };
                shared.follow(kind, demand);
                let running = pool.run();
                let rest = run(job, py, &thread);
                drop(running);
                // An awaitable is for an event loop.
                if let Some(job) = rest
                    && let Err((job, error)) = shared.push(job)
                {
                    job.answer.send(Err(error));
                }
            }
        });
        shared.follow(kind, pool.leave(&pool_thread));
        worked
    }

    /// Waits until threads are wanted, for `seconds` at most: the kind of calls of each.
    fn watch(&self, py: Python<'_>, seconds: f64) -> Vec<&'static str> {
        let patience = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let wanted = py.detach(|| self.shared.wanted(patience));
        wanted.into_iter().map(Kind::as_str).collect()
    }

    /// A thread that was wanted could not be started.
    fn not_started(&self, kind: &str) {
        if let Some(pool) = Kind::of(kind).and_then(|kind| self.shared.pool(kind)) {
            pool.not_started();
        }
    }

    /// Sets how work of `wait_until` starts: `start(call, awaited)`.
    fn background(&self, start: Py<PyAny>) {
        self.shared.background.attach(Some(start));
    }

    /// Sets how the content of a streamed response is made: `start(source, sink, call)`.
    fn streams(&self, start: Py<PyAny>) {
        self.shared.streams.attach(Some(start));
    }

    /// Threads whose callable is past its time: each is to be interrupted, then confirmed by `sent()`.
    fn overdue(&self) -> Vec<Interrupt> {
        let now = Instant::now();
        let watched: Vec<Arc<WatchedThread>> = self
            .shared
            .watched
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        watched
            .iter()
            .filter_map(|thread| thread.overdue(now))
            .collect()
    }

    /// Calls waiting, running, and threads abandoned.
    fn load(&self) -> (usize, usize, usize) {
        let load = self.shared.load();
        (load.waiting, load.running, load.abandoned)
    }
}

/// Runs a sync callable to its end or its time limit, and answers. When it gives an awaitable, the rest is a job for an
/// event loop.
fn run(mut job: Box<Job>, py: Python<'_>, thread: &WatchedThread) -> Option<Box<Job>> {
    let Some(callable) = job.callables.get(job.index) else {
        job.answer.send(Err(FunctionError::Gone));
        return None;
    };
    let site = CallSite {
        callable,
        phase: job.phase,
        timeout: job.timeout,
    };
    let views = match job.work.views(py, &callable.caller.shared.streams) {
        Ok((views, _)) => views,
        Err(error) => {
            job.answer.send(Err(site.raised(py, None, &error)));
            return None;
        }
    };
    let mut answer = Some(job.answer);
    let mut called_in = None;
    let result = views
        .context(py, callable, job.phase, &job.deadline)
        .and_then(|context| {
            let scope = scope::copy(py)?;
            let _named = scope::name(&context);
            let now = Instant::now();
            let now = thread.announce_before(Some(callable), now);
            if job.phase == Phase::Function {
                context.get().lend(answer.take());
            }
            thread.enter(job.deadline.at());
            let result = views.call_in(&scope, callable, &context);
            thread.leave(py);
            answer = context.get().give_back().or(answer.take());
            callable.took(now.elapsed());
            called_in = Some((scope, context));
            result
        });
    let answer = answer?;
    let mut settled = match &result {
        Ok(result) => site.settle(&views, result),
        Err(error) => site.ended(py, &views, error),
    };
    if let (Err(FunctionError::WrongType { .. }), Ok(result)) = (&settled, result)
        && response::is_awaitable(&result)
        && let Some((scope, context)) = called_in
    {
        if let Err(error) = scope::enter_in(&scope, &context) {
            error.write_unraisable(py, None);
        }
        let coroutine = Coroutine {
            made: result.unbind(),
            scope: scope.unbind(),
        };
        job.work = Work::Begun(Box::new(views), Some(coroutine));
        job.answer = answer;
        return Some(job);
    }
    site.name(py, &views, &mut settled);
    views.end_after(&settled);
    thread.answer(answer, settled);
    None
}
