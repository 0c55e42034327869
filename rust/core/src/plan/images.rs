//! Images that a route scales and codes, and the places that they come from.

use crate::images::ImageFormat;

use super::{ForeignHosts, OriginId};

/// The variants of images that a route makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Columns that a request may name; `None`: any, which a route with signed URLs may have.
    pub widths: Option<Box<[u32]>>,
    /// Rows that a request may name; `None`: any.
    pub heights: Option<Box<[u32]>>,
    /// Qualities that a request may name; `None`: any from 1 to 100.
    pub qualities: Option<Box<[u8]>>,
    /// The quality of a request that names none.
    pub quality: u8,
    /// Formats that a request may name, and that negotiation chooses from.
    pub formats: Box<[ImageFormat]>,
    /// SVG is passed as it is; otherwise 415.
    pub svg: bool,
    /// AVIF is passed as it is; otherwise 415.
    pub avif: bool,
    /// `Sec-CH-DPR` and `DPR` count.
    pub hints: bool,
}

impl Default for ImagePolicy {
    fn default() -> Self {
        let widths = [160, 320, 480, 640, 960, 1_280, 1_920, 2_560];
        Self {
            widths: Some(widths.into()),
            heights: Some(widths.into()),
            qualities: Some([40, 60, 75, 90].into()),
            quality: 75,
            formats: ImageFormat::ALL.into(),
            svg: false,
            avif: true,
            hints: true,
        }
    }
}

/// The places that images named by a URL may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSources {
    /// Origins of this edge, each once, sorted.
    pub origins: Box<[OriginId]>,
    /// Other hosts.
    pub foreign: ForeignHosts,
}
