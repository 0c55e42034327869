//! The content of a request, as its head announces it and as it is cut out of the bytes that follow.

use super::{ContentPiece, chunked::Chunked};
use crate::{admit::Refusal, http::Fields};

/// The framing of a request's content (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestContent {
    /// No content.
    None,
    /// Bytes that follow the head; more than none.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
}

/// Cuts the content of a request out of the bytes after its head.
#[derive(Debug, Clone)]
pub enum ContentReader {
    /// Bytes left.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked(Box<Chunked>),
}

impl ContentReader {
    /// For the content that a head announces; `None` if there is none.
    pub fn of(content: RequestContent) -> Option<Self> {
        match content {
            RequestContent::None => None,
            RequestContent::Length(length) => Some(Self::Length(length)),
            RequestContent::Chunked => Some(Self::Chunked(Box::new(Chunked::new()))),
        }
    }

    /// Reads the content in `bytes`, up to its end; `most` bounds chunked content, whose data are moved together.
    pub fn read(&mut self, bytes: &mut [u8], most: u64) -> Result<ContentPiece, Refusal> {
        match self {
            Self::Chunked(chunked) => chunked.read(bytes, most),
            Self::Length(left) => {
                let count = (bytes.len() as u64).min(*left);
                *left -= count;
                Ok(ContentPiece::plain(count as usize, *left == 0))
            }
        }
    }

    /// The trailer section behind the content that has been read; `None` if it is empty.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Length(_) => None,
            Self::Chunked(chunked) => chunked.take_trailers(),
        }
    }
}
