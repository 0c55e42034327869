//! Families of counters, and their tables: arrays that the closed sets of labels index, formatted for a scrape only.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use edgerouter_core::{
    admit::Refusal,
    geo::Country,
    guard::{basic::BasicRefusal, signed::SignatureRefusal},
    http::h2::flood::Flood,
    identity::jwt::TokenError,
    outcome::{
        CallResult, Detail, Outcome, PasswordResult, Phase, PrefetchResult, PrefetchSource, RunEnd,
        TokenResult, Word,
    },
    plan::Plan,
    transform::Untransformed,
};

use super::{
    histogram::{BUCKETS, add, bucket},
    text::escaped,
};

/// Reasons for refusals before a route is known, after those of [`Refusal`].
pub(super) const REFUSED: [&str; 6] = [
    "too-many-connections",
    "client-connections",
    "client-requests",
    "no-memory",
    "proxy-protocol",
    "slow-reader",
];
/// Classes of status codes.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Requests that met a rate limit.
pub(super) const RATES: [&str; 3] = ["passed", "delayed", "refused"];
/// Interim responses, by whether they could be passed on.
pub(super) const INTERIM: [&str; 2] = ["dropped", "passed"];

/// Positions in [`FAMILIES`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    Requests,
    Refused,
    GaveWay,
    Jwt,
    Signed,
    Rates,
    Passwords,
    NotStored,
    Refreshed,
    Interim,
    Slices,
    Prefetch,
    Forwarded,
    Failover,
    Origin,
    Calls,
    Transforms,
    ResponseBytes,
    CountryBytes,
    RouteOriginBytes,
    OriginBytes,
    RouteDuration,
    OriginDuration,
    CallDuration,
}

/// Name, help and labels of a family.
pub(super) struct About {
    pub name: &'static str,
    pub help: &'static str,
    /// The label whose values a plan names, and those names.
    rows: Rows,
    /// The other labels, each with the lists of its words.
    words: &'static [(&'static str, &'static [&'static [&'static str]])],
}

/// The label of a family whose rows are the plan's routes, origins or callables.
type Rows = Option<(&'static str, fn(&Plan) -> Vec<Arc<str>>)>;

const BY_ROUTE: Rows = Some(("route", |plan| {
    let routes = plan.routes.iter();
    routes.map(|one| Arc::clone(&one.label)).collect()
}));
const BY_ORIGIN: Rows = Some(("origin", |plan| {
    let origins = plan.origins.iter();
    origins.map(|one| Arc::clone(&one.name)).collect()
}));
const BY_CALLABLE: Rows = Some(("callable", |plan| {
    let callables = plan.callables.iter();
    callables.map(|one| Arc::clone(&one.name)).collect()
}));

/// Columns of a histogram: one for each bucket, that of larger values, and the sum.
pub(super) const HISTOGRAM: usize = BUCKETS.len() + 2;
/// The column of the sum in microseconds.
pub(super) const SUM: usize = HISTOGRAM - 1;

/// All families, in the order of [`Family`] and of a scrape.
pub(super) const FAMILIES: [About; Family::CallDuration as usize + 1] = [
    About {
        name: "edgerouter_requests_total",
        help: "Requests answered, by route, cache outcome and status class.",
        rows: BY_ROUTE,
        words: &[("cache", &[Outcome::WORDS]), ("status", &[&CLASSES])],
    },
    About {
        name: "edgerouter_refused_total",
        help: "Requests and connections that were refused before routing, by reason.",
        rows: None,
        words: &[("reason", &[Refusal::WORDS, &REFUSED, Flood::WORDS])],
    },
    About {
        name: "edgerouter_connections_gave_way_total",
        help: "Idle connections that were closed for a new one.",
        rows: None,
        words: &[],
    },
    About {
        name: "edgerouter_jwt_total",
        help: "Tokens, by result of the verification.",
        rows: None,
        words: &[("result", &[TokenResult::WORDS, TokenError::WORDS])],
    },
    About {
        name: "edgerouter_signed_urls_total",
        help: "Signatures of URLs and cookies, by result of the verification.",
        rows: None,
        words: &[("result", &[&["verified"], SignatureRefusal::WORDS])],
    },
    About {
        name: "edgerouter_rate_limit_requests_total",
        help: "Requests that met a rate limit, by what became of them.",
        rows: Some(("limit", |plan| {
            let limits = plan.guard.limits.iter();
            limits.map(|one| Arc::from(&*one.name)).collect()
        })),
        words: &[("result", &[&RATES])],
    },
    About {
        name: "edgerouter_passwords_total",
        help: "Passwords of Basic authentication, by result.",
        rows: None,
        words: &[("result", &[PasswordResult::WORDS, BasicRefusal::WORDS])],
    },
    About {
        name: "edgerouter_not_stored_total",
        help: "Responses that were not stored, by reason.",
        rows: None,
        words: &[("reason", &[Detail::WORDS])],
    },
    About {
        name: "edgerouter_refreshes_total",
        help: "Background refreshes of stored responses, by the rule that allowed a stale response meanwhile.",
        rows: None,
        words: &[("reason", &[Detail::WORDS])],
    },
    About {
        name: "edgerouter_interim_responses_total",
        help: "Interim responses (1xx) of origins and functions that were passed on to the client or dropped.",
        rows: None,
        words: &[("result", &[&INTERIM])],
    },
    About {
        name: "edgerouter_slice_fetches_total",
        help: "Fetches of slices of large objects, by result.",
        rows: None,
        words: &[("result", &[RunEnd::WORDS])],
    },
    About {
        name: "edgerouter_prefetches_total",
        help: "Prefetches, by source and result.",
        rows: None,
        words: &[
            ("source", &[PrefetchSource::WORDS]),
            ("result", &[PrefetchResult::WORDS]),
        ],
    },
    About {
        name: "edgerouter_cache_forwarded_total",
        help: "Responses that were not served from the cache, by the detail of Cache-Status.",
        rows: None,
        words: &[("reason", &[Detail::WORDS])],
    },
    About {
        name: "edgerouter_failover_total",
        help: "Requests that continued with the next member of a group.",
        rows: Some(("group", |plan| {
            plan.groups
                .iter()
                .map(|one| Arc::clone(&one.name))
                .collect()
        })),
        words: &[],
    },
    About {
        name: "edgerouter_origin_requests_total",
        help: "Requests to origins, by result.",
        rows: BY_ORIGIN,
        words: &[("result", &[&CLASSES, Detail::WORDS])],
    },
    About {
        name: "edgerouter_function_calls_total",
        help: "Calls of hooks and functions, by result.",
        rows: BY_CALLABLE,
        words: &[("phase", &[Phase::WORDS]), ("result", &[CallResult::WORDS])],
    },
    About {
        name: "edgerouter_transforms_total",
        help: "Responses that hooks transform, and those whose content passed as it was, by reason.",
        rows: BY_CALLABLE,
        words: &[("result", &[&["begun"], Untransformed::WORDS])],
    },
    About {
        name: "edgerouter_response_bytes_total",
        help: "Bytes of bodies sent to viewers, by route.",
        rows: BY_ROUTE,
        words: &[],
    },
    About {
        name: "edgerouter_country_response_bytes_total",
        help: "Bytes of bodies sent to viewers, by country; empty where it is not known.",
        rows: Some(("country", |plan| {
            let counted = plan.geo.as_ref().filter(|geo| geo.count_countries);
            let codes = counted.into_iter().flat_map(|_| Country::codes());
            codes.map(|code| Arc::from(code.as_str())).collect()
        })),
        words: &[],
    },
    About {
        name: "edgerouter_route_origin_bytes_total",
        help: "Bytes of bodies that origins sent, by route.",
        rows: BY_ROUTE,
        words: &[],
    },
    About {
        name: "edgerouter_origin_response_bytes_total",
        help: "Bytes of bodies that origins sent, by origin.",
        rows: BY_ORIGIN,
        words: &[],
    },
    About {
        name: "edgerouter_route_duration_seconds",
        help: "Time from a request's head to its response's head, by route.",
        rows: BY_ROUTE,
        words: &[],
    },
    About {
        name: "edgerouter_origin_duration_seconds",
        help: "Time from a request to an origin to the head of its response, or its failure.",
        rows: BY_ORIGIN,
        words: &[],
    },
    About {
        name: "edgerouter_function_duration_seconds",
        help: "Time from the call of a hook or function to its end, with its time in the queue.",
        rows: BY_CALLABLE,
        words: &[],
    },
];

impl About {
    /// Durations are named by their unit; everything else here is a counter.
    pub(super) fn is_histogram(&self) -> bool {
        self.name.ends_with("_seconds")
    }

    fn columns(&self) -> usize {
        if self.is_histogram() {
            return HISTOGRAM;
        }
        let lengths = self.words.iter().map(|(_, words)| words.concat().len());
        lengths.product()
    }

    /// The labels of a cell, as a scrape prints them.
    pub(super) fn labels(&self, row: &str, mut column: usize) -> String {
        let mut labels = Vec::new();
        for (label, words) in self.words.iter().rev() {
            let words = words.concat();
            let word = words.get(column % words.len()).copied();
            labels.push(format!("{label}=\"{}\"", word.unwrap_or_default()));
            column /= words.len();
        }
        if let Some((label, _)) = self.rows {
            labels.push(format!("{label}=\"{}\"", escaped(row)));
        }
        labels.reverse();
        labels.join(",")
    }
}

/// Counts by family, name in the plan, and column.
pub(super) type Counts = BTreeMap<(usize, Arc<str>, usize), u64>;

/// The counters of a family for one plan: a row for each name, and after them one for none.
#[derive(Debug)]
struct Table {
    names: Vec<Arc<str>>,
    columns: usize,
    cells: Vec<AtomicU64>,
}

/// The counters of all families for one plan.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<Table>);

impl Tables {
    pub(super) fn new(plan: &Plan) -> Self {
        let tables = FAMILIES.iter().map(|about| {
            let mut names = about.rows.map_or_else(Vec::new, |(_, names)| names(plan));
            names.push(Arc::from(""));
            let columns = about.columns();
            let cells = (0..names.len() * columns).map(|_| AtomicU64::new(0));
            Table {
                columns,
                cells: cells.collect(),
                names,
            }
        });
        Self(tables.collect())
    }

    /// Counts one. Without a row: one for what belongs to no name of the plan.
    pub(super) fn note(&self, family: Family, row: Option<u32>, column: usize) {
        self.note_all(family, row, [(column, 1)]);
    }

    /// Counts a duration in its bucket and in the sum.
    pub(super) fn note_duration(&self, family: Family, row: Option<u32>, micros: u64) {
        self.note_all(family, row, [(bucket(micros), 1), (SUM, micros)]);
    }

    /// Adds to cells of one row.
    pub(super) fn note_all<const N: usize>(
        &self,
        family: Family,
        row: Option<u32>,
        counts: [(usize, u64); N],
    ) {
        let Some(table) = self.0.get(family as usize) else {
            return;
        };
        let none = table.names.len() - 1;
        let row = row.map_or(none, |row| (row as usize).min(none));
        for (column, count) in counts {
            if let Some(cell) = table.cells.get(row * table.columns + column) {
                add(cell, count);
            }
        }
    }

    /// Adds every cell that is not zero.
    pub(super) fn sum(&self, counts: &mut Counts) {
        for (family, table) in self.0.iter().enumerate() {
            for (index, cell) in table.cells.iter().enumerate() {
                let count = cell.load(Ordering::Relaxed);
                if count > 0
                    && let Some(name) = table.names.get(index / table.columns)
                {
                    let key = (family, Arc::clone(name), index % table.columns);
                    *counts.entry(key).or_default() += count;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_the_name_and_the_labels_that_it_is_counted_by() {
        let stale = Outcome::Stale.index() * CLASSES.len() + 1;
        let listed = PrefetchSource::Predict.index() * PrefetchResult::WORDS.len();
        let called = Phase::Function.index() * CallResult::WORDS.len() + CallResult::Gone.index();
        let reset = CLASSES.len() + Detail::Reset.index();
        let expired = TokenResult::WORDS.len() + TokenError::NoKey.index();
        for (family, column, want) in [
            (
                Family::Requests,
                stale,
                r#"requests_total{route="a\"b",cache="stale",status="2xx"}"#,
            ),
            (
                Family::Refused,
                Refusal::WORDS.len() + 3,
                r#"refused_total{reason="no-memory"}"#,
            ),
            (Family::GaveWay, 0, "connections_gave_way_total{}"),
            (Family::Jwt, expired, r#"jwt_total{result="no_key"}"#),
            (
                Family::Signed,
                1 + SignatureRefusal::Expired.index(),
                r#"signed_urls_total{result="expired"}"#,
            ),
            (
                Family::Rates,
                2,
                r#"rate_limit_requests_total{limit="a\"b",result="refused"}"#,
            ),
            (
                Family::Passwords,
                PasswordResult::WORDS.len() + BasicRefusal::Wrong.index(),
                r#"passwords_total{result="wrong"}"#,
            ),
            (
                Family::NotStored,
                Detail::Private.index(),
                r#"not_stored_total{reason="private"}"#,
            ),
            (
                Family::Refreshed,
                Detail::Grace.index(),
                r#"refreshes_total{reason="grace"}"#,
            ),
            (
                Family::Interim,
                1,
                r#"interim_responses_total{result="passed"}"#,
            ),
            (
                Family::Slices,
                RunEnd::Changed.index(),
                r#"slice_fetches_total{result="changed"}"#,
            ),
            (
                Family::Prefetch,
                listed,
                r#"prefetches_total{source="predict",result="busy"}"#,
            ),
            (
                Family::Forwarded,
                Detail::Absent.index(),
                r#"cache_forwarded_total{reason="absent"}"#,
            ),
            (Family::Failover, 0, r#"failover_total{group="a\"b"}"#),
            (
                Family::Origin,
                reset,
                r#"origin_requests_total{origin="a\"b",result="reset"}"#,
            ),
            (
                Family::Calls,
                called,
                r#"function_calls_total{callable="a\"b",phase="function",result="gone"}"#,
            ),
        ] {
            let about = &FAMILIES[family as usize];
            let found = format!("{}{{{}}}", about.name, about.labels("a\"b", column));
            assert_eq!(found, format!("edgerouter_{want}"));
        }
    }
}
