//! HTTP/1.1 as a codec without I/O: bytes to heads, content and refusals, and the way back (RFC 9112).
//!
//! `request` reads the requests of clients: `request_line` their first line, `head_fields` the fields, `content` and
//! `chunked` what follows; `write` makes the bytes of both messages, and
//! `outgoing` keeps them until they are written. Nothing here reads a socket or a clock; the drivers are loops around
//! it. Responses of origins are read in `http::framing`.

pub mod chunked;
mod content;
mod head_fields;
pub mod outgoing;
pub mod request;
mod request_line;
pub mod write;

use std::ops::Range;

use crate::http::{FieldValue, Fields};

pub(crate) use self::{
    head_fields::length as content_length,
    request_line::{MOST_METHOD, is_host, origin_form, port_number},
};
use super::framing::trimmed;

/// A piece of a message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPiece {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// The range of these bytes that is content.
    pub data: Range<usize>,
    /// The content and its trailers are complete.
    pub is_last: bool,
}

impl ContentPiece {
    /// Content without any framing between it.
    pub(crate) fn plain(length: usize, is_last: bool) -> Self {
        Self {
            consumed: length,
            data: 0..length,
            is_last,
        }
    }
}

/// Field lines, each with its CR LF; `None` if one of them is not a field.
fn field_lines(text: &[u8]) -> Option<Fields> {
    let mut headers = Fields::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r") else {
            continue;
        };
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = FieldValue::of(trimmed(value.get(1..)?))?;
        headers.append_wire(name, value).ok()?;
    }
    Some(headers)
}
