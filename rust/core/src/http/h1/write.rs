//! The bytes of a message (RFC 9112 §3, §4, §6, §7.1): its head with the framing that its connection needs, and its
//! content in that framing.

use std::io::Write as _;

use crate::http::{FieldName, Fields, KnownSet, Named, fields::write_line, header};
use http::{Method, StatusCode, Version};

use super::{head_fields::length, request::RequestContent};
use crate::http::{framing::fit::bodiless, list};

/// The request that a response is written for, as far as the framing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Its method was HEAD.
    pub is_head: bool,
    /// Another request may follow on its connection.
    pub is_persistent: bool,
}

/// Content of a message as it is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ContentWriter {
    /// The message has none; any is dropped.
    #[default]
    None,
    /// Bytes that are still to be written. Surplus ones are dropped: they would be read as another message.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// Its end is the connection's.
    UntilClose,
}

/// Framing of a response whose head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenHead {
    /// The framing of the content that follows.
    pub content: ContentWriter,
    /// Another request may follow on the connection.
    pub is_persistent: bool,
}

/// Writes the head of a response. `known`: the length of the content, if known before it is read. `date` adds the line
/// of `Date` if the response has none (RFC 9110 §6.6.1): most have their origin's, and a clock need not be read for
/// them.
pub fn head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &Fields,
    request: RequestFacts,
    known: Option<u64>,
    date: impl FnOnce(&mut Vec<u8>),
) -> WrittenHead {
    let http_11 = request.version == Version::HTTP_11;
    // The version is the edge's, also for a client of HTTP/1.0 (RFC 9110 §2.5).
    status_line(out, status);
    let present = Present::of(headers);
    headers.write(out);
    let has_content = !request.is_head && !bodiless(status);
    let content = match present.length.or(known) {
        _ if !has_content => ContentWriter::None,
        Some(length) => {
            if present.length.is_none() {
                length_field(out, length);
            }
            ContentWriter::Length(length)
        }
        None if http_11 => {
            write_line(out, b"transfer-encoding", b"chunked");
            ContentWriter::Chunked
        }
        None => ContentWriter::UntilClose,
    };
    let is_persistent =
        request.is_persistent && !present.close && content != ContentWriter::UntilClose;
    if !present.connection {
        match (http_11, is_persistent) {
            (_, false) => write_line(out, b"connection", b"close"),
            (false, true) => write_line(out, b"connection", b"keep-alive"),
            (true, true) => {}
        }
    }
    if !present.date {
        date(out);
    }
    out.extend_from_slice(b"\r\n");
    WrittenHead {
        content,
        is_persistent,
    }
}

/// Writes the line of `Date`.
pub fn date_line(out: &mut Vec<u8>, date: &[u8]) {
    write_line(out, b"date", date);
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // A reason is for people and may be empty.
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response (RFC 9110 §15.2).
pub fn interim(out: &mut Vec<u8>, status: StatusCode, headers: &Fields) {
    status_line(out, status);
    headers.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a request to an origin, with the fields that frame its content in place of any others.
pub fn request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    headers: &Fields,
    content: RequestContent,
) -> ContentWriter {
    for piece in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
    const FRAMING: KnownSet = KnownSet::of(&[header::CONTENT_LENGTH, header::TRANSFER_ENCODING]);
    let announced = if headers.has_none_of(FRAMING) {
        headers.write(out);
        None
    } else {
        write_framed(out, headers, content)
    };
    let writer = match (content, announced) {
        (RequestContent::None, _) => ContentWriter::None,
        (RequestContent::Length(length), None) => {
            length_field(out, length);
            ContentWriter::Length(length)
        }
        (_, Some(length)) => ContentWriter::Length(length),
        // Hardly any server reads content of theirs: it would take the chunks for the next request.
        (RequestContent::Chunked, None) if matches!(*method, Method::GET | Method::HEAD) => {
            ContentWriter::None
        }
        (RequestContent::Chunked, None) => {
            write_line(out, b"transfer-encoding", b"chunked");
            ContentWriter::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    writer
}

/// Writes the fields of a request, and in the place of its first `Content-Length` the length of the content, if it has
/// one that is known. Gives that length.
fn write_framed(out: &mut Vec<u8>, headers: &Fields, content: RequestContent) -> Option<u64> {
    let mut announced = None;
    for (name, value) in headers {
        match name.known() {
            Some(header::CONTENT_LENGTH) if announced.is_none() => {
                announced = match content {
                    RequestContent::Length(length) => Some(length),
                    RequestContent::None => Some(0),
                    RequestContent::Chunked => length(value.as_bytes()),
                };
                if let Some(length) = announced {
                    length_field(out, length);
                }
            }
            Some(header::CONTENT_LENGTH | header::TRANSFER_ENCODING) => {}
            _ => write_line(out, name.as_wire(), value.as_bytes()),
        }
    }
    announced
}

/// Fields of a head that its framing depends on.
#[derive(Debug, Default)]
struct Present {
    length: Option<u64>,
    connection: bool,
    close: bool,
    date: bool,
}

impl Present {
    #[inline]
    fn of(headers: &Fields) -> Self {
        const FRAMING: KnownSet =
            KnownSet::of(&[header::CONTENT_LENGTH, header::CONNECTION, header::DATE]);
        if headers.has_none_of(FRAMING) {
            return Self::default();
        }
        let is_close = |option: &[u8]| option.eq_ignore_ascii_case(b"close");
        Self {
            length: headers
                .get_all(header::CONTENT_LENGTH)
                .next_back()
                .and_then(|value| length(value.as_bytes())),
            connection: headers.contains_key(header::CONNECTION),
            close: headers
                .get_all(header::CONNECTION)
                .any(|line| list(line.as_bytes()).any(is_close)),
            date: headers.contains_key(header::DATE),
        }
    }
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    let mut digits = itoa::Buffer::new();
    write_line(out, b"content-length", digits.format(length).as_bytes());
}

/// Writes the line before a chunk (RFC 9112 §7.1). The chunk and CR LF follow.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{size:x}\r\n");
}

/// Writes the end of chunked content: the last chunk, and those of the trailers that the head announced (RFC 9110
/// §6.6.2). `None`: all.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>, announced: Option<&[FieldName]>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if announced.is_none_or(|announced| name.is_in(announced)) {
            write_line(out, name.as_wire(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Trailers that a head announces in `Trailer`.
pub fn announced_trailers(headers: &Fields) -> Vec<FieldName> {
    if !headers.contains_key(header::TRAILER) {
        return Vec::new();
    }
    let lines = headers.get_all(header::TRAILER).iter();
    lines
        .flat_map(|line| list(line.as_bytes()))
        .filter_map(|name| FieldName::from_bytes(name).ok())
        .collect()
}

#[cfg(test)]
mod tests;
