//! Lines that Python prints while the edge serves, and signals, which are obeyed whatever Python does.

use std::{
    io::Read as _,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_engine::{
    Engine,
    log::{self, StandardStream},
};
use pyo3::prelude::*;

/// Queues text for standard output or standard error; never waits for its reader. False when it was dropped.
#[pyfunction]
fn write_stream(error: bool, text: &[u8]) -> bool {
    let which = if error {
        StandardStream::Stderr
    } else {
        StandardStream::Stdout
    };
    log::stream(which).push(text)
}

/// Waits for what is queued, as long as the readers take it.
#[pyfunction]
fn flush_streams(py: Python<'_>) {
    py.detach(log::flush);
}

/// SIGTERM and SIGINT, by their numbers everywhere that Python runs.
const STOP: [u8; 2] = [15, 2];
/// Time for Python to react to a signal when nothing is left to be drained.
const HEARING: Duration = Duration::from_secs(2);
/// The same, after a second signal.
const AGAIN: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

/// Sees to it that a signal to stop is obeyed even while Python cannot act on it: its thread waits for the other end of
/// what `signal.set_wakeup_fd` writes to, and needs no interpreter.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct SignalWatch {
    /// Python's signal handler writes here.
    write: UnixStream,
    heard: Arc<AtomicBool>,
}

impl SignalWatch {
    pub(crate) fn start(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let (write, read) = UnixStream::pair()?;
        // `set_wakeup_fd` demands it: a handler must not wait.
        write.set_nonblocking(true)?;
        let heard = Arc::new(AtomicBool::new(false));
        let (engine, known) = (Arc::downgrade(engine), Arc::clone(&heard));
        std::thread::Builder::new()
            .name("edge-signals".to_owned())
            .spawn(move || watch(read, &engine, &known))?;
        Ok(Self { write, heard })
    }
}

#[pymethods]
impl SignalWatch {
    fn fileno(&self) -> RawFd {
        self.write.as_raw_fd()
    }

    /// Python has heard the signal, and stops what it serves.
    fn heard(&self) {
        self.heard.store(true, Ordering::Release);
    }

    /// Ends the thread.
    fn close(&self) {
        self.heard();
        let _ = self.write.shutdown(std::net::Shutdown::Both);
    }
}

fn watch(mut read: UnixStream, engine: &Weak<Engine>, heard: &AtomicBool) {
    let mut number = [0];
    let mut signals = 0;
    while read.read_exact(&mut number).is_ok() {
        if !number.iter().all(|number| STOP.contains(number)) {
            continue;
        }
        signals += 1;
        if !heard.load(Ordering::Acquire) {
            let Some(again) = await_python(&mut read, engine, heard) else {
                return;
            };
            signals += i32::from(again);
        }
        // Python ends the process at the second one, unless a callable keeps the interpreter from it.
        if signals > 1 && !closes(&mut read) {
            leave("ended by a second signal while Python was busy", 1);
        }
    }
}

/// Drains the engine until Python has heard the first signal; true if there was another one meanwhile. Ends the process
/// where Python does not hear it. `None`: the engine or the other end is gone.
fn await_python(read: &mut UnixStream, engine: &Weak<Engine>, heard: &AtomicBool) -> Option<bool> {
    let running = engine.upgrade()?;
    running.drain();
    let began = Instant::now();
    let deadline = began + running.drain_timeout();
    drop(running);
    let _ = read.set_read_timeout(Some(LOOK));
    let mut again = false;
    while !heard.load(Ordering::Acquire) {
        let mut number = [0];
        match read.read(&mut number) {
            Ok(0) => return None,
            Ok(_) => again = again || number.iter().all(|number| STOP.contains(number)),
            Err(_) => {}
        }
        let busy = engine.upgrade().is_some_and(|engine| engine.is_busy());
        // A second signal ends at once.
        let patience = if again { AGAIN } else { HEARING };
        let over = began.elapsed() >= patience;
        if over && (again || !busy || Instant::now() >= deadline) {
            let why = "stopped by a signal while Python was busy (a reload that hangs?)";
            leave(why, i32::from(again));
        }
    }
    let _ = read.set_read_timeout(None);
    Some(again)
}

/// True if the other end is closed in the time that Python has to react.
fn closes(read: &mut UnixStream) -> bool {
    let until = Instant::now() + HEARING;
    let _ = read.set_read_timeout(Some(LOOK));
    let mut closed = false;
    while !closed && Instant::now() < until {
        closed = matches!(read.read(&mut [0]), Ok(0));
    }
    let _ = read.set_read_timeout(None);
    closed
}

/// Ends the process. Python cannot end in order: it does not react.
fn leave(why: &str, code: i32) -> ! {
    tracing::warn!("{why}");
    log::flush();
    std::process::exit(code)
}

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SignalWatch>()?;
    module.add_function(wrap_pyfunction!(write_stream, module)?)?;
    module.add_function(wrap_pyfunction!(flush_streams, module)?)
}
