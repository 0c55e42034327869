//! HTTP/2 as decisions without I/O (RFC 9113): `request` reads the field section of a request, if it has one reading;
//! `frames` finds the heads of frames in the bytes of a connection, and by `sections` pseudo-fields in trailers;
//! `flood` decides which frames are too many, and `priority` which response is sent first.
//!
//! A library does the work of HPACK and of streams, and the driver in `rust/listen` is the border to it. What the
//! library gives goes in, one `RequestParts` of any protocol comes out.

pub mod flood;
pub mod frames;
pub mod priority;
pub mod request;
mod sections;
