//! The body of a response that is stored in slices, read from wherever each slice is.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use edgerouter_core::{cache::slices, http::range::Range, outcome::RunEnd, plan::Route};
use http_body::{Body, Frame, SizeHint};

use super::{
    coverage::Begin,
    fill::{Filler, Filling},
};
use crate::{
    body::{EdgeBody, Interrupted},
    request::Exchange,
    store::{
        Entry, Object,
        run::{Next, RunReader},
    },
    upstream::BoxError,
};

/// Times in a row that a reader's next byte may fail to come before the response breaks off.
const MOST_FAILURES: u8 = 2;

/// The bytes of one response: literal ones (the heads of parts) and ranges of an object.
pub(crate) enum Part {
    Bytes(Bytes),
    Range(Range),
}

/// A response's body of these parts of an object; `None` for one that is not in slices.
pub(crate) fn body(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    begin: Begin,
    parts: impl FnOnce() -> VecDeque<Part>,
) -> Option<EdgeBody> {
    let filler = Filler::new(exchange, route, entry, object).ok()??;
    let parts = parts();
    let left = parts.iter().map(Part::length).sum();
    let cached = Rc::new(Cell::new(false));
    let body = SlicedBody {
        cached: Rc::clone(&cached),
        filler,
        parts,
        left,
        source: begin.into(),
        failures: 0,
    };
    Some(EdgeBody::streamed(body).with_cached(cached))
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range(range) => (range.last + 1).saturating_sub(range.first),
        }
    }
}

struct SlicedBody {
    /// True if the last piece is in the memory cache.
    cached: Rc<Cell<bool>>,
    filler: Filler,
    parts: VecDeque<Part>,
    left: u64,
    source: Source,
    failures: u8,
}

/// The place that the next bytes come from.
enum Source {
    None,
    Slice(Arc<Entry>),
    Run(RunReader),
    Disk(Pin<Box<dyn Future<Output = Option<Arc<Entry>>>>>),
}

impl From<Begin> for Source {
    fn from(begin: Begin) -> Self {
        match begin {
            // A variant is never in slices.
            Begin::Anywhere | Begin::Coded(_) => Self::None,
            Begin::Slice(entry) => Self::Slice(entry),
            Begin::Run(reader) => Self::Run(reader),
        }
    }
}

impl SlicedBody {
    /// Takes the first `bytes` of the current range as sent.
    fn advance(&mut self, bytes: u64) {
        self.failures = 0;
        self.left = self.left.saturating_sub(bytes);
        if let Some(Part::Range(range)) = self.parts.front_mut() {
            range.first += bytes;
            if range.first > range.last {
                self.parts.pop_front();
                self.source = Source::None;
            }
        }
    }

    /// The bytes of the range that a slice holds, from its first one on.
    fn of_slice(&self, slice: &Bytes, range: Range) -> Option<Bytes> {
        let start = slices::slice_at(range.first, self.filler.cut.size).first;
        let from = usize::try_from(range.first - start).ok()?;
        let most = usize::try_from(range.last - range.first + 1).unwrap_or(usize::MAX);
        (from < slice.len()).then(|| slice.slice(from..slice.len().min(from.saturating_add(most))))
    }

    /// Finds a source for the range's first byte; a slice in memory is had at once.
    fn find(&mut self, range: Range) -> Option<Bytes> {
        let shared = &self.filler.worker.shared;
        let key = self.filler.key(range.first);
        if let Some(entry) = shared.cache.store.get(&key) {
            let bytes = entry.slice().and_then(|slice| self.of_slice(slice, range));
            if bytes.is_some() {
                return bytes;
            }
            // None of ours, whatever it is: it would be found again and again.
            shared.cache.store.remove(&key);
        }
        if let Some(reader) = shared.cache.runs.join(self.filler.cut.nonce, range.first) {
            self.source = Source::Run(reader);
            return None;
        }
        if let Some(location) = shared.cache.store.find(&key) {
            let shared = Arc::clone(shared);
            self.source = Source::Disk(Box::pin(async move {
                shared.cache.store.load(location, &key).await
            }));
            return None;
        }
        self.source = self.filled(range, true);
        None
    }

    fn filled(&self, range: Range, disk: bool) -> Source {
        match self.filler.fill(range, disk) {
            Filling::Stored => Source::None,
            Filling::Joined(reader) | Filling::Started(reader) => Source::Run(reader),
        }
    }

    fn failed(&mut self, end: RunEnd) -> Option<Interrupted> {
        self.source = Source::None;
        match end {
            RunEnd::Changed => Some(Interrupted::Changed),
            // The bytes that have arrived are in the store, and more can be fetched: look again.
            RunEnd::Complete | RunEnd::Stopped | RunEnd::Broken => {
                self.failures += 1;
                (self.failures > MOST_FAILURES).then_some(Interrupted::Origin)
            }
        }
    }
}

impl Body for SlicedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let range = match this.parts.front() {
                None => return Poll::Ready(None),
                Some(Part::Range(range)) => *range,
                Some(Part::Bytes(bytes)) => {
                    let bytes = bytes.clone();
                    this.parts.pop_front();
                    this.left = this.left.saturating_sub(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
            };
            this.cached
                .set(matches!(this.source, Source::None | Source::Slice(_)));
            let found = match &mut this.source {
                Source::None => this.find(range),
                Source::Slice(entry) => {
                    let entry = Arc::clone(entry);
                    this.source = Source::None;
                    entry.slice().and_then(|slice| this.of_slice(slice, range))
                }
                Source::Run(reader) => match reader.poll_at(range.first, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next::Bytes(mut bytes)) => {
                        let most = usize::try_from(range.last - range.first + 1);
                        bytes.truncate(most.unwrap_or(usize::MAX));
                        Some(bytes)
                    }
                    Poll::Ready(Next::Elsewhere) => {
                        this.source = Source::None;
                        None
                    }
                    Poll::Ready(Next::Over(end)) => match this.failed(end) {
                        Some(error) => return Poll::Ready(Some(Err(error.into()))),
                        None => None,
                    },
                },
                Source::Disk(load) => match load.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(loaded) => {
                        let bytes = loaded
                            .as_ref()
                            .and_then(|entry| entry.slice())
                            .and_then(|slice| this.of_slice(slice, range));
                        this.source = match bytes {
                            Some(_) => Source::None,
                            None => this.filled(range, false),
                        };
                        bytes
                    }
                },
            };
            if let Some(bytes) = found
                && !bytes.is_empty()
            {
                this.advance(bytes.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
