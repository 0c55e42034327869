//! The part of CloudFront's API (2020-05-31) that the edge implements: its XML, its signatures, its times.
//!
//! `xml` reads and writes the part of XML that the calls need, `sigv4` verifies signatures, `invalidation` defines the
//! bodies of the calls. Nothing here knows a socket or what a purge does.

pub mod invalidation;
pub mod sigv4;
pub(crate) mod time;
pub mod xml;
