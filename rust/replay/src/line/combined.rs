//! The common and combined forms of Apache and nginx, and what edgerouter and others put around them: a host before the
//! client, or `name=value` pairs at the end.

use std::borrow::Cow;

use super::{LogLine, address, number, present, quoted, request_line, split, time};

pub(super) fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    let (before, rest) = split(line, b'[')?;
    let (at, rest) = split(rest, b']')?;
    let mut parsed = LogLine {
        at: time::common(at)?,
        ..LogLine::default()
    };
    let words = || {
        before
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
    };
    let mut names = words();
    if words().count() > 3 {
        parsed.host = Cow::Borrowed(names.next()?);
    }
    parsed.client = address(names.next()?);
    let (request, rest) = quoted(rest.strip_prefix(b" \"")?)?;
    match request {
        Cow::Borrowed(request) => {
            let (method, target) = request_line(request)?;
            (parsed.method, parsed.target) = (Cow::Borrowed(method), Cow::Borrowed(target));
        }
        Cow::Owned(request) => {
            let (method, target) = request_line(&request)?;
            (parsed.method, parsed.target) =
                (Cow::Owned(method.to_vec()), Cow::Owned(target.to_vec()));
        }
    }
    let rest = rest.strip_prefix(b" ")?;
    let (status, rest) = split(rest, b' ')?;
    parsed.status = u16::try_from(number(status)?).ok()?;
    let (bytes, mut rest) = split(rest, b' ').unwrap_or((rest, b""));
    parsed.bytes = if bytes == b"-" { 0 } else { number(bytes)? };
    for field in [&mut parsed.referer, &mut parsed.agent] {
        let Some(text) = rest.strip_prefix(b"\"") else {
            break;
        };
        let (text, after) = quoted(text)?;
        *field = match text {
            Cow::Borrowed(text) => Cow::Borrowed(present(text)),
            owned @ Cow::Owned(_) => owned,
        };
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    pairs(rest, &mut parsed);
    Some(parsed)
}

/// Pairs after the combined form. Anything else ends them.
fn pairs<'a>(mut rest: &'a [u8], parsed: &mut LogLine<'a>) {
    while let Some((name, after)) = split(rest, b'=') {
        let name = name.trim_ascii_start();
        let value = if let Some(text) = after.strip_prefix(b"\"") {
            let Some((text, after)) = quoted(text) else {
                return;
            };
            rest = after;
            text
        } else {
            let (text, after) = split(after, b' ').unwrap_or((after, b""));
            rest = after;
            Cow::Borrowed(text)
        };
        match name {
            b"host" => parsed.host = value,
            b"reason" => parsed.reason = value,
            b"scheme" => parsed.scheme = super::scheme(&value),
            b"tls" => parsed.scheme = Some(edgerouter_core::plan::Scheme::Https),
            b"cache_control" => parsed.cache_control = value,
            b"content_type" => parsed.content_type = value,
            _ => {}
        }
    }
}
