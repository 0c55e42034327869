//! Framing: where a message ends, which fields determine it, and which heads are valid for which status (RFC 9112 §6,
//! RFC 9110 §6.4.1).
//!
//! Pure functions of bytes and field lists: nothing here reads a socket, and nothing knows which code parses or writes
//! the messages. `length` and `coding` read the two framing fields, `response` decides by them, `head` reads a
//! response's head from its bytes, `reader` follows a connection's responses, `fit` adjusts a head to its status.

pub mod fit;
pub mod head;
pub(crate) mod lines;
pub mod reader;

use super::list;

/// Why the framing of a response is invalid. The text follows the name of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// Not `1*DIGIT`, or more than 64 bits hold.
    #[error("its Content-Length is not a number")]
    BadLength,
    /// Also two numbers in one line (RFC 9112 §6.3, rule 5).
    #[error("its Content-Length lines differ")]
    DifferingLengths,
    /// Any value but a single `chunked`.
    #[error(
        "its Transfer-Encoding is not chunked, the only transfer coding that the edge understands"
    )]
    UnknownCoding,
    /// A 101 to a request without `Upgrade` (RFC 9110 §7.8).
    #[error("it switched protocols without a request for it")]
    Unrequested,
    /// A 101 that names none of the protocols of the request's `Upgrade`, or another one (RFC 9110 §7.8).
    #[error("it switched to a protocol that was not offered")]
    Unoffered,
}

/// The one length that all Content-Length lines together give. A list of equal numbers, in one line or several, is that
/// number; different ones are an error (RFC 9110 §8.6, RFC 9112 §6.3).
pub fn length<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<u64>, BadFraming> {
    let mut known = None;
    for member in lines
        .into_iter()
        .flat_map(|line| line.split(|&byte| byte == b','))
    {
        let next = number(trimmed(member)).ok_or(BadFraming::BadLength)?;
        match known {
            Some(known) if known != next => return Err(BadFraming::DifferingLengths),
            _ => known = Some(next),
        }
    }
    Ok(known)
}

/// `1*DIGIT` that fits a number; the grammar allows leading zeros.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// Without optional white space around it (RFC 9110 §5.6.3).
pub fn trimmed(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// True if the transfer codings are exactly `chunked`, once; `false` if there is no such field. Any other coding would
/// leave bytes that are not the content (RFC 9112 §6.1, §7).
pub fn chunked<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<bool, BadFraming> {
    let mut some = false;
    let mut chunked = 0;
    for line in lines {
        some = true;
        for coding in list(line) {
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(BadFraming::UnknownCoding);
            }
            chunked += 1;
        }
    }
    match (some, chunked) {
        (false, _) => Ok(false),
        (true, 1) => Ok(true),
        // An empty field, or chunked applied twice.
        _ => Err(BadFraming::UnknownCoding),
    }
}

/// The request that a response answers, as far as framing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FramingContext {
    /// Its method was HEAD.
    pub head: bool,
    /// It requested another protocol.
    pub upgrade: bool,
}

/// The framing of a response's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// The status or the method allows none: 1xx, 204, 304, or a response to HEAD.
    None,
    /// Bytes that follow the head.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// Neither length nor coding: it ends with the connection (RFC 9112 §6.3, rule 8).
    UntilClose,
    /// HTTP ends here: the bytes that follow are another protocol's.
    Tunnel,
}

/// Where a response ends, and what that means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// The bytes that follow the head.
    pub content: BodyFraming,
    /// The length to forward and store: of the content, or of the content that a HEAD or a 304 describes.
    pub length: Option<u64>,
    /// True if another request may be sent on the connection.
    pub reusable: bool,
}

/// The lines of the fields that frame a response.
#[derive(Debug, Clone, Default)]
pub struct FramingFields<'a> {
    /// Values of `Content-Length`.
    pub lengths: smallvec::SmallVec<[&'a [u8]; 2]>,
    /// Values of `Transfer-Encoding`.
    pub codings: smallvec::SmallVec<[&'a [u8]; 2]>,
    /// Values of `Connection`.
    pub connection: smallvec::SmallVec<[&'a [u8]; 2]>,
}

/// Decides how a response is framed (RFC 9112 §6.3). `http_11`: the origin speaks HTTP/1.1 or a later minor version.
pub fn response(
    awaited: FramingContext,
    http_11: bool,
    status: u16,
    fields: &FramingFields<'_>,
) -> Result<Framing, BadFraming> {
    let mut options = fields.connection.iter().flat_map(|line| list(line));
    let persistent = if http_11 {
        !options.any(|option| option.eq_ignore_ascii_case(b"close"))
    } else {
        // RFC 9112 §9.3
        options.any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
    };
    let coded = !fields.codings.is_empty();
    match status {
        101 if !awaited.upgrade => return Err(BadFraming::Unrequested),
        101 => {
            return Ok(Framing {
                content: BodyFraming::Tunnel,
                length: None,
                reusable: false,
            });
        }
        // Neither has content, and neither may have a field that frames one (RFC 9110 §8.6, RFC 9112 §6.1): an origin
        // that sends such a field may send content as well.
        100..=199 | 204 => {
            let bare = fields.lengths.iter().all(|line| *line == b"0") && !coded;
            return Ok(Framing {
                content: BodyFraming::None,
                length: None,
                reusable: persistent && bare,
            });
        }
        _ => {}
    }
    let length = length(fields.lengths.iter().copied())?;
    // Both indicate an attempt at smuggling, as does a coding from HTTP/1.0, which has none (RFC 9112 §6.1).
    let suspect = coded && (length.is_some() || !http_11);
    let length = length.filter(|_| !coded);
    let reusable = persistent && !suspect;
    if awaited.head || status == 304 {
        return Ok(Framing {
            content: BodyFraming::None,
            length,
            reusable,
        });
    }
    let chunked = chunked(fields.codings.iter().copied())?;
    let content = match length {
        _ if chunked => BodyFraming::Chunked,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::UntilClose,
    };
    Ok(Framing {
        content,
        length,
        reusable: reusable && content != BodyFraming::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(text: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
        text.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn a_length_is_one_number_however_often_it_is_said() {
        for (given, want) in [
            (&[][..], Ok(None)),
            (&["0"], Ok(Some(0))),
            (&["2"], Ok(Some(2))),
            (&["002"], Ok(Some(2))),
            (&["2, 2"], Ok(Some(2))), // RFC 9110 §8.6
            (&["2", "2"], Ok(Some(2))),
            (&["2,02 ,\t2", "2"], Ok(Some(2))),
            (&["18446744073709551615"], Ok(Some(u64::MAX))),
            (&["18446744073709551616"], Err(BadFraming::BadLength)),
            (&["2, 3"], Err(BadFraming::DifferingLengths)),
            (&["2", "3"], Err(BadFraming::DifferingLengths)),
            (&[""], Err(BadFraming::BadLength)),
            (&["2,"], Err(BadFraming::BadLength)),
            (&["+2"], Err(BadFraming::BadLength)),
            (&["-2"], Err(BadFraming::BadLength)),
            (&["2 2"], Err(BadFraming::BadLength)),
            (&["0x2"], Err(BadFraming::BadLength)),
            (&["2.0"], Err(BadFraming::BadLength)),
        ] {
            assert_eq!(length(lines(given)), want, "{given:?}");
        }
    }

    #[test]
    fn chunked_is_understood_once_and_alone() {
        for (given, want) in [
            (&[][..], Ok(false)),
            (&["chunked"], Ok(true)),
            (&["Chunked"], Ok(true)),
            (&[" , chunked,"], Ok(true)),
            (&["gzip, chunked"], Err(BadFraming::UnknownCoding)),
            (&["gzip", "chunked"], Err(BadFraming::UnknownCoding)),
            (&["chunked, gzip"], Err(BadFraming::UnknownCoding)),
            (&["gzip"], Err(BadFraming::UnknownCoding)),
            (&["identity"], Err(BadFraming::UnknownCoding)), // gone since RFC 7230 §A.2
            (&["chunked, chunked"], Err(BadFraming::UnknownCoding)), // RFC 9112 §7.1
            (&["chunked", "chunked"], Err(BadFraming::UnknownCoding)),
            (&["chunked;q=1"], Err(BadFraming::UnknownCoding)),
            (&["\"chunked\""], Err(BadFraming::UnknownCoding)),
            (&[""], Err(BadFraming::UnknownCoding)),
        ] {
            assert_eq!(chunked(lines(given)), want, "{given:?}");
        }
    }

    /// `head 1.1 status | length lines | coding lines | connection lines`
    fn framed(case: &str) -> Result<Framing, BadFraming> {
        let parts: Vec<&str> = case.split('|').map(str::trim).collect();
        let start: Vec<&str> = parts.first().unwrap_or(&"").split(' ').collect();
        let field = |at: usize| {
            parts
                .get(at)
                .into_iter()
                .flat_map(|lines| lines.split(';'))
                .map(|line| line.trim().as_bytes())
                .filter(|line| !line.is_empty())
                .collect()
        };
        let fields = FramingFields {
            lengths: field(1),
            codings: field(2),
            connection: field(3),
        };
        let awaited = FramingContext {
            head: start.first() == Some(&"HEAD"),
            upgrade: start.first() == Some(&"UPGRADE"),
        };
        let status = start.get(2).and_then(|status| status.parse().ok());
        response(
            awaited,
            start.get(1) == Some(&"1.1"),
            status.unwrap_or(0),
            &fields,
        )
    }

    #[test]
    fn responses_are_framed_as_rfc_9112_section_6_3_says() {
        use BodyFraming::{Chunked, Length, None as Nothing, Tunnel, UntilClose};
        for (case, content, length, reusable) in [
            // 1: HEAD, 1xx, 204, 304
            ("HEAD 1.1 200 | 5", Nothing, Some(5), true),
            ("HEAD 1.1 200 | 5;5", Nothing, Some(5), true),
            ("HEAD 1.1 200 | | chunked", Nothing, None, true),
            ("HEAD 1.1 200 | | gzip, chunked", Nothing, None, true),
            ("HEAD 1.1 200 | 5 | chunked", Nothing, None, false),
            ("HEAD 1.1 200", Nothing, None, true),
            ("GET 1.1 304 | 5", Nothing, Some(5), true),
            ("GET 1.1 204", Nothing, None, true),
            ("GET 1.1 204 | 0", Nothing, None, true),
            ("GET 1.1 204 | 5", Nothing, None, false),
            ("GET 1.1 204 | 2;3", Nothing, None, false),
            ("GET 1.1 204 | | chunked", Nothing, None, false),
            ("GET 1.1 103 | 5", Nothing, None, false),
            ("UPGRADE 1.1 101", Tunnel, None, false),
            // 205 is framed as any other (RFC 9110 §15.3.6)
            ("GET 1.1 205 | 5", Length(5), Some(5), true),
            ("GET 1.1 205", UntilClose, None, false),
            // 4
            ("GET 1.1 200 | | chunked", Chunked, None, true),
            ("GET 1.1 200 | | chunked | close", Chunked, None, false),
            ("GET 1.1 200 | 5 | chunked", Chunked, None, false),
            ("GET 1.0 200 | | chunked | keep-alive", Chunked, None, false),
            ("GET 1.0 200 | 5 | chunked", Chunked, None, false),
            // 6
            ("GET 1.1 200 | 5", Length(5), Some(5), true),
            ("GET 1.1 200 | 5, 5", Length(5), Some(5), true),
            ("GET 1.1 200 | 0", Length(0), Some(0), true),
            ("GET 1.1 200 | 5 | | Close", Length(5), Some(5), false),
            ("GET 1.1 200 | 5 | | x; close", Length(5), Some(5), false),
            ("GET 1.0 200 | 5", Length(5), Some(5), false),
            ("GET 1.0 200 | 5 | | Keep-Alive", Length(5), Some(5), true),
            // 8
            ("GET 1.1 200", UntilClose, None, false),
            ("GET 1.0 200 | | | keep-alive", UntilClose, None, false),
        ] {
            let want = Framing {
                content,
                length,
                reusable,
            };
            assert_eq!(framed(case), Ok(want), "{case}");
        }
        for (case, want) in [
            ("GET 1.1 200 | 2;3", BadFraming::DifferingLengths),
            ("HEAD 1.1 200 | 2;3", BadFraming::DifferingLengths),
            ("GET 1.1 304 | 2, 3", BadFraming::DifferingLengths),
            ("GET 1.1 200 | 2;3 | chunked", BadFraming::DifferingLengths),
            ("GET 1.1 200 | two", BadFraming::BadLength),
            ("GET 1.1 200 | | gzip, chunked", BadFraming::UnknownCoding),
            ("GET 1.1 200 | | gzip", BadFraming::UnknownCoding),
            ("GET 1.1 101", BadFraming::Unrequested),
        ] {
            assert_eq!(framed(case), Err(want), "{case}");
        }
    }
}
