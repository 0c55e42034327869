//! Chunked content (RFC 9112 §7.1): strict for the requests of clients, for responses as kind as origins need it.

use crate::http::Fields;

use super::{ContentPiece, field_lines};
use crate::admit::Refusal;

/// Bytes around the size of one chunk: its extensions, and zeros and spaces that pad it.
const MOST_EXTENSION: usize = 1 << 10;
/// Such bytes of all chunks that are more than a chunk may have beside its content: much work for little content.
const MOST_EXCESS: u64 = 16 << 10;
/// Such bytes that each chunk may have, beside two for each byte of its content.
const FREE: u64 = 16;
/// Bytes of a trailer section.
const MOST_TRAILER: usize = 8 << 10;
/// Sixteen digits would be the largest number that fits; fifteen are more than any body needs.
const MOST_DIGITS: u8 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
    },
    Extension {
        quoted: bool,
        escaped: bool,
    },
    /// White space after a size. A recipient removes it before an extension (RFC 9112 §7.1.1); origins pad sizes with
    /// it.
    Padding,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName {
        first: bool,
    },
    TrailerValue,
    TrailerLf,
    EndLf,
}

#[derive(Debug, Clone)]
/// A reader of chunked content.
pub struct Chunked {
    lenient: bool,
    state: State,
    /// Remaining bytes of the current chunk.
    left: u64,
    total: u64,
    /// Bytes around the size of the current chunk.
    extension: usize,
    excess: u64,
    trailer: usize,
    name: [u8; 18],
    name_length: usize,
    trailers: Vec<u8>,
}

impl Chunked {
    /// For a client's request.
    pub(crate) fn new() -> Self {
        Self {
            lenient: false,
            state: State::Size { digits: 0 },
            left: 0,
            total: 0,
            extension: 0,
            excess: 0,
            trailer: 0,
            name: [0; 18],
            name_length: 0,
            trailers: Vec::new(),
        }
    }

    /// For an origin's response: a size may be padded with spaces, and no trailer name makes the content invalid
    /// (forbidden trailers are dropped later).
    pub(crate) fn of_response() -> Self {
        Self {
            lenient: true,
            ..Self::new()
        }
    }

    /// Reads the content in `bytes`, up to its end. The data of several chunks are moved together. `most` bounds the
    /// bytes of the content.
    pub fn read(&mut self, bytes: &mut [u8], most: u64) -> Result<ContentPiece, Refusal> {
        let mut piece = ContentPiece::plain(0, false);
        while !piece.is_last
            && let Some(&byte) = bytes.get(piece.consumed)
        {
            if self.state != State::Data {
                piece.consumed += 1;
                piece.is_last = self.step(byte, most)?;
                continue;
            }
            let at = piece.consumed;
            let count = self.pass(bytes.len() - at);
            if piece.data.is_empty() {
                piece.data = at..at + count;
            } else {
                bytes.copy_within(at..at + count, piece.data.end);
                piece.data.end += count;
            }
            piece.consumed += count;
        }
        Ok(piece)
    }

    /// The trailer section, once the content is complete; `None` if it is empty.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        let text = std::mem::take(&mut self.trailers);
        field_lines(&text).filter(|trailers| !trailers.is_empty())
    }

    /// Passes bytes of the current chunk, as many of `available` as it still has.
    fn pass(&mut self, available: usize) -> usize {
        let count = (available as u64).min(self.left);
        self.left -= count;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        count as usize
    }

    fn step(&mut self, byte: u8, most: u64) -> Result<bool, Refusal> {
        let bad = Err(Refusal::BadChunk);
        self.state = match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // Zeros in front of the number are padding, as the spaces behind it are.
                let digits = if digits > 0 && self.left == 0 {
                    self.pad()?;
                    1
                } else {
                    digits + 1
                };
                if digits > MOST_DIGITS {
                    return bad;
                }
                self.left = self.left * 16 + u64::from(digit);
                State::Size { digits }
            }
            (State::Size { digits: 1.. }, b'\r') => State::SizeLf,
            (State::Size { digits: 1.. } | State::Padding, b';') => State::Extension {
                quoted: false,
                escaped: false,
            },
            (State::Size { digits: 1.. } | State::Padding, b' ' | b'\t') => {
                self.pad()?;
                State::Padding
            }
            (State::Padding, b'\r') if self.lenient => State::SizeLf,
            (State::Extension { quoted: false, .. }, b'\r') => State::SizeLf,
            (State::Extension { quoted, escaped }, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.pad()?;
                match byte {
                    _ if escaped => State::Extension {
                        quoted,
                        escaped: false,
                    },
                    b'\\' if quoted => State::Extension {
                        quoted,
                        escaped: true,
                    },
                    b'"' => State::Extension {
                        quoted: !quoted,
                        escaped: false,
                    },
                    _ => State::Extension {
                        quoted,
                        escaped: false,
                    },
                }
            }
            (State::SizeLf, b'\n') if self.left == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => {
                let free = self.left.saturating_mul(2).saturating_add(FREE);
                self.excess = (self.excess + self.extension as u64).saturating_sub(free);
                if self.excess > MOST_EXCESS {
                    return bad;
                }
                self.total = self.total.saturating_add(self.left);
                if self.total > most {
                    return Err(Refusal::BodyTooLarge);
                }
                State::Data
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.extension = 0;
                State::Size { digits: 0 }
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, byte) if crate::http::is_token_byte(byte) => {
                self.name_length = 0;
                self.note_name(byte)?;
                State::TrailerName { first: false }
            }
            (State::TrailerName { .. }, b':') => {
                if !self.lenient && self.forbidden_name() {
                    return bad;
                }
                self.trailers.push(byte);
                State::TrailerValue
            }
            (State::TrailerName { .. }, byte) if crate::http::is_token_byte(byte) => {
                self.note_name(byte)?;
                State::TrailerName { first: false }
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.count_trailer(byte)?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => {
                self.trailers.extend_from_slice(b"\r\n");
                State::TrailerStart
            }
            (State::EndLf, b'\n') => return Ok(true),
            _ => return bad,
        };
        Ok(false)
    }

    /// Counts a byte around the size of a chunk.
    fn pad(&mut self) -> Result<(), Refusal> {
        self.extension += 1;
        if self.extension > MOST_EXTENSION {
            return Err(Refusal::BadChunk);
        }
        Ok(())
    }

    fn count_trailer(&mut self, byte: u8) -> Result<(), Refusal> {
        self.trailer += 1;
        if self.trailer > MOST_TRAILER {
            return Err(Refusal::HeadTooLarge);
        }
        self.trailers.push(byte);
        Ok(())
    }

    fn note_name(&mut self, byte: u8) -> Result<(), Refusal> {
        self.count_trailer(byte)?;
        if let Some(slot) = self.name.get_mut(self.name_length) {
            *slot = byte;
        }
        self.name_length += 1;
        Ok(())
    }

    /// Framing, routing and credentials may not come after the content (RFC 9110 §6.5.1).
    fn forbidden_name(&self) -> bool {
        let Some(name) = self.name.get(..self.name_length) else {
            return false;
        };
        [
            "content-length",
            "transfer-encoding",
            "host",
            "connection",
            "authorization",
            "cookie",
            "trailer",
            "te",
        ]
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
    }
}
