//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2).
//!
//! hyper's server sends final responses only. Interim ones wait here until the connection's socket (`guarded`) is
//! between two messages: everything before is written, and nothing of the final response. Where there is no such moment
//! they are dropped, so that the client learns their content with the final response only.

use std::cell::{Cell, RefCell};

use edgerouter_core::http::framing::head;
use http::{HeaderMap, StatusCode, Version};

/// Most interim responses to one request, and their bytes.
const MOST: u32 = 16;
const MOST_BYTES: usize = 16 << 10;

/// The request of a connection that an interim response is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// No request is under way, or one of HTTP/1.0, which knows no interim responses.
    #[default]
    Closed,
    /// The final response is still to come.
    Open,
    /// hyper has the final response.
    Final,
}

/// Interim responses of one stream (RFC 9110 §15.2): those that wait, and whether one may still be sent.
#[derive(Debug, Default)]
pub struct Interims {
    requests: Cell<u64>,
    state: Cell<State>,
    count: Cell<u32>,
    bytes: Cell<usize>,
    waiting: RefCell<Vec<u8>>,
    /// True if anything waits.
    some: Cell<bool>,
}

impl Interims {
    /// The next request has come in.
    pub fn begin(&self, version: Version) {
        self.requests.set(self.requests.get().wrapping_add(1));
        self.count.set(0);
        self.bytes.set(0);
        self.clear();
        self.state.set(if version >= Version::HTTP_11 {
            State::Open
        } else {
            State::Closed
        });
    }

    /// The final response is ready, and hyper writes it next.
    pub fn answered(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Final);
        }
    }

    /// Entitles to send interim responses to the request that is under way.
    pub fn ticket(&self) -> Option<Ticket> {
        (self.state.get() == State::Open).then(|| Ticket(self.requests.get()))
    }

    /// Queues a response, where it is not too late and not too much.
    pub fn add(&self, ticket: Ticket, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.ticket() != Some(ticket) || self.count.get() >= MOST {
            return false;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        let head = head::write(&["HTTP/1.1 ", status.as_str(), " ", reason], headers);
        if self.bytes.get() + head.len() > MOST_BYTES {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + head.len());
        self.waiting.borrow_mut().extend_from_slice(&head);
        self.some.set(true);
        true
    }

    /// True if an interim response waits to be written.
    pub fn some(&self) -> bool {
        self.some.get()
    }

    /// Responses that may be written when all bytes of hyper's are written.
    pub fn after_all(&self) -> Option<Vec<u8>> {
        let open = self.state.get() == State::Open;
        open.then(|| self.take()).flatten()
    }

    /// Responses to write before hyper's next bytes. `between`: hyper's bytes before are written, so that the next ones
    /// begin the final response.
    pub fn before_final(&self, between: bool) -> Option<Vec<u8>> {
        if self.state.get() != State::Final {
            return None;
        }
        let waiting = self.take();
        waiting.filter(|_| between)
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.some.set(false);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        (!waiting.is_empty()).then_some(waiting)
    }

    fn clear(&self) {
        if self.some.get() {
            drop(self.take());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{HeaderValue, header};

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn begun(version: Version) -> Interims {
        let interims = Interims::default();
        interims.begin(version);
        interims
    }

    #[test]
    fn they_are_written_between_messages_and_nowhere_else() {
        let link = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static("</a>"))]);
        let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        assert!(interims.add(ticket, HINTS, &link));
        // Bytes that hyper writes before the final response is known belong to another message.
        assert_eq!(interims.before_final(true), None);
        assert_eq!(interims.after_all().as_deref(), Some(&bytes[..]));
        assert!(!interims.some());
        // Together with the final response: before it, where that is the next to be written.
        assert!(interims.add(ticket, HINTS, &link));
        interims.answered();
        assert_eq!(interims.after_all(), None);
        assert_eq!(interims.before_final(true).as_deref(), Some(&bytes[..]));
        assert!(
            !interims.add(ticket, HINTS, &link),
            "the final response is on its way"
        );
        // Never where the end of an earlier response comes first.
        let interims = begun(Version::HTTP_11);
        interims.add(interims.ticket().unwrap(), HINTS, &link);
        interims.answered();
        assert_eq!(interims.before_final(false), None);
        assert_eq!(interims.before_final(true), None);
    }

    #[test]
    fn they_are_for_one_request_and_not_for_http_1_0() {
        let none = HeaderMap::new();
        assert_eq!(begun(Version::HTTP_10).ticket(), None);
        let interims = begun(Version::HTTP_11);
        let first = interims.ticket().unwrap();
        assert!(interims.add(first, HINTS, &none));
        interims.begin(Version::HTTP_11);
        assert!(!interims.some(), "what the first request left is gone");
        assert!(!interims.add(first, HINTS, &none));
    }

    #[test]
    fn they_are_bounded() {
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let taken = (0..100).filter(|_| interims.add(ticket, HINTS, &HeaderMap::new()));
        assert_eq!(taken.count(), MOST as usize);
        let interims = begun(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let value = HeaderValue::from_str(&"x".repeat(MOST_BYTES / 2)).unwrap();
        let large = HeaderMap::from_iter([(header::LINK, value)]);
        assert!(interims.add(ticket, HINTS, &large));
        assert!(!interims.add(ticket, HINTS, &large));
    }
}
