//! Prometheus' text format, version 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
};

use crate::upstream::OriginState;

use super::{
    Gauges, Metrics, Outcome,
    worker::{BUCKETS, Histogram},
};
use crate::store::DiskFigures;

/// A label's value, escaped.
pub(super) fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

const FAMILIES: [(&str, &str, &str); 12] = [
    (
        "refused",
        "edgerouter_refused_total",
        "Requests and connections turned away before routing, by reason.",
    ),
    (
        "gave_way",
        "edgerouter_connections_gave_way_total",
        "Idle connections that were ended so that a new one had room.",
    ),
    (
        "jwt",
        "edgerouter_jwt_total",
        "Tokens looked at, by result.",
    ),
    (
        "not_stored",
        "edgerouter_not_stored_total",
        "Responses that were not stored, by reason.",
    ),
    (
        "refresh",
        "edgerouter_refreshes_total",
        "Refreshes of stored responses that nobody waited for, by what let them be served meanwhile.",
    ),
    (
        "interim_responses",
        "edgerouter_interim_responses_total",
        "Interim responses (1xx) of origins, by whether they could be passed on to the client.",
    ),
    (
        "slices",
        "edgerouter_slice_fetches_total",
        "Fetches of slices of large objects, by how they ended.",
    ),
    (
        "prefetch",
        "edgerouter_prefetches_total",
        "Fetches that nobody had asked for, by what wanted them and by result.",
    ),
    (
        "forwarded",
        "edgerouter_cache_forwarded_total",
        "Responses that were not served from the cache, by the reason that Cache-Status gives as detail.",
    ),
    (
        "failover",
        "edgerouter_failover_total",
        "Requests that went on to the next member of a group.",
    ),
    (
        "origin",
        "edgerouter_origin_requests_total",
        "Requests to origins, by result.",
    ),
    (
        "hook",
        "edgerouter_function_calls_total",
        "Calls of hooks and functions, by result.",
    ),
];

impl Metrics {
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(16 << 10);
        self.requests(&mut out);
        self.latencies(&mut out);
        let sum = |of: fn(&super::worker::Cells) -> u64| {
            self.workers.iter().map(|cells| of(cells)).sum::<u64>()
        };
        let remembered = sum(|cells| cells.remembered.load(Ordering::Relaxed));
        let mut rare: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
        for cells in &self.workers {
            for ((family, labels), count) in &*cells.rare.lock() {
                *rare.entry((family, labels.clone())).or_default() += count.load(Ordering::Relaxed);
            }
        }
        if remembered > 0 {
            *rare
                .entry(("jwt", "result=\"remembered\"".to_owned()))
                .or_default() += remembered;
        }
        for (family, name, help) in FAMILIES {
            head(&mut out, name, "counter", help);
            for ((_, labels), count) in rare.iter().filter(|((of, _), _)| *of == family) {
                let _ = writeln!(out, "{name}{{{labels}}} {count}");
            }
        }
        for (name, kind, help, value) in [
            (
                "edgerouter_response_bytes_total",
                "counter",
                "Bytes of bodies sent to viewers.",
                sum(|c| c.bytes_out.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_connections_accepted_total",
                "counter",
                "Client connections accepted.",
                sum(|c| c.accepted.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_connections",
                "gauge",
                "Client connections open now.",
                gauges.connections,
            ),
            (
                "edgerouter_cache_bytes",
                "gauge",
                "Bytes in the memory cache.",
                gauges.cache_bytes,
            ),
            (
                "edgerouter_cache_capacity_bytes",
                "gauge",
                "Bytes that the memory cache may hold.",
                gauges.cache_capacity,
            ),
            (
                "edgerouter_cache_entries",
                "gauge",
                "Entries in the memory cache.",
                gauges.cache_entries,
            ),
            (
                "edgerouter_cache_evicted_total",
                "counter",
                "Entries evicted from the memory cache.",
                gauges.cache_evicted,
            ),
            (
                "edgerouter_fetches_in_flight",
                "gauge",
                "Shared fetches going on now.",
                gauges.flights,
            ),
            (
                "edgerouter_function_calls_waiting",
                "gauge",
                "Calls that wait for Python.",
                gauges.functions.waiting as u64,
            ),
            (
                "edgerouter_function_calls_running",
                "gauge",
                "Calls that Python is running.",
                gauges.functions.running as u64,
            ),
            (
                "edgerouter_function_threads_abandoned",
                "gauge",
                "Python threads that could not be interrupted.",
                gauges.functions.abandoned as u64,
            ),
            (
                "edgerouter_background_tasks_running",
                "gauge",
                "Things that wait_until goes on with.",
                gauges.functions.background.running as u64,
            ),
            (
                "edgerouter_plan_version",
                "gauge",
                "Version of the plan in service.",
                gauges.plan_version,
            ),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
        self.predictions(&mut out);
        type Of = fn(&OriginState) -> bool;
        for (name, help, of) in [
            (
                "edgerouter_origin_up",
                "Whether the last probe of an origin, or the last request to it, was answered.",
                (|state| state.up) as Of,
            ),
            (
                "edgerouter_origin_healthy",
                "Whether an origin is asked in its turn: 0 where it has failed too often, and is asked last.",
                |state| state.healthy,
            ),
        ] {
            head(&mut out, name, "gauge", help);
            for state in &gauges.origins {
                let origin = escaped(&state.name);
                let _ = writeln!(out, "{name}{{origin=\"{origin}\"}} {}", u8::from(of(state)));
            }
        }
        self::functions(&mut out, gauges);
        if let Some(disk) = &gauges.disk {
            disk_figures(&mut out, disk);
        }
        head(
            &mut out,
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
        out
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
            "Navigations that the next-page model was told of, or that it had no time for.",
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
            "Pages fetched as the likely next ones, and what became of them: used by a visitor in time, or wasted.",
        );
        let fetched = own.fetched.load(Ordering::Relaxed);
        for (result, count) in [("fetched", fetched), ("used", used), ("wasted", wasted)] {
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
        let name = "edgerouter_predict_wasted_bytes_total";
        head(out, name, "counter", "Bytes of the wasted ones.");
        let _ = writeln!(out, "{name} {}", own.wasted_bytes.load(Ordering::Relaxed));
        let name = "edgerouter_predict_precision";
        head(
            out,
            name,
            "gauge",
            "The part of the judged guesses that was used; not a number before the first.",
        );
        let precision = match used + wasted {
            0 => "NaN".to_owned(),
            all => format!("{}", used as f64 / all as f64),
        };
        let _ = writeln!(out, "{name} {precision}");
    }

    fn requests(&self, out: &mut String) {
        let mut counts: BTreeMap<(Arc<str>, usize, usize), u64> = self.retired.lock().clone();
        for cells in &self.workers {
            let table = Arc::clone(&cells.routes.lock());
            table.each(|label, outcome, class, count| {
                *counts
                    .entry((Arc::clone(label), outcome, class))
                    .or_default() += count;
            });
        }
        head(
            out,
            "edgerouter_requests_total",
            "counter",
            "Requests answered, by route, cache outcome and status class.",
        );
        for ((label, outcome, class), count) in counts {
            let outcome = Outcome::ALL
                .get(outcome)
                .map_or("", |outcome| outcome.as_str());
            let _ = writeln!(
                out,
                "edgerouter_requests_total{{route=\"{}\",cache=\"{outcome}\",status=\"{}xx\"}} {count}",
                escaped(&label),
                class + 1
            );
        }
    }

    fn latencies(&self, out: &mut String) {
        let name = "edgerouter_request_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "Time from a request's head to its response's head, by cache outcome.",
        );
        for outcome in Outcome::ALL {
            let all: Vec<&Histogram> = self
                .workers
                .iter()
                .filter_map(|cells| cells.latency.get(outcome as usize))
                .collect();
            histogram(out, name, &format!("cache=\"{}\"", outcome.as_str()), &all);
        }
        let name = "edgerouter_origin_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "Time from asking an origin to the head of its answer, or its failure.",
        );
        let all: Vec<&Histogram> = self
            .workers
            .iter()
            .map(|cells| &cells.origin_latency)
            .collect();
        histogram(out, name, "", &all);
    }
}

/// What functions do besides answering.
fn functions(out: &mut String, gauges: &Gauges) {
    let name = "edgerouter_function_cache_total";
    head(
        out,
        name,
        "counter",
        "Operations on the caches of functions, by result.",
    );
    for (operation, result, count) in gauges.function_caches {
        let _ = writeln!(
            out,
            "{name}{{operation=\"{operation}\",result=\"{result}\"}} {count}"
        );
    }
    let name = "edgerouter_background_tasks_total";
    head(
        out,
        name,
        "counter",
        "Things that wait_until was given, by how they ended.",
    );
    let background = gauges.functions.background;
    for (result, count) in [
        ("ok", background.finished),
        ("failed", background.failed),
        ("timed-out", background.timed_out),
        ("refused", background.refused),
    ] {
        let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
    }
}

fn disk_figures(out: &mut String, disk: &DiskFigures) {
    for (name, kind, help, value) in [
        (
            "capacity_bytes",
            "gauge",
            "Bytes that the disk cache may take.",
            disk.capacity,
        ),
        (
            "bytes",
            "gauge",
            "Bytes of all files of the disk cache.",
            disk.bytes,
        ),
        (
            "entries",
            "gauge",
            "Entries in the disk cache.",
            disk.entries,
        ),
        (
            "entry_bytes",
            "gauge",
            "Bytes of the records of these entries.",
            disk.entry_bytes,
        ),
        (
            "segments",
            "gauge",
            "Segment files of the disk cache.",
            disk.segments,
        ),
        (
            "waiting_bytes",
            "gauge",
            "Bytes of entries that wait to be written.",
            disk.waiting_bytes,
        ),
        (
            "failing",
            "gauge",
            "1 while the disk cache cannot be written.",
            u64::from(disk.failing),
        ),
        (
            "hits_total",
            "counter",
            "Entries read from disk.",
            disk.hits,
        ),
        (
            "unread_total",
            "counter",
            "Look-ups that did not wait for the disk, as too many reads were waiting or one took too long.",
            disk.unread,
        ),
        (
            "damaged_total",
            "counter",
            "Records that were damaged, and dropped.",
            disk.damaged,
        ),
        (
            "written_total",
            "counter",
            "Entries written to disk.",
            disk.written,
        ),
        (
            "written_bytes_total",
            "counter",
            "Bytes of entries written to disk.",
            disk.written_bytes,
        ),
        (
            "dropped_total",
            "counter",
            "Entries kept in memory only, as the queue was full, the disk could not be written, or they were too large for it.",
            disk.dropped,
        ),
        (
            "evicted_total",
            "counter",
            "Entries evicted from the disk cache.",
            disk.evicted,
        ),
        (
            "errors_total",
            "counter",
            "Failures to write to the disk cache.",
            disk.errors,
        ),
    ] {
        let name = format!("edgerouter_disk_{name}");
        head(out, &name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, all: &[&Histogram]) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for index in 0..=BUCKETS.len() {
        total += all
            .iter()
            .filter_map(|one| one.buckets.get(index))
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum::<u64>();
        let bound = BUCKETS.get(index).map_or_else(
            || "+Inf".to_owned(),
            |&micros| format!("{}", micros as f64 / 1e6),
        );
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"
        );
    }
    let micros: u64 = all
        .iter()
        .map(|one| one.micros.load(Ordering::Relaxed))
        .sum();
    let braces = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let _ = writeln!(out, "{name}_sum{braces} {}", micros as f64 / 1e6);
    let _ = writeln!(out, "{name}_count{braces} {total}");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
