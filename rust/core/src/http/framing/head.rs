//! A response's head from its bytes (RFC 9112 §4, §5), read as a proxy must: white space before a colon is removed,
//! folded lines are unfolded, and equal lengths become one.

use std::ops::Range;

use crate::http::{FieldValue, Fields, header, words::near};
use http::{HeaderValue, StatusCode, Version};

use super::{
    BadFraming, Framing, FramingContext, FramingFields,
    lines::{LineEnds, head_lines},
    response, trimmed,
};

/// Bounds on a response's head (`limits.origins.head_bytes`, `limits.origins.head_fields`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// From the first byte of the status line to the end of the empty line.
    pub bytes: usize,
    /// Lines of fields.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 10,
            fields: 1_000,
        }
    }
}

/// Why bytes of an origin are not a response. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// RFC 9112 §4. Found before the head is complete if its first bytes are not `HTTP/1.`.
    #[error("it does not begin with a status line of HTTP/1")]
    StatusLine,
    /// The line's number; the status line is 1.
    #[error("line {0} of its head is not a field")]
    Field(usize),
    /// The limit, as also for a head that has no end yet.
    #[error("its head is longer than {0} bytes (limits.origins.head_bytes)")]
    TooLarge(usize),
    /// The limit.
    #[error("its interim responses are longer than {0} bytes (limits.origins.head_bytes)")]
    Interims(usize),
    /// The limit.
    #[error("its head has more than {0} fields (limits.origins.head_fields)")]
    TooManyFields(usize),
    /// RFC 9112 §6.3.
    #[error(transparent)]
    Framing(#[from] BadFraming),
    /// RFC 9112 §7.1: its size, the end of a chunk, or its trailer section.
    #[error("its chunked content is malformed")]
    Chunk,
    /// They could be taken for the response to the next request: the connection is not used again (RFC 9112 §9.2).
    #[error("bytes follow its end")]
    Surplus,
}

/// A response's head, with at most one canonical Content-Length and no Transfer-Encoding: `framing` holds the message's
/// framing on this connection.
#[derive(Debug, Clone)]
pub struct OriginHead {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// May be 1xx.
    pub status: StatusCode,
    /// Fields in their order, less those that frame the message.
    pub headers: Fields,
    /// Extent of the content that follows, and whether the connection is reusable.
    pub framing: Framing,
}

/// Bytes of empty lines before a status line that are ignored.
const MOST_EMPTY: usize = 4;

/// Reads a whole head at the start of `bytes` and gives its length; `None` while it is incomplete. `searched`: the
/// number of bytes already searched for its end.
pub fn read(
    bytes: &[u8],
    searched: usize,
    awaited: FramingContext,
    limits: HeadLimits,
) -> Result<Option<(usize, OriginHead)>, BadResponse> {
    let empty = bytes
        .iter()
        .take(MOST_EMPTY)
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let text = bytes.get(empty..).unwrap_or_default();
    let mut ends = LineEnds::new();
    let Some(length) = head_lines(text, searched.saturating_sub(empty), &mut ends) else {
        if text.len() > limits.bytes {
            return Err(BadResponse::TooLarge(limits.bytes));
        }
        early(text)?;
        return Ok(None);
    };
    if length > limits.bytes {
        return Err(BadResponse::TooLarge(limits.bytes));
    }
    let lines = Lines {
        head: text.get(..length).unwrap_or_default(),
        at: 0,
        ends: ends.iter(),
    };
    let head = parse(lines, awaited, limits)?;
    Ok(Some((empty + length, head)))
}

/// Refuses bytes that cannot become a response before the end of the head is known: a server of another protocol may
/// never send one.
fn early(text: &[u8]) -> Result<(), BadResponse> {
    let known = b"HTTP/1.".iter().zip(text);
    if known.into_iter().any(|(want, got)| want != got) {
        return Err(BadResponse::StatusLine);
    }
    Ok(())
}

fn parse(
    mut lines: Lines<'_>,
    awaited: FramingContext,
    limits: HeadLimits,
) -> Result<OriginHead, BadResponse> {
    let (version, status) = status_line(lines.next().unwrap_or_default())?;
    let first = lines.at;
    let mut headers = Fields::over(lines.section(), lines.ends.len());
    // Lines of the head are counted from 1, the status line included.
    let (mut number, mut count) = (1, 0);
    loop {
        let at = lines.at - first;
        let Some(line) = lines.next() else {
            break;
        };
        number += 1;
        count += 1;
        let bad = BadResponse::Field(number);
        let (name, value) = split(line).ok_or(bad)?;
        if count > limits.fields {
            return Err(BadResponse::TooManyFields(limits.fields));
        }
        let bytes = |range: &Range<usize>| line.get(range.clone()).unwrap_or_default();
        if let Some(folded) = unfold(bytes(&value), &mut lines) {
            number += folded.lines;
            let value = FieldValue::of(&folded.value).ok_or(bad)?;
            headers.append_wire(bytes(&name), value).map_err(|_| bad)?;
        } else {
            FieldValue::of(bytes(&value)).ok_or(bad)?;
            let placed = |range: Range<usize>| at + range.start..at + range.end;
            headers
                .add_line(placed(name), placed(value))
                .map_err(|_| bad)?;
        }
    }
    headers.seal();
    let framing = framed(awaited, version, status, &mut headers)?;
    Ok(OriginHead {
        version,
        status,
        headers,
        framing,
    })
}

/// The lines of a head without their line ends, up to the empty one.
struct Lines<'a> {
    head: &'a [u8],
    at: usize,
    ends: std::slice::Iter<'a, usize>,
}

impl<'a> Lines<'a> {
    /// The lines from here on without the empty one.
    fn section(&self) -> &'a [u8] {
        let end = self.ends.as_slice().last().map_or(self.at, |end| end + 1);
        self.head.get(self.at..end).unwrap_or_default()
    }

    /// True if the next line belongs to the one before.
    fn is_folded(&self) -> bool {
        matches!(self.head.get(self.at), Some(b' ' | b'\t'))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = *self.ends.next()?;
        let line = self.head.get(self.at..end)?;
        self.at = end + 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `HTTP/1.x SP 3DIGIT [ SP reason ]` (RFC 9112 §4); an unknown minor version is read as the highest known one (RFC
/// 9110 §2.5).
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), BadResponse> {
    let (minor, code, reason) = match line {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor,
            b' ',
            a,
            b,
            c,
            reason @ ..,
        ] => (*minor, [*a, *b, *c], reason),
        _ => return Err(BadResponse::StatusLine),
    };
    let version = match minor {
        b'0' => Version::HTTP_10,
        b'1'..=b'9' => Version::HTTP_11,
        _ => return Err(BadResponse::StatusLine),
    };
    let separated = matches!(reason.first(), None | Some(b' '));
    if !separated || !reason.iter().all(|&byte| is_value_byte(byte)) {
        return Err(BadResponse::StatusLine);
    }
    let status = StatusCode::from_bytes(&code).map_err(|_| BadResponse::StatusLine)?;
    Ok((version, status))
}

fn is_value_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// Name and value of a field line. White space before the colon is removed from a response (RFC 9112 §5.1); a line that
/// begins with white space is not a field if there is no line that it could continue (§2.2).
fn split(line: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let colon = near(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    if matches!(name.first(), Some(b' ' | b'\t')) {
        return None;
    }
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let name_end = colon - name.iter().rev().take_while(is_space).count();
    let value = value.get(1..)?;
    let start = value.iter().take_while(is_space).count();
    let value = value.get(start..)?;
    let length = value.len() - value.iter().rev().take_while(is_space).count();
    let start = colon + 1 + start;
    Some((0..name_end, start..start + length))
}

/// A value with the folded lines that follow it: a proxy refuses them or replaces each fold by a space (RFC 9112 §5.2).
struct Folded {
    value: Vec<u8>,
    lines: usize,
}

fn unfold(first: &[u8], rest: &mut Lines<'_>) -> Option<Folded> {
    let mut folded: Option<Folded> = None;
    while rest.is_folded() {
        let more = trimmed(rest.next()?);
        let Folded { value, lines } = folded.get_or_insert_with(|| Folded {
            value: first.to_vec(),
            lines: 0,
        });
        *lines += 1;
        if !value.is_empty() && !more.is_empty() {
            value.push(b' ');
        }
        value.extend_from_slice(more);
    }
    folded
}

/// Removes the framing fields from a head and adds the one length that may be forwarded.
fn framed(
    awaited: FramingContext,
    version: Version,
    status: StatusCode,
    headers: &mut Fields,
) -> Result<Framing, BadFraming> {
    let lines = |name| headers.get_all(name).map(FieldValue::as_bytes).collect();
    let fields = FramingFields {
        lengths: lines(header::CONTENT_LENGTH),
        codings: lines(header::TRANSFER_ENCODING),
        connection: lines(header::CONNECTION),
    };
    let http_11 = version == Version::HTTP_11;
    let framing = response(awaited, http_11, status.as_u16(), &fields)?;
    let coded = !fields.codings.is_empty();
    let canonical = match (fields.lengths.as_slice(), framing.length) {
        ([], None) => true,
        ([line], Some(_)) => {
            line.iter().all(u8::is_ascii_digit) && (line.len() == 1 || line.first() != Some(&b'0'))
        }
        _ => false,
    };
    drop(fields);
    if coded {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if !canonical {
        match framing.length {
            Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
            None => {
                headers.remove(header::CONTENT_LENGTH);
            }
        }
    }
    Ok(framing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GET: FramingContext = FramingContext {
        head: false,
        upgrade: false,
    };

    fn limits(bytes: usize, fields: usize) -> HeadLimits {
        HeadLimits { bytes, fields }
    }

    fn whole(text: &str) -> Result<OriginHead, BadResponse> {
        let read = read(text.as_bytes(), 0, GET, limits(400, 6))?;
        let (length, head) = read.ok_or(BadResponse::StatusLine)?;
        assert_eq!(length, text.len(), "{text:?}");
        Ok(head)
    }

    fn fields(text: &str) -> Result<Vec<String>, BadResponse> {
        let head = whole(&format!("HTTP/1.1 200 OK\r\n{text}\r\n"))?;
        let lines = head.headers.iter();
        Ok(lines
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect())
    }

    #[test]
    fn status_lines_are_those_of_http_1() {
        for (line, want) in [
            ("HTTP/1.1 200 OK", Some((Version::HTTP_11, 200))),
            ("HTTP/1.0 404 Not Found", Some((Version::HTTP_10, 404))),
            ("HTTP/1.1 200 ", Some((Version::HTTP_11, 200))),
            ("HTTP/1.1 200", Some((Version::HTTP_11, 200))),
            ("HTTP/1.1 999 Request denied", Some((Version::HTTP_11, 999))),
            ("HTTP/1.1 200 \u{e9}t\u{e9}", Some((Version::HTTP_11, 200))),
            ("HTTP/1.2 200 OK", Some((Version::HTTP_11, 200))), // RFC 9110 §2.5
            ("HTTP/2.0 200 OK", None),
            ("HTTP/1.1 20 OK", None),
            ("HTTP/1.1 2000 OK", None),
            ("HTTP/1.1 099 OK", None),
            ("HTTP/1.1 2x0 OK", None),
            ("HTTP/1.1  200 OK", None),
            ("HTTP/1.1 200 O\u{7f}K", None),
            ("http/1.1 200 OK", None),
            ("ICY 200 OK", None),
            ("", None),
        ] {
            let read = whole(&format!("{line}\r\n\r\n"));
            let got = read.map(|head| (head.version, head.status.as_u16()));
            assert_eq!(got.ok(), want, "{line}");
        }
    }

    #[test]
    fn fields_are_read_as_rfc_9112_section_5_says() {
        for (text, want) in [
            ("A: 1\r\n", Some(vec!["a=1"])),
            ("A:1\r\nB:\t 2 \t\r\n", Some(vec!["a=1", "b=2"])),
            ("A:\r\n", Some(vec!["a="])),
            ("A : 1\r\nB\t: 2\r\n", Some(vec!["a=1", "b=2"])), // §5.1
            (
                "A: 1\r\n  2\r\n\t3\r\nB: 4\r\n",
                Some(vec!["a=1 2 3", "b=4"]),
            ), // §5.2
            ("A:\r\n 1\r\n", Some(vec!["a=1"])),
            ("A: 1\r\n \r\n\t2\r\n \r\n", Some(vec!["a=1 2"])),
            ("A\r\n : 1\r\n", None),
            ("A: 1\nB: 2\n", Some(vec!["a=1", "b=2"])), // §2.2
            ("A: 1\r\nA: 2\r\n", Some(vec!["a=1", "a=2"])),
            (" A: 1\r\n", None), // §2.2
            ("A 1\r\n", None),
            (": 1\r\n", None),
            (" : 1\r\n", None),
            ("A B: 1\r\n", None),
            ("A: 1\r2\r\n", None),
            ("A: 1\u{0}\r\n", None),
            ("A: 1\r\n \u{0}\r\n", None),
        ] {
            let want = want.map(|lines| lines.into_iter().map(str::to_owned).collect());
            assert_eq!(fields(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn framing_fields_leave_one_length_or_none() {
        for (text, want) in [
            ("Content-Length: 2, 2\r\n", vec!["content-length=2"]),
            (
                "Content-Length: 02\r\ncontent-length : 2\r\n",
                vec!["content-length=2"],
            ),
            ("Transfer-Encoding: chunked\r\n", vec![]),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                vec![],
            ),
        ] {
            assert_eq!(fields(text).unwrap(), want, "{text:?}");
        }
        assert_eq!(
            fields("Content-Length: 2\r\nContent-Length: 3\r\n"),
            Err(BadResponse::Framing(BadFraming::DifferingLengths))
        );
    }

    #[test]
    fn a_head_is_bounded_while_it_comes_in() {
        let head = b"HTTP/1.1 200 OK\r\na: 1\r\n\r\nrest";
        for end in 0..head.len() - 4 {
            let got = read(&head[..end], 0, GET, limits(26, 1)).unwrap();
            assert!(got.is_none(), "{end}");
        }
        let (length, _) = read(head, 20, GET, limits(26, 1)).unwrap().unwrap();
        assert_eq!(length, head.len() - 4);
        assert_eq!(
            read(head, 0, GET, limits(24, 1)).unwrap_err(),
            BadResponse::TooLarge(24)
        );
        assert_eq!(
            read(head, 0, GET, limits(26, 0)).unwrap_err(),
            BadResponse::TooManyFields(0)
        );
        let (length, _) = read(b"\r\nHTTP/1.1 200 OK\r\n\r\n", 0, GET, limits(26, 0))
            .unwrap()
            .unwrap();
        assert_eq!(length, 21);
        for never in ["SSH-2.0-OpenSSH_9.2\r\n", "\u{15}", "HTTP/2"] {
            assert_eq!(
                read(never.as_bytes(), 0, GET, limits(26, 0)).unwrap_err(),
                BadResponse::StatusLine
            );
        }
    }
}
