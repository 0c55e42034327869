//! A call that waits for its thread, and the kind of thread that it needs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_functions::{Invocation, Phase};
use pyo3::prelude::*;

use super::{Deadline, PythonCallable, answers::AnswerTo, call::Views, streams::Streams};

/// A call that waits for Python. On the heap from its beginning, as it changes hands several times.
pub(crate) struct Job {
    pub(crate) callables: Arc<[PythonCallable]>,
    pub(crate) index: usize,
    pub(crate) phase: Phase,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Deadline,
    pub(crate) work: Work,
    pub(crate) answer: AnswerTo,
    /// A callable made the request, and waits.
    pub(crate) nested: bool,
}

/// The threads on which a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On an event loop.
    Loop,
    /// On any thread of the pool.
    Plain,
    /// One at a time, on one thread.
    Serial,
    /// On a thread that is reserved for plain calls that others wait for.
    Nested,
}

impl Kind {
    /// Its word for Python.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Plain => "plain",
            Self::Serial => "serial",
            Self::Nested => "nested",
        }
    }

    /// From its word, of the threads that take calls themselves.
    pub(crate) fn of(word: &str) -> Option<Self> {
        let kinds = [Self::Plain, Self::Serial, Self::Nested];
        kinds.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The state of a call that waits.
pub(crate) enum Work {
    Fresh(Invocation),
    /// Its views exist already, and perhaps a coroutine of another thread.
    Begun(Box<Views>, Option<Coroutine>),
}

/// A coroutine, or another awaitable, that a callable has made or begun on another thread.
pub(crate) struct Coroutine {
    pub(crate) made: Py<PyAny>,
    /// The context (`contextvars`) of its call, which names it.
    pub(crate) scope: Py<PyAny>,
}

impl Work {
    pub(crate) fn views(
        self,
        py: Python<'_>,
        streams: &Arc<Streams>,
    ) -> PyResult<(Views, Option<Py<PyAny>>)> {
        match self {
            Self::Fresh(invocation) => Ok((Views::new(py, streams, invocation)?, None)),
            Self::Begun(views, coroutine) => {
                Ok((*views, coroutine.map(|coroutine| coroutine.made)))
            }
        }
    }
}

impl Job {
    pub(crate) fn callable(&self) -> Option<&PythonCallable> {
        self.callables.get(self.index)
    }

    /// The context in which it has begun.
    pub(crate) fn scope(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.work {
            Work::Begun(_, Some(coroutine)) => Some(coroutine.scope.clone_ref(py)),
            _ => None,
        }
    }

    /// True if a task has to run it.
    pub(crate) fn awaits(&self) -> bool {
        matches!(self.work, Work::Begun(_, Some(_)))
            || self
                .callable()
                .is_some_and(|callable| callable.caller.awaits)
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.awaits() {
            Kind::Loop
        } else if self.callable().is_some_and(|callable| callable.serial) {
            Kind::Serial
        } else {
            Kind::Plain
        }
    }

    /// Time since the call was made.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        (now + self.timeout).saturating_duration_since(self.deadline.first())
    }
}
