//! Bytes on their way to the other side of a connection: heads and the lines between chunks in one buffer, content
//! between them as it came.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    task::{Poll, ready},
};

use crate::http::{FieldName, Fields};
use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;

use super::write::{self, ContentWriter};

/// Content up to this size is copied behind the head: one piece is written faster than two.
const COPIED: usize = 2 << 10;
/// Most pieces of one write.
const PIECES: usize = 32;
/// Most bytes of one write. The kernel sends as many in one go; the rest of a longer write would be sent by its timers,
/// at the pace that congestion control takes for the path's
/// (docs/decisions/0127).
const AT_ONCE: usize = 64_000;
/// Capacity that is kept for the next message.
const KEPT: usize = 4 << 10;

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Heads, and small content.
    pub text: Vec<u8>,
    /// Bytes of `text` that have been written.
    written: usize,
    /// Content that follows the first so many bytes of `text`.
    pieces: VecDeque<(usize, Bytes)>,
    /// Bytes in `pieces`.
    content: usize,
}

impl Outgoing {
    /// Bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.text.len() - self.written + self.content
    }

    /// True if nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes memory for what will be written, unless there is some already.
    pub fn lend(&mut self, memory: &RefCell<Vec<u8>>) {
        if self.text.capacity() == 0 {
            self.text = memory.take();
        }
    }

    /// Gives the memory away, for others to write with, once nothing waits.
    pub fn give_back(&mut self, memory: &RefCell<Vec<u8>>) {
        if self.is_empty() && self.text.capacity() > 0 {
            memory.replace(std::mem::take(&mut self.text));
        }
    }

    /// Adds content.
    pub fn push(&mut self, content: Bytes) {
        if content.len() <= COPIED {
            self.text.extend_from_slice(&content);
        } else {
            self.content += content.len();
            self.pieces.push_back((self.text.len(), content));
        }
    }

    /// Adds content in the framing that its head announced. Bytes past its length are dropped: they would be read as
    /// another message.
    pub fn put(&mut self, framing: &mut ContentWriter, mut data: Bytes) {
        match framing {
            _ if data.is_empty() => {}
            ContentWriter::None => {}
            ContentWriter::UntilClose => self.push(data),
            ContentWriter::Length(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                self.push(data);
            }
            ContentWriter::Chunked => {
                write::chunk_size(&mut self.text, data.len());
                self.push(data);
                self.text.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Adds the end of content, with those trailers that its head announced, or with all; false if the content is
    /// shorter than its length.
    pub fn finish(
        &mut self,
        framing: ContentWriter,
        trailers: Option<&Fields>,
        announced: Option<&[FieldName]>,
    ) -> bool {
        match framing {
            ContentWriter::Chunked => write::last_chunk(&mut self.text, trailers, announced),
            ContentWriter::Length(left) => return left == 0,
            ContentWriter::None | ContentWriter::UntilClose => {}
        }
        true
    }

    /// Calls `write` with what waits to be written and notes the number of bytes that it took.
    pub fn poll_write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let count = if self.pieces.is_empty() {
            let text = self.text.get(self.written..).unwrap_or_default();
            let (text, _) = text.split_at_checked(AT_ONCE).unwrap_or((text, &[]));
            ready!(write(&[IoSlice::new(text)]))?
        } else {
            ready!(write(&self.slices()))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(count))
    }

    /// The slices of the next write.
    fn slices(&self) -> SmallVec<[IoSlice<'_>; PIECES]> {
        let text = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        let (mut slices, mut room) = (SmallVec::new(), AT_ONCE);
        let (mut at, mut pieces) = (self.written, self.pieces.iter());
        while room > 0 && slices.len() + 2 <= PIECES {
            let next = pieces.next();
            let (end, piece) =
                next.map_or((self.text.len(), None), |(end, piece)| (*end, Some(piece)));
            for bytes in [text(at, end), piece.map_or(&[][..], |piece| piece)] {
                let (bytes, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
                room -= bytes.len();
                if !bytes.is_empty() {
                    slices.push(IoSlice::new(bytes));
                }
            }
            if piece.is_none() {
                break;
            }
            at = end;
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
            let mut taken = Vec::<u8>::new();
            while !output.is_empty() {
                let polled = output.poll_write(|slices| {
                    let before = taken.len();
                    // No more is copied than is taken: one by one that was most of the time of all tests.
                    taken.extend(slices.iter().flat_map(|slice| slice.iter()).take(step));
                    Poll::Ready(Ok(taken.len() - before))
                });
                assert!(polled.is_ready());
            }
            assert_eq!(taken, want, "by {step}");
            assert_eq!(output.text.capacity().max(KEPT), KEPT);
        }
    }

    #[test]
    fn no_write_has_more_than_the_kernel_sends_in_one_go() {
        for pieces in [&[100 << 10][..], &[60_000, 5_000, 1, 200_000], &[3_000; 50]] {
            let mut output = Outgoing::default();
            output.text.extend_from_slice(&[b'h'; 300]);
            for length in pieces {
                output.push(vec![b'x'; *length].into());
            }
            output.text.extend_from_slice(&[b't'; 70_000]);
            while !output.is_empty() {
                let waiting = output.len();
                let polled = output.poll_write(|slices| {
                    let count = slices.iter().map(|slice| slice.len()).sum();
                    assert!(slices.iter().all(|slice| !slice.is_empty()));
                    assert!(slices.len() <= PIECES);
                    assert!(count <= AT_ONCE);
                    assert!(count == waiting.min(AT_ONCE) || slices.len() + 1 >= PIECES);
                    Poll::Ready(Ok(count))
                });
                assert!(matches!(polled, Poll::Ready(Ok(1..))));
            }
        }
    }
}
