//! Space to read into, without zeroing it and without keeping what is not filled.
//!
//! Content of a known length is read into space of its own length. Anything else is read into space that the worker
//! keeps: little of it is copied out, and space that comes out full is handed over and made anew. Space is always
//! longer than the content that may come, so a read that does not fill it shows that nothing else has come: the next
//! one is not tried before there is more.

use std::{
    cell::Cell,
    io,
    ops::Range,
    pin::pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::connect::OriginStream;

/// Most bytes of one read, and so of one piece of a body.
const MOST_READ: usize = 64 << 10;
/// Content from this length on gets space of its own.
const LEAST_OWN: u64 = 4 << 10;

thread_local! {
    static KEPT: Cell<BytesMut> = Cell::new(BytesMut::new());
}

#[derive(Debug)]
pub(super) struct Space(BytesMut);

impl Space {
    /// Space for content of this length, or for bytes that are not counted in advance.
    pub(super) fn of(length: Option<u64>) -> Self {
        if let Some(length @ LEAST_OWN..) = length
            && let Ok(length) = usize::try_from(length)
            && length < MOST_READ
        {
            return Self(BytesMut::with_capacity(length + 1));
        }
        let mut space = KEPT.try_with(Cell::take).unwrap_or_default();
        if space.capacity() < MOST_READ {
            space = BytesMut::with_capacity(MOST_READ);
        }
        Self(space)
    }

    /// Bytes that have been read already, with those of `fresh` behind them.
    pub(super) fn joined(mut before: BytesMut, fresh: &Self) -> Self {
        before.extend_from_slice(&fresh.0);
        Self(before)
    }

    /// Reads once; `0` at the end.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut OriginStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        pin!(stream.read_buf(&mut self.0)).poll(cx)
    }

    /// The bytes from `at` on.
    pub(super) fn from(&mut self, at: usize) -> &mut [u8] {
        self.0.get_mut(at..).unwrap_or_default()
    }

    /// Keeps the bytes from `at` on.
    pub(super) fn keep(mut self, at: usize) -> BytesMut {
        if self.0.capacity() >= MOST_READ {
            BytesMut::from(&*self.from(at))
        } else {
            self.0.advance(at.min(self.0.len()));
            std::mem::take(&mut self.0)
        }
    }

    /// Bytes to hand on: the space itself if most of it is used.
    pub(super) fn piece(mut self, range: Range<usize>) -> Bytes {
        if range.len() / 7 >= self.0.capacity() / 8 {
            let mut piece = self.0.split().freeze();
            piece.truncate(range.end);
            piece.advance(range.start.min(piece.len()));
            return piece;
        }
        Bytes::copy_from_slice(self.0.get(range).unwrap_or_default())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if (MOST_READ..2 * MOST_READ).contains(&self.0.capacity()) {
            self.0.clear();
            let space = std::mem::take(&mut self.0);
            let _ = KEPT.try_with(|kept| kept.set(space));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_memory_of_their_own_length() {
        for (length, filled, range, is_shared) in [
            (None, 100, 0..100, false),
            (None, 65_000, 200..65_000, true),
            (None, 65_000, 40_000..65_000, false),
            (Some(1_000_000), MOST_READ, 0..MOST_READ, true),
            (Some(10_000), 10_000, 0..10_000, true),
            (Some(10_000), 5_000, 0..5_000, false),
        ] {
            let mut space = Space::of(length);
            let at = space.0.as_ptr();
            space.0.extend((0..filled).map(|byte| byte as u8));
            let want: Vec<u8> = range.clone().map(|byte| byte as u8).collect();
            let start = range.start;
            let piece = space.piece(range);
            assert_eq!(piece, want);
            assert_eq!(
                piece.as_ptr() == at.wrapping_add(start),
                is_shared,
                "{length:?} {filled}"
            );
        }
    }
}
