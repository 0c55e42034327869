//! The content that a callable makes while it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use edgerouter_core::admit;
use http_body::{Body, Frame, SizeHint};

use crate::{
    account::Hold,
    functions::pipe::{BrokenOff, PieceReader, ROOM, WIDE},
    upstream::BoxError,
};

/// The content that comes through a pipe.
#[derive(Debug)]
pub(crate) struct PipedBody {
    pieces: PieceReader,
    hold: Hold,
    width: Width,
    /// The bytes that are still to come, where its head says how many there are.
    left: Option<u64>,
    /// Its trailers may be sent.
    with_trailers: bool,
}

/// The content is not as long as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a callable gave content of another length than its Content-Length says")]
struct OtherLength;

/// Its turns so far, which show whether it is to be wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// The writer has not had to wait.
    Enough,
    /// The writer had to wait, and the client has not taken all yet.
    Filled,
    /// It stays as wide as it is.
    Settled,
}

impl PipedBody {
    /// `hold`: the memory for the pieces that wait.
    pub(crate) fn new(pieces: PieceReader, hold: Hold) -> Self {
        Self {
            pieces,
            hold,
            width: Width::Enough,
            left: None,
            with_trailers: false,
        }
    }

    /// Has trailers sent, where the client takes them.
    pub(crate) fn send_trailers(&mut self) {
        self.with_trailers = true;
    }

    /// True if they are.
    pub(crate) fn sends_trailers(&self) -> bool {
        self.with_trailers
    }

    /// The trailers, once all content was taken, without those that have to be known before it.
    fn trailers(&self) -> Option<Frame<Bytes>> {
        let mut trailers = self.pieces.take_trailers().filter(|_| self.with_trailers)?;
        admit::late(&mut trailers);
        (!trailers.is_empty()).then(|| Frame::trailers((*trailers).into()))
    }

    /// The same, of which a head says that it has `length` bytes: other content breaks off.
    pub(crate) fn of_length(self, length: Option<u64>) -> Self {
        Self {
            left: length,
            ..self
        }
    }

    /// The piece, if the length has room for it; the end, if it was reached.
    fn counted(
        &mut self,
        piece: Option<Result<Bytes, BrokenOff>>,
    ) -> Option<Result<Bytes, BoxError>> {
        match (piece, &mut self.left) {
            (Some(Ok(piece)), Some(left)) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Some(Ok(piece))
                }
                None => Some(Err(OtherLength.into())),
            },
            (None, Some(1..)) => Some(Err(OtherLength.into())),
            (piece, _) => piece.map(|piece| piece.map_err(Into::into)),
        }
    }

    /// Makes the pipe wider for a client that has taken all of one that was full, with memory that nobody else needs
    /// now.
    fn widen(&mut self) {
        if self.hold.draw_free((WIDE - ROOM) as u64).is_ok() {
            self.pieces.widen(WIDE);
        }
        self.width = Width::Settled;
    }
}

impl Body for PipedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.width == Width::Enough && self.pieces.is_full() {
            self.width = Width::Filled;
        }
        let polled = self.pieces.poll_piece(cx);
        if self.width == Width::Filled && polled.is_pending() {
            self.widen();
        }
        polled.map(|piece| match self.counted(piece) {
            None => self.trailers().map(Ok),
            Some(piece) => Some(piece.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_at_end() && !matches!(self.left, Some(1..))
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
