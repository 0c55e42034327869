//! The counters as metrics.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Metrics, Outcome,
    text::{self, escaped, head},
    worker::{BUCKETS, Histogram},
};

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
    /// `connections`: those of clients that are open. `plan_version`: of the plan in service.
    pub fn render(&self, out: &mut String, connections: u64, plan_version: u64) {
        self.requests(out);
        self.latencies(out);
        let sum = |of: fn(&super::worker::Cells) -> u64| {
            self.workers.iter().map(|cells| of(cells)).sum::<u64>()
        };
        let remembered = sum(|cells| cells.remembered.load(Ordering::Relaxed));
        let mut rare: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
        for cells in &self.workers {
            for ((family, labels), count) in &*cells.rare.lock() {
                *rare.entry((family, labels.clone())).or_default() += count.load(Ordering::Relaxed);
            }
            let mut add = |family, word, count| {
                *rare
                    .entry((family, format!("reason=\"{word}\"")))
                    .or_default() += count;
            };
            cells
                .refused
                .each(|word, count| add("refused", word, count));
            let details = [
                ("forwarded", &cells.forwarded),
                ("not_stored", &cells.not_stored),
                ("refresh", &cells.refreshed),
            ];
            for (family, counts) in details {
                counts.each(|word, count| add(family, word, count));
            }
        }
        if remembered > 0 {
            *rare
                .entry(("jwt", "result=\"remembered\"".to_owned()))
                .or_default() += remembered;
        }
        for (family, name, help) in FAMILIES {
            head(out, name, "counter", help);
            for ((_, labels), count) in rare.iter().filter(|((of, _), _)| *of == family) {
                let _ = writeln!(out, "{name}{{{labels}}} {count}");
            }
        }
        for (name, help, value) in [
            (
                "edgerouter_response_bytes_total",
                "Bytes of bodies sent to viewers.",
                sum(|c| c.bytes_out.load(Ordering::Relaxed)),
            ),
            (
                "edgerouter_connections_accepted_total",
                "Client connections accepted.",
                sum(|c| c.accepted.load(Ordering::Relaxed)),
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
