//! The facts about an entry on which eviction depends.

use super::entry::Entry;

/// An entry of the memory tier, as far as the tier has to know it. A prediction keeps entries of another kind in the
/// same tier: they are charged for a body that they do not have.
pub trait Evictable {
    /// The whole cache key.
    fn key(&self) -> &[u8];

    /// Bytes that the entry is charged for; always the same.
    fn size(&self) -> u64;

    /// Bytes of the entry that clients read.
    fn read_bytes(&self) -> u64;

    /// Uses since the eviction hand last passed the entry, up to a small bound.
    fn uses(&self) -> u8;

    /// Replaces the number of uses.
    fn set_uses(&self, uses: u8);

    /// Notes a use.
    fn touch(&self);
}

impl Evictable for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        Self::key(self)
    }

    #[inline]
    fn size(&self) -> u64 {
        Self::size(self)
    }

    #[inline]
    fn read_bytes(&self) -> u64 {
        Self::read_bytes(self)
    }

    #[inline]
    fn uses(&self) -> u8 {
        Self::uses(self)
    }

    #[inline]
    fn set_uses(&self, uses: u8) {
        Self::set_uses(self, uses);
    }

    #[inline]
    fn touch(&self) {
        Self::touch(self);
    }
}
