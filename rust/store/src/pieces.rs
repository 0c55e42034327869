//! The bytes of bodies, in allocations that waste little of the allocator's size classes, and the size of an
//! allocation.

use bytes::Bytes;
use smallvec::SmallVec;

/// A body as it arrived. Nearly always one piece.
pub type Chunks = SmallVec<[Bytes; 1]>;

/// The pieces that hold bytes `first..=last`, cut to size and shared.
pub fn range_of(pieces: &Chunks, first: u64, last: u64) -> SmallVec<[Bytes; 1]> {
    let mut chosen = SmallVec::new();
    let mut start = 0u64;
    for piece in pieces {
        let end = start + piece.len() as u64;
        let from = first.max(start);
        let to = (last + 1).min(end);
        if from < to {
            chosen.push(piece.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
    chosen
}

/// Bodies up to this are one allocation of the entry, longer ones are pieces that entries can share.
pub(super) const SMALL: usize = 16 << 10;
/// The longest piece.
pub(super) const PIECE: usize = 64 << 10;

/// Size of the allocation that `Bytes` makes for its reference count.
pub(super) const SHARED: usize = 32;

/// The real size of an allocation of `length` bytes: the allocator rounds up to one of four sizes for each power of
/// two.
pub(super) fn allocated(length: usize) -> usize {
    match length {
        0 => 0,
        1..=64 => length.next_multiple_of(16),
        _ => length.next_multiple_of(1 << ((length - 1).ilog2() - 2)),
    }
}

/// A body in memory of its own, in pieces that waste little of the allocator's size classes. A small one is left as it
/// is, because its entry copies it.
pub fn compact_body(pieces: Vec<Bytes>, length: usize) -> Chunks {
    if length <= SMALL {
        return pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
    }
    let mut chunks = Chunks::new();
    let mut rest = length;
    let mut current = Vec::with_capacity(next_piece(rest));
    for piece in &pieces {
        let mut piece = piece.as_ref();
        while !piece.is_empty() {
            let room = current.capacity() - current.len();
            let (now, later) = piece.split_at(room.min(piece.len()));
            current.extend_from_slice(now);
            piece = later;
            if current.len() == current.capacity() {
                rest -= current.len();
                let full = std::mem::replace(&mut current, Vec::with_capacity(next_piece(rest)));
                chunks.push(Bytes::from(full));
            }
        }
    }
    if !current.is_empty() {
        chunks.push(Bytes::from(current));
    }
    chunks
}

/// Bytes that a body in pieces takes, and the number of its pieces.
pub(super) fn in_pieces(length: u64) -> (u64, usize) {
    let (mut rest, mut bytes, mut count) = (length, 0, 0);
    while rest > 0 {
        let piece = next_piece(usize::try_from(rest).unwrap_or(usize::MAX));
        bytes += (allocated(piece) + SHARED) as u64;
        count += 1;
        rest = rest.saturating_sub(piece as u64);
    }
    (bytes, count)
}

/// The length of the next piece of a body of which `rest` bytes are left: all, unless rounding that up would waste more
/// than a sixteenth; then as many as fit a size class of the allocator.
fn next_piece(rest: usize) -> usize {
    let whole = rest.min(PIECE);
    if whole <= SMALL || allocated(whole) - whole <= whole / 16 {
        return whole;
    }
    whole - whole % (1 << ((whole - 1).ilog2() - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_large_body_waste_little() {
        for length in (SMALL + 1..1 << 20).step_by(1009) {
            let chunks = compact_body(vec![Bytes::from(vec![0; length])], length);
            assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), length);
            let taken: usize = chunks.iter().map(|piece| allocated(piece.len())).sum();
            assert!(taken - length <= length / 16 + 4096, "{length}: {taken}");
            assert!(chunks.len() <= length / PIECE + 3);
        }
    }
}
