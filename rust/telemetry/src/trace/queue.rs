//! The bounded queue of kept traces, from the workers to the task that sends them.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use super::Span;
use crate::text;

/// Spans of one message, more or less: a trace is not divided.
pub const BATCH: usize = 512;
/// Spans that may wait until a plan sets the bound (`queue_spans`).
const CAPACITY: usize = 8_192;

/// A kept trace, or late spans of one.
#[derive(Debug)]
pub struct FinishedTrace {
    pub(super) id: u128,
    pub(super) state: Option<Box<str>>,
    pub(super) spans: Vec<Span>,
    /// Spans beyond the bound of a trace.
    pub(super) left_out: u64,
}

impl FinishedTrace {
    /// Its number of spans.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }
}

/// The end of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanEnd {
    /// The receiver took them.
    Sent,
    /// As many waited as may.
    Full,
    /// The trace had as many as it may.
    LeftOut,
    /// The receiver refused them.
    Rejected,
    /// The receiver could not be reached, or did not answer.
    Failed,
}

impl SpanEnd {
    const WORDS: [&str; 5] = ["sent", "queue-full", "trace-full", "rejected", "failed"];
}

/// The queue. Putting never waits.
pub struct TraceQueue {
    traces: Mutex<VecDeque<FinishedTrace>>,
    spans: AtomicUsize,
    capacity: AtomicUsize,
    ends: [AtomicU64; SpanEnd::WORDS.len()],
    wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for TraceQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceQueue")
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}

impl TraceQueue {
    /// `wake` is called when a whole batch waits.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            traces: Mutex::default(),
            spans: AtomicUsize::new(0),
            capacity: AtomicUsize::new(CAPACITY),
            ends: Default::default(),
            wake: Box::new(wake),
        }
    }

    /// Sets the number of spans that may wait.
    pub fn bound(&self, spans: usize) {
        self.capacity.store(spans, Ordering::Relaxed);
    }

    /// Queues a trace, or counts its spans as dropped.
    pub fn put(&self, trace: FinishedTrace) {
        let count = trace.spans.len();
        self.count(SpanEnd::LeftOut, trace.left_out);
        let mut traces = self.traces.lock();
        let before = self.spans.load(Ordering::Relaxed);
        if before + count > self.capacity.load(Ordering::Relaxed) {
            drop(traces);
            return self.count(SpanEnd::Full, count as u64);
        }
        self.spans.store(before + count, Ordering::Relaxed);
        traces.push_back(trace);
        drop(traces);
        if before < BATCH && before + count >= BATCH {
            (self.wake)();
        }
    }

    /// Takes traces until they have this many spans.
    pub fn take(&self, spans: usize) -> Vec<FinishedTrace> {
        let (mut taken, mut count) = (Vec::new(), 0);
        let mut traces = self.traces.lock();
        while count < spans
            && let Some(trace) = traces.pop_front()
        {
            count += trace.spans.len();
            taken.push(trace);
        }
        let left = self.spans.load(Ordering::Relaxed).saturating_sub(count);
        self.spans.store(left, Ordering::Relaxed);
        taken
    }

    /// Spans that wait.
    pub fn waiting(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }

    /// Counts the end of spans.
    pub fn count(&self, end: SpanEnd, spans: u64) {
        if let Some(cell) = self.ends.get(end as usize) {
            cell.fetch_add(spans, Ordering::Relaxed);
        }
    }

    /// The counts as metrics.
    pub fn render(&self, out: &mut String) {
        let ends = SpanEnd::WORDS.iter().zip(&self.ends);
        text::labelled(
            out,
            "edgerouter_spans_total",
            "Spans of kept traces, by result.",
            ["result"],
            ends.map(|(word, cell)| ([*word], cell.load(Ordering::Relaxed))),
        );
        let help = "Spans that wait to be sent.";
        text::one(out, "edgerouter_spans_waiting", help, self.waiting());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn trace(spans: usize) -> FinishedTrace {
        let span = || Span {
            id: 1,
            parent: None,
            is_continued: false,
            work: super::super::Work::Request,
            name: "GET".into(),
            begun: 0,
            ended: 0,
            attributes: Vec::new(),
            error: None,
            link: None,
        };
        FinishedTrace {
            id: 1,
            state: None,
            spans: (0..spans).map(|_| span()).collect(),
            left_out: 0,
        }
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_counts_it() {
        let queue = TraceQueue::new(|| {});
        queue.bound(10);
        for _ in 0..5 {
            queue.put(trace(3));
        }
        assert_eq!(queue.waiting(), 9);
        let mut text = String::new();
        queue.render(&mut text);
        assert!(
            text.contains("edgerouter_spans_total{result=\"queue-full\"} 6\n"),
            "{text}"
        );
        assert_eq!(queue.take(4).len(), 2);
        assert_eq!(queue.waiting(), 3);
        queue.put(trace(3));
        assert_eq!((queue.take(usize::MAX).len(), queue.waiting()), (2, 0));
    }

    #[test]
    fn a_whole_batch_wakes_once() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&woken);
        let queue = TraceQueue::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..3 * BATCH {
            queue.put(trace(1));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}
