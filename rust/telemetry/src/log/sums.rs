//! Repeated lines: the first in a second is written, the others are counted and reported at the end of that second.
//!
//! A failing origin at thousands of requests a second would otherwise write as many lines. Only warnings and errors of
//! the engine itself are summed; lines of functions are only bounded, with everything else, by
//! `limits.log.lines_per_second`.

use std::{
    fmt::Debug,
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Lines a second until a plan sets the bound (`limits.log.lines_per_second`).
const LINES: u32 = 1_000;
/// Different lines that are counted at a time; others are written.
const KINDS: usize = 1_024;
const SECOND: Duration = Duration::from_secs(1);
/// Fields that name the subject of a line.
const SUBJECTS: [&str; 19] = [
    "origin",
    "group",
    "callable",
    "hook",
    "field",
    "url",
    "host",
    "path",
    "id",
    "log",
    "binding",
    "replica",
    "experiment",
    "file",
    "folder",
    "deploy",
    "key",
    "name",
    "thread",
];

/// True if a field names the subject of a line.
pub(super) fn is_subject(field: &str) -> bool {
    SUBJECTS.contains(&field)
}

pub(super) static SUMS: Mutex<LineCounts> = Mutex::new(LineCounts::new());

/// The lines written and left out in this second.
#[derive(Debug)]
pub(super) struct LineCounts {
    pub most: u32,
    pub summed: u64,
    pub over: u64,
    /// Lines that are past `most` in this second.
    now_over: u64,
    written: u32,
    began: Option<Instant>,
    kinds: Option<HashMap<u64, Repeated, FixedState>>,
}

#[derive(Debug)]
struct Repeated {
    message: String,
    subject: String,
    began: Instant,
    more: u64,
}

impl LineCounts {
    const fn new() -> Self {
        Self {
            most: LINES,
            summed: 0,
            over: 0,
            now_over: 0,
            written: 0,
            began: None,
            kinds: None,
        }
    }

    /// True if a line may be written now. `key`: set if the line is summed.
    fn admit(&mut self, now: Instant, key: Option<(u64, &Said)>) -> bool {
        if let Some((key, said)) = key {
            let kinds = self
                .kinds
                .get_or_insert_with(|| HashMap::with_hasher(FixedState::default()));
            if let Some(repeated) = kinds.get_mut(&key) {
                // The thread that reports the lines left out may be stuck in a write: then counting continues.
                if repeated.more > 0 || now.saturating_duration_since(repeated.began) < SECOND {
                    repeated.more += 1;
                    self.summed += 1;
                    return false;
                }
                repeated.began = now;
            } else if kinds.len() < KINDS {
                let began = now;
                let (message, subject) = (said.message.clone(), said.subject.clone());
                kinds.insert(
                    key,
                    Repeated {
                        message,
                        subject,
                        began,
                        more: 0,
                    },
                );
            }
        }
        if self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= SECOND)
        {
            self.began = Some(now);
            self.written = 0;
        }
        // Lines that are no warnings leave a quarter of the room to those that are.
        let room = match key {
            Some(_) => self.most,
            None => self.most - self.most / 4,
        };
        if self.written >= room {
            self.over += 1;
            self.now_over += 1;
            return false;
        }
        self.written += 1;
        true
    }

    /// The report about the second that has ended: message, subject and count of lines left out, and the number of
    /// lines above the bound.
    fn close(&mut self, now: Instant) -> (Vec<(String, String, u64)>, u64) {
        let mut said = Vec::new();
        if let Some(kinds) = &mut self.kinds {
            kinds.retain(|_, repeated| {
                if now.saturating_duration_since(repeated.began) < SECOND {
                    return true;
                }
                if repeated.more == 0 {
                    return false;
                }
                said.push((
                    repeated.message.clone(),
                    repeated.subject.clone(),
                    std::mem::take(&mut repeated.more),
                ));
                repeated.began = now;
                true
            });
        }
        (said, std::mem::take(&mut self.now_over))
    }
}

/// Reports the lines left out in the second that has ended.
pub(super) fn tick() {
    let (said, over) = SUMS.lock().close(Instant::now());
    for (message, subject, more) in said {
        // A line without a subject has no such field, rather than an empty one.
        let of = (!subject.is_empty()).then(|| tracing::field::display(subject));
        tracing::warn!(target: SUMMARY, of, more, "{message}{REPEATED}");
    }
    if over > 0 {
        tracing::warn!(target: SUMMARY, lines = over, "log lines were dropped: there were more in a second than limits.log.lines_per_second");
    }
}

/// The target of the lines of `tick`, which are neither summed nor counted again.
pub(super) const SUMMARY: &str = "edgerouter_telemetry::log::summary";
/// The end of such a line.
pub(super) const REPEATED: &str = " (repeated)";

/// Drops repeated lines, and lines above the bound, before they are formatted.
#[derive(Debug)]
pub(super) struct Sums;

impl<S: Subscriber> Layer<S> for Sums {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let meta = event.metadata();
        if meta.target() == SUMMARY {
            return true;
        }
        let now = Instant::now();
        if !sums(meta) {
            return SUMS.lock().admit(now, None);
        }
        let mut said = Said::default();
        event.record(&mut said);
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(meta.target().as_bytes());
        hasher.write_u32(meta.line().unwrap_or(0));
        // A subject may be a field, or be named in the words.
        hasher.write(said.subject.as_bytes());
        hasher.write(said.message.as_bytes());
        let key = hasher.finish();
        SUMS.lock().admit(now, Some((key, &said)))
    }
}

fn sums(meta: &Metadata<'_>) -> bool {
    *meta.level() <= Level::WARN && meta.target().starts_with("edgerouter_")
}

/// The message of a line, and the fields that name its subject.
#[derive(Debug, Default)]
struct Said {
    message: String,
    subject: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        use std::fmt::Write as _;
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else if is_subject(field.name()) {
            let space = if self.subject.is_empty() { "" } else { " " };
            let _ = write!(self.subject, "{space}{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(subject: &str) -> Said {
        Said {
            message: "origin request failed".to_owned(),
            subject: subject.to_owned(),
        }
    }

    #[test]
    fn the_first_line_of_a_second_is_written_and_the_others_are_counted_for_each_subject() {
        let (mut ledger, start) = (LineCounts::new(), Instant::now());
        let (a, b) = (said("a"), said("b"));
        assert!(ledger.admit(start, Some((1, &a))));
        for _ in 0..514 {
            assert!(!ledger.admit(start + SECOND / 2, Some((1, &a))));
        }
        assert!(ledger.admit(start + SECOND / 2, Some((2, &b))));
        assert_eq!(ledger.close(start + SECOND / 2), (vec![], 0));
        // The end of the second was not reported yet: nothing is written in full meanwhile.
        assert!(!ledger.admit(start + SECOND, Some((1, &a))));
        let want = ("origin request failed".to_owned(), "a".to_owned(), 515);
        assert_eq!(ledger.close(start + SECOND), (vec![want], 0));
        assert_eq!(ledger.summed, 515);
        assert_eq!(ledger.close(start + 2 * SECOND), (vec![], 0));
        assert!(ledger.admit(start + 2 * SECOND, Some((1, &a))));
    }

    #[test]
    fn a_second_has_a_bounded_number_of_lines_whatever_they_say() {
        let (mut ledger, start) = (LineCounts::new(), Instant::now());
        ledger.most = 10;
        let written = (0..100).filter(|_| ledger.admit(start, None)).count();
        assert_eq!((written, ledger.over), (8, 92));
        // A warning is written all the same.
        let warned = (0..100).filter(|&key| ledger.admit(start, Some((key, &said("x")))));
        assert_eq!((warned.count(), ledger.over), (2, 190));
        assert!(ledger.admit(start + SECOND, None));
        assert_eq!(ledger.close(start + SECOND).1, 190);
    }

    #[test]
    fn what_is_counted_at_a_time_is_bounded() {
        let (mut ledger, start) = (LineCounts::new(), Instant::now());
        ledger.most = u32::MAX;
        for key in 0..(2 * KINDS as u64) {
            ledger.admit(start, Some((key, &said("x"))));
        }
        assert_eq!(ledger.kinds.as_ref().map(HashMap::len), Some(KINDS));
    }
}
