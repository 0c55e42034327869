//! Visitors and conversions by variant: counts that are made of sightings, within fixed bounds.
//!
//! A visitor counts once for each experiment, in the variant of the first response that it got, and once for each goal
//! that it reaches after that. Visitors are numbers: keyed hashes of their ids.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde_json::{Value, json};
use smallvec::SmallVec;

use super::bucket::siphash;

/// The key of the visitors' numbers, which is secret.
pub type VisitorKey = (u64, u64);

/// The name of an experiment with the number of its run: a new salt begins a new one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunId {
    /// The experiment's name.
    pub name: Arc<str>,
    /// A hash of its salt.
    pub run: u64,
}

/// The number of a visitor with an id of some kind.
pub fn visitor(key: VisitorKey, experiment: &str, kind: u8, id: &[u8]) -> u64 {
    let mut text: SmallVec<[u8; 512]> = SmallVec::new();
    text.extend_from_slice(experiment.as_bytes());
    text.extend_from_slice(&[0, kind]);
    text.extend_from_slice(id);
    siphash(key, &text)
}

/// Visitors of all experiments together.
pub const MOST_VISITORS: usize = 1_000_000;
/// Runs of experiments; a further one displaces the one that was seen last the longest ago.
pub const MOST_RUNS: usize = 64;
/// Variants of a run.
pub const MOST_VARIANTS: usize = 32;
/// Goals of a run.
pub const MOST_GOALS: usize = 8;
/// Points of the history of a run; with more of them every other one is dropped.
const MOST_POINTS: usize = 128;
/// New visitors between two points of it, at first.
const POINT_EVERY: u64 = 50;
/// The position of a visitor who got two variants.
const MIXED: u8 = u8::MAX;

/// The report of one request about its visitor.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The experiment.
    pub id: Arc<RunId>,
    /// The visitor's number.
    pub visitor: u64,
    /// The variant of the response; `None`: it has none of this experiment.
    pub variant: Option<Arc<str>>,
    /// The goal that is reached, and what that is worth.
    pub conversion: Option<(Arc<str>, f64)>,
}

/// One visitor: 16 bytes with its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) variant: u8,
    /// A bit for each goal.
    pub(super) goals: u8,
    pub(super) value: f32,
}

/// Counts of a variant.
#[derive(Debug, Clone, Default)]
struct Arm {
    visitors: u64,
    conversions: [u64; MOST_GOALS],
    /// The values of its visitors, and their squares.
    value: f64,
    squares: f64,
}

impl Arm {
    /// Adds a visitor, or takes one away.
    fn add(&mut self, seen: Seen, sign: i64) {
        self.visitors = self.visitors.saturating_add_signed(sign);
        for (goal, count) in self.conversions.iter_mut().enumerate() {
            if seen.goals >> goal & 1 == 1 {
                *count = count.saturating_add_signed(sign);
            }
        }
        let value = f64::from(seen.value);
        self.value += sign as f64 * value;
        self.squares += sign as f64 * value * value;
    }
}

/// The counts at one time: visitors by variant, and conversions by variant and goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) visitors: Vec<u64>,
    pub(super) conversions: Vec<Vec<u64>>,
}

/// One run of an experiment.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: Arc<RunId>,
    pub(super) since: u64,
    pub(super) last: u64,
    pub(super) variants: Vec<Arc<str>>,
    pub(super) goals: Vec<Arc<str>>,
    pub(super) left_out: u64,
    pub(super) every: u64,
    pub(super) history: Vec<Point>,
    pub(super) visitors: HashMap<u64, Seen, RandomState>,
    arms: Vec<Arm>,
    mixed: u64,
    since_point: u64,
}

/// The counts of all experiments.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) runs: Vec<Run>,
    visitors: usize,
}

/// The position of a name, which is added if there is room.
fn position(names: &mut Vec<Arc<str>>, name: &Arc<str>, most: usize) -> Option<usize> {
    if let Some(found) = names.iter().position(|one| one == name) {
        return Some(found);
    }
    (names.len() < most).then(|| {
        names.push(Arc::clone(name));
        names.len() - 1
    })
}

impl Run {
    pub(super) fn new(id: Arc<RunId>, now: u64) -> Self {
        Self {
            id,
            since: now,
            last: now,
            variants: Vec::new(),
            goals: Vec::new(),
            left_out: 0,
            every: POINT_EVERY,
            history: Vec::new(),
            visitors: HashMap::default(),
            arms: Vec::new(),
            mixed: 0,
            since_point: 0,
        }
    }

    /// Takes a visitor as it was kept; false if it fits none of the names.
    pub(super) fn restore(&mut self, visitor: u64, seen: Seen) -> bool {
        let goals = (1_u16 << self.goals.len().min(MOST_GOALS)) - 1;
        let known = seen.variant == MIXED || usize::from(seen.variant) < self.variants.len();
        if !known || u16::from(seen.goals) & !goals != 0 || !seen.value.is_finite() {
            return false;
        }
        self.arms.resize_with(self.variants.len(), Arm::default);
        if self.visitors.insert(visitor, seen).is_some() {
            return false;
        }
        match self.arms.get_mut(usize::from(seen.variant)) {
            Some(arm) => arm.add(seen, 1),
            None => self.mixed += 1,
        }
        true
    }

    /// Notes the variant of a response; true if the visitor is new. `room`: one more visitor may be kept.
    fn expose(&mut self, visitor: u64, variant: &Arc<str>, room: bool) -> bool {
        let Some(number) = position(&mut self.variants, variant, MOST_VARIANTS) else {
            self.left_out += 1;
            return false;
        };
        self.arms.resize_with(self.variants.len(), Arm::default);
        let number = number as u8;
        match self.visitors.get_mut(&visitor) {
            Some(seen) if seen.variant == number || seen.variant == MIXED => {}
            Some(seen) => {
                if let Some(arm) = self.arms.get_mut(usize::from(seen.variant)) {
                    arm.add(*seen, -1);
                }
                seen.variant = MIXED;
                self.mixed += 1;
            }
            None if !room => self.left_out += 1,
            None => {
                let seen = Seen {
                    variant: number,
                    goals: 0,
                    value: 0.0,
                };
                self.visitors.insert(visitor, seen);
                if let Some(arm) = self.arms.get_mut(usize::from(number)) {
                    arm.add(seen, 1);
                }
                return true;
            }
        }
        false
    }

    /// Notes a conversion, if the visitor is known.
    fn convert(&mut self, visitor: u64, goal: &Arc<str>, value: f64) {
        let Some(seen) = self.visitors.get_mut(&visitor) else {
            return;
        };
        let Some(goal) = position(&mut self.goals, goal, MOST_GOALS) else {
            self.left_out += 1;
            return;
        };
        let arm = self.arms.get_mut(usize::from(seen.variant));
        let before = *seen;
        seen.goals |= 1 << goal;
        seen.value = (f64::from(seen.value) + value) as f32;
        if let Some(arm) = arm {
            arm.add(before, -1);
            arm.add(*seen, 1);
        }
    }

    /// Adds a point to the history if there are enough new visitors.
    fn note(&mut self, now: u64) {
        self.since_point += 1;
        if self.since_point < self.every {
            return;
        }
        self.since_point = 0;
        if self.history.len() >= MOST_POINTS {
            let mut odd = false;
            self.history.retain(|_| {
                odd = !odd;
                !odd
            });
            self.every = self.every.saturating_mul(2);
        }
        let goals = self.goals.len();
        self.history.push(Point {
            at: now,
            visitors: self.arms.iter().map(|arm| arm.visitors).collect(),
            conversions: (self.arms.iter())
                .map(|arm| arm.conversions.iter().take(goals).copied().collect())
                .collect(),
        });
    }

    fn view(&self) -> Value {
        let reached = |counts: &[u64]| -> Value {
            let pairs = self.goals.iter().zip(counts);
            pairs
                .map(|(goal, count)| (goal.to_string(), json!(count)))
                .collect()
        };
        let variants = self.variants.iter().zip(&self.arms);
        let history = self.history.iter().map(|point| {
            json!({
                "at": point.at,
                "visitors": point.visitors,
                "conversions": point.conversions.iter().map(|counts| reached(counts)).collect::<Value>(),
            })
        });
        json!({
            "name": &*self.id.name,
            "since": self.since,
            "last": self.last,
            "goals": self.goals.iter().map(|goal| &**goal).collect::<Vec<_>>(),
            "mixed": self.mixed,
            "left_out": self.left_out,
            "variants": variants.map(|(name, arm)| json!({
                "variant": &**name,
                "visitors": arm.visitors,
                "conversions": reached(&arm.conversions),
                "value": arm.value,
                "squares": arm.squares,
            })).collect::<Value>(),
            "history": history.collect::<Value>(),
        })
    }
}

impl Tally {
    /// Takes one sighting, at a time in Unix seconds.
    pub fn take(&mut self, sighting: &Sighting, now: u64) {
        let room = self.visitors < MOST_VISITORS;
        // A conversion alone begins no run.
        let known = self.runs.iter().position(|run| run.id == sighting.id);
        let at = match (known, &sighting.variant) {
            (Some(at), _) => at,
            (None, Some(_)) => self.begin(&sighting.id, now),
            (None, None) => return,
        };
        let Some(run) = self.runs.get_mut(at) else {
            return;
        };
        run.last = now;
        let is_new = (sighting.variant.as_ref())
            .is_some_and(|variant| run.expose(sighting.visitor, variant, room));
        if let Some((goal, value)) = &sighting.conversion {
            run.convert(sighting.visitor, goal, *value);
        }
        if is_new {
            self.visitors += 1;
            run.note(now);
        }
    }

    fn begin(&mut self, id: &Arc<RunId>, now: u64) -> usize {
        if self.runs.len() >= MOST_RUNS {
            let oldest =
                (0..self.runs.len()).min_by_key(|at| self.runs.get(*at).map(|run| run.last));
            if let Some(oldest) = oldest {
                let gone = self.runs.remove(oldest);
                self.visitors = self.visitors.saturating_sub(gone.visitors.len());
            }
        }
        self.runs.push(Run::new(Arc::clone(id), now));
        self.runs.len() - 1
    }

    /// Adds a run as it was kept.
    pub(super) fn keep(&mut self, run: Run) {
        self.visitors += run.visitors.len();
        self.runs.push(run);
    }

    /// Visitors that are kept.
    pub fn visitors(&self) -> usize {
        self.visitors
    }

    /// Visitors and variants beyond the bounds.
    pub fn left_out(&self) -> u64 {
        self.runs.iter().map(|run| run.left_out).sum()
    }

    /// The counts of a run as data; `None` if there are none yet.
    pub fn view(&self, id: &RunId) -> Option<Value> {
        let found = self.runs.iter().find(|run| *run.id == *id);
        found.map(Run::view)
    }

    /// Visitors of each variant of a run, by name.
    pub fn counts(&self, id: &RunId) -> Vec<(Arc<str>, u64)> {
        let found = self.runs.iter().find(|run| *run.id == *id);
        found.map_or_else(Vec::new, |run| {
            let arms = run.variants.iter().zip(&run.arms);
            arms.map(|(name, arm)| (Arc::clone(name), arm.visitors))
                .collect()
        })
    }

    /// The runs, the oldest first.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<RunId>> {
        self.runs.iter().map(|run| &run.id)
    }
}

#[cfg(test)]
mod tests;
