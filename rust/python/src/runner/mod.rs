//! Carrying calls to Python's own threads and their answers back.
//!
//! A worker puts a call (`job`) into a bounded queue, wakes a Python thread when none is awake, and goes on: it never
//! waits for the interpreter and touches no Python object. Python's event loop takes async calls from its
//! [`loop_queue::LoopQueue`], which makes a task of each (`task`); threads of a [`pool::Pool`] take plain ones
//! (`threads`), each in a context of its own (`scope`). Answers go back in batches (`answers`) to the worker that waits
//! for them (`calls`). A [`watched_thread::WatchedThread`] shows the watchdog what runs on a thread and until when.
//! `arrivals` wake tasks whose operation on a binding has ended. `inline` callables are called on the worker itself
//! until they break their promise to be quick.

mod abort;
mod answers;
mod arrivals;
mod background;
mod call;
mod calls;
mod deadline;
mod framing;
mod inline;
mod job;
mod loop_queue;
mod outcome;
mod pool;
mod queue;
mod scope;
mod streams;
mod task;
mod thread_end;
mod thread_state;
mod threads;
mod wake;
mod watched_thread;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    task::Waker,
    time::Duration,
};

use edgerouter_core::{boxed, pinned, plan::CallableId};
use edgerouter_data::Bindings;
use edgerouter_functions::{FunctionError, Functions, FunctionsLoad, Invocation, StartedCall};
use pyo3::{call::PyCallArgs, prelude::*};

pub(crate) use answers::AnswerTo;
pub(crate) use arrivals::Waiter;
pub(crate) use background::wait_until;
use calls::UnderWay;
pub(crate) use deadline::{Deadline, in_seconds};
use job::{Job, Kind, Work};
pub(crate) use queue::Queues;
pub(crate) use scope::enter;
pub(crate) use streams::PieceSource;
pub(crate) use task::AnswersEarly;
pub(crate) use thread_end::call as call_outlived;
pub(crate) use threads::Runner;
pub(crate) use wake::waker;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    wake::add(module)?;
    module.add_class::<Runner>()?;
    module.add_class::<loop_queue::LoopQueue>()?;
    module.add_class::<background::BackgroundCall>()?;
    module.add_class::<watched_thread::Interrupt>()?;
    module.add_class::<streams::PieceSink>()?;
    module.add_class::<streams::PieceSource>()?;
    module.add_function(wrap_pyfunction!(inline::serves, module)?)?;
    module.add_function(wrap_pyfunction!(thread_state::raise_in, module)?)?;
    module.add_function(wrap_pyfunction!(scope::current_call, module)?)
}

/// The Python half of the runner.
fn runtime(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("edgerouter.functions.runtime")
}

/// A callable of a plan.
#[derive(Debug)]
pub(crate) struct PythonCallable {
    function: Py<PyAny>,
    /// It reads the content of its request where it cannot wait for it.
    waits_for_content: bool,
    /// One at a time, on one thread.
    serial: bool,
    caller: Arc<Caller>,
    inline: AtomicBool,
    /// Points against an inline callable that breaks its promise.
    broken: AtomicI32,
    /// A warning that it held the event loop was logged.
    warned: AtomicBool,
    /// Keeps its version alive, as each call does.
    _version: Option<Arc<Version>>,
    /// Its last step took less than [`QUICK`]: answers of other calls may wait for the next one.
    quick: AtomicBool,
}

/// A version of an application: when its last call is over, a call of Python is made.
#[derive(Debug)]
struct Version(Option<Waker>);

impl Drop for Version {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended.wake();
        }
    }
}

/// A step that takes less may have answers of other calls wait for it.
const QUICK: Duration = Duration::from_micros(200);

/// A step that holds the event loop for longer is worth a warning.
const HOLD: Duration = Duration::from_millis(50);

impl PythonCallable {
    /// Notes how long a step of it took.
    fn took(&self, step: Duration) {
        let quick = step < QUICK;
        if quick != self.quick.load(Ordering::Relaxed) {
            self.quick.store(quick, Ordering::Relaxed);
        }
    }

    /// Warns once when a step of it held the event loop for too long: every other async call waited meanwhile.
    fn held_loop(&self, py: Python<'_>, held: Duration) {
        if held <= HOLD || self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        held_loop(py, &self.caller.name, held);
    }
}

fn held_loop(py: Python<'_>, name: &str, held: Duration) {
    notify(py, "held", (name, held.as_secs_f64()));
}

/// Calls a function of the Python half whose result does not matter.
fn notify<'py>(py: Python<'py>, function: &str, arguments: impl PyCallArgs<'py>) {
    let notified = runtime(py).and_then(|runtime| runtime.call_method1(function, arguments));
    if let Err(error) = notified {
        error.write_unraisable(py, None);
    }
}

/// The part of a callable that contexts of its calls keep, which may outlive its plan.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Queues>,
    pub(crate) bindings: Arc<Bindings>,
    pub(crate) awaits: bool,
}

/// The callables of one plan, as the engine calls them.
#[derive(Debug)]
pub(crate) struct CallableTable {
    shared: Arc<Queues>,
    _version: Option<Arc<Version>>,
    callables: Arc<[PythonCallable]>,
}

impl CallableTable {
    /// Makes the callables of a plan from the tuples that the Python side gives: `(callable, is_async, inline, serial,
    /// timeout, name, waits_for_content)`. The time-out is the engine's business. `ended()` is called when the last
    /// call of these is over and none can begin.
    pub(crate) fn new(
        shared: &Arc<Queues>,
        bindings: &Arc<Bindings>,
        specs: &Bound<'_, PyAny>,
        ended: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        type Spec = (Py<PyAny>, bool, bool, bool, Option<f64>, String, bool);
        let version = ended.map(|ended| Arc::new(Version(Some(wake::waker(ended)))));
        let mut callables = Vec::new();
        for spec in specs.try_iter()? {
            let (function, is_async, inline, serial, _, name, waits_for_content): Spec =
                spec?.extract()?;
            callables.push(PythonCallable {
                function,
                waits_for_content,
                serial,
                caller: Arc::new(Caller {
                    name: name.into(),
                    shared: Arc::clone(shared),
                    bindings: Arc::clone(bindings),
                    awaits: is_async,
                }),
                inline: AtomicBool::new(inline),
                broken: AtomicI32::new(0),
                warned: AtomicBool::new(false),
                quick: AtomicBool::new(false),
                _version: version.clone(),
            });
        }
        Ok(Self {
            _version: version,
            shared: Arc::clone(shared),
            callables: callables.into(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.callables.is_empty()
    }
}

impl Functions for CallableTable {
    fn invoke(&self, invocation: Invocation) -> StartedCall {
        let index = invocation.call.0 as usize;
        let Some(callable) = self.callables.get(index) else {
            return StartedCall::Ended(Err(FunctionError::Gone));
        };
        let (phase, timeout) = (invocation.phase, invocation.timeout);
        let nested = invocation.request.chain.depth() > 0;
        let now = invocation.since;
        let first = now + timeout;
        let waits = match &invocation.rest {
            Some(rest) if callable.caller.awaits => Some(rest.waits()),
            _ => None,
        };
        let work = if callable.inline.load(Ordering::Relaxed) {
            match inline::call(&self.shared, callable, invocation, (now, first)) {
                Ok(output) => return StartedCall::Ended(output),
                Err(work) => *work,
            }
        } else {
            Work::Fresh(invocation)
        };
        let deadline = Deadline::new(first, waits);
        let (answer, mut under_way) = UnderWay::new(&self.shared, now, deadline.clone());
        let job = boxed!(Job {
            callables: Arc::clone(&self.callables),
            index,
            phase,
            timeout,
            deadline,
            work,
            answer,
            nested,
        });
        if job.kind() == Kind::Plain {
            under_way.is_plain(now);
        }
        let wake = match self.shared.push(job) {
            Ok(wake) => wake,
            Err((_, error)) => return StartedCall::Ended(Err(error)),
        };
        let goes_on = pinned!(async move {
            if let Some(wake) = wake {
                // Other work of this worker runs first: Python wakes up once for all its calls. On a busy
                // core it would otherwise take turns with the worker, call by call.
                tokio::task::yield_now().await;
                drop(wake);
            }
            under_way.step(timeout).await
        });
        StartedCall::GoesOn(goes_on)
    }

    fn waits_for_content(&self, call: CallableId) -> bool {
        let callable = self.callables.get(call.0 as usize);
        callable.is_none_or(|callable| callable.waits_for_content)
    }

    fn load(&self) -> FunctionsLoad {
        self.shared.load()
    }
}
