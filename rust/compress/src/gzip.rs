//! gzip by two libraries: content that is there as a whole goes to one that takes it at once and needs half of the
//! time, content that comes in pieces to one that goes on where it was.

use std::{cell::RefCell, io};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use libdeflater::{CompressionLvl, Compressor};

/// One stream of gzip.
pub(crate) struct Gzip {
    levels: GzipLevels,
    /// Made for the first piece, as it takes some 300 KiB.
    encoder: Option<Box<GzEncoder<Vec<u8>>>>,
}

/// The level of each library.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GzipLevels {
    pub(crate) pieces: u32,
    pub(crate) whole: i32,
}

impl Gzip {
    pub(crate) fn new(levels: GzipLevels) -> Self {
        Self {
            levels,
            encoder: None,
        }
    }

    /// True if no piece has come yet: content may still come as a whole.
    pub(crate) fn is_unbegun(&self) -> bool {
        self.encoder.is_none()
    }

    /// The encoder of content that comes in pieces.
    pub(crate) fn encoder(&mut self) -> &mut GzEncoder<Vec<u8>> {
        self.encoder.get_or_insert_with(|| {
            let level = Compression::new(self.levels.pieces);
            Box::new(GzEncoder::new(Vec::new(), level))
        })
    }

    /// The end of content that came in pieces.
    pub(crate) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.encoder().try_finish()?;
        Ok(std::mem::take(self.encoder().get_mut()))
    }

    /// Content that is whole.
    pub(crate) fn whole(&self, pieces: &[Bytes]) -> io::Result<Bytes> {
        let joined;
        let content: &[u8] = match pieces {
            [one] => one,
            several => {
                joined = several.concat();
                &joined
            }
        };
        LAST.with_borrow_mut(|last| {
            let level = self.levels.whole;
            let compressor = match last {
                Some((known, compressor)) if *known == level => compressor,
                other => {
                    let made = CompressionLvl::new(level)
                        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                    &mut other.insert((level, Compressor::new(made))).1
                }
            };
            let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
            let length = compressor
                .gzip_compress(content, &mut out)
                .map_err(io::Error::other)?;
            out.truncate(length);
            Ok(out.into_boxed_slice().into())
        })
    }
}

thread_local! {
    /// The compressor that the thread used last, with its level: each has 700 KiB.
    static LAST: RefCell<Option<(i32, Compressor)>> = const { RefCell::new(None) };
}
