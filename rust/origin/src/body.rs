//! Bodies of responses from an origin.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_account::Hold;
use edgerouter_core::{boxed, http::framing::BodyFraming, origin::unanswered::FetchError};
use http_body::{Body, Frame, SizeHint};
use tokio::{net::TcpStream, time::Instant};

use super::{
    connection::{BrokenContent, OriginConnection},
    pool::Connected,
};

/// A response's body. It drives its connection while it is read, and gives it back to the pool at its end; dropped
/// before, it closes the connection.
pub struct UpstreamBody {
    /// `None`: the rest of it is held.
    connected: Option<Connected>,
    between: Duration,
    total: Option<(Instant, Duration)>,
    /// The end of the wait for more, where nothing comes.
    deadline: Option<Instant>,
    /// Frames taken in before the first read: the first, and those behind it.
    first: Option<Frame<Bytes>>,
    held: VecDeque<Frame<Bytes>>,
    /// The length was known from the head, or the end was reached: nobody can rely on it before.
    is_counted: bool,
    /// There is content that is not passed on.
    dropped: bool,
    /// The request's part of the account.
    hold: Option<Hold>,
    received: Received,
}

/// Gets the bytes of a body that is over, and why it broke off if that was the origin's fault.
type ReportBody = dyn FnOnce(u64, Option<&FetchError>);

/// Counts the bytes of a body, and reports them when it is over.
#[derive(Default)]
struct Received {
    bytes: u64,
    /// Why it broke off, if that was the origin's fault.
    fault: Option<Box<FetchError>>,
    report: Option<Box<ReportBody>>,
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(self.bytes, self.fault.as_deref());
        }
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl UpstreamBody {
    /// No content.
    pub(super) fn empty() -> Box<Self> {
        Self::of(None, true, Duration::ZERO, None)
    }

    /// Boxed, as it is passed on from room to room.
    fn of(
        connected: Option<Connected>,
        is_counted: bool,
        between: Duration,
        total: Option<(Instant, Duration)>,
    ) -> Box<Self> {
        boxed!(Self {
            connected,
            between,
            total,
            deadline: None,
            first: None,
            held: VecDeque::new(),
            is_counted,
            dropped: false,
            hold: None,
            received: Received::default(),
        })
    }

    /// The content of the response whose head was read. One that came whole needs its connection no more.
    pub(super) fn new(
        connected: Connected,
        framing: BodyFraming,
        between: Duration,
        total: Option<(Instant, Duration)>,
    ) -> Box<Self> {
        let is_counted = matches!(framing, BodyFraming::None | BodyFraming::Length(_));
        let mut body = Self::of(Some(connected), is_counted, between, total);
        while body.is_here()
            && let Poll::Ready(Some(Ok(frame))) =
                body.poll_incoming(&mut Context::from_waker(Waker::noop()))
        {
            body.put(frame);
        }
        body
    }

    /// True if nothing more has to be read from the connection.
    fn is_here(&self) -> bool {
        self.connected
            .as_ref()
            .is_some_and(|connected| connected.connection.is_here())
    }

    /// True if content that was read has not been taken.
    fn is_held(&self) -> bool {
        self.first.is_some() || !self.held.is_empty()
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        if self.first.is_none() && self.held.is_empty() {
            self.first = Some(frame);
        } else {
            self.held.push_back(frame);
        }
    }

    /// Length of the content that is still to come, if it is known.
    fn coming(&self) -> Option<u64> {
        let left = |connected: &Connected| connected.connection.content_left();
        self.is_counted
            .then(|| self.connected.as_ref().map_or(Some(0), left))
            .flatten()
    }

    /// Takes in a body of at most `most` bytes before its response is passed on, for at most `patience`. `Err` when
    /// it breaks off meanwhile: then another origin may still answer.
    pub async fn hold(&mut self, most: u64, patience: Duration) -> Result<(), FetchError> {
        match self.coming() {
            Some(length) if length > 0 && length <= most => {}
            _ => return Ok(()),
        }
        let whole = async {
            while let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await {
                self.put(frame?);
            }
            Ok(())
        };
        tokio::pin!(whole);
        // It came with the head more often than not: then no timer is needed.
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(whole.as_mut().poll(cx))).await {
            return done;
        }
        tokio::time::timeout(patience, whole)
            .await
            .unwrap_or(Ok(()))
    }

    /// Keeps a part of the account for as long as the body comes.
    pub fn keep(&mut self, hold: Hold) {
        if self.connected.is_some() {
            self.hold = Some(hold);
        }
    }

    /// Has the bytes that came reported when the body is over, or dropped; and whether it broke off by the origin's
    /// fault.
    pub fn report(&mut self, report: impl FnOnce(u64, Option<&FetchError>) + 'static) {
        self.received.report = Some(Box::new(report));
    }

    /// Reads the content and drops it, so that the connection can be used again; past `most` bytes, or when more takes
    /// too long, the connection is closed.
    pub(super) async fn drop_content(&mut self, most: u64) {
        let patience = self.between;
        let _ = tokio::time::timeout(patience, self.read_away(most)).await;
        self.connected = None;
        self.dropped = true;
    }

    async fn read_away(&mut self, most: u64) {
        let mut left = most;
        while let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await {
            let length = frame.map_or(u64::MAX, |frame| {
                frame.data_ref().map_or(0, |data| data.len() as u64)
            });
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn name(&self) -> String {
        self.connected
            .as_ref()
            .map_or_else(String::new, |connected| connected.name().to_string())
    }

    fn give_back(&mut self) {
        if let Some(connected) = self.connected.take() {
            connected.give_back();
        }
        self.hold = None;
    }

    /// True if the kernel can move the next content.
    pub fn moves(&self) -> bool {
        let moves = |connected: &Connected| connected.connection.moves();
        !self.dropped && !self.is_held() && self.connected.as_ref().is_some_and(moves)
    }

    /// Has `take` move content out of the origin's socket, so many bytes at most, as soon as there is some: its number
    /// of bytes.
    pub fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&TcpStream, &mut Context<'_>, usize) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, FetchError>> {
        self.poll_part(cx, |connection, cx| {
            let moved = connection.poll_moved(cx, take);
            moved.map_ok(|count| (count as u64, count))
        })
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        if self.connected.is_none() {
            return Poll::Ready(None);
        }
        let part = self.poll_part(cx, |connection, cx| {
            let frame = connection.poll_content(cx);
            frame.map_ok(|frame| {
                let data = frame.as_ref().and_then(Frame::data_ref);
                (data.map_or(0, |data| data.len() as u64), frame)
            })
        });
        part.map(Result::transpose)
    }

    /// The next part of the content, as `next` takes it from the connection with its number of bytes.
    fn poll_part<P>(
        &mut self,
        cx: &mut Context<'_>,
        next: impl FnOnce(
            &mut OriginConnection,
            &mut Context<'_>,
        ) -> Poll<Result<(u64, P), BrokenContent>>,
    ) -> Poll<Result<P, FetchError>> {
        let Some(connected) = &mut self.connected else {
            let gone = "its connection is gone".to_owned();
            return Poll::Ready(Err(FetchError::BodyAborted(self.name(), gone)));
        };
        let (error, is_fault) = match next(&mut connected.connection, cx) {
            Poll::Ready(Ok((bytes, part))) => {
                self.deadline = None;
                self.received.bytes += bytes;
                if connected.connection.is_over() {
                    self.give_back();
                }
                return Poll::Ready(Ok(part));
            }
            Poll::Ready(Err(BrokenContent::Response(why))) => {
                let is_fault = !connected.connection.awaits_client();
                (FetchError::BodyAborted(self.name(), why), is_fault)
            }
            Poll::Ready(Err(BrokenContent::Request(why))) => {
                (FetchError::RequestBody(why.to_string()), false)
            }
            Poll::Pending => match self.timed_out(cx) {
                Some(timed_out) => timed_out,
                None => return Poll::Pending,
            },
        };
        self.connected = None;
        self.received.fault = is_fault.then(|| Box::new(error.clone()));
        Poll::Ready(Err(error))
    }

    /// The limit of time that is over, and whether that is the origin's fault.
    fn timed_out(&mut self, cx: &mut Context<'_>) -> Option<(FetchError, bool)> {
        let (between, total) = (self.between, self.total);
        let connection = &mut self.connected.as_mut()?.connection;
        if connection.awaits_client() {
            // The origin may need the rest of the request for the rest of its response: its time begins again then.
            self.deadline = None;
            let (end, limit) = total?;
            let is_over = connection.poll_until(end, cx).is_ready();
            return is_over.then(|| (FetchError::TotalTimeout(self.name(), limit), false));
        }
        let was_awaited = self.deadline.is_some();
        let deadline = *self.deadline.get_or_insert_with(|| {
            let next = Instant::now() + between;
            total.map_or(next, |(end, _)| end.min(next))
        });
        if connection.poll_until(deadline, cx).is_pending() {
            return None;
        }
        Some(match total {
            // Otherwise the client has used up the time: it took the response slowly.
            Some((end, limit)) if Instant::now() >= end => {
                (FetchError::TotalTimeout(self.name(), limit), was_awaited)
            }
            _ => (FetchError::BetweenBytesTimeout(self.name(), between), true),
        })
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        if self.dropped {
            return Poll::Ready(None);
        }
        match self.first.take().or_else(|| self.held.pop_front()) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => {
                let polled = self.poll_incoming(cx);
                self.is_counted |= matches!(polled, Poll::Ready(None));
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = |connected: &Connected| connected.connection.is_over();
        self.dropped
            || self.is_counted && !self.is_held() && self.connected.as_ref().is_none_or(is_over)
    }

    fn size_hint(&self) -> SizeHint {
        if self.dropped {
            return SizeHint::with_exact(0);
        }
        let frames = self.first.iter().chain(&self.held);
        let held: usize = frames.filter_map(Frame::data_ref).map(Bytes::len).sum();
        let held = held as u64;
        match self.coming() {
            Some(coming) => SizeHint::with_exact(held.saturating_add(coming)),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(held);
                hint
            }
        }
    }
}
