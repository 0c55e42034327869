//! The context of a call: its facts, and the services that a callable may use.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use edgerouter_core::{
    http::{Fields, header},
    problem::quoted,
};
use edgerouter_functions::{ClientPlace, Conversions, FunctionCaches, Notes, Phase};
use edgerouter_telemetry::trace::SpanParent;
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    cache::{self, Caches},
    data::{CallSessions, Env},
    fetch::{FetchFrom, PendingFetch, WantedFetch},
    message::{headers::value_of, request::RequestFacts, spelling},
    runner::{AnswerTo, AnswersEarly, Caller, Deadline, enter, wait_until},
};

/// Bytes of a tag, at most: as much as `Cache-Tag` fields usually allow.
const MOST_TAG_BYTES: usize = 1024;
/// Bytes of early hints: as many as a connection passes on for a request.
const MOST_HINT_BYTES: usize = 16 << 10;
/// Characters of the name of a goal, and the largest value of a conversion.
const MOST_GOAL: usize = 64;
const MOST_VALUE: f64 = 1e9;

/// The call of a callable, async or not.
#[pyclass(frozen, subclass, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct CallContext {
    caller: Arc<Caller>,
    /// It runs on a worker, where nothing may wait.
    inline: bool,
    phase: Phase,
    deadline: Deadline,
    /// The request's id.
    request: u64,
    /// Records that the id was read, as on the request itself.
    notes: Option<Arc<Notes>>,
    /// The span of the call.
    trace: Option<SpanParent>,
    place: Option<Arc<ClientPlace>>,
    conversions: Option<Arc<dyn Conversions>>,
    caches: Weak<dyn FunctionCaches>,
    /// Of functions.
    from: Option<Arc<FetchFrom>>,
    /// Made when the callable first uses its data.
    sessions: OnceLock<Arc<CallSessions>>,
    /// Of a function on an event loop: the call, which can be answered before it is over.
    going: OnceLock<AnswersEarly>,
    /// Of a function on a thread, while it runs: the way of its answer.
    answer: Mutex<Option<AnswerTo>>,
}

/// The place of a call in a trace (W3C Trace Context).
#[pyclass(frozen, get_all, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct TracePlace {
    /// 32 hexadecimal digits.
    trace_id: String,
    /// Of the call's span, 16 digits.
    span_id: String,
    /// The trace was chosen to be kept.
    sampled: bool,
    /// The value of `traceparent` for requests that the callable makes by itself.
    traceparent: String,
}

/// Of a plain callable.
#[pyclass(frozen, extends = CallContext, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Context;

/// Of an async callable, which awaits what others call.
#[pyclass(frozen, extends = CallContext, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct AsyncContext;

impl CallContext {
    pub(crate) fn of(
        py: Python<'_>,
        (caller, inline): (Arc<Caller>, bool),
        phase: Phase,
        deadline: Deadline,
        request: RequestFacts,
        caches: Weak<dyn FunctionCaches>,
        from: Option<Arc<FetchFrom>>,
    ) -> PyResult<Bound<'_, Self>> {
        let awaits = caller.awaits;
        let made = PyClassInitializer::from(Self {
            caller,
            inline,
            phase,
            deadline,
            request: request.id,
            notes: request.notes,
            trace: request.trace,
            place: request.place,
            conversions: request.conversions,
            caches,
            from,
            sessions: OnceLock::new(),
            going: OnceLock::new(),
            answer: Mutex::default(),
        });
        if awaits {
            return Ok(Bound::new(py, made.add_subclass(AsyncContext))?.into_super());
        }
        Ok(Bound::new(py, made.add_subclass(Context))?.into_super())
    }
}

#[pymethods]
impl Context {
    /// Makes a request through the edge and waits for its response: see `edgerouter.functions.fetching`.
    #[pyo3(signature = (request, **options))]
    fn fetch<'py>(
        slf: &Bound<'py, Self>,
        request: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fetching(slf.as_any(), "wait_for", request, options)
    }

    /// The cache of functions. No route is served from it, and it is not filled by any.
    #[getter]
    fn cache(slf: PyRef<'_, Self>) -> PyResult<Py<PyAny>> {
        cache::default(slf.py(), &slf.as_super().caches, false)
    }

    /// Caches by name, each apart from all others.
    #[getter]
    fn caches(slf: PyRef<'_, Self>) -> Caches {
        Caches::new(slf.as_super().caches.clone(), false)
    }
}

/// Calls a function of `edgerouter.functions.fetching`.
fn fetching<'py>(
    context: &Bound<'py, PyAny>,
    function: &str,
    request: &Bound<'py, PyAny>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let fetching = context.py().import("edgerouter.functions.fetching")?;
    fetching.call_method(function, (context, request), options)
}

#[pymethods]
impl AsyncContext {
    /// Makes a request through the edge; awaited: see `edgerouter.functions.fetching`.
    #[pyo3(signature = (request, **options))]
    fn fetch<'py>(
        slf: &Bound<'py, Self>,
        request: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fetching(slf.as_any(), "awaited", request, options)
    }

    /// The cache of functions, to be awaited. No route is served from it, and it is not filled by any.
    #[getter]
    fn cache(slf: PyRef<'_, Self>) -> PyResult<Py<PyAny>> {
        cache::default(slf.py(), &slf.as_super().caches, true)
    }

    /// Caches by name, each apart from all others, to be awaited.
    #[getter]
    fn caches(slf: PyRef<'_, Self>) -> Caches {
        Caches::new(slf.as_super().caches.clone(), true)
    }
}

impl CallContext {
    /// True if developers see tracebacks.
    pub(crate) fn shows_traces(&self) -> bool {
        self.caller.shared.traces()
    }

    /// Keeps the way of the answer while the function runs on a thread, so that it may send early hints by it.
    pub(crate) fn lend(&self, answer: Option<AnswerTo>) {
        *self.answer.lock() = answer;
    }

    /// Gives the way of the answer back.
    pub(crate) fn give_back(&self) -> Option<AnswerTo> {
        self.answer.lock().take()
    }

    /// Lets the call be answered before it is over.
    pub(crate) fn goes_on(&self, going: AnswersEarly) {
        let _ = self.going.set(going);
    }

    fn from(&self) -> PyResult<&FetchFrom> {
        self.from
            .as_deref()
            .ok_or_else(|| PyRuntimeError::new_err("ctx.fetch is for functions, not for hooks"))
    }
}

#[pymethods]
impl CallContext {
    /// The callable's name, as `app.page`.
    #[getter]
    fn name(&self) -> &str {
        &self.caller.name
    }

    /// The phase in which it is called; "function" for a function.
    #[getter]
    fn phase(&self) -> &'static str {
        self.phase.as_str()
    }

    /// The id of its request, as `request.id`.
    #[getter]
    fn request_id(&self) -> String {
        if let Some(notes) = &self.notes {
            notes.lock().personal = true;
        }
        spelling::id(self.request)
    }

    /// The configured region that is nearest to the client; `None` where its place is not known.
    #[getter]
    fn region(&self) -> Option<String> {
        if let Some(notes) = &self.notes {
            notes.lock().personal = true;
        }
        Some(self.place.as_ref()?.region()?.to_string())
    }

    /// True if a callable has made its request, and waits for the response.
    #[getter]
    fn nested(&self) -> bool {
        self.from.as_ref().is_some_and(|from| from.is_nested())
    }

    /// The id of its request for the log, on which nothing that is stored depends.
    #[getter]
    fn log_id(&self) -> String {
        spelling::id(self.request)
    }

    /// Gives the response a tag by which it can be purged, where it may be stored.
    fn tag(&self, tag: &str) -> PyResult<()> {
        if matches!(self.phase, Phase::ViewerRequest | Phase::ViewerResponse) {
            return Err(PyRuntimeError::new_err(
                "ctx.tag is for functions and for hooks of the origin phases: those of the viewer phases have no part in what is stored",
            ));
        }
        let is_tag = |byte: u8| byte.is_ascii_graphic() && byte != b',' || byte >= 0x80;
        if tag.is_empty() || tag.len() > MOST_TAG_BYTES || !tag.bytes().all(is_tag) {
            return Err(PyValueError::new_err(format!(
                "{} is no tag: it has 1 to {MOST_TAG_BYTES} bytes, without spaces and commas",
                quoted(tag)
            )));
        }
        if let Some(notes) = &self.notes {
            notes.lock().tag(tag.as_bytes());
        }
        Ok(())
    }

    /// Counts a conversion of the visitor in each experiment of the plan; false if it was lost, or there is none.
    #[pyo3(signature = (goal, value=0.0))]
    fn convert(&self, goal: &str, value: f64) -> PyResult<bool> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if goal.is_empty() || goal.len() > MOST_GOAL || !goal.bytes().all(is_word) {
            return Err(PyValueError::new_err(format!(
                "{} is no name of a goal: it has 1 to {MOST_GOAL} letters, digits, -, _ and .",
                quoted(goal)
            )));
        }
        if !value.is_finite() || value.abs() > MOST_VALUE {
            return Err(PyValueError::new_err(format!(
                "{value} is no value of a conversion: it must be between -{MOST_VALUE:e} and {MOST_VALUE:e}"
            )));
        }
        let conversions = self.conversions.as_ref();
        Ok(conversions.is_some_and(|conversions| conversions.convert(goal, value)))
    }

    /// Sends the client a 103 with these links ahead of the response (RFC 8297); false if it has begun.
    #[pyo3(signature = (*links))]
    fn early_hints(&self, links: Vec<String>) -> PyResult<bool> {
        if self.from.is_none() {
            let message = "ctx.early_hints is for functions, not for hooks";
            return Err(PyRuntimeError::new_err(message));
        }
        let bytes: usize = links.iter().map(String::len).sum();
        if links.is_empty() || bytes > MOST_HINT_BYTES {
            return Err(PyValueError::new_err(format!(
                "ctx.early_hints takes one or more values of Link, with {MOST_HINT_BYTES} bytes at most, not {bytes}"
            )));
        }
        let mut fields = Fields::new();
        for link in &links {
            fields.append(header::LINK, value_of("link", link)?);
        }
        if let Some(answer) = &mut *self.answer.lock() {
            return Ok(answer.hint(fields));
        }
        let going = self.going.get().and_then(AnswersEarly::upgrade);
        Ok(going.is_some_and(|going| going.hint(fields)))
    }

    /// The place of the call in its trace; `None` if the edge does not trace.
    #[getter]
    fn trace(&self) -> Option<TracePlace> {
        let place = self.trace.as_ref()?.context();
        if let Some(notes) = &self.notes {
            notes.lock().personal = true;
        }
        Some(TracePlace {
            trace_id: format!("{:032x}", place.trace),
            span_id: format!("{:016x}", place.span),
            sampled: place.sampled,
            traceparent: place.to_string(),
        })
    }

    /// The data that the edge is bound to, by name. An async callable awaits its operations.
    #[getter]
    fn env(&self) -> Env {
        let sessions = self.sessions.get_or_init(Arc::default);
        Env::new(
            (&*self.caller, self.inline),
            self.deadline.at(),
            self.trace.clone(),
            sessions,
        )
    }

    /// Scheme and authority of its request.
    fn fetch_origin(&self) -> PyResult<(&'static str, String)> {
        Ok(self.from()?.origin())
    }

    /// Starts a request, whose parts have been checked.
    #[allow(clippy::too_many_arguments)] // they are keywords to Python
    fn begin_fetch(
        &self,
        py: Python<'_>,
        method: &str,
        scheme: &str,
        authority: String,
        target: String,
        fields: &Bound<'_, PyAny>,
        body: &[u8],
        cache: &str,
        seconds: f64,
        outside: Option<(String, u16)>,
        origin: Option<String>,
    ) -> PyResult<PendingFetch> {
        let timeout = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        let wanted = WantedFetch {
            method,
            scheme,
            authority,
            target,
            fields,
            body,
            cache,
            timeout,
            outside,
            origin,
        };
        self.from()?.start(py, wanted)
    }

    /// Seconds left for the call; its time in the queue counts.
    fn remaining(&self) -> f64 {
        self.deadline
            .at()
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }

    /// A logger with the callable's name; what it writes is in the edge's log, with function and request id.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("logging")?.call_method1(
            "getLogger",
            (format!("edgerouter.functions.{}", self.caller.name),),
        )
    }

    /// Answers the call while its function goes on, as an application does that was mounted: it has no time limit while
    /// it gives a response in pieces, and is work after the response otherwise.
    fn _answer(&self, response: &Bound<'_, PyAny>) -> PyResult<()> {
        let going = self.going.get().and_then(AnswersEarly::upgrade);
        let going = going.ok_or_else(|| PyRuntimeError::new_err("the call is over"))?;
        going.answer(response);
        Ok(())
    }

    /// Has `call()` made, once, when the client is gone before the call was answered; false when it is already.
    fn _when_gone(&self, call: Py<PyAny>) -> bool {
        let going = self.going.get().and_then(AnswersEarly::upgrade);
        going.is_some_and(|going| going.when_gone(call))
    }

    /// Goes on with an awaitable, or with a callable on a thread of its own, after the response; false when too many
    /// go on already.
    fn wait_until(slf: &Bound<'_, Self>, work: &Bound<'_, PyAny>) -> PyResult<bool> {
        enter(slf)?;
        let caller = &slf.get().caller;
        wait_until(&caller.shared, &caller.name, work)
    }

    fn __repr__(&self) -> String {
        let kind = if self.caller.awaits {
            "AsyncContext"
        } else {
            "Context"
        };
        format!("<{kind} {} {}>", self.caller.name, self.phase.as_str())
    }
}
