//! A response on its way to a client.

use std::{
    cell::RefCell,
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{A_TURN, Ended, Http1};
use crate::{
    Transport, ahead,
    connection::{ConnectionOwner, ConnectionState, ResponseBody},
    file,
    pipes::Pipe,
    socket::{self, BareSocket},
};
use edgerouter_core::http::{
    FieldName, Fields, Response, date,
    h1::{
        outgoing::Outgoing,
        write::{self, ContentWriter, RequestFacts},
    },
};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;

/// Zeros ahead of the sizes of a response's chunks, at most: some parsers take 16 digits in all.
const MOST_PROBES: u8 = 6;

/// Bytes of a response that are taken from its body ahead of the socket.
const MOST_AHEAD: usize = 512 << 10;
/// Bytes of one write from which on the kernel takes more of a stream ahead.
const LARGE_WRITE: usize = 256 << 10;
/// Bytes that the kernel moves with as much work as one that the worker reads and writes.
const KERNEL_SHARE: usize = 2;

impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    /// Writes all that waits to be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while !self.output.is_empty() {
            let transport = Pin::new(&mut self.transport);
            let polled = self.output.poll_write(|slices| match slices {
                [text] => transport.poll_write(cx, text),
                slices => transport.poll_write_vectored(cx, slices),
            });
            self.stream.connection.write_blocked(polled.is_pending());
            match polled {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(count) => self.stream.written(count?),
            }
        }
        self.output.give_back(&self.owner.connections().outbox);
        // TLS may hold bytes that the socket has not taken.
        let flushed = Pin::new(&mut self.transport).poll_flush(cx)?;
        self.stream.connection.write_blocked(flushed.is_pending());
        Ok(flushed)
    }

    /// Has the kernel take more ahead of content that a quick client is given in large writes. With less it would cut
    /// each of them, and send their pieces by its timers. Not of the first content: a client that reads nothing would
    /// cost the worker a copy of all of it.
    fn take_ahead(&self, sending: &mut Sending<O::Body>) {
        if sending.is_taken
            && !sending.is_ahead
            && self.output.len() >= LARGE_WRITE
            && self.stream.queue.is_open()
            && let Some(socket) = self.transport.bare()
        {
            sending.is_ahead = true;
            ahead::bound(socket, ahead::MORE);
        }
    }

    /// Sends a response. `Some`: HTTP ends with it.
    pub(super) async fn send(
        &mut self,
        response: Response<O::Body>,
        facts: RequestFacts,
    ) -> io::Result<Option<Ended>> {
        self.output.lend(&self.owner.connections().outbox);
        self.stream.interims.write(&mut self.output.text);
        self.stream.interims.close();
        let facts = RequestFacts {
            is_persistent: facts.is_persistent
                && self.stream.connection.state() == ConnectionState::Live,
            ..facts
        };
        let known = response.body().size_hint().exact();
        let status = response.status();
        let text = &mut self.output.text;
        let written = write::head(text, status, response.headers(), facts, known, |out| {
            with_date(|date| write::date_line(out, date.as_bytes()));
        });
        let mut sending = Sending {
            content: written.content,
            trailers: (response.body().announces_trailers())
                .then(|| write::announced_trailers(response.headers())),
            body: Some(response.into_body()),
            pipe: None,
            is_broken: false,
            is_taken: false,
            is_ahead: false,
            probes: 0,
        };
        std::future::poll_fn(|cx| self.poll_send(&mut sending, cx)).await?;
        if sending.is_ahead
            && let Some(socket) = self.transport.bare()
        {
            ahead::bound(socket, ahead::FEW);
        }
        if sending.is_broken {
            return Ok(Some(Ended::CutOff));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(Ended::All));
        }
        self.skip_content();
        let content = self.content.as_ref();
        let ends = content.is_none_or(|(_, inflow)| inflow.is_dropped() && inflow.is_short());
        let goes_on = written.is_persistent && ends;
        Ok((!goes_on).then_some(Ended::All))
    }

    /// Takes content from the body and writes it, to its end.
    fn poll_send(
        &mut self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.is_out_of_turn() {
                return Poll::Pending;
            }
            let by_kernel = match self.poll_send_file(sending, cx)? {
                None => self.poll_move(sending, cx)?,
                sent => sent,
            };
            let is_waiting = match by_kernel {
                Some(Poll::Ready(count)) => {
                    self.count_in_turn(count / KERNEL_SHARE, cx);
                    false
                }
                Some(Poll::Pending) => true,
                None => {
                    self.output.lend(&self.owner.connections().outbox);
                    let is_bare = self.transport.bare().is_some();
                    let waits = sending.take(&mut self.output, is_bare, cx);
                    self.take_ahead(sending);
                    let length = self.output.len();
                    let is_written = self.poll_write(cx)?.is_ready() || self.retry()?;
                    if is_written && sending.body.is_none() {
                        return Poll::Ready(Ok(()));
                    }
                    let written = length.saturating_sub(self.output.len());
                    self.count_in_turn(written, cx);
                    sending.is_taken |= is_written;
                    waits || !is_written
                }
            };
            if !is_waiting {
                continue;
            }
            // The response may be made of the request's content.
            if self.poll_content(cx).is_pending() {
                self.look_behind(cx);
                self.probe(sending, cx)?;
                return Poll::Pending;
            }
        }
    }

    /// Writes again where a client has been waited for half of its time, though the socket has not said that there is
    /// room ([`socket::poll_tried_at`]). True if nothing is left.
    fn retry(&mut self) -> io::Result<bool> {
        let connection = &self.stream.connection;
        if !connection.takes_retry() {
            return Ok(false);
        }
        let Some(socket) = self.transport.bare() else {
            return Ok(false);
        };
        let written =
            (self.output).poll_write(|slices| match socket::write(socket, slices, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                done => Poll::Ready(done),
            });
        if let Poll::Ready(count) = written {
            self.stream.written(count?);
            connection.write_blocked(false);
            connection.write_blocked(!self.output.is_empty());
        }
        Ok(self.output.is_empty())
    }

    /// Finds out whether a client that has sent the end of its bytes is gone, while the response has nothing to send.
    /// The two look the same until something is sent: one that is gone resets the connection, and the next write fails.
    /// So the size of the next chunk begins with zeros (RFC 9112 §7.1), which say nothing to one that still reads.
    fn probe(&mut self, sending: &mut Sending<O::Body>, cx: &mut Context<'_>) -> io::Result<()> {
        let is_idle = sending.body.is_some() && self.output.is_empty();
        let is_chunked = matches!(sending.content, ContentWriter::Chunked);
        if self.ended
            && is_idle
            && is_chunked
            && sending.probes < MOST_PROBES
            && self.stream.connection.takes_probe()
        {
            // Not counted as taken: a client that is silent has its time as before.
            if Pin::new(&mut self.transport)
                .poll_write(cx, b"0")?
                .is_ready()
            {
                sending.probes += 1;
            }
            let _ = Pin::new(&mut self.transport).poll_flush(cx)?;
        }
        Ok(())
    }
}

/// The part of content in files, which the kernel sends.
impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    /// Sends content from a file, behind all that waits to be written. `None`: the next content comes as a frame, and
    /// what waits is still to be written.
    fn poll_send_file(
        &mut self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> io::Result<Option<Poll<usize>>> {
        let Some(body) = &mut sending.body else {
            return Ok(None);
        };
        let ContentWriter::Length(left) = &mut sending.content else {
            return Ok(None);
        };
        let Some(socket) = self.transport.bare().filter(|_| body.is_file()) else {
            return Ok(None);
        };
        let (output, stream) = (&mut self.output, &self.stream);
        let is_ahead = &mut sending.is_ahead;
        let at_once = stream.connection.takes_retry();
        let is_long = *left >= file::LONG;
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let sent = body.send_file(&mut |from, offset, length| {
            while !output.is_empty() {
                let written =
                    output.poll_write(|slices| file::poll_write_before(socket, cx, slices));
                stream.written(ready!(written)?);
            }
            if is_long && !*is_ahead {
                *is_ahead = true;
                ahead::bound(socket, ahead::MORE);
            }
            let length = length.min(most).min(KERNEL_SHARE * A_TURN);
            file::poll_send(socket, cx, (from, offset, length), at_once)
        });
        let Some(sent) = sent else {
            return Ok(None);
        };
        stream.connection.write_blocked(sent.is_pending());
        Ok(Some(match sent {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(count)) => {
                *left = left.saturating_sub(count as u64);
                stream.connection.taken(count);
                Poll::Ready(count)
            }
            Poll::Ready(Err(error)) => {
                sending.break_off(&error);
                Poll::Ready(0)
            }
        }))
    }
}

/// The part of content that comes from another socket, and that the kernel moves.
impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    /// Moves content through a pipe, once all before it is written. `None`: the next content comes as a frame.
    fn poll_move(
        &mut self,
        sending: &mut Sending<O::Body>,
        cx: &mut Context<'_>,
    ) -> io::Result<Option<Poll<usize>>> {
        let Some(socket) = self.transport.bare() else {
            return Ok(None);
        };
        let stream = &self.stream;
        if sending.pipe.is_none() {
            if !self.output.is_empty() || !sending.moves() {
                return Ok(None);
            }
            let most = self.owner.with_plan(|plan, _| plan.limits.http.pipes);
            let pipes = &self.owner.connections().pipes;
            let Some(mut pipe) = pipes.lend(most, stream.queue.is_slow()) else {
                return Ok(None);
            };
            match sending.fill(&mut pipe, cx) {
                Poll::Pending => return Ok(Some(Poll::Pending)),
                Poll::Ready(()) if pipe.is_empty() => return Ok(Some(Poll::Ready(0))),
                Poll::Ready(()) => sending.pipe = Some(pipe),
            }
        }
        let Some(pipe) = &mut sending.pipe else {
            return Ok(None);
        };
        let polled = pipe.poll_empty(socket, cx, stream.connection.takes_retry());
        stream.connection.write_blocked(polled.is_pending());
        Ok(Some(match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(count) => {
                let count = count?;
                stream.written(count);
                if pipe.is_empty() {
                    sending.pipe = None;
                }
                Poll::Ready(count)
            }
        }))
    }
}

/// A response whose head was written.
struct Sending<B> {
    /// `None` at the end of the content.
    body: Option<B>,
    content: ContentWriter,
    /// Content of the body on its way through the kernel.
    pipe: Option<Pipe>,
    /// Trailers that the head announced; `None`: all may be sent.
    trailers: Option<Vec<FieldName>>,
    /// The content ended before its end.
    is_broken: bool,
    /// The kernel has taken all that it was given at some time.
    is_taken: bool,
    /// The kernel takes more of it ahead than of other content, until its end.
    is_ahead: bool,
    /// Zeros that were sent ahead of the sizes of chunks.
    probes: u8,
}

impl<B: ResponseBody> Sending<B> {
    /// True if the kernel can move the next content.
    fn moves(&self) -> bool {
        let counts = matches!(self.content, ContentWriter::Length(1..));
        counts && self.body.as_ref().is_some_and(ResponseBody::moves)
    }

    /// Moves content of the body into a pipe. It stays empty where the body breaks off.
    fn fill(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(body), ContentWriter::Length(left)) = (&mut self.body, &mut self.content) else {
            return Poll::Ready(());
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let mut take = |socket: &dyn BareSocket, cx: &mut Context<'_>, length: usize| {
            pipe.poll_fill(socket, cx, length.min(most))
        };
        match ready!(body.poll_moved(cx, &mut take)) {
            Ok(count) => *left = left.saturating_sub(count as u64),
            Err(error) => self.break_off(&error),
        }
        Poll::Ready(())
    }

    /// Takes content until the output is full or the body has none; true if the body has to be waited for. `is_bare`:
    /// content that the kernel can move is left to it, once all before has been written.
    fn take(&mut self, output: &mut Outgoing, is_bare: bool, cx: &mut Context<'_>) -> bool {
        while let Some(body) = &mut self.body {
            if matches!(self.content, ContentWriter::None | ContentWriter::Length(0)) {
                self.body = None;
                return false;
            }
            if output.len() >= MOST_AHEAD || is_bare && !output.is_empty() && body.moves() {
                return false;
            }
            let polled = Pin::new(&mut *body).poll_frame(cx);
            let is_last = body.is_end_stream();
            match polled {
                Poll::Pending => return true,
                Poll::Ready(None) => self.end(output, None),
                Poll::Ready(Some(Err(error))) => self.break_off(&*error.into()),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        output.put(&mut self.content, data);
                        if is_last {
                            self.end(output, None);
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        self.end(output, trailers.as_ref().map(Fields::from).as_ref());
                    }
                },
            }
        }
        false
    }

    fn break_off(&mut self, error: &(dyn Error + 'static)) {
        tracing::debug!(error = %error, "the content of a response broke off");
        self.is_broken = true;
        self.body = None;
    }

    fn end(&mut self, output: &mut Outgoing, trailers: Option<&Fields>) {
        self.body = None;
        self.is_broken = !output.finish(self.content, trailers, self.trailers.as_deref());
    }
}

/// Calls with the value of `Date` for now (RFC 9110 §6.6.1), which is made once a second.
pub(crate) fn with_date<R>(write: impl FnOnce(&HeaderValue) -> R) -> R {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = RefCell::new((0, date::format(0)));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    DATE.with_borrow_mut(|(second, value)| {
        if *second != now {
            (*second, *value) = (now, date::format(now));
        }
        write(value)
    })
}
