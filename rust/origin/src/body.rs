//! Bodies to and from an origin.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::admit;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{pool::Connected, responses::Responses};
use edgerouter_account::Hold;
use edgerouter_core::origin::unanswered::FetchError;

/// Boxed errors as hyper takes them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body. Attempts in turn, or beside each other where it can be sent again, hold the same.
#[derive(Clone)]
pub enum RequestBody {
    Empty,
    /// Can be sent again.
    Full(Bytes),
    Stream(RequestStream),
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full(…)",
            Self::Stream(_) => "Stream(…)",
        })
    }
}

impl RequestBody {
    pub fn stream(body: impl Body<Data = Bytes, Error = BoxError> + 'static) -> Self {
        Self::Stream(RequestStream(Rc::new(Streaming {
            body: RefCell::new(Box::pin(body)),
            turn: Cell::new(Turn::Origin(Instant::now())),
            fault: RefCell::new(None),
        })))
    }

    /// Whether it can be sent any number of times.
    pub fn replayable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }
}

/// A request's body that is read from the client while it is sent.
#[derive(Clone)]
pub struct RequestStream(Rc<Streaming>);

impl std::fmt::Debug for RequestStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RequestStream").field(&self.turn()).finish()
    }
}

struct Streaming {
    body: RefCell<Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>>,
    turn: Cell<Turn>,
    /// Why it broke off, which hyper's error does not tell.
    fault: RefCell<Option<String>>,
}

/// Whose turn it is while a request is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more has come from the client: its own time-out runs, and nobody else's.
    Client,
    /// The origin has had a piece to take since then.
    Origin(Instant),
    /// The request was sent whole at that time (RFC 9110 §15.6.5: only now the origin can be late).
    Whole(Instant),
}

impl RequestStream {
    pub fn turn(&self) -> Turn {
        self.0.turn.get()
    }

    /// Why the client's request broke off, if it did.
    pub(super) fn fault(&self) -> Option<String> {
        self.0.fault.borrow_mut().take()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = self.0.body.borrow_mut();
        let polled = body.as_mut().poll_frame(cx);
        self.0.turn.set(match &polled {
            Poll::Pending => Turn::Client,
            Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => Turn::Origin(Instant::now()),
            Poll::Ready(_) => Turn::Whole(Instant::now()),
        });
        if let Poll::Ready(Some(Err(error))) = &polled {
            *self.0.fault.borrow_mut() = Some(error.to_string());
        }
        polled
    }
}

/// A request's body as hyper takes it.
pub(super) struct Outbound {
    pub(super) body: RequestBody,
    /// The trailers that may be sent.
    pub(super) trailers: Vec<HeaderName>,
    /// What has to happen before the content is read.
    pub(super) gate: Option<Gate>,
}

/// The content of a request with `Expect: 100-continue` waits for the origin's 100, or for so long (RFC 9110 §10.1.1).
pub(super) struct Gate {
    pub(super) responses: Responses,
    pub(super) timer: Pin<Box<Sleep>>,
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(gate) = &mut this.gate {
            // The connection is driven by the same task: the 100 has been read when this is polled after it.
            if !gate.responses.continued() {
                ready!(gate.timer.as_mut().poll(cx));
            }
            this.gate = None;
        }
        match &mut this.body {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Full(_) => match std::mem::replace(&mut this.body, RequestBody::Empty) {
                RequestBody::Full(bytes) if !bytes.is_empty() => {
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                _ => Poll::Ready(None),
            },
            RequestBody::Stream(stream) => {
                stream.poll(cx).map_ok(|frame| match frame.into_trailers() {
                    Ok(mut trailers) => {
                        admit::keep_only(&mut trailers, &this.trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            RequestBody::Empty => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(stream) => stream.0.body.borrow().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Stream(stream) => stream.0.body.borrow().size_hint(),
        }
    }
}

/// A response's body. It drives its connection while it is read, and gives it back to the pool at its end; dropped
/// before, the connection goes with it.
pub struct UpstreamBody {
    /// `None`: all of it is held.
    incoming: Option<Incoming>,
    connected: Option<Connected>,
    between: Duration,
    total: Option<(Instant, Duration)>,
    /// Armed only while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
    /// What was taken in before anybody read.
    held: VecDeque<Frame<Bytes>>,
    /// There is content that is not passed on.
    dropped: bool,
    /// What the request takes of the account.
    hold: Option<Hold>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        connected: Option<Connected>,
        between: Duration,
        total: Option<(Instant, Duration)>,
    ) -> Self {
        let is_over = incoming.is_end_stream();
        let mut body = Self {
            incoming: Some(incoming),
            connected,
            between,
            total,
            timer: None,
            held: VecDeque::new(),
            dropped: false,
            hold: None,
        };
        if is_over {
            body.give_back();
        }
        body
    }

    /// A body that has come whole.
    pub(super) fn whole(content: Bytes) -> Self {
        let frame = (!content.is_empty()).then(|| Frame::data(content));
        Self {
            incoming: None,
            connected: None,
            between: Duration::ZERO,
            total: None,
            timer: None,
            held: frame.into_iter().collect(),
            dropped: false,
            hold: None,
        }
    }

    /// What is still to come.
    fn coming(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }

    /// Takes in a body of at most `most` bytes before anybody is told of its response, for at most `patience`. `Err` when
    /// it breaks off meanwhile: then another origin may still answer.
    pub async fn hold(&mut self, most: u64, patience: Duration) -> Result<(), FetchError> {
        match self.coming().exact() {
            Some(length) if length > 0 && length <= most => {}
            _ => return Ok(()),
        }
        let whole = async {
            while let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await {
                self.held.push_back(frame?);
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

    /// Reads the content and drops it, so that the connection can be used again; past `most` bytes, or when more takes too
    /// long, the connection goes.
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

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        for turn in 0..2 {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(None);
            };
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(mut frame))) => {
                    self.timer = None;
                    if let Some(trailers) = frame.trailers_mut() {
                        admit::late(trailers);
                    }
                    if incoming.is_end_stream() {
                        self.give_back();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    self.give_back();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = FetchError::BodyAborted(self.name(), error.to_string());
                    self.connected = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending if turn == 0 => {
                    if let Some(connected) = &mut self.connected {
                        connected.drive(cx);
                    }
                }
                Poll::Pending => {}
            }
        }
        match self.timed_out(cx) {
            Some(error) => {
                self.connected = None;
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Pending,
        }
    }

    fn timed_out(&mut self, cx: &mut Context<'_>) -> Option<FetchError> {
        let between = self.between;
        let total = self.total;
        let timer = self.timer.get_or_insert_with(|| {
            let next = Instant::now() + between;
            let until = total.map_or(next, |(end, _)| end.min(next));
            Box::pin(tokio::time::sleep_until(until))
        });
        if timer.as_mut().poll(cx).is_pending() {
            return None;
        }
        match self.total {
            Some((end, limit)) if Instant::now() >= end => {
                Some(FetchError::TotalTimeout(self.name(), limit))
            }
            _ => Some(FetchError::BetweenBytesTimeout(self.name(), self.between)),
        }
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
        match self.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_incoming(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = || self.incoming.as_ref().is_none_or(Body::is_end_stream);
        self.dropped || self.held.is_empty() && is_over()
    }

    fn size_hint(&self) -> SizeHint {
        if self.dropped {
            return SizeHint::with_exact(0);
        }
        let mut hint = self.coming();
        let held: usize = self
            .held
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum();
        let held = held as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(hint.lower().saturating_add(held));
        hint
    }
}
