//! A body on its way in: one writer appends, any number of readers follow at their own pace on their own threads.
//!
//! The owner of a buffer holds it under a lock, and decides which pieces may go and when the writer waits.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use bytes::Bytes;

/// Pieces below this are copied: each may keep a larger buffer alive.
const LEAST_PIECE: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Buffer<End> {
    /// In order and without gaps; the last one ends at `arrived`.
    pub pieces: VecDeque<Piece>,
    /// Bytes of `pieces`.
    pub held: u64,
    pub arrived: u64,
    pub end: Option<End>,
    readers: Vec<Place>,
    next_id: u64,
    writer: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Piece {
    pub start: u64,
    pub bytes: Bytes,
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[derive(Debug)]
struct Place {
    id: u64,
    position: u64,
    waker: Option<Waker>,
}

/// All readers have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NobodyReads;

/// The bytes that the reader needs next are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftBehind;

fn bytes_at(pieces: &VecDeque<Piece>, position: u64) -> Option<Bytes> {
    let at = pieces.partition_point(|piece| piece.end() <= position);
    let piece = pieces.get(at)?;
    let skip = usize::try_from(position.checked_sub(piece.start)?).ok()?;
    Some(piece.bytes.slice(skip.min(piece.bytes.len())..))
}

impl<End: Copy> Buffer<End> {
    /// A buffer whose first byte is at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            pieces: VecDeque::new(),
            held: 0,
            arrived: first,
            end: None,
            readers: Vec::new(),
            next_id: 0,
            writer: None,
        }
    }

    /// Position of the first byte that is still here.
    pub(crate) fn start(&self) -> u64 {
        self.pieces
            .front()
            .map_or(self.arrived, |piece| piece.start)
    }

    /// Appends a piece and wakes the readers.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let bytes = if bytes.len() < LEAST_PIECE {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes
        };
        let start = self.arrived;
        self.arrived += bytes.len() as u64;
        self.held += bytes.len() as u64;
        self.pieces.push_back(Piece { start, bytes });
        self.wake_readers();
    }

    /// Ends the body, unless it has ended.
    pub(crate) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake_readers();
    }

    /// Drops all pieces and ends the body, even if all of it has arrived; the bytes of the pieces.
    pub(crate) fn break_off(&mut self, end: End) -> u64 {
        self.end = Some(end);
        self.wake_readers();
        self.trim(|_| true)
    }

    /// Drops the pieces from the front on that are `needless`; their bytes.
    pub(crate) fn trim(&mut self, needless: impl Fn(&Piece) -> bool) -> u64 {
        let mut freed = 0;
        while let Some(piece) = self.pieces.front().filter(|piece| needless(piece)) {
            freed += piece.bytes.len() as u64;
            self.pieces.pop_front();
        }
        self.held = self.held.saturating_sub(freed);
        freed
    }

    /// The bytes from `position` on to the end of their piece.
    pub(crate) fn at(&self, position: u64) -> Option<Bytes> {
        bytes_at(&self.pieces, position)
    }

    /// The next bytes of a reader, which is behind them then; `None`: they have yet to arrive.
    pub(crate) fn next(&mut self, id: u64) -> Result<Option<Bytes>, LeftBehind> {
        let start = self.start();
        let reader = self.readers.iter_mut().find(|reader| reader.id == id);
        let reader = reader.filter(|reader| reader.position >= start);
        let reader = reader.ok_or(LeftBehind)?;
        let bytes = bytes_at(&self.pieces, reader.position);
        reader.position += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(bytes)
    }

    /// A new reader's number.
    pub(crate) fn join(&mut self, position: u64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.readers.push(Place {
            id,
            position,
            waker: None,
        });
        id
    }

    pub(crate) fn leave(&mut self, id: u64) {
        self.readers.retain(|reader| reader.id != id);
        self.wake_writer();
    }

    /// Drops readers that are at `position` or before.
    pub(crate) fn leave_behind(&mut self, position: u64) {
        self.readers.retain(|reader| reader.position > position);
    }

    /// True if the reader was elsewhere.
    pub(crate) fn advance(&mut self, id: u64, position: u64) -> bool {
        let reader = self.readers.iter_mut().find(|reader| reader.id == id);
        reader.is_some_and(|reader| std::mem::replace(&mut reader.position, position) != position)
    }

    pub(crate) fn slowest(&self) -> Option<u64> {
        self.readers.iter().map(|reader| reader.position).min()
    }

    pub(crate) fn fastest(&self) -> Option<u64> {
        self.readers.iter().map(|reader| reader.position).max()
    }

    pub(crate) fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    pub(crate) fn was_read(&self) -> bool {
        self.next_id > 0
    }

    /// Has a reader woken by what comes next.
    pub(crate) fn wait(&mut self, id: u64, cx: &Context<'_>) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.waker = Some(cx.waker().clone());
        }
    }

    /// Has the writer woken when readers move on.
    pub(crate) fn wait_for_room(&mut self, cx: &Context<'_>) {
        self.writer = Some(cx.waker().clone());
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_readers(&mut self) {
        for reader in &mut self.readers {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(pieces: &[&'static str]) -> Buffer<()> {
        let mut buffer = Buffer::new(100);
        for piece in pieces {
            buffer.push(Bytes::from_static(piece.as_bytes()));
        }
        buffer
    }

    #[test]
    fn bytes_are_found_by_position_as_long_as_their_piece_is_here() {
        let mut buffer = buffer(&["abc", "", "de"]);
        let at = |buffer: &Buffer<()>, position| buffer.at(position);
        for (position, want) in [(100, "abc"), (102, "c"), (103, "de"), (104, "e")] {
            assert_eq!(at(&buffer, position).as_deref(), Some(want.as_bytes()));
        }
        assert_eq!(at(&buffer, 105), None);
        assert_eq!(at(&buffer, 99), None);
        assert_eq!(buffer.trim(|piece| piece.end() <= 103), 3);
        assert_eq!((buffer.start(), buffer.arrived, buffer.held), (103, 105, 2));
        assert_eq!(at(&buffer, 100), None);
        assert_eq!(buffer.break_off(()), 2);
        assert_eq!(
            (buffer.start(), buffer.held, buffer.end),
            (105, 0, Some(()))
        );
    }

    #[test]
    fn readers_are_where_they_last_were() {
        let mut buffer = buffer(&["abcde"]);
        assert_eq!((buffer.slowest(), buffer.was_read()), (None, false));
        let (first, second) = (buffer.join(100), buffer.join(102));
        assert!(buffer.advance(first, 104));
        assert!(!buffer.advance(first, 104));
        assert_eq!((buffer.slowest(), buffer.fastest()), (Some(102), Some(104)));
        buffer.leave(second);
        assert_eq!(buffer.slowest(), Some(104));
        buffer.leave(first);
        assert_eq!((buffer.is_read(), buffer.was_read()), (false, true));
    }

    #[test]
    fn a_reader_gets_piece_after_piece_unless_they_are_gone() {
        let mut buffer = buffer(&["abc"]);
        let (first, second) = (buffer.join(100), buffer.join(101));
        assert_eq!(buffer.next(first), Ok(Some("abc".into())));
        assert_eq!(buffer.next(first), Ok(None));
        buffer.push("de".into());
        assert_eq!(buffer.next(first), Ok(Some("de".into())));
        assert_eq!(buffer.next(second), Ok(Some("bc".into())));
        let third = buffer.join(100);
        buffer.trim(|piece| piece.end() <= 103);
        assert_eq!(buffer.next(third), Err(LeftBehind));
        assert_eq!(buffer.next(second), Ok(Some("de".into())));
        buffer.leave(second);
        assert_eq!(buffer.next(second), Err(LeftBehind));
    }
}
