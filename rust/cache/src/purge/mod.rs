//! Purges at work: operators' orders, and how far the store has been swept for each.
//!
//! Acknowledging one is a few marks in `edgerouter_core`'s register, regardless of the store's size: from then on every
//! look-up compares. `orders` accepts them and answers in JSON, `history` remembers each, `sweep` walks the store in
//! small steps in the background, removes matches and counts, `log` keeps purges on disk if responses are kept there.
//! Nothing here knows HTTP.

mod history;
mod log;
pub mod orders;
pub mod sweep;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use edgerouter_core::{
    cache::purge::{
        MarkLimits, Matcher, Mistake, Order, PurgeEffect, PurgeSubject, Register,
        log::{Completion, LogContents, LogLine, PurgeRecord},
        order, scope,
    },
    plan::{Plan, limits::PurgeLimits},
};
use history::History;
pub use history::{Purge, is_id};
use log::Log;
use parking_lot::{Condvar, Mutex, RwLock};

use edgerouter_store::{Disk, Entry, Store, disk::FolderError};

/// Why a purge was not ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The order itself is invalid.
    #[error(transparent)]
    Mistake(#[from] Mistake),
    /// The reference, and the id of the purge that has it.
    #[error("{0:?}: was given to another purge, {1}; choose another reference")]
    ReferenceTaken(String, String),
    /// Refused for now: nothing of the order takes effect.
    #[error(
        "urls: {named} scopes would be in progress, and at most {most} may be (limits.purge.in_progress); try again soon"
    )]
    TooMany {
        /// Scopes in progress if this purge were accepted.
        named: usize,
        /// `limits.purge.in_progress`.
        most: usize,
    },
}

/// All purges.
#[derive(Debug)]
pub struct Purges {
    /// The newest purge in the register: what a look-up compares with.
    newest: AtomicU64,
    register: RwLock<Register>,
    /// Taken by one order after the other, before the desk and never by a worker: writing takes time.
    log: Mutex<Option<Log>>,
    log_errors: AtomicU64,
    desk: Mutex<Desk>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    history: History,
    /// The sweep must check for work, or for the end.
    rung: bool,
}

impl Purges {
    /// Opens the purges, with the content of the disk's log if there is a disk.
    pub fn open(disk: Option<&Disk>, limits: &PurgeLimits) -> Result<Arc<Self>, FolderError> {
        let now = micros();
        let Some(disk) = disk else {
            return Ok(Arc::new(Self::of(
                Register::new(now),
                None,
                Desk::default(),
            )));
        };
        // Above every number seen, whatever the clock shows.
        let above = |contents: &LogContents| {
            let purged = contents.records.last().map_or(0, |record| record.sequence);
            now.max(
                purged
                    .max(disk.newest_purge())
                    .max(contents.floor)
                    .saturating_add(1),
            )
        };
        let (log, replay) = Log::open(disk, limits, above)?;
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
            register.add(record.sequence, record.soft, at, &matcher, limits.into());
            let completion = contents.completions.get(&record.sequence);
            let purge = Arc::new(Purge::new(record, matcher, completion));
            desk.history.push(purge, limits.remembered);
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

    /// Number of the newest purge. The response of a fetch that starts now matches no purge up to this one.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// The effect of the purges after number `since` on a response.
    pub fn effect(&self, subject: &PurgeSubject<'_>, since: u64) -> PurgeEffect {
        self.register.read().effect(subject, since)
    }

    /// Applies the purges since `since` to a stored entry, and returns what they leave of it. `clears`: the number of
    /// the newest, where the subject is what every request for the entry is compared as.
    pub fn apply(
        &self,
        store: &Store,
        subject: &PurgeSubject<'_>,
        since: u64,
        entry: &Arc<Entry>,
        clears: Option<u64>,
    ) -> Option<Arc<Entry>> {
        let clear = |entry: &Entry| clears.map(|newest| entry.clear(newest)).is_some();
        let (left, counts) = match self.effect(subject, since) {
            PurgeEffect::Gone => (None, store.remove_same(entry)),
            PurgeEffect::Untouched => {
                clear(entry);
                (Some(Arc::clone(entry)), false)
            }
            PurgeEffect::Soft { at } => match entry.softened(at).map(Arc::new) {
                Some(softened) => {
                    clear(&softened);
                    let replaced = store.replace(entry, Arc::clone(&softened));
                    (Some(softened), replaced)
                }
                None => (Some(Arc::clone(entry)), clear(entry)),
            },
        };
        if counts {
            self.count(subject, entry.last_purge(), entry);
        }
        left
    }

    /// The effect on a stored entry of the purges that the sweep has not cleared it of.
    pub fn effect_on(&self, entry: &Entry) -> PurgeEffect {
        let since = entry.cleared();
        if since >= self.newest() {
            return PurgeEffect::Untouched;
        }
        let subject = PurgeSubject::of(entry.key(), entry.viewer(), entry.tags());
        subject.map_or(PurgeEffect::Untouched, |subject| {
            self.effect(&subject, since)
        })
    }

    /// True if a purge after `since` may match the response of a flight for this URL.
    pub fn outdates(&self, since: u64, url_key: &[u8], requested: (&str, Option<&str>)) -> bool {
        let Some(mut subject) = PurgeSubject::of(url_key, None, &[]) else {
            return false;
        };
        subject.requested = Some(requested);
        self.register.read().concerns_flight(&subject, since)
    }

    /// Orders a purge; true when it is new, false when the same reference ordered the same before.
    pub fn order(&self, order: Order, plan: &Plan) -> Result<(Arc<Purge>, bool), Denied> {
        let limits = &plan.limits.purge;
        order::bounded_number(&order, limits.scopes)?;
        let keys = scope::url_hashes(&order.scopes, plan);
        let mut log = self.log.lock();
        if let Some(known) = self.known(&order, limits.in_progress)? {
            return Ok((known, false));
        }
        // Numbers are times, so that they continue to grow after a restart that remembers nothing.
        let now = micros();
        let matcher = Matcher::new(&order.scopes, &keys);
        let record = PurgeRecord {
            sequence: now.max(self.newest() + 1),
            created: now / 1_000,
            soft: order.soft,
            scopes: order.scopes,
            given: order.given,
            keys,
            reference: order.reference,
        };
        // On disk first: an acknowledged purge holds, whatever happens next.
        let durable = match &mut *log {
            Some(log) => {
                log.bound(limits);
                self.write(log, |log| log.order(&record))
            }
            None => true,
        };
        let purge = Purge::new(record, matcher, None);
        purge.is_durable(durable);
        let purge = Arc::new(purge);
        self.register.write().add(
            purge.sequence,
            purge.soft,
            purge.created / 1_000,
            &purge.matcher,
            MarkLimits::from(limits),
        );
        self.newest.store(purge.sequence, Ordering::SeqCst);
        let mut desk = self.desk.lock();
        desk.history.note_kinds(&purge.scopes);
        desk.history.push(Arc::clone(&purge), limits.remembered);
        desk.rung = true;
        drop(desk);
        drop(log);
        self.work.notify_all();
        tracing::info!(id = %purge.id, soft = purge.soft, scopes = purge.scopes.len(), "purge");
        Ok((purge, true))
    }

    /// The purge that the same reference ordered before; an error if that one differs, or if there is no room for
    /// another.
    fn known(&self, order: &Order, most: usize) -> Result<Option<Arc<Purge>>, Denied> {
        let desk = self.desk.lock();
        if let Some(reference) = &order.reference
            && let Some(known) = desk
                .history
                .all()
                .find(|purge| purge.reference.as_ref() == Some(reference))
        {
            if known.is_like(order) {
                return Ok(Some(Arc::clone(known)));
            }
            return Err(Denied::ReferenceTaken(reference.clone(), known.id.clone()));
        }
        let waiting = desk.history.pending().map(|purge| purge.scopes.len());
        let named = waiting.sum::<usize>() + order.scopes.len();
        if named > most {
            return Err(Denied::TooMany { named, most });
        }
        Ok(None)
    }

    /// Writes to the log; false when the disk refuses. Logged once, until it succeeds again.
    fn write(&self, log: &mut Log, write: impl FnOnce(&mut Log) -> std::io::Result<()>) -> bool {
        let owed = log.owes();
        match write(log) {
            Ok(()) => {
                if owed {
                    for purge in self.desk.lock().history.all() {
                        purge.is_durable(true);
                    }
                    tracing::info!("all purges are written to disk again");
                }
                true
            }
            Err(error) => {
                self.log_errors.fetch_add(1, Ordering::Relaxed);
                if !owed {
                    tracing::error!(%error, "purges cannot be written to disk; they are in effect, but a restart before there is room again may bring back purged responses");
                }
                false
            }
        }
    }

    /// Retries the writing of owed lines.
    fn settle(&self) {
        if let Some(log) = &mut *self.log.lock()
            && log.owes()
        {
            self.write(log, Log::settle);
        }
    }

    /// Notes that the sweep for a purge has ended.
    fn complete(&self, purge: &Purge) {
        if let Some(log) = &mut *self.log.lock() {
            log.note(&LogLine::Completed(Completion {
                sequence: purge.sequence,
                objects: purge.objects(),
                bytes: purge.bytes(),
            }));
        }
        purge.complete();
    }

    /// Closes the log, before another process takes the disk's directory.
    pub fn close(&self) {
        *self.log.lock() = None;
    }

    /// Counts a response that was found purged, and removed, for the purges that match it.
    pub fn count(&self, subject: &PurgeSubject<'_>, since: u64, entry: &Entry) {
        self.count_one(subject, since, entry.is_object(), entry.size());
    }

    /// Like `count`, for an entry known by its description only. Slices are bytes of an object that is counted itself.
    pub(crate) fn count_one(
        &self,
        subject: &PurgeSubject<'_>,
        since: u64,
        is_object: bool,
        size: u64,
    ) {
        let objects = u64::from(is_object);
        let mut desk = self.desk.lock();
        desk.history
            .count(since, objects, size, |matcher| matcher.matches(subject));
    }

    /// `None` if no purge has that id, or it has been forgotten.
    pub fn find(&self, id: &str) -> Option<Arc<Purge>> {
        let desk = self.desk.lock();
        desk.history.all().find(|purge| purge.id == id).cloned()
    }

    /// All remembered purges, newest first.
    pub fn list(&self) -> Vec<Arc<Purge>> {
        self.desk.lock().history.all().cloned().collect()
    }

    /// Makes the sweep check at once whether there is work or an end.
    pub fn wake(&self) {
        self.desk.lock().rung = true;
        self.work.notify_all();
    }

    /// Metrics in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let log_errors = self.log_errors.load(Ordering::Relaxed);
        self.desk.lock().history.render(log_errors, out);
    }
}

fn micros() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
