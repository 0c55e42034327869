//! Images that a route scales and codes, and the places that they come from.

use crate::{guard::addresses::AddressSet, images::ImageFormat};

use super::{HostPattern, OriginId, Scheme};

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
    pub hosts: Box<[ImageHost]>,
    /// Private networks in which those hosts may be.
    pub networks: AddressSet,
}

impl ImageSources {
    /// True if images of that place may be fetched.
    pub fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        (self.hosts.iter()).any(|source| source.matches(scheme, host, port))
    }
}

/// A host of others that images may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHost {
    /// `https` unless the declaration says `http`.
    pub scheme: Scheme,
    /// Its name, or a pattern of names.
    pub host: HostPattern,
    /// Its port.
    pub port: u16,
}

impl ImageHost {
    /// True if images of that place may be fetched.
    pub fn matches(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.scheme == scheme && self.port == port && self.host.matches(host)
    }
}
