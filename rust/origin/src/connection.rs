//! HTTP/1.1 on one connection to an origin: a loop around the codec of `core::http`, which knows the bytes.
//!
//! A request is written and its response read at the same time, because an origin may respond before it has got all of
//! the request. The request that waits for the response drives both: a connection has no task of its own and needs no
//! lock.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    admit,
    http::{
        Fields,
        framing::{
            FramingContext,
            head::{BadResponse, HeadLimits, OriginHead},
            reader::{ArrivedHead, Expected, ResponseReader},
        },
    },
};
use http::{Method, StatusCode, Version};
use http_body::Frame;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{
    connect::{Dialled, OriginStream},
    request_body::BoxError,
    request_writer::{OutboundRequest, RequestWriter},
    space::Space,
    tls,
    upgraded::Upgraded,
};

/// Content that is read at a stretch. A fast origin would leave the worker no time for its clients otherwise: it looks
/// for what has happened on its sockets only every so many turns of its tasks.
const MOST_AT_A_STRETCH: usize = 256 << 10;

/// Content that is still to come from this length on is moved by the kernel: less is copied faster.
const LEAST_MOVED: u64 = 16 << 10;

/// A connection to an origin, between requests or in one.
pub(super) struct OriginConnection {
    stream: OriginStream,
    /// `None`: a unix socket.
    address: Option<SocketAddr>,
    /// The right to be one of `max_connections`.
    _permit: OwnedSemaphorePermit,
    writer: RequestWriter,
    reader: ResponseReader,
    /// An incomplete head.
    held: BytesMut,
    /// Content that came with the head.
    first: Bytes,
    /// Bytes of content, and of what frames it, that were read since the reader last waited.
    stretch: usize,
    trailers: Option<Box<Fields>>,
    /// A response says, or shows, that none may follow it.
    is_spent: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for OriginConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConnection")
            .field("expected", &self.reader.expected())
            .field("is_spent", &self.is_spent())
            .finish_non_exhaustive()
    }
}

/// Receives the interim responses to a request on its worker, before the final response is there.
#[derive(Clone, Copy)]
pub struct HearInterims<'h>(pub &'h dyn Fn(StatusCode, Version, Fields));

impl std::fmt::Debug for HearInterims<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HearInterims")
    }
}

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

/// Why the content of a response goes no further.
#[derive(Debug)]
pub(super) enum BrokenContent {
    /// The origin closed, or sent bytes that are no content.
    Response(String),
    /// The request's content broke off, which was still being sent.
    Request(BoxError),
}

impl OriginConnection {
    pub(super) fn new(dialled: Dialled, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream: dialled.stream,
            address: dialled.address,
            _permit: permit,
            writer: RequestWriter::default(),
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
        self.writer.begin(request);
    }

    /// The address that it leads to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// True if the request may have reached the origin.
    pub(super) fn is_sent(&self) -> bool {
        self.writer.is_sent()
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
        !self.is_spent() && self.writer.is_done() && self.is_here()
    }

    /// True if no further request may be sent.
    fn is_spent(&self) -> bool {
        self.is_spent || self.writer.is_broken()
    }

    /// True once the last response has ended and the connection has nothing to say: to be called while it is idle.
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_quiet(&mut Context::from_waker(Waker::noop()))
    }

    /// True if the rest of the request is waited for: the origin may wait for it as well.
    pub(super) fn awaits_client(&self) -> bool {
        self.writer.awaits_client()
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
        if !self.is_sent() && !self.is_quiet(cx) {
            return Poll::Ready(Err(NoResponse::Closed));
        }
        self.send(cx).map_err(NoResponse::Request)?;
        if !self.is_sent() {
            return if self.is_spent() {
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

    /// Writes as much of the request as can be written now. `Err` when its content breaks off.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        self.writer.send(&mut self.stream, cx)
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
                    if head.status == StatusCode::CONTINUE && self.writer.is_gated() =>
                {
                    self.writer.open_gate();
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
    ) -> Poll<Result<Option<Frame<Bytes>>, BrokenContent>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Poll::Ready(Ok(Some(Frame::data(first))));
        }
        self.send(cx).map_err(BrokenContent::Request)?;
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
            let broken = |why: String| BrokenContent::Response(why);
            let read = read.map_err(|error| broken(error.to_string()))?;
            if read == 0 {
                return Poll::Ready(if self.reader.close() {
                    Ok(None)
                } else {
                    Err(broken("the connection ended".to_owned()))
                });
            }
            let piece = self.take_content(space, 0);
            let piece = piece.map_err(|bad| broken(bad.to_string()))?;
            self.stretch += read;
            if !piece.is_empty() {
                return Poll::Ready(Ok(Some(Frame::data(piece))));
            }
        }
    }

    /// True if the kernel can move the next content: the bytes of the socket are those of the content, up to its end.
    pub(super) fn moves(&self) -> bool {
        let is_long = matches!(self.reader.expected(), Expected::Length(LEAST_MOVED..));
        is_long && self.writer.is_done() && self.first.is_empty() && self.stream.bare().is_some()
    }

    /// Has `take` move content of the response out of the socket, so many bytes at most, as soon as there is some. An
    /// error says how it broke off.
    pub(super) fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&TcpStream, &mut Context<'_>, usize) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, BrokenContent>> {
        let left = match self.reader.expected() {
            Expected::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 0,
        };
        let moved = match self.stream.bare() {
            Some(socket) => ready!(take(socket, cx, left)),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        Poll::Ready(match moved {
            Ok(0) => Err(BrokenContent::Response("the connection ended".to_owned())),
            Ok(count) => {
                self.reader.moved(count as u64);
                Ok(count)
            }
            Err(error) => Err(BrokenContent::Response(error.to_string())),
        })
    }
}
