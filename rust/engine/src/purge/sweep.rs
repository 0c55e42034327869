//! The walk behind a purge: frees what is gone, makes stale what is soft, counts both, clears the rest.
//!
//! A thread of its own, in steps of a few hundred entries, each of which holds one shard's lock for as long as it takes
//! to copy pointers. All purges that are waiting share one walk. What it has not reached yet, look-ups compare
//! themselves, so nothing waits for it.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use edgerouter_core::cache::purge::{Matcher, Subject, Verdict};
use tokio::sync::watch;

use super::{Purge, Purges};
use crate::{
    server::Life,
    store::{
        Entry, Store, View,
        memory::{MemoryStore, Step},
    },
    worker::Shared,
};

/// Slots of a shard that one step looks at.
const STEP: usize = 256;
/// The store's own work goes first: after each so many steps the thread lets others run.
const BREATH: usize = 16;

pub(crate) fn start(
    shared: Arc<Shared>,
    life: watch::Receiver<Life>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("edge-purges".to_owned())
        .spawn(move || {
            let ended = || *life.borrow() == Life::Ended || life.has_changed().is_err();
            while !ended() {
                let pending = wait(&shared.purges);
                if !pending.is_empty() {
                    sweep(&shared, &pending, &ended);
                }
            }
        })
}

/// Waits until there is something to do, or nothing to wait for.
fn wait(purges: &Purges) -> Vec<Arc<Purge>> {
    let mut desk = purges.desk.lock();
    if !desk.rung {
        purges.work.wait_for(&mut desk, Duration::from_secs(1));
    }
    desk.rung = false;
    desk.pending().cloned().collect()
}

fn sweep(shared: &Shared, pending: &[Arc<Purge>], ended: &dyn Fn() -> bool) {
    let purges = &shared.purges;
    let newest = purges.newest();
    let mut at = Some(Step::default());
    let mut found = Vec::with_capacity(STEP);
    let mut steps = 0usize;
    while let Some(here) = at {
        at = shared.store.memory().step(here, STEP, &mut found);
        for entry in found.drain(..) {
            apply(purges, &shared.store, &entry, newest);
        }
        steps += 1;
        if steps.is_multiple_of(BREATH) {
            std::thread::yield_now();
            if ended() {
                return;
            }
        }
    }
    for purge in pending {
        purge
            .completed
            .store(true, std::sync::atomic::Ordering::Release);
        tracing::info!(id = %purge.id, objects = purge.objects(), bytes = purge.bytes(), "purge completed");
    }
}

fn apply(purges: &Purges, store: &Store, entry: &Arc<Entry>, newest: u64) {
    if !purgeable(entry) || entry.cleared() >= newest {
        return;
    }
    let Some(subject) = Subject::of(entry.key(), entry.viewer(), entry.tags()) else {
        return;
    };
    let done = match purges.judge(&subject, entry.cleared()) {
        Verdict::Untouched => {
            entry.clear(newest);
            false
        }
        Verdict::Gone => store.remove_same(entry),
        Verdict::Soft { at } => match entry.softened(at) {
            Some(softened) => {
                softened.clear(newest);
                store.replace(entry, Arc::new(softened))
            }
            None => {
                entry.clear(newest);
                true
            }
        },
    };
    if done {
        purges.count(&subject, entry.born(), entry);
    }
}

/// Responses, and the slices of large ones.
fn purgeable(entry: &Entry) -> bool {
    matches!(entry.view(), View::Object | View::Slice(_))
}

/// What a purge would match, without doing it.
#[derive(Debug, Default)]
pub struct Census {
    pub objects: u64,
    pub bytes: u64,
    /// Some of them, as `host/path?query`.
    pub sample: Vec<String>,
}

const SAMPLE: usize = 20;

pub(crate) fn census(store: &MemoryStore, matcher: &Matcher) -> Census {
    let mut census = Census::default();
    let mut at = Some(Step::default());
    let mut found = Vec::with_capacity(STEP);
    while let Some(here) = at {
        at = store.step(here, STEP, &mut found);
        for entry in found.drain(..) {
            let subject = Subject::of(entry.key(), entry.viewer(), entry.tags());
            if !purgeable(&entry) || !subject.is_some_and(|s| matcher.matches(&s)) {
                continue;
            }
            census.bytes += entry.size();
            if !entry.is_object() {
                continue;
            }
            census.objects += 1;
            if census.sample.len() < SAMPLE {
                census
                    .sample
                    .push(edgerouter_core::cache::key::describe(entry.key()));
            }
        }
    }
    census
}
