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
            let mut taken = Vec::new();
            while !output.is_empty() {
                let polled = output.poll_write(|slices| {
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    let count = all.len().min(step);
                    taken.extend_from_slice(&all[..count]);
                    Poll::Ready(Ok(count))
                });
                assert!(polled.is_ready());
            }
            assert_eq!(taken, want, "by {step}");
            assert_eq!(output.text.capacity().max(KEPT), KEPT);
        }
    }
}
