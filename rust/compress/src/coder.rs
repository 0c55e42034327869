//! One stream of a coding: bytes go in, coded bytes come out.

use std::io::{self, Write};

use bytes::Bytes;
use edgerouter_core::http::coding::ContentCoding;
use flate2::write::GzEncoder;

/// Levels for responses that are compressed once for each client: near the knee of each coding's curve.
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
/// Windows: 256 KiB. A browser takes up to 8 MiB of zstd (RFC 9659); a longer one costs memory for each response.
const WINDOW_BITS: u32 = 18;
const BROTLI_BUFFER: usize = 4 << 10;

/// Why a response could not be compressed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The threads are busy for longer than `limits.compression.timeout`, or the edge stops.
    #[error("the response could not be compressed in time (limits.compression.timeout)")]
    TimedOut,
    /// The library refused.
    #[error("the response could not be compressed")]
    Failed,
}

/// Memory that a stream of a coding takes, with the bytes on their way through it.
pub(crate) fn memory(coding: ContentCoding) -> u64 {
    match coding {
        ContentCoding::Brotli => 1 << 20,
        ContentCoding::Zstd => 768 << 10,
        ContentCoding::Gzip | ContentCoding::Identity => 384 << 10,
    }
}

pub(crate) enum Coder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::Gzip(_) => "Gzip",
        })
    }
}

/// How far the bytes that went in must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// As far as the coder likes.
    More,
    /// All of them can be decoded: nothing comes for a while.
    Flushed,
    /// The stream is complete.
    End,
}

impl Coder {
    /// `None` for the identity, and if the library has no memory.
    pub(crate) fn new(coding: ContentCoding) -> Option<Self> {
        Some(match coding {
            ContentCoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                WINDOW_BITS,
            ))),
            ContentCoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(WINDOW_BITS).ok()?;
                Self::Zstd(Box::new(encoder))
            }
            ContentCoding::Gzip => Self::Gzip(Box::new(GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP_LEVEL),
            ))),
            ContentCoding::Identity => return None,
        })
    }

    /// Codes more bytes; `None` in place of the coder after the end.
    pub(crate) fn feed(
        mut self,
        pieces: &[Bytes],
        until: Until,
    ) -> Result<(Option<Self>, Bytes), CompressionError> {
        self.write(pieces, until)
            .map_err(|_| CompressionError::Failed)?;
        if until == Until::End {
            let rest = self.finish().map_err(|_| CompressionError::Failed)?;
            return Ok((None, Bytes::from(rest)));
        }
        let out = std::mem::take(self.output());
        Ok((Some(self), Bytes::from(out)))
    }

    fn write(&mut self, pieces: &[Bytes], until: Until) -> io::Result<()> {
        let writer: &mut dyn Write = match self {
            Self::Brotli(writer) => &mut **writer,
            Self::Zstd(writer) => &mut **writer,
            Self::Gzip(writer) => &mut **writer,
        };
        for piece in pieces {
            writer.write_all(piece)?;
        }
        if until == Until::Flushed {
            writer.flush()?;
        }
        Ok(())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
            Self::Gzip(writer) => writer.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli(writer) => Ok(writer.into_inner()),
            Self::Zstd(writer) => writer.finish(),
            Self::Gzip(writer) => writer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    const CODINGS: [ContentCoding; 3] = super::super::MADE;

    fn decoded(coding: ContentCoding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let read = match coding {
            ContentCoding::Brotli => {
                brotli::Decompressor::new(coded, 4 << 10).read_to_end(&mut plain)
            }
            ContentCoding::Zstd => zstd::stream::read::Decoder::new(coded)
                .unwrap()
                .read_to_end(&mut plain),
            _ => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain),
        };
        read.unwrap();
        plain
    }

    /// Bytes between noise and one repeated byte, from a generator of numbers.
    fn random_bytes(seed: &mut u64, most: usize) -> Vec<u8> {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *seed >> 33
        };
        let (length, mask) = (next() as usize % most, next() as u8);
        (0..length).map(|_| next() as u8 & mask).collect()
    }

    #[test]
    fn a_thousand_random_bodies_come_back_in_each_coding_however_they_are_cut() {
        let mut seed = 7;
        for round in 0..1_000 {
            let body = random_bytes(&mut seed, 6_000);
            let pieces: Vec<Bytes> = body
                .chunks(1 + round % 700)
                .map(Bytes::copy_from_slice)
                .collect();
            for coding in CODINGS {
                let mut coder = Coder::new(coding);
                let mut coded = Vec::new();
                for few in pieces.chunks(3) {
                    let until = if round % 3 == 0 {
                        Until::Flushed
                    } else {
                        Until::More
                    };
                    let (next, out) = coder.take().unwrap().feed(few, until).unwrap();
                    coded.extend_from_slice(&out);
                    coder = next;
                }
                let (end, out) = coder.take().unwrap().feed(&[], Until::End).unwrap();
                coded.extend_from_slice(&out);
                assert!(end.is_none());
                assert_eq!(decoded(coding, &coded), body, "{coding:?}, round {round}");
            }
        }
    }

    #[test]
    fn flushed_bytes_can_be_decoded_before_the_end() {
        for coding in CODINGS {
            let coder = Coder::new(coding).unwrap();
            let (_coder, out) = coder
                .feed(&[Bytes::from_static(b"data: 1\n\n")], Until::Flushed)
                .unwrap();
            let mut plain = [0; 9];
            match coding {
                ContentCoding::Brotli => {
                    brotli::Decompressor::new(&*out, 64).read_exact(&mut plain)
                }
                ContentCoding::Zstd => zstd::stream::read::Decoder::new(&*out)
                    .unwrap()
                    .read_exact(&mut plain),
                _ => flate2::read::GzDecoder::new(&*out).read_exact(&mut plain),
            }
            .unwrap();
            assert_eq!(&plain, b"data: 1\n\n", "{coding:?}");
        }
    }
}
