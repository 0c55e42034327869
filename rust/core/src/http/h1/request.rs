//! Requests of a client, from their bytes (RFC 9112): a head is read once and whole, and only if it has one possible
//! reading.
//!
//! Everything ambiguous is refused: request smuggling needs two programs that read one message differently.

use http::{HeaderValue, Method, Version};
use memchr::memchr;

pub use super::content::{ContentReader, RequestContent};
use super::{head_fields::HeadFields, request_line::request_line};
use crate::{
    admit::Refusal,
    http::{
        RequestParts, TargetAuthority,
        framing::lines::{LineEnds, head_lines},
        header,
    },
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

/// Reads the heads of one connection's requests.
#[derive(Debug)]
pub struct RequestReader {
    limits: RequestLimits,
    /// Bytes of an incomplete head that were searched for its end.
    searched: usize,
    /// The last `Host`, which is one: the next is nearly always the same.
    host: Vec<u8>,
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

    /// Reads a whole head at the start of `bytes`, which are all bytes since the previous message, and gives its
    /// length. `None` while it is incomplete.
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
        let mut ends = LineEnds::new();
        let Some(length) = head_lines(text, self.searched, &mut ends) else {
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
    let start = request_line(line(start)?, limits.url_bytes)?;
    let mut found = HeadFields::over(section, ends.len());
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

/// True if two authorities are one in different spellings: in another case, with the port that is the scheme's default,
/// with a dot at the end (RFC 3986 §6.2.2.1, §6.2.3).
pub(crate) fn is_same_authority(one: &[u8], other: &[u8], is_https: bool) -> bool {
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
mod tests;
