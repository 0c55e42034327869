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
    status_line(
        out,
        if http_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " },
        status,
    );
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
            (true, false) => write_line(out, b"connection", b"close"),
            (false, true) => write_line(out, b"connection", b"keep-alive"),
            _ => {}
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

fn status_line(out: &mut Vec<u8>, version: &[u8], status: StatusCode) {
    if status == StatusCode::OK && version == b"HTTP/1.1 " {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(version);
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // A reason is for people and may be empty.
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response (RFC 9110 §15.2).
pub fn interim(out: &mut Vec<u8>, status: StatusCode, headers: &Fields) {
    status_line(out, b"HTTP/1.1 ", status);
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
/// §6.6.2).
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>, announced: &[FieldName]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if name.is_in(announced) {
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
mod tests {
    use super::*;
    use http::HeaderValue;

    const GET: RequestFacts = RequestFacts {
        version: Version::HTTP_11,
        is_head: false,
        is_persistent: true,
    };

    fn header_map(fields: &[(&'static str, &'static str)]) -> Fields {
        let fields = fields.iter().map(|(name, value)| {
            (
                FieldName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    fn written(
        status: u16,
        fields: &[(&'static str, &'static str)],
        request: RequestFacts,
        known: Option<u64>,
    ) -> (String, WrittenHead) {
        let headers = header_map(fields);
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let written = head(&mut out, status, &headers, request, known, |out| {
            date_line(out, b"now");
        });
        let text = String::from_utf8_lossy(&out).replace("\r\n", "|");
        (text, written)
    }

    #[test]
    fn heads_announce_how_their_content_ends() {
        use ContentWriter::{Chunked, Length, None as Nothing, UntilClose};
        let head = RequestFacts {
            is_head: true,
            ..GET
        };
        let http_10 = RequestFacts {
            version: Version::HTTP_10,
            ..GET
        };
        let closing = RequestFacts {
            is_persistent: false,
            ..GET
        };
        let length = ("content-length", "5");
        let date = ("date", "then");
        for (status, fields, request, known, text, content, is_persistent) in [
            (
                200,
                &[length][..],
                GET,
                Some(5),
                "HTTP/1.1 200 OK|content-length: 5|date: now||",
                Length(5),
                true,
            ),
            (
                200,
                &[date],
                GET,
                Some(5),
                "HTTP/1.1 200 OK|date: then|content-length: 5||",
                Length(5),
                true,
            ),
            (
                200,
                &[],
                GET,
                None,
                "HTTP/1.1 200 OK|transfer-encoding: chunked|date: now||",
                Chunked,
                true,
            ),
            (
                200,
                &[],
                closing,
                Some(0),
                "HTTP/1.1 200 OK|content-length: 0|connection: close|date: now||",
                Length(0),
                false,
            ),
            (
                413,
                &[("connection", "close")],
                GET,
                Some(0),
                "HTTP/1.1 413 Payload Too Large|connection: close|content-length: 0|date: now||",
                Length(0),
                false,
            ),
            (
                200,
                &[length],
                head,
                Some(0),
                "HTTP/1.1 200 OK|content-length: 5|date: now||",
                Nothing,
                true,
            ),
            (
                204,
                &[],
                GET,
                None,
                "HTTP/1.1 204 No Content|date: now||",
                Nothing,
                true,
            ),
            (
                304,
                &[],
                GET,
                Some(0),
                "HTTP/1.1 304 Not Modified|date: now||",
                Nothing,
                true,
            ),
            (
                799,
                &[],
                GET,
                Some(1),
                "HTTP/1.1 799 |content-length: 1|date: now||",
                Length(1),
                true,
            ),
            (
                200,
                &[],
                http_10,
                None,
                "HTTP/1.0 200 OK|date: now||",
                UntilClose,
                false,
            ),
            (
                200,
                &[],
                http_10,
                Some(1),
                "HTTP/1.0 200 OK|content-length: 1|connection: keep-alive|date: now||",
                Length(1),
                true,
            ),
        ] {
            let want = WrittenHead {
                content,
                is_persistent,
            };
            assert_eq!(
                written(status, fields, request, known),
                (text.to_owned(), want)
            );
        }
    }

    #[test]
    fn requests_announce_the_content_that_they_have() {
        use ContentWriter::{Chunked, Length, None as Nothing};
        let host = ("host", "a");
        let length = ("content-length", "5");
        for (method, fields, content, text, framing) in [
            (
                Method::GET,
                &[host][..],
                RequestContent::None,
                "GET /a?b HTTP/1.1|host: a||",
                Nothing,
            ),
            (
                Method::POST,
                &[("content-length", "0"), host],
                RequestContent::None,
                "POST /a?b HTTP/1.1|content-length: 0|host: a||",
                Nothing,
            ),
            // Content that is gone must not be announced: the next request would be taken for it.
            (
                Method::POST,
                &[length],
                RequestContent::None,
                "POST /a?b HTTP/1.1|content-length: 0||",
                Nothing,
            ),
            (
                Method::PUT,
                &[length, ("transfer-encoding", "chunked")],
                RequestContent::Length(7),
                "PUT /a?b HTTP/1.1|content-length: 7||",
                Length(7),
            ),
            (
                Method::PUT,
                &[length],
                RequestContent::Chunked,
                "PUT /a?b HTTP/1.1|content-length: 5||",
                Length(5),
            ),
            (
                Method::PUT,
                &[host, ("trailer", "x-sum")],
                RequestContent::Chunked,
                "PUT /a?b HTTP/1.1|host: a|trailer: x-sum|transfer-encoding: chunked||",
                Chunked,
            ),
            (
                Method::GET,
                &[host],
                RequestContent::Chunked,
                "GET /a?b HTTP/1.1|host: a||",
                Nothing,
            ),
        ] {
            let headers = header_map(fields);
            let mut out = Vec::new();
            let written = request(&mut out, &method, "/a?b", &headers, content);
            let out = String::from_utf8_lossy(&out).replace("\r\n", "|");
            assert_eq!((out.as_str(), written), (text, framing));
        }
    }

    #[test]
    fn interim_responses_are_a_head_and_nothing_else() {
        let mut out = Vec::new();
        let headers = header_map(&[("link", "</a>")]);
        interim(&mut out, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }

    #[test]
    fn chunks_end_with_the_announced_trailers_only() {
        let mut out = Vec::new();
        chunk_size(&mut out, 26);
        let trailers = Fields::from_iter([
            (
                FieldName::from_static("x-sum"),
                HeaderValue::from_static("1"),
            ),
            (
                FieldName::from_static("x-other"),
                HeaderValue::from_static("2"),
            ),
        ]);
        let head =
            Fields::from_iter([(header::TRAILER, HeaderValue::from_static("X-Sum, x-none"))]);
        last_chunk(&mut out, Some(&trailers), &announced_trailers(&head));
        last_chunk(&mut out, None, &[]);
        assert_eq!(out, b"1a\r\n0\r\nx-sum: 1\r\n\r\n0\r\n\r\n");
    }
}
