//! Purges at work: what an operator ordered, and how far the store has been cleared of it.
//!
//! Acknowledging one is a few marks in `edgerouter_core`'s register, whatever is stored: from then on every look-up
//! compares. `orders` places them and answers in JSON, `sweep` walks the store in small steps behind, frees what is gone
//! and counts. Nothing here knows HTTP.

pub mod orders;
pub mod sweep;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use edgerouter_core::{
    cache::purge::{Matcher, Mistake, Order, Register, Scope, Subject, Verdict, scope},
    plan::Plan,
};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::store::Entry;

/// Things named by purges that are not completed yet.
pub const MOST_IN_PROGRESS: usize = 3_000;
/// Completed purges that are remembered with their counts, and by their references.
pub const MOST_REMEMBERED: usize = 1_000;

const KINDS: [&str; 5] = ["url", "path", "host", "tag", "everything"];

/// Why a purge was not ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("reference: {0:?}: was given to another purge, {1}; choose another reference")]
    ReferenceTaken(String, String),
    #[error(
        "urls: {0} things are being purged now and at most {MOST_IN_PROGRESS} may be; try again soon"
    )]
    TooMany(usize),
}

/// One purge.
#[derive(Debug)]
pub struct Purge {
    pub id: String,
    pub sequence: u64,
    /// Unix milliseconds.
    pub created: u64,
    pub soft: bool,
    pub scopes: Vec<Scope>,
    /// Each scope as the caller spelled it.
    pub given: Vec<String>,
    pub reference: Option<String>,
    matcher: Matcher,
    objects: AtomicU64,
    bytes: AtomicU64,
    completed: AtomicBool,
}

impl Purge {
    pub fn completed(&self) -> bool {
        self.completed.load(Ordering::Acquire)
    }

    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_like(&self, order: &Order) -> bool {
        self.soft == order.soft && self.scopes == order.scopes
    }
}

/// All purges.
#[derive(Debug)]
pub struct Purges {
    /// The newest purge in the register: what a look-up compares with.
    newest: AtomicU64,
    register: RwLock<Register>,
    desk: Mutex<Desk>,
    work: Condvar,
}

/// Purges as they were ordered, oldest first.
#[derive(Debug, Default)]
struct Desk {
    history: VecDeque<Arc<Purge>>,
    ordered: [u64; KINDS.len()],
    matched_objects: u64,
    matched_bytes: u64,
    /// The sweep is to look again, or to end.
    rung: bool,
}

impl Desk {
    fn pending(&self) -> impl Iterator<Item = &Arc<Purge>> {
        self.history.iter().filter(|purge| !purge.completed())
    }
}

impl Purges {
    pub fn new() -> Arc<Self> {
        let newest = micros();
        Arc::new(Self {
            newest: AtomicU64::new(newest),
            register: RwLock::new(Register::new(newest)),
            desk: Mutex::new(Desk::default()),
            work: Condvar::new(),
        })
    }

    /// Number of the newest purge. A fetch that departs now brings what none up to this one means.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    pub fn judge(&self, subject: &Subject<'_>, since: u64) -> Verdict {
        self.register.read().judge(subject, since)
    }

    /// Whether a purge has come since `born` that may mean what a flight for this URL brings.
    pub fn outdates(&self, born: u64, url_key: &[u8], asked: (&str, Option<&str>)) -> bool {
        let Some(mut subject) = Subject::of(url_key, None, &[]) else {
            return false;
        };
        subject.asked = Some(asked);
        self.register.read().concerns_flight(&subject, born)
    }

    /// Orders a purge; true when it is new, false when the same reference ordered the same before.
    pub fn order(&self, order: Order, plan: &Plan) -> Result<(Arc<Purge>, bool), Refused> {
        let keys = scope::url_hashes(&order.scopes, plan);
        let mut desk = self.desk.lock();
        if let Some(reference) = &order.reference
            && let Some(known) = desk
                .history
                .iter()
                .find(|purge| purge.reference.as_ref() == Some(reference))
        {
            if known.is_like(&order) {
                return Ok((Arc::clone(known), false));
            }
            return Err(Refused::ReferenceTaken(reference.clone(), known.id.clone()));
        }
        let waiting: usize = desk.pending().map(|purge| purge.scopes.len()).sum();
        if waiting + order.scopes.len() > MOST_IN_PROGRESS {
            return Err(Refused::TooMany(waiting + order.scopes.len()));
        }
        // Numbers are times, so that they go on growing after a restart that remembers nothing.
        let now = micros();
        let sequence = now.max(self.newest() + 1);
        let purge = Arc::new(Purge {
            id: id(sequence),
            sequence,
            created: now / 1_000,
            soft: order.soft,
            matcher: Matcher::new(&order.scopes, &keys),
            scopes: order.scopes,
            given: order.given,
            reference: order.reference,
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            completed: AtomicBool::new(false),
        });
        self.register
            .write()
            .add(sequence, purge.soft, now / 1_000_000, &purge.matcher);
        self.newest.store(sequence, Ordering::SeqCst);
        for scope in &purge.scopes {
            if let Some(at) = KINDS.iter().position(|kind| *kind == scope.kind())
                && let Some(ordered) = desk.ordered.get_mut(at)
            {
                *ordered += 1;
            }
        }
        desk.history.push_back(Arc::clone(&purge));
        while desk.history.len() > MOST_REMEMBERED
            && desk.history.front().is_some_and(|purge| purge.completed())
        {
            desk.history.pop_front();
        }
        desk.rung = true;
        drop(desk);
        self.work.notify_all();
        tracing::info!(id = %purge.id, soft = purge.soft, scopes = purge.scopes.len(), "purge");
        Ok((purge, true))
    }

    /// Counts a response that was found purged, for those purges that mean it and are not completed.
    pub fn count(&self, subject: &Subject<'_>, born: u64, entry: &Entry) {
        self.count_one(subject, born, entry.is_object(), entry.size());
    }

    /// As `count`, for what is known by its description only. Slices are bytes of an object that is counted itself.
    pub fn count_one(&self, subject: &Subject<'_>, born: u64, is_object: bool, size: u64) {
        let objects = u64::from(is_object);
        let mut desk = self.desk.lock();
        let mut matched = false;
        for purge in desk.pending() {
            if purge.sequence > born && purge.matcher.matches(subject) {
                purge.objects.fetch_add(objects, Ordering::Relaxed);
                purge.bytes.fetch_add(size, Ordering::Relaxed);
                matched = true;
            }
        }
        if matched {
            desk.matched_objects += objects;
            desk.matched_bytes += size;
        }
    }

    pub fn find(&self, id: &str) -> Option<Arc<Purge>> {
        let desk = self.desk.lock();
        desk.history.iter().find(|purge| purge.id == id).cloned()
    }

    /// All that are remembered, newest first.
    pub fn list(&self) -> Vec<Arc<Purge>> {
        self.desk.lock().history.iter().rev().cloned().collect()
    }

    /// Makes the sweep look at once whether there is work or an end.
    pub fn wake(&self) {
        self.desk.lock().rung = true;
        self.work.notify_all();
    }

    /// Purges by kind, those in progress, and what they matched, in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let desk = self.desk.lock();
        let name = "edgerouter_purges_total";
        let _ = writeln!(out, "# HELP {name} Things that purges named, by kind.");
        let _ = writeln!(out, "# TYPE {name} counter");
        for (kind, count) in KINDS.iter().zip(desk.ordered) {
            let _ = writeln!(out, "{name}{{scope=\"{kind}\"}} {count}");
        }
        let in_progress = desk.pending().count() as u64;
        for (name, kind, help, value) in [
            (
                "edgerouter_purges_in_progress",
                "gauge",
                "Purges in effect whose sweep through the store has not ended.",
                in_progress,
            ),
            (
                "edgerouter_purge_matched_objects_total",
                "counter",
                "Stored responses that purges matched.",
                desk.matched_objects,
            ),
            (
                "edgerouter_purge_matched_bytes_total",
                "counter",
                "Bytes of stored responses that purges matched.",
                desk.matched_bytes,
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}");
            let _ = writeln!(out, "# TYPE {name} {kind}");
            let _ = writeln!(out, "{name} {value}");
        }
    }
}

fn micros() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
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
