//! The health of an origin: a state machine fed by probes and by the requests themselves.
//!
//! ```text
//! healthy ── probes fail in a row, or too many requests do ──▶ unhealthy ── time is up ──▶ half-open
//!    ▲                                                          │  ▲                       │   │
//!    └──── probes succeed in a row ─────────────────────────────┘  └──── the trial fails ──┘   │
//!    └─────────────────────────────────────── the trial succeeds ──────────────────────────────┘
//! ```
//! With active probes the way back is theirs; without, one request at a time is let through as a trial. Times are
//! milliseconds of any clock that does not go back, given by the caller.

use crate::plan::HealthCheck;

/// Counts that change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Failed probes in a row until unhealthy; without probes, failed requests in the window.
    pub unhealthy_after: u32,
    /// Successful probes in a row until healthy again.
    pub healthy_after: u32,
    /// Without probes: how long until a trial request, doubled for each failed trial up to eight times.
    pub trial_after_ms: u64,
    /// Probes decide about the way back.
    pub probed: bool,
}

impl Thresholds {
    /// The thresholds of an origin with this check, or with none.
    pub fn of(check: Option<&HealthCheck>) -> Self {
        match check {
            Some(check) => Self {
                unhealthy_after: check.unhealthy_after,
                healthy_after: check.healthy_after,
                trial_after_ms: u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX),
                probed: true,
            },
            None => Self {
                unhealthy_after: 3,
                healthy_after: 1,
                trial_after_ms: 2_000,
                probed: false,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Healthy {
        /// Of probes, in a row.
        failures: u32,
        /// Of requests, since the last one that was answered with no error.
        row: u32,
    },
    Unhealthy {
        successes: u32,
        trial_at: u64,
        trials: u32,
    },
    /// One trial request is under way.
    HalfOpen { since: u64, trials: u32 },
}

/// A change of state: worth a log line and a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It gets requests again.
    BecameHealthy,
    /// It gets no requests but trials, until these succeed.
    BecameUnhealthy,
}

/// The health of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    state: State,
    window: Window,
}

/// Outcomes of recent requests: in slots of ten seconds, the youngest of which is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Window {
    slots: [Tally; SLOTS],
    /// Number of the youngest slot.
    youngest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    good: u32,
    bad: u32,
}

const SLOTS: usize = 6;
const SLOT_MS: u64 = 10_000;
/// From so many requests in the window on, half of them decide.
const MANY: u32 = 20;

/// The slot of the window that a time falls in: requests that were answered may be counted by it and reported later.
pub fn slot(now: u64) -> u64 {
    now / SLOT_MS
}

impl Window {
    fn add(&mut self, slot: u64, good: u32, bad: u32) {
        let passed = slot.saturating_sub(self.youngest);
        if passed > 0 {
            self.slots
                .rotate_right(usize::try_from(passed).unwrap_or(SLOTS).min(SLOTS));
            for old in self
                .slots
                .iter_mut()
                .take(usize::try_from(passed).unwrap_or(SLOTS))
            {
                *old = Tally::default();
            }
            self.youngest = slot;
        }
        // A late report belongs to a slot of its time, or to none any more.
        let back = usize::try_from(self.youngest.saturating_sub(slot)).unwrap_or(SLOTS);
        if let Some(slot) = self.slots.get_mut(back) {
            slot.good = slot.good.saturating_add(good);
            slot.bad = slot.bad.saturating_add(bad);
        }
    }

    /// An answer that was counted as good turned out not to be.
    fn take_back(&mut self) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.good > 0) {
            slot.good -= 1;
        }
    }

    /// True if the errors are reason enough: half of many requests, or enough in a row. With probes few requests decide
    /// nothing, so that one bad URL makes no bad origin: the probes run anyway.
    fn condemns(&self, thresholds: Thresholds, row: u32) -> bool {
        let sum = |of: fn(&Tally) -> u32| self.slots.iter().map(of).fold(0u32, u32::saturating_add);
        let (good, bad) = (sum(|slot| slot.good), sum(|slot| slot.bad));
        if bad < thresholds.unhealthy_after {
            return false;
        }
        let many = good.saturating_add(bad) >= MANY;
        many && bad >= good || !thresholds.probed && row >= thresholds.unhealthy_after
    }
}

impl Default for Health {
    /// Origins are healthy until they show otherwise: a start must not wait for probes.
    fn default() -> Self {
        Self {
            state: State::Healthy {
                failures: 0,
                row: 0,
            },
            window: Window::default(),
        }
    }
}

impl Health {
    /// True if the origin is counted among the healthy.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, State::Healthy { .. })
    }

    /// True if a request should go there as if it were healthy. Answering yes to an unhealthy one begins its trial: the
    /// caller then reports how the request went.
    pub fn admits(&mut self, thresholds: Thresholds, now: u64) -> bool {
        match self.state {
            State::Healthy { .. } => true,
            State::Unhealthy {
                trial_at, trials, ..
            } if !thresholds.probed && now >= trial_at => {
                self.state = State::HalfOpen { since: now, trials };
                true
            }
            // A trial whose end was never reported must not lock the origin out.
            State::HalfOpen { since, trials }
                if now.saturating_sub(since) >= pause(thresholds, trials) =>
            {
                self.state = State::HalfOpen { since: now, trials };
                true
            }
            _ => false,
        }
    }

    /// True if its last request got a response, and no error.
    pub fn is_spotless(&self) -> bool {
        let spotless = State::Healthy {
            failures: 0,
            row: 0,
        };
        self.state == spotless
    }

    /// So many requests got answers, in this [`slot`], that are no errors of the origin's.
    pub fn answered(&mut self, slot: u64, count: u32) {
        self.window.add(slot, count, 0);
    }

    /// A request got an answer that is no error of the origin's: the change that follows, besides its part in the rate.
    pub fn succeeded(&mut self, thresholds: Thresholds) -> Option<Change> {
        match self.state {
            // Probes require more than a response: a request that gets one must not reset their count.
            State::Healthy { failures, .. } => {
                let failures = if thresholds.probed { failures } else { 0 };
                self.state = State::Healthy { failures, row: 0 };
                None
            }
            // Sent there although unhealthy (all were): with probes, they know more.
            State::Unhealthy { .. } if thresholds.probed => None,
            State::Unhealthy { .. } | State::HalfOpen { .. } => self.recover(),
        }
    }

    /// A request was answered with 500, 502, 503 or 504.
    pub fn erred(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.went_wrong(thresholds, now)
    }

    /// A request failed by the origin's fault: not connected, reset, too slow, not HTTP.
    pub fn failed(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.went_wrong(thresholds, now)
    }

    /// The content of an answer broke off whose head was good, and counted so.
    pub fn broke_off(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.window.take_back();
        self.went_wrong(thresholds, now)
    }

    fn went_wrong(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.window.add(slot(now), 0, 1);
        match self.state {
            State::Healthy { failures, row } => {
                let row = row.saturating_add(1);
                if self.window.condemns(thresholds, row) {
                    return self.condemn(thresholds, now);
                }
                self.state = State::Healthy { failures, row };
                None
            }
            // With probes the way back is theirs.
            State::Unhealthy { .. } | State::HalfOpen { .. } if thresholds.probed => None,
            State::Unhealthy { .. } | State::HalfOpen { .. } => self.fall(thresholds, now),
        }
    }

    /// A probe came back.
    pub fn probed(&mut self, thresholds: Thresholds, ok: bool, now: u64) -> Option<Change> {
        match (ok, self.state) {
            (true, State::Healthy { .. }) => {
                self.state = Self::default().state;
                None
            }
            (true, State::HalfOpen { .. }) => self.recover(),
            (
                true,
                State::Unhealthy {
                    successes,
                    trial_at,
                    trials,
                },
            ) => {
                let successes = successes.saturating_add(1);
                if successes >= thresholds.healthy_after {
                    return self.recover();
                }
                self.state = State::Unhealthy {
                    successes,
                    trial_at,
                    trials,
                };
                None
            }
            (false, _) => self.fall(thresholds, now),
        }
    }

    fn recover(&mut self) -> Option<Change> {
        *self = Self::default();
        Some(Change::BecameHealthy)
    }

    fn condemn(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.state = State::Unhealthy {
            successes: 0,
            trial_at: now.saturating_add(pause(thresholds, 0)),
            trials: 0,
        };
        Some(Change::BecameUnhealthy)
    }

    fn fall(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        let trial_at = |trials| now.saturating_add(pause(thresholds, trials));
        match self.state {
            State::Healthy { failures, row } => {
                let failures = failures.saturating_add(1);
                if failures >= thresholds.unhealthy_after {
                    return self.condemn(thresholds, now);
                }
                self.state = State::Healthy { failures, row };
                None
            }
            State::Unhealthy {
                trial_at, trials, ..
            } => {
                self.state = State::Unhealthy {
                    successes: 0,
                    trial_at,
                    trials,
                };
                None
            }
            State::HalfOpen { trials, .. } => {
                let trials = trials.saturating_add(1);
                self.state = State::Unhealthy {
                    successes: 0,
                    trial_at: trial_at(trials),
                    trials,
                };
                None
            }
        }
    }
}

fn pause(thresholds: Thresholds, trials: u32) -> u64 {
    thresholds.trial_after_ms.saturating_mul(1 << trials.min(3))
}

#[cfg(test)]
mod tests;
