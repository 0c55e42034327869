//! Counters of variants.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use edgerouter_core::{images::ImageFormat, outcome::Word};
use edgerouter_telemetry::text;

use super::{ImageError, Made};

const FORMATS: usize = ImageFormat::ALL.len();
const REASONS: [&str; 6] = ["busy", "timeout", "type", "pixels", "broken", "encoding"];

#[derive(Debug, Default)]
pub(crate) struct Figures {
    made: [AtomicU64; FORMATS],
    passed: AtomicU64,
    failed: [AtomicU64; REASONS.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    micros: AtomicU64,
}

fn reason(error: &ImageError) -> &'static str {
    match error {
        ImageError::Busy => "busy",
        ImageError::TimedOut => "timeout",
        ImageError::Format | ImageError::Svg | ImageError::Avif => "type",
        ImageError::Pixels { .. } => "pixels",
        ImageError::Broken => "broken",
        ImageError::Encoding => "encoding",
    }
}

impl Figures {
    pub(crate) fn worked(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Counts the outcome for an image of so many bytes.
    pub(crate) fn made(&self, length: usize, made: &Result<Made, ImageError>) {
        let counter = match made {
            Ok(Made::Coded(format, bytes)) => {
                self.bytes_in.fetch_add(length as u64, Ordering::Relaxed);
                self.bytes_out
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.made.get(format.index())
            }
            Ok(Made::Unchanged(_)) => Some(&self.passed),
            Err(error) => {
                let reason = reason(error);
                let place = REASONS.iter().position(|known| *known == reason);
                place.and_then(|place| self.failed.get(place))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn render(&self, threads: usize, out: &mut String) {
        let made = ImageFormat::ALL.iter().zip(&self.made);
        text::labelled(
            out,
            "edgerouter_images_made_total",
            "Variants of images that were encoded, by format.",
            ["format"],
            made.map(|(format, count)| ([format.as_str()], count.load(Ordering::Relaxed))),
        );
        let failed = REASONS.iter().zip(&self.failed);
        text::labelled(
            out,
            "edgerouter_images_failed_total",
            "Images of which no variant could be made, by reason.",
            ["reason"],
            failed.map(|(reason, count)| ([*reason], count.load(Ordering::Relaxed))),
        );
        text::labelled(
            out,
            "edgerouter_images_bytes_total",
            "Bytes of images before they were scaled and of their variants.",
            ["side"],
            [
                (["before"], self.bytes_in.load(Ordering::Relaxed)),
                (["after"], self.bytes_out.load(Ordering::Relaxed)),
            ],
        );
        let micros = self.micros.load(Ordering::Relaxed);
        text::one(
            out,
            "edgerouter_images_seconds_total",
            "Time that threads spent on variants of images.",
            format_args!("{}.{:06}", micros / 1_000_000, micros % 1_000_000),
        );
        for (name, help, value) in [
            (
                "edgerouter_images_passed_total",
                "Images that were passed as they are by policy (SVG, AVIF).",
                self.passed.load(Ordering::Relaxed),
            ),
            (
                "edgerouter_images_threads",
                "Threads that make variants of images.",
                threads as u64,
            ),
        ] {
            text::one(out, name, help, value);
        }
    }
}
