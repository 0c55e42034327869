//! One line of an access log: the request, and the parts of its response that the log has.
//!
//! Each form has a file that finds the parts of a line, without a copy where nothing is escaped. A line that is not of
//! the form is no error of the run: it is counted.

mod cloudfront;
mod combined;
mod elb;
mod json;
mod time;

use std::{borrow::Cow, net::IpAddr};

use edgerouter_core::plan::Scheme;
use serde::Deserialize;

use self::cloudfront::Columns;

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Apache's and nginx's common and combined forms, with a host before them or pairs after them.
    Combined,
    /// An object on each line: edgerouter's own, nginx's, Caddy's, Cloudflare's.
    Json,
    /// CloudFront's standard logs in columns.
    CloudFront,
    /// Classic and application load balancers of AWS.
    Elb,
}

impl Format {
    /// Spelling in options and in the result.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Json => "json",
            Self::CloudFront => "cloudfront",
            Self::Elb => "elb",
        }
    }
}

/// The parts of a line. An empty text is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogLine<'a> {
    /// Unix seconds.
    pub at: u64,
    pub client: Option<IpAddr>,
    pub method: Cow<'a, [u8]>,
    /// Path and query; or an absolute URL.
    pub target: Cow<'a, [u8]>,
    pub host: Cow<'a, [u8]>,
    pub scheme: Option<Scheme>,
    pub status: u16,
    /// Bytes that the client was sent.
    pub bytes: u64,
    pub referer: Cow<'a, [u8]>,
    pub agent: Cow<'a, [u8]>,
    pub content_type: Cow<'a, [u8]>,
    /// Of the response.
    pub cache_control: Cow<'a, [u8]>,
    /// Why the edge that wrote the line had no stored response, in the words of edgerouter's own log.
    pub reason: Cow<'a, [u8]>,
}

/// Reads lines of one form, which the first line decides if it is not given.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pub format: Option<Format>,
    columns: Columns,
}

impl Parser {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self {
            format,
            columns: Columns::default(),
        }
    }

    /// True if the line says nothing about a request: it is empty or a comment. Comments name columns.
    pub(crate) fn is_aside(&mut self, line: &[u8]) -> bool {
        if line.is_empty() {
            return true;
        }
        let Some(comment) = line.strip_prefix(b"#") else {
            return false;
        };
        if let Some(names) = comment.strip_prefix(b"Fields:") {
            self.columns = Columns::named(names);
            self.format = self.format.or(Some(Format::CloudFront));
        }
        true
    }

    /// The parts of a line; `None`: it is not of the form.
    pub(crate) fn parse<'a>(&mut self, line: &'a [u8]) -> Option<LogLine<'a>> {
        if let Some(format) = self.format {
            return self.as_format(format, line);
        }
        let formats = [
            Format::Json,
            Format::CloudFront,
            Format::Elb,
            Format::Combined,
        ];
        let (format, parsed) = formats
            .into_iter()
            .find_map(|format| Some((format, self.as_format(format, line)?)))?;
        self.format = Some(format);
        Some(parsed)
    }

    fn as_format<'a>(&self, format: Format, line: &'a [u8]) -> Option<LogLine<'a>> {
        let parsed = match format {
            Format::Combined => combined::parse(line),
            Format::Json => json::parse(line),
            Format::CloudFront => self.columns.parse(line),
            Format::Elb => elb::parse(line),
        }?;
        let whole = !parsed.method.is_empty() && !parsed.target.is_empty();
        (whole && (100..1000).contains(&parsed.status)).then_some(parsed)
    }
}

/// A number in decimal digits; `None` for anything else, `-` included.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A text that `-` leaves out.
fn present(text: &[u8]) -> &[u8] {
    if text == b"-" { b"" } else { text }
}

/// An address, without a port that may follow it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().or_else(|| {
        let (host, _) = text.rsplit_once(':')?;
        host.trim_matches(['[', ']']).parse().ok()
    })
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    if text.eq_ignore_ascii_case(b"https") || text.eq_ignore_ascii_case(b"wss") {
        Some(Scheme::Https)
    } else if text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// Method and target of a request line such as `GET / HTTP/1.1`.
fn request_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (method, rest) = split(text, b' ')?;
    let target = match memchr::memrchr(b' ', rest) {
        Some(at) if rest.get(at + 1..)?.starts_with(b"HTTP/") => rest.get(..at)?,
        _ => rest,
    };
    Some((method, target))
}

/// The parts before and after a byte.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, text)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// The text up to the next quote that no backslash precedes, and the rest after it.
fn quoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut from = 0;
    loop {
        let end = from + memchr::memchr(b'"', text.get(from..)?)?;
        let before = text.get(..end)?;
        let slashes = before.iter().rev().take_while(|byte| **byte == b'\\');
        if slashes.count() % 2 == 0 {
            return Some((unescaped(before), text.get(end + 1..)?));
        }
        from = end + 1;
    }
}

/// Undoes the escapes of Apache, nginx and edgerouter: a backslash before a sign, or before `x` and two digits.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        match after {
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let value = std::str::from_utf8(&digits).ok();
                match value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(value) => {
                        out.push(value);
                        rest = after;
                    }
                    None => out.push(b'\\'),
                }
            }
            [sign @ (b'"' | b'\\'), after @ ..] => {
                out.push(*sign);
                rest = after;
            }
            _ => out.push(b'\\'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
