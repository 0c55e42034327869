//! One request, to the end of its response: a task of its own, which the connection's task gives frames and room.

use std::{
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use edgerouter_core::{
    admit::Refusal,
    http::{
        FieldName, Fields, Response,
        framing::fit::bodiless,
        h1::write,
        h2::{flood::FrameCounter, priority::Priority},
    },
};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, StatusCode, header::Entry};
use http_body::Body;

use super::{
    content::{Content, Taken},
    convert,
    meter::{Meter, OpenStream, StreamFault},
    tunnel::StreamTunnel,
};
use crate::{
    connection::{Arrived, ConnectionOwner, ResponseBody as _, Serving},
    http1::with_date,
    tunnel::{self, Joined},
};

/// Content of one response that the library is given at a time.
const A_TURN: usize = 32 << 10;

/// The end of a response before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// The client has reset the stream, or its connection has ended.
    Gone,
    /// The edge resets it.
    Reset(Reason),
}

/// A request under way.
pub(super) struct Exchange<O> {
    pub(super) owner: Rc<O>,
    pub(super) meter: Rc<Meter>,
    pub(super) open: Rc<OpenStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) content: Option<Content>,
    /// The client waits for a 100.
    pub(super) expects_continue: bool,
    pub(super) is_head: bool,
    /// The stream is to become a tunnel: the client's direction of it.
    pub(super) tunnel: Option<RecvStream>,
    pub(super) priority: Priority,
}

impl<O: ConnectionOwner> Exchange<O> {
    /// Responds to the request.
    pub(super) async fn run(mut self, request: Arrived) {
        let served = self.serve(request).await;
        if let Some(content) = &self.content {
            content.break_off(&self.open);
        }
        let Err(broken) = served else {
            // The response has left.
            if let Some(content) = &mut self.content {
                content.discard(&self.open).await;
            }
            return;
        };
        if let Broken::Reset(reason) = broken {
            self.respond.send_reset(reason);
        }
        self.meter.leave(self.open.id);
    }

    async fn serve(&mut self, request: Arrived) -> Result<(), Broken> {
        let mut serving = Serving::new(&self.owner, Rc::clone(&self.open.stream), request);
        let response = std::future::poll_fn(|cx| {
            self.open.stream.sent_by(cx.waker());
            loop {
                if self.open.is_malformed() {
                    return Poll::Ready(Err(Broken::Reset(Reason::PROTOCOL_ERROR)));
                }
                if let Poll::Ready(response) = Pin::new(&mut serving).poll(cx) {
                    return Poll::Ready(Ok(response));
                }
                let is_gone = match self.meter.is_over() {
                    true => self.open.has_left(),
                    false => self.respond.poll_reset(cx).is_ready(),
                };
                if is_gone {
                    return Poll::Ready(Err(Broken::Gone));
                }
                self.send_interims();
                if self.poll_content(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        let response = response.await?;
        self.send_interims();
        self.open.stream.interims.close();
        if let Some(received) = self.tunnel.take() {
            // Apart: few requests are tunnels, and all others would have the space for one.
            return Box::pin(self.join(received, response)).await;
        }
        let mut sending = self.begin(response)?;
        std::future::poll_fn(|cx| self.poll_send(&mut sending, cx)).await
    }

    /// Joins the stream to the origin's side of an upgrade (RFC 8441 §5).
    async fn join(
        &mut self,
        received: RecvStream,
        response: Response<O::Body>,
    ) -> Result<(), Broken> {
        let status = response.status();
        let Some(upstream) = self.open.stream.take_tunnel() else {
            if !status.is_success() {
                // As in HTTP/1.1, it may lead elsewhere or request credentials (RFC 6455 §4.1).
                let mut sending = self.begin(response)?;
                return std::future::poll_fn(|cx| self.poll_send(&mut sending, cx)).await;
            }
            // A success would be a tunnel.
            let head = head(
                StatusCode::BAD_GATEWAY,
                convert::response(&Fields::new(), None),
            );
            let sent = self.respond.send_response(head, true);
            return sent.map(drop).map_err(|_| Broken::Gone);
        };
        let mut headers = convert::response(response.headers(), None);
        headers.remove("sec-websocket-accept");
        drop(response);
        let sent = self
            .respond
            .send_response(head(StatusCode::OK, headers), false);
        let client = StreamTunnel {
            open: Rc::clone(&self.open),
            received,
            sent: sent.map_err(|_| Broken::Gone)?,
            piece: Bytes::new(),
        };
        let idle = self
            .owner
            .with_plan(|plan, _| plan.limits.http.tunnel_idle_timeout);
        let connection = Rc::clone(&self.open.stream.connection);
        let joined = tunnel::between(connection.peer, client, upstream, &[], idle).await;
        connection.end();
        match joined {
            Joined::Ended => Ok(()),
            Joined::Broken => Err(Broken::Reset(Reason::CANCEL)),
        }
    }

    /// Sends the interim responses that wait, and the one that the client waits for.
    fn send_interims(&mut self) {
        let content = self.content.as_ref();
        if self.expects_continue && content.is_some_and(Content::is_awaited) {
            self.expects_continue = false;
            self.send_interim(StatusCode::CONTINUE, HeaderMap::new());
        }
        for (status, headers) in self.open.stream.interims.take() {
            self.send_interim(status, convert::response(&headers, None));
        }
    }

    fn send_interim(&mut self, status: StatusCode, headers: HeaderMap) {
        // Fails where the stream has ended, which is seen elsewhere.
        let _ = self.respond.send_informational(head(status, headers));
    }

    /// Takes content of the request while somebody waits for it. Ready when some has come, or its end.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(content) = &mut self.content else {
            return Poll::Pending;
        };
        content.poll(&self.open, cx).map(|taken| {
            if taken == Taken::Last {
                self.content = None;
            }
        })
    }

    /// Refuses the rest of the request.
    fn refuse_content(&mut self, refusal: Refusal) {
        self.open.stream.refuse(refusal);
        if let Some(content) = self.content.take() {
            content.break_off(&self.open);
        }
    }

    /// Sends the head of a response.
    fn begin(&mut self, response: Response<O::Body>) -> Result<Sending<O::Body>, Broken> {
        let status = response.status();
        let has_content = !self.is_head && !bodiless(status);
        let known = response.body().size_hint().exact();
        let is_whole = !has_content || response.body().is_end_stream();
        let length = known.filter(|_| has_content);
        let mut headers = convert::response(response.headers(), length);
        if let Entry::Vacant(date) = headers.entry(http::header::DATE) {
            date.insert(with_date(HeaderValue::clone));
        }
        let trailers = (response.body().announces_trailers())
            .then(|| write::announced_trailers(response.headers()));
        self.priority = self.priority.merged(response.headers());
        let declared = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if is_whole && has_content && declared.is_some_and(|length: u64| length > 0) {
            return Err(Broken::Reset(Reason::INTERNAL_ERROR));
        }
        let sent = self.respond.send_response(head(status, headers), is_whole);
        let stream = sent.map_err(|error| {
            tracing::debug!(%error, "the head of a response could not be sent");
            Broken::Reset(Reason::INTERNAL_ERROR)
        })?;
        Ok(Sending {
            stream,
            body: Some(response.into_body()),
            left: declared,
            piece: Bytes::new(),
            has_turn: false,
            has_ended: is_whole,
            is_sent: is_whole,
            announced: trailers,
            trailers: None,
        })
    }

    /// Takes content from the body and sends it as the client leaves room, until the last frame has left.
    fn poll_send(
        &mut self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.open.stream.sent_by(cx.waker());
        loop {
            if sending.is_sent {
                // The account counts the bytes until they are written.
                sending.body = None;
                let is_done = self.open.has_left() || !self.open.stream.queue.is_open();
                if is_done {
                    return Poll::Ready(Ok(()));
                }
            }
            if self.open.is_malformed() {
                return Poll::Ready(Err(Broken::Reset(Reason::PROTOCOL_ERROR)));
            }
            if self.open.stream.queue.is_cut() {
                return Poll::Ready(Err(Broken::Reset(Reason::ENHANCE_YOUR_CALM)));
            }
            if self.meter.is_over() {
                return match self.open.has_left() {
                    true => Poll::Ready(Err(Broken::Gone)),
                    false => Poll::Pending,
                };
            }
            if !sending.is_sent && sending.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Broken::Gone));
            }
            match self.open.take_fault() {
                Some(StreamFault::TakesNothing) => {
                    return Poll::Ready(Err(Broken::Reset(Reason::CANCEL)));
                }
                Some(StreamFault::SendsNothing) => self.refuse_content(Refusal::BodyTooSlow),
                None => {}
            }
            if !sending.is_sent {
                let sent = self.poll_piece(sending, cx)?;
                self.open.awaits_room(sent.is_pending() && sending.has_turn);
                if sent.is_ready() {
                    continue;
                }
            }
            // The response may be made of the request's content.
            if self.poll_content(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Sends what there is room for of the next piece, or the end. Ready if anything was done.
    fn poll_piece(
        &self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        if sending.piece.is_empty() && !sending.has_ended {
            let polled = sending.poll_body(cx)?;
            if polled.is_pending() || (sending.piece.is_empty() && !sending.has_ended) {
                return Ok(polled);
            }
        }
        if sending.piece.is_empty() {
            sending.is_sent = true;
            let sent = match sending.trailers.take() {
                Some(trailers) => sending.stream.send_trailers(trailers),
                None => sending.stream.send_data(Bytes::new(), true),
            };
            sent.map_err(|_| Broken::Gone)?;
            return Ok(Poll::Ready(()));
        }
        let turns = &self.meter.turns;
        if !sending.has_turn && turns.poll_turn(&self.open, self.priority).is_pending() {
            return Ok(Poll::Pending);
        }
        sending.has_turn = true;
        let wanted = sending.piece.len().min(A_TURN);
        sending.stream.reserve_capacity(wanted);
        let room = match sending.stream.capacity() {
            0 => match sending.stream.poll_capacity(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(Ok(0))) => return Ok(Poll::Ready(())),
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(_) => return Err(Broken::Gone),
            },
            room => room,
        };
        let room = room.min(wanted);
        if room < wanted && FrameCounter::is_small(room) {
            self.meter.send_little();
        }
        let data = sending.piece.split_to(room);
        let is_last = sending.has_ended && sending.trailers.is_none() && sending.piece.is_empty();
        sending.has_turn = false;
        turns.gave(&self.open, room);
        let sent = sending.stream.send_data(data, is_last);
        sent.map_err(|_| Broken::Gone)?;
        sending.is_sent = is_last;
        Ok(Poll::Ready(()))
    }
}

/// A message without its fields' kind of body.
fn head(status: StatusCode, headers: HeaderMap) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    head
}

/// A response whose head was sent.
struct Sending<B> {
    stream: SendStream<Bytes>,
    /// Until all of it was sent: then the request is no longer under way.
    body: Option<B>,
    /// Bytes that the head declares and that are still to come.
    left: Option<u64>,
    piece: Bytes,
    /// It may give the library content: only the client can keep it from that.
    has_turn: bool,
    /// Nothing comes after the piece but trailers.
    has_ended: bool,
    is_sent: bool,
    /// Trailers that the head announced; `None`: all may be sent.
    announced: Option<Vec<FieldName>>,
    trailers: Option<HeaderMap>,
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    /// Takes the next piece from the body, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        let Some(body) = &mut self.body else {
            return Ok(Poll::Pending);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let is_last = body.is_end_stream();
        match polled {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(None) => self.has_ended = true,
            Poll::Ready(Some(Err(error))) => {
                let error = error.into();
                tracing::debug!(%error, "the content of a response broke off");
                return Err(Broken::Reset(Reason::INTERNAL_ERROR));
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(mut data) => {
                    if let Some(left) = &mut self.left {
                        // Bytes past the declared length would make the response malformed.
                        data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= data.len() as u64;
                    }
                    self.piece = data;
                    self.has_ended = is_last || self.left == Some(0);
                }
                Err(frame) => {
                    self.has_ended = true;
                    if let Ok(mut trailers) = frame.into_trailers() {
                        let announced = self.announced.as_ref();
                        let is_announced = |name: &http::HeaderName| {
                            announced.is_none_or(|announced| {
                                announced.iter().any(|one| one.as_str() == name.as_str())
                            })
                        };
                        let names: Vec<_> = trailers.keys().cloned().collect();
                        for name in names.iter().filter(|name| !is_announced(name)) {
                            trailers.remove(name);
                        }
                        self.trailers = (!trailers.is_empty()).then_some(trailers);
                    }
                }
            },
        }
        if self.has_ended && self.left.is_some_and(|left| left > 0) {
            return Err(Broken::Reset(Reason::INTERNAL_ERROR));
        }
        Ok(Poll::Ready(()))
    }
}
