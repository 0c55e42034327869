//! Places that were found lately, by the records that they were read from.
//!
//! Decoding a record takes several times as long as finding it, and most clients of a time are in few networks. A table
//! of [`SLOTS`] slots keeps the last place of each slot; it is read and written without locks, and a slot that another
//! set of records fell into is overwritten.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use edgerouter_core::geo::{MOST_FILES, Place};

/// `docs/limits.md` names it.
const SLOTS: usize = 1 << 12;

/// The record of an address in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The number of the reading of a file: a replaced file has other records at the same offsets.
    pub(crate) reading: u64,
    /// `None` if the file has no record for the address.
    pub(crate) offset: Option<usize>,
}

/// The records of an address in all files.
pub(crate) type Positions = [Position; MOST_FILES];

#[derive(Debug)]
struct Entry {
    positions: Positions,
    place: Arc<Place>,
}

#[derive(Debug)]
pub(crate) struct Remembered(Box<[ArcSwapOption<Entry>]>);

impl Default for Remembered {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| ArcSwapOption::empty()).collect())
    }
}

impl Remembered {
    pub(crate) fn get(&self, positions: &Positions) -> Option<Arc<Place>> {
        let entry = self.slot(positions)?.load();
        let entry = entry.as_ref().filter(|it| it.positions == *positions)?;
        Some(Arc::clone(&entry.place))
    }

    pub(crate) fn keep(&self, positions: Positions, place: &Arc<Place>) {
        if let Some(slot) = self.slot(&positions) {
            let place = Arc::clone(place);
            slot.store(Some(Arc::new(Entry { positions, place })));
        }
    }

    /// The slot of a set of records: the upper bits of a hash. Products alone leave most slots empty where records are
    /// evenly spaced.
    fn slot(&self, positions: &Positions) -> Option<&ArcSwapOption<Entry>> {
        let hash = positions.iter().fold(0_u64, |hash, position| {
            let offset = position.offset.map_or(0, |offset| offset as u64 + 1);
            let product = (hash ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ (product >> 32)
        });
        self.0.get((hash >> 52) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reading: u64, offset: Option<usize>) -> Positions {
        let mut positions = Positions::default();
        positions[0] = Position { reading, offset };
        positions
    }

    #[test]
    fn a_place_is_that_of_its_records_in_the_same_reading_only() {
        let remembered = Remembered::default();
        let place = Arc::new(Place {
            asn: Some(64_500),
            ..Place::default()
        });
        remembered.keep(at(1, Some(7)), &place);
        assert_eq!(remembered.get(&at(1, Some(7))), Some(Arc::clone(&place)));
        for other in [at(2, Some(7)), at(1, Some(8)), at(1, None), at(0, None)] {
            assert_eq!(remembered.get(&other), None, "{other:?}");
        }
        remembered.keep(at(2, Some(7)), &Arc::default());
        assert_eq!(remembered.get(&at(1, Some(7))), None);
    }

    #[test]
    fn positions_are_spread_over_the_slots() {
        let remembered = Remembered::default();
        let place = Arc::default();
        for at_byte in 0..SLOTS {
            remembered.keep(at(1, Some(at_byte * 37)), &place);
        }
        let used = remembered.0.iter().filter(|slot| slot.load().is_some());
        assert!(used.count() > SLOTS / 2);
    }
}
