//! The counters as metrics.

use std::{collections::BTreeMap, fmt::Write as _, sync::atomic::Ordering, time::UNIX_EPOCH};

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
        let name = "edgerouter_build_info";
        head(out, name, "gauge", "1, with the version of the edge.");
        let _ = writeln!(out, "{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        let name = "edgerouter_start_time_seconds";
        head(
            out,
            name,
            "gauge",
            "When the edge was started, in Unix seconds.",
        );
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = writeln!(out, "{name} {:.3}", since.as_secs_f64());
        self.predictions(out);
        head(
            out,
            "edgerouter_reloads_total",
            "counter",
            "Reloads of the plan, by result.",
        );
        for (result, count) in [("ok", &self.reloads_ok), ("refused", &self.reloads_failed)] {
            let _ = writeln!(
                out,
                "edgerouter_reloads_total{{result=\"{result}\"}} {}",
                count.load(Ordering::Relaxed)
            );
        }
    }

    fn predictions(&self, out: &mut String) {
        let own = &self.predictions;
        let (used, wasted) = (
            own.used.load(Ordering::Relaxed),
            own.wasted.load(Ordering::Relaxed),
        );
        let name = "edgerouter_predict_navigations_total";
        head(
            out,
            name,
            "counter",
            "Navigations that the next-page model learned from, or dropped.",
        );
        for (result, cell) in [("learnt", &own.learnt), ("dropped", &own.dropped)] {
            let count = cell.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
        let name = "edgerouter_predict_pages_total";
        head(
            out,
            name,
            "counter",
            "Predicted pages that were fetched, and then used by a visitor in time or wasted.",
        );
        let fetched = own.fetched.load(Ordering::Relaxed);
        for (result, count) in [("fetched", fetched), ("used", used), ("wasted", wasted)] {
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
        let name = "edgerouter_predict_wasted_bytes_total";
        let bytes = own.wasted_bytes.load(Ordering::Relaxed);
        text::one(out, name, "Bytes of the wasted pages.", bytes);
        let name = "edgerouter_predict_precision";
        head(
            out,
            name,
            "gauge",
            "Share of the predicted pages that was used; NaN before the first result.",
        );
        let precision = match used + wasted {
            0 => "NaN".to_owned(),
            all => format!("{}", used as f64 / all as f64),
        };
        let _ = writeln!(out, "{name} {precision}");
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
