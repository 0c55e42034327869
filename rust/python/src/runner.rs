//! Carrying calls to Python's own threads and their answers back.
//!
//! A worker puts a call into a bounded queue, wakes Python with one byte when nobody is awake yet, and goes on: it
//! never waits for the interpreter. Python's event loop takes calls in batches, runs them, and finishes each, which
//! wakes the worker that waits for it. `inline` callables are called on the worker itself until they break their
//! promise to be quick.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_engine::functions::{
    Answer, FunctionError, Functions, FunctionsLoad, Invocation, Pending, Phase, RequestHead,
    Verdict,
};
use http::StatusCode;
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use tokio::sync::oneshot;

use crate::views::{Context, Request, Response, json_bytes};

/// A callable of a plan.
#[derive(Debug)]
pub(crate) struct Callable {
    pub(crate) function: Py<PyAny>,
    pub(crate) is_async: bool,
    pub(crate) inline: AtomicBool,
    pub(crate) blocking: bool,
    pub(crate) name: Arc<str>,
    /// Slow inline calls in a row.
    slow: AtomicU32,
}

/// More abandoned threads than this, and the process is not ready any more.
const MOST_ABANDONED: usize = 8;
/// An inline call longer than this broke its promise; so many in a row, and the callable moves to the queue.
const INLINE_LIMIT: Duration = Duration::from_millis(1);
const INLINE_PATIENCE: u32 = 8;
/// One so long is enough.
const INLINE_WORST: Duration = Duration::from_millis(50);

struct Waiting {
    table: Arc<Vec<Callable>>,
    invocation: Invocation,
    answer: oneshot::Sender<Result<Verdict, FunctionError>>,
}

/// What workers and Python threads share.
pub(crate) struct Shared {
    queue: Mutex<VecDeque<Waiting>>,
    most: AtomicUsize,
    /// Python has been woken and has not drained yet.
    awake: AtomicBool,
    bell: Mutex<UnixStream>,
    running: AtomicUsize,
    abandoned: AtomicUsize,
    stopped: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// The callables of one plan, as the engine calls them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) shared: Arc<Shared>,
    pub(crate) callables: Arc<Vec<Callable>>,
}

/// Makes the callables of a plan from the tuples that the Python side gives:
/// `(callable, is_async, inline, blocking, timeout, name)`.
pub(crate) fn callables(specs: &Bound<'_, PyAny>) -> PyResult<Arc<Vec<Callable>>> {
    let mut made = Vec::new();
    for spec in specs.try_iter()? {
        let spec = spec?;
        let (function, is_async, inline, blocking, _timeout, name): (
            Py<PyAny>,
            bool,
            bool,
            bool,
            Option<f64>,
            String,
        ) = spec.extract()?;
        made.push(Callable {
            function,
            is_async,
            inline: AtomicBool::new(inline),
            blocking,
            name: name.into(),
            slow: AtomicU32::new(0),
        });
    }
    Ok(Arc::new(made))
}

impl Functions for Table {
    fn invoke(&self, invocation: Invocation) -> Pending {
        let Some(callable) = self.callables.get(invocation.call.0 as usize) else {
            return Box::pin(std::future::ready(Err(FunctionError::Gone)));
        };
        let invocation = if callable.inline.load(Ordering::Relaxed) {
            match call_inline(callable, invocation) {
                Inline::Done(verdict) => return Box::pin(std::future::ready(verdict)),
                Inline::Moved(invocation) => *invocation,
            }
        } else {
            invocation
        };
        let (answer, verdict) = oneshot::channel();
        let shared = &self.shared;
        let most = shared.most.load(Ordering::Relaxed);
        {
            let mut queue = shared.queue.lock();
            if shared.stopped.load(Ordering::Acquire) {
                return Box::pin(std::future::ready(Err(FunctionError::Gone)));
            }
            // Calls whose client was told that it took too long are not worth running.
            if queue.len() >= most {
                queue.retain(|waiting| !waiting.answer.is_closed());
            }
            if queue.len() >= most {
                return Box::pin(std::future::ready(Err(FunctionError::QueueFull(most))));
            }
            queue.push_back(Waiting {
                table: Arc::clone(&self.callables),
                invocation,
                answer,
            });
        }
        if !shared.awake.swap(true, Ordering::AcqRel) {
            // A full pipe means that Python has been told.
            let _ = shared.bell.lock().write(&[1]);
        }
        Box::pin(async move { verdict.await.unwrap_or(Err(FunctionError::Gone)) })
    }

    fn load(&self) -> FunctionsLoad {
        let abandoned = self.shared.abandoned.load(Ordering::Relaxed);
        FunctionsLoad {
            waiting: self.shared.queue.lock().len(),
            running: self.shared.running.load(Ordering::Relaxed),
            abandoned,
            ready: abandoned <= MOST_ABANDONED,
        }
    }
}

/// The Python side's end of the queue.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    ear: Mutex<UnixStream>,
}

impl Runner {
    pub(crate) fn new(most: usize) -> PyResult<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(VecDeque::new()),
                most: AtomicUsize::new(most.max(1)),
                awake: AtomicBool::new(false),
                bell: Mutex::new(bell),
                running: AtomicUsize::new(0),
                abandoned: AtomicUsize::new(0),
                stopped: AtomicBool::new(false),
            }),
            ear: Mutex::new(ear),
        })
    }

    pub(crate) fn bound(&self, most: usize) {
        self.shared.most.store(most.max(1), Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        let mut queue = self.shared.queue.lock();
        self.shared.stopped.store(true, Ordering::Release);
        queue.clear();
    }
}

#[pymethods]
impl Runner {
    /// Readable when calls wait.
    fn fileno(&self) -> i32 {
        self.ear.lock().as_raw_fd()
    }

    /// Takes at most `most` calls. When some stay, the descriptor stays readable.
    fn drain(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Py<Call>>> {
        // Before looking: a call that comes after the look rings again.
        self.shared.awake.store(false, Ordering::Release);
        let mut rung = [0; 64];
        let _ = self.ear.lock().read(&mut rung);
        let mut taken = Vec::new();
        {
            let mut queue = self.shared.queue.lock();
            while taken.len() < most
                && let Some(waiting) = queue.pop_front()
            {
                if !waiting.answer.is_closed() {
                    taken.push(waiting);
                }
            }
            if !queue.is_empty() && !self.shared.awake.swap(true, Ordering::AcqRel) {
                let _ = self.shared.bell.lock().write(&[1]);
            }
        }
        taken
            .into_iter()
            .map(|waiting| Py::new(py, Call::new(Arc::clone(&self.shared), waiting)))
            .collect()
    }

    /// A thread was left behind, or came back after all.
    fn abandoned(&self, change: i32) {
        let counter = &self.shared.abandoned;
        if change >= 0 {
            counter.fetch_add(change.unsigned_abs() as usize, Ordering::Relaxed);
        } else {
            counter.fetch_sub(change.unsigned_abs() as usize, Ordering::Relaxed);
        }
    }
}

/// One call on the Python side.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Call {
    shared: Arc<Shared>,
    table: Arc<Vec<Callable>>,
    index: usize,
    phase: Phase,
    timeout: Duration,
    views: Mutex<Option<Views>>,
    answer: Mutex<Option<oneshot::Sender<Result<Verdict, FunctionError>>>>,
    what: String,
}

/// What the callable was given.
#[derive(Debug)]
struct Views {
    request: Py<Request>,
    response: Option<Py<Response>>,
}

impl Call {
    fn new(shared: Arc<Shared>, waiting: Waiting) -> Self {
        shared.running.fetch_add(1, Ordering::Relaxed);
        let Waiting {
            table,
            invocation,
            answer,
        } = waiting;
        let index = invocation.call.0 as usize;
        let what = format!("{} {}", invocation.request.method, invocation.request.path);
        let (phase, timeout) = (invocation.phase, invocation.timeout);
        let views = Python::attach(|py| Views::new(py, invocation).ok());
        Self {
            shared,
            table,
            index,
            phase,
            timeout,
            views: Mutex::new(views),
            answer: Mutex::new(Some(answer)),
            what,
        }
    }

    fn callable(&self) -> PyResult<&Callable> {
        self.table
            .get(self.index)
            .ok_or_else(|| PyRuntimeError::new_err("the callable is gone"))
    }

    fn conclude(&self, verdict: Result<Verdict, FunctionError>) {
        if let Some(answer) = self.answer.lock().take() {
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
            let _ = answer.send(verdict);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.conclude(Err(FunctionError::Gone));
    }
}

impl Views {
    fn new(py: Python<'_>, invocation: Invocation) -> PyResult<Self> {
        let request = Py::new(py, Request::new(invocation.request, invocation.body))?;
        let response = invocation
            .response
            .map(|head| Py::new(py, Response::seen(head)))
            .transpose()?;
        Ok(Self { request, response })
    }

    fn arguments<'py>(&self, py: Python<'py>, context: Context) -> PyResult<Bound<'py, PyTuple>> {
        let context = Py::new(py, context)?;
        match &self.response {
            Some(response) => (&self.request, response, context).into_pyobject(py),
            None => (&self.request, context).into_pyobject(py),
        }
    }

    /// What the callable's result means. `Err`: the name of a type that means nothing here.
    fn verdict(
        &self,
        py: Python<'_>,
        phase: Phase,
        result: &Bound<'_, PyAny>,
    ) -> Result<Verdict, String> {
        let go_on = || {
            let request = self
                .request
                .get()
                .take()
                .ok_or_else(|| "a request that is over".to_owned())?;
            let Some(response) = &self.response else {
                return Ok(Verdict::Continue {
                    request,
                    response: None,
                });
            };
            let (status, headers, body) = response.get().parts();
            Ok(match body {
                None => Verdict::Continue {
                    request,
                    response: Some(edgerouter_engine::functions::ResponseHead { status, headers }),
                },
                Some(body) => Verdict::Answer(Answer {
                    status,
                    headers,
                    body,
                }),
            })
        };
        if result.is_none() && phase != Phase::Function {
            return go_on();
        }
        if let Ok(request) = result.cast::<Request>() {
            return if request.is(&self.request) && phase != Phase::Function {
                go_on()
            } else {
                Err("a Request that it was not given".to_owned())
            };
        }
        if let Ok(response) = result.cast::<Response>() {
            if self.response.as_ref().is_some_and(|seen| response.is(seen)) {
                return go_on();
            }
            let (status, headers, body) = response.get().parts();
            return Ok(Verdict::Answer(Answer {
                status,
                headers,
                body: body.unwrap_or_default(),
            }));
        }
        let named = || {
            result
                .get_type()
                .name()
                .map_or_else(|_| "something".to_owned(), |name| name.to_string())
        };
        if phase != Phase::Function {
            return Err(named());
        }
        let made = if let Ok(text) = result.cast::<PyString>() {
            let body = bytes::Bytes::copy_from_slice(text.to_string_lossy().as_bytes());
            Response::made(StatusCode::OK, body, Some("text/plain; charset=utf-8"))
        } else if let Ok(body) = result.cast::<pyo3::types::PyBytes>() {
            Response::made(
                StatusCode::OK,
                bytes::Bytes::copy_from_slice(body.as_bytes()),
                Some("application/octet-stream"),
            )
        } else if result.is_instance_of::<PyDict>() || result.is_instance_of::<PyList>() {
            match json_bytes(py, result) {
                Ok(body) => Response::made(StatusCode::OK, body, Some("application/json")),
                Err(_) => return Err(format!("{} that JSON cannot hold", named())),
            }
        } else {
            return Err(named());
        };
        let (status, headers, body) = made.parts();
        Ok(Verdict::Answer(Answer {
            status,
            headers,
            body: body.unwrap_or_default(),
        }))
    }
}

fn expected(phase: Phase) -> &'static str {
    match phase {
        Phase::Function => "a Response, str, bytes, dict or list",
        Phase::ViewerRequest | Phase::OriginRequest => "None, the request or a Response",
        Phase::OriginResponse | Phase::ViewerResponse => "None, the response or a Response",
    }
}

#[pymethods]
impl Call {
    #[getter]
    fn callable_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.callable()?.function.clone_ref(py))
    }

    #[getter]
    fn name(&self) -> PyResult<&str> {
        Ok(&self.callable()?.name)
    }

    #[getter]
    fn is_async(&self) -> PyResult<bool> {
        Ok(self.callable()?.is_async)
    }

    #[getter]
    fn blocking(&self) -> PyResult<bool> {
        Ok(self.callable()?.blocking)
    }

    /// Seconds.
    #[getter]
    fn timeout(&self) -> f64 {
        self.timeout.as_secs_f64()
    }

    /// Method and path, for the log.
    #[getter]
    fn what(&self) -> &str {
        &self.what
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.phase.as_str()
    }

    /// Whether nobody waits for the answer any more.
    #[getter]
    fn over(&self) -> bool {
        self.answer
            .lock()
            .as_ref()
            .is_none_or(oneshot::Sender::is_closed)
    }

    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let context = Context::new(Arc::clone(&self.callable()?.name), self.phase, self.timeout);
        match &*self.views.lock() {
            Some(views) => views.arguments(py, context),
            None => Err(PyRuntimeError::new_err("the call is over")),
        }
    }

    /// Answers with what the callable returned. `error_id`: used when that means nothing; then its type is returned.
    fn finish(&self, py: Python<'_>, result: &Bound<'_, PyAny>, error_id: &str) -> Option<String> {
        let views = self.views.lock().take();
        let verdict = match &views {
            Some(views) => views.verdict(py, self.phase, result),
            None => return None,
        };
        match verdict {
            Ok(verdict) => {
                self.conclude(Ok(verdict));
                None
            }
            Err(got) => {
                let expected = expected(self.phase).to_owned();
                self.conclude(Err(FunctionError::WrongType {
                    id: error_id.to_owned(),
                    got: got.clone(),
                    expected: expected.clone(),
                }));
                Some(format!("returned {got}, expected {expected}"))
            }
        }
    }

    /// Answers that the callable raised.
    fn fail(&self, error_id: &str, kind: &str, message: &str) {
        self.views.lock().take();
        self.conclude(Err(FunctionError::Raised {
            id: error_id.to_owned(),
            kind: kind.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// Answers that it took too long.
    fn expire(&self) {
        self.views.lock().take();
        self.conclude(Err(FunctionError::TimedOut(self.timeout)));
    }
}

enum Inline {
    Done(Result<Verdict, FunctionError>),
    Moved(Box<Invocation>),
}

/// Calls on the worker's own thread. A coroutine is driven one step; one that really waits is given up and moved.
fn call_inline(callable: &Callable, invocation: Invocation) -> Inline {
    let started = Instant::now();
    let inlined = Python::attach(|py| {
        // A coroutine that suspends cannot be resumed elsewhere: keep what is needed to call it anew.
        let copy = callable.is_async.then(|| copy_of(&invocation));
        let (phase, timeout) = (invocation.phase, invocation.timeout);
        let called = (|| {
            let views = Views::new(py, invocation)?;
            let arguments =
                views.arguments(py, Context::new(Arc::clone(&callable.name), phase, timeout))?;
            let mut result = callable.function.bind(py).call1(arguments)?;
            if callable.is_async {
                match result.call_method1("send", (py.None(),)) {
                    Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
                        result = stop.value(py).getattr("value")?;
                    }
                    Err(error) => return Err(error),
                    Ok(_) => {
                        let _ = result.call_method0("close");
                        return Ok(None);
                    }
                }
            }
            Ok(Some((views.verdict(py, phase, &result), result)))
        })();
        match called {
            Ok(Some((Ok(verdict), _))) => Inline::Done(Ok(verdict)),
            Ok(Some((Err(got), _))) => {
                let id = report(
                    py,
                    callable,
                    &format!("returned {got}, expected {}", expected(phase)),
                    None,
                );
                Inline::Done(Err(FunctionError::WrongType {
                    id,
                    got,
                    expected: expected(phase).to_owned(),
                }))
            }
            Ok(None) => match copy {
                Some(copy) => {
                    demote(callable, "it waits");
                    Inline::Moved(Box::new(copy))
                }
                None => Inline::Done(Err(FunctionError::Gone)),
            },
            Err(error) => {
                let kind = error
                    .get_type(py)
                    .name()
                    .map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
                let message = error.value(py).to_string();
                let id = report(py, callable, &format!("raised {kind}"), Some(&error));
                Inline::Done(Err(FunctionError::Raised { id, kind, message }))
            }
        }
    });
    let took = started.elapsed();
    if took > INLINE_WORST {
        demote(callable, "a call took longer than 50 ms");
    } else if took > INLINE_LIMIT {
        if callable.slow.fetch_add(1, Ordering::Relaxed) + 1 >= INLINE_PATIENCE {
            demote(
                callable,
                "its calls take longer than 1 ms, or the interpreter is busy",
            );
        }
    } else {
        callable.slow.store(0, Ordering::Relaxed);
    }
    inlined
}

fn copy_of(invocation: &Invocation) -> Invocation {
    Invocation {
        call: invocation.call,
        phase: invocation.phase,
        request: RequestHead::clone(&invocation.request),
        body: invocation.body.clone(),
        response: invocation.response.clone(),
        timeout: invocation.timeout,
    }
}

fn demote(callable: &Callable, why: &str) {
    if callable.inline.swap(false, Ordering::Relaxed) {
        tracing::warn!(callable = %callable.name, why, "inline callable moved to the queue");
    }
}

/// Logs on the Python side, where the traceback is, and gives the id that the visitor is told.
fn report(py: Python<'_>, callable: &Callable, what: &str, error: Option<&PyErr>) -> String {
    let reported = || -> PyResult<String> {
        let error = error.map_or_else(
            || py.None(),
            |error| error.clone_ref(py).into_value(py).into_any(),
        );
        py.import("edgerouter.functions.runtime")?
            .call_method1("report", (&*callable.name, "inline", what, error))?
            .extract()
    };
    reported().unwrap_or_else(|_| "0".to_owned())
}
