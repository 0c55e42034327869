//! The request line (RFC 9112 §3) and the host that a request is for.

use memchr::memchr;

use crate::{
    admit::Refusal,
    http::{
        PathAndQuery, is_token_byte,
        uri::{TargetPath, is_query},
    },
};

/// The parts of a request line.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: PathAndQuery,
    /// Authority of an absolute-form target.
    pub(super) authority: Option<&'a [u8]>,
    /// The scheme of such a target is `https`.
    pub(super) is_https: bool,
    pub(super) http_11: bool,
}

/// Bytes of a method.
pub(crate) const MOST_METHOD: usize = 32;

/// Reads `method SP request-target SP HTTP-version` (RFC 9112 §3), without its line end.
pub(super) fn request_line(line: &[u8], most_target: usize) -> Result<RequestLine<'_>, Refusal> {
    // No part of a good line has a CR: only refused ones are searched for it.
    parts(line, most_target).map_err(|refusal| match memchr(b'\r', line) {
        Some(_) => Refusal::BadLineEnd,
        None => refusal,
    })
}

fn parts(line: &[u8], most_target: usize) -> Result<RequestLine<'_>, Refusal> {
    let (method, rest) = match line.strip_prefix(b"GET ") {
        Some(rest) => (&b"GET"[..], Some(rest)),
        None => method(line)?,
    };
    let (target, version) = target_and_version(rest.ok_or(Refusal::BadRequestLine)?)?;
    // No good target has a space, as no good line has a CR.
    targeted(method, target, version, most_target).map_err(|refusal| match memchr(b' ', target) {
        Some(_) => Refusal::BadRequestLine,
        None => refusal,
    })
}

fn targeted<'a>(
    method: &'a [u8],
    target: &'a [u8],
    version: &[u8],
    most_target: usize,
) -> Result<RequestLine<'a>, Refusal> {
    if target.len() > most_target {
        return Err(Refusal::UrlTooLong);
    }
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        // A higher minor version is read as the highest known one (RFC 9110 §2.5), and never passed on.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => true,
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
    let (authority, is_https, origin_form) = match target {
        [b'/', ..] => (None, false, target),
        b"*" if method == b"OPTIONS" => (None, false, target),
        _ => {
            let (is_https, authority, rest) = absolute(target).ok_or(Refusal::BadTarget)?;
            if !is_host(authority) {
                return Err(Refusal::BadHost);
            }
            // Such a URL without a path or query is for the server as a whole (RFC 9112 §3.2.4).
            let of_server = rest.is_empty() && method == b"OPTIONS";
            let rest = if of_server { b"*" } else { rest };
            (Some(authority), is_https, rest)
        }
    };
    let target = self::origin_form(origin_form)?;
    Ok(RequestLine {
        method,
        target,
        authority,
        is_https,
        http_11,
    })
}

/// The path and query of a target, whose bytes must be those of a URI (RFC 3986 §3.3, §3.4).
#[inline]
pub(crate) fn origin_form(target: &[u8]) -> Result<PathAndQuery, Refusal> {
    let path = TargetPath::of(target);
    match target.get(path.length..).unwrap_or_default() {
        [] => {}
        [b'?', query @ ..] if is_query(query) => {}
        _ => return Err(Refusal::BadTarget),
    }
    // The bytes are ASCII.
    let text = std::str::from_utf8(target).map_err(|_| Refusal::BadTarget)?;
    Ok(if path.length == 0 {
        // Of an absolute form without one (RFC 9112 §3.2.1).
        let root = TargetPath::of(b"/");
        PathAndQuery::checked(&format!("/{text}"), root)
    } else {
        PathAndQuery::checked(text, path)
    })
}

/// The method, and the rest of the line behind the space after it.
fn method(line: &[u8]) -> Result<(&[u8], Option<&[u8]>), Refusal> {
    let end = line.iter().position(|&byte| byte == b' ');
    let (method, rest) = line
        .split_at_checked(end.unwrap_or(line.len()))
        .unwrap_or((line, &[]));
    if method.is_empty() {
        return Err(Refusal::BadRequestLine);
    }
    if !method.iter().all(|&byte| is_token_byte(byte)) {
        return Err(Refusal::BadMethod);
    }
    if method.len() > MOST_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    Ok((method, rest.get(1..)))
}

/// The two parts that are left of the line; there must be one space between them, and none in the first.
fn target_and_version(rest: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if let Some(target) = rest.strip_suffix(b" HTTP/1.1") {
        return Ok((target, b"HTTP/1.1"));
    }
    let mut parts = rest.split(|&byte| byte == b' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(target), Some(version), None) => Ok((target, version)),
        _ => Err(Refusal::BadRequestLine),
    }
}

/// An absolute form: true if its scheme is `https`, its authority, and the rest behind it.
fn absolute(target: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let at = memchr::memmem::find(target, b"://")?;
    let scheme = target.get(..at)?;
    let is_https = scheme.eq_ignore_ascii_case(b"https");
    if !is_https && !scheme.eq_ignore_ascii_case(b"http") {
        return None;
    }
    let rest = target.get(at + 3..)?;
    let end = rest
        .iter()
        .position(|byte| b"/?".contains(byte))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    Some((is_https, authority, rest))
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2): a name, an IPv4 address or a bracketed IPv6 one. The grammar of RFC 3986
/// allows escapes and punctuation in names; they are refused, because DNS does not allow them and origins print `Host`
/// into pages.
pub(crate) fn is_host(value: &[u8]) -> bool {
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
        [b':', digits @ ..] => port_number(digits).is_some(),
        _ => false,
    };
    good_port
        && !host.is_empty()
        && host.len() <= 255
        && host.iter().all(|&byte| is_name_byte(byte))
}

/// True for the bytes of registered names that DNS allows, and those of IPv4 addresses.
fn is_name_byte(byte: u8) -> bool {
    static NAME: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            let other = matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
            table[byte] = (byte as u8).is_ascii_alphanumeric() || other;
            byte += 1;
        }
        table
    };
    NAME.get(usize::from(byte)).is_some_and(|is| *is)
}

/// A port's number; `None` if it has other bytes than digits or does not fit.
pub(crate) fn port_number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
