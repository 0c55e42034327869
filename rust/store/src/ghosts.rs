//! Keys that have recently left the small queue unused: four bytes each, forgotten by being overwritten.

/// Hashes in one row; the newest first.
const ROW: usize = 4;

/// Rows of hashes, as many as the shard has entries or up to twice that. A hash belongs to one row. Two keys with the
/// same hash make one arrival skip the small queue, which is harmless.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    rows: Vec<[u32; ROW]>,
}

/// An empty slot; a hash that is 0 is not remembered.
const EMPTY: u32 = 0;

impl Ghosts {
    /// Remembers `hash` among as many as there are `entries`.
    pub(super) fn add(&mut self, hash: u32, entries: usize) {
        if self.rows.len() * ROW < entries.max(64) {
            self.grow();
        }
        if let Some(row) = self.row(hash)
            && !row.contains(&hash)
        {
            row.rotate_right(1);
            row[0] = hash;
        }
    }

    /// Forgets `hash`; returns whether it was remembered.
    pub(super) fn take(&mut self, hash: u32) -> bool {
        let Some(place) = self
            .row(hash)
            .and_then(|row| row.iter_mut().find(|place| **place == hash))
        else {
            return false;
        };
        *place = EMPTY;
        hash != EMPTY
    }

    /// The table uses the low bits, too, but nothing else reads rows.
    fn row(&mut self, hash: u32) -> Option<&mut [u32; ROW]> {
        let mask = self.rows.len().wrapping_sub(1);
        self.rows.get_mut(hash as usize & mask)
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.rows.capacity() * size_of::<[u32; ROW]>()
    }

    fn grow(&mut self) {
        let rows = (self.rows.len() * 2).max(64 / ROW);
        let old = std::mem::replace(&mut self.rows, vec![[EMPTY; ROW]; rows]);
        for hash in old.iter().flat_map(|row| row.iter().rev()) {
            if *hash != EMPTY
                && let Some(row) = self.row(*hash)
            {
                row.rotate_right(1);
                row[0] = *hash;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_leave_are_remembered_and_older_ones_forgotten() {
        let mut ghosts = Ghosts::default();
        let hash = |i: u32| i.wrapping_mul(0x9e37_79b9) | 1;
        for i in 0..100_000 {
            ghosts.add(hash(i), 1000);
        }
        let known = |ghosts: &mut Ghosts, range: std::ops::Range<u32>| {
            range.filter(|&i| ghosts.take(hash(i))).count()
        };
        assert_eq!(known(&mut ghosts, 0..90_000), 0);
        assert!(known(&mut ghosts, 99_700..100_000) > 250);
        assert_eq!(known(&mut ghosts, 99_700..100_000), 0, "taken once");
        assert!(ghosts.rows.len() * ROW <= 2048);
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut ghosts = Ghosts::default();
        for i in 1..=40 {
            ghosts.add(i, 64);
        }
        ghosts.add(41, 4096);
        ghosts.add(42, 4096);
        let known = (1..=42).filter(|&hash| ghosts.take(hash)).count();
        assert_eq!(known, 42);
        assert!(!ghosts.take(EMPTY));
    }
}
