//! The walk for a purge: removes hard matches, makes soft ones stale, counts both, clears the rest.
//!
//! A thread of its own, in steps of a few dozen entries, each of which holds one shard's lock for as long as it takes
//! to copy pointers. All waiting purges share one walk. Look-ups compare entries that it has not reached yet
//! themselves, so nothing waits for it, and it takes at most a fifth of a core: a worker on the same core that is busy
//! half of the time would otherwise fall behind during the walk.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::purge::{Matcher, PurgeEffect, PurgeSubject},
    record::RecordKind,
};
use edgerouter_store::{
    Entry, Store, View,
    disk::{Disk, Meta},
    memory::WalkStep,
};
use edgerouter_telemetry::life::Life;
use tokio::sync::watch;

use super::{Purge, Purges};

/// Slots of a shard that one step examines.
const STEP: usize = 64;
/// Length of a stretch of work without a rest: as long as a hit may be delayed.
const STRETCH: Duration = Duration::from_micros(200);

/// Length of a rest, as a multiple of the work before it.
const REST: u32 = 4;

/// Rests after stretches of work, not counting the time in which another thread had the core.
struct Pace(Instant);

impl Pace {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Called after each small piece of work.
    fn rest(&mut self) {
        let worked = self.0.elapsed();
        if worked >= STRETCH {
            std::thread::sleep(REST * worked.min(2 * STRETCH));
            self.0 = Instant::now();
        }
    }
}

/// Starts the thread that removes purged responses. It ends when `life` does.
pub fn start(
    purges: Arc<Purges>,
    store: Arc<Store>,
    life: watch::Receiver<Life>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("edge-purges".to_owned())
        .spawn(move || {
            let ended = || *life.borrow() == Life::Ended || life.has_changed().is_err();
            while !ended() {
                let pending = wait(&purges);
                purges.settle();
                if !pending.is_empty() {
                    sweep(&purges, &store, &pending, &ended);
                }
            }
        })
}

/// Waits until there is work or the end.
fn wait(purges: &Purges) -> Vec<Arc<Purge>> {
    let mut desk = purges.desk.lock();
    if !desk.rung {
        purges.work.wait_for(&mut desk, Duration::from_secs(1));
    }
    desk.rung = false;
    desk.history.pending().cloned().collect()
}

fn sweep(purges: &Purges, store: &Store, pending: &[Arc<Purge>], ended: &dyn Fn() -> bool) {
    let newest = purges.newest();
    let mut at = Some(WalkStep::default());
    let mut found = Vec::with_capacity(STEP);
    let mut pace = Pace::new();
    while let Some(here) = at {
        at = store.memory().step(here, STEP, &mut found);
        for entry in found.drain(..) {
            apply(purges, store, &entry, newest);
        }
        pace.rest();
        if ended() {
            return;
        }
    }
    if let Some(disk) = store.disk() {
        sweep_disk(purges, store, disk, &mut pace);
    }
    for purge in pending {
        purges.complete(purge);
        tracing::info!(id = %purge.id, objects = purge.objects(), bytes = purge.bytes(), "purge completed");
    }
}

/// Sweeps entries that only the disk has. Hard matches are removed. Soft ones stay as they are, because writing them
/// again would cost more than comparing them with the purge when they are read.
fn sweep_disk(purges: &Purges, store: &Store, disk: &Disk, pace: &mut Pace) {
    disk.remove_where(|meta| {
        pace.rest();
        let Some(subject) = on_disk_only(store, meta) else {
            return false;
        };
        let effect = purges.effect(&subject, meta.last_purge);
        if effect != PurgeEffect::Untouched {
            purges.count_one(
                &subject,
                meta.last_purge,
                meta.kind == RecordKind::OBJECT,
                meta.bytes,
            );
        }
        effect == PurgeEffect::Gone
    });
}

/// A response or a slice that memory does not have, as purges see it.
fn on_disk_only<'a>(store: &Store, meta: &'a Meta<'_>) -> Option<PurgeSubject<'a>> {
    if !matches!(meta.kind, RecordKind::OBJECT | RecordKind::SLICE)
        || store.peek(meta.key).is_some()
    {
        return None;
    }
    PurgeSubject::of(meta.key, meta.viewer, meta.tags)
}

fn apply(purges: &Purges, store: &Store, entry: &Arc<Entry>, newest: u64) {
    if purgeable(entry)
        && entry.cleared() < newest
        && let Some(subject) = PurgeSubject::of(entry.key(), entry.viewer(), entry.tags())
    {
        purges.apply(store, &subject, entry.cleared(), entry, Some(newest));
    }
}

/// True if it is a response, or a slice of one.
fn purgeable(entry: &Entry) -> bool {
    matches!(entry.view(), View::Object | View::Slice(_))
}

/// The matches of a purge that was not carried out.
#[derive(Debug, Default)]
pub struct Census {
    /// Whole responses that match.
    pub objects: u64,
    /// Bytes of all that matches, parts of large objects included.
    pub bytes: u64,
    /// Some of them, as `host/path?query`.
    pub sample: Vec<String>,
}

const SAMPLE: usize = 20;

/// Counts what a purge would match, in memory and on disk, and changes nothing.
pub(crate) fn census(store: &Store, matcher: &Matcher) -> Census {
    let mut census = Census::default();
    let mut at = Some(WalkStep::default());
    let mut found = Vec::with_capacity(STEP);
    while let Some(here) = at {
        at = store.memory().step(here, STEP, &mut found);
        for entry in found.drain(..) {
            let subject = PurgeSubject::of(entry.key(), entry.viewer(), entry.tags());
            if !purgeable(&entry) || !subject.is_some_and(|s| matcher.matches(&s)) {
                continue;
            }
            census.add(entry.key(), entry.is_object(), entry.size());
        }
    }
    if let Some(disk) = store.disk() {
        disk.scan(|meta| {
            if on_disk_only(store, meta).is_some_and(|s| matcher.matches(&s)) {
                census.add(meta.key, meta.kind == RecordKind::OBJECT, meta.bytes);
            }
        });
    }
    census
}

impl Census {
    fn add(&mut self, key: &[u8], is_object: bool, bytes: u64) {
        self.bytes += bytes;
        if !is_object {
            return;
        }
        self.objects += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(edgerouter_core::cache::key::describe(key));
        }
    }
}
