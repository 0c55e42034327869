//! The spans of requests: recorded while a request is answered, kept or dropped together when that is over.
//!
//! `queue` holds the kept ones for the task that sends them, `otlp` writes them as OpenTelemetry's protocol has them.
//! Which requests are traced and kept is decided in `edgerouter_core::trace`. An attribute is a fact about the
//! exchange: no field of a request or response, no content and no secret is one.

mod otlp;
mod queue;
mod request;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use edgerouter_core::trace::TraceContext;
use parking_lot::Mutex;

pub use otlp::{encoded, rejected};
pub use queue::{BATCH, FinishedTrace, SpanEnd, TraceQueue};
pub use request::{Beginning, RequestTrace};

/// Spans of one trace. More are counted in the first.
const MOST: usize = 128;

/// The work that a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The whole request of a client.
    Request,
    /// A request of a function.
    Fetch,
    /// The look-up in the cache.
    Cache,
    /// One attempt at an origin.
    Origin,
    /// A call of a hook.
    Hook,
    /// A call of a function.
    Function,
    /// An operation on a binding.
    Binding,
}

impl Work {
    /// Its name in `Server-Timing`.
    fn word(self) -> &'static str {
        match self {
            Self::Request => "edge",
            Self::Fetch => "fetch",
            Self::Cache => "lookup",
            Self::Origin => "origin",
            Self::Hook => "hook",
            Self::Function => "function",
            Self::Binding => "binding",
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self::Text(Cow::Borrowed(word))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Names and values of attributes.
pub type Attributes = Vec<(&'static str, Value)>;

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Span {
    id: u64,
    /// `None`: of the first span of a trace that the edge began.
    parent: Option<u64>,
    /// The parent is a span of another process.
    is_continued: bool,
    work: Work,
    name: Cow<'static, str>,
    begun: u64,
    ended: u64,
    attributes: Attributes,
    /// The kind of failure.
    error: Option<Cow<'static, str>>,
    link: Option<TraceContext>,
}

/// The trace that a request belongs to.
#[derive(Debug)]
pub(crate) struct Trace {
    id: u128,
    sampled: bool,
    /// False if nothing of it will be kept: then it only has ids.
    records: bool,
    state: Option<Box<str>>,
    /// An instant, and the same in nanoseconds since the Unix epoch.
    at: (Instant, u64),
    seed: u64,
    drawn: AtomicU64,
    spans: Mutex<Spans>,
    queue: Arc<TraceQueue>,
}

#[derive(Debug, Default)]
struct Spans {
    ended: Vec<Span>,
    left_out: u64,
    /// Known at the end of the request; spans that end later follow it.
    kept: Option<bool>,
}

impl Trace {
    fn next_id(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        mixed(
            self.seed
                .wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        )
        .max(1)
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
        };
        let (known, nanos) = self.at;
        nanos
            .saturating_add(since(known, at))
            .saturating_sub(since(at, known))
    }

    fn add(&self, span: Span) {
        let mut spans = self.spans.lock();
        match spans.kept {
            None if spans.ended.len() < MOST => spans.ended.push(span),
            None => spans.left_out += 1,
            Some(true) => {
                drop(spans);
                self.queue.put(self.finished(vec![span], 0));
            }
            Some(false) => {}
        }
    }

    fn finished(&self, spans: Vec<Span>, left_out: u64) -> FinishedTrace {
        FinishedTrace {
            id: self.id,
            state: self.state.clone(),
            spans,
            left_out,
        }
    }
}

/// SplitMix64's output function: different numbers stay different.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// A span that others are part of.
#[derive(Debug, Clone)]
pub struct SpanParent {
    trace: Arc<Trace>,
    span: u64,
}

impl SpanParent {
    /// Begins a span, now.
    pub fn begin(&self, work: Work, name: impl Into<Cow<'static, str>>) -> OpenSpan {
        self.begin_at(work, name, Instant::now())
    }

    /// Begins a span at an instant that is known already.
    pub fn begin_at(
        &self,
        work: Work,
        name: impl Into<Cow<'static, str>>,
        at: Instant,
    ) -> OpenSpan {
        let span = self.trace.next_id();
        let own = Self {
            trace: Arc::clone(&self.trace),
            span,
        };
        OpenSpan {
            own,
            ended: false,
            span: Span {
                id: span,
                parent: Some(self.span),
                is_continued: false,
                work,
                name: name.into(),
                begun: self.trace.nanos(at),
                ended: 0,
                attributes: Attributes::new(),
                error: None,
                link: None,
            },
        }
    }

    /// The place of a request that this span makes.
    pub fn context(&self) -> TraceContext {
        TraceContext {
            trace: self.trace.id,
            span: self.span,
            sampled: self.trace.sampled,
        }
    }

    /// `tracestate` of the sender that is continued.
    pub fn state(&self) -> Option<&str> {
        self.trace.state.as_deref()
    }

    /// True if spans are recorded; they are dropped later unless the trace is kept.
    pub fn records(&self) -> bool {
        self.trace.records
    }
}

/// A span that has begun. Dropped before its end, the work was cancelled.
#[derive(Debug)]
pub struct OpenSpan {
    own: SpanParent,
    span: Span,
    ended: bool,
}

impl OpenSpan {
    /// The parent of spans within it.
    pub fn parent(&self) -> SpanParent {
        self.own.clone()
    }

    /// The place of a request that it makes.
    pub fn context(&self) -> TraceContext {
        self.own.context()
    }

    /// Adds an attribute.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        if self.own.trace.records {
            self.span.attributes.push((name, value.into()));
        }
    }

    /// Ends it, with the kind of failure if it failed.
    pub fn end(mut self, error: Option<Cow<'static, str>>) {
        self.finish(error);
    }

    fn finish(&mut self, error: Option<Cow<'static, str>>) {
        self.ended = true;
        if !self.own.trace.records {
            return;
        }
        let span = Span {
            id: self.span.id,
            parent: self.span.parent,
            is_continued: false,
            work: self.span.work,
            name: std::mem::take(&mut self.span.name),
            begun: self.span.begun,
            ended: self.own.trace.nanos(Instant::now()),
            attributes: std::mem::take(&mut self.span.attributes),
            error,
            link: None,
        };
        self.own.trace.add(span);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(Some(Cow::Borrowed("cancelled")));
        }
    }
}
