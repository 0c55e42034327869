//! Purges at work: what an operator ordered, and how far the store has been cleared of it.
//!
//! Acknowledging one is a few marks in `edgerouter_core`'s register, whatever is stored: from then on every look-up
//! compares. `orders` places them and answers in JSON, `sweep` walks the store in small steps behind, frees what is gone
//! and counts, `log` keeps them on disk where responses are kept there. Nothing here knows HTTP.

mod log;
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
    cache::purge::{
        Matcher, Mistake, Order, Register, Scope, Subject, Verdict,
        log::{Completion, Contents, Line, Record},
        scope,
    },
    plan::Plan,
};
use log::Log;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::store::{Disk, Entry, disk::FolderError};

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
    durable: AtomicBool,
}

impl Purge {
    /// From its record, and from what is known of its end.
    fn new(record: Record, matcher: Matcher, completion: Option<&Completion>) -> Self {
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

    /// False while the disk cache has responses that a restart would bring back.
    pub fn durable(&self) -> bool {
        self.durable.load(Ordering::Relaxed)
    }

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
    /// Taken by one order after the other, before the desk and never by a worker: writing takes its time.
    log: Mutex<Option<Log>>,
    log_errors: AtomicU64,
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
    fn push(&mut self, purge: Arc<Purge>) {
        self.history.push_back(purge);
        while self.history.len() > MOST_REMEMBERED
            && self.history.front().is_some_and(|purge| purge.completed())
        {
            self.history.pop_front();
        }
    }

    fn pending(&self) -> impl Iterator<Item = &Arc<Purge>> {
        self.history.iter().filter(|purge| !purge.completed())
    }
}

impl Purges {
    /// With what the disk's log says, where there is a disk.
    pub fn open(disk: Option<&Disk>) -> Result<Arc<Self>, FolderError> {
        let now = micros();
        let Some(disk) = disk else {
            return Ok(Arc::new(Self::of(
                Register::new(now),
                None,
                Desk::default(),
            )));
        };
        // Above everything that was seen, whatever the clock says.
        let above = |contents: &Contents| {
            let purged = contents.records.last().map_or(0, |record| record.sequence);
            now.max(
                purged
                    .max(disk.newest_born())
                    .max(contents.floor)
                    .saturating_add(1),
            )
        };
        let (log, replay) = Log::open(disk, above)?;
        if replay.damaged {
            tracing::error!(path = %disk.path().display(), "the log of purges is damaged; everything that is stored on disk counts as purged");
        }
        let mut contents = replay.contents;
        let mut register = Register::new(above(&contents));
        register.raise_floor(contents.floor);
        let mut desk = Desk::default();
        for record in contents.records.drain(..) {
            let matcher = Matcher::new(&record.scopes, &record.keys);
            let at = record.created / 1_000;
            register.add(record.sequence, record.soft, at, &matcher);
            let completion = contents.completions.get(&record.sequence);
            desk.push(Arc::new(Purge::new(record, matcher, completion)));
        }
        desk.rung = true;
        Ok(Arc::new(Self::of(register, Some(log), desk)))
    }

    fn of(register: Register, log: Option<Log>, desk: Desk) -> Self {
        Self {
            newest: AtomicU64::new(register.newest()),
            register: RwLock::new(register),
            log: Mutex::new(log),
            log_errors: AtomicU64::new(0),
            desk: Mutex::new(desk),
            work: Condvar::new(),
        }
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
        let mut log = self.log.lock();
        if let Some(known) = self.known(&order)? {
            return Ok((known, false));
        }
        // Numbers are times, so that they go on growing after a restart that remembers nothing.
        let now = micros();
        let matcher = Matcher::new(&order.scopes, &keys);
        let record = Record {
            sequence: now.max(self.newest() + 1),
            created: now / 1_000,
            soft: order.soft,
            scopes: order.scopes,
            given: order.given,
            keys,
            reference: order.reference,
        };
        // On disk first: what is acknowledged holds, whatever happens next.
        let durable = match &mut *log {
            Some(log) => self.write(log, |log| log.order(&record)),
            None => true,
        };
        let purge = Purge::new(record, matcher, None);
        purge.durable.store(durable, Ordering::Relaxed);
        let purge = Arc::new(purge);
        self.register.write().add(
            purge.sequence,
            purge.soft,
            purge.created / 1_000,
            &purge.matcher,
        );
        self.newest.store(purge.sequence, Ordering::SeqCst);
        let mut desk = self.desk.lock();
        for scope in &purge.scopes {
            if let Some(at) = KINDS.iter().position(|kind| *kind == scope.kind())
                && let Some(ordered) = desk.ordered.get_mut(at)
            {
                *ordered += 1;
            }
        }
        desk.push(Arc::clone(&purge));
        desk.rung = true;
        drop(desk);
        drop(log);
        self.work.notify_all();
        tracing::info!(id = %purge.id, soft = purge.soft, scopes = purge.scopes.len(), "purge");
        Ok((purge, true))
    }

    /// The purge that the same reference ordered before; an error where it is another, or there is no room for one more.
    fn known(&self, order: &Order) -> Result<Option<Arc<Purge>>, Refused> {
        let desk = self.desk.lock();
        if let Some(reference) = &order.reference
            && let Some(known) = desk
                .history
                .iter()
                .find(|purge| purge.reference.as_ref() == Some(reference))
        {
            if known.is_like(order) {
                return Ok(Some(Arc::clone(known)));
            }
            return Err(Refused::ReferenceTaken(reference.clone(), known.id.clone()));
        }
        let waiting: usize = desk.pending().map(|purge| purge.scopes.len()).sum();
        if waiting + order.scopes.len() > MOST_IN_PROGRESS {
            return Err(Refused::TooMany(waiting + order.scopes.len()));
        }
        Ok(None)
    }

    /// Writes to the log; false when the disk does not take it. Told once, until it does again.
    fn write(&self, log: &mut Log, write: impl FnOnce(&mut Log) -> std::io::Result<()>) -> bool {
        let owed = log.owes();
        match write(log) {
            Ok(()) => {
                if owed {
                    for purge in &self.desk.lock().history {
                        purge.durable.store(true, Ordering::Relaxed);
                    }
                    tracing::info!("purges can be written to disk again, and all of them are");
                }
                true
            }
            Err(error) => {
                self.log_errors.fetch_add(1, Ordering::Relaxed);
                if !owed {
                    tracing::error!(%error, "purges cannot be written to disk; they are in effect, but a restart before there is room again may bring back what they purged");
                }
                false
            }
        }
    }

    /// Tries again to write what could not be written.
    fn settle(&self) {
        if let Some(log) = &mut *self.log.lock()
            && log.owes()
        {
            self.write(log, Log::settle);
        }
    }

    /// The sweep has cleared the store of a purge.
    fn complete(&self, purge: &Purge) {
        if let Some(log) = &mut *self.log.lock() {
            log.note(&Line::Completed(Completion {
                sequence: purge.sequence,
                objects: purge.objects(),
                bytes: purge.bytes(),
            }));
        }
        purge.completed.store(true, Ordering::Release);
    }

    /// Lets go of the log, before the disk's directory becomes another's.
    pub fn close(&self) {
        *self.log.lock() = None;
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
        let not_durable = desk.history.iter().filter(|purge| !purge.durable()).count() as u64;
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
            (
                "edgerouter_purges_not_durable",
                "gauge",
                "Purges in effect that the disk has not taken.",
                not_durable,
            ),
            (
                "edgerouter_purge_log_errors_total",
                "counter",
                "Failed attempts to write purges to disk.",
                self.log_errors.load(Ordering::Relaxed),
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
