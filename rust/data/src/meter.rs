//! The counts of a binding, as metrics.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_telemetry::text::{self, DurationSamples};

use crate::{
    clock::millis,
    error::{DataError, RESULTS},
    sql::{
        bookmark::Bookmarks,
        replicas::{ENDS, Facts},
    },
};

/// Names of operations, as labels.
pub(crate) const OPERATIONS: [&str; 7] = ["get", "put", "delete", "list", "add", "query", "batch"];
/// The operations of each kind of binding.
pub(crate) const KV: Range<usize> = 0..5;
pub(crate) const DATABASE: Range<usize> = 5..7;
pub(crate) const DOCUMENTS: Range<usize> = 0..4;
/// Upper bounds in microseconds.
const BUCKETS: [u64; 9] = [
    50, 200, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 10_000_000,
];

/// Milliseconds without a failure after which an engine counts as reached again in the log.
const SETTLED: u64 = 1_000;

/// The counts of one binding.
#[derive(Debug)]
pub(crate) struct Meter {
    operations: [[AtomicU64; RESULTS.len()]; OPERATIONS.len()],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    /// The last operation reached the engine.
    up: AtomicBool,
    /// The log says that the engine is out of reach.
    out: AtomicBool,
    /// When an operation last found it so, in milliseconds since `began`.
    failed: AtomicU64,
    began: Instant,
    pub(crate) under_way: AtomicUsize,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            operations: Default::default(),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
            up: AtomicBool::new(true),
            out: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            began: Instant::now(),
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

    /// Notes that the engine was not reached. True if that is news.
    pub(crate) fn failed(&self) -> bool {
        self.up.store(false, Ordering::Release);
        self.failed.store(self.millis(), Ordering::Release);
        !self.out.swap(true, Ordering::AcqRel)
    }

    /// Notes that the engine was reached. True if that is news: for a while no operation has found it out of reach.
    /// Where some connections work and others do not, each operation would be news otherwise.
    pub(crate) fn reached(&self) -> bool {
        self.up.store(true, Ordering::Release);
        self.out.load(Ordering::Acquire)
            && self
                .millis()
                .saturating_sub(self.failed.load(Ordering::Acquire))
                >= SETTLED
            && self.out.swap(false, Ordering::AcqRel)
    }

    fn millis(&self) -> u64 {
        millis(self.began.elapsed())
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

impl Metered<'_> {
    /// The count of each operation by its result. The result of a right operation is there from the start.
    fn results(&self) -> impl Iterator<Item = ([&str; 4], u64)> {
        let all = OPERATIONS.iter().zip(&self.meter.operations);
        let own = all.skip(self.operations.start).take(self.operations.len());
        own.flat_map(move |(operation, cells)| {
            let counts = RESULTS.iter().zip(cells);
            counts.map(move |(result, cell)| {
                let count = cell.load(Ordering::Relaxed);
                ([self.name, self.kind, operation, result], count)
            })
        })
        .filter(|([.., result], count)| *count > 0 || *result == "ok")
    }
}

pub(crate) fn render(all: &[Metered<'_>], out: &mut String) {
    let each = || all.iter().map(|it| ([it.name, it.kind], it.meter));
    text::labelled(
        out,
        "edgerouter_binding_up",
        "1 if the file or server of a binding was reached the last time.",
        ["binding", "kind"],
        each().map(|(of, meter)| (of, u8::from(meter.up.load(Ordering::Acquire)))),
    );
    text::labelled(
        out,
        "edgerouter_binding_operations_under_way",
        "Operations of a binding in progress.",
        ["binding", "kind"],
        each().map(|(of, meter)| (of, meter.under_way.load(Ordering::Relaxed))),
    );
    text::labelled(
        out,
        "edgerouter_binding_operations_total",
        "Operations of a binding, by result.",
        ["binding", "kind", "operation", "result"],
        all.iter().flat_map(Metered::results),
    );
    let name = "edgerouter_binding_duration_seconds";
    let help = "Time of an operation that a file or server did.";
    text::head(out, name, "histogram", help);
    for it in all {
        let labels = format!("binding=\"{}\",kind=\"{}\"", it.name, it.kind);
        let counts = (it.meter.buckets.each_ref()).map(|cell| cell.load(Ordering::Relaxed));
        let samples = DurationSamples {
            bounds: &BUCKETS,
            counts: &counts,
            micros: it.meter.micros.load(Ordering::Relaxed),
        };
        samples.write(out, name, &labels);
    }
    let reads = all.iter().filter_map(|it| Some((it.name, it.cache?)));
    text::labelled(
        out,
        "edgerouter_binding_cache_total",
        "Reads of a key-value store by its read cache.",
        ["binding", "result"],
        reads.flat_map(|(name, (hits, misses))| [([name, "hit"], hits), ([name, "miss"], misses)]),
    );
    render_replicas(all, out);
}

fn render_replicas(all: &[Metered<'_>], out: &mut String) {
    let reports: Vec<_> = all
        .iter()
        .filter_map(|it| Some((it.name, it.replicas?.report())))
        .collect();
    let each = || {
        reports.iter().flat_map(|(name, report)| {
            let numbered = (1..).zip(report);
            numbered
                .map(move |(number, it): (usize, _)| ([(*name).to_owned(), number.to_string()], it))
        })
    };
    text::labelled(
        out,
        "edgerouter_binding_replica_up",
        "1 if a replica of a database was reached the last time.",
        ["binding", "replica"],
        each().map(|(of, it)| (of, u8::from(it.up))),
    );
    text::labelled(
        out,
        "edgerouter_binding_replica_delay_seconds",
        "Time by which a replica of a database may be behind its primary.",
        ["binding", "replica"],
        each().filter_map(|(of, it)| Some((of, it.delay?.as_secs_f64()))),
    );
    text::labelled(
        out,
        "edgerouter_binding_replica_latency_seconds",
        "Time of a question to a replica of a database and its answer.",
        ["binding", "replica"],
        each().filter_map(|(of, it)| Some((of, it.latency?.as_secs_f64()))),
    );
    text::labelled(
        out,
        "edgerouter_binding_replica_reads_total",
        "Reads for which a replica of a database was chosen; the primary answers those that are not ok.",
        ["binding", "replica", "result"],
        each().flat_map(|([binding, number], it)| {
            let ends = ENDS.iter().zip(it.ends);
            ends.map(move |(end, count)| {
                ([binding.clone(), number.clone(), (*end).to_owned()], count)
            })
        }),
    );
    text::labelled(
        out,
        "edgerouter_binding_bookmarks_refused_total",
        "Texts for sessions that are no bookmarks of the binding.",
        ["binding"],
        (all.iter()).filter_map(|it| Some(([it.name], it.bookmarks?.refused()))),
    );
}
