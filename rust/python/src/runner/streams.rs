//! Content in pieces between callables and workers: the iterator that a function answers with, and the rest of a
//! request's content that is larger than what is handed over at once.
//!
//! Python pumps an iterator into a pipe (`edgerouter.functions.streams`), the worker sends from the pipe, and each
//! waits for the other without blocking a thread. When the client is gone, the iterator is closed.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_functions::{
    Beginning, FunctionError, FunctionOutput,
    pipe::{DueReader, PieceReader, PieceWriter, WokenTogether, pipe},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyByteArray, PyBytes, PyMemoryView, PyString},
};

use super::{
    abort,
    arrivals::{TakesArrivals, Waiter},
    deadline::in_seconds,
    runtime, wake,
};
use crate::{
    context::CallContext,
    errors,
    message::{asgi, request::Request},
};

/// The streams of responses that are open.
#[derive(Debug)]
pub(crate) struct Streams {
    place: Weak<dyn TakesArrivals>,
    /// Starts the pump in Python: `(source, sink, call)`.
    start: Mutex<Option<Py<PyAny>>>,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Streams {
    pub(crate) fn new(place: Weak<dyn TakesArrivals>) -> Arc<Self> {
        Arc::new(Self {
            place,
            start: Mutex::default(),
            open: AtomicUsize::default(),
            most: AtomicUsize::default(),
        })
    }

    pub(crate) fn attach(&self, start: Option<Py<PyAny>>) {
        // The old value is freed after the lock.
        let before = std::mem::replace(&mut *self.start.lock(), start);
        drop(before);
    }

    pub(crate) fn bound(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A place among the streams that may be open.
#[derive(Debug)]
struct Place(Arc<Streams>);

impl Place {
    fn take(streams: &Arc<Streams>) -> Result<Self, usize> {
        let most = streams.most.load(Ordering::Relaxed);
        let place = Self(Arc::clone(streams));
        if streams.open.fetch_add(1, Ordering::AcqRel) >= most {
            return Err(most);
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The head of a response, which waits for the first piece of its content.
#[derive(Debug)]
pub(crate) struct Waits {
    beginning: Arc<Beginning>,
    /// The request, to which a failure is an answer.
    request: Py<Request>,
    /// Developers see tracebacks.
    traces: bool,
}

impl Waits {
    pub(crate) fn of(request: Py<Request>) -> Self {
        Self {
            beginning: Arc::default(),
            request,
            traces: false,
        }
    }

    /// Shared with the worker that waits.
    pub(crate) fn beginning(&self) -> Arc<Beginning> {
        Arc::clone(&self.beginning)
    }
}

/// Starts to send what `source` gives. `waits`: the head, if it waits for the first piece.
pub(crate) fn begin(
    streams: &Arc<Streams>,
    source: &Bound<'_, PyAny>,
    call: Option<&Py<CallContext>>,
    mut waits: Option<Waits>,
) -> PyResult<Result<PieceReader, FunctionError>> {
    let py = source.py();
    let place = match Place::take(streams) {
        Ok(place) => place,
        Err(most) => return Ok(Err(FunctionError::TooManyStreams(most))),
    };
    // Not called under the lock.
    let start = streams
        .start
        .lock()
        .as_ref()
        .map(|start| start.clone_ref(py));
    let Some(start) = start else {
        return Ok(Err(FunctionError::Gone));
    };
    if let (Some(waits), Some(call)) = (&mut waits, call) {
        waits.traces = call.get().shows_traces();
    }
    let (writer, reader) = pipe();
    let sink = PieceSink {
        arrivals: Weak::clone(&streams.place),
        waiting: AtomicBool::new(waits.is_some()),
        waits: Mutex::new(waits),
        writer: Mutex::new(Some(writer)),
        place: Mutex::new(Some(place)),
        event_loop: OnceLock::new(),
        held: Mutex::default(),
    };
    start.call1(py, (source, sink, call))?;
    Ok(Ok(reader))
}

/// Time for which the worker is not woken while further pieces come.
const HELD: Duration = Duration::from_millis(1);

/// The end of a response's content that Python writes.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct PieceSink {
    arrivals: Weak<dyn TakesArrivals>,
    /// The head waits for the first piece.
    waiting: AtomicBool,
    waits: Mutex<Option<Waits>>,
    writer: Mutex<Option<PieceWriter>>,
    place: Mutex<Option<Place>>,
    /// Of the task that puts the pieces: the worker is woken once for those of a turn.
    event_loop: OnceLock<Py<PyAny>>,
    /// The worker that waits, and the time since it could go on.
    held: Mutex<Option<(Held, Instant)>>,
}

/// A reader that is woken at the end of a turn of the event loop.
#[derive(Debug)]
enum Held {
    Task(std::task::Waker),
    /// With the others of its thread, which keeps its task.
    Thread(Arc<dyn WokenTogether>),
}

#[pymethods]
impl PieceSink {
    /// Sends a piece: true while there is room for another, `None` when the client is gone.
    fn put(slf: &Bound<'_, Self>, piece: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let sink = slf.get();
        let bytes = piece_of(piece)?;
        if sink.waiting.load(Ordering::Relaxed) && !bytes.is_empty() {
            sink.begins_with(piece);
        }
        let put = {
            let writer = sink.writer.lock();
            (writer.as_ref()).and_then(|writer| writer.put_quietly(bytes).ok())
        };
        let Some((room, reader)) = put else {
            return Ok(None);
        };
        match reader {
            Some(reader) => Self::hold(slf, reader)?,
            None if sink.is_due() => sink.wake(),
            None => {}
        }
        Ok(Some(room))
    }

    /// Has the worker woken at the end of a turn of this event loop, which is that of the task that puts the pieces.
    fn turns_with(&self, event_loop: Py<PyAny>) {
        let _ = self.event_loop.set(event_loop);
    }

    /// Wakes the worker for the pieces that were put.
    fn wake(&self) {
        let held = self.held.lock().take();
        match held {
            Some((Held::Task(task), _)) => task.wake(),
            Some((Held::Thread(thread), _)) => thread.wake(),
            None => {}
        }
    }

    /// Answers with the failure of an iterator that has given nothing, logged under the id `name`; false: the response
    /// has begun, or the failure is no answer and has no id yet.
    fn refuse(&self, error: &Bound<'_, PyAny>, name: Option<String>) -> bool {
        let py = error.py();
        // Not held while Python runs.
        let taken = self.waits.lock().take();
        let Some(waits) = taken else {
            return false;
        };
        let raised = PyErr::from_value(error.clone());
        let outcome = match (abort::answer(py, waits.request.get(), &raised), name) {
            (Some(answer), _) => Ok(FunctionOutput::Answer(answer)),
            (None, Some(id)) => Err(FunctionError::Raised {
                id,
                kind: text(error.get_type().name()),
                message: text(error.str()),
                trace: waits.traces.then(|| traced(error)).flatten(),
            }),
            (None, None) => {
                *self.waits.lock() = Some(waits);
                return false;
            }
        };
        waits.beginning.refuse(outcome);
        true
    }

    /// The future of the time when there is room or the client is gone, to be awaited; `None` when that is so already.
    fn room<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (waiter, future) = Waiter::awaited(py)?;
        let waker = waiter.waker(Weak::clone(&self.arrivals));
        let writer = self.writer.lock();
        let polled = writer
            .as_ref()
            .map(|writer| writer.poll_room(&Context::from_waker(&waker)));
        let waits = polled.is_some_and(|polled| polled.is_pending());
        Ok(waits.then_some(future))
    }

    /// Has `call()` made, once, when the client is gone; false when it is already.
    fn when_unwanted(&self, call: Py<PyAny>) -> bool {
        let waker = wake::waker(call);
        let writer = self.writer.lock();
        let polled = writer
            .as_ref()
            .map(|writer| writer.poll_unwanted(&Context::from_waker(&waker)));
        polled.is_some_and(|polled| polled.is_pending())
    }

    /// True if the client is gone.
    #[getter]
    fn unwanted(&self) -> bool {
        let writer = self.writer.lock();
        let cx = Context::from_waker(std::task::Waker::noop());
        !matches!(
            writer.as_ref().map(|writer| writer.poll_room(&cx)),
            Some(Poll::Pending | Poll::Ready(Ok(())))
        )
    }

    /// Ends the content, with trailers, which are pairs of bytes; not `complete`: the client sees that it broke off.
    /// Raises `ValueError` for trailers that are none, and ends nothing then.
    #[pyo3(signature = (complete, trailers=None))]
    fn end(
        slf: &Bound<'_, Self>,
        complete: bool,
        trailers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let sink = slf.get();
        let trailers = trailers.map(asgi::trailers_of).transpose()?;
        let writer = sink.writer.lock().take();
        let reader = match &writer {
            Some(writer) if complete => writer.finish_quietly(trailers),
            _ => None,
        };
        drop(writer);
        sink.place.lock().take();
        match reader {
            Some(reader) => Self::hold(slf, reader)?,
            None if !complete || sink.event_loop.get().is_none() => sink.wake(),
            None => {}
        }
        Ok(())
    }
}

impl Drop for PieceSink {
    fn drop(&mut self) {
        // The worker sees then that the writer is gone.
        self.wake();
    }
}

impl PieceSink {
    /// Has a reader woken at the end of the event loop's turn, together with the others of its thread; at once without
    /// an event loop.
    fn hold(slf: &Bound<'_, Self>, reader: DueReader) -> PyResult<()> {
        let (py, sink) = (slf.py(), slf.get());
        let Some(event_loop) = sink.event_loop.get() else {
            reader.task.wake();
            return Ok(());
        };
        let (held, is_first) = match reader.thread {
            Some(thread) => {
                // Another loop may be stuck.
                let is_first = thread.keep(reader.task, event_loop.as_ptr().addr());
                (Held::Thread(thread), is_first)
            }
            None => (Held::Task(reader.task), true),
        };
        *sink.held.lock() = Some((held, Instant::now()));
        if is_first {
            let wake = slf.getattr(intern!(py, "wake"))?;
            event_loop.call_method1(py, intern!(py, "call_soon"), (wake,))?;
        }
        Ok(())
    }

    /// True if the worker has been left to wait for long.
    fn is_due(&self) -> bool {
        let held = self.held.lock();
        held.as_ref()
            .is_some_and(|(_, since)| since.elapsed() > HELD)
    }

    /// The head need not wait any longer.
    fn begins_with(&self, piece: &Bound<'_, PyAny>) {
        self.waiting.store(false, Ordering::Relaxed);
        let waits = self.waits.lock().take();
        if let Some(waits) = &waits
            && piece.is_instance_of::<PyString>()
        {
            waits.beginning.begins_with_text();
        }
    }
}

fn text(text: PyResult<Bound<'_, PyString>>) -> String {
    text.map_or_else(
        |_| "?".to_owned(),
        |text| text.to_string_lossy().into_owned(),
    )
}

fn traced(error: &Bound<'_, PyAny>) -> Option<Arc<str>> {
    let traced = runtime(error.py()).ok()?.call_method1("traced", (error,));
    Some(traced.ok()?.extract::<String>().ok()?.into())
}

/// A piece from this length on is not copied: the worker sends from Python's own bytes.
const SHARED: usize = 4 << 10;

/// The bytes of a piece.
fn piece_of(piece: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = piece.cast::<PyBytes>() {
        if bytes.as_bytes().len() < SHARED {
            return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
        }
        return Ok(Bytes::from_owner(PyBackedBytes::from(bytes.clone())));
    }
    if let Ok(text) = piece.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes()));
    }
    if piece.is_instance_of::<PyByteArray>() || piece.is_instance_of::<PyMemoryView>() {
        return crate::message::response::bytes_of(piece).map(|(bytes, _)| bytes);
    }
    // A content may be `None`, but a piece that is none is a mistake of the iterator.
    Err(PyTypeError::new_err(format!(
        "a piece is str or bytes, not {}: convert it, or give none",
        piece.get_type().name()?
    )))
}

/// The end of a request's content that Python reads.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct PieceSource(Mutex<PieceReader>);

impl PieceSource {
    pub(crate) fn new(reader: PieceReader) -> Self {
        Self(Mutex::new(reader))
    }
}

#[pymethods]
impl PieceSource {
    /// The next piece; `None`: there is none yet; empty: the content is complete. `BodyError` when it broke off.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let cx = Context::from_waker(std::task::Waker::noop());
        let polled = self.0.lock().poll_piece(&cx);
        match polled {
            Poll::Pending => Ok(None),
            Poll::Ready(None) => Ok(Some(PyBytes::new(py, b""))),
            Poll::Ready(Some(Ok(piece))) => Ok(Some(PyBytes::new(py, &piece))),
            Poll::Ready(Some(Err(_))) => Err(errors::body(
                py,
                "The body broke off, came too slowly or is too large.",
            )),
        }
    }

    /// Has `call()` made, once, when there is a piece or the end; false when there is one already.
    fn when_ready(&self, call: Py<PyAny>) -> bool {
        let waker = wake::waker(call);
        self.0
            .lock()
            .poll_ready(&Context::from_waker(&waker))
            .is_pending()
    }

    /// Waits for a piece or the end, for `seconds` at most.
    fn wait(&self, py: Python<'_>, seconds: f64) {
        let until = in_seconds(seconds);
        py.detach(|| {
            let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
            let cx = Context::from_waker(&waker);
            while self.0.lock().poll_ready(&cx).is_pending() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                std::thread::park_timeout(left);
            }
        });
    }
}

/// Ends the wait of a thread.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
