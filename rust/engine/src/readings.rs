//! Settings of experiments from key-value stores: read at the start, and then every few seconds.
//!
//! The core names the keys and judges their values. A reading that fails or does not validate leaves the one before in
//! use. Each plan in service has a board of its own, so that a late reading for an earlier plan changes nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use edgerouter_core::{
    experiment::{ConfigSource, Experiment, Reading, Readings},
    plan::{Binding, Plan},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    data::{Bindings, DataCall, DataError, DataReply, DataResult, KvCall, KvReply},
    telemetry::text,
};

/// The time that a start or a reload waits for first readings, all together.
const FIRST: Duration = Duration::from_secs(1);

/// The values of the keys of an experiment, or why they could not be read.
pub(crate) type Values = Result<Vec<Option<Bytes>>, String>;

/// The readings of one plan.
#[derive(Debug)]
pub(crate) struct ReadingBoard {
    current: ArcSwap<Readings>,
    /// By the names of experiments; kept across reloads.
    counts: BTreeMap<Arc<str>, Arc<Counts>>,
}

/// The results of readings, and the last error that was logged.
#[derive(Debug, Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    invalid: AtomicU64,
    logged: Mutex<Option<String>>,
}

impl ReadingBoard {
    /// The board of a plan: with the readings before where an experiment reads the same place, and with first readings
    /// otherwise, as far as they come in time.
    pub(crate) fn begin(
        plan: &Plan,
        bindings: &Bindings,
        previous: Option<(&Plan, &Self)>,
    ) -> Self {
        let before = previous.map(|(_, board)| &board.counts);
        let counts_of = |name: &Arc<str>| {
            let kept = before.and_then(|counts| counts.get(name));
            (Arc::clone(name), kept.cloned().unwrap_or_default())
        };
        let mut board = Self {
            current: ArcSwap::default(),
            counts: plan
                .configured()
                .map(|(experiment, _)| counts_of(&experiment.name))
                .collect(),
        };
        let deadline = Instant::now() + FIRST;
        let readings = plan.configured().map(|(experiment, source)| {
            let known = previous.and_then(|(before, board)| {
                let known = board.known(before, experiment)?;
                (store(before, source) == store(plan, source)).then_some(known)
            });
            known.or_else(|| {
                let values = values_by(bindings, source, deadline);
                board.judge(experiment, source, values).map(Arc::new)
            })
        });
        let readings: Readings = readings.collect();
        board.current = ArcSwap::from_pointee(readings);
        board
    }

    /// The reading of an experiment of a later plan, if one of this board's plan reads the same.
    fn known(&self, plan: &Plan, later: &Experiment) -> Option<Arc<Reading>> {
        let mut experiments = plan.configured();
        let (same, _) = experiments.find(|(one, _)| one.reads_like(later))?;
        self.current.load().get(same).cloned()
    }

    /// The readings in use.
    pub(crate) fn current(&self) -> Readings {
        Readings::clone(&self.current.load())
    }

    /// Takes the values of a source; true if the settings have changed.
    pub(crate) fn take(
        &self,
        experiment: &Experiment,
        source: &ConfigSource,
        values: Values,
    ) -> bool {
        let Some(reading) = self.judge(experiment, source, values) else {
            return false;
        };
        let changed = |readings: &Readings| {
            let before = readings.get(experiment);
            before.is_none_or(|before| **before != reading)
        };
        if !changed(&self.current.load()) {
            return false;
        }
        let reading = Arc::new(reading);
        self.current
            .rcu(|readings| readings.with(source.slot, Arc::clone(&reading)));
        true
    }

    /// Makes a reading of the values, counts it, and logs a reason once. `None`: the one before stays.
    fn judge(
        &self,
        experiment: &Experiment,
        source: &ConfigSource,
        values: Values,
    ) -> Option<Reading> {
        let counts = self.counts.get(&experiment.name)?;
        let (counter, read) = match values {
            Err(error) => (&counts.failed, Err(error)),
            Ok(values) => {
                let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                match experiment.read(source, &values) {
                    Ok(reading) => (&counts.ok, Ok(reading)),
                    Err(error) => (&counts.invalid, Err(error.to_string())),
                }
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let experiment = &*experiment.name;
        let mut logged = counts.logged.lock();
        match read {
            Ok(reading) => {
                if logged.take().is_some() {
                    tracing::info!(experiment, "settings of an experiment can be read again");
                }
                Some(reading)
            }
            Err(error) => {
                if logged.as_ref() != Some(&error) {
                    tracing::warn!(
                        experiment,
                        error,
                        "settings of an experiment cannot be used; those before stay"
                    );
                    *logged = Some(error);
                }
                None
            }
        }
    }

    pub(crate) fn render(&self, out: &mut String) {
        if self.counts.is_empty() {
            return;
        }
        let samples = self.counts.iter().flat_map(|(experiment, counts)| {
            let counted = [
                ("ok", &counts.ok),
                ("failed", &counts.failed),
                ("invalid", &counts.invalid),
            ];
            counted.map(|(result, count)| ([&**experiment, result], count.load(Ordering::Relaxed)))
        });
        text::labelled(
            out,
            "edgerouter_experiment_readings_total",
            "Readings of experiments' settings, by result; all but ok leave the settings as they were.",
            ["experiment", "result"],
            samples,
        );
    }
}

/// The binding of a source.
fn store<'p>(plan: &'p Plan, source: &ConfigSource) -> Option<&'p Binding> {
    let mut bindings = plan.bindings.iter();
    bindings.find(|binding| binding.name == source.binding)
}

/// Begins to read a key, past the read cache. `Some`: the result, and `deliver` is not called.
fn begin(
    bindings: &Bindings,
    source: &ConfigSource,
    key: &str,
    deliver: impl FnOnce(DataResult) + Send + 'static,
) -> Option<DataResult> {
    let Some(bound) = bindings.get(&source.binding) else {
        return Some(Err(DataError::Closed));
    };
    let (key, exact) = (key.into(), true);
    bound.call(DataCall::KeyValue(KvCall::Get { key, exact }), deliver)
}

fn value(result: DataResult) -> Result<Option<Bytes>, String> {
    match result {
        Ok(DataReply::KeyValue(KvReply::Entry(entry))) => Ok(entry.map(|entry| entry.value)),
        Ok(_) => Err("the store gave another reply than was requested".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the keys of a source one after another; the time that each may take is the store's.
pub(crate) async fn values(bindings: &Bindings, source: &ConfigSource) -> Values {
    let mut values = Vec::with_capacity(source.keys.len());
    for key in &source.keys {
        let (sender, receiver) = oneshot::channel();
        let ready = begin(bindings, source, key, move |result| {
            let _ = sender.send(result);
        });
        let result = match ready {
            Some(result) => result,
            None => receiver.await.unwrap_or(Err(DataError::Closed)),
        };
        values.push(value(result)?);
    }
    Ok(values)
}

/// The same on a thread that may wait until `deadline`.
fn values_by(bindings: &Bindings, source: &ConfigSource, deadline: Instant) -> Values {
    let mut values = Vec::with_capacity(source.keys.len());
    for key in &source.keys {
        let (sender, receiver) = mpsc::channel();
        let ready = begin(bindings, source, key, move |result| {
            let _ = sender.send(result);
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let result = match ready {
            Some(result) => result,
            None => receiver
                .recv_timeout(left)
                .map_err(|_| "the store has not answered in time for the start".to_owned())?,
        };
        values.push(value(result)?);
    }
    Ok(values)
}
