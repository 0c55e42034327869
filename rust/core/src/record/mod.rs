//! Records: stored responses as bytes that survive the process, and the way back.
//!
//! `frame` is the common part of every record (lengths, checksums, key, tags), `stored` the content of a record of a
//! response and of a variants' list, `sidecar` the table of contents of a file of records. Everything here is bytes to
//! values and values to bytes; files are the engine's. Bytes from a disk are accepted only if their checksums match;
//! the checksums are seeded with a number that only this cache's directory knows, so a body that looks like a record is
//! not accepted as one.

pub mod frame;
pub mod sidecar;
pub mod stored;

pub use frame::{Front, Record, RecordKind};

/// How bytes are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than its lengths announce.
    #[error("it ends before it is whole")]
    Short,
    /// The first bytes are not those of the format.
    #[error("it does not begin as one")]
    NoMagic,
    /// A version that this release does not read.
    #[error("it is of another version")]
    Version,
    /// At least one byte is different from when it was written.
    #[error("its checksum does not match")]
    Checksum,
    /// A length leads out of the bytes, or they do not add up.
    #[error("its lengths contradict each other")]
    Lengths,
    /// A value that the format does not allow, such as an unknown status, name or flag.
    #[error("it contains data that cannot be read")]
    Content,
}

/// The checksum of every part of the format.
pub fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// The checksum of several pieces as one.
pub fn checksum_of<'a>(seed: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut pieces = pieces.into_iter();
    let first = pieces.next().unwrap_or_default();
    let Some(second) = pieces.next() else {
        return checksum(seed, first);
    };
    let mut all = xxhash_rust::xxh3::Xxh3::with_seed(seed);
    all.update(first);
    all.update(second);
    for piece in pieces {
        all.update(piece);
    }
    all.digest()
}

/// The number under which a key is found. Two keys with the same number cannot both be on disk.
pub fn key_hash(seed: u64, key: &[u8]) -> u64 {
    checksum(seed.rotate_left(32) ^ 0x6b65_7920, key)
}

/// Reads values from the front of bytes.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads bytes preceded by their length.
    fn short(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    fn long(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Damage::Lengths)?)
    }

    fn end(self) -> Result<(), Damage> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Damage::Lengths)
        }
    }
}
