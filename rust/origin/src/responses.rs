//! A connection to an origin on which the edge reads the heads of responses itself.
//!
//! `core::http::framing` reads the head and decides where the response ends. hyper gets another head in its place, with
//! nothing but the status and the fields that frame the content, and no surplus byte. Interim responses never reach it.

use std::{
    borrow::Cow,
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use edgerouter_core::http::framing::{
    BodyFraming, FramingContext,
    head::{BadResponse, HeadLimits, OriginHead},
    reader::{ArrivedHead, Expected, ResponseReader},
};
use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

use super::{connect::OriginStream, short::Short};

/// Interim responses kept at a time for a request; more of them in one piece are a flood.
const MOST_INTERIMS: usize = 32;
/// Bytes read at a time where they have to be looked at.
const SCRATCH: usize = 64 << 10;

thread_local! {
    /// Space to read into. A connection must be `Send` for hyper to hand it over after an upgrade, so it cannot share a
    /// buffer of its worker's.
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// The state that the sender of a request shares with its connection.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    /// The request that is about to be written.
    next: Option<(FramingContext, HeadLimits)>,
    interims: Vec<OriginHead>,
    head: Option<OriginHead>,
    bad: Option<BadResponse>,
    /// The content waits for the origin's 100, which the edge requested, so that the client gets one when it is read.
    /// Any other 100 is passed on (RFC 9110 §15.2).
    gated: bool,
    continued: bool,
}

/// The sender's side of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Responses(Arc<Mutex<Exchanged>>);

impl Responses {
    /// To be called before the request is given to hyper.
    pub(super) fn begin_response(&self, awaited: FramingContext, limits: HeadLimits) {
        let mut exchanged = self.0.lock();
        *exchanged = Exchanged {
            next: Some((awaited, limits)),
            ..Exchanged::default()
        };
    }

    /// The final head, once hyper has announced its response.
    pub(super) fn head(&self) -> Option<OriginHead> {
        self.0.lock().head.take()
    }

    /// Interim responses since the last call.
    pub(super) fn interims(&self) -> Vec<OriginHead> {
        std::mem::take(&mut self.0.lock().interims)
    }

    /// The request has an expectation. To be called after `expect`.
    pub(super) fn gate(&self) {
        self.0.lock().gated = true;
    }

    /// True if the origin has sent a 100 for a request with an expectation.
    pub(super) fn continued(&self) -> bool {
        self.0.lock().continued
    }

    /// The reason for which hyper saw the connection break.
    pub(super) fn bad(&self) -> Option<BadResponse> {
        self.0.lock().bad
    }
}

/// The connection as hyper has it.
#[derive(Debug)]
pub(super) struct Answering(Arc<Mutex<Wire>>);

impl Answering {
    /// hyper's side, and the one by which it is passed over.
    pub(super) fn new(stream: OriginStream, responses: Responses) -> (Self, Arc<Mutex<Wire>>) {
        let wire = Arc::new(Mutex::new(Wire::new(stream, responses)));
        (Self(Arc::clone(&wire)), wire)
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: TokioIo<Short<OriginStream>>,
    responses: Responses,
    reader: ResponseReader,
    /// An incomplete head.
    held: Vec<u8>,
    /// Bytes for hyper that it has not taken yet.
    passed: Vec<u8>,
    taken: usize,
    /// The bytes of the connection cannot be trusted any more.
    broken: bool,
    late: Late,
}

/// The state of a request that has been sent, and answered in part, without hyper.
#[derive(Debug, Default)]
enum Late {
    #[default]
    No,
    /// hyper would take the response for a surplus one: it reads nothing before it has written the request.
    Reading(Option<Waker>),
    /// The bytes of the request that it writes are dropped.
    Writing,
}

/// A response that came whole, to a request that was sent without hyper.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: OriginHead,
    pub(super) content: Bytes,
    /// Another request may use the connection.
    pub(super) reusable: bool,
}

impl Wire {
    fn new(stream: OriginStream, responses: Responses) -> Self {
        Self {
            stream: TokioIo::new(Short::new(stream)),
            responses,
            reader: ResponseReader::default(),
            held: Vec::new(),
            passed: Vec::new(),
            taken: 0,
            broken: false,
            late: Late::No,
        }
    }

    /// Expects the response: the first byte of the request is about to be written.
    fn begin(&mut self) {
        if let Some((awaited, limits)) = self.responses.0.lock().next.take() {
            self.reader.begin_response(awaited, limits);
            self.late = Late::No;
        }
    }

    /// Writes a request's head, `text`, from the byte at `sent` on. Nothing may have come before: it would be taken for the
    /// response.
    pub(super) fn poll_send(
        &mut self,
        text: &[u8],
        sent: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.stream.inner_mut();
        if *sent == 0 {
            let mut byte = [0];
            let mut early = ReadBuf::new(&mut byte);
            if Pin::new(&mut *stream).poll_read(cx, &mut early).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.begin();
        let stream = self.stream.inner_mut().get_mut();
        while let Some(rest) = text.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Reads the response to such a request. `Ok(None)`: there is more of it, for hyper to read once it was given the request.
    /// `Err(None)`: the origin has closed.
    pub(super) fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Whole>, Option<BadResponse>>> {
        SPACE.with_borrow_mut(|space| {
            loop {
                let mut read = ReadBuf::new(space);
                let polled = Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read);
                ready!(polled).map_err(|_| None)?;
                if read.filled().is_empty() {
                    return Poll::Ready(Err(None));
                }
                let before = std::mem::take(&mut self.held);
                let all = joined(before, read.filled());
                if let Some((head, rest)) = self.heads(&all)? {
                    return Poll::Ready(Ok(self.direct(head, rest)?));
                }
            }
        })
    }

    fn direct(&mut self, head: OriginHead, rest: &[u8]) -> Result<Option<Whole>, BadResponse> {
        let is_whole = match head.framing.content {
            BodyFraming::None => true,
            BodyFraming::Length(length) => length <= rest.len() as u64,
            BodyFraming::Chunked | BodyFraming::UntilClose | BodyFraming::Tunnel => false,
        };
        if !is_whole {
            self.announce(head, None);
            self.content(rest, None)?;
            self.late = Late::Reading(None);
            return Ok(None);
        }
        let count = self.reader.content(rest)?;
        Ok(Some(Whole {
            reusable: head.framing.reusable && count == rest.len(),
            content: Bytes::copy_from_slice(rest.get(..count).unwrap_or_default()),
            head,
        }))
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

    /// Gives hyper bytes, and keeps those that it has no space for.
    fn pass(&mut self, bytes: &[u8], buf: Option<&mut ReadBufCursor<'_>>) {
        let mut later = bytes;
        if let Some(buf) = buf
            && self.passed.is_empty()
            && let Some((now, rest)) = bytes.split_at_checked(bytes.len().min(buf.remaining()))
        {
            buf.put_slice(now);
            later = rest;
        }
        if !later.is_empty() {
            self.passed.extend_from_slice(later);
        }
    }

    /// Takes in bytes from the origin. Afterwards hyper may have something to read.
    fn check(&mut self, fresh: &[u8], buf: &mut ReadBufCursor<'_>) -> Result<(), BadResponse> {
        if self.reader.expected() != Expected::Head {
            return self.content(fresh, Some(buf));
        }
        let before = std::mem::take(&mut self.held);
        let all = joined(before, fresh);
        if let Some((head, rest)) = self.heads(&all)? {
            self.announce(head, Some(&mut *buf));
            self.content(rest, Some(buf))?;
        }
        Ok(())
    }

    /// Reads heads up to the final one; returns it and the bytes that follow. `None` while it has not come whole.
    fn heads<'a>(
        &mut self,
        mut all: &'a [u8],
    ) -> Result<Option<(OriginHead, &'a [u8])>, BadResponse> {
        loop {
            let Some((length, head)) = self.reader.head(all)? else {
                self.held = all.to_vec();
                return Ok(None);
            };
            all = all.get(length..).unwrap_or_default();
            match head {
                ArrivedHead::Interim(head) => {
                    let mut exchanged = self.responses.0.lock();
                    if head.status == StatusCode::CONTINUE && exchanged.gated {
                        exchanged.continued = true;
                    } else if exchanged.interims.len() < MOST_INTERIMS {
                        exchanged.interims.push(head);
                    }
                }
                ArrivedHead::Final(head) => return Ok(Some((head, all))),
            }
            if all.is_empty() {
                return Ok(None);
            }
        }
    }

    fn content(
        &mut self,
        bytes: &[u8],
        buf: Option<&mut ReadBufCursor<'_>>,
    ) -> Result<(), BadResponse> {
        let count = self.reader.content(bytes)?;
        self.pass(bytes.get(..count).unwrap_or_default(), buf);
        // Another response than the expected one, or content where none may be: hyper reads the bytes that came before, and
        // the connection is not used again (RFC 9112 §9.3, §6.3).
        self.broken |= count < bytes.len();
        Ok(())
    }

    /// Gives hyper a head with nothing in it but what frames the content.
    fn announce(&mut self, head: OriginHead, mut buf: Option<&mut ReadBufCursor<'_>>) {
        let mut pass = |bytes: &[u8]| self.pass(bytes, buf.as_deref_mut());
        pass(b"HTTP/1.1 ");
        pass(head.status.as_str().as_bytes());
        pass(b" \r\n");
        match head.framing.content {
            BodyFraming::Length(length) => {
                pass(b"content-length: ");
                pass(itoa::Buffer::new().format(length).as_bytes());
                pass(b"\r\n");
            }
            BodyFraming::Chunked => pass(b"transfer-encoding: chunked\r\n"),
            BodyFraming::None | BodyFraming::UntilClose | BodyFraming::Tunnel => {}
        }
        if !head.framing.reusable && head.framing.content != BodyFraming::Tunnel {
            pass(b"connection: close\r\n");
        }
        pass(b"\r\n");
        self.responses.0.lock().head = Some(head);
    }

    /// Reads into scratch space and checks it. `Ok(false)`: the origin has closed.
    fn poll_checked(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<bool>> {
        SPACE.with_borrow_mut(|space| {
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read))?;
            let fresh = read.filled();
            if fresh.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let checked = match self.reader.expected() {
                Expected::Nothing => Err(BadResponse::Surplus),
                _ => self.check(fresh, buf),
            };
            Poll::Ready(match checked {
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

/// An incomplete head, and the bytes that have come since.
fn joined(mut before: Vec<u8>, fresh: &[u8]) -> Cow<'_, [u8]> {
    if before.is_empty() {
        return Cow::Borrowed(fresh);
    }
    before.extend_from_slice(fresh);
    Cow::Owned(before)
}

impl Wire {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Late::Reading(waiting) = &mut self.late {
            *waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let room = buf.remaining();
        self.take_passed(&mut buf);
        while buf.remaining() == room && self.passed.is_empty() {
            if self.broken {
                let surplus = io::Error::new(io::ErrorKind::InvalidData, BadResponse::Surplus);
                return Poll::Ready(Err(surplus));
            }
            match self.reader.expected() {
                // Nothing but content can come into this space: it is read without a look.
                Expected::Plain(left) if left >= room as u64 && room > 0 => {
                    let before = self.stream.inner().count;
                    let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
                    self.reader.passed(self.stream.inner().count - before);
                    return polled;
                }
                _ => {
                    if !ready!(self.poll_checked(cx, &mut buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// True if the bytes that hyper writes have been sent already.
    fn is_sent(&mut self) -> bool {
        match std::mem::take(&mut self.late) {
            Late::No => false,
            Late::Reading(waiting) => {
                self.late = Late::Writing;
                if let Some(waiting) = waiting {
                    waiting.wake();
                }
                true
            }
            Late::Writing => {
                self.late = Late::Writing;
                true
            }
        }
    }
}

impl Read for Answering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buf)
    }
}

impl Write for Answering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        wire.begin();
        if wire.is_sent() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(wire.stream.inner_mut().get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        wire.begin();
        if wire.is_sent() {
            return Poll::Ready(Ok(bufs.iter().map(|piece| piece.len()).sum()));
        }
        Pin::new(wire.stream.inner_mut().get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0
            .lock()
            .stream
            .inner_mut()
            .get_mut()
            .is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        Pin::new(wire.stream.inner_mut().get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        Pin::new(wire.stream.inner_mut().get_mut()).poll_shutdown(cx)
    }
}
