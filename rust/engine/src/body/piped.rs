//! The content that a callable makes while it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::{
    account::Hold,
    functions::pipe::{PieceReader, ROOM, WIDE},
    upstream::BoxError,
};

/// The content that comes through a pipe.
#[derive(Debug)]
pub(crate) struct PipedBody {
    pieces: PieceReader,
    hold: Hold,
    width: Width,
}

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
        }
    }

    /// Makes the pipe wider for a client that has taken all of one that was full, with memory that nobody else needs now.
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
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_at_end()
    }
}
