//! The responses of one connection, followed on its raw bytes: which bytes belong to a head, which to the content, and
//! which to no response.

use super::{
    BodyFraming, FramingContext,
    head::{self, BadResponse, HeadLimits, OriginHead},
};
use crate::http::h1::chunked::Chunked;

/// The next part expected on a connection to an origin.
#[derive(Debug)]
enum State {
    /// No request waits for a response.
    Idle,
    Head(FramingContext),
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Tunnel,
}

/// Cuts the bytes of a connection to an origin into heads and contents. It does no I/O.
#[derive(Debug)]
pub struct ResponseReader {
    limits: HeadLimits,
    state: State,
    /// Bytes of an incomplete head that were searched for its end.
    searched: usize,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self {
            limits: HeadLimits::default(),
            state: State::Idle,
            searched: 0,
        }
    }
}

/// A complete head.
#[derive(Debug)]
pub enum ArrivedHead {
    /// 1xx: the final response follows.
    Interim(OriginHead),
    /// 2xx to 5xx, or a 101: the content follows.
    Final(OriginHead),
}

/// The part of a response that the next bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A head: call `head` as it grows.
    Head,
    /// Framed content: call `content`.
    Framed,
    /// This many bytes of content; they may pass unread: call `passed`.
    Plain(u64),
    /// No part: further bytes are a fault.
    Nothing,
}

impl ResponseReader {
    /// Notes that a request is being sent.
    pub fn begin_response(&mut self, awaited: FramingContext, limits: HeadLimits) {
        self.limits = limits;
        self.searched = 0;
        self.state = State::Head(awaited);
    }

    /// The part of the response that the next bytes belong to.
    pub fn expected(&self) -> Expected {
        match &self.state {
            State::Idle => Expected::Nothing,
            State::Head(_) => Expected::Head,
            State::Length(left) => Expected::Plain(*left),
            State::Chunked(_) => Expected::Framed,
            State::UntilClose | State::Tunnel => Expected::Plain(u64::MAX),
        }
    }

    /// Reads a head at the start of `bytes`, which are all bytes since the previous head, and gives its length. `None`
    /// while it is incomplete.
    pub fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, ArrivedHead)>, BadResponse> {
        let State::Head(awaited) = self.state else {
            return Ok(None);
        };
        let Some((length, head)) = head::read(bytes, self.searched, awaited, self.limits)? else {
            self.searched = bytes.len();
            return Ok(None);
        };
        self.searched = 0;
        self.state = match head.framing.content {
            BodyFraming::None if head.status.is_informational() => {
                return Ok(Some((length, ArrivedHead::Interim(head))));
            }
            BodyFraming::None | BodyFraming::Length(0) => State::Idle,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Chunked(Box::new(Chunked::of_response())),
            BodyFraming::UntilClose => State::UntilClose,
            BodyFraming::Tunnel => State::Tunnel,
        };
        Ok(Some((length, ArrivedHead::Final(head))))
    }

    /// The number of these bytes that belong to the response; any others are surplus.
    pub fn content(&mut self, bytes: &[u8]) -> Result<usize, BadResponse> {
        match &mut self.state {
            State::Idle | State::Head(_) => Ok(0),
            State::UntilClose | State::Tunnel => Ok(bytes.len()),
            State::Length(left) => {
                let now = (bytes.len() as u64).min(*left) as usize;
                self.passed(now as u64);
                Ok(now)
            }
            State::Chunked(chunked) => match chunked.follow(bytes, u64::MAX) {
                Ok(None) => Ok(bytes.len()),
                Ok(Some(end)) => {
                    self.state = State::Idle;
                    Ok(end)
                }
                Err(_) => Err(BadResponse::Chunk),
            },
        }
    }

    /// Notes that this many bytes of plain content have passed.
    pub fn passed(&mut self, count: u64) {
        if let State::Length(left) = &mut self.state {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.state = State::Idle;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Follows a connection whose bytes come in pieces of `step`: gives statuses, content, and the surplus.
    fn follow(question: FramingContext, bytes: &[u8], step: usize) -> Result<String, BadResponse> {
        let mut reader = ResponseReader::default();
        reader.begin_response(question, HeadLimits::default());
        let mut seen = String::new();
        let mut held = Vec::new();
        for piece in bytes.chunks(step) {
            held.extend_from_slice(piece);
            while reader.expected() == Expected::Head {
                let Some((length, head)) = reader.head(&held)? else {
                    break;
                };
                held.drain(..length);
                match head {
                    ArrivedHead::Interim(head) => seen += &format!("({}) ", head.status.as_u16()),
                    ArrivedHead::Final(head) => seen += &format!("{} ", head.status.as_u16()),
                }
            }
            if reader.expected() != Expected::Head {
                let count = reader.content(&held)?;
                seen += &String::from_utf8_lossy(&held[..count]);
                held.drain(..count);
            }
        }
        let end = match reader.expected() {
            Expected::Nothing => "",
            _ => "…",
        };
        Ok(format!("{seen}{end}[{}]", String::from_utf8_lossy(&held)))
    }

    #[test]
    fn every_byte_has_one_place_however_the_bytes_come() {
        let get = FramingContext::default();
        let head = FramingContext { head: true, ..get };
        let upgrade = FramingContext {
            upgrade: true,
            ..get
        };
        for (awaited, text, want) in [
            (
                get,
                "HTTP/1.1 200 OK\nContent-Length: 3\n\nabcHTTP",
                "200 abc[HTTP]",
            ),
            (
                get,
                "HTTP/1.1 204 No\nContent-Length: 3\n\nabc",
                "204 [abc]",
            ),
            (
                get,
                "HTTP/1.1 304 No\nContent-Length: 3\n\nabc",
                "304 [abc]",
            ),
            (
                head,
                "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
                "200 [abc]",
            ),
            (get, "HTTP/1.1 200 OK\n\nabc", "200 abc…[]"),
            (
                get,
                "HTTP/1.1 103 Early\n\nHTTP/1.1 204 No\n\n",
                "(103) 204 []",
            ),
            (upgrade, "HTTP/1.1 101 Go\n\nabc", "101 abc…[]"),
            (
                get,
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1  \r\nx\r\n0\r\na: 1\r\n\r\nsurplus",
                "200 1  \r\nx\r\n0\r\na: 1\r\n\r\n[surplus]",
            ),
        ] {
            for step in 1..=text.len() {
                let got = follow(awaited, text.as_bytes(), step);
                assert_eq!(got.as_deref(), Ok(want), "{text:?} by {step}");
            }
        }
        let bad = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nx";
        assert_eq!(follow(get, bad.as_bytes(), 1), Err(BadResponse::Chunk));
    }
}
