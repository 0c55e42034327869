//! Framing is the edge's own: what says where a message ends (RFC 9112 §6) or concerns one connection only (RFC 9110
//! §7.6.1) is put back after a callable edited a head. A body that streams past has the length that it has; a hook that
//! said otherwise would desynchronise the connection, which is how requests are smuggled.

use edgerouter_core::http::{FieldValue, Fields, Known, header};
use http::HeaderValue;

const FIELDS: [Known; 4] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
];

/// The lines of the framing fields of a head as they were.
#[derive(Debug)]
pub(crate) struct KeptFraming([Vec<HeaderValue>; 4]);

fn lines_of(headers: &Fields, name: Known) -> impl Iterator<Item = FieldValue<'_>> {
    headers.get_all(name).iter()
}

impl KeptFraming {
    pub(crate) fn of(headers: &Fields) -> Self {
        Self(FIELDS.map(|name| lines_of(headers, name).map(FieldValue::owned).collect()))
    }

    pub(crate) fn restore(self, headers: &mut Fields) {
        for (name, kept) in FIELDS.into_iter().zip(self.0) {
            // A line beside the one that was there counts as much as another value of it.
            let kept_bytes = kept.iter().map(HeaderValue::as_bytes);
            if lines_of(headers, name)
                .map(|line| line.as_bytes())
                .eq(kept_bytes)
            {
                continue;
            }
            headers.remove(name);
            for value in kept {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_frames_a_message_is_put_back() {
        let mut headers = Fields::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("10"));
        let framing = KeptFraming::of(&headers);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        framing.restore(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.get(header::CONTENT_LENGTH).unwrap(), "10");
        assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), "text/plain");
    }

    #[test]
    fn a_line_beside_those_that_frame_a_message_is_taken_away() {
        let mut headers = Fields::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("a"));
        headers.append(header::CONNECTION, HeaderValue::from_static("b"));
        headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("10"));
        let framing = KeptFraming::of(&headers);
        headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        framing.restore(&mut headers);
        for (name, lines) in [
            (header::CONTENT_LENGTH, &["10"][..]),
            (header::CONNECTION, &["a", "b"]),
            (header::UPGRADE, &[]),
        ] {
            assert!(lines_of(&headers, name).eq(lines.iter().copied()));
        }
    }
}
