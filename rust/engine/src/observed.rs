//! The readers of single requests: the access log, and the live tails of the admin listener.
//!
//! A worker takes them up with the plan in service (`live`), so a request costs nothing more while nobody watches. A
//! tail has a filter, which workers apply, and a bounded queue, which its reader empties a few times a second: what
//! does not fit is counted and lost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use edgerouter_core::{
    access_log::{self, AccessLogPolicy, Form, UnfinishedLine},
    request_record::RequestRecord,
    trial::TrialFault,
};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::{
    telemetry::access::{AccessLog, Line},
    trial::{Side, Trial},
};

/// Tails at a time.
pub(crate) const MOST_TAILS: usize = 8;
/// Lines that wait for the reader of one. It reads four times a second.
const WAITING: usize = 256;

/// The requests that a tail shows: all conditions must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TailFilter {
    /// The label of the route.
    pub route: Option<String>,
    pub host: Option<String>,
    pub method: Option<String>,
    /// A part of path and query.
    pub path: Option<String>,
    /// From the first to the last status.
    pub status: Option<(u16, u16)>,
    /// A word of `Outcome`.
    pub cache: Option<String>,
    pub reason: Option<String>,
    /// Microseconds until the head, at least.
    pub slow: u64,
}

impl TailFilter {
    fn takes(&self, record: &RequestRecord<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        record.head >= self.slow
            && self
                .status
                .is_none_or(|(first, last)| (first..=last).contains(&record.status))
            && is(&self.cache, record.outcome.as_str())
            && is(&self.route, record.label)
            && is(&self.method, record.method)
            && is(&self.reason, record.reason().unwrap_or_default())
            && self
                .host
                .as_ref()
                .is_none_or(|host| record.host.eq_ignore_ascii_case(host))
            && self
                .path
                .as_ref()
                .is_none_or(|part| record.target.contains(part.as_str()))
    }
}

/// The workers' side of a tail.
#[derive(Debug)]
struct Tail {
    filter: TailFilter,
    lines: mpsc::Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// The reader's side of a tail.
#[derive(Debug)]
pub(crate) struct TailReader {
    lines: mpsc::Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl TailReader {
    /// The lines that wait: JSON objects as the access log writes them.
    pub(crate) fn read(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            lines.push(line);
        }
        lines
    }

    /// Lines that found no room since the last call.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// All tails that are open.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<Vec<Arc<Tail>>>);

impl Tails {
    /// Opens one; `None` while there are as many as there may be. `epoch` makes the workers take it up.
    pub(crate) fn open(&self, filter: TailFilter, epoch: &AtomicU64) -> Option<TailReader> {
        let mut tails = self.0.lock();
        tails.retain(|tail| !tail.lines.is_closed());
        if tails.len() >= MOST_TAILS {
            return None;
        }
        let (sender, lines) = mpsc::channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        tails.push(Arc::new(Tail {
            filter,
            lines: sender,
            lost: Arc::clone(&lost),
        }));
        epoch.fetch_add(1, Ordering::AcqRel);
        Some(TailReader { lines, lost })
    }

    /// Forgets tails whose readers are gone.
    pub(crate) fn sweep(&self, epoch: &AtomicU64) {
        let mut tails = self.0.lock();
        let before = tails.len();
        tails.retain(|tail| !tail.lines.is_closed());
        if tails.len() < before {
            epoch.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The readers at one time, as a worker knows them.
#[derive(Debug)]
pub(crate) struct Observed {
    access: Option<AccessLog>,
    tails: Vec<Arc<Tail>>,
    /// The deploy under way, and the version whose requests these are.
    trial: Option<(Arc<Trial>, Side)>,
}

impl Observed {
    /// `None` if nobody reads single requests.
    pub(crate) fn of(
        access: Option<&AccessLog>,
        tails: &Tails,
        trial: Option<(Arc<Trial>, Side)>,
    ) -> Option<Self> {
        let tails = tails.0.lock().clone();
        (access.is_some() || !tails.is_empty() || trial.is_some()).then(|| Self {
            access: access.cloned(),
            tails,
            trial,
        })
    }

    /// Counts a response for the deploy under way. Gives the id of one that is to be rolled back, and why.
    pub(crate) fn judge(&self, record: &RequestRecord<'_>) -> Option<(u64, TrialFault)> {
        let (trial, side) = self.trial.as_ref()?;
        let fault = trial.count(*side, record.status, record.head)?;
        Some((trial.id, fault))
    }

    /// Begins the lines of a request, which are written when its response is over; `None` if there are none.
    pub(crate) fn begin(
        &self,
        record: &RequestRecord<'_>,
        policy: &AccessLogPolicy,
    ) -> Option<Lines> {
        let has_room = |tail: &&Arc<Tail>| {
            tail.filter.takes(record) && {
                let has_room = tail.lines.capacity() > 0;
                if !has_room {
                    tail.lost.fetch_add(1, Ordering::Relaxed);
                }
                has_room
            }
        };
        let takers: SmallVec<[Arc<Tail>; 2]> =
            self.tails.iter().filter(has_room).cloned().collect();
        let shown = (!takers.is_empty()).then(|| access_log::begin(record, policy, Form::Json));
        if self.access.is_none() && shown.is_none() {
            return None;
        }
        Some(Lines {
            access: self
                .access
                .as_ref()
                .map(|access| access.begin(record, policy)),
            tail: shown.map(|line| (line, takers)),
        })
    }
}

/// Lines of a request that lack their end.
#[derive(Debug)]
pub(crate) struct Lines {
    access: Option<Line>,
    tail: Option<(UnfinishedLine, SmallVec<[Arc<Tail>; 2]>)>,
}

impl Lines {
    /// `bytes` of content were sent, the last of them `micros` after the request.
    pub(crate) fn end(self, bytes: u64, micros: u64) {
        if let Some(line) = self.access {
            line.end(bytes, micros);
        }
        if let Some((line, takers)) = self.tail {
            let line = line.end(bytes, micros);
            for tail in takers {
                if tail.lines.try_send(line.clone()).is_err() {
                    tail.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{IpAddr, Ipv4Addr};

    use http::StatusCode;

    use super::*;

    fn record() -> RequestRecord<'static> {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refused = (StatusCode::BAD_REQUEST, "bad-head");
        RequestRecord {
            host: "www.Example.com",
            method: "GET",
            target: "/a/b?c=1",
            label: "/a/*",
            head: 1_500,
            ..RequestRecord::refused(0, client, "http", 1, refused)
        }
    }

    #[test]
    fn a_filter_takes_what_meets_all_its_conditions() {
        type Edit = fn(&mut TailFilter);
        let cases: [(Edit, bool); 12] = [
            (|_| {}, true),
            (|f| f.status = Some((400, 499)), true),
            (|f| f.status = Some((500, 599)), false),
            (|f| f.cache = Some("error".into()), true),
            (|f| f.cache = Some("hit".into()), false),
            (|f| f.reason = Some("bad-head".into()), true),
            (|f| f.host = Some("www.example.com".into()), true),
            (|f| f.host = Some("example.com".into()), false),
            (|f| f.path = Some("b?c".into()), true),
            (|f| f.slow = 1_500, true),
            (|f| f.slow = 1_501, false),
            (|f| f.route = Some("/*".into()), false),
        ];
        for (edit, want) in cases {
            let mut filter = TailFilter::default();
            edit(&mut filter);
            assert_eq!(filter.takes(&record()), want, "{filter:?}");
        }
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_tails_are_bounded() {
        let (tails, epoch) = (Tails::default(), AtomicU64::new(0));
        let mut readers: Vec<TailReader> = (0..MOST_TAILS)
            .map(|_| tails.open(TailFilter::default(), &epoch).unwrap())
            .collect();
        assert!(tails.open(TailFilter::default(), &epoch).is_none());
        let observed = Observed::of(None, &tails, None).unwrap();
        for _ in 0..WAITING + 3 {
            let lines = observed.begin(&record(), &AccessLogPolicy::default());
            if let Some(lines) = lines {
                lines.end(0, 0);
            }
        }
        assert_eq!((readers[0].read().len(), readers[0].lost()), (WAITING, 3));
        readers.clear();
        tails.sweep(&epoch);
        assert!(Observed::of(None, &tails, None).is_none());
    }
}
