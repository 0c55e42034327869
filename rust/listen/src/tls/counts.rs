//! Handshakes with clients, counted by their end.

use std::sync::atomic::{AtomicU64, Ordering};

use edgerouter_telemetry::text;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

/// Results and versions, as the labels are written.
const SERIES: [(&str, &str); 7] = [
    ("full", "TLSv1.2"),
    ("full", "TLSv1.3"),
    ("resumed", "TLSv1.2"),
    ("resumed", "TLSv1.3"),
    ("failed", ""),
    ("timeout", ""),
    ("displaced", ""),
];

/// Handshakes of the process.
#[derive(Debug, Default)]
pub struct HandshakeCounts {
    ended: [AtomicU64; SERIES.len()],
    under_way: AtomicU64,
}

/// A handshake under way, until it is dropped.
pub(crate) struct Started<'a>(&'a HandshakeCounts);

impl HandshakeCounts {
    pub(crate) fn start(&self) -> Started<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Started(self)
    }

    pub(crate) fn completed(&self, session: &ServerConnection) {
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let modern = session.protocol_version() != Some(ProtocolVersion::TLSv1_2);
        self.count(usize::from(resumed) * 2 + usize::from(modern));
    }

    pub(crate) fn failed(&self) {
        self.count(4);
    }

    pub(crate) fn timed_out(&self) {
        self.count(5);
    }

    /// One that gave its place to another.
    pub(crate) fn displaced(&self) {
        self.count(6);
    }

    fn count(&self, series: usize) {
        if let Some(count) = self.ended.get(series) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes them in the format of Prometheus.
    pub fn render(&self, out: &mut String) {
        let ended = SERIES.iter().zip(&self.ended);
        text::labelled(
            out,
            "edgerouter_tls_handshakes_total",
            "TLS handshakes with clients, by result and version.",
            ["result", "version"],
            ended.map(|((result, version), count)| {
                ([*result, *version], count.load(Ordering::Relaxed))
            }),
        );
        text::one(
            out,
            "edgerouter_tls_handshakes_under_way",
            "TLS handshakes that have begun and not ended.",
            self.under_way.load(Ordering::Relaxed),
        );
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
