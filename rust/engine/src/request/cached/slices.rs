//! Large objects: cut on their way into the store, and put together again on their way out.
//!
//! A body in slices is read from wherever each slice is: memory, a run that is bringing it, disk, and where nobody has
//! it, the origin, which is asked for just the slices that this reader still needs. So one path serves a first
//! download, a second one beside it, a range of an object that was never whole here, and an object half of which was
//! evicted.

use std::{
    cell::Cell,
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use edgerouter_core::{
    cache::slices::{self, First, Unusable, content_length},
    http::{etag::EntityTag, range::Range},
    plan::Route,
};
use http::{StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::task::spawn_local;

use super::send::needed;
use crate::{
    body::EdgeBody,
    request::{
        Exchange,
        answer::Early,
        origin::{self, OriginRequest, ReceivedBody, Unanswered},
    },
    store::{
        Claim, Claimed, Content, Entry, NobodyReads, Object, Slices, Store,
        run::{Begun, End, Next, Reader, Run},
    },
    upstream::{BoxError, RequestBody, Unavailable, UpstreamBody},
    worker::Worker,
};

/// Slices that one request to an origin asks for at most.
const MOST_SLICES: u64 = 16;
/// Times in a row that a reader's next byte may fail to come before its client is told.
const MOST_FAILURES: u8 = 2;
/// Slices of one response that are looked for before its head is sent.
const MOST_LOOKED: u64 = 4096;
/// How long a run waits for its readers before it lets its origin connection go.
const STALL: Duration = Duration::from_secs(30);

/// The bytes of one response: literal ones (the heads of parts) and ranges of an object.
pub(super) enum Part {
    Bytes(Bytes),
    Range(Range),
}

/// Where a body's first bytes are.
#[derive(Debug)]
pub(super) enum Begin {
    /// Wherever they will be found.
    Anywhere,
    Slice(Arc<Entry>),
    Run(Reader),
}

/// How much is here of what a request asks for, before its response's head is sent.
pub(super) enum Coverage {
    Whole(Begin),
    /// What is not here is on its way, for somebody else.
    Coming(Begin),
    /// Something behind the beginning has to be fetched.
    Partly(Begin),
    /// This has to be fetched before anything can be sent.
    Lacking(Range),
}

/// As `coverage`, for a response that is to be sent without another look at the disk.
pub(super) fn at_hand(x: &Exchange, entry: &Entry, object: &Object) -> Coverage {
    let store = &x.worker.shared.store;
    let find = |key: &[u8]| -> Result<_, Infallible> {
        let slice = store.get(key).map(Begin::Slice);
        Ok(slice.or_else(|| store.find(key).map(|_| Begin::Anywhere)))
    };
    match coverage(x, entry, object, find) {
        Ok(coverage) => coverage,
        Err(never) => match never {},
    }
}

/// Looks for the slices that a request needs. `find` looks for the first of them wherever it may be.
pub(super) fn coverage<E>(
    x: &Exchange,
    entry: &Entry,
    object: &Object,
    find: impl FnOnce(&[u8]) -> Result<Option<Begin>, E>,
) -> Result<Coverage, E> {
    let ranges = match object.slices {
        Some(_) => needed(&x.head.method, &x.head.headers, object),
        None => SmallVec::new(),
    };
    let (Some(cut), Some(&first)) = (object.slices, ranges.first()) else {
        return Ok(Coverage::Whole(Begin::Anywhere));
    };
    let shared = &x.worker.shared;
    let size = cut.size.max(1);
    let begin = match find(&cut.key(entry.key(), first.first / size))? {
        Some(begin) => begin,
        None => match shared.runs.join(cut.nonce, first.first) {
            Some(reader) if reader.has_begun() => Begin::Run(reader),
            _ => return Ok(Coverage::Lacking(first)),
        },
    };
    let mut coming = None;
    let mut whole = !matches!(begin, Begin::Run(_));
    let slices = ranges
        .iter()
        .flat_map(|range| range.first / size..=range.last / size);
    for index in slices.skip(1).take(MOST_LOOKED as usize) {
        if stored(&shared.store, entry, cut, index) {
            continue;
        }
        whole = false;
        let position = index * size;
        let coming = coming.get_or_insert_with(|| shared.runs.coming(cut.nonce));
        let is_coming = |run: &Range| (run.first..=run.last).contains(&position);
        // What a run has brought since is in the store.
        if !coming.iter().any(is_coming) && !stored(&shared.store, entry, cut, index) {
            return Ok(Coverage::Partly(begin));
        }
    }
    Ok(if whole {
        Coverage::Whole(begin)
    } else {
        Coverage::Coming(begin)
    })
}

fn stored(store: &Store, entry: &Entry, cut: Slices, index: u64) -> bool {
    let key = cut.key(entry.key(), index);
    store.peek(&key).is_some() || store.find(&key).is_some()
}

/// What came of fetching the first bytes.
pub(super) enum Fetched {
    /// By this request, with the origin's status.
    Own(Begin, StatusCode),
    /// By another one.
    Shared(Begin),
    /// There is another representation by now.
    Changed,
    /// The origin answered something else.
    Refused,
    Failed(Unavailable),
}

/// Has the first bytes of a response fetched. Nothing of it has been sent: whatever the origin answers can be acted on.
pub(super) async fn first(
    x: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    lacking: Range,
) -> Result<Fetched, Early> {
    let Some(cut) = object.slices else {
        return Ok(Fetched::Refused);
    };
    let filler = Filler {
        worker: Rc::clone(&x.worker),
        ask: ask_for_parts(x, route)?,
        entry: Arc::clone(entry),
        cut,
        length: object.length,
    };
    let (mut reader, own) = match filler.fill(lacking, false) {
        Filling::Stored => return Ok(Fetched::Shared(Begin::Anywhere)),
        Filling::Joined(reader) => (reader, false),
        Filling::Started(reader) => (reader, true),
    };
    Ok(match poll_fn(|cx| reader.poll_begun(cx)).await {
        Begun::Coming(status) if own => Fetched::Own(Begin::Run(reader), status),
        Begun::Coming(_) => Fetched::Shared(Begin::Run(reader)),
        Begun::Changed => Fetched::Changed,
        Begun::Refused => Fetched::Refused,
        Begun::Failed(error) => Fetched::Failed(error),
    })
}

/// How the origin is asked for parts of a stored response. Its head has been through the hooks that are shown responses.
fn ask_for_parts(x: &Exchange, route: &Route) -> Result<OriginRequest, Early> {
    let mut ask = x.origin_request(route, true)?;
    if let Some(context) = &mut ask.hooks
        && let Some(context) = Rc::get_mut(context)
    {
        context.origin_response.clear();
    }
    Ok(ask)
}

/// A response's body of these parts of an object; `None` for one that is not in slices.
pub(super) fn body(
    x: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    begin: Begin,
    parts: impl FnOnce() -> VecDeque<Part>,
) -> Option<EdgeBody> {
    let cut = object.slices?;
    let ask = ask_for_parts(x, route).ok()?;
    let parts = parts();
    let left = parts.iter().map(Part::length).sum();
    let cached = Rc::new(Cell::new(false));
    let body = SlicedBody {
        cached: Rc::clone(&cached),
        filler: Filler {
            worker: Rc::clone(&x.worker),
            ask,
            entry: Arc::clone(entry),
            cut,
            length: object.length,
        },
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
    /// Whether what came last is in the memory cache.
    cached: Rc<Cell<bool>>,
    filler: Filler,
    parts: VecDeque<Part>,
    left: u64,
    source: Source,
    failures: u8,
}

/// Where the next bytes come from.
enum Source {
    None,
    Slice(Arc<Entry>),
    Run(Reader),
    Disk(Pin<Box<dyn Future<Output = Option<Arc<Entry>>>>>),
}

impl From<Begin> for Source {
    fn from(begin: Begin) -> Self {
        match begin {
            Begin::Anywhere => Self::None,
            Begin::Slice(entry) => Self::Slice(entry),
            Begin::Run(reader) => Self::Run(reader),
        }
    }
}

/// What is needed to fetch slices of an object.
struct Filler {
    worker: Rc<Worker>,
    /// How the origin is asked for what is missing.
    ask: OriginRequest,
    entry: Arc<Entry>,
    cut: Slices,
    length: u64,
}

enum Filling {
    Stored,
    Joined(Reader),
    Started(Reader),
}

impl Filler {
    fn key(&self, position: u64) -> Vec<u8> {
        let index = position / self.cut.size.max(1);
        self.cut.key(self.entry.key(), index)
    }

    /// Has the origin asked for what is missing, unless somebody has it asked already. `disk`: whether the first slice may
    /// still be on disk, where nobody has looked.
    fn fill(&self, range: Range, disk: bool) -> Filling {
        let size = self.cut.size.max(1);
        let shared = &self.worker.shared;
        let claim = Claim {
            position: range.first,
            wanted: slices::slices_for(range.first, range.last, size, MOST_SLICES, self.length),
            slice: size,
            ahead: self.ask.live.plan.limits.cache.read_ahead_bytes,
            owner: self.ask.owner,
        };
        let known = |index| {
            if index == range.first / size && !disk {
                shared.store.peek(&self.key(range.first)).is_some()
            } else {
                stored(&shared.store, &self.entry, self.cut, index)
            }
        };
        match shared
            .runs
            .claim(self.cut.nonce, claim, &shared.account, known)
        {
            Claimed::Reader(reader) => Filling::Joined(reader),
            Claimed::Stored => Filling::Stored,
            Claimed::Started(run) => {
                let reader = run.first_reader();
                let (worker, ask) = (Rc::clone(&self.worker), self.ask.clone());
                spawn_local(fill(worker, ask, Arc::clone(&self.entry), self.cut, run));
                reader.map_or(Filling::Stored, Filling::Started)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Interrupted {
    #[error("the origin did not send the rest of the response")]
    Origin,
    #[error("the origin has another representation now: the rest of this one is not available")]
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
        let start = slices::slice_at(range.first, self.filler.cut.size).first;
        let from = usize::try_from(range.first - start).ok()?;
        let most = usize::try_from(range.last - range.first + 1).unwrap_or(usize::MAX);
        (from < slice.len()).then(|| slice.slice(from..slice.len().min(from.saturating_add(most))))
    }

    /// Finds a source for the range's first byte; a slice in memory is had at once.
    fn find(&mut self, range: Range) -> Option<Bytes> {
        let shared = &self.filler.worker.shared;
        let key = self.filler.key(range.first);
        if let Some(entry) = shared.store.get(&key) {
            let bytes = entry.slice().and_then(|slice| self.of_slice(slice, range));
            if bytes.is_some() {
                return bytes;
            }
            // None of ours, whatever it is: it would be found again and again.
            shared.store.remove(&key);
        }
        if let Some(reader) = shared.runs.join(self.filler.cut.nonce, range.first) {
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
        self.source = self.filled(range, true);
        None
    }

    fn filled(&self, range: Range, disk: bool) -> Source {
        match self.filler.fill(range, disk) {
            Filling::Stored => Source::None,
            Filling::Joined(reader) | Filling::Started(reader) => Source::Run(reader),
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
async fn fill(
    worker: Rc<Worker>,
    mut ask: OriginRequest,
    entry: Arc<Entry>,
    cut: Slices,
    run: Arc<Run>,
) {
    let mut writing = Writing::new(&worker, cut, &run);
    let answer = asked(&mut ask, &entry, &run).await;
    if matches!(answer, Err(Begun::Changed)) {
        // What is stored is out of date, and cannot be completed any more.
        remove(&worker, &entry, cut);
        writing.end = End::Changed;
    }
    match answer {
        Ok((status, upstream, begins)) => {
            run.begin(Begun::Coming(status));
            writing.end = pump(&worker, &run, &entry, cut, upstream, begins).await;
        }
        Err(begun) => run.begin(begun),
    }
}

/// Removes an object, unless another one has taken its place.
fn remove(worker: &Worker, entry: &Entry, cut: Slices) {
    let store = &worker.shared.store;
    let current = store.peek(entry.key());
    let same = current
        .is_none_or(|current| current.object().and_then(|object| object.slices) == Some(cut));
    if same {
        store.remove(entry.key());
    }
}

/// A run that begins with an answer that is already here.
pub(super) async fn receive(
    worker: Rc<Worker>,
    entry: Arc<Entry>,
    cut: Slices,
    run: Arc<Run>,
    upstream: UpstreamBody,
) {
    let mut writing = Writing::new(&worker, cut, &run);
    let begins = run.first();
    writing.end = pump(&worker, &run, &entry, cut, upstream, begins).await;
}

/// The writer's place: when it is given up, whichever way, the readers learn that nothing more comes.
struct Writing<'a> {
    worker: &'a Worker,
    cut: Slices,
    run: &'a Arc<Run>,
    end: End,
}

impl<'a> Writing<'a> {
    fn new(worker: &'a Worker, cut: Slices, run: &'a Arc<Run>) -> Self {
        Self {
            worker,
            cut,
            run,
            end: End::Broken,
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.worker.metrics.slices(match self.end {
            End::Complete => "complete",
            End::Stopped => "stopped",
            End::Broken => "broken",
            End::Changed => "changed",
        });
        // Only then is nobody told to wait for it who could not find its slices.
        self.worker.shared.runs.end(self.cut.nonce, self.run);
        self.run.finish(self.end);
    }
}

/// The answer to a request for the run's bytes: its status, its body, and where that begins.
async fn asked(
    ask: &mut OriginRequest,
    entry: &Arc<Entry>,
    run: &Run,
) -> Result<(StatusCode, UpstreamBody, u64), Begun> {
    let object = entry.object().ok_or(Begun::Refused)?;
    let range = Range {
        first: run.first(),
        last: run.last(),
    };
    ask.headers.insert(
        header::RANGE,
        First::Slice(range).value().ok_or(Begun::Refused)?,
    );
    // With another representation behind the tag the origin sends that one whole, which says so at once.
    if let Some(tag) = object.headers.get(header::ETAG)
        && EntityTag::parse(tag.as_bytes()).is_some()
    {
        ask.headers.insert(header::IF_RANGE, tag.clone());
    }
    let received = origin::fetch(ask, RequestBody::Empty)
        .await
        .map_err(|unanswered| match unanswered {
            Unanswered::Failed(error) => Begun::Failed(error),
            Unanswered::Early(_) => Begun::Refused,
        })?;
    if received.hooked.forbids.is_some() {
        // Another part of another response, for all that is known.
        return Err(Begun::Refused);
    }
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
        (Ok(begins), ReceivedBody::Upstream(body)) => Ok((received.status, body, begins)),
        (Err(Unusable::Changed), _) => Err(Begun::Changed),
        _ => Err(Begun::Refused),
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
        if !run.has_room(data.len()) {
            // Readers come first: were each of many large bodies to wait for memory to store it in, none would get any.
            cutter.leave_out();
            if !run.room_for(data.len(), STALL).await {
                return End::Stopped;
            }
        }
        let start = cutter.position;
        let complete = cutter.take(&data, |slice| run.room_to_store(slice));
        let cut_off = !complete.is_empty();
        for (index, slice) in complete {
            let key = cut.key(entry.key(), index);
            let slice = Entry::new(&key, Content::Slice(slice), entry.birth());
            worker.shared.store.insert(Arc::new(slice));
        }
        let passed = run.first().saturating_sub(start).min(data.len() as u64);
        let passed = usize::try_from(passed).unwrap_or(data.len());
        let going_on = run.push(data.slice(passed..), cutter.stored(), cutter.cutting());
        if !going_on {
            return End::Stopped;
        }
        if cutter.position > run.last() {
            return End::Complete;
        }
        if cut_off && met(worker, run, entry, cut, cutter.position) {
            return End::Stopped;
        }
        let room = tokio::time::timeout(STALL, poll_fn(|cx| run.poll_room(cx))).await;
        match room {
            Ok(Ok(())) => {}
            // What has come of the current slice is worth the rest of it, if that is stored.
            Ok(Err(NobodyReads)) if !cutter.between() => {}
            Ok(Err(NobodyReads)) | Err(_) => return End::Stopped,
        }
    }
}

/// Whether a long stretch of what comes next is stored already, which readers that jumped ahead have fetched: to ask for
/// what is behind it is cheaper than to go through it once more.
fn met(worker: &Worker, run: &Run, entry: &Entry, cut: Slices, position: u64) -> bool {
    let size = cut.size.max(1);
    let next = position / size;
    let last = next.saturating_add(MOST_SLICES - 1);
    last <= run.last() / size
        && (next..=last).all(|index| stored(&worker.shared.store, entry, cut, index))
}

/// Cuts a stream at the slices' bounds. A slice whose beginning did not come is left out, and one for which there is no
/// memory.
struct Cutter {
    size: u64,
    length: u64,
    position: u64,
    /// Pieces of the slice that is half here: put together when it is whole, so that it takes no more than has come.
    current: Vec<Bytes>,
    gathered: usize,
    /// The slice that comes now is not put together.
    left_out: bool,
}

impl Cutter {
    fn new(cut: Slices, length: u64, begins: u64) -> Self {
        let size = cut.size.max(1);
        Self {
            size,
            length,
            position: begins,
            current: Vec::new(),
            gathered: 0,
            left_out: true,
        }
    }

    /// Lets go of the slice that is half here.
    fn leave_out(&mut self) {
        self.current = Vec::new();
        self.gathered = 0;
        self.left_out = true;
    }

    /// Everything before it has been cut off, or left out.
    fn stored(&self) -> u64 {
        self.position - self.gathered as u64
    }

    /// Whether no slice is half here that is to be stored.
    fn between(&self) -> bool {
        self.gathered == 0
    }

    /// Bytes that the slice which is half here takes: all of it was drawn when it began.
    fn cutting(&self) -> u64 {
        if self.between() {
            return 0;
        }
        let start = self.position - self.position % self.size;
        self.size.min(self.length.saturating_sub(start))
    }

    /// The slices that `data` completes, by their index. `room`: whether there is memory for one that begins in it.
    fn take(&mut self, data: &Bytes, mut room: impl FnMut(u64) -> bool) -> Vec<(u64, Bytes)> {
        let mut data = data.clone();
        let mut complete = Vec::new();
        while !data.is_empty() && self.position < self.length {
            let index = self.position / self.size;
            let end = ((index + 1) * self.size).min(self.length);
            let left = end - self.position;
            if self.position == index * self.size {
                self.left_out = !room(left);
            }
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let now = data.split_to(left.min(data.len()));
            self.position += now.len() as u64;
            if !self.left_out {
                self.gathered += now.len();
                self.current.push(now);
            }
            if self.position == end {
                let pieces = std::mem::take(&mut self.current);
                let gathered = std::mem::take(&mut self.gathered);
                if gathered > 0 {
                    let mut slice = Vec::with_capacity(gathered);
                    for piece in &pieces {
                        slice.extend_from_slice(piece);
                    }
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
                slices.extend(cutter.take(&Bytes::copy_from_slice(data), |_| true));
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

    #[test]
    fn a_slice_that_is_left_out_takes_no_memory_and_ends_where_the_next_begins() {
        let cut = Slices {
            size: 100,
            nonce: 7,
        };
        let piece = Bytes::from_static(&[1; 60]);
        let mut cutter = Cutter::new(cut, 400, 0);
        assert!(cutter.take(&piece, |bytes| bytes == 100).is_empty());
        assert_eq!((cutter.cutting(), cutter.stored()), (100, 0));
        cutter.leave_out();
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 60));
        // 60 to 120, 120 to 180: there is no memory for the second slice either.
        assert!(cutter.take(&piece, |_| false).is_empty());
        assert!(cutter.take(&piece, |_| true).is_empty());
        assert!(cutter.left_out && cutter.between());
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 180));
        // 180 to 240, 240 to 300: there is for the third.
        assert!(cutter.take(&piece, |_| true).is_empty());
        assert_eq!((cutter.cutting(), cutter.stored()), (100, 200));
        let complete = cutter.take(&piece, |_| true);
        assert!(matches!(complete.as_slice(), [(2, slice)] if slice.len() == 100));
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 300));
    }
}
