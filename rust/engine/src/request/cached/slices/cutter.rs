//! A stream cut into slices.

use bytes::Bytes;

use crate::store::Slices;

/// Cuts a stream at the slices' bounds. A slice whose beginning did not come is left out, and one for which there is no
/// memory.
pub(super) struct Cutter {
    size: u64,
    length: u64,
    pub position: u64,
    /// Pieces of the slice that is half here: put together when it is whole, so that it takes no more than has come.
    current: Vec<Bytes>,
    gathered: usize,
    /// The slice that comes now is not put together.
    left_out: bool,
}

impl Cutter {
    pub(super) fn new(cut: Slices, length: u64, begins: u64) -> Self {
        let size = cut.size.max(1);
        Self {
            size,
            length,
            position: begins,
            current: Vec::new(),
            gathered: 0,
            left_out: true,
        }
    }

    /// Lets go of the slice that is half here.
    pub(super) fn leave_out(&mut self) {
        self.current = Vec::new();
        self.gathered = 0;
        self.left_out = true;
    }

    /// Everything before it has been cut off, or left out.
    pub(super) fn stored(&self) -> u64 {
        self.position - self.gathered as u64
    }

    /// True if no slice that is to be stored is incomplete.
    pub(super) fn between(&self) -> bool {
        self.gathered == 0
    }

    /// Bytes that the slice which is half here takes: all of it was drawn when it began.
    pub(super) fn cutting(&self) -> u64 {
        if self.between() {
            return 0;
        }
        let start = self.position - self.position % self.size;
        self.size.min(self.length.saturating_sub(start))
    }

    /// The slices that `data` completes, by their index. `room`: whether there is memory for one that begins in it.
    pub(super) fn take(
        &mut self,
        data: &Bytes,
        mut room: impl FnMut(u64) -> bool,
    ) -> Vec<(u64, Bytes)> {
        let mut data = data.clone();
        let mut complete = Vec::new();
        while !data.is_empty() && self.position < self.length {
            let index = self.position / self.size;
            let end = ((index + 1) * self.size).min(self.length);
            let left = end - self.position;
            if self.position == index * self.size {
                self.left_out = !room(left);
            }
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let now = data.split_to(left.min(data.len()));
            self.position += now.len() as u64;
            if !self.left_out {
                self.gathered += now.len();
                self.current.push(now);
            }
            if self.position == end {
                let pieces = std::mem::take(&mut self.current);
                let gathered = std::mem::take(&mut self.gathered);
                if gathered > 0 {
                    let mut slice = Vec::with_capacity(gathered);
                    for piece in &pieces {
                        slice.extend_from_slice(piece);
                    }
                    complete.push((index, Bytes::from(slice)));
                }
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_at_the_bounds_however_it_arrives() {
        let whole: Vec<u8> = (0..1005u32).map(|i| i as u8).collect();
        let cut = Slices {
            size: 100,
            nonce: 7,
        };
        for piece in [1, 7, 99, 100, 101, 1005] {
            let mut cutter = Cutter::new(cut, 1005, 300);
            let mut slices = Vec::new();
            for data in whole.split_at(300).1.chunks(piece) {
                slices.extend(cutter.take(&Bytes::copy_from_slice(data), |_| true));
            }
            assert_eq!(slices.len(), 8, "{piece}");
            for (index, slice) in slices {
                let start = index as usize * 100;
                assert_eq!(slice, whole.split_at(start).1.split_at(slice.len()).0);
                assert_eq!(slice.len(), if index == 10 { 5 } else { 100 });
            }
            assert!(cutter.between());
        }
    }

    #[test]
    fn a_slice_that_is_left_out_takes_no_memory_and_ends_where_the_next_begins() {
        let cut = Slices {
            size: 100,
            nonce: 7,
        };
        let piece = Bytes::from_static(&[1; 60]);
        let mut cutter = Cutter::new(cut, 400, 0);
        assert!(cutter.take(&piece, |bytes| bytes == 100).is_empty());
        assert_eq!((cutter.cutting(), cutter.stored()), (100, 0));
        cutter.leave_out();
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 60));
        // 60 to 120, 120 to 180: there is no memory for the second slice either.
        assert!(cutter.take(&piece, |_| false).is_empty());
        assert!(cutter.take(&piece, |_| true).is_empty());
        assert!(cutter.left_out && cutter.between());
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 180));
        // 180 to 240, 240 to 300: there is for the third.
        assert!(cutter.take(&piece, |_| true).is_empty());
        assert_eq!((cutter.cutting(), cutter.stored()), (100, 200));
        let complete = cutter.take(&piece, |_| true);
        assert!(matches!(complete.as_slice(), [(2, slice)] if slice.len() == 100));
        assert_eq!((cutter.cutting(), cutter.stored()), (0, 300));
    }
}
