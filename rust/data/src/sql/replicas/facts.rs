//! The facts about a primary and its replicas that the looks at them found.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    super::{bookmark::Needed, position::Position},
    choice::Candidate,
};

/// Positions of the primary that are kept, to know how far replicas are behind.
const SAMPLES: u32 = 32;

/// The ends of reads that a replica was chosen for, as labels.
pub(crate) const ENDS: [&str; 3] = ["ok", "behind", "failed"];

/// An end of such a read.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Ok = 0,
    Behind = 1,
    Failed = 2,
}

#[derive(Debug, Default)]
struct PrimaryFacts {
    up: bool,
    latency: Option<Duration>,
    /// `None`: it was not reached yet.
    identity: Option<Option<String>>,
    /// In the order of their times. Each change before the time is among those of the position.
    samples: VecDeque<(Instant, Position)>,
}

/// The facts about a replica.
#[derive(Debug)]
pub(crate) struct ReplicaFacts {
    state: Mutex<ReplicaState>,
    /// The last look or read reached it. Reads that are under way notice a change.
    pub(super) up: watch::Sender<bool>,
    ends: [AtomicU64; ENDS.len()],
}

#[derive(Debug, Default)]
struct ReplicaState {
    latency: Option<Duration>,
    position: Option<Position>,
    /// It has each change before this time.
    current_at: Option<Instant>,
}

/// A replica in the metrics.
#[derive(Debug)]
pub(crate) struct ReplicaReport {
    pub(crate) up: bool,
    /// `None`: not known.
    pub(crate) delay: Option<Duration>,
    pub(crate) latency: Option<Duration>,
    pub(crate) ends: [u64; ENDS.len()],
}

/// The facts about a primary and its replicas.
#[derive(Debug)]
pub(crate) struct Facts {
    primary: Mutex<PrimaryFacts>,
    pub(super) replicas: Vec<ReplicaFacts>,
    staleness: Duration,
}

impl Facts {
    pub(super) fn new(replicas: usize, staleness: Duration) -> Self {
        let one = |_| ReplicaFacts {
            state: Mutex::default(),
            up: watch::Sender::new(false),
            ends: Default::default(),
        };
        Self {
            primary: Mutex::default(),
            replicas: (0..replicas).map(one).collect(),
            staleness,
        }
    }

    /// The primary answered a question that was put at a time.
    pub(super) fn primary_seen(&self, at: Instant, latency: Duration, position: Option<Position>) {
        let mut primary = self.primary.lock();
        primary.up = true;
        primary.latency = Some(smoothed(primary.latency, latency));
        let Some(position) = position else { return };
        let samples = &mut primary.samples;
        let spacing = self.staleness / SAMPLES;
        // The newest one is replaced unless it is far enough from the one before.
        if let [.., before, newest] = samples.make_contiguous()
            && newest.0.duration_since(before.0) < spacing
        {
            samples.pop_back();
        }
        samples.push_back((at, position));
        while samples.len() > SAMPLES as usize + 2 {
            samples.pop_front();
        }
    }

    /// The primary did not answer. True if that is news.
    pub(super) fn primary_lost(&self) -> bool {
        std::mem::take(&mut self.primary.lock().up)
    }

    pub(super) fn identify(&self, identity: Option<String>) {
        self.primary.lock().identity = Some(identity);
    }

    /// `None`: the primary was not reached yet.
    pub(super) fn identity(&self) -> Option<Option<String>> {
        self.primary.lock().identity.clone()
    }

    /// A replica answered.
    pub(super) fn replica_seen(
        &self,
        replica: &ReplicaFacts,
        latency: Duration,
        position: Option<Position>,
    ) {
        let current_at = position.as_ref().and_then(|position| {
            let primary = self.primary.lock();
            let has = |(_, sample): &&(Instant, Position)| position.has(sample);
            primary.samples.iter().rev().find(has).map(|(at, _)| *at)
        });
        let mut state = replica.state.lock();
        state.latency = Some(smoothed(state.latency, latency));
        state.position = position;
        state.current_at = current_at;
    }

    /// The time by which a replica may be behind; `None`: not known.
    fn delay(&self, replica: &ReplicaState, primary: &PrimaryFacts) -> Option<Duration> {
        // While the primary cannot be reached nothing is known to have changed after its last answer.
        let until = if primary.up {
            Instant::now()
        } else {
            primary.samples.back()?.0
        };
        Some(until.saturating_duration_since(replica.current_at?))
    }

    /// The replicas that may answer a read, and the distance of the primary.
    pub(super) fn candidates(&self, needed: &Needed) -> (Vec<Candidate>, Option<Duration>) {
        let primary = self.primary.lock();
        let all = self.replicas.iter().enumerate();
        let able = all.filter_map(|(at, replica)| {
            if !*replica.up.borrow() {
                return None;
            }
            let state = replica.state.lock();
            let has = match (needed, &state.position) {
                (Needed::UpTo(wanted), Some(position)) => position.has(wanted),
                (needed, _) => *needed == Needed::Nothing,
            };
            (self.delay(&state, &primary)? <= self.staleness).then_some(Candidate {
                at,
                latency: state.latency?,
                has,
            })
        });
        let distance = primary.latency.filter(|_| primary.up);
        (able.collect(), distance)
    }

    /// All replicas, for the metrics.
    pub(crate) fn report(&self) -> Vec<ReplicaReport> {
        let primary = self.primary.lock();
        let report = |replica: &ReplicaFacts| {
            let state = replica.state.lock();
            ReplicaReport {
                up: *replica.up.borrow(),
                delay: self.delay(&state, &primary),
                latency: state.latency,
                ends: replica
                    .ends
                    .each_ref()
                    .map(|end| end.load(Ordering::Relaxed)),
            }
        };
        self.replicas.iter().map(report).collect()
    }
}

/// One slow answer among quick ones is not the distance.
fn smoothed(before: Option<Duration>, latency: Duration) -> Duration {
    match before {
        Some(before) => (before * 3 + latency.min(before * 8)) / 4,
        None => latency,
    }
}

impl ReplicaFacts {
    pub(super) fn count(&self, end: End) {
        if let Some(cell) = self.ends.get(end as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(position: u64) -> Option<Position> {
        Some(Position::Postgres(position))
    }

    fn delay(facts: &Facts) -> Option<u64> {
        facts.report().first()?.delay.map(|it| it.as_secs())
    }

    #[test]
    fn a_replica_is_behind_since_the_last_position_that_it_has() {
        let facts = Facts::new(1, Duration::from_secs(10));
        let replica = facts.replicas.first().unwrap();
        replica.up.send_replace(true);
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let near = Duration::from_millis(1);
        facts.replica_seen(replica, near, at(5));
        assert_eq!(
            (delay(&facts), facts.candidates(&Needed::Nothing).0.len()),
            (None, 0)
        );
        for (seconds, position) in [(30, 1), (20, 2), (8, 3), (4, 4)] {
            facts.primary_seen(ago(seconds), near, at(position));
        }
        for (position, seconds, able) in [(1, 30, 0), (2, 20, 0), (3, 8, 1), (9, 4, 1)] {
            facts.replica_seen(replica, near, at(position));
            assert_eq!(delay(&facts), Some(seconds));
            assert_eq!(facts.candidates(&Needed::Nothing).0.len(), able);
        }
        let needed = Needed::UpTo(Position::Postgres(10));
        assert!(!facts.candidates(&needed).0.first().unwrap().has);
        facts.replica_seen(replica, near, at(2));
        assert!(facts.primary_lost() && !facts.primary_lost());
        assert_eq!(delay(&facts), Some(16));
        facts.replica_seen(replica, near, None);
        assert_eq!(delay(&facts), None);
    }

    #[test]
    fn the_positions_of_the_primary_are_bounded_and_cover_the_time() {
        let facts = Facts::new(1, Duration::from_secs(64));
        let now = Instant::now();
        for second in 0..1_000 {
            let then = now + Duration::from_secs(second);
            facts.primary_seen(then, Duration::ZERO, at(second));
        }
        let primary = facts.primary.lock();
        assert!(primary.samples.len() <= 34);
        let (first, last) = (
            primary.samples.front().unwrap(),
            primary.samples.back().unwrap(),
        );
        assert_eq!(last.1, Position::Postgres(999));
        assert!(last.0 - first.0 >= Duration::from_secs(64));
    }
}
