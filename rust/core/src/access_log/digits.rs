//! Numbers as text, in one piece of a known length each. The formatting of the standard library takes a large part of
//! the time of a hit with a log.

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// The last two digits of a number.
pub(super) fn two(number: u64) -> [u8; 2] {
    PAIRS
        .get((number % 100) as usize)
        .copied()
        .unwrap_or_default()
}

/// In decimal digits.
pub(super) fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A part of an address, in decimal digits, and the byte after it.
pub(super) fn octet(out: &mut Vec<u8>, number: u8, after: u8) {
    let hundreds = b'0' + number / 100;
    let [tens, ones] = two(number.into());
    match number {
        0..10 => out.extend_from_slice(&[ones, after]),
        10..100 => out.extend_from_slice(&[tens, ones, after]),
        _ => out.extend_from_slice(&[hundreds, tens, ones, after]),
    }
}

/// The hexadecimal digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// In lower-case hexadecimal digits, with zeros before it.
pub(super) fn hex(out: &mut Vec<u8>, number: u64) {
    let pairs = number
        .to_be_bytes()
        .map(|byte| HEX.get(usize::from(byte)).copied().unwrap_or_default());
    out.extend_from_slice(pairs.as_flattened());
}

/// Microseconds as seconds.
pub(super) fn seconds(out: &mut Vec<u8>, micros: u64) {
    match micros / 1_000_000 {
        0 => out.push(b'0'),
        whole => decimal(out, whole),
    }
    let [a, b] = two(micros / 10_000);
    let [c, d] = two(micros / 100);
    let [e, f] = two(micros);
    out.extend_from_slice(&[b'.', a, b, c, d, e, f]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 7, 9, 10, 99, 100, 65_535, 999_999, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            out.push(b' ');
            out.extend_from_slice(&two(number));
            out.push(b' ');
            hex(&mut out, number);
            out.push(b' ');
            seconds(&mut out, number);
            let (whole, part, last) = (number / 1_000_000, number % 1_000_000, number % 100);
            let want = format!("{number} {last:02} {number:016x} {whole}.{part:06}");
            assert_eq!(String::from_utf8(out), Ok(want));
        }
        for number in 0..=u8::MAX {
            let mut out = Vec::new();
            octet(&mut out, number, b'.');
            assert_eq!(String::from_utf8(out), Ok(format!("{number}.")));
        }
    }
}
