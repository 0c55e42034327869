//! A connection to an origin on which the edge reads the heads of responses itself.
//!
//! `core::http::framing` decides what a response's head says and where the response ends. hyper gets a head of our own in
//! its place, with nothing but the status and what frames the content, and no byte that belongs to no response. Interim
//! responses never reach it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use edgerouter_core::http::framing::{
    Content, Question,
    arrival::{Arrival, Expected, Head},
    head::{BadResponse, HeadLimits, ResponseHead},
};
use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

use super::{connect::Stream, short::Short};

/// A stream that counts the bytes which are read from it: hyper's space cannot be looked into.
#[derive(Debug)]
struct Counted {
    stream: Short<Stream>,
    count: u64,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.count += buf.filled().len().saturating_sub(before) as u64;
        polled
    }
}

/// Interim responses kept at a time for a request; more of them in one piece are a flood.
const MOST_INTERIMS: usize = 32;
/// Bytes read at a time where they have to be looked at.
const SCRATCH: usize = 64 << 10;

thread_local! {
    /// Space to read into. A connection must be `Send` for hyper to hand it over after an upgrade, so it cannot share a
    /// buffer of its worker's.
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// What the sender of a request and its connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    /// The request that is about to be written.
    next: Option<(Question, HeadLimits)>,
    interims: Vec<ResponseHead>,
    head: Option<ResponseHead>,
    bad: Option<BadResponse>,
    /// The content waits for the origin's 100, which the edge requested then, so that the client gets one when it is read.
    /// Any other 100 is passed on (RFC 9110 §15.2).
    gated: bool,
    continued: bool,
}

/// The sender's side.
#[derive(Debug, Clone, Default)]
pub(super) struct Responses(Arc<Mutex<Exchanged>>);

impl Responses {
    /// To be called before the request is given to hyper.
    pub(super) fn expect(&self, question: Question, limits: HeadLimits) {
        let mut exchanged = self.0.lock();
        *exchanged = Exchanged {
            next: Some((question, limits)),
            ..Exchanged::default()
        };
    }

    /// The final head, once hyper has announced its response.
    pub(super) fn head(&self) -> Option<ResponseHead> {
        self.0.lock().head.take()
    }

    /// Interim responses that nobody has been told of.
    pub(super) fn interims(&self) -> Vec<ResponseHead> {
        std::mem::take(&mut self.0.lock().interims)
    }

    /// The request has an expectation. To be called after `expect`.
    pub(super) fn gate(&self) {
        self.0.lock().gated = true;
    }

    /// Whether the origin has asked for the content of a request with an expectation.
    pub(super) fn continued(&self) -> bool {
        self.0.lock().continued
    }

    /// Why hyper saw the connection break.
    pub(super) fn bad(&self) -> Option<BadResponse> {
        self.0.lock().bad
    }
}

/// hyper's side.
#[derive(Debug)]
pub(super) struct Answering {
    stream: TokioIo<Counted>,
    responses: Responses,
    arrival: Arrival,
    /// An incomplete head.
    held: Vec<u8>,
    /// Bytes for hyper that it has not taken yet.
    passed: Vec<u8>,
    taken: usize,
    /// The connection cannot be believed any more.
    broken: bool,
}

impl Answering {
    pub(super) fn new(stream: Stream, responses: Responses) -> Self {
        Self {
            stream: TokioIo::new(Counted {
                stream: Short::new(stream),
                count: 0,
            }),
            responses,
            arrival: Arrival::default(),
            held: Vec::new(),
            passed: Vec::new(),
            taken: 0,
            broken: false,
        }
    }

    /// The first byte of a request is about to be written: from here on a response to it may come.
    fn begin(&mut self) {
        if let Some((question, limits)) = self.responses.0.lock().next.take() {
            self.arrival.expect(question, limits);
        }
    }

    fn take_passed(&mut self, buf: &mut ReadBufCursor<'_>) {
        let waiting = self.passed.get(self.taken..).unwrap_or_default();
        if waiting.is_empty() {
            return;
        }
        let now = waiting
            .get(..waiting.len().min(buf.remaining()))
            .unwrap_or_default();
        buf.put_slice(now);
        self.taken += now.len();
        if self.taken == self.passed.len() {
            self.passed = Vec::new();
            self.taken = 0;
        }
    }

    /// Gives hyper bytes, and keeps what it has no space for.
    fn pass(&mut self, bytes: &[u8], buf: &mut ReadBufCursor<'_>) {
        let room = if self.passed.is_empty() {
            bytes.len().min(buf.remaining())
        } else {
            0
        };
        let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        buf.put_slice(now);
        if !later.is_empty() {
            self.passed.extend_from_slice(later);
        }
    }

    /// Takes in what has come. Afterwards hyper may have something to read.
    fn judge(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> Result<(), BadResponse> {
        if self.arrival.expected() != Expected::Head {
            return self.content(fresh, buf);
        }
        let mut held = std::mem::take(&mut self.held);
        let mut all = if held.is_empty() {
            fresh
        } else {
            held.extend_from_slice(fresh);
            &held
        };
        loop {
            match self.arrival.head(all)? {
                None => {
                    self.held = all.to_vec();
                    return Ok(());
                }
                Some((length, head)) => {
                    all = all.get(length..).unwrap_or_default();
                    match head {
                        Head::Interim(head) => {
                            let mut exchanged = self.responses.0.lock();
                            if head.status == StatusCode::CONTINUE && exchanged.gated {
                                exchanged.continued = true;
                            } else if exchanged.interims.len() < MOST_INTERIMS {
                                exchanged.interims.push(head);
                            }
                        }
                        Head::Final(head) => {
                            self.announce(head, buf);
                            return self.content(all, buf);
                        }
                    }
                    if all.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn content(&mut self, bytes: &[u8], buf: &mut ReadBufCursor<'_>) -> Result<(), BadResponse> {
        let count = self.arrival.content(bytes)?;
        self.pass(bytes.get(..count).unwrap_or_default(), buf);
        // Another response than the one that was asked for, or content where none may be: hyper reads what came before,
        // and the connection is not used again (RFC 9112 §9.3, §6.3).
        self.broken |= count < bytes.len();
        Ok(())
    }

    /// Gives hyper a head with nothing in it but what frames the content.
    fn announce(&mut self, head: ResponseHead, buf: &mut ReadBufCursor<'_>) {
        self.pass(b"HTTP/1.1 ", buf);
        self.pass(head.status.as_str().as_bytes(), buf);
        self.pass(b" \r\n", buf);
        match head.framing.content {
            Content::Length(length) => {
                self.pass(b"content-length: ", buf);
                self.pass(itoa::Buffer::new().format(length).as_bytes(), buf);
                self.pass(b"\r\n", buf);
            }
            Content::Chunked => self.pass(b"transfer-encoding: chunked\r\n", buf),
            Content::None | Content::UntilClose | Content::Tunnel => {}
        }
        if !head.framing.reusable && head.framing.content != Content::Tunnel {
            self.pass(b"connection: close\r\n", buf);
        }
        self.pass(b"\r\n", buf);
        self.responses.0.lock().head = Some(head);
    }

    /// Reads into space of our own and judges it. `Ok(false)`: the origin has closed.
    fn poll_judged(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<bool>> {
        SPACE.with_borrow_mut(|space| {
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(&mut self.stream.inner_mut().stream).poll_read(cx, &mut read))?;
            let fresh = read.filled();
            if fresh.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let judged = match self.arrival.expected() {
                Expected::Nothing => Err(BadResponse::Surplus),
                _ => self.judge(fresh, buf),
            };
            Poll::Ready(match judged {
                Ok(()) => Ok(true),
                Err(bad) => Err(self.break_off(bad)),
            })
        })
    }

    fn break_off(&mut self, bad: BadResponse) -> io::Error {
        self.broken = true;
        self.held = Vec::new();
        self.responses.0.lock().bad = Some(bad);
        io::Error::new(io::ErrorKind::InvalidData, bad)
    }
}

impl Read for Answering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        this.take_passed(&mut buf);
        while buf.remaining() == room && this.passed.is_empty() {
            if this.broken {
                let surplus = io::Error::new(io::ErrorKind::InvalidData, BadResponse::Surplus);
                return Poll::Ready(Err(surplus));
            }
            match this.arrival.expected() {
                // Nothing but content can come into this space: it needs no looking at.
                Expected::Plain(left) if left >= room as u64 && room > 0 => {
                    let before = this.stream.inner().count;
                    let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
                    this.arrival.passed(this.stream.inner().count - before);
                    return polled;
                }
                _ => {
                    if !ready!(this.poll_judged(cx, &mut buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Answering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream.inner_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream.inner_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.inner().stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.inner_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.inner_mut().stream).poll_shutdown(cx)
    }
}
