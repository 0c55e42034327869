//! The counters as metrics.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use super::{
    Metrics, Outcome,
    family::{About, Counts, FAMILIES, Family},
    histogram::Durations,
    text::{self, head},
};

impl Metrics {
    /// `connections`: those of clients that are open. `plan_version`: of the plan in service. `exemplars`: latencies
    /// name traces, which the text of Prometheus cannot.
    pub fn render(
        &self,
        out: &mut String,
        (connections, plan_version): (u64, u64),
        exemplars: bool,
    ) {
        let counts = self.counts();
        family(out, &counts, Family::Requests as usize);
        self.latencies(out, exemplars);
        for index in Family::Requests as usize + 1..FAMILIES.len() {
            family(out, &counts, index);
        }
        let sum = |of: fn(&super::worker::Cells) -> u64| {
            self.workers.iter().map(|cells| of(cells)).sum::<u64>()
        };
        for (name, help, value) in [
            (
                "edgerouter_connections_accepted_total",
                "Client connections accepted.",
                sum(|c| c.accepted.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_http2_connections_total",
                "Client connections that speak HTTP/2.",
                sum(|c| c.http2_connections.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_http2_requests_total",
                "Requests of clients by HTTP/2.",
                sum(|c| c.http2_requests.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_connections",
                "Client connections open now.",
                connections,
            ),
            (
                "edgerouter_plan_version",
                "Version of the plan in service.",
                plan_version,
            ),
        ] {
            text::one(out, name, help, value);
        }
        text::labelled(
            out,
            "edgerouter_build_info",
            "1, with the version of the edge.",
            ["version"],
            [([env!("CARGO_PKG_VERSION")], 1)],
        );
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        text::one(
            out,
            "edgerouter_start_time_seconds",
            "When the edge was started, in Unix seconds.",
            format_args!("{:.3}", since.as_secs_f64()),
        );
        self.predictions(out);
        let count = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        text::labelled(
            out,
            "edgerouter_reloads_total",
            "Reloads of the plan, by result.",
            ["result"],
            [
                (["ok"], count(&self.reloads_ok)),
                (["refused"], count(&self.reloads_failed)),
            ],
        );
    }

    fn predictions(&self, out: &mut String) {
        let own = &self.predictions;
        let count = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (used, wasted) = (count(&own.used), count(&own.wasted));
        text::labelled(
            out,
            "edgerouter_predict_navigations_total",
            "Navigations that the next-page model learned from, or dropped.",
            ["result"],
            [
                (["learnt"], count(&own.learnt)),
                (["dropped"], count(&own.dropped)),
            ],
        );
        text::labelled(
            out,
            "edgerouter_predict_pages_total",
            "Predicted pages that were fetched, and then used by a visitor in time or wasted.",
            ["result"],
            [
                (["fetched"], count(&own.fetched)),
                (["used"], used),
                (["wasted"], wasted),
            ],
        );
        text::one(
            out,
            "edgerouter_predict_wasted_bytes_total",
            "Bytes of the wasted pages.",
            count(&own.wasted_bytes),
        );
        // NaN before the first result.
        let precision = used as f64 / (used + wasted) as f64;
        text::one(
            out,
            "edgerouter_predict_precision",
            "Share of the predicted pages that was used; NaN before the first result.",
            precision,
        );
    }

    /// Of all workers, and of all plans that have been in service.
    pub(super) fn counts(&self) -> Counts {
        // Held until the end: a table that a worker retires meanwhile is neither left out nor counted twice.
        let retired = self.retired.lock();
        let mut counts = retired.clone();
        for cells in &self.workers {
            for tables in cells.tables.lock().iter() {
                tables.sum(&mut counts);
            }
        }
        counts
    }

    fn latencies(&self, out: &mut String, exemplars: bool) {
        let name = "edgerouter_request_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "Time from a request's head to its response's head, by cache outcome.",
        );
        for outcome in Outcome::ALL {
            let mut sum = Durations::default();
            let workers = self.workers.iter();
            for histogram in workers.filter_map(|cells| cells.latency.get(outcome as usize)) {
                sum.add(histogram);
            }
            let labels = format!("cache=\"{}\"", outcome.as_str());
            sum.samples().write_with(out, name, &labels, |bucket| {
                let place = (outcome as usize, bucket);
                let found = self.workers.iter().filter(|_| exemplars);
                let found = found.filter_map(|cells| cells.exemplars.lock().get(&place).copied());
                found.max_by_key(|exemplar| exemplar.at)
            });
        }
    }
}

/// Requests in the order of the words, the others in that of their text.
fn family(out: &mut String, counts: &Counts, index: usize) {
    let Some(about) = FAMILIES.get(index) else {
        return;
    };
    if about.is_histogram() {
        return histograms(out, counts, index, about);
    }
    head(out, about.name, "counter", about.help);
    let mut lines: Vec<_> = counts
        .iter()
        .filter(|((family, ..), _)| *family == index)
        .map(|((_, row, column), count)| (about.labels(row, *column), count))
        .collect();
    if index != Family::Requests as usize {
        lines.sort();
    }
    for (labels, count) in lines {
        let _ = writeln!(out, "{}{{{labels}}} {count}", about.name);
    }
}

/// A histogram for each row that has one.
fn histograms(out: &mut String, counts: &Counts, index: usize, about: &About) {
    head(out, about.name, "histogram", about.help);
    let mut rows: BTreeMap<&str, Durations> = BTreeMap::new();
    for ((_, row, column), count) in counts.iter().filter(|((family, ..), _)| *family == index) {
        rows.entry(row).or_default().add_column(*column, *count);
    }
    for (row, durations) in rows {
        durations
            .samples()
            .write(out, about.name, &about.labels(row, 0));
    }
}
