//! Visitors of experiments, counted beside the workers.
//!
//! A worker sends what is new about a visitor through a bounded queue and never waits; a thread, started with the first
//! plan that has an experiment, takes it and writes the counts into a file, if there is one (`file`).
//! `core::experiment` knows what counts.

mod file;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use edgerouter_core::{
    experiment::tally::{Sighting, Tally, VisitorKey},
    plan::Plan,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use smallvec::SmallVec;

pub use self::file::CountsError;
use self::file::CountsFile;
use crate::{clock, functions::Conversions, telemetry::text};

/// Sightings that may wait; more are dropped and counted.
const QUEUE: usize = 4_096;
/// Sightings that are taken while readers wait.
const BATCH: usize = 1_024;
/// Time between two writes of the file.
const WRITE_EVERY: Duration = Duration::from_secs(30);
/// Time for the last write.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// Reports that a worker remembers as sent: 2 to this power.
const REMEMBERED: u32 = 10;

/// The counts of the engine.
#[derive(Debug)]
pub(crate) struct Counting {
    key: VisitorKey,
    queue: SyncSender<Option<Sighting>>,
    /// Until the thread has it.
    waiting: Mutex<Option<Receiver<Option<Sighting>>>>,
    /// Closed by the thread at its end.
    running: Mutex<Option<Receiver<()>>>,
    tally: Mutex<Tally>,
    file: Option<CountsFile>,
    /// The shift of tests.
    test_clock: Option<Arc<AtomicI64>>,
    counted: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
    /// The last write of the file failed.
    failing: AtomicBool,
}

impl Counting {
    /// Reads the file, if there is one; `fresh` is the key of new counts.
    pub(crate) fn open(
        path: Option<&Path>,
        fresh: u128,
        test_clock: Option<Arc<AtomicI64>>,
    ) -> Result<Self, CountsError> {
        let fresh = ((fresh >> 64) as u64, fresh as u64);
        let (file, tally, key) = match path {
            None => (None, Tally::default(), fresh),
            Some(path) => {
                let (file, tally, key) = CountsFile::open(path, fresh)?;
                (Some(file), tally, key)
            }
        };
        let (queue, waiting) = sync_channel(QUEUE);
        Ok(Self {
            key,
            queue,
            waiting: Mutex::new(Some(waiting)),
            running: Mutex::default(),
            tally: Mutex::new(tally),
            file,
            test_clock,
            counted: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        })
    }

    /// Counts from now on, if a plan has an experiment.
    pub(crate) fn serve(self: &Arc<Self>, plan: &Plan) -> std::io::Result<()> {
        if plan.experiments.is_empty() {
            return Ok(());
        }
        let Some(waiting) = self.waiting.lock().take() else {
            return Ok(());
        };
        let own = Arc::clone(self);
        let (end, running) = sync_channel(0);
        let thread = std::thread::Builder::new().name("edge-experiments".to_owned());
        thread.spawn(move || {
            own.run(&waiting);
            drop::<SyncSender<()>>(end);
        })?;
        *self.running.lock() = Some(running);
        Ok(())
    }

    /// The key of the visitors' numbers.
    pub(crate) fn key(&self) -> VisitorKey {
        self.key
    }

    /// Queues a sighting; false: it is lost.
    pub(crate) fn send(&self, sighting: Sighting) -> bool {
        let sent = self.queue.try_send(Some(sighting)).is_ok();
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    fn run(&self, waiting: &Receiver<Option<Sighting>>) {
        let mut written = Instant::now();
        let mut changed = false;
        while !self.ended.load(Ordering::Acquire) {
            let left = match changed {
                true => WRITE_EVERY.saturating_sub(written.elapsed()),
                false => WRITE_EVERY,
            };
            match waiting.recv_timeout(left) {
                Ok(Some(first)) => {
                    self.take(first, waiting);
                    changed = true;
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if changed && written.elapsed() >= WRITE_EVERY {
                self.write();
                (written, changed) = (Instant::now(), false);
            }
        }
        while let Ok(Some(first)) = waiting.try_recv() {
            self.take(first, waiting);
            changed = true;
        }
        if changed {
            self.write();
        }
    }

    /// Takes a sighting, and those that wait behind it.
    fn take(&self, first: Sighting, waiting: &Receiver<Option<Sighting>>) {
        let shift = self.test_clock.as_ref();
        let shift = shift.map_or(0, |shift| shift.load(Ordering::Acquire));
        let now = clock::wall(shift).as_secs();
        let mut tally = self.tally.lock();
        let mut counted = 1;
        tally.take(&first, now);
        while counted < BATCH as u64
            && let Ok(Some(next)) = waiting.try_recv()
        {
            tally.take(&next, now);
            counted += 1;
        }
        self.counted.fetch_add(counted, Ordering::Relaxed);
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        let bytes = edgerouter_core::experiment::kept::to_bytes(&self.tally.lock(), self.key);
        let result = file.write(&bytes);
        if let Err(error) = &result
            && !self.failing.load(Ordering::Relaxed)
        {
            let file = file.path().display();
            tracing::warn!(%file, %error, "the counts of experiments cannot be written; they are kept in memory");
        }
        self.failing.store(result.is_err(), Ordering::Relaxed);
    }

    /// Ends soon, without waiting.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let _ = self.queue.try_send(None);
    }

    /// Writes the file a last time. A disk may hang, which must not keep the process from ending.
    pub(crate) fn close(&self) {
        self.end();
        let running = self.running.lock().take();
        if let Some(running) = running
            && running.recv_timeout(LAST_WRITE) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the counts of experiments were not written in time");
        }
    }

    /// The experiments of a plan with their counts, as data.
    pub(crate) fn view(&self, plan: &Plan) -> Value {
        let tally = self.tally.lock();
        let experiments = plan.experiments.iter().map(|experiment| {
            let weights = experiment.variants.iter();
            let weights: Value = weights
                .map(|(name, weight)| (name.to_string(), json!(weight)))
                .collect();
            let mut view = tally
                .view(&experiment.id)
                .unwrap_or_else(|| json!({"name": &*experiment.id.name}));
            if let Some(fields) = view.as_object_mut() {
                fields.insert("weights".to_owned(), weights);
            }
            view
        });
        json!({
            "experiments": experiments.collect::<Value>(),
            "kept": self.file.is_some(),
            "lost": self.lost.load(Ordering::Relaxed),
        })
    }

    /// Writes the metrics.
    pub(crate) fn render(&self, plan: &Plan, out: &mut String) {
        let tally = self.tally.lock();
        // Runs with different salts have one name.
        let mut sums: BTreeMap<(Arc<str>, Arc<str>), u64> = BTreeMap::new();
        for experiment in &plan.experiments {
            for (variant, visitors) in tally.counts(&experiment.id) {
                let of_name = (Arc::clone(&experiment.id.name), variant);
                *sums.entry(of_name).or_default() += visitors;
            }
        }
        let left_out = tally.left_out();
        drop(tally);
        text::labelled(
            out,
            "edgerouter_experiment_visitors",
            "Visitors of the experiments of the plan, by the variant that they got.",
            ["experiment", "variant"],
            (sums.into_iter())
                .map(|((experiment, variant), visitors)| ([experiment, variant], visitors)),
        );
        let name = "edgerouter_experiment_file_failing";
        let help = "1 while the file with the counts of experiments cannot be written.";
        text::one(
            out,
            name,
            help,
            u8::from(self.failing.load(Ordering::Relaxed)),
        );
        text::labelled(
            out,
            "edgerouter_experiment_sightings_total",
            "Reports of workers about visitors of experiments, by result.",
            ["result"],
            [
                (["counted"], self.counted.load(Ordering::Relaxed)),
                (["lost"], self.lost.load(Ordering::Relaxed)),
                (["left-out"], left_out),
            ],
        );
    }
}

/// Reports that a worker has sent of late, so that it does not send them again. A table of fixed size: a report
/// that is forgotten is sent twice, which changes no count.
#[derive(Debug, Default)]
pub(crate) struct Sent(RefCell<Vec<u64>>);

impl Sent {
    /// Sends a report by `send`, which says if it could, unless it was sent of late.
    ///
    /// A conversion counts after an exposure only: a new exposure has `conversion` forgotten.
    pub(crate) fn or(&self, number: u64, conversion: u64, send: impl FnOnce() -> bool) {
        let mut sent = self.0.borrow_mut();
        if sent.is_empty() {
            sent.resize(1 << REMEMBERED, 0);
        }
        // Numbers of one visitor differ in few bits, and must not have one place (Knuth's multiplicative hash).
        let place = |number: u64| {
            (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - REMEMBERED)) as usize
        };
        if sent.get(place(number)) == Some(&number) || !send() {
            return;
        }
        for (at, kept) in [(conversion, 0), (number, number)] {
            if let Some(slot) = sent.get_mut(place(at)) {
                *slot = kept;
            }
        }
    }
}

/// The visitor of a request, as callables count its conversions.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) counting: Arc<Counting>,
    /// Of each experiment: what is known of the visitor.
    pub(crate) sightings: SmallVec<[Sighting; 1]>,
}

impl Conversions for Visitor {
    fn convert(&self, goal: &str, value: f64) -> bool {
        let goal: Arc<str> = goal.into();
        let mut all = true;
        for sighting in &self.sightings {
            let conversion = Some((Arc::clone(&goal), value));
            all &= self.counting.send(Sighting {
                conversion,
                ..sighting.clone()
            });
        }
        all
    }
}

/// The numbers of a request's visitor, in the order of the plan's experiments.
pub(crate) type VisitorNumbers = SmallVec<[u64; 4]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_one_visitor_do_not_displace_one_another() {
        for visitor in [0_u64, 7, 1 << 40, u64::MAX] {
            let (sent, mut count) = (Sent::default(), 0);
            for _ in 0..100 {
                for what in 2..6_u64 {
                    sent.or(visitor ^ what.rotate_right(8), visitor ^ 1, || {
                        count += 1;
                        true
                    });
                }
            }
            assert_eq!(count, 4, "{visitor}");
        }
    }
}
