//! Bodies of requests to an origin.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::http::h1::request::RequestContent;
use http_body::{Body, Frame};
use tokio::time::Instant;

/// Errors of a client's content.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The time for which the client of an upload may be waited for before anything has come.
const FIRST_LEAD: Duration = Duration::from_secs(1);

/// The longest time for which it may be waited for, whatever has come.
const MOST_LEAD: Duration = Duration::from_secs(5);

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
    /// A body that comes from the client, whose bytes a second are `rate` at least where it is not slow; 0: it never is.
    pub fn stream(body: impl Body<Data = Bytes, Error = BoxError> + 'static, rate: u64) -> Self {
        Self::Stream(RequestStream(Rc::new(Streaming {
            body: RefCell::new(Box::pin(body)),
            turn: Cell::new(Turn::Origin(Instant::now())),
            lead: Lead::new(rate),
        })))
    }

    /// The framing that it needs.
    pub(super) fn content(&self) -> RequestContent {
        let length = match self {
            Self::Empty => Some(0),
            Self::Full(content) => Some(content.len() as u64),
            Self::Stream(stream) if stream.is_over() => Some(0),
            Self::Stream(stream) => stream.0.body.borrow().size_hint().exact(),
        };
        match length {
            None => RequestContent::Chunked,
            Some(0) => RequestContent::None,
            Some(length) => RequestContent::Length(length),
        }
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
    lead: Lead,
}

/// How long the client may still be waited for: what it sends adds to that, and the time that it takes is taken away.
struct Lead {
    /// Bytes a second; 0: no bound.
    rate: u64,
    left: Cell<Duration>,
    waiting_since: Cell<Option<Instant>>,
}

impl Lead {
    fn new(rate: u64) -> Self {
        Self {
            rate,
            left: Cell::new(FIRST_LEAD),
            waiting_since: Cell::new(None),
        }
    }

    fn wait(&self) {
        if self.rate > 0 && self.waiting_since.get().is_none() {
            self.waiting_since.set(Some(Instant::now()));
        }
    }

    fn note(&self, bytes: usize) {
        let took = self.waiting_since.take().map(|since| since.elapsed());
        let brought = (bytes as u64).saturating_mul(1_000) / self.rate.max(1);
        let left = self.left.get().saturating_sub(took.unwrap_or_default());
        let left = left.saturating_add(Duration::from_millis(brought));
        self.left.set(left.min(MOST_LEAD));
    }

    fn is_over(&self) -> bool {
        let since = self.waiting_since.get();
        since.is_some_and(|since| since.elapsed() > self.left.get())
    }
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

    /// True while more is waited for from a client that has sent less than it should.
    pub(super) fn is_slow(&self) -> bool {
        self.0.lead.is_over()
    }

    /// The next frame. While bytes of those before are still being written, it is the origin that is waited for.
    pub(super) fn poll(
        &self,
        is_writing: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = self.0.body.borrow_mut();
        let polled = body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Pending if !is_writing => self.0.lead.wait(),
            Poll::Ready(Some(Ok(frame))) => {
                self.0.lead.note(frame.data_ref().map_or(0, Bytes::len));
            }
            _ => {}
        }
        self.0.turn.set(match &polled {
            Poll::Pending if is_writing => return polled,
            Poll::Pending => Turn::Client,
            Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => Turn::Origin(Instant::now()),
            Poll::Ready(_) => Turn::Whole(Instant::now()),
        });
        polled
    }

    /// True if no frame follows.
    pub(super) fn is_over(&self) -> bool {
        self.0.body.borrow().is_end_stream()
    }
}
