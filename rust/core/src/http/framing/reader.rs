//! The responses of one connection, followed on its raw bytes: which bytes belong to a head, which to the content, and
//! which to no response.

use crate::http::Fields;

use super::{
    BodyFraming, FramingContext,
    head::{self, BadResponse, HeadLimits, OriginHead},
};
use crate::http::h1::{ContentPiece, chunked::Chunked};

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
    /// Bytes of the interim responses to the request.
    interims: usize,
    /// The trailers of content that is complete.
    trailers: Option<Box<Fields>>,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self {
            limits: HeadLimits::default(),
            state: State::Idle,
            searched: 0,
            interims: 0,
            trailers: None,
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
    /// Content of this length.
    Length(u64),
    /// Content that says itself where it ends, or that ends with the connection.
    Unknown,
    /// No part: further bytes are a fault.
    Nothing,
}

impl ResponseReader {
    /// Notes that a request is being sent.
    pub fn begin_response(&mut self, awaited: FramingContext, limits: HeadLimits) {
        self.limits = limits;
        self.searched = 0;
        self.interims = 0;
        self.trailers = None;
        self.state = State::Head(awaited);
    }

    /// The part of the response that the next bytes belong to.
    pub fn expected(&self) -> Expected {
        match &self.state {
            State::Idle => Expected::Nothing,
            State::Head(_) => Expected::Head,
            State::Length(left) => Expected::Length(*left),
            State::Chunked(_) | State::UntilClose | State::Tunnel => Expected::Unknown,
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
                // An origin that sends nothing else would keep its worker busy until its time is over.
                self.interims = self.interims.saturating_add(length);
                if self.interims > self.limits.bytes {
                    return Err(BadResponse::Interims(self.limits.bytes));
                }
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

    /// Reads the content in `bytes`, up to its end; bytes behind that are surplus. The data of several chunks are moved
    /// together.
    pub fn content(&mut self, bytes: &mut [u8]) -> Result<ContentPiece, BadResponse> {
        let chunked = match &mut self.state {
            State::Idle | State::Head(_) => return Ok(ContentPiece::plain(0, true)),
            State::UntilClose | State::Tunnel => {
                return Ok(ContentPiece::plain(bytes.len(), false));
            }
            State::Length(left) => {
                let now = (bytes.len() as u64).min(*left);
                self.moved(now);
                let is_last = matches!(self.state, State::Idle);
                return Ok(ContentPiece::plain(now as usize, is_last));
            }
            State::Chunked(chunked) => chunked,
        };
        let piece = chunked.read(bytes, u64::MAX);
        let piece = piece.map_err(|_| BadResponse::Chunk)?;
        if piece.is_last {
            self.trailers = chunked.take_trailers().map(Box::new);
            self.state = State::Idle;
        }
        Ok(piece)
    }

    /// Notes that bytes of content of a known length have passed by.
    pub fn moved(&mut self, bytes: u64) {
        if let State::Length(left) = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::Idle;
            }
        }
    }

    /// Notes that the origin has closed; true if that is the end of the response (RFC 9112 §6.3, rule 8).
    pub fn close(&mut self) -> bool {
        if matches!(self.state, State::UntilClose) {
            self.state = State::Idle;
        }
        matches!(self.state, State::Idle)
    }

    /// The trailers behind content that has been read; `None` if there are none.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        self.trailers.take()
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
                let piece = reader.content(&mut held)?;
                seen += &String::from_utf8_lossy(&held[piece.data]);
                held.drain(..piece.consumed);
            }
        }
        for (name, value) in reader.take_trailers().iter().flat_map(|all| all.iter()) {
            seen += &format!("<{name}={}>", value.to_str().unwrap());
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
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1  \r\nx\r\n3;a=b\r\nyz!\r\n0\r\na: 1\r\n\r\nsurplus",
                "200 xyz!<a=1>[surplus]",
            ),
            // The grammar has no bound on zeros (RFC 9112 §7.1).
            (
                get,
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0000000000000000000002\r\nxy\r\n00000000000000000000\r\n\r\n",
                "200 xy[]",
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

    #[test]
    fn interim_responses_are_bounded_together() {
        let limits = HeadLimits {
            bytes: 60,
            fields: 1,
        };
        let interim = "HTTP/1.1 103 Early\n\n";
        let mut reader = ResponseReader::default();
        for _ in 0..2 {
            reader.begin_response(FramingContext::default(), limits);
            for _ in 0..3 {
                let (length, _) = reader.head(interim.as_bytes()).unwrap().unwrap();
                assert_eq!(length, 20);
            }
        }
        assert_eq!(
            reader.head(interim.as_bytes()).unwrap_err(),
            BadResponse::Interims(60)
        );
    }

    #[test]
    fn the_end_of_the_connection_ends_content_of_unknown_length_only() {
        let get = FramingContext::default();
        for (text, ends) in [
            ("HTTP/1.1 200 OK\n\nabc", true),
            ("HTTP/1.1 204 No\n\n", true),
            ("HTTP/1.1 200 OK\nContent-Length: 4\n\nabc", false),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n",
                false,
            ),
            ("HTTP/1.1 200", false),
        ] {
            let mut reader = ResponseReader::default();
            reader.begin_response(get, HeadLimits::default());
            let head = reader.head(text.as_bytes()).unwrap();
            let mut rest = text.as_bytes()[head.map_or(0, |(length, _)| length)..].to_vec();
            reader.content(&mut rest).unwrap();
            assert_eq!(reader.close(), ends, "{text:?}");
        }
    }
}
