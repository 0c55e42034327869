//! Calls on the worker itself, for callables that promise to be quick and never to wait.
//!
//! The promise is watched: too many slow calls, or too much waiting for the interpreter, and the callable moves to the
//! queue for good, with one warning. One that does not come back is interrupted by the watchdog.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use edgerouter_functions::{FunctionError, Invocation};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    intern,
    prelude::*,
};

use super::{
    Deadline, PythonCallable,
    call::{Settled, Views},
    job::{Coroutine, Work},
    notify,
    outcome::CallSite,
    queue::Queues,
    scope, thread_end,
    watched_thread::WatchedThread,
};

/// A call, or its wait for the interpreter, that takes longer breaks the promise. When most of the last calls did, the
/// callable moves.
const QUICK: Duration = Duration::from_millis(1);
/// Breaking it like this counts several times.
const SLOW: Duration = Duration::from_millis(50);
const SLOW_COUNTS: i32 = 4;
const PATIENCE: i32 = 8;
/// The worker serves no request meanwhile: after this time the callable is interrupted, whatever its time limit.
const MOST: Duration = Duration::from_millis(250);

/// The outcome; or, where the call could not end here, the rest as a job for the queue.
pub(crate) type Inline = Result<Settled, Box<Work>>;

pub(crate) fn call(
    shared: &Arc<Queues>,
    callable: &PythonCallable,
    invocation: Invocation,
    (called, deadline): (Instant, Instant),
) -> Inline {
    let done = Python::try_attach(|py| {
        let started = Instant::now();
        let site = CallSite {
            callable,
            phase: invocation.phase,
            timeout: invocation.timeout.min(MOST),
        };
        let until = deadline.min(started + MOST);
        let done = match attached(py, shared, site, invocation, (deadline, until)) {
            Ok(done) => done,
            Err(error) => Ok(Err(site.raised(py, None, &error))),
        };
        review(py, callable, started - called, started.elapsed());
        done
    });
    done.unwrap_or(Ok(Err(FunctionError::Gone)))
}

thread_local! {
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, a callable runs on a thread that serves, and must not wait.
struct Serving(());

impl Serving {
    fn begin() -> Self {
        SERVES.set(true);
        Self(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVES.set(false);
    }
}

/// True in a callable that runs on a thread that serves.
#[pyfunction]
pub(crate) fn serves() -> bool {
    SERVES.get()
}

/// `until`: the time at which the watchdog interrupts it.
fn attached(
    py: Python<'_>,
    shared: &Arc<Queues>,
    site: CallSite<'_>,
    invocation: Invocation,
    (deadline, until): (Instant, Instant),
) -> PyResult<Inline> {
    let CallSite {
        callable, phase, ..
    } = site;
    let thread = WatchedThread::current(py, shared, true, None)?;
    let views = Views::new(py, &shared.streams, invocation)?;
    let context = views.context(py, callable, phase, &Deadline::new(deadline, None))?;
    let scope = scope::copy(py)?;
    let _named = scope::name(&context);
    let _serving = Serving::begin();
    thread.enter(until);
    let mut result = views.call_in(&scope, callable, &context);
    if callable.caller.awaits
        && let Ok(coroutine) = &result
    {
        // One step is all there is; most coroutines that promise not to wait end in it.
        let send = coroutine.getattr(intern!(py, "send"));
        let stepped =
            send.and_then(|send| thread_end::call(scope::run(py)?, (&scope, send, py.None())));
        match stepped {
            Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
                result = stop.value(py).getattr(intern!(py, "value"));
            }
            Err(error) => result = Err(error),
            Ok(yielded) => {
                thread.leave(py);
                // A bare yield can go on anywhere; what waits for a loop's future needs that loop.
                let again = if yielded.is_none() {
                    scope::enter_in(&scope, &context)?;
                    Some(Coroutine {
                        made: coroutine.clone().unbind(),
                        scope: scope.unbind(),
                    })
                } else {
                    coroutine.call_method0(intern!(py, "close"))?;
                    None
                };
                demote(py, callable, "it waits");
                return Ok(Err(Box::new(Work::Begun(Box::new(views), again))));
            }
        }
    }
    thread.leave(py);
    let settled = match result {
        Ok(result) => site.settled(py, &views, &result),
        Err(error) if callable.caller.awaits && wants_loop(py, &error) => {
            demote(py, callable, "it needs an event loop");
            return Ok(Err(Box::new(Work::Begun(Box::new(views), None))));
        }
        Err(error) => site.ended(py, &views, &error),
    };
    views.end_after(&settled);
    Ok(Ok(settled))
}

/// True if it is asyncio's error for a missing event loop.
fn wants_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py)
        && error.value(py).to_string() == "no running event loop"
}

fn review(py: Python<'_>, callable: &PythonCallable, waited: Duration, took: Duration) {
    let worst = waited.max(took);
    if worst <= QUICK {
        if callable.broken.load(Ordering::Relaxed) > 0 {
            callable.broken.fetch_sub(1, Ordering::Relaxed);
        }
        return;
    }
    let counts = if worst > SLOW { SLOW_COUNTS } else { 1 };
    let broken = callable.broken.fetch_add(counts, Ordering::Relaxed) + counts;
    if took >= MOST {
        demote(py, callable, "it did not come back");
    } else if broken >= PATIENCE {
        let why = if took > waited {
            "its calls take longer than 1 ms"
        } else {
            "the interpreter is busy with other things"
        };
        demote(py, callable, why);
    }
}

/// Moves it to the queue for good, and says so once.
fn demote(py: Python<'_>, callable: &PythonCallable, why: &str) {
    if !callable.inline.swap(false, Ordering::Relaxed) {
        return;
    }
    notify(py, "moved", (&*callable.caller.name, why));
}
