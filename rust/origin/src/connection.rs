//! HTTP/1.1 on one connection to an origin: a loop around the codec of `core::http`, which knows the bytes.
//!
//! A request is written and its response read at the same time, because an origin may respond before it has got all of
//! the request. The request that waits for the response drives both: a connection has no task of its own and needs no
//! lock.

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use edgerouter_core::http::{FieldName, Fields};
use edgerouter_core::{
    admit,
    http::{
        framing::{
            FramingContext,
            head::{BadResponse, HeadLimits, OriginHead},
            reader::{ArrivedHead, Expected, ResponseReader},
        },
        h1::{
            outgoing::Outgoing,
            write::{self, ContentWriter},
        },
    },
};
use http::{Method, StatusCode, Version};
use http_body::Frame;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{
    connect::OriginStream,
    request_body::{BoxError, RequestBody, RequestStream},
    space::Space,
    tls,
    upgraded::Upgraded,
};

/// Bytes of a request that are taken from its body ahead of the socket.
const MOST_AHEAD: usize = 64 << 10;

/// Content that is read at a stretch. A fast origin would leave the worker no time for its clients otherwise: it looks
/// for what has happened on its sockets only every so many turns of its tasks.
const MOST_AT_A_STRETCH: usize = 256 << 10;

/// Content that is still to come from this length on is moved by the kernel: less is copied faster.
const LEAST_MOVED: u64 = 16 << 10;

/// A connection to an origin, between requests or in one.
pub(super) struct OriginConnection {
    stream: OriginStream,
    /// The right to be one of `max_connections`.
    _permit: OwnedSemaphorePermit,
    output: Outgoing,
    /// Written bytes may still wait in the stream.
    is_unflushed: bool,
    /// Content of the request that is still to come.
    sending: Option<Sending>,
    /// A byte of the request was written.
    is_sent: bool,
    /// The request waits, or has waited, for a 100 that the client is not to see: the edge sends it one of its own.
    is_gated: bool,
    reader: ResponseReader,
    /// An incomplete head.
    held: BytesMut,
    /// Content that came with the head.
    first: Bytes,
    /// Bytes of content read since the reader last waited.
    stretch: usize,
    trailers: Option<Box<Fields>>,
    /// No further request may be sent.
    is_spent: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for OriginConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConnection")
            .field("expected", &self.reader.expected())
            .field("is_spent", &self.is_spent)
            .finish_non_exhaustive()
    }
}

/// Content of a request that is read while it is sent.
struct Sending {
    stream: RequestStream,
    framing: ContentWriter,
    /// The trailers that may be sent.
    trailers: Vec<FieldName>,
    /// The content waits for the origin's 100, or for so long (RFC 9110 §10.1.1).
    gate: Option<Pin<Box<Sleep>>>,
}

/// A request as it is written.
pub(super) struct OutboundRequest<'r> {
    pub(super) method: &'r Method,
    pub(super) target: &'r str,
    pub(super) headers: &'r Fields,
    pub(super) body: RequestBody,
    /// The trailers that may be sent.
    pub(super) trailers: Vec<FieldName>,
    /// The end of the wait for a 100; `None`: the request has no expectation.
    pub(super) gate: Option<Instant>,
    pub(super) is_upgrade: bool,
}

/// Receives the interim responses to a request on its worker, before the final response is there.
#[derive(Clone, Copy)]
pub struct HearInterims<'h>(pub &'h dyn Fn(StatusCode, Version, Fields));

impl std::fmt::Debug for HearInterims<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HearInterims")
    }
}

/// Has the kernel take content out of a socket: its number of bytes. An error that says so if there is none yet.
pub type MoveContent<'t> = dyn FnMut(BorrowedFd<'_>, usize) -> io::Result<usize> + 't;

/// The reason why a connection brings no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// It was closed.
    Closed,
    /// The origin ended it by an alert of TLS.
    Tls(String),
    /// The origin sent something else.
    Bad(BadResponse),
    /// The request's content broke off.
    Request(BoxError),
}

impl OriginConnection {
    pub(super) fn new(stream: OriginStream, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            _permit: permit,
            output: Outgoing::default(),
            is_unflushed: false,
            sending: None,
            is_sent: false,
            is_gated: false,
            reader: ResponseReader::default(),
            held: BytesMut::new(),
            first: Bytes::new(),
            stretch: 0,
            trailers: None,
            is_spent: false,
            timer: None,
        }
    }

    /// Begins a request; the one before is over. Nothing is written before the response is waited for.
    pub(super) fn begin(&mut self, request: OutboundRequest<'_>, limits: HeadLimits) {
        let awaited = FramingContext {
            head: *request.method == Method::HEAD,
            upgrade: request.is_upgrade,
        };
        self.reader.begin_response(awaited, limits);
        self.is_sent = false;
        self.is_gated = request.gate.is_some();
        let mut framing = write::request(
            &mut self.output.text,
            request.method,
            request.target,
            request.headers,
            request.body.content(),
        );
        match request.body {
            RequestBody::Empty => {}
            RequestBody::Full(content) => self.output.put(&mut framing, content),
            RequestBody::Stream(stream) if framing != ContentWriter::None => {
                let gate = |until| Box::pin(tokio::time::sleep_until(until));
                self.sending = Some(Sending {
                    stream,
                    framing,
                    trailers: request.trailers,
                    gate: request.gate.map(gate),
                });
            }
            RequestBody::Stream(_) => {}
        }
    }

    /// True if the request may have reached the origin.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// True if neither bytes nor the end have come since the last response: they would be taken for the next one.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let mut early = ReadBuf::new(&mut byte);
        Pin::new(&mut self.stream)
            .poll_read(cx, &mut early)
            .is_pending()
    }

    /// True if the rest of the response has been read from the stream.
    pub(super) fn is_here(&self) -> bool {
        self.reader.expected() == Expected::Nothing
    }

    /// True if the response has ended and all of it was taken.
    pub(super) fn is_over(&self) -> bool {
        self.is_here() && self.first.is_empty() && self.trailers.is_none()
    }

    /// True if another request may be sent: the response has ended where it said, and the request went out whole (RFC
    /// 9112 §9.3, §9.5).
    pub(super) fn is_reusable(&self) -> bool {
        let is_written = self.output.is_empty() && !self.is_unflushed && self.sending.is_none();
        !self.is_spent && is_written && self.is_here()
    }

    /// True once the last response has ended and the connection has nothing to say: to be called while it is idle.
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_quiet(&mut Context::from_waker(Waker::noop()))
    }

    /// Length of the content that has not been taken; `None` if it is unknown.
    pub(super) fn content_left(&self) -> Option<u64> {
        let first = self.first.len() as u64;
        match self.reader.expected() {
            Expected::Length(left) => Some(first.saturating_add(left)),
            Expected::Nothing if self.trailers.is_none() => Some(first),
            _ => None,
        }
    }

    /// Waits for a point in time. One timer serves all waits of a connection, since moving it costs less than arming
    /// one.
    pub(super) fn poll_until(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        // Also while bytes without an end use up the task's budget.
        pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx)
    }

    /// The connection for another protocol, after a 101.
    pub(super) fn upgrade(self) -> Box<Upgraded> {
        Box::new(Upgraded {
            stream: self.stream,
            early: self.first,
        })
    }

    /// Sends the request and waits for the final head. Interim responses go to `interims` as they come.
    pub(super) fn poll_head(
        &mut self,
        interims: Option<HearInterims<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<OriginHead, NoResponse>> {
        if !self.is_sent && !self.is_quiet(cx) {
            return Poll::Ready(Err(NoResponse::Closed));
        }
        self.send(cx).map_err(NoResponse::Request)?;
        if !self.is_sent {
            return if self.is_spent {
                Poll::Ready(Err(NoResponse::Closed))
            } else {
                Poll::Pending
            };
        }
        loop {
            let mut space = Space::of(None);
            match ready!(space.poll_read(&mut self.stream, cx)) {
                Ok(0) => return Poll::Ready(Err(NoResponse::Closed)),
                Err(error) => {
                    let why = tls::refused(&error).map_or(NoResponse::Closed, NoResponse::Tls);
                    return Poll::Ready(Err(why));
                }
                Ok(_) => {}
            }
            if !self.held.is_empty() {
                space = Space::joined(std::mem::take(&mut self.held), &space);
            }
            if let Some(head) = self.take_heads(space, interims).map_err(NoResponse::Bad)? {
                return Poll::Ready(Ok(head));
            }
            // A 100 may have let the content go.
            self.send(cx).map_err(NoResponse::Request)?;
        }
    }

    /// Reads heads up to the final one, and the content behind it. `None` while that has not come whole.
    fn take_heads(
        &mut self,
        mut space: Space,
        interims: Option<HearInterims<'_>>,
    ) -> Result<Option<OriginHead>, BadResponse> {
        let mut at = 0;
        loop {
            let Some((length, head)) = self.reader.head(space.from(at))? else {
                self.held = space.keep(at);
                return Ok(None);
            };
            at += length;
            match head {
                ArrivedHead::Final(head) => {
                    self.is_spent |= !head.framing.reusable;
                    self.first = self.take_content(space, at)?;
                    return Ok(Some(head));
                }
                // The edge has requested this one, and the client gets one when its content is read. Any other is
                // passed on (RFC 9110 §15.2).
                ArrivedHead::Interim(head)
                    if head.status == StatusCode::CONTINUE && self.is_gated =>
                {
                    if let Some(sending) = &mut self.sending {
                        sending.gate = None;
                    }
                }
                ArrivedHead::Interim(head) => {
                    if let Some(HearInterims(hear)) = interims {
                        hear(head.status, head.version, head.headers);
                    }
                }
            }
        }
    }

    /// Content of the response in what was read, from `at` on. What follows its end is no response to any request: the
    /// connection is not used again (RFC 9112 §9.2).
    fn take_content(&mut self, mut space: Space, at: usize) -> Result<Bytes, BadResponse> {
        let bytes = space.from(at);
        let piece = self.reader.content(bytes)?;
        self.is_spent |= piece.consumed < bytes.len();
        if piece.is_last {
            self.trailers = self.reader.take_trailers();
        }
        Ok(if piece.data.is_empty() {
            Bytes::new()
        } else {
            space.piece(at + piece.data.start..at + piece.data.end)
        })
    }

    /// Content of the response, then its trailers; `None` at the end. An error says how it broke off.
    pub(super) fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, String>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Poll::Ready(Ok(Some(Frame::data(first))));
        }
        self.send(cx).map_err(|error| error.to_string())?;
        loop {
            let length = match self.reader.expected() {
                Expected::Length(left) => Some(left),
                Expected::Unknown => None,
                Expected::Head | Expected::Nothing => {
                    let trailers = self.trailers.take().map(|mut trailers| {
                        admit::late(&mut trailers);
                        Frame::trailers((*trailers).into())
                    });
                    return Poll::Ready(Ok(trailers));
                }
            };
            if self.stretch >= MOST_AT_A_STRETCH {
                self.stretch = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut space = Space::of(length);
            let Poll::Ready(read) = space.poll_read(&mut self.stream, cx) else {
                self.stretch = 0;
                return Poll::Pending;
            };
            if read.map_err(|error| error.to_string())? == 0 {
                return Poll::Ready(if self.reader.close() {
                    Ok(None)
                } else {
                    Err("the connection ended".to_owned())
                });
            }
            let piece = self.take_content(space, 0);
            let piece = piece.map_err(|bad| bad.to_string())?;
            if !piece.is_empty() {
                self.stretch += piece.len();
                return Poll::Ready(Ok(Some(Frame::data(piece))));
            }
        }
    }

    /// True if the kernel can move the next content: the bytes of the socket are those of the content, up to its end.
    pub(super) fn moves(&self) -> bool {
        let is_written = self.output.is_empty() && !self.is_unflushed && self.sending.is_none();
        let is_long = matches!(self.reader.expected(), Expected::Length(LEAST_MOVED..));
        is_long && is_written && self.first.is_empty() && self.stream.is_plain()
    }

    /// Has `take` move content of the response, as soon as there is some. An error says how it broke off.
    pub(super) fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut MoveContent<'_>,
    ) -> Poll<Result<usize, String>> {
        let left = match self.reader.expected() {
            Expected::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 0,
        };
        let moved = self.stream.poll_moved(cx, &mut |socket| take(socket, left));
        Poll::Ready(match ready!(moved) {
            Ok(0) => Err("the connection ended".to_owned()),
            Ok(count) => {
                self.reader.moved(count as u64);
                Ok(count)
            }
            Err(error) => Err(error.to_string()),
        })
    }

    /// Writes as much of the request as can be written now. `Err` when its content breaks off.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        loop {
            // Content is taken when that before it has left: an origin that reads none stops the client.
            if self.output.is_empty() || !self.is_sent {
                self.take_request_content(cx)?;
            }
            if self.output.is_empty() {
                if self.is_unflushed {
                    match Pin::new(&mut self.stream).poll_flush(cx) {
                        Poll::Ready(Ok(())) => self.is_unflushed = false,
                        Poll::Ready(Err(_)) => self.stop_sending(),
                        Poll::Pending => {}
                    }
                }
                return Ok(());
            }
            let stream = Pin::new(&mut self.stream);
            let written = self.output.poll_write(|slices| match slices {
                [text] => stream.poll_write(cx, text),
                slices => stream.poll_write_vectored(cx, slices),
            });
            match written {
                Poll::Ready(Ok(_)) => {
                    self.is_sent = true;
                    self.is_unflushed = true;
                }
                Poll::Ready(Err(error)) => {
                    self.is_sent |= is_closed(&error);
                    self.stop_sending();
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// An origin that responds early closes the connection while it is still being sent to, and its response waits to
    /// be read: a write that fails is for the next read to judge (RFC 9112 §9.5).
    fn stop_sending(&mut self) {
        self.is_spent = true;
        self.is_unflushed = false;
        self.sending = None;
        self.output = Outgoing::default();
    }

    /// Moves content of the request, as far as it has come, to the output.
    fn take_request_content(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        if let Some(gate) = &mut sending.gate {
            if gate.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            sending.gate = None;
        }
        while self.output.len() < MOST_AHEAD {
            let is_writing = !self.output.is_empty();
            let Poll::Ready(frame) = sending.stream.poll(is_writing, cx) else {
                return Ok(());
            };
            let mut trailers = None;
            match frame.transpose()?.map(Frame::into_data) {
                None => {}
                Some(Ok(data)) => {
                    self.output.put(&mut sending.framing, data);
                    if !sending.stream.is_over() {
                        continue;
                    }
                }
                Some(Err(frame)) => {
                    trailers = frame.into_trailers().ok().as_ref().map(Fields::from);
                }
            }
            let is_whole =
                self.output
                    .finish(sending.framing, trailers.as_ref(), &sending.trailers);
            self.sending = None;
            if !is_whole {
                return Err("it is shorter than its length".into());
            }
            return Ok(());
        }
        Ok(())
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}
