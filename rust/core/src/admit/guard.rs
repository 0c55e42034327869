//! The guard: follows the framing of an HTTP/1 connection on its raw bytes and delivers only messages that have one
//! possible reading (RFC 9112).
//!
//! It runs before the parser, and may be stricter than it, never laxer: so both always agree about where a message
//! ends. A head is delivered whole or not at all.

use memchr::memchr;

use super::{Chunked, Refusal};
use crate::http::is_token_byte;

/// Bounds on a request (docs/design.md §11).
#[derive(Debug, Clone, Copy)]
pub struct GuardLimits {
    /// Bytes of a head.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Bytes of a request target.
    pub url_bytes: usize,
    /// Bytes of a request's content.
    pub body_bytes: u64,
}

/// The guard's decision about a piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardStep {
    /// This many bytes may pass; the rest is an incomplete head, to be passed again with the bytes that follow it.
    Deliver(usize),
    /// This many bytes may pass; the message after them is refused, and with it the rest of the connection.
    Refuse {
        /// Bytes that may pass.
        after: usize,
        /// The reason.
        refusal: Refusal,
    },
}

/// Reads a connection's bytes before the parser of HTTP does, and finds where each message ends.
#[derive(Debug)]
pub struct HeadGuard {
    limits: GuardLimits,
    state: State,
    /// How far an incomplete head has been searched for its end.
    searched: usize,
}

#[derive(Debug)]
enum State {
    Head,
    Body(u64),
    Chunked(Box<Chunked>),
    /// After a request for an upgrade: any bytes may follow, and the client waits for the response.
    Upgrading,
}

/// How the message after a head is framed.
enum RequestFraming {
    None,
    Length(u64),
    Chunked,
    Upgrade,
}

impl HeadGuard {
    /// A guard for a new connection.
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            state: State::Head,
            searched: 0,
        }
    }

    /// True if the current message's body is incomplete.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Chunked(_))
    }

    /// Checks the input: the undelivered rest of the previous call, and the new bytes.
    pub fn inspect(&mut self, bytes: &[u8]) -> GuardStep {
        let mut passed = 0;
        // Start of the message whose body is being followed, as long as none of it has been delivered.
        let mut begun = None;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            if rest.is_empty() {
                return GuardStep::Deliver(passed);
            }
            match &mut self.state {
                State::Body(left) => {
                    let now = (rest.len() as u64).min(*left);
                    *left -= now;
                    passed += now as usize;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(chunked) => match chunked.follow(rest, self.limits.body_bytes) {
                    Ok(Some(end)) => {
                        passed += end;
                        self.state = State::Head;
                    }
                    Ok(None) => return GuardStep::Deliver(bytes.len()),
                    Err(refusal) => {
                        if begun.is_some() {
                            self.state = State::Head;
                        }
                        return GuardStep::Refuse {
                            after: begun.unwrap_or(passed),
                            refusal,
                        };
                    }
                },
                State::Upgrading => return GuardStep::Deliver(passed),
                State::Head => match self.head(rest) {
                    Ok(Some((length, framing))) => {
                        begun = Some(passed);
                        passed += length;
                        self.searched = 0;
                        self.state = match framing {
                            RequestFraming::None | RequestFraming::Length(0) => State::Head,
                            RequestFraming::Length(length) => State::Body(length),
                            RequestFraming::Chunked => State::Chunked(Box::new(Chunked::new())),
                            RequestFraming::Upgrade => State::Upgrading,
                        };
                    }
                    Ok(None) => return GuardStep::Deliver(passed),
                    Err(refusal) => {
                        return GuardStep::Refuse {
                            after: passed,
                            refusal,
                        };
                    }
                },
            }
        }
    }

    /// Continues the connection as before: the upgrade was answered without one.
    pub fn resume(&mut self) {
        if matches!(self.state, State::Upgrading) {
            self.state = State::Head;
        }
    }

    /// True if the connection waits for the response to an upgrade.
    pub fn is_upgrading(&self) -> bool {
        matches!(self.state, State::Upgrading)
    }

    /// A whole head at the start of `bytes`: its length and framing; `None` while it is incomplete.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, RequestFraming)>, Refusal> {
        // §2.2: one empty line before the request line is ignored.
        let skipped = match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return Ok(None),
            _ => 0,
        };
        let text = bytes.get(skipped..).unwrap_or_default();
        let Some(length) = self.end(text) else {
            // The incomplete head may already be enough to refuse it.
            self.early(text)?;
            self.searched = text.len();
            return Ok(None);
        };
        if length > self.limits.head_bytes {
            self.early(text)?;
            return Err(Refusal::HeadTooLarge);
        }
        let head = text.get(..length).unwrap_or_default();
        let framing = Head::read(head, &self.limits)?;
        Ok(Some((skipped + length, framing)))
    }

    /// The length of the head: up to the first empty line, whatever its line ends (a bare LF is refused when it is
    /// parsed).
    fn end(&self, text: &[u8]) -> Option<usize> {
        let mut from = self.searched.saturating_sub(3);
        loop {
            let at = from + memchr(b'\n', text.get(from..)?)?;
            match text.get(at + 1..) {
                Some([b'\n', ..]) => return Some(at + 2),
                Some([b'\r', b'\n', ..]) => return Some(at + 3),
                _ => from = at + 1,
            }
        }
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
                request_line(line(text.get(..=end).unwrap_or_default())?, &self.limits)?;
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
    let line = with_end.strip_suffix(b"\r\n").ok_or(Refusal::BadLineEnd)?;
    if memchr(b'\r', line).is_some() {
        Err(Refusal::BadLineEnd)
    } else {
        Ok(line)
    }
}

struct RequestLine<'a> {
    method: &'a [u8],
    /// Authority of an absolute-form target.
    authority: Option<&'a [u8]>,
    http_11: bool,
}

const MOST_METHOD: usize = 32;

fn request_line<'a>(line: &'a [u8], limits: &GuardLimits) -> Result<RequestLine<'a>, Refusal> {
    let mut parts = line.split(|&byte| byte == b' ');
    let method = parts.next().unwrap_or_default();
    if method.is_empty() || !method.iter().all(|&byte| is_token_byte(byte)) {
        return Err(if method.is_empty() {
            Refusal::BadRequestLine
        } else {
            Refusal::BadMethod
        });
    }
    if method.len() > MOST_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    let (Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::BadRequestLine);
    };
    if target.len() > limits.url_bytes {
        return Err(Refusal::UrlTooLong);
    }
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::BadRequestLine),
    };
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    if method == b"TRACE" {
        return Err(Refusal::Trace);
    }
    let authority = match target {
        [b'/', ..] => None,
        b"*" if method == b"OPTIONS" => None,
        _ => Some(absolute(target).ok_or(Refusal::BadTarget)?),
    };
    let (path, query) = match memchr(b'?', target) {
        Some(at) => target.split_at_checked(at).unwrap_or((target, &[])),
        None => (target, &[][..]),
    };
    let class = |byte: u8| TARGET.get(usize::from(byte)).copied().unwrap_or(0);
    if !path.iter().all(|&byte| class(byte) & PATH != 0)
        || !query.iter().all(|&byte| class(byte) & QUERY != 0)
    {
        return Err(Refusal::BadTarget);
    }
    Ok(RequestLine {
        method,
        authority,
        http_11,
    })
}

fn absolute(target: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(target, b"://")?;
    let scheme = target.get(..at)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = target.get(at + 3..)?;
    let end = rest
        .iter()
        .position(|byte| b"/?".contains(byte))
        .unwrap_or(rest.len());
    rest.get(..end)
}

/// Bits of `TARGET`: the byte may occur in a path, in a query.
const PATH: u8 = 1;
const QUERY: u8 = 2;
static TARGET: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] =
            (is_path_byte(byte as u8) as u8 * PATH) | (is_query_byte(byte as u8) as u8 * QUERY);
        byte += 1;
    }
    classes
};

/// Bytes of a path, or of an authority before it: visible ASCII without a fragment. Brackets, braces and the like are
/// not in RFC 3986's grammar, but browsers send them and they are harmless; quotes, angle brackets and backslashes are
/// not.
const fn is_path_byte(byte: u8) -> bool {
    is_query_byte(byte) && !matches!(byte, b'\\' | b'^' | b'`')
}

/// Bytes of a query: all that browsers send unescaped (the query percent-encode set of the WHATWG URL standard has
/// controls, space and these four).
const fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>')
}

/// The fields of a head that determine its framing.
#[derive(Default)]
struct Head<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    connection_upgrade: bool,
    upgrade: bool,
}

impl<'a> Head<'a> {
    fn read(head: &'a [u8], limits: &GuardLimits) -> Result<RequestFraming, Refusal> {
        let first = memchr(b'\n', head).unwrap_or(head.len().saturating_sub(1));
        let start = request_line(line(head.get(..=first).unwrap_or_default())?, limits)?;
        let mut found = Self::default();
        let mut rest = head.get(first + 1..).unwrap_or_default();
        let mut count = 0;
        while let Some(end) = memchr(b'\n', rest) {
            let field = line(rest.get(..=end).unwrap_or_default())?;
            rest = rest.get(end + 1..).unwrap_or_default();
            if field.is_empty() {
                break;
            }
            count += 1;
            if count > limits.head_fields {
                return Err(Refusal::TooManyFields);
            }
            found.field(field)?;
        }
        match (found.host, start.authority) {
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
                return Err(Refusal::BadHost);
            }
            (None, None) if start.http_11 => return Err(Refusal::BadHost),
            (_, Some(authority)) if !is_host(authority) => return Err(Refusal::BadHost),
            (None, _) if start.http_11 => return Err(Refusal::BadHost),
            _ => {}
        }
        if found.chunked {
            if found.length.is_some() {
                return Err(Refusal::AmbiguousFraming);
            }
            if !start.http_11 {
                return Err(Refusal::BadTransferEncoding);
            }
            return Ok(RequestFraming::Chunked);
        }
        match found.length {
            Some(length) if length > limits.body_bytes => Err(Refusal::BodyTooLarge),
            Some(length @ 1..) => Ok(RequestFraming::Length(length)),
            _ if found.upgrade
                && found.connection_upgrade
                && start.http_11
                && start.method == b"GET" =>
            {
                Ok(RequestFraming::Upgrade)
            }
            _ => Ok(RequestFraming::None),
        }
    }

    fn field(&mut self, field: &'a [u8]) -> Result<(), Refusal> {
        if matches!(field.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::Folded);
        }
        let colon = memchr(b':', field).ok_or(Refusal::BadField)?;
        let name = field.get(..colon).unwrap_or_default();
        let value = field.get(colon + 1..).unwrap_or_default();
        if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
            return Err(Refusal::BadField);
        }
        if !value.iter().all(|&byte| is_value_byte(byte)) {
            return Err(Refusal::BadField);
        }
        let value = value.trim_ascii();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                if self.host.is_some() || !is_host(value) {
                    return Err(Refusal::BadHost);
                }
                self.host = Some(value);
            }
            6 if is(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::Expectation);
            }
            7 if is(b"upgrade") => self.upgrade = true,
            10 if is(b"connection") => self.connection(value)?,
            14 if is(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::BadContentLength);
                }
                self.length = Some(length(value).ok_or(Refusal::BadContentLength)?);
            }
            17 if is(b"transfer-encoding") => {
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
            if option.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            }
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

fn is_value_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// Digits only (RFC 9110 §8.6); a number that does not fit is malformed.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |n, &byte| {
        byte.is_ascii_digit()
            .then(|| n.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2): a name, an IPv4 address or a bracketed IPv6 one. The grammar of RFC 3986
/// allows escapes and punctuation in names; they are refused, because DNS does not allow them and origins print `Host`
/// into pages.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => {
            let Some(end) = memchr(b']', value) else {
                return false;
            };
            let inside = value.get(1..end).unwrap_or_default();
            let valid = std::str::from_utf8(inside)
                .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !valid {
                return false;
            }
            (&b"ok"[..], value.get(end + 1..).unwrap_or_default())
        }
        _ => {
            let end = memchr(b':', value).unwrap_or(value.len());
            value.split_at_checked(end).unwrap_or((value, &[]))
        }
    };
    let good_port = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    };
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    good_port && !host.is_empty() && host.len() <= 255 && host.iter().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GuardLimits = GuardLimits {
        head_bytes: 4096,
        head_fields: 20,
        url_bytes: 1024,
        body_bytes: 1000,
    };

    fn whole(bytes: &[u8]) -> GuardStep {
        HeadGuard::new(LIMITS).inspect(bytes)
    }

    /// Byte by byte, as the engine would: held bytes are passed again.
    fn split(bytes: &[u8]) -> GuardStep {
        let mut guard = HeadGuard::new(LIMITS);
        let mut held = Vec::new();
        let mut delivered = 0;
        for &byte in bytes {
            held.push(byte);
            match guard.inspect(&held) {
                GuardStep::Deliver(now) => {
                    delivered += now;
                    held.drain(..now);
                }
                GuardStep::Refuse { after, refusal } => {
                    return GuardStep::Refuse {
                        after: delivered + after,
                        refusal,
                    };
                }
            }
        }
        GuardStep::Deliver(delivered)
    }

    #[test]
    fn good_messages_pass_however_they_arrive() {
        for message in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET /a?b=c HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(whole(message), GuardStep::Deliver(message.len()), "{}", String::from_utf8_lossy(message));
            assert_eq!(split(message), GuardStep::Deliver(message.len()), "{}", String::from_utf8_lossy(message));
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
            for step in [whole(message), split(message)] {
                assert!(
                    matches!(step, GuardStep::Refuse { refusal: found, .. } if found == refusal),
                    "{step:?} for {}",
                    String::from_utf8_lossy(message)
                );
            }
        }
    }

    #[test]
    fn what_comes_before_a_bad_message_passes() {
        let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = [&good[..], b"x\r\n\r\n"].concat();
        assert!(matches!(whole(&both), GuardStep::Refuse { after, .. } if after == good.len()));
    }

    /// A message of which nothing was delivered can be refused whole, body included.
    #[test]
    fn a_broken_body_takes_its_head_with_it_where_it_can() {
        let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bad = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX";
        let mut guard = HeadGuard::new(LIMITS);
        let step = guard.inspect(&[&good[..], bad].concat());
        assert!(matches!(step, GuardStep::Refuse { after, .. } if after == good.len()));
        assert!(!guard.in_body());
        let mut guard = HeadGuard::new(LIMITS);
        let head = bad.len() - 7;
        assert_eq!(
            guard.inspect(bad.get(..head).unwrap_or_default()),
            GuardStep::Deliver(head)
        );
        let step = guard.inspect(bad.get(head..).unwrap_or_default());
        assert!(matches!(step, GuardStep::Refuse { after: 0, .. }));
        assert!(guard.in_body());
    }

    #[test]
    fn endless_heads_are_refused_in_time() {
        let mut guard = HeadGuard::new(LIMITS);
        assert!(matches!(
            guard.inspect(&[b'a'; 2000]),
            GuardStep::Refuse { .. }
        ));
        let mut long = b"GET /".to_vec();
        long.extend([b'a'; 1200]);
        assert_eq!(
            whole(&long),
            GuardStep::Refuse {
                after: 0,
                refusal: Refusal::UrlTooLong
            }
        );
        let mut many = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        many.extend(b"a: b\r\n".repeat(30));
        assert_eq!(
            whole(&many),
            GuardStep::Refuse {
                after: 0,
                refusal: Refusal::TooManyFields
            }
        );
        let mut large = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        large.extend([b'a'; 5000]);
        assert_eq!(
            whole(&large),
            GuardStep::Refuse {
                after: 0,
                refusal: Refusal::HeadTooLarge
            }
        );
    }
}
