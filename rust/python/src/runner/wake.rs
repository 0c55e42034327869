//! Waking Python from a worker, which never waits for the interpreter: a thread of its own makes the calls.

use std::{
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;
use pyo3::prelude::*;

/// The way to the thread. There are no more wakes in it than pipes have ends, and these are bounded.
static CALLS: OnceLock<Option<Sender<Py<PyAny>>>> = OnceLock::new();

fn calls() -> Option<&'static Sender<Py<PyAny>>> {
    let calls = CALLS.get_or_init(|| {
        let (calls, waiting) = channel();
        let thread = std::thread::Builder::new().name("edge-python-wake".to_owned());
        let started = thread.spawn(move || call_all(&waiting));
        started.is_ok().then_some(calls)
    });
    calls.as_ref()
}

/// True when the interpreter is about to end: a thread that enters it later would be ended inside Rust's frames, which
/// aborts the process. Held for the length of a stay.
static CLOSED: Mutex<bool> = Mutex::new(false);

/// Lets the thread enter the interpreter no more; returns when it is outside.
#[pyfunction]
fn close_wakes(py: Python<'_>) {
    py.detach(|| *CLOSED.lock() = true);
}

/// Has it closed when the interpreter ends.
pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let close = wrap_pyfunction!(close_wakes, module)?;
    let atexit = module.py().import("atexit")?;
    atexit.call_method1("register", (close,)).map(drop)
}

/// Makes the calls as they come; those that came meanwhile share one stay in the interpreter.
fn call_all(waiting: &Receiver<Py<PyAny>>) {
    while let Ok(first) = waiting.recv() {
        let closed = CLOSED.lock();
        if *closed {
            // Nothing may be freed either.
            std::mem::forget(first);
            return;
        }
        let called = Python::try_attach(|py| {
            for call in std::iter::once(first).chain(waiting.try_iter()) {
                if let Err(error) = call.call0(py) {
                    error.write_unraisable(py, None);
                }
            }
        });
        if called.is_none() {
            // The interpreter ends.
            return;
        }
    }
}

/// A call of Python that is made once, when it is woken.
struct CallOnWake(Mutex<Option<Py<PyAny>>>);

impl Wake for CallOnWake {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().take();
        if let (Some(call), Some(calls)) = (call, calls()) {
            let _ = calls.send(call);
        }
    }
}

/// A waker that has `call()` made, once. The call must not block.
pub(crate) fn waker(call: Py<PyAny>) -> Waker {
    Waker::from(Arc::new(CallOnWake(Mutex::new(Some(call)))))
}
