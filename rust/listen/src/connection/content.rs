//! Content of a request on its way from the connection that it comes by to its reader.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use edgerouter_core::http::Fields;
use http_body::{Body, Frame, SizeHint};

use super::Connection;

/// Bytes of content that are dropped at most where nobody reads them; a connection with more of it ends.
const DROPPED: u64 = 64 << 10;

/// Content of a client's request. The connection is read only while somebody waits for a frame.
#[derive(Debug, Default)]
pub struct ClientBody(Option<Rc<Inflow>>);

/// One piece of content between the connection, which puts it, and the body, which takes it.
#[derive(Debug)]
pub(crate) struct Inflow {
    connection: Rc<Connection>,
    state: Cell<InflowState>,
    /// Bytes that the reader has still to get, if their number is known.
    left: Cell<Option<u64>>,
    piece: RefCell<Bytes>,
    trailers: RefCell<Option<Fields>>,
    reader: RefCell<Option<Waker>>,
    /// The task that puts pieces; `None`: the connection's.
    sender: RefCell<Option<Waker>>,
    is_dropped: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InflowState {
    /// More comes.
    Open,
    Complete,
    /// The client broke off, or sent bytes that are not its content.
    Broken,
}

/// The content of a request broke off.
#[derive(Debug, thiserror::Error)]
#[error("the content of the request broke off or is malformed")]
struct Broken;

impl Inflow {
    /// A body without any piece yet, of `length` bytes if that is known.
    pub(crate) fn open(connection: &Rc<Connection>, length: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            connection: Rc::clone(connection),
            state: Cell::new(InflowState::Open),
            left: Cell::new(length),
            piece: RefCell::default(),
            trailers: RefCell::default(),
            reader: RefCell::default(),
            sender: RefCell::default(),
            is_dropped: Cell::new(false),
        })
    }

    /// Pieces are put by the task of `waker`.
    pub(crate) fn sent_by(&self, waker: &Waker) {
        let mut sender = self.sender.borrow_mut();
        if !sender.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *sender = Some(waker.clone());
        }
    }

    fn wake_sender(&self) {
        match &*self.sender.borrow() {
            Some(sender) => sender.wake_by_ref(),
            None => self.connection.wake(),
        }
    }

    /// True if a reader waits for the next piece.
    pub(crate) fn is_awaited(&self) -> bool {
        self.reader.borrow().is_some()
    }

    /// True if nobody will read the rest.
    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.get()
    }

    /// True if the rest is so little that it is read and dropped, to keep the connection.
    pub(crate) fn is_short(&self) -> bool {
        self.left.get().is_some_and(|left| left <= DROPPED)
    }

    /// Gives the reader a piece; the one before has been taken.
    pub(crate) fn put(&self, piece: Bytes) {
        self.piece.replace(piece);
        self.wake();
    }

    /// Ends the content after the piece that was put last.
    pub(crate) fn complete(&self, trailers: Option<Fields>) {
        self.trailers.replace(trailers);
        self.state.set(InflowState::Complete);
        self.wake();
    }

    /// Ends the content in an error.
    pub(crate) fn break_off(&self) {
        self.state.set(InflowState::Broken);
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

impl ClientBody {
    /// Content that is whole already, of a request that did not come by `connection`.
    pub fn whole(connection: &Rc<Connection>, content: Bytes) -> Self {
        let inflow = Inflow::open(connection, Some(content.len() as u64));
        inflow.put(content);
        inflow.complete(None);
        Self(Some(inflow))
    }

    /// True if all of it has come.
    pub fn is_complete(&self) -> bool {
        (self.0.as_ref()).is_none_or(|inflow| inflow.state.get() == InflowState::Complete)
    }

    /// The reader's side of `inflow`.
    pub(crate) fn reading(inflow: Rc<Inflow>) -> Self {
        Self(Some(inflow))
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(inflow) = &self.0 {
            inflow.is_dropped.set(true);
            inflow.reader.take();
            // A sender of its own goes on to the end of what nobody reads.
            if let Some(sender) = inflow.sender.borrow_mut().take() {
                sender.wake();
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(inflow) = &self.0 else {
            return Poll::Ready(None);
        };
        let piece = inflow.piece.take();
        if !piece.is_empty() {
            let left = inflow.left.get();
            let left = left.map(|left| left.saturating_sub(piece.len() as u64));
            inflow.left.set(left);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match inflow.state.get() {
            InflowState::Open => {
                *inflow.reader.borrow_mut() = Some(cx.waker().clone());
                inflow.wake_sender();
                Poll::Pending
            }
            InflowState::Complete => {
                let trailers = inflow.trailers.take();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers.into()))))
            }
            InflowState::Broken => Poll::Ready(Some(Err(Box::new(Broken)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|inflow| inflow.left.get() == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(inflow) => inflow
                .left
                .get()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
