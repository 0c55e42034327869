//! Whether an origin is worth asking: a state machine fed by probes and by the requests themselves.
//!
//! ```text
//! healthy ── failures in a row reach the bound ──▶ unhealthy ── time is up ──▶ half-open
//!    ▲                                               │  ▲                       │   │
//!    └──── probes succeed in a row ──────────────────┘  └──── the trial fails ──┘   │
//!    └──────────────────────────── the trial succeeds ──────────────────────────────┘
//! ```
//! With active probes the way back is theirs; without, one request at a time is let through as a trial. Times are
//! milliseconds of any clock that does not go back, given by the caller.

use crate::plan::HealthCheck;

/// How many of what change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row until unhealthy.
    pub unhealthy_after: u32,
    /// Successful probes in a row until healthy again.
    pub healthy_after: u32,
    /// Without probes: how long until a trial request, doubled for each failed trial up to eight times.
    pub trial_after_ms: u64,
    /// Probes decide about the way back.
    pub probed: bool,
}

impl Thresholds {
    /// Those of an origin with this check, or with none.
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
        /// Of probes, and of requests that got no answer.
        failures: u32,
        /// Requests in a row that were answered with an error.
        errors: u32,
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
    BecameHealthy,
    BecameUnhealthy,
}

/// The health of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    state: State,
}

impl Default for Health {
    /// Origins are healthy until they show otherwise: a start must not wait for probes.
    fn default() -> Self {
        Self {
            state: State::Healthy {
                failures: 0,
                errors: 0,
            },
        }
    }
}

impl Health {
    /// Whether the origin is counted among the healthy.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, State::Healthy { .. })
    }

    /// Whether a request should go there as if it were healthy. Answering yes to an unhealthy one begins its trial: the
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

    /// Whether what was asked of it last was answered, and with no error.
    pub fn is_spotless(&self) -> bool {
        *self == Self::default()
    }

    /// A request got an answer that is no error of the origin's.
    pub fn succeeded(&mut self, thresholds: Thresholds) -> Option<Change> {
        match self.state {
            // Probes ask for more than an answer: a request that gets one must not wipe out what they count.
            State::Healthy { failures, .. } => {
                let failures = if thresholds.probed { failures } else { 0 };
                self.state = State::Healthy {
                    failures,
                    errors: 0,
                };
                None
            }
            // Sent there although unhealthy (all were): with probes, they know more.
            State::Unhealthy { .. } if thresholds.probed => None,
            State::Unhealthy { .. } | State::HalfOpen { .. } => self.recover(),
        }
    }

    /// A request was answered with 500, 502, 503 or 504. One bad URL is no bad origin: only errors in a row count, and any
    /// other answer ends the row.
    pub fn erred(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        match self.state {
            State::Healthy { failures, errors } => {
                self.count(thresholds, now, failures, errors.saturating_add(1))
            }
            // With probes the way back is theirs.
            State::Unhealthy { .. } | State::HalfOpen { .. } if thresholds.probed => None,
            State::Unhealthy { .. } | State::HalfOpen { .. } => self.fall(thresholds, now),
        }
    }

    /// A request failed by the origin's fault: not connected, reset, too slow, not HTTP.
    pub fn failed(&mut self, thresholds: Thresholds, now: u64) -> Option<Change> {
        self.fall(thresholds, now)
    }

    /// A probe came back.
    pub fn probed(&mut self, thresholds: Thresholds, ok: bool, now: u64) -> Option<Change> {
        match (ok, self.state) {
            (true, State::Healthy { .. }) => {
                *self = Self::default();
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

    /// Unhealthy once there is enough of both.
    fn count(
        &mut self,
        thresholds: Thresholds,
        now: u64,
        failures: u32,
        errors: u32,
    ) -> Option<Change> {
        if failures.saturating_add(errors) < thresholds.unhealthy_after {
            self.state = State::Healthy { failures, errors };
            return None;
        }
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
            State::Healthy { failures, errors } => {
                self.count(thresholds, now, failures.saturating_add(1), errors)
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
mod tests {
    use super::*;

    const PROBED: Thresholds = Thresholds {
        unhealthy_after: 3,
        healthy_after: 2,
        trial_after_ms: 1_000,
        probed: true,
    };
    const ALONE: Thresholds = Thresholds {
        unhealthy_after: 2,
        healthy_after: 1,
        trial_after_ms: 1_000,
        probed: false,
    };

    #[test]
    fn failures_count_only_in_a_row() {
        let mut health = Health::default();
        for ok in [false, false, true, false, false] {
            assert_eq!(health.probed(PROBED, ok, 0), None);
            assert!(health.is_healthy());
        }
        assert_eq!(
            health.failed(PROBED, 0),
            Some(Change::BecameUnhealthy),
            "requests count like probes"
        );
        assert!(!health.is_healthy());
    }

    #[test]
    fn answered_requests_do_not_hide_failing_probes() {
        let mut health = Health::default();
        for change in [None, None, Some(Change::BecameUnhealthy)] {
            assert_eq!(health.succeeded(PROBED), None);
            assert_eq!(health.probed(PROBED, false, 0), change);
        }
    }

    #[test]
    fn errors_count_only_in_a_row_and_a_trial_that_errs_has_failed() {
        for thresholds in [PROBED, Thresholds::of(None)] {
            let mut health = Health::default();
            for _ in 0..5 {
                assert_eq!(health.erred(thresholds, 0), None);
                assert_eq!(health.erred(thresholds, 0), None);
                assert!(!health.is_spotless());
                assert_eq!(health.succeeded(thresholds), None, "the row ends");
                assert!(health.is_spotless());
            }
            assert_eq!(health.erred(thresholds, 0), None);
            assert_eq!(health.failed(thresholds, 0), None);
            let change = health.erred(thresholds, 0);
            assert_eq!(change, Some(Change::BecameUnhealthy), "{thresholds:?}");
        }
        let mut health = Health::default();
        health.erred(ALONE, 0);
        health.erred(ALONE, 0);
        assert!(health.admits(ALONE, 1_000));
        assert_eq!(health.erred(ALONE, 1_100), None);
        assert!(!health.admits(ALONE, 3_000), "the pause doubles");
        assert!(health.admits(ALONE, 3_100));
        assert_eq!(health.succeeded(ALONE), Some(Change::BecameHealthy));
        let mut health = Health::default();
        for _ in 0..3 {
            health.probed(PROBED, false, 0);
        }
        health.probed(PROBED, true, 0);
        assert_eq!(health.erred(PROBED, 0), None);
        let back = health.probed(PROBED, true, 0);
        assert_eq!(
            back,
            Some(Change::BecameHealthy),
            "the way back is the probes'"
        );
    }

    #[test]
    fn probes_bring_an_origin_back_after_enough_successes() {
        let mut health = Health::default();
        for _ in 0..3 {
            health.probed(PROBED, false, 0);
        }
        assert!(
            !health.admits(PROBED, 1_000_000),
            "with probes no request is a trial"
        );
        assert_eq!(
            health.succeeded(PROBED),
            None,
            "a request that got through by chance decides nothing"
        );
        assert_eq!(health.probed(PROBED, true, 0), None);
        assert_eq!(
            health.probed(PROBED, false, 0),
            None,
            "a failure starts the count anew"
        );
        assert_eq!(health.probed(PROBED, true, 0), None);
        assert_eq!(health.probed(PROBED, true, 0), Some(Change::BecameHealthy));
    }

    #[test]
    fn without_probes_one_request_at_a_time_is_the_trial() {
        let mut health = Health::default();
        assert_eq!(health.failed(ALONE, 0), None);
        assert_eq!(health.failed(ALONE, 0), Some(Change::BecameUnhealthy));
        assert!(!health.admits(ALONE, 999));
        assert!(health.admits(ALONE, 1_000));
        assert!(!health.admits(ALONE, 1_001), "the trial is under way");
        assert_eq!(health.failed(ALONE, 1_100), None);
        assert!(
            !health.admits(ALONE, 3_000),
            "after a failed trial the pause doubles"
        );
        assert!(health.admits(ALONE, 3_100));
        assert_eq!(health.succeeded(ALONE), Some(Change::BecameHealthy));
        assert!(health.admits(ALONE, 3_101));
    }

    #[test]
    fn a_trial_that_is_never_reported_locks_nobody_out() {
        let mut health = Health::default();
        health.failed(ALONE, 0);
        health.failed(ALONE, 0);
        assert!(health.admits(ALONE, 1_000));
        assert!(!health.admits(ALONE, 1_500));
        assert!(health.admits(ALONE, 2_000));
    }
}
