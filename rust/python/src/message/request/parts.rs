//! The value behind a view on a request, and the view as Rust uses it.

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::cache::hooked::Reads;
use edgerouter_functions::{ClientPlace, Conversions, Notes, RequestHead, pipe::PieceReader};
use edgerouter_telemetry::trace::SpanParent;
use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyBytes};

use super::Request;
use crate::{errors, runner::PieceSource};

pub(crate) fn over() -> PyErr {
    PyRuntimeError::new_err("the request is over: read the values before the function returns")
}

#[derive(Debug)]
pub(crate) struct RequestParts {
    pub(crate) head: Box<RequestHead>,
    pub(crate) body: Bytes,
    /// The rest of a body that was not handed over at once, until it is read.
    pub(crate) rest: Option<BodyRest>,
    /// The body has been iterated over. How much of it is here before the call depends on the network, and what a
    /// function may do does not.
    pub(super) iterated: bool,
    /// The client's bytes after an upgrade, until they are taken.
    pub(crate) tunnel: Option<PieceReader>,
}

/// The parts of a request that the context of a call keeps.
#[derive(Debug, Default)]
pub(crate) struct RequestFacts {
    pub(crate) id: u64,
    /// Records the parts that a hook reads.
    pub(crate) notes: Option<Arc<Notes>>,
    /// The span of the call that it was given to.
    pub(crate) trace: Option<SpanParent>,
    /// The place of its client; `None` without geo.
    pub(crate) place: Option<Arc<ClientPlace>>,
    /// Counts conversions of its visitor; `None` without an experiment.
    pub(crate) conversions: Option<Arc<dyn Conversions>>,
}

/// The rest of a request's body.
#[derive(Debug)]
pub(crate) enum BodyRest {
    Unread(PieceReader),
    /// In a worker process: its edge has it, and an object of Python's makes the iterators over it.
    AtTheEdge(Py<PyAny>),
    Read,
}

impl RequestParts {
    /// Notes what the callable reads or writes, where what is stored depends on it.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Reads)) {
        if let Some(notes) = &self.head.notes {
            note(&mut notes.lock());
        }
    }
}

impl Request {
    pub(crate) fn new(head: Box<RequestHead>, body: Bytes, rest: Option<PieceReader>) -> Self {
        Self::with_tunnel(head, body, rest, None)
    }

    /// With the client's bytes after an upgrade.
    pub(crate) fn with_tunnel(
        head: Box<RequestHead>,
        body: Bytes,
        rest: Option<PieceReader>,
        tunnel: Option<PieceReader>,
    ) -> Self {
        let rest = rest.map(BodyRest::Unread);
        Self {
            parts: Mutex::new(Some(RequestParts {
                head,
                body,
                rest,
                iterated: false,
                tunnel,
            })),
        }
    }

    /// With a body that is read from `source`, in a worker process.
    pub(crate) fn with_source(self, source: Option<Py<PyAny>>) -> Self {
        if let Some(parts) = self.parts.lock().as_mut() {
            parts.rest = source.map(BodyRest::AtTheEdge);
        }
        self
    }

    /// The whole body; past what is handed over at once `Abort` with 413.
    pub(crate) fn whole(&self, py: Python<'_>) -> PyResult<Bytes> {
        let whole = self.edit(|parts| parts.rest.is_none().then(|| parts.body.clone()))?;
        whole.ok_or_else(|| errors::too_large(py))
    }

    /// Takes the value back; the view is dead after.
    pub(crate) fn take(&self) -> Option<Box<RequestHead>> {
        self.parts.lock().take().map(|parts| parts.head)
    }

    pub(crate) fn edit<R>(&self, edit: impl FnOnce(&mut RequestParts) -> R) -> PyResult<R> {
        self.parts.lock().as_mut().map(edit).ok_or_else(over)
    }

    /// Its id; 0 when it is over.
    pub(crate) fn number(&self) -> u64 {
        self.edit(|parts| parts.head.id).unwrap_or(0)
    }

    /// All that a context of its call has of it. Of one that is over: nothing.
    pub(crate) fn facts(&self) -> RequestFacts {
        let facts = self.edit(|RequestParts { head, .. }| RequestFacts {
            id: head.id,
            notes: head.notes.clone(),
            trace: head.trace.clone(),
            place: head.place.clone(),
            conversions: head.conversions.clone(),
        });
        facts.unwrap_or_default()
    }

    /// The verified claims, which the callable reads from here on, and where it notes which of them.
    pub(super) fn verified(&self) -> PyResult<(Option<Arc<str>>, Option<Arc<Notes>>)> {
        self.edit(|parts| {
            parts.note(|reads| reads.token = true);
            (parts.head.claims.clone(), parts.head.notes.clone())
        })
    }

    /// Method and path, for the log.
    pub(crate) fn what(&self) -> String {
        self.edit(|parts| format!("{} {}", parts.head.method, parts.head.path))
            .unwrap_or_else(|_| "a request that is over".to_owned())
    }

    /// The iterator over the pieces of the body that a function of `edgerouter.functions.streams` makes.
    pub(super) fn pieces<'py>(
        &self,
        py: Python<'py>,
        made_by: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (first, rest) = self.edit(|parts| {
            if std::mem::replace(&mut parts.iterated, true) {
                return Err(PyRuntimeError::new_err(
                    "the body has been read: it can be iterated over once",
                ));
            }
            let rest = parts.rest.as_mut();
            let rest = rest.map(|rest| std::mem::replace(rest, BodyRest::Read));
            Ok((parts.body.clone(), rest))
        })??;
        let first = PyBytes::new(py, &first);
        let rest = match rest {
            Some(BodyRest::AtTheEdge(source)) => {
                return source.bind(py).call_method0(made_by);
            }
            Some(BodyRest::Unread(reader)) => Some(PieceSource::new(reader)),
            Some(BodyRest::Read) | None => None,
        };
        py.import("edgerouter.functions.streams")?
            .call_method1(made_by, (first, rest))
    }
}
