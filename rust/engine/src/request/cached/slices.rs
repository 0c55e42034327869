//! Large objects: cut on their way into the store, and put together again on their way out.
//!
//! A body in slices is read from wherever each slice is: memory, a run that is bringing it, disk, and where nobody has
//! it, the origin, which is asked for just the slices that this reader still needs. So one path serves a first
//! download, a second one beside it, a range of an object that was never whole here, and an object half of which was
//! evicted.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use edgerouter_core::{
    cache::slices::{self, First, Unusable},
    http::{etag::EntityTag, range::Range},
    plan::Route,
};
use http::header;
use http_body::{Body, Frame, SizeHint};
use tokio::task::spawn_local;

use crate::{
    body::{BoxError, EdgeBody},
    request::{
        Exchange,
        origin::{self, Ask, ReceivedBody, content_length},
    },
    store::{
        Content, Entry, Object, Slices,
        run::{End, Joined, Next, NobodyReads, Reader, Run},
    },
    upstream::{RequestBody, UpstreamBody},
    worker::Worker,
};

/// Slices that one request to an origin asks for at most.
const MOST_SLICES: u64 = 16;
/// Times in a row that a reader's next byte may fail to come before its client is told.
const MOST_FAILURES: u8 = 2;
/// How long a run waits for its readers before it lets its origin connection go.
const STALL: Duration = Duration::from_secs(30);

/// The bytes of one response: literal ones (the heads of parts) and ranges of an object.
pub(super) enum Part {
    Bytes(Bytes),
    Range(Range),
}

/// A response's body of these parts of an object; `None` for one that is not in slices.
pub(super) fn body(
    x: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    parts: impl FnOnce() -> VecDeque<Part>,
) -> Option<EdgeBody> {
    let cut = object.slices?;
    let ask = x.ask(route, true).ok()?;
    let parts = parts();
    let left = parts.iter().map(Part::length).sum();
    Some(EdgeBody::streamed(SlicedBody {
        worker: Rc::clone(&x.worker),
        ask,
        entry: Arc::clone(entry),
        cut,
        length: object.length,
        parts,
        left,
        source: Source::None,
        failures: 0,
    }))
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
    worker: Rc<Worker>,
    /// How the origin is asked for what is missing.
    ask: Ask,
    entry: Arc<Entry>,
    cut: Slices,
    length: u64,
    parts: VecDeque<Part>,
    left: u64,
    source: Source,
    failures: u8,
}

/// Where the next bytes come from.
enum Source {
    None,
    Run(Reader),
    Disk(Pin<Box<dyn Future<Output = Option<Arc<Entry>>>>>),
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Interrupted {
    #[error("the origin did not give the rest of the response")]
    Origin,
    #[error("the origin has another representation by now: the rest of this one is gone")]
    Changed,
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

    /// What a slice holds of the range from `position` on.
    fn of_slice(&self, slice: &Bytes, range: Range) -> Option<Bytes> {
        let start = slices::slice_at(range.first, self.cut.size).first;
        let from = usize::try_from(range.first - start).ok()?;
        let most = usize::try_from(range.last - range.first + 1).unwrap_or(usize::MAX);
        (from < slice.len()).then(|| slice.slice(from..slice.len().min(from.saturating_add(most))))
    }

    /// Finds a source for `position`; a slice in memory is had at once.
    fn find(&mut self, range: Range) -> Option<Bytes> {
        let shared = &self.worker.shared;
        let key = self
            .cut
            .key(self.entry.key(), range.first / self.cut.size.max(1));
        if let Some(entry) = shared.store.get(&key)
            && let Some(slice) = entry.slice()
            && let Some(bytes) = self.of_slice(slice, range)
        {
            return Some(bytes);
        }
        if let Some(reader) = shared.runs.join(self.cut.nonce, range.first) {
            self.source = Source::Run(reader);
            return None;
        }
        if let Some(location) = shared.store.find(&key) {
            let shared = Arc::clone(shared);
            self.source = Source::Disk(Box::pin(
                async move { shared.store.load(location, &key).await },
            ));
            return None;
        }
        self.source = Source::Run(self.fill(range));
        None
    }

    /// Has the origin asked for what is missing, unless somebody has it asked already.
    fn fill(&self, range: Range) -> Reader {
        let size = self.cut.size;
        let wanted = slices::slices_for(range.first, range.last, size, MOST_SLICES, self.length);
        let ahead = self.ask.live.plan.limits.read_ahead_bytes;
        let shared = &self.worker.shared;
        loop {
            match shared.runs.join_or_start(
                self.cut.nonce,
                range.first,
                wanted.first,
                wanted.last,
                ahead,
            ) {
                Joined::Reader(reader) => return reader,
                Joined::Started(run, reader) => {
                    let (worker, ask) = (Rc::clone(&self.worker), self.ask.clone());
                    let (entry, cut) = (Arc::clone(&self.entry), self.cut);
                    spawn_local(fill(worker, ask, entry, cut, run));
                    if let Some(reader) = reader {
                        return reader;
                    }
                }
            }
        }
    }

    fn failed(&mut self, end: End) -> Option<Interrupted> {
        self.source = Source::None;
        match end {
            End::Changed => Some(Interrupted::Changed),
            // What has come is in the store, and more can be had: look again.
            End::Complete | End::Stopped | End::Broken => {
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
            let found = match &mut this.source {
                Source::None => this.find(range),
                Source::Run(reader) => match reader.poll_at(range.first, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next::Bytes(mut bytes)) => {
                        let most = usize::try_from(range.last - range.first + 1);
                        bytes.truncate(most.unwrap_or(usize::MAX));
                        Some(bytes)
                    }
                    Poll::Ready(Next::Behind) => {
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
                            None => Source::Run(this.fill(range)),
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

/// Some bytes out of an origin's response.
pub(super) struct Excerpt {
    body: UpstreamBody,
    skip: u64,
    left: u64,
}

impl Excerpt {
    pub(super) fn new(body: UpstreamBody, skip: u64, length: u64) -> Self {
        Self {
            body,
            skip,
            left: length,
        }
    }
}

impl Body for Excerpt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.left > 0 {
            let mut data = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(Some(Err(Interrupted::Origin.into()))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            let length = data.len() as u64;
            let passed = this.skip.min(length);
            this.skip -= passed;
            data.advance(usize::try_from(passed).unwrap_or(usize::MAX));
            data.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            if !data.is_empty() {
                this.left -= data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Asks the origin for the slices of a run.
async fn fill(worker: Rc<Worker>, mut ask: Ask, entry: Arc<Entry>, cut: Slices, run: Arc<Run>) {
    let end = match asked(&mut ask, &entry, &run).await {
        Ok((upstream, begins)) => pump(&worker, &run, &entry, cut, upstream, begins).await,
        Err(end) => end,
    };
    if end == End::Changed {
        // What is stored is out of date, and cannot be completed any more.
        worker.shared.store.remove(entry.key());
    }
    over(&worker, cut, &run, end);
}

/// A run that begins with an answer that is already here.
pub(super) async fn receive(
    worker: Rc<Worker>,
    entry: Arc<Entry>,
    cut: Slices,
    run: Arc<Run>,
    upstream: UpstreamBody,
) {
    let begins = run.first();
    let end = pump(&worker, &run, &entry, cut, upstream, begins).await;
    over(&worker, cut, &run, end);
}

fn over(worker: &Worker, cut: Slices, run: &Arc<Run>, end: End) {
    worker.metrics.slices(match end {
        End::Complete => "complete",
        End::Stopped => "stopped",
        End::Broken => "broken",
        End::Changed => "changed",
    });
    // Only then is nobody told to wait for it who could not find its slices.
    worker.shared.runs.end(cut.nonce, run);
    run.finish(end);
}

/// The answer to a request for the run's bytes, and where it begins.
async fn asked(ask: &mut Ask, entry: &Arc<Entry>, run: &Run) -> Result<(UpstreamBody, u64), End> {
    let object = entry.object().ok_or(End::Broken)?;
    let range = Range {
        first: run.first(),
        last: run.last(),
    };
    ask.headers.insert(
        header::RANGE,
        First::Slice(range).value().ok_or(End::Broken)?,
    );
    // With another representation behind the tag the origin sends that one whole, which says so at once.
    if let Some(tag) = object.headers.get(header::ETAG)
        && EntityTag::parse(tag.as_bytes()).is_some()
    {
        ask.headers.insert(header::IF_RANGE, tag.clone());
    }
    let Ok(received) = origin::ask(ask, RequestBody::Empty).await else {
        return Err(End::Broken);
    };
    let announced = content_length(&received.headers);
    let begins = slices::fills(
        range,
        object.length,
        &object.headers,
        received.status,
        &received.headers,
        announced,
    );
    match (begins, received.body) {
        (Ok(begins), ReceivedBody::Upstream(body)) => Ok((body, begins)),
        (Err(Unusable::Changed), _) => Err(End::Changed),
        _ => Err(End::Broken),
    }
}

/// Moves a body that begins at `begins` into the store, slice by slice, and past the run's readers.
async fn pump(
    worker: &Worker,
    run: &Run,
    entry: &Arc<Entry>,
    cut: Slices,
    mut upstream: UpstreamBody,
    begins: u64,
) -> End {
    let Some(object) = entry.object() else {
        return End::Broken;
    };
    let mut cutter = Cutter::new(cut, object.length, begins);
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut upstream).poll_frame(cx)).await;
        let data = match frame {
            None => {
                return if cutter.position > run.last() {
                    End::Complete
                } else {
                    End::Broken
                };
            }
            Some(Err(error)) => {
                tracing::warn!(error = %error, "the origin stopped in the middle of a large body");
                return End::Broken;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
        };
        let start = cutter.position;
        for (index, slice) in cutter.take(&data) {
            let key = cut.key(entry.key(), index);
            let slice = Entry::new(&key, Content::Slice(slice), entry.birth());
            worker.shared.store.insert(Arc::new(slice));
        }
        let passed = run.first().saturating_sub(start).min(data.len() as u64);
        run.push(data.slice(usize::try_from(passed).unwrap_or(data.len())..));
        if cutter.position > run.last() {
            return End::Complete;
        }
        let room = tokio::time::timeout(STALL, poll_fn(|cx| run.poll_room(cx))).await;
        match room {
            Ok(Ok(())) => {}
            // What has come of the current slice is worth the rest of it.
            Ok(Err(NobodyReads)) if !cutter.between() => {}
            Ok(Err(NobodyReads)) | Err(_) => return End::Stopped,
        }
    }
}

/// Cuts a stream at the slices' bounds. A slice whose beginning did not come is left out.
struct Cutter {
    size: u64,
    length: u64,
    position: u64,
    current: Vec<u8>,
}

impl Cutter {
    fn new(cut: Slices, length: u64, begins: u64) -> Self {
        Self {
            size: cut.size.max(1),
            length,
            position: begins,
            current: Vec::new(),
        }
    }

    /// Whether no slice is half here.
    fn between(&self) -> bool {
        self.current.is_empty()
    }

    /// The slices that `data` completes, by their index.
    fn take(&mut self, mut data: &[u8]) -> Vec<(u64, Bytes)> {
        let mut complete = Vec::new();
        while !data.is_empty() && self.position < self.length {
            let index = self.position / self.size;
            let end = ((index + 1) * self.size).min(self.length);
            let room = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            let (now, later) = data.split_at(room.min(data.len()));
            if self.current.is_empty() {
                let whole = usize::try_from(end - index * self.size).unwrap_or(0);
                self.current.reserve_exact(whole);
            }
            self.current.extend_from_slice(now);
            self.position += now.len() as u64;
            data = later;
            if self.position == end {
                let slice = std::mem::take(&mut self.current);
                if slice.len() as u64 == end - index * self.size {
                    complete.push((index, Bytes::from(slice)));
                }
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_at_the_bounds_however_it_arrives() {
        let whole: Vec<u8> = (0..1005u32).map(|i| i as u8).collect();
        let cut = Slices {
            size: 100,
            nonce: 7,
        };
        for piece in [1, 7, 99, 100, 101, 1005] {
            let mut cutter = Cutter::new(cut, 1005, 300);
            let mut slices = Vec::new();
            for data in whole.split_at(300).1.chunks(piece) {
                slices.extend(cutter.take(data));
            }
            assert_eq!(slices.len(), 8, "{piece}");
            for (index, slice) in slices {
                let start = index as usize * 100;
                assert_eq!(slice, whole.split_at(start).1.split_at(slice.len()).0);
                assert_eq!(slice.len(), if index == 10 { 5 } else { 100 });
            }
            assert!(cutter.between());
        }
    }
}
