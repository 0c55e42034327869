//! Field values by RFC: parsers and writers that know the grammar and nothing else.
//!
//! Input is bytes from the network: every function is total, bounded and allocates little. The meaning of a value for
//! caching, routing or identity is decided in those rooms.

pub mod accept;
pub mod cache_control;
pub mod cdn_loop;
pub mod coding;
pub mod cookie;
pub mod date;
pub mod etag;
pub mod fields;
pub mod framing;
pub mod h1;
pub mod h2;
pub mod media_type;
mod message;
mod path_and_query;
pub(crate) mod percent;
pub mod problem;
pub mod range;
pub(crate) mod readings;
pub mod structured;
mod token;
pub mod uri;
pub mod vary;
pub(crate) mod via;
mod weight;
mod words;

pub use self::fields::{
    FieldLine, FieldName, FieldValue, Fields, Known, KnownSet, Named, Value, WireName, header,
};
pub use self::message::{RequestParts, Response, TargetAuthority};
pub use self::path_and_query::PathAndQuery;
pub use self::token::is_token_byte;

/// True if a Content-Type is an event stream's, which may be silent as long as nothing happens.
pub fn is_event_stream(content_type: &[u8]) -> bool {
    let end = words::near(b';', content_type).unwrap_or(content_type.len());
    content_type
        .get(..end)
        .is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// The members of a comma-separated list (RFC 9110 §5.6.1): trimmed, empty ones left out, commas inside quoted strings
/// not counted.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    members(value).filter(|member| !member.is_empty())
}

/// Like `list`, with the empty members: their meaning depends on the field.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    parts(value, b',')
}

/// The parts of a value between separators, trimmed. Those inside quoted strings separate nothing.
fn parts(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let end = end_of_part(value, separator);
        rest = value.get(end + 1..);
        Some(value.get(..end).unwrap_or_default().trim_ascii())
    })
}

#[inline]
fn end_of_part(value: &[u8], separator: u8) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => return at,
            _ => {}
        }
    }
    value.len()
}
