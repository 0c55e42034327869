//! The purges that are remembered: the names, the progress and the matches of each.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use edgerouter_core::cache::purge::{
    Matcher, Order, Scope,
    log::{Completion, PurgeRecord},
};

use edgerouter_telemetry::text;

const KINDS: [&str; 5] = ["url", "path", "host", "tag", "everything"];

/// Bytes of all texts in remembered purges.
const MOST_TEXT: usize = 64 << 20;

/// One purge.
#[derive(Debug)]
pub struct Purge {
    /// In URLs and answers of the API.
    pub id: String,
    /// Grows from purge to purge, in the order in which they take effect.
    pub sequence: u64,
    /// Unix milliseconds.
    pub created: u64,
    /// True if it makes responses stale instead of removing them.
    pub soft: bool,
    /// At least one.
    pub scopes: Vec<Scope>,
    /// Each scope as the caller spelled it.
    pub given: Vec<String>,
    /// The caller's, which makes a repeated order the same purge.
    pub reference: Option<String>,
    pub(super) matcher: Matcher,
    objects: AtomicU64,
    bytes: AtomicU64,
    completed: AtomicBool,
    durable: AtomicBool,
}

impl Purge {
    /// From its record, and from its completion if it has ended.
    pub(super) fn new(
        record: PurgeRecord,
        matcher: Matcher,
        completion: Option<&Completion>,
    ) -> Self {
        Self {
            id: id(record.sequence),
            sequence: record.sequence,
            created: record.created,
            soft: record.soft,
            matcher,
            scopes: record.scopes,
            given: record.given,
            reference: record.reference,
            objects: AtomicU64::new(completion.map_or(0, |done| done.objects)),
            bytes: AtomicU64::new(completion.map_or(0, |done| done.bytes)),
            completed: AtomicBool::new(completion.is_some()),
            durable: AtomicBool::new(true),
        }
    }

    /// False while the disk cache has responses that would reappear after a restart.
    pub fn durable(&self) -> bool {
        self.durable.load(Ordering::Relaxed)
    }

    /// True if the sweep has compared everything that was stored before it.
    pub fn completed(&self) -> bool {
        self.completed.load(Ordering::Acquire)
    }

    /// Whole responses that it has matched so far.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Bytes of all that it has matched so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_durable(&self, durable: bool) {
        self.durable.store(durable, Ordering::Relaxed);
    }

    pub(super) fn complete(&self) {
        self.completed.store(true, Ordering::Release);
    }

    /// Bytes of its texts, twice: as given and as parsed.
    fn text(&self) -> usize {
        self.given
            .iter()
            .map(|given| 2 * (given.len() + size_of::<Scope>()))
            .sum()
    }

    /// True if the order names the same.
    pub(super) fn is_like(&self, order: &Order) -> bool {
        self.soft == order.soft && self.scopes == order.scopes
    }
}

/// Purges as they were ordered, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    purges: VecDeque<Arc<Purge>>,
    /// Bytes of the texts of these.
    text: usize,
    ordered: [u64; KINDS.len()],
    matched_objects: u64,
    matched_bytes: u64,
}

impl History {
    /// Adds one, and forgets the oldest completed ones if there are more than `most`.
    pub(super) fn push(&mut self, purge: Arc<Purge>, most: usize) {
        self.text += purge.text();
        self.purges.push_back(purge);
        while (self.purges.len() > most || self.text > MOST_TEXT)
            && self.purges.len() > 1
            && self.purges.front().is_some_and(|purge| purge.completed())
        {
            self.text -= self.purges.pop_front().map_or(0, |purge| purge.text());
        }
    }

    pub(super) fn note_kinds(&mut self, scopes: &[Scope]) {
        for scope in scopes {
            if let Some(at) = KINDS.iter().position(|kind| *kind == scope.kind())
                && let Some(ordered) = self.ordered.get_mut(at)
            {
                *ordered += 1;
            }
        }
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Arc<Purge>> {
        self.purges.iter().filter(|purge| !purge.completed())
    }

    /// Newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Purge>> {
        self.purges.iter().rev()
    }

    /// Counts a match for the purges after `since` that match it and have not counted it: a completed soft one may
    /// have. A completed hard one has not, or it would be removed: the walk ended between a removal and its count.
    pub(super) fn count(
        &mut self,
        since: u64,
        objects: u64,
        bytes: u64,
        means: impl Fn(&Matcher) -> bool,
    ) {
        let mut matched = false;
        let open = |purge: &&Arc<Purge>| !(purge.soft && purge.completed());
        for purge in self.purges.iter().filter(open) {
            if purge.sequence > since && means(&purge.matcher) {
                purge.objects.fetch_add(objects, Ordering::Relaxed);
                purge.bytes.fetch_add(bytes, Ordering::Relaxed);
                matched = true;
            }
        }
        if matched {
            self.matched_objects += objects;
            self.matched_bytes += bytes;
        }
    }

    /// Purges by kind, those in progress, and what they matched, in Prometheus' text format.
    pub(super) fn render(&self, log_errors: u64, out: &mut String) {
        text::labelled(
            out,
            "edgerouter_purges_total",
            "Scopes of purges, by kind.",
            ["scope"],
            KINDS.map(|kind| [kind]).into_iter().zip(self.ordered),
        );
        for (name, help, value) in [
            (
                "edgerouter_purges_in_progress",
                "Purges in effect whose walk through the store has not ended.",
                self.pending().count() as u64,
            ),
            (
                "edgerouter_purge_matched_objects_total",
                "Stored responses that purges matched.",
                self.matched_objects,
            ),
            (
                "edgerouter_purge_matched_bytes_total",
                "Bytes of stored responses that purges matched.",
                self.matched_bytes,
            ),
            (
                "edgerouter_purges_not_durable",
                "Purges in effect that are not on disk yet.",
                self.all().filter(|purge| !purge.durable()).count() as u64,
            ),
            (
                "edgerouter_purge_log_errors_total",
                "Failed attempts to write purges to disk.",
                log_errors,
            ),
        ] {
            text::one(out, name, help, value);
        }
    }
}

/// `I` and the number in base 36: as short as CloudFront's, unique, and in order of time.
fn id(sequence: u64) -> String {
    let mut digits = Vec::new();
    let mut rest = sequence;
    while rest > 0 {
        digits.extend(char::from_digit((rest % 36) as u32, 36));
        rest /= 36;
    }
    let number: String = digits.iter().rev().map(char::to_ascii_uppercase).collect();
    format!("I{number:0>13}")
}

/// True if a text has the form of an id.
pub fn is_id(text: &str) -> bool {
    text.len() == 14
        && text.starts_with('I')
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}
