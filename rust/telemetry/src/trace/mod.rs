//! The spans of requests: recorded while a request is answered, kept or dropped together when that is over.
//!
//! `queue` holds the kept ones for the task that sends them, `otlp` writes them as OpenTelemetry's protocol has them.
//! Which requests are traced and kept is decided in `edgerouter_core::trace`. An attribute is a fact about the exchange:
//! no field of a request or response, no content and no secret is one.

mod otlp;
mod queue;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::trace::{Kept, TraceContext};
use parking_lot::Mutex;

pub use otlp::{encoded, rejected};
pub use queue::{BATCH, FinishedTrace, SpanEnd, TraceQueue};

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

/// The beginning of a trace.
#[derive(Debug)]
pub struct Beginning {
    /// The sender that is continued.
    pub believed: Option<TraceContext>,
    /// The sender that is not believed, which is linked.
    pub link: Option<TraceContext>,
    /// `tracestate` of the one that is continued.
    pub state: Option<Box<str>>,
    /// It was chosen to be kept.
    pub sampled: bool,
    /// It may be kept for its outcome, or is shown to the client.
    pub records: bool,
    /// Of a new trace's id, the lower half first, and of the ids of spans.
    pub random: [u64; 3],
    /// The beginning of the request, and the same in nanoseconds since the Unix epoch.
    pub at: (Instant, u64),
}

/// The place of one request in its trace.
#[derive(Debug)]
pub struct RequestTrace {
    own: SpanParent,
    outer: Option<u64>,
    link: Option<TraceContext>,
    begun: Instant,
    /// `None`: the request is part of another.
    beginning: Option<bool>,
}

impl RequestTrace {
    /// Of a client's request.
    pub fn begin(beginning: Beginning, queue: &Arc<TraceQueue>) -> Self {
        let Beginning {
            believed,
            link,
            state,
            sampled,
            records,
            random: [low, high, seed],
            at,
        } = beginning;
        let new = u128::from(high) << 64 | u128::from(low);
        let trace = Trace {
            id: believed.map_or(new.max(1), |context| context.trace),
            sampled,
            records: sampled || records,
            state,
            at,
            seed,
            drawn: AtomicU64::new(0),
            spans: Mutex::default(),
            queue: Arc::clone(queue),
        };
        let span = trace.next_id();
        Self {
            own: SpanParent {
                trace: Arc::new(trace),
                span,
            },
            outer: believed.map(|context| context.span),
            link,
            begun: at.0,
            beginning: Some(believed.is_some()),
        }
    }

    /// Of a request that a function makes.
    pub fn within(outer: &SpanParent, begun: Instant) -> Self {
        let own = SpanParent {
            trace: Arc::clone(&outer.trace),
            span: outer.trace.next_id(),
        };
        Self {
            own,
            outer: Some(outer.span),
            link: None,
            begun,
            beginning: None,
        }
    }

    /// The parent of spans within the request.
    pub fn parent(&self) -> &SpanParent {
        &self.own
    }

    /// The id of the trace.
    pub fn id(&self) -> u128 {
        self.own.trace.id
    }

    /// True of a request that is part of another.
    pub fn is_within(&self) -> bool {
        self.beginning.is_none()
    }

    /// It was chosen before its request was answered.
    pub fn sampled(&self) -> bool {
        self.own.trace.sampled
    }

    /// Time of each kind of work so far, summed, in the order of the first of each.
    pub fn timings(&self) -> Vec<(&'static str, Duration)> {
        let mut timings: Vec<(&'static str, Duration)> = Vec::new();
        for span in &self.own.trace.spans.lock().ended {
            let took = Duration::from_nanos(span.ended.saturating_sub(span.begun));
            let word = span.work.word();
            match timings.iter_mut().find(|(known, _)| *known == word) {
                Some((_, sum)) => *sum += took,
                None => timings.push((word, took)),
            }
        }
        timings
    }

    /// Ends the request. `kept`: why its trace is kept, which the first of its requests decides.
    pub fn end(
        self,
        name: String,
        mut attributes: Attributes,
        error: Option<Cow<'static, str>>,
        kept: Option<Kept>,
    ) {
        let trace = &self.own.trace;
        if let Some(kept) = kept.filter(|_| self.beginning.is_some()) {
            attributes.push(("edgerouter.trace.kept", kept.as_str().into()));
        }
        let span = Span {
            id: self.own.span,
            parent: self.outer,
            is_continued: self.beginning == Some(true),
            work: match self.beginning {
                Some(_) => Work::Request,
                None => Work::Fetch,
            },
            name: Cow::Owned(name),
            begun: trace.nanos(self.begun),
            ended: trace.nanos(Instant::now()),
            attributes,
            error,
            link: self.link,
        };
        if self.beginning.is_none() {
            if trace.records {
                trace.add(span);
            }
            return;
        }
        let mut spans = trace.spans.lock();
        spans.kept = Some(kept.is_some());
        let mut ended = std::mem::take(&mut spans.ended);
        let left_out = spans.left_out;
        drop(spans);
        if kept.is_some() {
            ended.push(span);
            trace.queue.put(trace.finished(ended, left_out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(queue: &Arc<TraceQueue>, sampled: bool) -> RequestTrace {
        let beginning = Beginning {
            believed: None,
            link: None,
            state: None,
            sampled,
            records: true,
            random: [1, 2, 3],
            at: (Instant::now(), 1_000_000),
        };
        RequestTrace::begin(beginning, queue)
    }

    fn end(trace: RequestTrace, kept: Option<Kept>) {
        trace.end("GET /".to_owned(), Attributes::new(), None, kept);
    }

    #[test]
    fn a_trace_is_kept_or_dropped_as_a_whole_and_later_spans_follow_it() {
        for (kept, want) in [(Some(Kept::Error), [2, 3]), (None, [0, 0])] {
            let queue = Arc::new(TraceQueue::new(|| {}));
            let trace = begun(&queue, false);
            let parent = trace.parent().clone();
            parent.begin(Work::Origin, "GET").end(None);
            end(trace, kept);
            assert_eq!(queue.waiting(), want[0]);
            parent.begin(Work::Binding, "kv get").end(None);
            assert_eq!(queue.waiting(), want[1]);
        }
    }

    #[test]
    fn a_trace_has_a_bounded_number_of_spans_and_says_how_many_it_lacks() {
        let queue = Arc::new(TraceQueue::new(|| {}));
        let trace = begun(&queue, true);
        for _ in 0..MOST + 7 {
            trace.parent().begin(Work::Binding, "kv get").end(None);
        }
        end(trace, Some(Kept::Sampled));
        let taken = queue.take(usize::MAX);
        let counts: Vec<_> = taken
            .iter()
            .map(|one| (one.spans.len(), one.left_out))
            .collect();
        assert_eq!(counts, [(MOST + 1, 7)]);
    }

    #[test]
    fn a_span_that_is_dropped_was_cancelled() {
        let queue = Arc::new(TraceQueue::new(|| {}));
        let trace = begun(&queue, true);
        drop(trace.parent().begin(Work::Origin, "GET"));
        end(trace, Some(Kept::Sampled));
        let taken = queue.take(usize::MAX);
        let errors: Vec<_> = taken
            .iter()
            .flat_map(|one| &one.spans)
            .map(|span| span.error.as_deref())
            .collect();
        assert_eq!(errors, [Some("cancelled"), None]);
    }

    #[test]
    fn ids_of_spans_are_not_zero_and_differ() {
        let queue = Arc::new(TraceQueue::new(|| {}));
        let trace = begun(&queue, true);
        let mut ids: Vec<u64> = (0..1000).map(|_| trace.parent().trace.next_id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 1000 && ids.first() > Some(&0));
    }
}
