//! A new version of an application beside the running one: its share of the clients, and the judgement that ends it.
//!
//! A client is bucketed as in an experiment ([`crate::experiment`]): by a keyed hash of its id, so each machine that
//! tries the same file chooses the same clients, and a larger share only adds clients to the new version.

use std::{fmt, net::IpAddr};

use crate::{bounds::clients::Client, experiment::bucket, http::Fields, http::cookie};

use bucket::Draw;

/// The whole in the units of a share: hundredths of a percent.
const WHOLE: u64 = 10_000;

/// The clients that a new version serves.
#[derive(Debug, Clone)]
pub struct Share {
    units: u64,
    running: Draw,
    candidate: Draw,
    /// The cookie whose value is the client's id; `None`: its address is.
    cookie: Option<Box<str>>,
}

impl Share {
    /// A share of `percent` of the clients; `None` unless it is from 0.01 to 100. `salt` decides which clients they
    /// are.
    pub fn new(salt: &str, percent: f64, cookie: Option<&str>) -> Option<Self> {
        let units = (percent * 100.0).round();
        if !(1.0..=WHOLE as f64).contains(&units) {
            return None;
        }
        let draw = |version| Draw::new("deploy", salt, version);
        Some(Self {
            units: units as u64,
            running: draw("running"),
            candidate: draw("candidate"),
            cookie: cookie.map(Into::into),
        })
    }

    /// The same clients, and more or fewer of them; `None` as for [`Self::new`].
    pub fn of_percent(&self, percent: f64) -> Option<Self> {
        let units = Self::new("", percent, None)?.units;
        Some(Self {
            units,
            ..self.clone()
        })
    }

    /// True if it is all clients.
    pub fn is_whole(&self) -> bool {
        self.units == WHOLE
    }

    /// Percent of the clients.
    pub fn percent(&self) -> f64 {
        self.units as f64 / 100.0
    }

    /// True if the new version serves the client at `address` that sent `headers`.
    pub fn takes(&self, address: IpAddr, headers: &Fields) -> bool {
        let given = self.cookie.as_deref().and_then(|name| {
            cookie::pairs(headers)
                .find(|(known, _)| *known == name.as_bytes())
                .map(|(_, value)| value)
        });
        match (given.filter(|value| !value.is_empty()), Client::of(address)) {
            (Some(value), _) => self.has(value),
            (None, Client::V4(bits)) => self.has(&bits.to_be_bytes()),
            (None, Client::V6(bits)) => self.has(&bits.to_be_bytes()),
        }
    }

    fn has(&self, id: &[u8]) -> bool {
        let versions = [
            (&self.running, WHOLE - self.units),
            (&self.candidate, self.units),
        ];
        bucket::choose(versions.into_iter(), id) == 1
    }
}

/// The responses of one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialTally {
    /// All of them.
    pub responses: u64,
    /// Responses with a status of 500 or above.
    pub errors: u64,
    /// Responses that took longer than [`TrialThresholds::max_latency`].
    pub slow: u64,
}

/// When a new version is rolled back by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialThresholds {
    /// Responses of the new version without which nothing is judged; at least 1.
    pub min_responses: u64,
    /// Percent of its responses that may be errors.
    pub max_errors: f64,
    /// Microseconds that nine of ten responses may take to their head; `None`: any time.
    pub max_latency: Option<u64>,
}

/// The reason why a new version is rolled back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrialFault {
    /// Too many errors: percent of its responses, and of those of the running version.
    Errors(f64, f64),
    /// Too many slow responses: percent of its responses, and of those of the running version.
    Slow(f64, f64),
}

impl fmt::Display for TrialFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, new, old) = match self {
            Self::Errors(new, old) => ("were errors (max_errors)", new, old),
            Self::Slow(new, old) => ("took longer than max_latency", new, old),
        };
        write!(
            f,
            "{new:.1} % of its responses {what}, and {old:.1} % of the running version's"
        )
    }
}

/// The new version is compared with as many responses of the running one, divided by this, as it needs itself.
const COMPARED: u64 = 10;

/// Percent of slow responses that are too many.
const MOST_SLOW: f64 = 10.0;

/// Judges a new version by the responses of both in the same time. It is never at fault for what the running version
/// does as often: an origin that is down is no reason to roll back. So the running version must have some responses,
/// too, a tenth of those that the new one needs. `alone`: there will be none, as the new version serves all clients.
pub fn judge(
    thresholds: &TrialThresholds,
    new: &TrialTally,
    running: &TrialTally,
    alone: bool,
) -> Option<TrialFault> {
    if new.responses < thresholds.min_responses.max(1) {
        return None;
    }
    if !alone && running.responses < (thresholds.min_responses / COMPARED).max(1) {
        return None;
    }
    let percent = |count: u64, tally: &TrialTally| match tally.responses {
        0 => 0.0,
        all => count as f64 * 100.0 / all as f64,
    };
    let errors = (percent(new.errors, new), percent(running.errors, running));
    if errors.0 > thresholds.max_errors && errors.0 > errors.1 {
        return Some(TrialFault::Errors(errors.0, errors.1));
    }
    let slow = (percent(new.slow, new), percent(running.slow, running));
    let is_slow = thresholds.max_latency.is_some() && slow.0 > MOST_SLOW && slow.0 > slow.1;
    is_slow.then_some(TrialFault::Slow(slow.0, slow.1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::header;
    use http::HeaderValue;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(n))
    }

    #[test]
    fn a_larger_share_keeps_its_clients_and_the_whole_takes_all() {
        let none = Fields::new();
        let mut before = Vec::new();
        for percent in [0.01, 1.0, 10.0, 50.0, 99.99, 100.0] {
            let share = Share::new("hash", 5.0, None)
                .unwrap()
                .of_percent(percent)
                .unwrap();
            let taken: Vec<u32> = (0..2_000)
                .filter(|n| share.takes(address(*n), &none))
                .collect();
            assert!(before.iter().all(|n| taken.contains(n)), "{percent}");
            let part = taken.len() as f64 / 20.0;
            assert!((part - percent).abs() < 3.0, "{percent} % gave {part} %");
            before = taken;
        }
        assert_eq!(before.len(), 2_000);
        for percent in [0.0, -1.0, 0.004, 100.01, 101.0, f64::NAN, f64::INFINITY] {
            assert!(Share::new("", percent, None).is_none(), "{percent}");
        }
    }

    #[test]
    fn a_cookie_decides_where_it_is_there_and_the_address_where_it_is_not() {
        let share = Share::new("hash", 50.0, Some("sid")).unwrap();
        let by_address = Share::new("hash", 50.0, None).unwrap();
        let with = |text: &str| {
            Fields::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())])
        };
        let mut sides = [false; 2];
        for n in 0..64 {
            let sent = with(&format!("a=b; sid={n}"));
            let side = share.takes(address(1), &sent);
            assert_eq!(side, share.takes(address(n), &sent));
            sides[usize::from(side)] = true;
            for without in [Fields::new(), with("other=1"), with("sid=")] {
                let side = share.takes(address(n), &without);
                assert_eq!(side, by_address.takes(address(n), &Fields::new()));
            }
        }
        assert_eq!(sides, [true; 2]);
    }

    #[test]
    fn a_version_is_judged_by_enough_responses_and_beside_the_other() {
        let thresholds = TrialThresholds {
            min_responses: 20,
            max_errors: 5.0,
            max_latency: Some(1_000),
        };
        let tally = |responses, errors, slow| TrialTally {
            responses,
            errors,
            slow,
        };
        let healthy = tally(1_000, 0, 0);
        let alone = |running: &TrialTally| running.responses == 0;
        for (new, running, want) in [
            (tally(19, 19, 19), healthy, None),
            (tally(20, 1, 0), healthy, None),
            (
                tally(20, 2, 0),
                healthy,
                Some(TrialFault::Errors(10.0, 0.0)),
            ),
            (
                tally(20, 2, 0),
                tally(0, 0, 0),
                Some(TrialFault::Errors(10.0, 0.0)),
            ),
            (tally(20, 20, 0), tally(5, 5, 0), None),
            (tally(20, 0, 2), healthy, None),
            (tally(20, 0, 3), healthy, Some(TrialFault::Slow(15.0, 0.0))),
            (tally(20, 0, 3), tally(10, 0, 9), None),
        ] {
            assert_eq!(
                judge(&thresholds, &new, &running, alone(&running)),
                want,
                "{new:?} {running:?}"
            );
        }
        // Too few to compare with, and enough.
        for (running, judged) in [(0, false), (1, false), (2, true)] {
            let found = judge(&thresholds, &tally(20, 20, 0), &tally(running, 0, 0), false);
            assert_eq!(found.is_some(), judged, "{running}");
        }
        let any = TrialThresholds {
            max_latency: None,
            ..thresholds
        };
        assert_eq!(judge(&any, &tally(20, 0, 20), &healthy, false), None);
        let none = TrialThresholds {
            min_responses: 0,
            ..thresholds
        };
        assert_eq!(judge(&none, &TrialTally::default(), &healthy, true), None);
    }
}
