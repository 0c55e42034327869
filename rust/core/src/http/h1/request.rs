//! Requests of a client, from their bytes (RFC 9112): a head is read once and whole, and only if it has one possible
//! reading.
//!
//! Everything ambiguous is refused: request smuggling needs two programs that read one message differently.

use crate::http::{FieldValue, Fields, RequestParts, TargetAuthority, header};
use http::{HeaderValue, Method, Version};
use memchr::memchr;

use super::{
    ContentPiece,
    chunked::Chunked,
    request_line::{is_host, request_line},
};
use crate::{
    admit::Refusal,
    http::{framing::lines::head_lines, is_token_byte},
};

/// Bounds on a request (docs/design.md §11).
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Bytes of a head.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Bytes of a request target.
    pub url_bytes: usize,
    /// Bytes of a request's content.
    pub body_bytes: u64,
}

/// The head of a request.
#[derive(Debug)]
pub struct ClientHead {
    /// HTTP/1.0 or HTTP/1.1, with fields in their order, those that frame the message included.
    pub parts: Box<RequestParts>,
    /// Its content, which follows.
    pub content: RequestContent,
    /// The client may send another request on the connection (RFC 9112 §9.3).
    pub is_persistent: bool,
    /// The client waits for a 100 before it sends the content (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// The framing of a request's content (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestContent {
    /// No content.
    None,
    /// Bytes that follow the head; more than none.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
}

/// Reads the heads of one connection's requests.
#[derive(Debug)]
pub struct RequestReader {
    limits: RequestLimits,
    /// Bytes of an incomplete head that were searched for its end.
    searched: usize,
    /// The last `Host`, which is one: the next is nearly always the same.
    host: Vec<u8>,
}

/// Cuts the content of a request out of the bytes after its head.
#[derive(Debug, Clone)]
pub enum ContentReader {
    /// Bytes left.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked(Box<Chunked>),
}

impl ContentReader {
    /// For the content that a head announces; `None` if there is none.
    pub fn of(content: RequestContent) -> Option<Self> {
        match content {
            RequestContent::None => None,
            RequestContent::Length(length) => Some(Self::Length(length)),
            RequestContent::Chunked => Some(Self::Chunked(Box::new(Chunked::new()))),
        }
    }

    /// Reads the content in `bytes`, up to its end; `most` bounds chunked content, whose data are moved together.
    pub fn read(&mut self, bytes: &mut [u8], most: u64) -> Result<ContentPiece, Refusal> {
        match self {
            Self::Chunked(chunked) => chunked.read(bytes, most),
            Self::Length(left) => {
                let count = (bytes.len() as u64).min(*left);
                *left -= count;
                Ok(ContentPiece::plain(count as usize, *left == 0))
            }
        }
    }

    /// The trailer section behind the content that has been read; `None` if it is empty.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Length(_) => None,
            Self::Chunked(chunked) => chunked.take_trailers(),
        }
    }
}

impl RequestReader {
    /// A reader for a new connection.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            searched: 0,
            host: Vec::new(),
        }
    }

    /// Reads a whole head at the start of `bytes`, which are all bytes since the previous message, and gives its length.
    /// `None` while it is incomplete.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(usize, ClientHead)>, Refusal> {
        // §2.2: one empty line before the request line is ignored.
        let skipped = match bytes {
            [b'\r', b'\n', ..] => 2,
            [] | [b'\r'] => return Ok(None),
            _ => 0,
        };
        let text = bytes.get(skipped..).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let Some((length, ends)) = head_lines(text, self.searched) else {
            // The incomplete head may already be enough to refuse it.
            self.early(text)?;
            self.searched = text.len();
            return Ok(None);
        };
        if length > self.limits.head_bytes {
            self.early(text)?;
            return Err(Refusal::HeadTooLarge);
        }
        self.searched = 0;
        let text = text.get(..length).unwrap_or_default();
        let head = read(text, &ends, &self.limits, &mut self.host)?;
        Ok(Some((skipped + length, head)))
    }

    /// Refuses an incomplete head as soon as it cannot become a good one.
    fn early(&self, text: &[u8]) -> Result<(), Refusal> {
        match memchr(b'\n', text) {
            None => {
                if text
                    .iter()
                    .take(64)
                    .any(|byte| byte.is_ascii_control() && *byte != b'\r')
                {
                    return Err(Refusal::BadRequestLine);
                }
                // Room for method, spaces and version beside the URL.
                if text.len() > self.limits.url_bytes + 64 {
                    let spaces = text.iter().filter(|byte| **byte == b' ').count();
                    return Err(if spaces == 0 {
                        Refusal::MethodTooLong
                    } else {
                        Refusal::UrlTooLong
                    });
                }
            }
            Some(end) => {
                let first = line(text.get(..=end).unwrap_or_default())?;
                if memchr(b'\r', first).is_some() {
                    return Err(Refusal::BadLineEnd);
                }
                request_line(first, self.limits.url_bytes)?;
                // Each complete line is checked now, so that it is refused without waiting for the rest.
                if text.len() <= self.limits.head_bytes {
                    let whole = memchr::memrchr(b'\n', text).unwrap_or(end);
                    let fields = text.get(end + 1..=whole).unwrap_or_default();
                    let count = memchr::memchr_iter(b'\n', fields).count();
                    if count > self.limits.head_fields {
                        return Err(Refusal::TooManyFields);
                    }
                }
            }
        }
        if text.len() > self.limits.head_bytes {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(())
        }
    }
}

/// A line without its CR LF, which must be there.
fn line(with_end: &[u8]) -> Result<&[u8], Refusal> {
    with_end.strip_suffix(b"\r\n").ok_or(Refusal::BadLineEnd)
}

/// Reads a complete head, whose lines end at `ends`; the last line is empty. `last_host`: one that is valid.
fn read(
    text: &[u8],
    ends: &[usize],
    limits: &RequestLimits,
    last_host: &mut Vec<u8>,
) -> Result<ClientHead, Refusal> {
    let first = ends.first().map_or(text.len(), |end| end + 1);
    let (start, section) = text.split_at_checked(first).unwrap_or_default();
    let start = line(start)?;
    if memchr(b'\r', start).is_some() {
        return Err(Refusal::BadLineEnd);
    }
    let start = request_line(start, limits.url_bytes)?;
    let mut found = HeadFields {
        headers: Fields::over(section, ends.len()),
        ..HeadFields::default()
    };
    let mut at = 0;
    for (count, end) in ends.iter().skip(1).enumerate() {
        let end = end + 1 - first;
        let field = line(section.get(at..end).unwrap_or_default())?;
        if count >= limits.head_fields {
            return Err(Refusal::TooManyFields);
        }
        found
            .field(at, field, last_host)
            .map_err(|refusal| match refusal {
                Refusal::BadField if memchr(b'\r', field).is_some() => Refusal::BadLineEnd,
                other => other,
            })?;
        at = end;
    }
    // The empty line at the end must be one of its own kind.
    line(section.get(at..).unwrap_or_default())?;
    match (found.headers.get(header::HOST), start.authority) {
        (Some(host), Some(authority))
            if !is_same_authority(host.as_bytes(), authority, start.is_https) =>
        {
            return Err(Refusal::BadHost);
        }
        (None, _) if start.http_11 => return Err(Refusal::BadHost),
        _ => {}
    }
    let content = match found.length {
        _ if found.chunked && found.length.is_some() => return Err(Refusal::AmbiguousFraming),
        _ if found.chunked && !start.http_11 => return Err(Refusal::BadTransferEncoding),
        _ if found.chunked => RequestContent::Chunked,
        Some(length) if length > limits.body_bytes => return Err(Refusal::BodyTooLarge),
        Some(length @ 1..) => RequestContent::Length(length),
        _ => RequestContent::None,
    };
    let method = Method::from_bytes(start.method).map_err(|_| Refusal::BadMethod)?;
    let authority = start.authority.map(HeaderValue::from_bytes).transpose();
    let authority = authority.map_err(|_| Refusal::BadHost)?;
    Ok(ClientHead {
        parts: Box::new(RequestParts {
            method,
            target: start.target,
            authority: authority.map(|value| TargetAuthority {
                value,
                is_https: start.is_https,
            }),
            version: if start.http_11 {
                Version::HTTP_11
            } else {
                Version::HTTP_10
            },
            headers: found.headers,
        }),
        content,
        is_persistent: !found.close && (start.http_11 || found.keep_alive),
        expects_continue: found.expects && start.http_11,
    })
}

/// The fields of a head as they are read, and those of them that decide about the message and the connection.
#[derive(Default)]
struct HeadFields {
    headers: Fields,
    has_host: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
}

impl HeadFields {
    /// `field` is the line at a place of the section.
    fn field(&mut self, at: usize, field: &[u8], last_host: &mut Vec<u8>) -> Result<(), Refusal> {
        if matches!(field.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::Folded);
        }
        // Names are short: a search made for long texts would cost more.
        let colon = field.iter().position(|&byte| byte == b':');
        let colon = colon.ok_or(Refusal::BadField)?;
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let value = field.get(colon + 1..).unwrap_or_default();
        let start = value.iter().take_while(is_space).count();
        let value = value.get(start..).unwrap_or_default();
        let end = value.len() - value.iter().rev().take_while(is_space).count();
        let value = value.get(..end).unwrap_or_default();
        let value = FieldValue::of(value).ok_or(Refusal::BadField)?.as_bytes();
        let place = at + colon + 1 + start;
        let name = self
            .headers
            .add_line(at..at + colon, place..place + value.len())
            .map_err(|_| Refusal::BadField)?;
        match name {
            Some(header::HOST) => {
                if self.has_host {
                    return Err(Refusal::BadHost);
                }
                // Before the first there is none: the empty text is no host.
                if last_host.is_empty() || *value != **last_host {
                    if !is_host(value) {
                        return Err(Refusal::BadHost);
                    }
                    last_host.clear();
                    last_host.extend_from_slice(value);
                }
                self.has_host = true;
            }
            Some(header::EXPECT) => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                self.expects = true;
            }
            Some(header::CONNECTION) => self.connection(value)?,
            Some(header::CONTENT_LENGTH) => {
                if self.length.is_some() {
                    return Err(Refusal::BadContentLength);
                }
                self.length = Some(length(value).ok_or(Refusal::BadContentLength)?);
            }
            Some(header::TRANSFER_ENCODING) => {
                if self.chunked {
                    return Err(Refusal::BadTransferEncoding);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(transfer_coding(value));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Nominating a field as hop-by-hop removes it: some must not be removed (RFC 9110 §7.6.1).
    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        const ESSENTIAL: [&str; 6] = [
            "host",
            "content-length",
            "transfer-encoding",
            "authorization",
            "cookie",
            "cache-control",
        ];
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            if ESSENTIAL
                .iter()
                .any(|name| option.eq_ignore_ascii_case(name.as_bytes()))
            {
                return Err(Refusal::BadField);
            }
        }
        Ok(())
    }
}

/// Why a transfer coding other than `chunked` is refused: one that repeats or hides `chunked` is an attack, an unknown
/// one is not implemented.
fn transfer_coding(value: &[u8]) -> Refusal {
    let codings: smallvec::SmallVec<[&[u8]; 4]> = value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .collect();
    let chunked = codings
        .iter()
        .filter(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        .count();
    let tokens = codings
        .iter()
        .all(|coding| !coding.is_empty() && coding.iter().all(|&byte| is_token_byte(byte)));
    let last = codings
        .last()
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if !tokens || chunked > 1 || (chunked == 1 && !last) {
        Refusal::BadTransferEncoding
    } else {
        Refusal::UnknownTransferCoding
    }
}

/// Digits only (RFC 9110 §8.6); a number that does not fit is malformed.
pub(crate) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |n, &byte| {
        byte.is_ascii_digit()
            .then(|| n.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// True if two authorities are one in different spellings: in another case, with the port that is the scheme's default,
/// with a dot at the end (RFC 3986 §6.2.2.1, §6.2.3).
fn is_same_authority(one: &[u8], other: &[u8], is_https: bool) -> bool {
    let bare = |authority: &'_ [u8]| -> usize {
        let default: &[u8] = if is_https { b":443" } else { b":80" };
        let host = authority
            .strip_suffix(default)
            .or_else(|| authority.strip_suffix(b":"))
            .unwrap_or(authority);
        host.strip_suffix(b".").unwrap_or(host).len()
    };
    let (one, other) = (one.get(..bare(one)), other.get(..bare(other)));
    one.zip(other)
        .is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        head_bytes: 4096,
        head_fields: 20,
        url_bytes: 1024,
        body_bytes: 1000,
    };

    /// Follows a connection whose bytes come in pieces of `step`: its messages, and the refusal at its end.
    fn follow(bytes: &[u8], step: usize) -> (Vec<String>, Option<Refusal>) {
        let mut reader = RequestReader::new(LIMITS);
        let (mut seen, mut held) = (Vec::new(), Vec::new());
        let mut content: Option<ContentReader> = None;
        for piece in bytes.chunks(step) {
            held.extend_from_slice(piece);
            loop {
                if let Some(under_way) = &mut content {
                    let piece = match under_way.read(&mut held, LIMITS.body_bytes) {
                        Ok(piece) => piece,
                        Err(refusal) => return (seen, Some(refusal)),
                    };
                    let text = String::from_utf8_lossy(&held[piece.data]).into_owned();
                    *seen.last_mut().unwrap() += &text;
                    held.drain(..piece.consumed);
                    if piece.is_last {
                        if let Some(trailers) = under_way.take_trailers() {
                            *seen.last_mut().unwrap() += &trailers
                                .iter()
                                .map(|(name, value)| {
                                    format!("{{{name}: {}}}", value.to_str().unwrap())
                                })
                                .collect::<String>();
                        }
                        content = None;
                    } else if piece.consumed == 0 {
                        break;
                    }
                } else {
                    match reader.read(&held) {
                        Ok(None) => break,
                        Err(refusal) => return (seen, Some(refusal)),
                        Ok(Some((length, head))) => {
                            held.drain(..length);
                            let RequestParts {
                                method,
                                authority,
                                target,
                                ..
                            } = &*head.parts;
                            let authority = authority
                                .as_ref()
                                .map_or(&b""[..], |target| target.value.as_bytes());
                            let authority = authority.escape_ascii();
                            seen.push(format!("{method} {authority}{target} "));
                            content = ContentReader::of(head.content);
                        }
                    }
                }
            }
        }
        assert!(held.is_empty() || content.is_none());
        (seen, None)
    }

    #[test]
    fn good_messages_are_read_however_they_arrive() {
        for (bytes, want) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &["GET / "][..]),
            (b"\r\nGET /a?b=c HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\n\r\n", &["GET /a?b=c "]),
            (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &["GET a/ "]),
            (b"GET HTTP://A:80?b HTTP/1.1\r\nHost: a:80\r\n\r\n", &["GET A:80/?b "]),
            (b"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", &["OPTIONS * "]),
            (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a* "]),
            (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a/ "]),
            (b"OPTIONS http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a/?b "]),
            (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", &["GET a/ "]),
            (b"GET / HTTP/1.0\r\n\r\n", &["GET / "]),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                &["POST / abc", "GET / "],
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n1\r\nd\r\n0\r\nX-T:  1 \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                &["POST / abcd{x-t: 1}", "GET / "],
            ),
        ] {
            for step in 1..=bytes.len() {
                let (seen, refusal) = follow(bytes, step);
                assert_eq!(seen, want, "{} by {step}", bytes.escape_ascii());
                assert_eq!(refusal, None);
            }
        }
    }

    #[test]
    fn bad_messages_are_refused_however_they_arrive() {
        use Refusal::*;
        for (message, refusal) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], BadHost),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BadHost),
            (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", BadHost),
            (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", BadHost),
            (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
            (b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
            (b"GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
            (b"GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
            (b"GET / HTTP/1.1\nHost: a\n\n", BadLineEnd),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BadLineEnd),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", BadField),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Folded),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", BadField),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", AmbiguousFraming),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", AmbiguousFraming),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", UnknownTransferCoding),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", BadTransferEncoding),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", BadContentLength),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", BodyTooLarge),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", BodyTooLarge),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\n", BadChunk),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n", BadChunk),
            (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", BadField),
            (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Expectation),
            (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
            (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
            (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Trace),
            (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", BadHost),
            (b"GET / HTTP/1.1\r\nHost: a%00b\r\n\r\n", BadHost),
        ] {
            for step in 1..=message.len() {
                assert_eq!(follow(message, step).1, Some(refusal), "{} by {step}", message.escape_ascii());
            }
        }
    }

    #[test]
    fn messages_before_a_bad_one_are_read() {
        let both = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx\r\n\r\n";
        let (seen, refusal) = follow(both, both.len());
        assert_eq!((seen.len(), refusal), (1, Some(Refusal::BadRequestLine)));
    }

    #[test]
    fn an_authority_is_judged_with_its_line() {
        for authority in ["a\x7f", "", "a@b", "a:x"] {
            let line = format!("GET http://{authority}/ HTTP/1.1\r\n");
            for step in [1, line.len()] {
                let (seen, refusal) = follow(line.as_bytes(), step);
                assert!(seen.is_empty() && refusal.is_some(), "{line} {step}");
            }
        }
    }

    #[test]
    fn a_head_says_whether_its_connection_goes_on() {
        for (text, persistent, expects) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
                false,
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false, false),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                true,
                false,
            ),
            (
                "GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
                false,
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n",
                true,
                true,
            ),
        ] {
            let (_, head) = RequestReader::new(LIMITS)
                .read(text.as_bytes())
                .unwrap()
                .unwrap();
            assert_eq!(
                (head.is_persistent, head.expects_continue),
                (persistent, expects),
                "{text}"
            );
        }
    }

    #[test]
    fn endless_heads_are_refused_in_time() {
        let start = "GET / HTTP/1.1\r\nHost: a\r\n";
        for (text, refusal) in [
            ("a".repeat(2000), Refusal::MethodTooLong),
            (format!("GET /{}", "a".repeat(1200)), Refusal::UrlTooLong),
            (
                format!("{start}{}", "a: b\r\n".repeat(30)),
                Refusal::TooManyFields,
            ),
            (
                format!("{start}X: {}", "a".repeat(5000)),
                Refusal::HeadTooLarge,
            ),
        ] {
            let read = RequestReader::new(LIMITS).read(text.as_bytes());
            assert_eq!(read.err(), Some(refusal), "{text}");
        }
    }
}
