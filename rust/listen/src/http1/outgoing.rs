//! Bytes on their way to a client: heads and the lines between chunks in one buffer, content between them as it came.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Content up to this size is copied behind the head: one piece is written faster than two.
const COPIED: usize = 2 << 10;
/// Most pieces of one write.
const PIECES: usize = 32;
/// Capacity that is kept for the next response.
const KEPT: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Heads, and small content.
    pub(crate) text: Vec<u8>,
    /// Bytes of `text` that have been written.
    written: usize,
    /// Content that follows the first so many bytes of `text`.
    pieces: VecDeque<(usize, Bytes)>,
    /// Bytes in `pieces`.
    content: usize,
}

impl Outgoing {
    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.text.len() - self.written + self.content
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds content.
    pub(crate) fn push(&mut self, content: Bytes) {
        if content.len() <= COPIED {
            self.text.extend_from_slice(&content);
        } else {
            self.content += content.len();
            self.pieces.push_back((self.text.len(), content));
        }
    }

    /// Writes as much as the transport takes now; gives the number of bytes.
    pub(crate) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let transport = Pin::new(transport);
        let count = if self.pieces.is_empty() {
            let text = self.text.get(self.written..).unwrap_or_default();
            ready!(transport.poll_write(cx, text))?
        } else {
            ready!(transport.poll_write_vectored(cx, &self.slices()))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(count))
    }

    fn slices(&self) -> SmallVec<[IoSlice<'_>; PIECES]> {
        let mut slices = SmallVec::new();
        let mut at = self.written;
        for (end, piece) in &self.pieces {
            if slices.len() + 2 >= PIECES {
                return slices;
            }
            if let Some(text) = self.text.get(at..*end).filter(|text| !text.is_empty()) {
                slices.push(IoSlice::new(text));
            }
            slices.push(IoSlice::new(piece));
            at = *end;
        }
        if let Some(text) = self.text.get(at..).filter(|text| !text.is_empty()) {
            slices.push(IoSlice::new(text));
        }
        slices
    }

    fn advance(&mut self, mut count: usize) {
        while let Some((end, piece)) = self.pieces.front_mut() {
            let text = count.min(end.saturating_sub(self.written));
            self.written += text;
            count -= text;
            let content = count.min(piece.len());
            piece.advance(content);
            count -= content;
            self.content -= content;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.written += count;
        if self.written >= self.text.len() {
            self.text.clear();
            self.text.shrink_to(KEPT);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Takes at most so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn bytes_leave_in_their_order_however_few_are_taken() {
        for step in [1, 2, 7, 1000, 5000, 1 << 20] {
            let (mut output, mut want) = (Outgoing::default(), Vec::new());
            for at in 0..40u8 {
                output.text.extend_from_slice(b"head");
                want.extend_from_slice(b"head");
                let piece = vec![at; usize::from(at) * 100];
                want.extend_from_slice(&piece);
                output.push(piece.into());
            }
            assert_eq!(output.len(), want.len());
            let mut client = Narrow(step, Vec::new());
            while !output.is_empty() {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                assert!(output.poll_write(&mut client, &mut cx).is_ready());
            }
            assert_eq!(client.1, want, "by {step}");
            assert_eq!(output.text.capacity().max(KEPT), KEPT);
        }
    }
}
