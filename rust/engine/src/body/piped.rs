//! The content that a callable makes while it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::{
    account::Hold,
    functions::pipe::{PieceReader, ROOM, WIDTHS},
    upstream::BoxError,
};

/// The content that comes through a pipe.
#[derive(Debug)]
pub(crate) struct PipedBody {
    pieces: PieceReader,
    hold: Hold,
    room: usize,
    /// The widths that it has not reached.
    widths: &'static [usize],
    /// All that waited has been taken since it had this room: its client is quick.
    was_empty: bool,
}

impl PipedBody {
    /// `hold`: the memory for the pieces that wait.
    pub(crate) fn new(pieces: PieceReader, hold: Hold) -> Self {
        Self {
            pieces,
            hold,
            room: ROOM,
            widths: &WIDTHS,
            was_empty: true,
        }
    }

    /// Makes the pipe wider that was filled, with memory that nobody else needs now.
    fn widen(&mut self) {
        let Some((next, further)) = self.widths.split_first() else {
            return;
        };
        if !self.was_empty || !self.pieces.is_full() {
            return;
        }
        if self.hold.draw_free((next - self.room) as u64).is_err() {
            self.widths = &[];
            return;
        }
        self.pieces.widen(*next);
        (self.room, self.widths, self.was_empty) = (*next, further, false);
    }
}

impl Body for PipedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.widen();
        let polled = self.pieces.poll_piece(cx);
        self.was_empty |= polled.is_pending();
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_at_end()
    }
}
