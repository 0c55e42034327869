//! One call on a Python thread: from the engine's values to the callable's arguments, and from its result or
//! exception to an output.

use std::sync::{Arc, OnceLock, Weak, atomic::Ordering};

use bytes::Bytes;
use edgerouter_core::{finish, http::header, transform::Untransformed};
use edgerouter_functions::{
    Answer, FunctionCaches, FunctionError, FunctionOutput, Invocation, Phase, RequestHead,
    ResponseHead, StreamedAnswer, Transform, pipe::pipe,
};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple},
};

use super::{
    Deadline, PythonCallable,
    framing::KeptFraming,
    scope,
    streams::{self, PieceSource, Streams, Waits},
    thread_end,
};
use crate::{
    context::CallContext,
    fetch::FetchFrom,
    json,
    message::{
        request::Request,
        response::{self, Response, ResponseParts},
        spelling,
    },
};

pub(crate) type Settled = Result<FunctionOutput, FunctionError>;

/// A result that gives no output.
pub(crate) enum Misfit {
    /// It has no meaning in its phase; names it.
    Kind(String),
    /// It has one that is refused now.
    Refused(FunctionError),
}

impl From<String> for Misfit {
    fn from(kind: String) -> Self {
        Self::Kind(kind)
    }
}

/// The arguments of a callable.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) request: Py<Request>,
    response: Option<Py<Response>>,
    /// Of the message that continues after a hook: the response where there is one, the request otherwise.
    framing: Mutex<Option<Box<KeptFraming>>>,
    caches: Weak<dyn FunctionCaches>,
    streams: Arc<Streams>,
    /// Of the call; a transform has as much between two pieces of its source.
    timeout: f64,
    /// Of a function.
    from: Option<Arc<FetchFrom>>,
    /// Names what a stream logs.
    call: OnceLock<Py<CallContext>>,
    /// A 304 may answer: the request has a condition that leads to one, or the response that a hook sees is one.
    may_be_unmodified: bool,
}

impl Views {
    pub(crate) fn new(
        py: Python<'_>,
        streams: &Arc<Streams>,
        invocation: Invocation,
    ) -> PyResult<Self> {
        let framing = match &invocation.response {
            Some(response) => Some(Box::new(KeptFraming::of(&response.headers))),
            None if invocation.phase == Phase::Function => None,
            None => Some(Box::new(KeptFraming::of(&invocation.request.headers))),
        };
        let may_be_unmodified = match &invocation.response {
            Some(response) if response.status == StatusCode::NOT_MODIFIED => true,
            _ => may_be_unmodified(&invocation.request),
        };
        let from = (invocation.phase == Phase::Function)
            .then(|| Arc::new(FetchFrom::new(&invocation.request, invocation.fetcher)));
        let request = Request::with_tunnel(
            invocation.request,
            invocation.body,
            invocation.rest,
            invocation.tunnel,
        );
        let request = Py::new(py, request)?;
        let response = invocation
            .response
            .map(|head| Py::new(py, Response::seen(head, invocation.transforms)))
            .transpose()?;
        Ok(Self {
            request,
            response,
            framing: Mutex::new(framing),
            caches: invocation.caches,
            streams: Arc::clone(streams),
            timeout: invocation.timeout.as_secs_f64(),
            from,
            call: OnceLock::new(),
            may_be_unmodified,
        })
    }

    pub(crate) fn context<'py>(
        &self,
        py: Python<'py>,
        callable: &PythonCallable,
        phase: Phase,
        deadline: &Deadline,
    ) -> PyResult<Bound<'py, CallContext>> {
        let request = self.request.get().facts();
        let context = CallContext::of(
            py,
            (
                Arc::clone(&callable.caller),
                callable.inline.load(Ordering::Relaxed),
            ),
            phase,
            deadline.clone(),
            request,
            self.caches.clone(),
            self.from.clone(),
        )?;
        if phase == Phase::Function || self.response.is_some() {
            let _ = self.call.set(context.clone().unbind());
        }
        Ok(context)
    }

    /// Calls the callable in this thread's context.
    pub(crate) fn call<'py>(
        &self,
        callable: &PythonCallable,
        context: &Bound<'py, CallContext>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = callable.function.bind(context.py());
        match &self.response {
            Some(response) => thread_end::call(function, (&self.request, response, context)),
            None => thread_end::call(function, (&self.request, context)),
        }
    }

    /// Calls the callable in a copy of a context.
    pub(crate) fn call_in<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        callable: &PythonCallable,
        context: &Bound<'py, CallContext>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run = scope::run(context.py())?;
        let function = &callable.function;
        match &self.response {
            Some(response) => {
                thread_end::call(run, (scope, function, &self.request, response, context))
            }
            None => thread_end::call(run, (scope, function, &self.request, context)),
        }
    }

    /// The context of a function.
    pub(crate) fn function_context(&self) -> Option<&CallContext> {
        self.from.as_ref()?;
        self.call.get().map(|call| call.get())
    }

    /// The request's id as `request.id` gives it; `None` when the request is over.
    pub(crate) fn request_id(&self) -> Option<String> {
        let number = self.request.get().number();
        (number != 0).then(|| spelling::id(number))
    }

    /// Ends them, unless an iterator that answers still reads them.
    pub(crate) fn end_after(&self, settled: &Settled) {
        if !matches!(settled, Ok(FunctionOutput::Stream(_))) {
            self.end();
        }
    }

    /// Ends them: nothing can be read through them any more.
    pub(crate) fn end(&self) {
        drop(self.request.get().take());
        if let Some(response) = &self.response {
            drop(response.get().take());
        }
    }

    /// The request continues with the heads as they are now.
    fn go_on(&self, py: Python<'_>) -> Result<FunctionOutput, Misfit> {
        let gone = || "a request that is over".to_owned();
        let mut request = self.request.get().take().ok_or_else(gone)?;
        let framing = self.framing.lock().take();
        let Some(response) = &self.response else {
            if let Some(framing) = framing {
                framing.restore(&mut request.headers);
            }
            return Ok(FunctionOutput::Continue {
                request,
                response: None,
                transform: None,
            });
        };
        let mut parts = response.get().take().ok_or_else(gone)?;
        if let Some(framing) = framing {
            framing.restore(&mut parts.headers);
        }
        Ok(match parts.body {
            None => {
                let transform = self.transform(py, &mut parts)?;
                FunctionOutput::Continue {
                    request,
                    response: Some(ResponseHead {
                        status: parts.status,
                        headers: parts.headers,
                    }),
                    transform,
                }
            }
            Some(_) if !parts.transforms.is_empty() => {
                return Err("a body and a transform: use one of them".to_owned().into());
            }
            Some(body) => {
                let wrote = parts.wrote.take().unwrap_or_default();
                finish::replaced(&mut parts.status, &mut parts.headers, |name| {
                    wrote.cleared || wrote.written.contains(name)
                });
                FunctionOutput::Answer(Answer {
                    status: parts.status,
                    headers: parts.headers,
                    body,
                })
            }
        })
    }

    /// Begins the transforms that a callable wants of a response; the head then fits other content.
    fn transform(
        &self,
        py: Python<'_>,
        parts: &mut ResponseParts,
    ) -> Result<Option<Result<Transform, Untransformed>>, Misfit> {
        if parts.transforms.is_empty() {
            return Ok(None);
        }
        let may = match parts.transformable.unwrap_or(Ok(())) {
            // The callable may have set it.
            Ok(()) if !finish::may_have_content(parts.status) => Err(Untransformed::NoContent),
            may => may,
        };
        let transform = match may {
            Ok(()) => Ok(self.begin(py, std::mem::take(&mut parts.transforms))?),
            Err(why) => Err(why),
        };
        if matches!(transform, Ok(_) | Err(Untransformed::Head)) {
            let wrote = parts.wrote.take().unwrap_or_default();
            finish::replaced(&mut parts.status, &mut parts.headers, |name| {
                *name != header::CONTENT_LENGTH && (wrote.cleared || wrote.written.contains(name))
            });
        }
        Ok(Some(transform))
    }

    /// Has content pass through `functions` in turn.
    fn begin(&self, py: Python<'_>, functions: Vec<Arc<Py<PyAny>>>) -> Result<Transform, Misfit> {
        let (source, reader) = pipe();
        let begin = || {
            let functions: Vec<_> = (functions.iter()).map(|one| one.bind(py)).collect();
            let arguments = (PieceSource::new(reader), functions, self.timeout);
            let pieces = response::transforms(py)?.call_method1("transformed", arguments)?;
            streams::begin(&self.streams, &pieces, self.call.get(), None)
        };
        match begin() {
            Ok(Ok(pieces)) => Ok(Transform { source, pieces }),
            Ok(Err(refused)) => Err(Misfit::Refused(refused)),
            Err(error) => Err(format!("a transform that could not begin ({error})").into()),
        }
    }

    /// The output that the callable's result stands for.
    pub(crate) fn output(
        &self,
        phase: Phase,
        result: &Bound<'_, PyAny>,
    ) -> Result<FunctionOutput, Misfit> {
        let output = self.meaning(phase, result)?;
        let status = match &output {
            FunctionOutput::Answer(answer) => Some(answer.status),
            FunctionOutput::Stream(answer) => Some(answer.status),
            FunctionOutput::Continue { response, .. } => response.as_ref().map(|head| head.status),
        };
        // A client that has nothing stored can do nothing with it (RFC 9110 §15.4.5).
        if status == Some(StatusCode::NOT_MODIFIED) && !self.may_be_unmodified {
            let kind = "a 304 to a request without If-None-Match or If-Modified-Since";
            return Err(kind.to_owned().into());
        }
        Ok(output)
    }

    fn meaning(&self, phase: Phase, result: &Bound<'_, PyAny>) -> Result<FunctionOutput, Misfit> {
        let hook = phase != Phase::Function;
        if let Ok(response) = result.cast::<Response>() {
            if self.response.as_ref().is_some_and(|seen| response.is(seen)) {
                return self.go_on(result.py());
            }
            let parts = if is_only_one(result) {
                response.get().take()
            } else {
                response.get().copy()
            };
            let parts = parts.ok_or_else(|| "the response of another request".to_owned())?;
            return self.answer(result.py(), phase, parts);
        }
        if hook && (result.is_none() || result.is(&self.request)) {
            return self.go_on(result.py());
        }
        if result.is_instance_of::<Request>() {
            return Err("a Request that it was not given".to_owned().into());
        }
        let named = || named(result).unwrap_or_else(|_| "something".to_owned());
        if hook {
            return Err(named().into());
        }
        if let Ok(pair) = result.cast::<PyTuple>()
            && let Some((value, status)) = with_status(pair)
        {
            // `return None, 204`: a status that says it all.
            if value.is_none() {
                let parts = ResponseParts::new(status, Bytes::new(), None);
                return self.answer(result.py(), phase, parts);
            }
            return Ok(match self.meaning(phase, &value)? {
                FunctionOutput::Answer(answer) => {
                    let answer = Answer { status, ..answer };
                    FunctionOutput::Answer(with_content(answer)?)
                }
                FunctionOutput::Stream(answer) => {
                    FunctionOutput::Stream(StreamedAnswer { status, ..answer })
                }
                other @ FunctionOutput::Continue { .. } => other,
            });
        }
        if result.is_instance_of::<PyTuple>() {
            let kind = "a tuple that is no pair of a value and a status from 200 to 599";
            return Err(kind.to_owned().into());
        }
        let (body, kind) = if let Ok(text) = result.cast::<PyString>() {
            let text = text
                .to_str()
                .map_err(|_| "a str with lone surrogates".to_owned())?;
            (Bytes::copy_from_slice(text.as_bytes()), response::TEXT)
        } else if let Ok(body) = result.cast::<PyBytes>() {
            (Bytes::copy_from_slice(body.as_bytes()), response::BYTES)
        } else if result.is_instance_of::<PyDict>()
            || result.is_instance_of::<PyList>()
            || json::is_data(result)
        {
            let body = json::encode(result)
                .map_err(|error| format!("a {} that JSON cannot hold ({error})", named()))?;
            (body, response::JSON)
        } else if response::gives_pieces(result).unwrap_or(false) {
            let parts = ResponseParts::streamed(StatusCode::OK, result, None);
            return self.answer(result.py(), phase, parts);
        } else {
            return Err(named().into());
        };
        let parts = ResponseParts::new(StatusCode::OK, body, Some(kind));
        self.answer(result.py(), phase, parts)
    }
}

impl Views {
    /// The answer of a response that a callable made.
    fn answer(
        &self,
        py: Python<'_>,
        phase: Phase,
        parts: ResponseParts,
    ) -> Result<FunctionOutput, Misfit> {
        let Some(stream) = &parts.stream else {
            return Ok(FunctionOutput::Answer(with_content(Answer {
                status: parts.status,
                headers: parts.headers,
                body: parts.body.unwrap_or_default(),
            })?));
        };
        if phase != Phase::Function {
            let kind = "a response that is streamed, which functions send and hooks do not";
            return Err(kind.to_owned().into());
        }
        let iterator = stream.take();
        let iterator =
            iterator.ok_or_else(|| "a response whose iterator was sent before".to_owned())?;
        let waits = (!stream.at_once).then(|| Waits::of(self.request.clone_ref(py)));
        let beginning = waits.as_ref().map(Waits::beginning);
        let begun = streams::begin(&self.streams, iterator.bind(py), self.call.get(), waits);
        match begun {
            Ok(Ok(pieces)) => Ok(FunctionOutput::Stream(StreamedAnswer {
                status: parts.status,
                headers: parts.headers,
                pieces,
                beginning,
            })),
            Ok(Err(refused)) => Err(Misfit::Refused(refused)),
            Err(error) => Err(format!("an iterator that could not be sent ({error})").into()),
        }
    }
}

/// The name of an object's class; that of a response of another framework has its module, as ours is expected.
fn named(result: &Bound<'_, PyAny>) -> PyResult<String> {
    let class = result.get_type();
    let name = class.name()?;
    let whole = if name.to_cow()?.ends_with("Response") {
        class.fully_qualified_name()?
    } else {
        name
    };
    Ok(whole.to_string())
}

/// True if the object has no other owner, so that its parts can be taken. (The count is deprecated for other uses.)
#[expect(deprecated)]
fn is_only_one(result: &Bound<'_, PyAny>) -> bool {
    result.get_refcnt() == 1
}

/// The answer, unless it has content that its status would drop.
fn with_content(answer: Answer) -> Result<Answer, Misfit> {
    if answer.body.is_empty() || finish::may_have_content(answer.status) {
        return Ok(answer);
    }
    let status = answer.status.as_u16();
    Err(
        format!("a {status} with content, which that status has not (None, {status} has none)")
            .into(),
    )
}

/// The two parts of a pair whose second is a final status.
fn with_status<'py>(pair: &Bound<'py, PyTuple>) -> Option<(Bound<'py, PyAny>, StatusCode)> {
    let (value, status): (Bound<'_, PyAny>, Bound<'_, PyInt>) = pair.extract().ok()?;
    let status = response::status_of(status.extract().ok()?).ok()?;
    Some((value, status))
}

/// True if the conditions of a request can be answered by a 304 (RFC 9110 §13.1.2, §13.1.3).
fn may_be_unmodified(request: &RequestHead) -> bool {
    matches!(request.method, Method::GET | Method::HEAD)
        && (request.headers.contains_key(header::IF_NONE_MATCH)
            || request.headers.contains_key(header::IF_MODIFIED_SINCE))
}
