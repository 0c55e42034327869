//! A request as it is written to an origin: the bytes that wait, and the content that is still to come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use edgerouter_core::http::{
    FieldName, Fields,
    h1::{
        outgoing::Outgoing,
        write::{self, ContentWriter},
    },
};
use http::Method;
use http_body::Frame;
use tokio::{
    io::AsyncWrite as _,
    time::{Instant, Sleep},
};

use super::{
    connect::OriginStream,
    request_body::{BoxError, RequestBody, RequestStream, Turn},
};

/// Bytes of a request that are taken from its body ahead of the socket.
const MOST_AHEAD: usize = 64 << 10;

/// A request as its connection is given it.
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

/// The requests of a connection, one after another.
#[derive(Default)]
pub(super) struct RequestWriter {
    output: Outgoing,
    /// Written bytes may still wait in the stream.
    is_unflushed: bool,
    /// Content of the request that is still to come.
    sending: Option<Sending>,
    /// A byte of the request was written.
    is_sent: bool,
    /// The request waits, or has waited, for a 100 that the client is not to see: the edge sends it one of its own.
    is_gated: bool,
    /// A write has failed: no further request can be written.
    is_broken: bool,
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

impl RequestWriter {
    /// Begins a request; the one before is over. Nothing is written yet.
    pub(super) fn begin(&mut self, request: OutboundRequest<'_>) {
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

    /// True if the request waits, or has waited, for a 100 of its own.
    pub(super) fn is_gated(&self) -> bool {
        self.is_gated
    }

    /// The 100 has come: the content may go.
    pub(super) fn open_gate(&mut self) {
        if let Some(sending) = &mut self.sending {
            sending.gate = None;
        }
    }

    /// True if the request went out whole.
    pub(super) fn is_done(&self) -> bool {
        self.output.is_empty() && !self.is_unflushed && self.sending.is_none()
    }

    /// True if nothing can be sent before more of the content comes from the client.
    pub(super) fn awaits_client(&self) -> bool {
        let awaits = |sending: &Sending| sending.stream.turn() == Turn::Client;
        self.output.is_empty() && self.sending.as_ref().is_some_and(awaits)
    }

    /// True if a write has failed: no further request can be written.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Writes as much of the request as can be written now. `Err` when its content breaks off.
    pub(super) fn send(
        &mut self,
        stream: &mut OriginStream,
        cx: &mut Context<'_>,
    ) -> Result<(), BoxError> {
        loop {
            // Content is taken when that before it has left: an origin that reads none stops the client.
            if self.output.is_empty() || !self.is_sent {
                self.take_content(cx)?;
            }
            if self.output.is_empty() {
                if self.is_unflushed {
                    match Pin::new(&mut *stream).poll_flush(cx) {
                        Poll::Ready(Ok(())) => self.is_unflushed = false,
                        Poll::Ready(Err(_)) => self.stop(),
                        Poll::Pending => {}
                    }
                }
                return Ok(());
            }
            let stream = Pin::new(&mut *stream);
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
                    self.stop();
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// An origin that responds early closes the connection while it is still being sent to, and its response waits to
    /// be read: a write that fails is for the next read to judge (RFC 9112 §9.5).
    fn stop(&mut self) {
        self.is_broken = true;
        self.is_unflushed = false;
        self.sending = None;
        self.output = Outgoing::default();
    }

    /// Moves content of the request, as far as it has come, to the output.
    fn take_content(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
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
                    .finish(sending.framing, trailers.as_ref(), Some(&sending.trailers));
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
