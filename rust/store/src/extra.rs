//! Rare parts of entries, allocated separately so that other entries do not pay for them.

use bytes::Bytes;
use edgerouter_core::{cache::levels::Variants, http::FieldName};
use http::HeaderValue;

use super::{
    coded::CodedVariants,
    content::Slices,
    pieces::{SHARED, allocated},
};

/// The rare parts of a response.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// A body that is not small; of a slice its bytes.
    pub pieces: Box<[Bytes]>,
    /// With the length of the whole body.
    pub slices: Option<(Slices, u64)>,
    pub coded: Option<CodedVariants>,
    pub upstream_status: Option<Box<HeaderValue>>,
    pub set_aside: Box<[FieldName]>,
    pub variants: Option<Box<Variants>>,
    pub viewer: Option<Box<str>>,
    pub tags: Box<[u64]>,
}

impl Extra {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
            && self.upstream_status.is_none()
            && self.set_aside.is_empty()
            && self.variants.is_none()
            && self.viewer.is_none()
            && self.tags.is_empty()
            && self.slices.is_none()
            && self.coded.is_none()
    }

    /// Bytes of the allocations that it keeps alive.
    pub(crate) fn allocated(&self) -> usize {
        let pieces: usize = self
            .pieces
            .iter()
            .map(|piece| allocated(piece.len()) + SHARED)
            .sum();
        let names = self
            .set_aside
            .iter()
            .chain(self.variants.iter().flat_map(|variants| &variants.names))
            .map(|name| allocated(name.as_str().len()) + SHARED)
            .sum::<usize>();
        let status = self.upstream_status.as_ref().map_or(0, |value| {
            allocated(value.len()) + SHARED + allocated(size_of::<HeaderValue>())
        });
        let variants = self
            .variants
            .as_ref()
            .map_or(0, |_| allocated(size_of::<Variants>()));
        allocated(size_of::<Self>())
            + allocated(self.pieces.len() * size_of::<Bytes>())
            + pieces
            + names
            + status
            + variants
            + self
                .viewer
                .as_ref()
                .map_or(0, |viewer| allocated(viewer.len()))
            + allocated(self.tags.len() * size_of::<u64>())
            + allocated(self.set_aside.len() * size_of::<FieldName>())
    }
}

/// A value with its own text: one parsed from the wire is a slice of the connection's read buffer, and keeping it would
/// keep that buffer, which is not accounted for.
pub(super) fn compact_value(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}
