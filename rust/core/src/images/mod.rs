//! Images that the edge scales and codes: the variant that a request wants, its size, and the fields of its response.
//!
//! Decisions without pixels. The crate `images` decodes, scales and encodes. A request names a variant by parameters
//! of its query ([`Parameters`]); with the policy and the request's fields they become an [`ImageRequest`], which is a
//! part of the cache key.

mod format;
mod geometry;
mod parameters;
mod request;
mod response;
mod source;

pub use format::{ImageFormat, SourceFormat};
pub use geometry::{Geometry, ImagePart};
pub use parameters::{ImageRefusal, Parameters};
pub(crate) use request::MOST_PIXELS;
pub use request::{Anchor, FitMode, ImageRequest, VARIANT, VariantFormat, Varies, requested};
pub use response::{NoImage, head, passes_by, revalidated, vary};
pub use source::{ImageUrl, NoSource, own_path, refusal};
