//! HTTP/1.1 on one connection: a loop around the codec of `core::http::h1`, which knows the bytes. Requests are served
//! in turn; while one is under way its content is read as it is wanted, and nothing else but the end of the client's
//! bytes is looked for.

use std::{
    cell::RefCell,
    error::Error,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Buf as _, Bytes, BytesMut};
use edgerouter_account::{Hold, Owner};
use edgerouter_core::{
    admit::Refusal,
    bounds::{clients::Client, memory::Purpose},
    http::{
        date,
        h1::{
            request::{ContentReader, RequestContent, RequestHead, RequestLimits, RequestReader},
            write::{self, ContentWriter, RequestFacts},
        },
    },
};
use edgerouter_telemetry::Refused;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body::Body;
use tokio::io::ReadBuf;

use crate::{
    Transport,
    connection::{ClientBody, ConnectionOwner, ConnectionState, Inflow, Stream},
    output::Output,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Bytes of an incomplete head that each connection may hold beside the account.
const FREE: u64 = 4 << 10;
/// Bytes taken in behind a request that is under way.
const MOST_BEHIND: usize = 16 << 10;
/// Bytes of a response that are taken from its body ahead of the socket.
const MOST_AHEAD: usize = 256 << 10;

pub(crate) struct Http1<T, O> {
    transport: T,
    owner: Rc<O>,
    stream: Rc<Stream>,
    reader: RequestReader,
    limits: RequestLimits,
    /// Bytes that have come and belong to no message yet: an incomplete head, or what is behind a request under way.
    input: BytesMut,
    /// The client has sent the end of its bytes.
    ended: bool,
    /// The account's part in the incomplete head, and its bytes.
    hold: Option<(Hold, u64)>,
    /// Content of the request under way that has not come yet.
    content: Option<(ContentReader, Rc<Inflow>)>,
    output: Output,
}

/// The end of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every request has its response.
    All,
    /// Something is missing: the connection is closed at once.
    CutOff,
    /// It goes on when there is something to read.
    Silent,
}

/// Input that HTTP has left unread at its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) bytes: BytesMut,
    /// The client has not sent all of the last message.
    pub(crate) in_content: bool,
}

/// The next message of a client.
enum Next {
    Request(RequestHead),
    Refused(Refusal),
    End(Ended),
}

impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    pub(crate) fn new(
        transport: T,
        limits: RequestLimits,
        owner: Rc<O>,
        stream: Rc<Stream>,
    ) -> Self {
        Self {
            transport,
            owner,
            stream,
            reader: RequestReader::new(limits),
            limits,
            input: BytesMut::new(),
            ended: false,
            hold: None,
            content: None,
            output: Output::default(),
        }
    }

    /// The transport, and the input that nobody has read: for the time after HTTP.
    pub(crate) fn into_parts(self) -> (T, Unread) {
        let unread = Unread {
            bytes: self.input,
            in_content: self.content.is_some(),
        };
        (self.transport, unread)
    }

    /// Serves requests until HTTP on the connection ends.
    pub(crate) async fn run(&mut self) -> Ended {
        loop {
            let next = std::future::poll_fn(|cx| self.poll_next(cx)).await;
            let served = match next {
                Ok(Next::Request(head)) => self.serve(head).await,
                Ok(Next::Refused(refusal)) => self.refuse(refusal).await,
                Ok(Next::End(ended)) => return ended,
                Err(error) => Err(error),
            };
            match served {
                Ok(None) => {}
                Ok(Some(ended)) => return self.or_refused(ended),
                Err(error) => {
                    let peer = self.stream.connection.peer;
                    tracing::debug!(%error, %peer, "connection ended in an error");
                    return self.or_refused(Ended::CutOff);
                }
            }
        }
    }

    /// A refusal has still to reach its client (RFC 9112 §9.6): such a connection is not closed at once.
    fn or_refused(&self, ended: Ended) -> Ended {
        if self.stream.connection.was_refused() {
            Ended::All
        } else {
            ended
        }
    }

    /// Waits for a whole head.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        let owner = Rc::clone(&self.owner);
        if !self.input.is_empty() {
            let read = self.reader.read(&self.input);
            if let Some(next) = self.next(read)? {
                return Poll::Ready(Ok(next));
            }
        }
        loop {
            let connection = &self.stream.connection;
            if connection.state() == ConnectionState::HeadTooSlow {
                return Poll::Ready(Ok(Next::Refused(Refusal::HeadTooSlow)));
            }
            if self.ended {
                return Poll::Ready(Ok(Next::End(Ended::All)));
            }
            let mut inbox = owner.connections().inbox.borrow_mut();
            let mut read = ReadBuf::new(&mut inbox);
            if Pin::new(&mut self.transport)
                .poll_read(cx, &mut read)?
                .is_pending()
            {
                let is_empty = self.input.is_empty();
                return if is_empty && connection.is_drained() {
                    Poll::Ready(Ok(Next::End(Ended::All)))
                } else if is_empty && connection.take_rest() {
                    Poll::Ready(Ok(Next::End(Ended::Silent)))
                } else {
                    Poll::Pending
                };
            }
            let fresh = read.filled();
            if fresh.is_empty() {
                self.ended = true;
                continue;
            }
            let read = if self.input.is_empty() {
                let read = self.reader.read(fresh);
                let length = match &read {
                    Ok(Some((length, _))) => *length,
                    _ => 0,
                };
                self.input
                    .extend_from_slice(fresh.get(length..).unwrap_or_default());
                read.map(|read| read.map(|(_, head)| (0, head)))
            } else {
                self.input.extend_from_slice(fresh);
                self.reader.read(&self.input)
            };
            drop(inbox);
            if let Some(next) = self.next(read)? {
                return Poll::Ready(Ok(next));
            }
        }
    }

    /// A message, unless its head is still incomplete.
    fn next(
        &mut self,
        read: Result<Option<(usize, RequestHead)>, Refusal>,
    ) -> io::Result<Option<Next>> {
        Ok(match read {
            Ok(Some((length, head))) => {
                self.input.advance(length);
                self.hold = None;
                Some(Next::Request(head))
            }
            Ok(None) => {
                self.stream.connection.head_begun();
                self.account_for_input()?;
                None
            }
            Err(refusal) => Some(Next::Refused(refusal)),
        })
    }

    /// Draws the memory of a head that comes in slowly, beyond the bytes that each connection may hold.
    fn account_for_input(&mut self) -> io::Result<()> {
        let bytes = self.input.len() as u64;
        if bytes <= FREE {
            self.hold = None;
            return Ok(());
        }
        let (hold, drawn) = self.hold.get_or_insert_with(|| {
            let owner = Owner {
                client: Some(Client::of(self.stream.connection.peer.ip())),
                origin: None,
            };
            let account = &self.owner.connections().account;
            (account.open_uncut(Purpose::Heads, owner), 0)
        });
        if bytes > *drawn {
            hold.draw(bytes - *drawn).map_err(|spent| {
                self.owner.metrics().refused(Refused::NoMemory);
                io::Error::new(io::ErrorKind::OutOfMemory, spent)
            })?;
            *drawn = bytes;
        }
        Ok(())
    }

    /// Serves one request to the end of its response. `Some`: HTTP ends with it.
    async fn serve(&mut self, head: RequestHead) -> io::Result<Option<Ended>> {
        let facts = RequestFacts {
            version: head.version,
            is_head: head.method == Method::HEAD,
            is_persistent: head.is_persistent,
        };
        let body = match self.open_content(head.content) {
            Ok(body) => body,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let mut expects = head.expects_continue;
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        self.stream.begin(facts.version);
        let owner = Rc::clone(&self.owner);
        let mut serving = pin!(owner.serve(Rc::clone(&self.stream), Ok(request)));
        let response = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(Ok(response)) = serving.as_mut().poll(cx) {
                    return Poll::Ready(io::Result::Ok(response));
                }
                let awaited = self.content.as_ref().is_some_and(|(_, to)| to.is_awaited());
                if expects && awaited {
                    expects = false;
                    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
                    self.output.text.extend_from_slice(go_on);
                }
                self.stream.interims.take(&mut self.output.text);
                let _ = self.poll_write(cx)?;
                if self.poll_content(cx).is_pending() {
                    self.look_behind(cx);
                    return Poll::Pending;
                }
            }
        });
        let response = response.await?;
        // Without a 100 the client may send the content or not: no other request can be found behind it.
        let unread = |http: &Self| {
            let content = http.content.as_ref();
            content.is_some_and(|(_, inflow)| expects || inflow.is_dropped())
        };
        let facts = RequestFacts {
            is_persistent: facts.is_persistent && !unread(self),
            ..facts
        };
        self.send(response, facts).await
    }

    /// Responds to a message that is refused; nothing that follows it is trusted.
    async fn refuse(&mut self, refusal: Refusal) -> io::Result<Option<Ended>> {
        self.input.clear();
        self.hold = None;
        self.stream.begin(Version::HTTP_11);
        self.stream.connection.refused();
        let owner = Rc::clone(&self.owner);
        let response = owner.serve(Rc::clone(&self.stream), Err(refusal)).await;
        let facts = RequestFacts {
            version: Version::HTTP_11,
            is_head: false,
            is_persistent: false,
        };
        let Ok(response) = response;
        self.send(response, facts).await
    }

    /// Begins to read the content of a request. A message whose content is malformed in the bytes that have come already
    /// is refused as a whole.
    fn open_content(&mut self, content: RequestContent) -> Result<ClientBody, Refusal> {
        let Some(reader) = ContentReader::of(content) else {
            return Ok(ClientBody::default());
        };
        let length = match content {
            RequestContent::Length(length) => Some(length),
            _ => None,
        };
        let inflow = Inflow::open(&self.stream.connection, length);
        self.content = Some((reader, Rc::clone(&inflow)));
        if !self.input.is_empty() {
            let fresh = self.input.split().freeze();
            if let Err(refusal) = self.take_content(fresh) {
                self.content = None;
                return Err(refusal);
            }
        }
        Ok(ClientBody::reading(inflow))
    }

    /// Gives the reader of the content what `fresh` has of it, and keeps the rest. No piece may wait for the reader.
    fn take_content(&mut self, mut fresh: Bytes) -> Result<(), Refusal> {
        let Some((reader, inflow)) = &mut self.content else {
            return Ok(());
        };
        let mut pieces = BytesMut::new();
        let (mut first, mut is_last) = (Bytes::new(), false);
        while !is_last && !fresh.is_empty() {
            let piece = reader.read(&fresh, self.limits.body_bytes)?;
            is_last = piece.is_last;
            let data = fresh.slice(piece.data);
            fresh.advance(piece.consumed);
            // One piece is passed on as it came; more of them become one, so that small chunks are not passed singly.
            if first.is_empty() {
                first = data;
            } else if !data.is_empty() {
                if pieces.is_empty() {
                    pieces.extend_from_slice(&first);
                }
                pieces.extend_from_slice(&data);
            }
        }
        if !first.is_empty() {
            inflow.put(if pieces.is_empty() {
                first
            } else {
                pieces.freeze()
            });
        }
        if is_last {
            inflow.complete(reader.take_trailers());
            self.content = None;
        }
        self.input.extend_from_slice(&fresh);
        Ok(())
    }

    /// Reads content while somebody waits for it. Ready when some has come, or its end.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, inflow)) = &self.content else {
            return Poll::Pending;
        };
        let connection = &self.stream.connection;
        if !inflow.is_awaited() {
            connection.read_blocked(false);
            return Poll::Pending;
        }
        if connection.state() == ConnectionState::BodyTooSlow {
            self.break_off(Some(Refusal::BodyTooSlow));
            return Poll::Ready(());
        }
        let fresh = if self.input.is_empty() {
            let owner = Rc::clone(&self.owner);
            let mut inbox = owner.connections().inbox.borrow_mut();
            let mut read = ReadBuf::new(&mut inbox);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => {
                    connection.read_blocked(true);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    Bytes::copy_from_slice(read.filled())
                }
                Poll::Ready(_) => {
                    self.ended = true;
                    self.break_off(None);
                    return Poll::Ready(());
                }
            }
        } else {
            self.input.split().freeze()
        };
        connection.read_blocked(false);
        if let Err(refusal) = self.take_content(fresh) {
            self.break_off(Some(refusal));
        }
        Poll::Ready(())
    }

    /// Ends the content of the request under way in an error.
    fn break_off(&mut self, refusal: Option<Refusal>) {
        self.stream.connection.read_blocked(false);
        if let Some(refusal) = refusal {
            self.stream.refuse(refusal);
            self.ended = true;
        }
        if let Some((_, inflow)) = &self.content {
            inflow.break_off();
        }
        self.content = None;
    }

    /// Looks for the end of a client's bytes, or a reset, behind those that it has sent already: nothing else reads from
    /// it while a request is under way. A reset ends the connection and the work for it.
    fn look_behind(&mut self, cx: &mut Context<'_>) {
        let owner = Rc::clone(&self.owner);
        while !self.ended && self.content.is_none() && self.input.len() < MOST_BEHIND {
            let Ok(mut inbox) = owner.connections().inbox.try_borrow_mut() else {
                return;
            };
            let room = (MOST_BEHIND - self.input.len()).min(inbox.len());
            let Some(space) = inbox.get_mut(..room) else {
                return;
            };
            let mut read = ReadBuf::new(space);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => {
                    return self.stream.connection.set_state(ConnectionState::End);
                }
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    self.ended = true;
                    self.stream.connection.half_close();
                }
                Poll::Ready(Ok(())) => self.input.extend_from_slice(read.filled()),
            }
        }
    }

    /// Writes all that waits to be written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while !self.output.is_empty() {
            let polled = self.output.poll_write(&mut self.transport, cx);
            self.stream.connection.write_blocked(polled.is_pending());
            match polled {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(count) => self.stream.queue.written(count?),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Sends a response. `Some`: HTTP ends with it.
    async fn send(
        &mut self,
        response: Response<O::Body>,
        facts: RequestFacts,
    ) -> io::Result<Option<Ended>> {
        let (head, body) = response.into_parts();
        self.stream.interims.take(&mut self.output.text);
        self.stream.interims.close();
        let facts = RequestFacts {
            is_persistent: facts.is_persistent
                && self.stream.connection.state() == ConnectionState::Live,
            ..facts
        };
        let known = body.size_hint().exact();
        let text = &mut self.output.text;
        let written =
            with_date(|date| write::head(text, head.status, &head.headers, facts, known, date));
        let has_trailers = head.headers.contains_key(header::TRAILER);
        let mut sending = Sending {
            body: Some(body),
            content: written.content,
            trailers: has_trailers.then(|| write::announced_trailers(&head.headers)),
            is_broken: false,
        };
        std::future::poll_fn(|cx| self.poll_send(&mut sending, cx)).await?;
        if sending.is_broken {
            return Ok(Some(Ended::CutOff));
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(Ended::All));
        }
        self.skip_content();
        let goes_on = written.is_persistent && self.content.is_none();
        Ok((!goes_on).then_some(Ended::All))
    }

    /// Takes content from the body and writes it, to its end.
    fn poll_send(
        &mut self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let waits = sending.take(&mut self.output, cx);
            if self.poll_write(cx)?.is_ready() {
                if sending.body.is_none() {
                    return Poll::Ready(Ok(()));
                }
                if !waits {
                    continue;
                }
            }
            // The response may be made of the request's content.
            if self.poll_content(cx).is_pending() {
                self.look_behind(cx);
                return Poll::Pending;
            }
        }
    }

    /// Drops content that nobody reads, as far as it has come.
    fn skip_content(&mut self) {
        if self.content.is_some() {
            let fresh = self.input.split().freeze();
            if self.take_content(fresh).is_err() {
                self.stream.connection.refused();
            }
        }
    }
}

/// A response whose head was written.
struct Sending<B> {
    /// `None` at the end of the content.
    body: Option<B>,
    content: ContentWriter,
    /// Trailers that the head announced.
    trailers: Option<Vec<HeaderName>>,
    /// The content ended before its end.
    is_broken: bool,
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Sending<B> {
    /// Takes content until the output is full or the body has none; true if the body has to be waited for.
    fn take(&mut self, output: &mut Output, cx: &mut Context<'_>) -> bool {
        while let Some(body) = &mut self.body {
            if matches!(self.content, ContentWriter::None | ContentWriter::Length(0)) {
                self.body = None;
                return false;
            }
            if output.len() >= MOST_AHEAD {
                return false;
            }
            let polled = Pin::new(&mut *body).poll_frame(cx);
            let is_last = body.is_end_stream();
            match polled {
                Poll::Pending => return true,
                Poll::Ready(None) => self.end(output, None),
                Poll::Ready(Some(Err(error))) => {
                    let error = error.into();
                    tracing::debug!(%error, "the content of a response broke off");
                    self.is_broken = true;
                    self.body = None;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.put(output, data);
                        if is_last {
                            self.end(output, None);
                        }
                    }
                    Err(frame) => self.end(output, frame.into_trailers().ok().as_ref()),
                },
            }
        }
        false
    }

    fn put(&mut self, output: &mut Output, mut data: Bytes) {
        match &mut self.content {
            _ if data.is_empty() => {}
            ContentWriter::None => {}
            ContentWriter::UntilClose => output.push(data),
            ContentWriter::Length(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                output.push(data);
            }
            ContentWriter::Chunked => {
                write::chunk_size(&mut output.text, data.len());
                output.push(data);
                output.text.extend_from_slice(b"\r\n");
            }
        }
    }

    fn end(&mut self, output: &mut Output, trailers: Option<&HeaderMap>) {
        self.body = None;
        match self.content {
            ContentWriter::Chunked => {
                let announced = self.trailers.as_deref().unwrap_or_default();
                write::last_chunk(&mut output.text, trailers, announced);
            }
            ContentWriter::Length(left) => self.is_broken = left > 0,
            ContentWriter::None | ContentWriter::UntilClose => {}
        }
    }
}

/// Calls with the value of `Date` for now (RFC 9110 §6.6.1), which is made once a second.
fn with_date<R>(write: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = RefCell::new((0, date::format(0)));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    DATE.with_borrow_mut(|(second, value)| {
        if *second != now {
            (*second, *value) = (now, date::format(now));
        }
        write(value.as_bytes())
    })
}
