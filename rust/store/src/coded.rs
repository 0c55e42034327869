//! Coded variants of a stored response: entries of their own, with the keys of slices, that are found through it.

use std::sync::atomic::{AtomicU8, Ordering};

use edgerouter_core::http::coding::ContentCoding;

use super::content::Slices;

/// The variants that a response may have.
#[derive(Debug)]
pub struct CodedVariants {
    nonce: u64,
    /// A bit for each coding whose variant is being made.
    making: AtomicU8,
}

impl CodedVariants {
    pub(super) fn new(nonce: u64) -> Self {
        Self {
            nonce,
            making: AtomicU8::new(0),
        }
    }

    /// The part of the variants' keys that no other response shares. A response that is only made fresh keeps it.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The key of the variant in a coding, of the response with this key.
    pub fn key(&self, response: &[u8], coding: ContentCoding) -> Vec<u8> {
        let slices = Slices {
            size: 0,
            nonce: self.nonce,
        };
        slices.key(response, coding as u64)
    }

    /// False if the variant is being made already.
    pub(super) fn begin(&self, coding: ContentCoding) -> bool {
        let bit = 1 << coding as u8;
        self.making.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub(super) fn end(&self, coding: ContentCoding) {
        let bit = 1 << coding as u8;
        self.making.fetch_and(!bit, Ordering::Relaxed);
    }
}
