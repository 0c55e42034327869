//! Slices on their way into the store: a run requests them from the origin, cuts the arriving bytes, and passes
//! them to its readers.

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use edgerouter_core::{
    cache::slices::{self, First, Unusable, content_length},
    http::{cache_control::ResponseDirectives, etag::EntityTag, header, range::Range},
    outcome::RunEnd,
    plan::Route,
};
use http::StatusCode;
use http_body::Body as _;
use tokio::task::spawn_local;

use super::{
    coverage::{Begin, is_stored},
    cutter::Cutter,
};
use crate::{
    request::{
        Exchange,
        answer::Early,
        origin::{self, OriginRequest, ReceivedBody, Unanswered},
    },
    store::{
        Claim, Claimed, Content, Entry, NobodyReads, Object, Slices,
        run::{Begun, Run, RunReader},
    },
    upstream::{RequestBody, Unavailable, UpstreamBody},
    worker::Worker,
};

/// Slices that one request to an origin covers at most.
const MOST_SLICES: u64 = 16;
/// How long a run waits for its readers before it lets its origin connection go.
const STALL: Duration = Duration::from_secs(30);

/// The outcome of fetching the first bytes.
pub(crate) enum Fetched {
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
pub(crate) async fn first(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    lacking: Range,
) -> Result<Fetched, Early> {
    let Some(filler) = Filler::new(exchange, route, entry, object)? else {
        return Ok(Fetched::Refused);
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

/// The means to fetch slices of an object.
pub(crate) struct Filler {
    pub worker: Rc<Worker>,
    /// The request for what is missing.
    request: OriginRequest,
    entry: Arc<Entry>,
    pub cut: Slices,
    length: u64,
}

pub(crate) enum Filling {
    Stored,
    Joined(RunReader),
    Started(RunReader),
}

impl Filler {
    /// `None` for a response that is not in slices.
    pub(crate) fn new(
        exchange: &Exchange,
        route: &Route,
        entry: &Arc<Entry>,
        object: &Object,
    ) -> Result<Option<Self>, Early> {
        let Some(cut) = object.slices else {
            return Ok(None);
        };
        let mut request = exchange.origin_request(route, true)?;
        request.hash_key = request.hash_key.or_else(|| exchange.url_key(route));
        // The head of a stored response has been through the hooks that are shown responses.
        if let Some(context) = &mut request.hooks
            && let Some(context) = Rc::get_mut(context)
        {
            context.origin_response.clear();
        }
        Ok(Some(Self {
            worker: Rc::clone(&exchange.worker),
            request,
            entry: Arc::clone(entry),
            cut,
            length: object.length,
        }))
    }

    pub(crate) fn key(&self, position: u64) -> Vec<u8> {
        let index = position / self.cut.size.max(1);
        self.cut.key(self.entry.key(), index)
    }

    /// Has missing slices fetched, unless a run fetches them already. `disk`: whether the first slice may still be on
    /// disk, which has not been looked at.
    pub(crate) fn fill(&self, range: Range, disk: bool) -> Filling {
        let size = self.cut.size.max(1);
        let shared = &self.worker.shared;
        let claim = Claim {
            position: range.first,
            wanted: slices::slices_for(range.first, range.last, size, MOST_SLICES, self.length),
            slice: size,
            ahead: self.request.live.plan.limits.cache.read_ahead_bytes,
            owner: self.request.owner,
        };
        let known = |index| {
            if index == range.first / size && !disk {
                shared.cache.store.peek(&self.key(range.first)).is_some()
            } else {
                is_stored(&shared.cache.store, &self.entry, self.cut, index)
            }
        };
        match shared
            .cache
            .runs
            .claim(self.cut.nonce, claim, &shared.account, known)
        {
            Claimed::Reader(reader) => Filling::Joined(reader),
            Claimed::Stored => Filling::Stored,
            Claimed::Started(run) => {
                let reader = run.first_reader();
                let writer = RunWriter {
                    worker: Rc::clone(&self.worker),
                    entry: Arc::clone(&self.entry),
                    cut: self.cut,
                    run,
                    end: RunEnd::Broken,
                };
                spawn_local(writer.fetch(self.request.clone()));
                reader.map_or(Filling::Stored, Filling::Started)
            }
        }
    }
}

/// Takes in a run that begins with a response that is already here.
pub(crate) async fn receive(
    worker: Rc<Worker>,
    entry: Arc<Entry>,
    cut: Slices,
    run: Arc<Run>,
    upstream: Box<UpstreamBody>,
) {
    let begins = run.first();
    let mut writer = RunWriter {
        worker,
        entry,
        cut,
        run,
        end: RunEnd::Broken,
    };
    writer.end = writer.pump(upstream, begins).await;
}

/// The one writer of a run. When it is dropped, whichever way, the readers learn that nothing more comes.
struct RunWriter {
    worker: Rc<Worker>,
    entry: Arc<Entry>,
    cut: Slices,
    run: Arc<Run>,
    end: RunEnd,
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        self.worker.metrics.slices(self.end);
        // Only then does no reader wait for it that could not find its slices.
        self.worker.shared.cache.runs.end(self.cut.nonce, &self.run);
        self.run.finish(self.end);
    }
}

impl RunWriter {
    /// Requests the slices of the run from the origin.
    async fn fetch(mut self, request: OriginRequest) {
        match self.response(request).await {
            Ok((status, upstream, begins)) => {
                self.run.begin(Begun::Coming(status));
                self.end = self.pump(upstream, begins).await;
            }
            Err(begun) => {
                if matches!(begun, Begun::Changed) {
                    // The stored response is out of date, and cannot be completed any more.
                    self.remove();
                    self.end = RunEnd::Changed;
                }
                self.run.begin(begun);
            }
        }
    }

    /// Removes the object, unless another one has taken its place.
    fn remove(&self) {
        let (store, key) = (&self.worker.shared.cache.store, self.entry.key());
        let same = store.peek(key).is_none_or(|current| {
            current.object().and_then(|object| object.slices) == Some(self.cut)
        });
        if same {
            store.remove(key);
        }
    }

    /// The response to a request for the run's bytes: its status, its body, and where that begins.
    async fn response(
        &self,
        mut request: OriginRequest,
    ) -> Result<(StatusCode, Box<UpstreamBody>, u64), Begun> {
        let object = self.entry.object().ok_or(Begun::Refused)?;
        let range = Range {
            first: self.run.first(),
            last: self.run.last(),
        };
        request.headers.insert(
            header::RANGE,
            First::Slice(range).value().ok_or(Begun::Refused)?,
        );
        // With another representation behind the tag the origin sends that one whole, which says so at once.
        if let Some(tag) = object.headers.get(header::ETAG)
            && EntityTag::parse(tag.as_bytes()).is_some()
        {
            request.headers.insert(header::IF_RANGE, tag);
        }
        let received = origin::fetch(&mut request, RequestBody::Empty).await;
        let received = received.map_err(|unanswered| match unanswered {
            Unanswered::Failed(error) => Begun::Failed(error),
            Unanswered::Early(_) => Begun::Refused,
        })?;
        if received.hooked.forbids.is_some() {
            // Another part of another response, for all that is known.
            return Err(Begun::Refused);
        }
        let begins = slices::fills(
            range,
            object.length,
            &object.headers,
            received.status,
            &received.headers,
            content_length(&received.headers),
        );
        // A part that may not be stored ends what is: it says of the whole that it is not for everybody any longer.
        let live = Rc::clone(&request.live);
        let route = live.plan.route(request.route).ok_or(Begun::Refused)?;
        let directives = ResponseDirectives::parse(&received.headers, &route.cache.targets);
        if begins.is_ok() && (directives.private || directives.no_store) {
            return Err(Begun::Changed);
        }
        match (begins, received.body) {
            (Ok(begins), ReceivedBody::Upstream(body)) => Ok((received.status, body, begins)),
            (Err(Unusable::Changed), _) => Err(Begun::Changed),
            _ => Err(Begun::Refused),
        }
    }

    /// Moves a body that begins at `begins` into the store, slice by slice, and past the run's readers.
    async fn pump(&self, mut upstream: Box<UpstreamBody>, begins: u64) -> RunEnd {
        let (run, entry) = (&self.run, &self.entry);
        let Some(object) = entry.object() else {
            return RunEnd::Broken;
        };
        let mut cutter = Cutter::new(self.cut, object.length, begins);
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut upstream).poll_frame(cx)).await;
            let data = match frame {
                None if cutter.position > run.last() => return RunEnd::Complete,
                None => return RunEnd::Broken,
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "the origin stopped in the middle of a large body");
                    return RunEnd::Broken;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            if !run.has_room(data.len()) {
                // Readers come first: were each of many large bodies to wait for memory to store it in, none would get
                // any.
                cutter.leave_out();
                if !run.room_for(data.len(), STALL).await {
                    return RunEnd::Stopped;
                }
            }
            let start = cutter.position;
            let complete = cutter.take(&data, |slice| run.room_to_store(slice));
            let cut_off = !complete.is_empty();
            for (index, slice) in complete {
                let key = self.cut.key(entry.key(), index);
                let slice = Entry::new(&key, Content::Slice(slice), entry.facts());
                self.worker.shared.cache.store.insert(Arc::new(slice));
            }
            let passed = run.first().saturating_sub(start).min(data.len() as u64);
            let passed = usize::try_from(passed).unwrap_or(data.len());
            if !run.push(data.slice(passed..), cutter.stored(), cutter.cutting()) {
                return RunEnd::Stopped;
            }
            if cutter.position > run.last() {
                return RunEnd::Complete;
            }
            if cut_off && self.met(cutter.position) {
                return RunEnd::Stopped;
            }
            let room = tokio::time::timeout(STALL, poll_fn(|cx| run.poll_room(cx))).await;
            match room {
                Ok(Ok(())) => {}
                // The part of the current slice that has arrived is worth the rest of it, if that is stored. It ends
                // with the first piece of the next one: pieces seldom end where slices do.
                Ok(Err(NobodyReads)) if !cutter.between() && !cut_off => {}
                Ok(Err(NobodyReads)) | Err(_) => return RunEnd::Stopped,
            }
        }
    }

    /// True if a long stretch of the bytes that come next is stored already, because readers that jumped ahead had it
    /// fetched: it is cheaper to request the bytes behind it than to fetch it again.
    fn met(&self, position: u64) -> bool {
        let size = self.cut.size.max(1);
        let next = position / size;
        let last = next.saturating_add(MOST_SLICES - 1);
        let store = &self.worker.shared.cache.store;
        last <= self.run.last() / size
            && (next..=last).all(|index| is_stored(store, &self.entry, self.cut, index))
    }
}
