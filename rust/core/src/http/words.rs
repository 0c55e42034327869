//! Bytes of a message, eight at a time.

/// Eight bytes of a text; the first is the lowest.
#[derive(Clone, Copy)]
pub(crate) struct Word(u64);

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

impl Word {
    #[inline]
    pub(crate) fn of(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// True if a byte is a control (RFC 5234 §B.1).
    #[inline]
    pub(crate) fn has_control(self) -> bool {
        let below_space = self.0.wrapping_sub(ONES * u64::from(b' ')) & !self.0 & HIGH;
        below_space != 0 || self.first(0x7f).is_some()
    }

    /// The place of the first byte with this value.
    #[inline]
    pub(crate) fn first(self, byte: u8) -> Option<usize> {
        // Such a byte is zero in here: less one, only a zero below all others gets a high bit that it did not have.
        let differing = self.0 ^ (ONES * u64::from(byte));
        let zeros = differing.wrapping_sub(ONES) & !differing & HIGH;
        (zeros != 0).then(|| zeros.trailing_zeros() as usize / 8)
    }
}

/// The place of the first byte with this value in a text that is searched for a few bytes only: a search made for long
/// texts would cost more.
#[inline]
pub(crate) fn near(byte: u8, text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks();
    for (at, word) in words.iter().enumerate() {
        if let Some(found) = Word::of(*word).first(byte) {
            return Some(8 * at + found);
        }
    }
    let found = rest.iter().position(|&other| other == byte)?;
    Some(8 * words.len() + found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_control_is_found_wherever_it_is() {
        for at in 0..8 {
            for around in [b' ', b'a', 0x80, 0xff] {
                for byte in 0..=u8::MAX {
                    let mut bytes = [around; 8];
                    bytes[at] = byte;
                    let found = Word::of(bytes).has_control();
                    assert_eq!(found, byte.is_ascii_control(), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_equal_bytes_is_found() {
        for length in 0..20 {
            for first in 0..=length {
                for around in [b'9', b';', 0xba, 0, 0xff] {
                    let mut text = vec![around; length];
                    text[first..].fill(b':');
                    let want = (first < length).then_some(first);
                    assert_eq!(near(b':', &text), want, "{text:?}");
                }
            }
        }
    }
}
