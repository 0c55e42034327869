//! One stream of a coding: bytes go in, coded bytes come out.

use std::io::{self, Write};

use bytes::Bytes;
use edgerouter_core::http::coding::ContentCoding;

use super::gzip::{Gzip, GzipLevels};

const BROTLI_BUFFER: usize = 4 << 10;

/// The effort for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// It is compressed once for each client: near the knee of each coding's curve, with a window of 256 KiB.
    Sent,
    /// It is compressed once and stored. The length is known.
    Stored(u64),
}

/// The settings of the libraries.
struct Levels {
    brotli: u32,
    zstd: i32,
    gzip: GzipLevels,
    window_bits: u32,
}

impl Effort {
    fn levels(self) -> Levels {
        match self {
            Self::Sent => Levels {
                brotli: 4,
                zstd: 3,
                gzip: GzipLevels {
                    pieces: 5,
                    whole: 4,
                },
                window_bits: 18,
            },
            // More than this costs Brotli 32 MiB and ten times the time, for some hundredths of the length.
            Self::Stored(length) => Levels {
                brotli: 7,
                zstd: 9,
                gzip: GzipLevels {
                    pieces: 9,
                    whole: 9,
                },
                window_bits: window_bits(length),
            },
        }
    }
}

/// The smallest window that holds all of the content. A browser takes up to 8 MiB of zstd (RFC 9659), Brotli up to
/// 16 MiB (RFC 7932); 4 MiB serve both.
fn window_bits(length: u64) -> u32 {
    length.next_power_of_two().ilog2().clamp(17, 22)
}

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

/// Memory that a stream of a coding takes, with the bytes on their way through it; for a stored one with the result,
/// which is held twice when it is joined.
pub(crate) fn memory(coding: ContentCoding, effort: Effort) -> u64 {
    let (window, result) = match effort {
        Effort::Sent => (0, 0),
        Effort::Stored(length) => (1 << window_bits(length), 2 * length),
    };
    result
        + match (coding, effort) {
            (ContentCoding::Brotli, Effort::Sent) => 1 << 20,
            (ContentCoding::Brotli, Effort::Stored(_)) => (8 << 20) + 2 * window,
            (ContentCoding::Zstd, Effort::Sent) => 768 << 10,
            (ContentCoding::Zstd, Effort::Stored(_)) => (1 << 20) + 6 * window,
            (ContentCoding::Gzip | ContentCoding::Identity, _) => 384 << 10,
        }
}

pub(crate) enum Coder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Gzip(Gzip),
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

/// The share of the bytes that went in which must come out now.
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
    pub(crate) fn new(coding: ContentCoding, effort: Effort) -> Option<Self> {
        let levels = effort.levels();
        Some(match coding {
            ContentCoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                levels.brotli,
                levels.window_bits,
            ))),
            ContentCoding::Zstd => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(Vec::new(), levels.zstd).ok()?;
                // The library takes less memory for content that it knows to be short.
                if let Effort::Stored(length) = effort {
                    encoder.set_pledged_src_size(Some(length)).ok()?;
                }
                encoder.window_log(levels.window_bits).ok()?;
                Self::Zstd(Box::new(encoder))
            }
            ContentCoding::Gzip => Self::Gzip(Gzip::new(levels.gzip)),
            ContentCoding::Identity => return None,
        })
    }

    /// True if content that is whole is coded better in one step.
    pub(crate) fn prefers_whole(&self) -> bool {
        matches!(self, Self::Gzip(gzip) if gzip.is_unbegun())
    }

    /// Codes more bytes; `None` in place of the coder after the end.
    pub(crate) fn feed(
        mut self,
        pieces: &[Bytes],
        until: Until,
    ) -> Result<(Option<Self>, Bytes), CompressionError> {
        if until == Until::End
            && let Self::Gzip(gzip) = &self
            && gzip.is_unbegun()
        {
            let coded = gzip.whole(pieces).map_err(|_| CompressionError::Failed)?;
            return Ok((None, coded));
        }
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
            Self::Gzip(writer) => writer.encoder(),
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
            Self::Gzip(writer) => writer.encoder().get_mut(),
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
                let mut coder = Coder::new(coding, Effort::Sent);
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
                let whole = Coder::new(coding, Effort::Sent).unwrap();
                let (_, coded) = whole.feed(&pieces, Until::End).unwrap();
                assert_eq!(decoded(coding, &coded), body, "{coding:?}, round {round}");
            }
        }
    }

    #[test]
    fn stored_content_comes_back_and_is_not_longer_than_sent_content() {
        let words = ["edge ", "cache ", "origin ", "<p>", "route ", "\n"];
        let mut seed = 11;
        for length in [1_000, 70_000, 300_000] {
            let picks = random_bytes(&mut seed, 1 << 20);
            let text: String = (picks.iter().cycle().zip(0..))
                .map(|(pick, at)| words[(usize::from(*pick) + at % 7) % words.len()])
                .take(length / 5)
                .collect();
            let body = Bytes::from(text);
            for coding in CODINGS {
                let coded = |effort| {
                    let coder = Coder::new(coding, effort).unwrap();
                    let pieces = [body.clone()];
                    coder.feed(&pieces, Until::End).unwrap().1
                };
                let stored = coded(Effort::Stored(body.len() as u64));
                assert_eq!(decoded(coding, &stored), body, "{coding:?}");
                assert!(stored.len() <= coded(Effort::Sent).len(), "{coding:?}");
            }
        }
    }

    /// RFC 8878, section 3.1.1.1: a frame of one segment has no descriptor of its window, which is then the content.
    #[test]
    fn the_window_of_zstandard_is_at_most_8_mib() {
        let body = Bytes::from(vec![b'a'; 10_000_000]);
        let coder = Coder::new(ContentCoding::Zstd, Effort::Stored(body.len() as u64)).unwrap();
        let (_, coded) = coder.feed(&[body], Until::End).unwrap();
        let (descriptor, window) = (coded[4], coded[5]);
        assert_eq!(descriptor & 0x20, 0, "not one segment");
        assert!(window >> 3 <= 23 - 10, "{window:#x}");
    }

    #[test]
    fn flushed_bytes_can_be_decoded_before_the_end() {
        for coding in CODINGS {
            let coder = Coder::new(coding, Effort::Sent).unwrap();
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
