//! HTTP/2 on one connection: the border to the library that knows HPACK, streams and windows (RFC 9113).
//!
//! `driver` runs the connection, `response` one request to the end of its response, each in a task of its own, and
//! `content` takes that of the request. `wire` is the transport as the library sees it: frames are counted in `meter`,
//! by their heads, before the library has them. `turns` decides which response gives the library content, and `tunnel`
//! is a stream of bytes. `convert` is the only place with the library's kind of messages. Requests are those of every
//! protocol.

mod content;
mod convert;
mod driver;
mod meter;
mod response;
mod terms;
mod tunnel;
mod turns;
mod wire;

pub(crate) use driver::{Closing, serve};
