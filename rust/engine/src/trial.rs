//! The responses of two versions that serve side by side: counted, and judged as they are sent.
//!
//! Workers share these counts, behind a lock that is held for a few additions and only while a deploy is under way.

use edgerouter_core::trial::{TrialFault, TrialTally, TrialThresholds, judge};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::telemetry::{
    Totals,
    text::{self, DurationSamples},
};

/// Responses are judged together with those before them, up to this many times `TrialThresholds::min_responses`: a
/// fault that begins late counts for as much as one at the start.
const WINDOW: u64 = 10;

/// One of two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Running,
    Candidate,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Running, Self::Candidate];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Candidate => "candidate",
        }
    }
}

/// All responses of one version since the deploy.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    tally: TrialTally,
    micros: u64,
    buckets: [u64; Totals::BOUNDS.len() + 1],
}

impl Sums {
    fn bucket(micros: u64) -> usize {
        let found = Totals::BOUNDS.iter().position(|&most| micros <= most);
        found.unwrap_or(Totals::BOUNDS.len())
    }

    /// Milliseconds within which a part of the responses began: the bound of a bucket; `null` beyond the last one.
    fn quantile(&self, part: f64) -> Value {
        let wanted = (self.tally.responses as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (count, bound) in self.buckets.iter().zip(Totals::BOUNDS) {
            seen += count;
            if seen >= wanted.max(1) {
                return json!(bound as f64 / 1e3);
            }
        }
        Value::Null
    }

    fn shown(&self) -> Value {
        let TrialTally {
            responses, errors, ..
        } = self.tally;
        let of_all = |amount: f64| match responses {
            0 => Value::Null,
            all => json!(amount / all as f64),
        };
        json!({
            "responses": responses,
            "errors": errors,
            "error_percent": of_all(errors as f64 * 100.0),
            "mean_ms": of_all(self.micros as f64 / 1e3),
            "p50_ms": self.quantile(0.5),
            "p95_ms": self.quantile(0.95),
        })
    }
}

#[derive(Debug, Default)]
struct State {
    sums: [Sums; 2],
    window: [TrialTally; 2],
    is_over: bool,
    /// The new version serves all clients: there is nothing to compare it with.
    alone: bool,
}

/// The counts of a deploy.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) id: u64,
    pub(crate) thresholds: TrialThresholds,
    state: Mutex<State>,
}

impl Trial {
    pub(crate) fn new(id: u64, thresholds: TrialThresholds) -> Self {
        Self {
            id,
            thresholds,
            state: Mutex::default(),
        }
    }

    /// Notes that the new version serves all clients, or some.
    pub(crate) fn alone(&self, alone: bool) {
        self.state.lock().alone = alone;
    }

    /// Counts a response whose head took that long. Gives the fault for which the new version is to be rolled back,
    /// once.
    pub(crate) fn count(&self, side: Side, status: u16, micros: u64) -> Option<TrialFault> {
        let is_slow = (self.thresholds.max_latency).is_some_and(|most| micros > most);
        let state = &mut *self.state.lock();
        let place = side as usize;
        let (Some(sums), Some(window)) = (state.sums.get_mut(place), state.window.get_mut(place))
        else {
            return None;
        };
        for tally in [&mut sums.tally, window] {
            tally.responses += 1;
            tally.errors += u64::from(status >= 500);
            tally.slow += u64::from(is_slow);
        }
        sums.micros = sums.micros.saturating_add(micros);
        if let Some(bucket) = sums.buckets.get_mut(Sums::bucket(micros)) {
            *bucket += 1;
        }
        if side == Side::Running || state.is_over {
            return None;
        }
        let [running, candidate] = &state.window;
        let fault = judge(&self.thresholds, candidate, running, state.alone);
        state.is_over = fault.is_some();
        if candidate.responses >= self.thresholds.min_responses.saturating_mul(WINDOW) {
            state.window = Default::default();
        }
        fault
    }

    /// The responses of a version, for those who look at them.
    pub(crate) fn shown(&self, side: Side) -> Value {
        let state = self.state.lock();
        state
            .sums
            .get(side as usize)
            .map_or(Value::Null, Sums::shown)
    }

    /// The same as metrics.
    pub(crate) fn render(this: Option<&Self>, out: &mut String) {
        let sums = this.map_or_else(Default::default, |this| this.state.lock().sums);
        let samples = Side::ALL.into_iter().zip(&sums).flat_map(|(side, sums)| {
            let (version, tally) = (side.as_str(), sums.tally);
            [
                (
                    [version, "ok"],
                    tally.responses.saturating_sub(tally.errors),
                ),
                ([version, "error"], tally.errors),
            ]
        });
        text::labelled(
            out,
            "edgerouter_deploy_responses_total",
            "Responses while a deploy is under way, by version and result.",
            ["version", "result"],
            samples,
        );
        let name = "edgerouter_deploy_duration_seconds";
        let help = "Time to the head of responses while a deploy is under way, by version.";
        text::head(out, name, "histogram", help);
        for (side, sums) in Side::ALL.into_iter().zip(&sums) {
            let samples = DurationSamples {
                bounds: &Totals::BOUNDS,
                counts: &sums.buckets,
                micros: sums.micros,
            };
            samples.write(out, name, &format!("version=\"{}\"", side.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        let thresholds = TrialThresholds {
            min_responses: 10,
            max_errors: 50.0,
            max_latency: None,
        };
        Trial::new(1, thresholds)
    }

    #[test]
    fn a_fault_is_reported_once_and_one_that_begins_late_is_found() {
        let trial = trial();
        for _ in 0..1_000 {
            assert_eq!(trial.count(Side::Running, 200, 10), None);
            assert_eq!(trial.count(Side::Candidate, 200, 10), None);
        }
        let mut found = (0..60).filter_map(|_| {
            trial.count(Side::Running, 200, 10);
            trial.count(Side::Candidate, 502, 10)
        });
        assert!(found.next().is_some());
        assert_eq!(found.next(), None);
        // A window later than the thousand good ones at most.
        assert!(trial.state.lock().sums[1].tally.errors <= 60);
    }

    #[test]
    fn responses_are_summed_by_version() {
        let trial = trial();
        assert_eq!(trial.shown(Side::Candidate)["p95_ms"], Value::Null);
        for micros in [40, 40, 900, 20_000_000] {
            trial.count(Side::Candidate, 200, micros);
        }
        trial.count(Side::Candidate, 500, 90);
        let shown = trial.shown(Side::Candidate);
        assert_eq!(
            (&shown["responses"], &shown["errors"]),
            (&json!(5), &json!(1))
        );
        assert_eq!(
            (&shown["error_percent"], &shown["p50_ms"]),
            (&json!(20.0), &json!(0.1))
        );
        assert_eq!(shown["p95_ms"], Value::Null);
        let mut text = String::new();
        Trial::render(Some(&trial), &mut text);
        assert!(text.contains("responses_total{version=\"candidate\",result=\"error\"} 1\n"));
        assert!(text.contains("duration_seconds_count{version=\"running\"} 0\n"));
    }
}
