//! The last events of the log and of the timeline, for the dashboard: a bounded memory that workers write and the admin
//! listener reads.
//!
//! It has the lines that the log has, and notes of events that happen too often for a line each, such as failover:
//! repeated notes about one subject become one with a count.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt::{Debug, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::sums::{REPEATED, SUMMARY, is_subject};
use crate::system_error::without_number;

/// Events that are kept.
const KEPT: usize = 256;
/// Bytes of the text of an event, which may be a traceback; and of each of its fields.
const TEXT: usize = 8 << 10;
const VALUE: usize = 512;
/// Fields of an event.
const FIELDS: usize = 12;
/// Notes of one subject within this time become one.
const TOGETHER_MS: u64 = 10_000;
/// Events that are looked at for such a note.
const LOOKED_AT: usize = 16;

static RECENT: Mutex<Events> = Mutex::new(Events::new());

/// An event of the log or of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// Grows with each event and with each repetition of one.
    pub number: u64,
    /// Stays when the event is repeated.
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// `error`, `warn`, `info`, …
    pub level: &'static str,
    /// The part of the edge: `functions` for lines of Python.
    pub part: Cow<'static, str>,
    /// The text, without its fields.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// Times that it happened.
    pub count: u64,
}

impl LogEvent {
    /// True if its subject is `of`, as a report of repetitions names it.
    fn is_of(&self, of: &str) -> bool {
        let mut left = of;
        let subjects = (self.fields.iter()).filter(|(name, _)| is_subject(name));
        for (_, value) in subjects {
            let Some(rest) = left.strip_prefix(value.as_str()) else {
                return false;
            };
            left = rest.strip_prefix(' ').unwrap_or(rest);
        }
        left.is_empty()
    }
}

#[derive(Debug)]
struct Events {
    last: u64,
    kept: VecDeque<LogEvent>,
}

impl Events {
    const fn new() -> Self {
        Self {
            last: 0,
            kept: VecDeque::new(),
        }
    }

    fn add(&mut self, mut event: LogEvent) {
        self.last += 1;
        (event.number, event.id) = (self.last, self.last);
        if self.kept.len() >= KEPT {
            self.forget();
        }
        self.kept.push_back(event);
    }

    /// Makes room: talkative functions must not displace the errors, for which half of the memory is kept.
    fn forget(&mut self) {
        let is_info = |event: &LogEvent| event.level == "info";
        let infos = self.kept.iter().filter(|event| is_info(event)).count();
        let oldest = self.kept.iter().position(is_info);
        match oldest.filter(|_| infos > KEPT / 2) {
            Some(at) => drop(self.kept.remove(at)),
            None => drop(self.kept.pop_front()),
        }
    }

    fn note(&mut self, event: LogEvent) {
        let same = |known: &&mut LogEvent| {
            known.message == event.message
                && known.fields == event.fields
                && event.at.saturating_sub(known.at) < TOGETHER_MS
        };
        let known = self.kept.iter_mut().rev().take(LOOKED_AT);
        match known.into_iter().find(same) {
            Some(known) => {
                self.last += 1;
                known.number = self.last;
                known.count += 1;
            }
            None => self.add(event),
        }
    }
}

impl Events {
    /// Adds a report of repetitions, `more` of them, to the line that they repeat.
    fn repeat(&mut self, report: LogEvent) {
        let value = |wanted: &str| {
            let found = report.fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let more = value("more").and_then(|more| more.parse::<u64>().ok());
        let (of, line) = (value("of"), report.message.strip_suffix(REPEATED));
        let repeated = self.kept.iter_mut().rev().find(|event| {
            line == Some(event.message.as_str()) && of.is_none_or(|of| event.is_of(of))
        });
        match (repeated, more) {
            (Some(event), Some(more)) => {
                self.last += 1;
                event.number = self.last;
                event.count += more;
            }
            _ => self.add(report),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Notes an event of the timeline that is no line of the log.
pub fn note(level: &'static str, message: &str, fields: &[(&'static str, &str)]) {
    let fields = fields.iter().take(FIELDS);
    let fields = fields.map(|(name, value)| (Cow::Borrowed(*name), cut(value, VALUE)));
    let event = LogEvent {
        number: 0,
        id: 0,
        at: now(),
        level,
        part: Cow::Borrowed("timeline"),
        message: cut(message, TEXT),
        fields: fields.collect(),
        count: 1,
    };
    RECENT.lock().note(event);
}

/// The events after a number, in the order of their numbers.
pub fn since(number: u64) -> Vec<LogEvent> {
    let recent = RECENT.lock();
    if recent.last <= number {
        return Vec::new();
    }
    let newer = recent.kept.iter().filter(|event| event.number > number);
    let mut events: Vec<LogEvent> = newer.cloned().collect();
    events.sort_by_key(|event| event.number);
    events
}

fn cut(text: &str, most: usize) -> String {
    let text = &*without_number(text);
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

/// Keeps the lines that the log writes.
#[derive(Debug)]
pub(super) struct Remembers;

impl<S: Subscriber> Layer<S> for Remembers {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let meta = event.metadata();
        let level = match *meta.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => return,
        };
        let mut read = Read::default();
        event.record(&mut read);
        let part = meta.target().split("::").next().unwrap_or_default();
        let seen = LogEvent {
            number: 0,
            id: 0,
            at: now(),
            level,
            part: Cow::Owned(part.replace("edgerouter_", "")),
            message: read.message,
            fields: read.fields,
            count: 1,
        };
        if meta.target() == SUMMARY {
            RECENT.lock().repeat(seen);
        } else {
            RECENT.lock().add(seen);
        }
    }
}

#[derive(Debug, Default)]
struct Read {
    message: String,
    fields: Vec<(Cow<'static, str>, String)>,
}

impl Visit for Read {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = cut(value, TEXT);
        } else if self.fields.len() < FIELDS {
            let most = if field.name() == "exception" {
                TEXT
            } else {
                VALUE
            };
            self.fields
                .push((Cow::Borrowed(field.name()), cut(value, most)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, at: u64) -> LogEvent {
        LogEvent {
            number: 0,
            id: 0,
            at,
            level: "warn",
            part: Cow::Borrowed("timeline"),
            message: message.to_owned(),
            fields: Vec::new(),
            count: 1,
        }
    }

    #[test]
    fn notes_of_one_subject_become_one_with_a_count_for_a_while() {
        let mut events = Events::new();
        for (message, at) in [("a", 0), ("b", 1), ("a", 2), ("a", TOGETHER_MS)] {
            events.note(event(message, at));
        }
        let found: Vec<_> = events
            .kept
            .iter()
            .map(|one| (&*one.message, one.count, one.number))
            .collect();
        assert_eq!(found, [("a", 2, 3), ("b", 1, 2), ("a", 1, 4)]);
    }

    #[test]
    fn a_report_of_repetitions_counts_for_the_line_that_they_repeat() {
        let mut events = Events::new();
        let field = |name, value: &str| (Cow::Borrowed(name), value.to_owned());
        for origin in ["a", "b"] {
            let mut line = event("request failed", 0);
            line.fields = vec![field("origin", origin)];
            events.add(line);
        }
        let mut report = event("request failed (repeated)", 1);
        report.fields = vec![field("of", "a"), field("more", "7")];
        events.repeat(report.clone());
        report.fields = vec![field("of", "c"), field("more", "7")];
        events.repeat(report);
        let mut probe = event("a probe failed", 2);
        probe.fields = vec![
            field("origin", "a"),
            field("path", "/up"),
            field("why", "b"),
        ];
        events.add(probe);
        let mut report = event("a probe failed (repeated)", 3);
        report.fields = vec![field("of", "a /up"), field("more", "2")];
        events.repeat(report);
        let counts: Vec<_> = events
            .kept
            .iter()
            .map(|one| (one.count, one.number))
            .collect();
        assert_eq!(counts, [(8, 3), (1, 2), (1, 4), (3, 6)]);
    }

    #[test]
    fn many_lines_of_information_leave_the_errors() {
        let mut events = Events::new();
        for _ in 0..3 {
            events.add(event("failed", 0));
        }
        for at in 0..2 * KEPT as u64 {
            let mut line = event("requested", at);
            line.level = "info";
            events.add(line);
        }
        let failed = events.kept.iter().filter(|one| one.message == "failed");
        assert_eq!((events.kept.len(), failed.count()), (KEPT, 3));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut events = Events::new();
        for at in 0..2 * KEPT as u64 {
            events.add(event("a", at));
        }
        assert_eq!((events.kept.len(), events.last), (KEPT, 2 * KEPT as u64));
        assert_eq!(
            cut(&"ä".repeat(VALUE + 1), VALUE).chars().count(),
            VALUE + 1
        );
    }
}
