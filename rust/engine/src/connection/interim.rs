//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2).
//!
//! hyper's server sends final responses only. What an origin says before waits here until the connection's socket
//! ([`super::guarded`]) finds itself between two messages: everything before is written, nothing of the final response
//! is. Where there is no such moment they are dropped, which changes nothing but when a client learns what it may.

use std::cell::{Cell, RefCell};

use http::{HeaderMap, StatusCode, Version};

/// Interim responses that one request passes on at most, and their bytes.
const MOST: u32 = 16;
const MOST_BYTES: usize = 16 << 10;

/// Which request of a connection an interim response is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No request is being answered, or one of HTTP/1.0, which knows no interim responses.
    Closed,
    /// The final response is still to come.
    Open,
    /// hyper has it.
    Final,
}

#[derive(Debug)]
pub struct Interims {
    asked: Cell<u64>,
    state: Cell<State>,
    count: Cell<u32>,
    bytes: Cell<usize>,
    waiting: RefCell<Vec<u8>>,
    /// Whether anything waits.
    some: Cell<bool>,
}

impl Interims {
    pub fn new() -> Self {
        Self {
            asked: Cell::new(0),
            state: Cell::new(State::Closed),
            count: Cell::new(0),
            bytes: Cell::new(0),
            waiting: RefCell::new(Vec::new()),
            some: Cell::new(false),
        }
    }

    /// The next request has come in.
    pub fn asked(&self, version: Version) {
        self.asked.set(self.asked.get().wrapping_add(1));
        self.count.set(0);
        self.bytes.set(0);
        self.clear();
        self.state.set(if version >= Version::HTTP_11 {
            State::Open
        } else {
            State::Closed
        });
    }

    /// Whether a request has ever come in.
    pub fn ever_asked(&self) -> bool {
        self.asked.get() > 0
    }

    /// The final response is ready, and hyper writes it next.
    pub fn answered(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Final);
        }
    }

    /// For whoever may learn of interim responses to the request that is being answered.
    pub fn ticket(&self) -> Option<Ticket> {
        (self.state.get() == State::Open).then(|| Ticket(self.asked.get()))
    }

    /// Takes a response in, where it is not too late and not too much.
    pub fn add(&self, ticket: Ticket, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.ticket() != Some(ticket) || self.count.get() >= MOST {
            return false;
        }
        let head = head(status, headers);
        if self.bytes.get() + head.len() > MOST_BYTES {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + head.len());
        self.waiting.borrow_mut().extend_from_slice(&head);
        self.some.set(true);
        true
    }

    pub fn some(&self) -> bool {
        self.some.get()
    }

    /// What may be written when everything that hyper gave is written.
    pub fn after_all(&self) -> Option<Vec<u8>> {
        let open = self.state.get() == State::Open;
        open.then(|| self.take()).flatten()
    }

    /// What has to be written before hyper's next bytes. `between`: all of hyper's bytes before these are written, so
    /// that these begin the final response.
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

impl Default for Interims {
    fn default() -> Self {
        Self::new()
    }
}

fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{HeaderValue, header};

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn asked(version: Version) -> Interims {
        let interims = Interims::new();
        interims.asked(version);
        interims
    }

    #[test]
    fn they_are_written_between_messages_and_nowhere_else() {
        let link = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static("</a>"))]);
        let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let interims = asked(Version::HTTP_11);
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
        let interims = asked(Version::HTTP_11);
        interims.add(interims.ticket().unwrap(), HINTS, &link);
        interims.answered();
        assert_eq!(interims.before_final(false), None);
        assert_eq!(interims.before_final(true), None);
    }

    #[test]
    fn they_are_for_one_request_and_not_for_http_1_0() {
        let none = HeaderMap::new();
        assert_eq!(asked(Version::HTTP_10).ticket(), None);
        let interims = asked(Version::HTTP_11);
        let first = interims.ticket().unwrap();
        assert!(interims.add(first, HINTS, &none));
        interims.asked(Version::HTTP_11);
        assert!(!interims.some(), "what the first request left is gone");
        assert!(!interims.add(first, HINTS, &none));
    }

    #[test]
    fn they_are_bounded() {
        let interims = asked(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let taken = (0..100).filter(|_| interims.add(ticket, HINTS, &HeaderMap::new()));
        assert_eq!(taken.count(), MOST as usize);
        let interims = asked(Version::HTTP_11);
        let ticket = interims.ticket().unwrap();
        let value = HeaderValue::from_str(&"x".repeat(MOST_BYTES / 2)).unwrap();
        let large = HeaderMap::from_iter([(header::LINK, value)]);
        assert!(interims.add(ticket, HINTS, &large));
        assert!(!interims.add(ticket, HINTS, &large));
    }
}
