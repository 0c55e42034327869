//! The lines of a head, for requests and responses.

use memchr::memchr;
use smallvec::SmallVec;

use crate::http::words::near;

/// The ends of a head's lines: positions of LF.
pub(crate) type LineEnds = SmallVec<[usize; 24]>;

/// The length of the head at the start of `text`, up to its first empty line; `ends`, empty before, gets the ends of
/// its lines. A bare LF ends a line as well (RFC 9112 §2.2). `searched`: the number of bytes already searched for the
/// end.
#[inline]
pub(crate) fn head_lines(text: &[u8], searched: usize, ends: &mut LineEnds) -> Option<usize> {
    // The end may have begun in the bytes that were searched.
    let from = searched.saturating_sub(3);
    let length = head_end(text, from, ends)?;
    if from > 0 {
        ends.clear();
        head_end(text, 0, ends);
    }
    Some(length)
}

fn head_end(text: &[u8], mut from: usize, ends: &mut LineEnds) -> Option<usize> {
    loop {
        let at = from + line_end(text.get(from..)?)?;
        ends.push(at);
        match text.get(at + 1..) {
            Some([b'\n', ..]) => return Some(at + 2),
            Some([b'\r', b'\n', ..]) => return Some(at + 3),
            _ => from = at + 1,
        }
    }
}

/// The place of the first LF. Most lines are short: a search made for long texts would cost more to begin.
#[inline]
fn line_end(text: &[u8]) -> Option<usize> {
    const SHORT: usize = 48;
    let (start, rest) = text.split_at_checked(SHORT).unwrap_or((text, &[]));
    near(b'\n', start).or_else(|| Some(start.len() + memchr(b'\n', rest)?))
}
