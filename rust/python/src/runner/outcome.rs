//! The meaning of a callable's results and failures, and their lines in the log.

use std::{sync::Arc, time::Duration};

use edgerouter_functions::{FunctionError, FunctionOutput, Phase};
use pyo3::{intern, prelude::*, sync::PyOnceLock, types::PyType};

use super::{
    PythonCallable, abort,
    call::{Misfit, Settled, Views},
    notify, runtime,
};
use crate::{errors, message::response};

fn expected(phase: Phase) -> &'static str {
    match phase {
        Phase::Function => "a Response, str, bytes, dict, list or an iterator of str or bytes",
        Phase::ViewerRequest | Phase::OriginRequest => "None, the request or a Response",
        Phase::OriginResponse | Phase::ViewerResponse => "None, the response or a Response",
    }
}

/// The slip that a type of result usually comes from.
fn remedy(got: &str, result: &Bound<'_, PyAny>) -> &'static str {
    match got {
        "Abort" => ": raise it instead, as in raise Abort(404)",
        "NoneType" => ": is a return missing?",
        "builtin_function_or_method" | "function" | "method" | "type" => {
            ": is it called, with parentheses?"
        }
        got if got.ends_with("Response") => {
            ": that of another framework is for an application that edge.mount serves"
        }
        got if got.starts_with("a tuple") => ": fields go into Response(body, status, headers)",
        _ if response::is_awaitable(result) => ": await it",
        _ => "",
    }
}

static TIME_LIMIT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// True if the exception is the watchdog's interrupt.
pub(crate) fn is_time_limit(py: Python<'_>, error: &PyErr) -> bool {
    TIME_LIMIT
        .import(py, "edgerouter.functions", "TimeLimit")
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// The processor time that a call in a process of its own has used up, as its `TimeLimit` has it.
fn used_up(py: Python<'_>, error: &PyErr) -> Option<Duration> {
    let arguments = error.value(py).getattr(intern!(py, "args")).ok()?;
    let (seconds,): (f64,) = arguments.extract().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// True if asyncio cancelled the task.
pub(crate) fn cancelled(py: Python<'_>, error: &PyErr) -> bool {
    CANCELLED
        .import(py, "asyncio", "CancelledError")
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// The callable, phase and time limit of a call, for the meaning of its outcome.
#[derive(Clone, Copy)]
pub(crate) struct CallSite<'a> {
    pub(crate) callable: &'a PythonCallable,
    pub(crate) phase: Phase,
    pub(crate) timeout: Duration,
}

impl CallSite<'_> {
    /// A wrong type has no id yet: [`CallSite::name`] gives it one.
    pub(crate) fn settle(&self, views: &Views, result: &Bound<'_, PyAny>) -> Settled {
        views
            .output(self.phase, result)
            .map_err(|misfit| match misfit {
                Misfit::Kind(got) => FunctionError::WrongType {
                    id: views.request.get().what(),
                    expected: format!("{}{}", expected(self.phase), remedy(&got, result)),
                    got,
                    trace: None,
                },
                Misfit::Refused(error) => error,
            })
    }

    /// The same, with a wrong type in the log.
    pub(crate) fn settled(
        &self,
        py: Python<'_>,
        views: &Views,
        result: &Bound<'_, PyAny>,
    ) -> Settled {
        let mut settled = self.settle(views, result);
        self.name(py, views, &mut settled);
        settled
    }

    /// Logs a wrong type under an id, which takes the place of the request's name in it.
    pub(crate) fn name(&self, py: Python<'_>, views: &Views, settled: &mut Settled) {
        let Err(FunctionError::WrongType {
            id,
            got,
            expected,
            trace,
        }) = settled
        else {
            return;
        };
        let happened = format!("returned {got}, expected {expected}");
        *id = self.report(py, id, &happened, None, views.request_id());
        *trace = self
            .traces()
            .then(|| format!("{} {happened}", self.callable.caller.name).into());
    }

    /// The outcome of a callable that raised: the answer that it chose, or an error.
    pub(crate) fn ended(&self, py: Python<'_>, views: &Views, error: &PyErr) -> Settled {
        // A field that a hook misses is its own mistake: visitors need not send it.
        if self.phase != Phase::Function && errors::is_missing(py, error) {
            return Err(self.failed(py, views, error));
        }
        match abort::answer(py, views.request.get(), error) {
            Some(answer) => Ok(FunctionOutput::Answer(answer)),
            None => Err(self.failed(py, views, error)),
        }
    }

    /// The error of a callable that raised: the time limit, or its own failure, which is logged.
    pub(crate) fn failed(&self, py: Python<'_>, views: &Views, error: &PyErr) -> FunctionError {
        if is_time_limit(py, error) {
            return match used_up(py, error) {
                // The process of its own has been ended, and the log has it.
                Some(processor_time) => FunctionError::UsedUp(processor_time),
                None => self.timed_out(py, views),
            };
        }
        self.raised(py, Some(views), error)
    }

    pub(crate) fn timed_out(&self, py: Python<'_>, views: &Views) -> FunctionError {
        let what = views.request.get().what();
        let (name, seconds) = (&*self.callable.caller.name, self.timeout.as_secs_f64());
        notify(py, "interrupted", (name, what, seconds, views.request_id()));
        FunctionError::TimedOut(self.timeout)
    }

    /// A failure of the callable itself; without views: before it could be called.
    pub(crate) fn raised(
        &self,
        py: Python<'_>,
        views: Option<&Views>,
        error: &PyErr,
    ) -> FunctionError {
        let what = views.map_or_else(|| "?".to_owned(), |views| views.request.get().what());
        let request = views.and_then(Views::request_id);
        let kind = error
            .get_type(py)
            .name()
            .map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
        let message = error.value(py).str().map_or_else(
            |_| String::new(),
            |text| text.to_string_lossy().into_owned(),
        );
        let happened = format!("raised {kind}");
        FunctionError::Raised {
            id: self.report(py, &what, &happened, Some(error), request),
            kind,
            message,
            trace: self.trace(py, error),
        }
    }

    /// True if developers see tracebacks.
    fn traces(&self) -> bool {
        self.callable.caller.shared.traces()
    }

    fn trace(&self, py: Python<'_>, error: &PyErr) -> Option<Arc<str>> {
        if !self.traces() {
            return None;
        }
        let error = error.clone_ref(py).into_value(py);
        let text: String = runtime(py)
            .and_then(|runtime| runtime.call_method1("traced", (error,))?.extract())
            .ok()?;
        Some(text.into())
    }

    /// Logs on the Python side, where the traceback is, and gives the id that the visitor sees.
    fn report(
        &self,
        py: Python<'_>,
        what: &str,
        happened: &str,
        error: Option<&PyErr>,
        request: Option<String>,
    ) -> String {
        let error = error.map(|error| error.clone_ref(py).into_value(py));
        let reported = runtime(py).and_then(|runtime| {
            let name = &*self.callable.caller.name;
            runtime
                .call_method1("report", (name, what, happened, error, request))?
                .extract()
        });
        reported.unwrap_or_else(|error: PyErr| {
            error.write_unraisable(py, None);
            "0".to_owned()
        })
    }
}
