//! Bodies to and from an origin.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{FetchError, pool::Connected};
use crate::body::BoxError;

/// A request's body.
pub enum RequestBody {
    Empty,
    /// Can be sent again.
    Full(Bytes),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
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

/// Notes that a stream was the request's own fault, which hyper's error does not tell.
pub(super) type Fault = Rc<RefCell<Option<String>>>;

/// A request's body as hyper takes it.
pub(super) struct Outbound {
    pub(super) body: RequestBody,
    pub(super) fault: Option<Fault>,
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match &mut this.body {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Full(_) => match std::mem::replace(&mut this.body, RequestBody::Empty) {
                RequestBody::Full(bytes) if !bytes.is_empty() => {
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                _ => Poll::Ready(None),
            },
            RequestBody::Stream(stream) => {
                let polled = stream.as_mut().poll_frame(cx);
                if let (Poll::Ready(Some(Err(error))), Some(fault)) = (&polled, &this.fault) {
                    *fault.borrow_mut() = Some(error.to_string());
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            RequestBody::Empty => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Stream(stream) => stream.size_hint(),
        }
    }
}

/// A response's body. It drives its connection while it is read, and gives it back to the pool at its end; dropped
/// before, the connection goes with it.
pub struct UpstreamBody {
    incoming: Incoming,
    connected: Option<Connected>,
    between: Duration,
    total: Option<(Instant, Duration)>,
    /// Armed only while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
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
        let mut body = Self {
            incoming,
            connected,
            between,
            total,
            timer: None,
        };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
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
        let this = &mut *self;
        for turn in 0..2 {
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.timer = None;
                    if this.incoming.is_end_stream() {
                        this.give_back();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    this.give_back();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = FetchError::BodyAborted(this.name(), error.to_string());
                    this.connected = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending if turn == 0 => {
                    if let Some(connected) = &mut this.connected {
                        connected.drive(cx);
                    }
                }
                Poll::Pending => {}
            }
        }
        match this.timed_out(cx) {
            Some(error) => {
                this.connected = None;
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
