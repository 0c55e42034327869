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

/// The framing fields of a head as they were.
#[derive(Debug)]
pub(crate) struct KeptFraming([Option<HeaderValue>; 4]);

impl KeptFraming {
    pub(crate) fn of(headers: &Fields) -> Self {
        Self(FIELDS.map(|name| headers.get(name).map(FieldValue::owned)))
    }

    pub(crate) fn restore(self, headers: &mut Fields) {
        for (name, value) in FIELDS.into_iter().zip(self.0) {
            match value {
                // Untouched ones stay as they are, several lines included.
                Some(value) if headers.get(name).is_some_and(|now| now == value) => {}
                Some(value) => headers.insert(name, value),
                None => {
                    headers.remove(name);
                }
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
}
