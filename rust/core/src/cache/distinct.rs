//! Estimates the number of different values that a field had within a minute: linear counting (Whang, Vander-Zanden,
//! Taylor 1990) on 512 bytes, within a few per cent at the number that matters here.

/// With more values than this in a minute, and no hit among them, caching is useless.
pub const MOST_VALUES: u32 = 1_000;

const WORDS: usize = 64;
const BITS: u64 = WORDS as u64 * 64;
/// Bits that this many values set on average: `BITS * (1 - exp(-MOST_VALUES / BITS))`.
const MOST_BITS: u32 = 887;

/// The values of one field.
#[derive(Debug)]
pub struct Distinct {
    minute: u64,
    bits: [u64; WORDS],
    ones: u32,
    hit: bool,
    warned: bool,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            minute: 0,
            bits: [0; WORDS],
            ones: 0,
            hit: false,
            warned: false,
        }
    }
}

impl Distinct {
    /// Notes a value by its hash; true once, when there have been too many. `now` in Unix seconds.
    pub fn note(&mut self, hash: u64, now: u64) -> bool {
        self.turn(now);
        let bit = hash % BITS;
        if let Some(word) = self.bits.get_mut((bit / 64) as usize) {
            let mask = 1 << (bit % 64);
            self.ones += u32::from(*word & mask == 0);
            *word |= mask;
        }
        let warns = self.ones > MOST_BITS && !self.hit && !self.warned;
        self.warned |= warns;
        warns
    }

    /// Notes that a response was found under a key with one of these values.
    pub fn hit(&mut self, now: u64) {
        self.turn(now);
        self.hit = true;
    }

    fn turn(&mut self, now: u64) {
        let minute = now / 60;
        if minute != self.minute {
            *self = Self {
                minute,
                warned: self.warned,
                ..Self::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: u64) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn too_many_values_without_a_hit_are_told_once() {
        let mut distinct = Distinct::default();
        let warned = |distinct: &mut Distinct, values: u64, now| {
            (0..values)
                .filter(|value| distinct.note(hash(*value), now))
                .count()
        };
        assert_eq!(warned(&mut distinct, 900, 60), 0);
        assert_eq!(warned(&mut distinct, 900, 60), 0);
        assert_eq!(warned(&mut distinct, 1_200, 60), 1);
        assert_eq!(warned(&mut distinct, 2_000, 60), 0);
        assert_eq!(warned(&mut distinct, 2_000, 180), 0);
    }

    #[test]
    fn a_hit_or_the_next_minute_begins_anew() {
        let mut distinct = Distinct::default();
        for minute in 1..5 {
            for value in 0..700 {
                assert!(!distinct.note(hash(value + minute * 1_000), minute * 60));
            }
        }
        distinct.hit(600);
        assert!((0..5_000).all(|value| !distinct.note(hash(value), 600)));
    }
}
