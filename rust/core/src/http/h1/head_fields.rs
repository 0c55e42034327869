//! The fields of a request's head, one after another, and those that decide about its framing and its connection.

use super::request_line::is_host;
use crate::{
    admit::Refusal,
    http::{FieldValue, Fields, header, is_token_byte, words::near},
};

/// The fields of a head as they are read, and those of them that decide about the message and the connection.
#[derive(Default)]
pub(super) struct HeadFields {
    pub(super) headers: Fields,
    has_host: bool,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expects: bool,
}

impl HeadFields {
    /// Before the first of `count` lines, all of which are in `section`.
    #[inline]
    pub(super) fn over(section: &[u8], count: usize) -> Self {
        Self {
            headers: Fields::over(section, count),
            ..Self::default()
        }
    }

    /// `field` is the line at a place of the section.
    #[inline]
    pub(super) fn field(
        &mut self,
        at: usize,
        field: &[u8],
        last_host: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if matches!(field.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::Folded);
        }
        let colon = near(b':', field).ok_or(Refusal::BadField)?;
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
        const ESSENTIAL: [&str; 8] = [
            "host",
            "content-length",
            "transfer-encoding",
            "authorization",
            "cookie",
            "cache-control",
            // By these a request that comes back is known (RFC 8586 §2).
            "cdn-loop",
            "via",
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
    let zeros = value.iter().take_while(|byte| **byte == b'0').count();
    let digits = value.get(zeros..).unwrap_or_default();
    if value.is_empty() || digits.len() > 19 {
        return None;
    }
    // So many digits fit.
    digits.iter().try_fold(0u64, |number, &byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}
