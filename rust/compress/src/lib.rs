//! Compression of responses, on their way to clients and for the store.
//!
//! [`Compressors::begin`] gives a [`CompressedBody`] around a body, or none when memory is short or too many are being
//! compressed: then the response is sent as it is. [`Compressors::begin_variant`] codes a stored body once. Which
//! response is compressed, in which coding, and its fields are decided in `edgerouter_core::compression`. The bytes go
//! to a thread and come back; no worker compresses.

mod body;
mod coder;
mod gzip;
mod variant;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use edgerouter_account::{Account, Owner};
use edgerouter_core::{
    bounds::memory::Purpose, http::coding::ContentCoding, plan::limits::CompressionLimits,
};
use edgerouter_telemetry::{cores, text};
use edgerouter_threads::ThreadPool;

pub use body::CompressedBody;
pub use coder::CompressionError;
pub use variant::CodingVariant;

use coder::{Coder, Effort};

/// Bytes that go to a thread in one step. Responses that are being sent wait for no longer one, also of a variant.
const STEP: usize = 64 << 10;

/// The codings that the edge makes, in the order of the counters.
const MADE: [ContentCoding; 3] = [
    ContentCoding::Brotli,
    ContentCoding::Zstd,
    ContentCoding::Gzip,
];

/// The threads that compress, and the responses that they have under way.
#[derive(Debug)]
pub struct Compressors {
    threads: Arc<ThreadPool>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    variants_under_way: AtomicUsize,
    most_variants: AtomicUsize,
    /// In milliseconds.
    timeout: AtomicU64,
    made: [AtomicU64; MADE.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    variants: [AtomicU64; MADE.len()],
    variants_refused: AtomicU64,
}

/// The samples of counters in the order of [`MADE`].
fn by_coding(counters: &[AtomicU64; MADE.len()]) -> impl Iterator<Item = ([&'static str; 1], u64)> {
    let counted = MADE.iter().zip(counters);
    counted.map(|(coding, count)| ([coding.as_str()], count.load(Ordering::Relaxed)))
}

impl Compressors {
    /// Without any thread yet: they are started on demand.
    pub fn new(limits: &CompressionLimits) -> Arc<Self> {
        let own = Self {
            threads: ThreadPool::new("edge-compress"),
            under_way: AtomicUsize::default(),
            most: AtomicUsize::default(),
            variants_under_way: AtomicUsize::default(),
            most_variants: AtomicUsize::default(),
            timeout: AtomicU64::default(),
            made: Default::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            refused: AtomicU64::default(),
            failed: AtomicU64::default(),
            variants: Default::default(),
            variants_refused: AtomicU64::default(),
        };
        own.bound(limits);
        Arc::new(own)
    }

    /// Sets the bounds, which a reload may change.
    pub fn bound(&self, limits: &CompressionLimits) {
        // Every response has at most one job; none is refused once it has begun.
        self.threads
            .bound(limits.threads.unwrap_or_else(cores), limits.responses);
        self.most.store(limits.responses, Ordering::Relaxed);
        self.most_variants.store(limits.variants, Ordering::Relaxed);
        let timeout = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout.store(timeout, Ordering::Relaxed);
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    /// A compressor for one response; `None` if as many are under way as may, or there is no memory for another.
    pub fn begin(
        self: &Arc<Self>,
        coding: ContentCoding,
        account: &Arc<Account>,
        owner: Owner,
    ) -> Option<Compressing> {
        let (made, coder) = MADE
            .iter()
            .zip(&self.made)
            .find(|(made, _)| **made == coding)
            .and_then(|(_, counter)| Some((counter, Coder::new(coding, Effort::Sent)?)))?;
        let most = self.most.load(Ordering::Relaxed);
        let compressing = Compressing {
            all: Arc::clone(self),
            coder: Some(coder),
            hold: account.open_uncut(Purpose::Bodies, owner),
        };
        // Counted back when it is dropped, here as well.
        let before = self.under_way.fetch_add(1, Ordering::AcqRel);
        if before >= most
            || compressing
                .hold
                .draw_free(coder::memory(coding, Effort::Sent))
                .is_err()
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        made.fetch_add(1, Ordering::Relaxed);
        Some(compressing)
    }

    /// A coder for the variant of a stored response of `length` bytes; `None` if as many are being made as may, or
    /// there is no memory for another.
    pub fn begin_variant(
        self: &Arc<Self>,
        coding: ContentCoding,
        length: u64,
        account: &Arc<Account>,
        owner: Owner,
    ) -> Option<CodingVariant> {
        let most = self.most_variants.load(Ordering::Relaxed);
        if most == 0 {
            return None;
        }
        let effort = Effort::Stored(length);
        let hold = account.open_uncut(Purpose::Bodies, owner);
        // Counted back when it is dropped, here as well.
        let before = self.variants_under_way.fetch_add(1, Ordering::AcqRel);
        let variant = CodingVariant::new(Arc::clone(self), coding, effort, hold);
        if before >= most || !variant.draw() {
            self.variants_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(variant)
    }

    /// Ends the threads once they are idle.
    pub fn close(&self) {
        self.threads.end();
    }

    /// The figures as metrics.
    pub fn render(&self, out: &mut String) {
        text::labelled(
            out,
            "edgerouter_compressed_responses_total",
            "Responses that the edge compressed, by coding.",
            ["coding"],
            by_coding(&self.made),
        );
        text::labelled(
            out,
            "edgerouter_compressed_bytes_total",
            "Bytes of responses before and after compression.",
            ["side"],
            [
                (["before"], self.bytes_in.load(Ordering::Relaxed)),
                (["after"], self.bytes_out.load(Ordering::Relaxed)),
            ],
        );
        text::labelled(
            out,
            "edgerouter_compressed_variants_total",
            "Coded variants of stored responses that the edge made, by coding.",
            ["coding"],
            by_coding(&self.variants),
        );
        for (name, help, value) in [
            (
                "edgerouter_compression_variants_under_way",
                "Coded variants of stored responses that are being made.",
                self.variants_under_way.load(Ordering::Relaxed) as u64,
            ),
            (
                "edgerouter_compression_variants_refused_total",
                "Coded variants that were put off because too many were being made, memory was short or a thread was late.",
                self.variants_refused.load(Ordering::Relaxed),
            ),
            (
                "edgerouter_compression_under_way",
                "Responses that are being compressed.",
                self.under_way.load(Ordering::Relaxed) as u64,
            ),
            (
                "edgerouter_compression_refused_total",
                "Responses sent as they are because too many were being compressed or memory was short.",
                self.refused.load(Ordering::Relaxed),
            ),
            (
                "edgerouter_compression_failed_total",
                "Responses cut off because compression failed or took too long.",
                self.failed.load(Ordering::Relaxed),
            ),
        ] {
            text::one(out, name, help, value);
        }
    }
}

/// One response's compressor, and its part of the account.
#[derive(Debug)]
pub struct Compressing {
    all: Arc<Compressors>,
    /// `None` while a thread has it.
    coder: Option<Coder>,
    hold: edgerouter_account::Hold,
}

impl Drop for Compressing {
    fn drop(&mut self) {
        self.all.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
