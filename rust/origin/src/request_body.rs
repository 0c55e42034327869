//! Bodies of requests to an origin.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use edgerouter_core::admit;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::responses::Responses;

/// Boxed errors as hyper takes them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body. Attempts in turn, or beside each other where it can be sent again, hold the same.
#[derive(Clone)]
pub enum RequestBody {
    /// No content.
    Empty,
    /// Can be sent again.
    Full(Bytes),
    /// Comes from the client, and can be sent once.
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
    /// A body that comes from the client.
    pub fn stream(body: impl Body<Data = Bytes, Error = BoxError> + 'static) -> Self {
        Self::Stream(RequestStream(Rc::new(Streaming {
            body: RefCell::new(Box::pin(body)),
            turn: Cell::new(Turn::Origin(Instant::now())),
            fault: RefCell::new(None),
        })))
    }

    /// True if it can be sent any number of times.
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
    /// The reason why it broke off, which is not in hyper's error.
    fault: RefCell<Option<String>>,
}

/// The side that is waited for while a request is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more has come from the client: only its own time-out runs.
    Client,
    /// The origin has had a piece to take since then.
    Origin(Instant),
    /// The request was sent whole at that time (RFC 9110 §15.6.5: only now the origin can be late).
    Whole(Instant),
}

impl RequestStream {
    /// The side that the transfer waits for now, and since when.
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
    /// The condition under which the content is read.
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
