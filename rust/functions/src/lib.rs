//! The border to functions and hooks: the values that the engine hands over, and those that it takes back.
//!
//! The engine knows no Python. The crate that runs the callables implements [`Functions`] and ends a call that is not
//! answered in time, on the worker that awaits it, so a callable that never answers costs its own request only.

mod beginning;
pub mod fetch;
mod params;
pub mod pipe;
mod place;
pub mod processes;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
pub use edgerouter_core::outcome::{CallResult, Phase};
use edgerouter_core::{
    cache::{
        api::{CacheUrl, NameError, PutRefused},
        storable::NotStored,
    },
    http::Fields,
    plan::{CallableId, Scheme},
    tls::ClientCertificate,
    transform::Untransformed,
};
use http::{Method, StatusCode, Version};

use edgerouter_telemetry::{text, trace::SpanParent};
use fetch::{FetchChain, Fetcher};
use pipe::{PieceReader, PieceWriter};

pub use beginning::Beginning;
pub use params::PathParams;
pub use place::ClientPlace;

/// The place where the views on a request note what a hook reads and writes of it.
pub type Notes = parking_lot::Mutex<edgerouter_core::cache::hooked::Reads>;

/// Counts conversions of the visitor of a request.
pub trait Conversions: Send + Sync + fmt::Debug {
    /// Never blocks; false: it could not be queued, and is lost.
    fn convert(&self, goal: &str, value: f64) -> bool;
}

/// The request as a callable sees it. `method`, `path`, `query` and `headers` may be edited by the two request phases.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Case-sensitive (RFC 9110 §9.1).
    pub method: Method,
    /// Of the client's connection.
    pub version: Version,
    /// Of the viewer's request.
    pub scheme: Scheme,
    /// In canonical spelling, without the port.
    pub host: Arc<str>,
    /// `None`: the default port of the scheme.
    pub port: Option<u16>,
    /// Normalised path, percent-encoded, starts with `/`.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// A name may occur more than once.
    pub headers: Fields,
    /// The viewer's address, from a trusted proxy if there is one.
    pub client: IpAddr,
    /// Parameters of the route's pattern.
    pub params: PathParams,
    /// Verified claims as JSON text.
    pub claims: Option<Arc<str>>,
    /// The verified certificate of the client of the connection.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The place of the client; `None`: the plan looks no places up.
    pub place: Option<Arc<ClientPlace>>,
    /// Experiment name and variant.
    pub variants: Vec<AssignedVariant>,
    /// Request id, in the log and in error answers.
    pub id: u64,
    /// The span of the call, or of the request before there is a call; `None`: it is not traced.
    pub trace: Option<SpanParent>,
    /// The requests around this one, if a callable made it.
    pub chain: FetchChain,
    /// Counts conversions of its visitor; `None`: the plan has no experiment.
    pub conversions: Option<Arc<dyn Conversions>>,
    /// `None` where nothing that is stored depends on it.
    pub notes: Option<Arc<Notes>>,
}

/// The content of a request for a function.
#[derive(Debug, Default)]
pub struct RequestContent {
    /// As far as it is handed over at once.
    pub body: Bytes,
    /// The rest.
    pub rest: Option<PieceReader>,
    /// The client's bytes after an upgrade to WebSocket.
    pub tunnel: Option<PieceReader>,
}

/// The variant of an experiment that a visitor has.
#[derive(Debug, Clone)]
pub struct AssignedVariant {
    /// The experiment's name.
    pub experiment: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// Data of the variant, as JSON text.
    pub payload: Option<Arc<str>>,
}

/// The response head as the two response phases see and edit it.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// A final status, never 1xx.
    pub status: StatusCode,
    /// A name may occur more than once.
    pub headers: Fields,
}

/// One call.
#[derive(Debug)]
pub struct Invocation {
    /// The callable, by its number in the plan.
    pub call: CallableId,
    /// The time of the call.
    pub since: Instant,
    /// Decides which parts of the request and the response may be edited.
    pub phase: Phase,
    /// A copy: edits count only if the output brings them back. On the heap, as calls and outputs change hands often.
    pub request: Box<RequestHead>,
    /// The request body for functions, as far as `limits.functions.body_bytes` reaches; empty for hooks.
    pub body: Bytes,
    /// The rest of a larger body.
    pub rest: Option<PieceReader>,
    /// The client's bytes after an upgrade to WebSocket, which the callable may answer with a stream of status 101.
    pub tunnel: Option<PieceReader>,
    /// Present in the response phases.
    pub response: Option<ResponseHead>,
    /// For a hook that is declared to transform content: whether this content may be transformed.
    pub transforms: Option<Result<(), Untransformed>>,
    /// The call ends with [`FunctionError::TimedOut`] after this long; the runner should interrupt the callable then.
    pub timeout: Duration,
    /// Makes requests for the callable.
    pub fetcher: Arc<dyn Fetcher>,
    /// Does not keep the store alive: a function may keep its caches for as long as it likes.
    pub caches: Weak<dyn FunctionCaches>,
}

/// A complete answer by a callable.
#[derive(Debug, Clone)]
pub struct Answer {
    /// A final status, never 1xx.
    pub status: StatusCode,
    /// The fields, before the edge adds those that frame the message.
    pub headers: Fields,
    /// The whole content.
    pub body: Bytes,
}

/// An answer whose content a callable makes while it is sent.
#[derive(Debug)]
pub struct StreamedAnswer {
    /// A final status, or 101 where the request wants an upgrade.
    pub status: StatusCode,
    /// The fields, before the edge adds those that frame the message.
    pub headers: Fields,
    /// The content. Dropping it ends the callable's work.
    pub pieces: PieceReader,
    /// The head waits for the first piece; `None`: it is sent at once.
    pub beginning: Option<Arc<Beginning>>,
}

/// A transform of the content of a response that passes a hook.
#[derive(Debug)]
pub struct Transform {
    /// Takes the content as it comes.
    pub source: PieceWriter,
    /// Gives the content that is sent in its place. Dropping it ends the callable's work.
    pub pieces: PieceReader,
}

/// The output of a callable.
#[derive(Debug)]
pub enum FunctionOutput {
    /// Go on with the heads as they are now (edited or not).
    Continue {
        /// Edits count in the two request phases only.
        request: Box<RequestHead>,
        /// Present in the response phases.
        response: Option<ResponseHead>,
        /// The transform of its content, if the callable wants one, or why it has none.
        transform: Option<Result<Transform, Untransformed>>,
    },
    /// Answer now.
    Answer(Answer),
    /// Answer now with a head whose content follows; functions only.
    Stream(StreamedAnswer),
}

/// Why a call gave no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// The number of calls that may wait.
    #[error("the queue of calls is full: {0} wait (limits.functions.queue)")]
    QueueFull(usize),
    /// A call that another one waits for begins at once or not at all: it must not wait for that one's place.
    #[error("a call that another one waits for has no free place: {most} run already ({bound})")]
    NoPlace {
        /// The number of places.
        most: usize,
        /// The setting that bounds them.
        bound: &'static str,
    },
    /// The number of responses that may be streamed at a time.
    #[error("as many responses are streamed as limits.functions.streams allows ({0})")]
    TooManyStreams(usize),
    /// The callable's timeout.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The processor time of a call in a process of its own.
    #[error("used more than {0:?} of processor time (Isolation.cpu_seconds)")]
    UsedUp(Duration),
    /// `id` is in the answer and in the log line that holds the traceback.
    #[error("raised {kind}: {message} (error id {id})")]
    Raised {
        /// The error's id.
        id: String,
        /// Name of the exception's class.
        kind: String,
        /// The exception's text.
        message: String,
        /// The traceback, where developers are shown it.
        trace: Option<Arc<str>>,
    },
    /// The value is no answer in this phase.
    #[error("returned {got}, expected {expected} (error id {id})")]
    WrongType {
        /// The error's id, as in `Raised`.
        id: String,
        /// The value's type.
        got: String,
        /// The types that this phase accepts.
        expected: String,
        /// The traceback, where developers are shown it.
        trace: Option<Arc<str>>,
    },
    /// Also while the engine is shutting down.
    #[error("the function runtime has stopped")]
    Gone,
}

impl From<&FunctionError> for CallResult {
    fn from(error: &FunctionError) -> Self {
        match error {
            FunctionError::QueueFull(_)
            | FunctionError::NoPlace { .. }
            | FunctionError::TooManyStreams(_) => Self::QueueFull,
            FunctionError::TimedOut(_) | FunctionError::UsedUp(_) => Self::TimedOut,
            FunctionError::Raised { .. } => Self::Raised,
            FunctionError::WrongType { .. } => Self::WrongType,
            FunctionError::Gone => Self::Gone,
        }
    }
}

/// Why an operation on a cache was refused. The text names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The response cannot be stored.
    #[error(transparent)]
    Refused(#[from] PutRefused),
    /// The name of the cache is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The limit.
    #[error(
        "there are {0} named caches already, which is as many as limits.functions.named_caches allows; use fewer names, or put what differs into the URL"
    )]
    TooManyNames(usize),
    /// A callable may keep a cache for longer than the engine lives.
    #[error("the edge has stopped, and its caches with it")]
    Stopped,
}

/// The caches that callables use themselves: the default one and those with a name.
pub trait FunctionCaches: Send + Sync + fmt::Debug {
    /// The name, if it is valid and among those that are allowed.
    fn open(&self, name: &str) -> Result<Arc<str>, CacheError>;

    /// The stored response for a request, if there is one and it is fresh; conditions and ranges are answered from it.
    fn find(&self, cache: &str, place: &CacheUrl, request: &Fields) -> Option<Answer>;

    /// Counts a request that can have nothing stored: its method is not GET.
    fn miss(&self);

    /// Stores a response; `Ok(Err(…))` says why the response itself kept it from being stored.
    fn put(
        &self,
        cache: &str,
        place: &CacheUrl,
        method: &Method,
        request: &Fields,
        response: Answer,
    ) -> Result<Result<(), NotStored>, CacheError>;

    /// Removes a URL with all of its variants; whether there was something.
    fn delete(&self, cache: &str, place: &CacheUrl) -> bool;
}

/// The output of a call, or its failure.
pub type CallOutput = Result<FunctionOutput, FunctionError>;

/// A call that was started.
pub enum StartedCall {
    /// It has ended already.
    Ended(CallOutput),
    /// It goes on; the future lives on the worker that called.
    GoesOn(Pin<Box<dyn Future<Output = CallStep>>>),
}

/// A step of a call that goes on.
#[derive(Debug)]
pub enum CallStep {
    /// It has ended.
    Ended(CallOutput),
    /// It goes on, and its client is to have these fields in a 103 (RFC 8297).
    Hints(Fields, StartedCall),
}

impl fmt::Debug for StartedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(output) => f.debug_tuple("Ended").field(output).finish(),
            Self::GoesOn(_) => f.write_str("GoesOn"),
        }
    }
}

impl StartedCall {
    /// Waits for the end of the call; `hints` takes the fields of early hints.
    pub async fn output(self, hints: impl Fn(&Fields)) -> CallOutput {
        let mut going = match self {
            Self::Ended(output) => return output,
            Self::GoesOn(going) => going,
        };
        loop {
            match going.await {
                CallStep::Ended(output) => return output,
                CallStep::Hints(fields, rest) => {
                    hints(&fields);
                    match rest {
                        Self::Ended(output) => return output,
                        Self::GoesOn(rest) => going = rest,
                    }
                }
            }
        }
    }
}

/// Runs callables. Shared by all workers.
pub trait Functions: Send + Sync + fmt::Debug {
    /// Starts a call. Never blocks: a full queue is an error at once.
    fn invoke(&self, invocation: Invocation) -> StartedCall;

    /// True if a function reads the content of its request where it cannot wait for it, so that its call begins when
    /// the content is there.
    fn waits_for_content(&self, call: CallableId) -> bool;

    /// Calls waiting or running now, and callables abandoned because they could not be interrupted.
    fn load(&self) -> FunctionsLoad;
}

/// How busy the runner is, for `/metrics` and `/readyz`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionsLoad {
    /// Calls in the queue.
    pub waiting: usize,
    /// Calls in a callable now.
    pub running: usize,
    /// Callables that run past their timeout and cannot be interrupted.
    pub abandoned: usize,
    /// Responses that are streamed now.
    pub streams: usize,
    /// False when too many threads had to be abandoned: the process says so on `/readyz`.
    pub ready: bool,
    /// Tasks of `wait_until`.
    pub background: BackgroundLoad,
}

/// Tasks that go on after responses (`wait_until`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackgroundLoad {
    /// Tasks now.
    pub running: usize,
    /// Tasks that ended without an exception, since the start.
    pub finished: u64,
    /// Tasks that raised, since the start.
    pub failed: u64,
    /// Tasks that ended at their timeout, since the start.
    pub timed_out: u64,
    /// More than `limits.functions.background_tasks` at a time.
    pub refused: u64,
}

impl FunctionsLoad {
    /// The load as metrics.
    pub fn render(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "edgerouter_function_calls_waiting",
                "Calls that wait for Python.",
                self.waiting,
            ),
            (
                "edgerouter_function_calls_running",
                "Calls that Python is running.",
                self.running,
            ),
            (
                "edgerouter_function_threads_abandoned",
                "Python threads that could not be interrupted.",
                self.abandoned,
            ),
            (
                "edgerouter_function_streams_open",
                "Responses that functions stream now.",
                self.streams,
            ),
            (
                "edgerouter_background_tasks_running",
                "Tasks of wait_until in progress.",
                self.background.running,
            ),
        ] {
            text::one(out, name, help, value);
        }
        text::labelled(
            out,
            "edgerouter_background_tasks_total",
            "Tasks of wait_until, by result.",
            ["result"],
            [
                (["ok"], self.background.finished),
                (["failed"], self.background.failed),
                (["timed-out"], self.background.timed_out),
                (["refused"], self.background.refused),
            ],
        );
        processes::PROCESSES.render(out);
    }
}
