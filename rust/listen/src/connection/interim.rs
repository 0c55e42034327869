//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2): they wait here until the connection is written,
//! and may come as long as the head of the final response has not been.

use std::cell::{Cell, RefCell};

use edgerouter_core::http::{Fields, h1::write};
use http::{StatusCode, Version};

/// Most interim responses to one request, and their bytes.
const MOST: u32 = 16;
const MOST_BYTES: usize = 16 << 10;
/// Bytes of a line beside its name and value.
const FRAMING: usize = 4;

/// The request of a connection that an interim response is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// Interim responses of one stream (RFC 9110 §15.2): those that wait, and whether one may still be sent.
#[derive(Debug, Default)]
pub struct Interims {
    requests: Cell<u64>,
    /// A request of HTTP/1.1 is under way whose final response is still to come. HTTP/1.0 knows no interim responses.
    is_open: Cell<bool>,
    count: Cell<u32>,
    bytes: Cell<usize>,
    waiting: RefCell<Vec<(StatusCode, Fields)>>,
}

impl Interims {
    /// The next request has come in.
    pub fn begin(&self, version: Version) {
        self.requests.set(self.requests.get().wrapping_add(1));
        self.count.set(0);
        self.bytes.set(0);
        self.waiting.borrow_mut().clear();
        self.is_open.set(version >= Version::HTTP_11);
    }

    /// The final response is written: none may follow it.
    pub(crate) fn close(&self) {
        self.is_open.set(false);
    }

    /// Entitles to send interim responses to the request that is under way.
    pub fn ticket(&self) -> Option<Ticket> {
        self.is_open.get().then(|| Ticket(self.requests.get()))
    }

    /// Queues a response, where it is not too late and not too much.
    pub fn add(&self, ticket: Ticket, status: StatusCode, headers: &Fields) -> bool {
        if self.ticket() != Some(ticket) || self.count.get() >= MOST {
            return false;
        }
        let bytes = self.bytes.get() + headers.bytes() + headers.len() * FRAMING + FRAMING;
        if bytes > MOST_BYTES {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.bytes.set(bytes);
        self.waiting.borrow_mut().push((status, headers.clone()));
        true
    }

    /// The responses that wait.
    pub(crate) fn take(&self) -> Vec<(StatusCode, Fields)> {
        self.waiting.take()
    }

    /// True if no request but the one that comes next has come in.
    pub(crate) fn is_unused(&self) -> bool {
        self.requests.get() == 0
    }

    /// Writes those that wait behind `output`.
    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        for (status, headers) in self.waiting.borrow_mut().drain(..) {
            write::interim(output, status, &headers);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edgerouter_core::http::header;
    use http::HeaderValue;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn begun(version: Version) -> Interims {
        let interims = Interims::default();
        interims.begin(version);
        interims
    }

    #[test]
    fn they_come_before_the_final_response_or_never() {
        let link = Fields::from_iter([(header::LINK, HeaderValue::from_static("</a>"))]);
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        assert!(interims.add(ticket, HINTS, &link));
        let mut output = b"before ".to_vec();
        interims.write(&mut output);
        interims.write(&mut output);
        assert_eq!(
            output,
            b"before HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        );
        interims.close();
        assert!(!interims.add(ticket, HINTS, &link));
    }

    #[test]
    fn they_are_for_one_request_and_not_for_http_1_0() {
        let none = Fields::new();
        assert_eq!(begun(Version::HTTP_10).ticket(), None);
        let interims = begun(Version::HTTP_11);
        let first = interims.ticket().unwrap();
        assert!(interims.add(first, HINTS, &none));
        interims.begin(Version::HTTP_11);
        let mut output = Vec::new();
        interims.write(&mut output);
        assert_eq!(output, b"", "the first request's are gone");
        assert!(!interims.add(first, HINTS, &none));
    }

    #[test]
    fn they_are_bounded() {
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let taken = (0..100).filter(|_| interims.add(ticket, HINTS, &Fields::new()));
        assert_eq!(taken.count(), MOST as usize);
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let value = HeaderValue::from_str(&"x".repeat(MOST_BYTES / 2)).unwrap();
        let large = Fields::from_iter([(header::LINK, value)]);
        assert!(interims.add(ticket, HINTS, &large));
        assert!(!interims.add(ticket, HINTS, &large));
    }
}
