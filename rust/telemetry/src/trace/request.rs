//! The part of one request in its trace.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use edgerouter_core::trace::{Kept, TraceContext};
use parking_lot::Mutex;

use super::{Attributes, Span, SpanParent, Trace, TraceQueue, Work};

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
    use super::super::*;
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
