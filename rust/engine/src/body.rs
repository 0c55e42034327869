//! The body of a response on its way to a viewer: from the store, from an origin, or from a body still arriving.

mod excerpt;
mod piped;

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;

use crate::{
    account::UnderWay,
    connection::{ResponseBody, SendFile, Stream, TakeContent, queue::Ahead},
    files::FileBody,
    store::{Chunks, arriving::ArrivalReader, range_of},
    upstream::{BoxError, UpstreamBody},
};

pub(crate) use excerpt::{Excerpt, Interrupted};
pub(crate) use piped::PipedBody;

/// A response as the request path makes it.
pub(crate) type EdgeResponse = edgerouter_core::http::Response<EdgeBody>;

#[derive(Debug)]
pub(crate) struct EdgeBody {
    source: Source,
    /// Ends the stream when this is dropped.
    _busy: Option<Busy>,
    account: Option<Box<StreamAccount>>,
    /// True if the last piece of a stream is in the cache as well.
    cached: Option<Rc<Cell<bool>>>,
    /// The request counts as one of its client's for as long as the body lives.
    _under_way: Option<UnderWay>,
}

#[derive(Debug)]
enum Source {
    Empty,
    One(Bytes),
    /// By a function, or a hook in the place of an origin: nothing else holds it.
    Made(Bytes),
    Pieces {
        pieces: smallvec::IntoIter<[Bytes; 1]>,
        left: u64,
    },
    Upstream(Box<UpstreamBody>),
    Streamed(Streamed),
    Piped(Box<PipedBody>),
    File(Box<FileBody>),
    Arriving {
        reader: ArrivalReader,
        length: Option<u64>,
        sent: u64,
        /// Bytes at the beginning that are not in this viewer's range.
        skip: u64,
    },
}

/// A body that is put together while it is sent.
struct Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>);

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Streamed(…)")
    }
}

/// Counts the bytes of a body whose length is not known beforehand, when it is over.
pub(crate) struct StreamAccount {
    pub bytes: u64,
    pub done: Option<Box<dyn FnOnce(u64)>>,
}

impl std::fmt::Debug for StreamAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamAccount")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for StreamAccount {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.bytes);
        }
    }
}

/// Ends the stream of a request when the response is dropped.
#[derive(Debug)]
pub(crate) struct Busy(pub Rc<Stream>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl EdgeBody {
    pub(crate) fn empty() -> Self {
        Self::of(Source::Empty)
    }

    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() {
            Source::Empty
        } else {
            Source::One(bytes)
        })
    }

    /// As `bytes`, of bytes that were made for this one response.
    pub(crate) fn made(bytes: Bytes) -> Self {
        Self::of(if bytes.is_empty() {
            Source::Empty
        } else {
            Source::Made(bytes)
        })
    }

    /// The stored pieces, shared, not copied.
    pub(crate) fn stored(pieces: Chunks, length: u64) -> Self {
        let mut pieces = pieces.into_iter();
        match pieces.as_slice() {
            [] => Self::empty(),
            [_] => pieces.next().map_or_else(Self::empty, Self::bytes),
            _ => Self::of(Source::Pieces {
                pieces,
                left: length,
            }),
        }
    }

    /// Bytes `first..=last` of the stored pieces.
    pub(crate) fn stored_range(pieces: &Chunks, first: u64, last: u64) -> Self {
        Self::pieces(range_of(pieces, first, last))
    }

    pub(crate) fn pieces(pieces: SmallVec<[Bytes; 1]>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self::of(Source::Pieces {
            pieces: pieces.into_iter(),
            left,
        })
    }

    pub(crate) fn upstream(body: Box<UpstreamBody>) -> Self {
        if body.is_end_stream() {
            Self::empty()
        } else {
            Self::of(Source::Upstream(body))
        }
    }

    pub(crate) fn streamed(body: impl Body<Data = Bytes, Error = BoxError> + 'static) -> Self {
        Self::of(Source::Streamed(Streamed(Box::pin(body))))
    }

    pub(crate) fn piped(body: PipedBody) -> Self {
        Self::of(Source::Piped(Box::new(body)))
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self::of(Source::File(Box::new(body)))
    }

    pub(crate) fn arriving(reader: ArrivalReader, length: Option<u64>) -> Self {
        Self::of(Source::Arriving {
            reader,
            length,
            sent: 0,
            skip: 0,
        })
    }

    /// Bytes `first..=last` of a body that is arriving.
    pub(crate) fn arriving_range(reader: ArrivalReader, first: u64, last: u64) -> Self {
        Self::of(Source::Arriving {
            reader,
            length: Some(last - first + 1),
            sent: 0,
            skip: first,
        })
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            _busy: None,
            account: None,
            cached: None,
            _under_way: None,
        }
    }

    /// Has trailers follow the content, where they may: behind a response of an origin or a function without a length.
    pub(crate) fn end_in_trailers(&mut self) -> bool {
        if self.size_hint().exact().is_some() {
            return false;
        }
        match &mut self.source {
            Source::Upstream(_) => true,
            Source::Piped(body) => {
                body.send_trailers();
                true
            }
            _ => false,
        }
    }

    /// True if it is put together while it is sent: bytes that wait for the socket are memory that nothing else holds.
    pub(crate) fn streams(&self) -> bool {
        matches!(
            self.source,
            Source::Made(_)
                | Source::Upstream(_)
                | Source::Streamed(_)
                | Source::Piped(_)
                | Source::File(_)
                | Source::Arriving { .. }
        )
    }

    /// `cached` says of each piece whether the cache has it as well.
    pub(crate) fn with_cached(mut self, cached: Rc<Cell<bool>>) -> Self {
        self.cached = Some(cached);
        self
    }

    /// Keeps these for as long as it lives.
    pub(crate) fn hold(&mut self, busy: Busy, under_way: Option<UnderWay>) {
        self._busy = Some(busy);
        self._under_way = under_way;
    }

    pub(crate) fn on_end(mut self, done: impl FnOnce(u64) + 'static) -> Self {
        self.account = Some(Box::new(StreamAccount {
            bytes: 0,
            done: Some(Box::new(done)),
        }));
        self
    }
}

impl ResponseBody for EdgeBody {
    fn announces_trailers(&self) -> bool {
        !matches!(&self.source, Source::Piped(body) if body.sends_trailers())
    }

    fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    fn send_file(&mut self, send: &mut SendFile<'_>) -> Option<Poll<io::Result<usize>>> {
        let Source::File(body) = &mut self.source else {
            return None;
        };
        let sent = body.send(send);
        if let (Some(account), Some(Poll::Ready(Ok(count)))) = (&mut self.account, &sent) {
            account.bytes += *count as u64;
        }
        sent
    }

    fn moves(&self) -> bool {
        matches!(&self.source, Source::Upstream(body) if body.moves())
    }

    fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut TakeContent<'_>,
    ) -> Poll<io::Result<usize>> {
        let (Source::Upstream(body), Some(busy)) = (&mut self.source, &self._busy) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let queue = &busy.0.queue;
        ready!(queue.poll_room(Ahead::Piece, cx));
        let most = usize::try_from(queue.allowance(MOST_MOVED)).unwrap_or(usize::MAX);
        let moved = body.poll_moved(cx, |socket, cx, left| take(socket, cx, left.min(most)));
        let count = ready!(moved).map_err(io::Error::other)?;
        queue.put(count as u64, false);
        if let Some(account) = &mut self.account {
            account.bytes += count as u64;
        }
        Poll::Ready(Ok(count))
    }
}

/// Content that the kernel moves at a time, at most.
const MOST_MOVED: u64 = 512 << 10;

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let queue = match &this._busy {
            Some(busy) if this.streams() => Some(&busy.0.queue),
            _ => None,
        };
        if let Some(queue) = queue {
            let ahead = match this.source {
                Source::Piped(_) => Ahead::Pieces,
                _ => Ahead::Piece,
            };
            ready!(queue.poll_room(ahead, cx));
        }
        let polled = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::One(_) | Source::Made(_) => {
                match std::mem::replace(&mut this.source, Source::Empty) {
                    Source::One(bytes) | Source::Made(bytes) => {
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    _ => Poll::Ready(None),
                }
            }
            Source::Pieces { pieces, left } => Poll::Ready(pieces.next().map(|piece| {
                *left = left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            })),
            Source::Upstream(body) => Pin::new(&mut **body).poll_frame(cx).map_err(Into::into),
            Source::Streamed(Streamed(body)) => body.as_mut().poll_frame(cx),
            Source::Piped(body) => Pin::new(&mut **body).poll_frame(cx),
            Source::File(body) => Pin::new(&mut **body).poll_frame(cx),
            Source::Arriving {
                reader,
                length,
                sent,
                skip,
            } => loop {
                if *length == Some(*sent) {
                    break Poll::Ready(None);
                }
                match reader.poll_next(cx) {
                    Poll::Pending => break Poll::Pending,
                    Poll::Ready(None) => break Poll::Ready(None),
                    Poll::Ready(Some(Err(broken))) => break Poll::Ready(Some(Err(broken.into()))),
                    Poll::Ready(Some(Ok(mut piece))) => {
                        let passed = (piece.len() as u64).min(*skip);
                        *skip -= passed;
                        let _ = piece.split_to(usize::try_from(passed).unwrap_or(piece.len()));
                        if let Some(length) = length {
                            let left = usize::try_from(*length - *sent).unwrap_or(usize::MAX);
                            piece.truncate(left);
                        }
                        if piece.is_empty() {
                            continue;
                        }
                        *sent += piece.len() as u64;
                        break Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                }
            },
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            if let Some(queue) = queue {
                let cached = this.cached.as_ref().is_some_and(|cached| cached.get());
                queue.put(data.len() as u64, cached);
            }
            if let Some(account) = &mut this.account {
                account.bytes += data.len() as u64;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::One(_) | Source::Made(_) => false,
            Source::Pieces { left, .. } => *left == 0,
            Source::Upstream(body) => body.is_end_stream(),
            Source::Streamed(Streamed(body)) => body.is_end_stream(),
            Source::Piped(body) => body.is_end_stream(),
            Source::File(body) => body.is_end_stream(),
            Source::Arriving { length, sent, .. } => *length == Some(*sent),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::One(bytes) | Source::Made(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Pieces { left, .. } => SizeHint::with_exact(*left),
            Source::Upstream(body) => body.size_hint(),
            Source::Streamed(Streamed(body)) => body.size_hint(),
            Source::Piped(body) => body.size_hint(),
            Source::File(body) => body.size_hint(),
            Source::Arriving { length, sent, .. } => length
                .map_or_else(SizeHint::default, |length| {
                    SizeHint::with_exact(length.saturating_sub(*sent))
                }),
        }
    }
}
