//! Weighted rendezvous with SipHash-2-4, in integers. Its outcomes are a promise: the tests pin vectors of it.

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of `bytes` under `key`.
pub(super) fn siphash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    for word in words {
        absorb(little_endian(word));
    }
    absorb(little_endian(tail) | (bytes.len() as u64) << 56);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// The hash keys of a variant's draws.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw(u64, u64);

impl Draw {
    /// Keys that are not secret: the salt, not this program, makes experiments independent of each other.
    pub(crate) fn new(experiment: &str, salt: &str, variant: &str) -> Self {
        let mut text = Vec::new();
        for part in [experiment, salt, variant] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        Self(siphash((0, 0), &text), siphash((0, 1), &text))
    }
}

/// The number of the run that a salt begins.
pub(super) fn run(salt: &str) -> u64 {
    siphash((0, 2), salt.as_bytes())
}

/// The position of the variant with the least `-log2(u) / weight`; the first of them where two are equal, 0 where no
/// variant has a weight.
pub(crate) fn choose<'a>(variants: impl Iterator<Item = (&'a Draw, u64)>, id: &[u8]) -> usize {
    let mut best: Option<(usize, u64, u64)> = None;
    for (index, (draw, weight)) in variants.enumerate() {
        if weight == 0 {
            continue;
        }
        let cost = cost(siphash((draw.0, draw.1), id));
        // cost / weight < least / its weight, without dividing.
        let wins = best.is_none_or(|(_, least, other)| {
            u128::from(cost) * u128::from(other) < u128::from(least) * u128::from(weight)
        });
        if wins {
            best = Some((index, cost, weight));
        }
    }
    best.map_or(0, |(index, _, _)| index)
}

const FRACTION_BITS: u32 = 40;

/// `-log2((hash + 1) / 2^64)` with 40 binary digits after the point, rounded up.
fn cost(hash: u64) -> u64 {
    let Some(number) = hash.checked_add(1) else {
        return 0;
    };
    let zeros = number.leading_zeros();
    // The mantissa in [1, 2) with 63 digits after the point; squaring it brings out one digit of its logarithm.
    let mut mantissa = number << zeros;
    let mut logarithm = 0;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let digit = (square >> 127) as u64;
        mantissa = (square >> (63 + digit)) as u64;
        logarithm = logarithm << 1 | digit;
    }
    // number = 2^(63 - zeros) × mantissa, so -log2(number / 2^64) = zeros + 1 - log2(mantissa).
    (u64::from(zeros + 1) << FRACTION_BITS) - logarithm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_agrees_with_its_authors() {
        // The key 00 01 … 0f and messages of 0, 1, 7, 8 and 15 bytes 00 01 …, from the reference implementation.
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let message: Vec<u8> = (0..15).collect();
        for (length, want) in [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (7, 0xab02_00f5_8b01_d137),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
        ] {
            assert_eq!(siphash(key, &message[..length]), want, "{length} bytes");
        }
    }

    #[test]
    fn the_cost_is_the_logarithm() {
        for (hash, want) in [
            (u64::MAX, 0.0),
            ((1 << 63) - 1, 1.0),
            ((1 << 62) - 1, 2.0),
            (0, 64.0),
            ((3 << 62) - 1, -(0.75f64.log2())),
            (
                0x1234_5678_9abc_def0,
                -((0x1234_5678_9abc_def1u64 as f64 / 2f64.powi(64)).log2()),
            ),
        ] {
            let got = cost(hash) as f64 / 2f64.powi(FRACTION_BITS as i32);
            assert!(
                (got - want).abs() < 1e-11,
                "{hash:x}: {got} instead of {want}"
            );
        }
    }
}
