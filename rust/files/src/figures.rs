//! Counters of files.

use std::sync::atomic::{AtomicU64, Ordering};

use edgerouter_telemetry::text;

use super::FileTrouble;

const REASONS: [(FileTrouble, &str); 6] = [
    (FileTrouble::Busy, "busy"),
    (FileTrouble::Descriptors, "descriptors"),
    (FileTrouble::TimedOut, "timeout"),
    (FileTrouble::Memory, "memory"),
    (FileTrouble::Changed, "changed"),
    (FileTrouble::Unreadable, "unreadable"),
];

#[derive(Debug, Default)]
pub(crate) struct Figures {
    bytes: AtomicU64,
    sent: AtomicU64,
    failed: [AtomicU64; REASONS.len()],
}

impl Figures {
    pub(crate) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, trouble: FileTrouble) {
        for ((known, _), counter) in REASONS.iter().zip(&self.failed) {
            if *known == trouble {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn render(&self, open: usize, threads: usize, out: &mut String) {
        for (name, help, value) in [
            (
                "edgerouter_files_open",
                "Files of routes that are open.",
                open as u64,
            ),
            (
                "edgerouter_files_threads",
                "Threads that open and read files.",
                threads as u64,
            ),
            (
                "edgerouter_files_read_bytes_total",
                "Bytes read from files of routes.",
                self.bytes.load(Ordering::Relaxed),
            ),
            (
                "edgerouter_files_sent_bytes_total",
                "Bytes that the kernel sent from files of routes without a copy.",
                self.sent.load(Ordering::Relaxed),
            ),
        ] {
            text::one(out, name, help, value);
        }
        let failed = REASONS.iter().zip(&self.failed);
        text::labelled(
            out,
            "edgerouter_files_failed_total",
            "Files that could not be opened or read, by reason.",
            ["reason"],
            failed.map(|((_, reason), count)| ([*reason], count.load(Ordering::Relaxed))),
        );
    }
}
