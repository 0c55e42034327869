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
pub(crate) struct PipedBody {
    pieces: PieceReader,
    hold: Hold,
    /// It has been filled once.
    was_full: bool,
}

impl PipedBody {
    /// `hold`: the memory for the pieces that wait.
    pub(crate) fn new(pieces: PieceReader, hold: Hold) -> Self {
        Self {
            pieces,
            hold,
            was_full: false,
        }
    }
}

impl Body for PipedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.was_full && self.pieces.is_full() {
            self.was_full = true;
            // Memory that nobody else needs now.
            if self.hold.draw_free((WIDE - ROOM) as u64).is_ok() {
                self.pieces.widen();
            }
        }
        let polled = self.pieces.poll_piece(cx);
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_at_end()
    }
}
