//! The final head of a response, adjusted to its status: which statuses have no content, and which Content-Length they
//! may have.

use crate::http::{Fields, header};
use http::{HeaderValue, StatusCode};

/// How the content of a response is sent to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Unchanged.
    Content,
    /// The response has none, whatever its source.
    NoContent,
}

/// True if a response with this status ends with its head, regardless of its fields (RFC 9112 §6.3). A 205 does not,
/// although it has no content either: see [`may_have_content`].
pub fn bodiless(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// True if a response with this status may have content (RFC 9110 §6.4.1, §15.3.6).
pub fn may_have_content(status: StatusCode) -> bool {
    !bodiless(status) && status != StatusCode::RESET_CONTENT
}

/// Adjusts the head. `known`: the length of the content, if known; not for a response to HEAD, whose length is that of
/// the content which a GET would get.
pub fn fit(status: StatusCode, headers: &mut Fields, known: Option<u64>, to_head: bool) -> Fit {
    // The writer of the message frames it (RFC 9112 §6.1).
    headers.remove(header::TRANSFER_ENCODING);
    match status {
        // A 204 must not have a Content-Length (RFC 9110 §8.6); for a 304 it is optional.
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
            headers.remove(header::CONTENT_LENGTH);
            Fit::NoContent
        }
        // RFC 9110 §15.3.6
        StatusCode::RESET_CONTENT => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            Fit::NoContent
        }
        _ => {
            if !to_head && let Some(known) = known {
                let given = headers.get(header::CONTENT_LENGTH);
                let mut digits = itoa::Buffer::new();
                if given.is_some_and(|given| given.as_bytes() != digits.format(known).as_bytes()) {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(known));
                }
            }
            Fit::Content
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_205_has_no_content_and_is_framed_as_any_response() {
        for (status, ends_with_head, content) in [
            (100, true, false),
            (103, true, false),
            (200, false, true),
            (204, true, false),
            (205, false, false),
            (206, false, true),
            (304, true, false),
            (404, false, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = (bodiless(status), may_have_content(status));
            assert_eq!(got, (ends_with_head, content), "{status}");
        }
    }

    #[test]
    fn heads_fit_their_status() {
        for (status, given, known, to_head, length, fit_as) in [
            (200, Some("5"), Some(5), false, Some("5"), Fit::Content),
            (200, Some("9"), Some(5), false, Some("5"), Fit::Content),
            (200, None, Some(5), false, None, Fit::Content),
            (200, Some("5"), None, false, Some("5"), Fit::Content),
            (200, Some("5"), Some(0), true, Some("5"), Fit::Content),
            (204, Some("5"), Some(5), false, None, Fit::NoContent),
            (204, Some("0"), Some(0), false, None, Fit::NoContent),
            (205, Some("5"), Some(5), false, Some("0"), Fit::NoContent),
            (205, None, None, false, Some("0"), Fit::NoContent),
            (205, None, None, true, Some("0"), Fit::NoContent),
            (304, Some("5"), Some(0), false, None, Fit::NoContent),
            (416, Some("5"), Some(0), false, Some("0"), Fit::Content),
        ] {
            let mut headers = Fields::new();
            if let Some(given) = given {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static(given));
            }
            let chunked = HeaderValue::from_static("chunked");
            headers.insert(header::TRANSFER_ENCODING, chunked);
            let status = StatusCode::from_u16(status).unwrap();
            let got = fit(status, &mut headers, known, to_head);
            let left = headers.get(header::CONTENT_LENGTH);
            let left = left.map(|length| length.to_str().unwrap());
            assert_eq!((left, got), (length, fit_as), "{status} {given:?}");
            assert!(!headers.contains_key(header::TRANSFER_ENCODING));
        }
    }
}
