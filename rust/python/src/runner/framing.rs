//! Framing is the edge's own: what says where a message ends (RFC 9112 §6) or concerns one connection only (RFC 9110
//! §7.6.1) is put back after a callable edited a head. A body that streams past has the length that it has; a hook that
//! said otherwise would desynchronise the connection, which is how requests are smuggled.

use http::{HeaderMap, HeaderName, HeaderValue, header};

fn fields() -> [HeaderName; 4] {
    [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
    ]
}

/// The framing fields of a head as they were.
#[derive(Debug)]
pub(crate) struct KeptFraming([Option<HeaderValue>; 4]);

impl KeptFraming {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(fields().map(|name| headers.get(name).cloned()))
    }

    pub(crate) fn restore(self, headers: &mut HeaderMap) {
        for (name, value) in fields().into_iter().zip(self.0) {
            match value {
                // Untouched ones stay as they are, several lines included.
                Some(value) if headers.get(&name) == Some(&value) => {}
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_a_message_is_put_back() {
        let mut headers = HeaderMap::new();
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
        assert_eq!(headers[header::CONTENT_LENGTH], "10");
        assert_eq!(headers[header::CONTENT_TYPE], "text/plain");
    }
}
