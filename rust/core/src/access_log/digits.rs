//! Numbers as text. The formatting of the standard library takes a large part of the time of a hit with a log.

/// In decimal digits.
pub(super) fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// In decimal digits, with zeros before it.
pub(super) fn padded(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    for _ in text.len()..digits {
        out.push(b'0');
    }
    out.extend_from_slice(text);
}

/// In lower-case hexadecimal digits, with zeros before it: its last `digits`.
pub(super) fn hex(out: &mut Vec<u8>, number: u128, digits: u32) {
    for at in (0..digits).rev() {
        let digit = (number >> (4 * at) & 0xf) as u8;
        out.push(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        });
    }
}

/// Microseconds as seconds.
pub(super) fn seconds(out: &mut Vec<u8>, micros: u64) {
    decimal(out, micros / 1_000_000);
    out.push(b'.');
    padded(out, micros % 1_000_000, 6);
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
            padded(&mut out, number, 6);
            out.push(b' ');
            hex(&mut out, u128::from(number), 16);
            out.push(b' ');
            hex(&mut out, u128::from(number) << 64 | 1, 32);
            out.push(b' ');
            seconds(&mut out, number);
            let (whole, part) = (number / 1_000_000, number % 1_000_000);
            let long = u128::from(number) << 64 | 1;
            let want = format!("{number} {number:06} {number:016x} {long:032x} {whole}.{part:06}");
            assert_eq!(String::from_utf8(out), Ok(want));
        }
    }
}
