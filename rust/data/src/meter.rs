//! The counts of a binding, as metrics.

use std::{
    fmt::Write as _,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use edgerouter_telemetry::text;

use crate::{
    error::{DataError, RESULTS},
    sql::{
        bookmark::Bookmarks,
        replicas::{ENDS, Facts},
    },
};

/// Names of operations, as labels.
pub(crate) const OPERATIONS: [&str; 7] = ["get", "put", "delete", "list", "add", "query", "batch"];
/// Those of each kind of binding.
pub(crate) const KV: Range<usize> = 0..5;
pub(crate) const DATABASE: Range<usize> = 5..7;
pub(crate) const DOCUMENTS: Range<usize> = 0..4;
/// Upper bounds in microseconds.
const BUCKETS: [u64; 9] = [
    50, 200, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 10_000_000,
];

/// The counts of one binding.
#[derive(Debug)]
pub(crate) struct Meter {
    operations: [[AtomicU64; RESULTS.len()]; OPERATIONS.len()],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    /// The last operation reached the engine.
    up: AtomicBool,
    pub(crate) under_way: AtomicUsize,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            operations: Default::default(),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
            up: AtomicBool::new(true),
            under_way: AtomicUsize::new(0),
        }
    }
}

impl Meter {
    /// Counts an operation that has ended. `took`: `None` where no engine was needed.
    pub(crate) fn count(
        &self,
        operation: usize,
        error: Option<&DataError>,
        took: Option<Duration>,
    ) {
        let result = error.map_or(0, DataError::label);
        let cell = self.operations.get(operation);
        if let Some(cell) = cell.and_then(|results| results.get(result)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        let Some(took) = took else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|&most| micros <= most);
        if let Some(cell) = self.buckets.get(bucket.unwrap_or(BUCKETS.len())) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Notes that the engine was reached, or was not. True if that is news.
    pub(crate) fn reached(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::AcqRel) != up
    }
}

/// A binding in the metrics.
pub(crate) struct Metered<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) meter: &'a Meter,
    /// Among [`OPERATIONS`].
    pub(crate) operations: Range<usize>,
    pub(crate) cache: Option<(u64, u64)>,
    pub(crate) replicas: Option<&'a Arc<Facts>>,
    pub(crate) bookmarks: Option<&'a Arc<Bookmarks>>,
}

pub(crate) fn render(all: &[Metered<'_>], out: &mut String) {
    let labels = |it: &Metered<'_>| format!("binding=\"{}\",kind=\"{}\"", it.name, it.kind);
    let name = "edgerouter_binding_up";
    let help = "1 if the file or server of a binding was reached the last time.";
    text::head(out, name, "gauge", help);
    for it in all {
        let up = u8::from(it.meter.up.load(Ordering::Acquire));
        let _ = writeln!(out, "{name}{{{}}} {up}", labels(it));
    }
    let name = "edgerouter_binding_operations_under_way";
    text::head(out, name, "gauge", "Operations of a binding in progress.");
    for it in all {
        let count = it.meter.under_way.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}{{{}}} {count}", labels(it));
    }
    let name = "edgerouter_binding_operations_total";
    text::head(out, name, "counter", "Operations of a binding, by result.");
    for it in all {
        let own = &it.operations;
        let all = OPERATIONS.iter().zip(&it.meter.operations);
        for (operation, results) in all.skip(own.start).take(own.len()) {
            for (result, cell) in RESULTS.iter().zip(results) {
                let count = cell.load(Ordering::Relaxed);
                // The result of a right operation is there from the start.
                if count > 0 || *result == "ok" {
                    let _ = writeln!(
                        out,
                        "{name}{{{},operation=\"{operation}\",result=\"{result}\"}} {count}",
                        labels(it)
                    );
                }
            }
        }
    }
    let name = "edgerouter_binding_duration_seconds";
    let help = "Time of an operation that a file or server did.";
    text::head(out, name, "histogram", help);
    for it in all {
        let (labels, mut total) = (labels(it), 0);
        for (at, cell) in it.meter.buckets.iter().enumerate() {
            total += cell.load(Ordering::Relaxed);
            let bound = BUCKETS.get(at).map_or_else(
                || "+Inf".to_owned(),
                |&most| (most as f64 / 1e6).to_string(),
            );
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let seconds = it.meter.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {total}"
        );
    }
    let name = "edgerouter_binding_cache_total";
    let help = "Reads of a key-value store by its read cache.";
    text::head(out, name, "counter", help);
    for it in all {
        if let Some((hits, misses)) = it.cache {
            let name_of = it.name;
            let _ = writeln!(out, "{name}{{binding=\"{name_of}\",result=\"hit\"}} {hits}");
            let _ = writeln!(
                out,
                "{name}{{binding=\"{name_of}\",result=\"miss\"}} {misses}"
            );
        }
    }
    render_replicas(all, out);
}

fn render_replicas(all: &[Metered<'_>], out: &mut String) {
    let reports: Vec<_> = all
        .iter()
        .filter_map(|it| Some((it.name, it.replicas?.report())))
        .collect();
    let each = reports.iter().flat_map(|(name, report)| {
        report
            .iter()
            .enumerate()
            .map(move |(at, it)| (name, at + 1, it))
    });
    let name = "edgerouter_binding_replica_up";
    let help = "1 if a replica of a database was reached the last time.";
    text::head(out, name, "gauge", help);
    for (binding, number, it) in each.clone() {
        let up = u8::from(it.up);
        let _ = writeln!(
            out,
            "{name}{{binding=\"{binding}\",replica=\"{number}\"}} {up}"
        );
    }
    let name = "edgerouter_binding_replica_delay_seconds";
    let help = "Time by which a replica of a database may be behind its primary.";
    text::head(out, name, "gauge", help);
    for (binding, number, it) in each.clone() {
        if let Some(delay) = it.delay.map(|it| it.as_secs_f64()) {
            let _ = writeln!(
                out,
                "{name}{{binding=\"{binding}\",replica=\"{number}\"}} {delay}"
            );
        }
    }
    let name = "edgerouter_binding_replica_latency_seconds";
    let help = "Time of a question to a replica of a database and its answer.";
    text::head(out, name, "gauge", help);
    for (binding, number, it) in each.clone() {
        if let Some(latency) = it.latency.map(|it| it.as_secs_f64()) {
            let _ = writeln!(
                out,
                "{name}{{binding=\"{binding}\",replica=\"{number}\"}} {latency}"
            );
        }
    }
    let name = "edgerouter_binding_replica_reads_total";
    let help = "Reads for which a replica of a database was chosen; the primary answers those that are not ok.";
    text::head(out, name, "counter", help);
    for (binding, number, it) in each {
        for (end, count) in ENDS.iter().zip(it.ends) {
            let _ = writeln!(
                out,
                "{name}{{binding=\"{binding}\",replica=\"{number}\",result=\"{end}\"}} {count}"
            );
        }
    }
    let name = "edgerouter_binding_bookmarks_refused_total";
    let help = "Texts for sessions that are no bookmarks of the binding.";
    text::head(out, name, "counter", help);
    for it in all {
        if let Some(bookmarks) = it.bookmarks {
            let _ = writeln!(
                out,
                "{name}{{binding=\"{}\"}} {}",
                it.name,
                bookmarks.refused()
            );
        }
    }
}
