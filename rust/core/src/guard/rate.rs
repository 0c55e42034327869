//! Rate limits by the generic cell rate algorithm (ITU-T I.371): one time for each key, no window to begin or to end.
//!
//! The time is the *theoretical arrival time*: when the key would be served next if it had used its quota evenly. Each
//! request moves it by one interval. It may be ahead of now by the burst, and by the delay on top of that, for which
//! the request then waits. A time that has passed says the same as none, so such keys need not be remembered.

use std::{fmt, net::IpAddr, time::Duration};

use http::HeaderValue;

use crate::{
    bounds::clients::Client,
    http::{FieldName, Fields, cookie},
};

/// The part of a request whose values are limited apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateBy {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Address,
    /// An IPv4 network of 24 bits, or an IPv6 network of 48 bits.
    Network,
    /// All requests together.
    Route,
    /// The first value of a field; the address where there is none.
    Header(FieldName),
    /// The first value of a cookie; the address where there is none.
    Cookie(Box<str>),
    /// A claim of the verified token; the address where there is none.
    Claim(Box<str>),
}

impl fmt::Display for RateBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Network => f.write_str("network"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
        }
    }
}

/// A value that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateKey<'a> {
    /// One client.
    Client(Client),
    /// One network.
    Network(Client),
    /// Everybody.
    All,
    /// A field, a cookie or a claim.
    Value(&'a [u8]),
}

impl<'a> RateKey<'a> {
    /// The key of a request; `claim`: the value of a claim by its name.
    pub fn of(
        by: &RateBy,
        address: IpAddr,
        headers: &'a Fields,
        claim: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Self {
        let value = match by {
            RateBy::Address => None,
            RateBy::Network => return Self::Network(network(address)),
            RateBy::Route => return Self::All,
            RateBy::Header(name) => headers.get(name).map(|value| value.as_bytes()),
            RateBy::Cookie(name) => cookie::get(headers, name),
            RateBy::Claim(name) => claim(name).map(str::as_bytes),
        };
        match value {
            // Nobody escapes a limit by leaving the field out.
            None | Some([]) => Self::Client(Client::of(address)),
            Some(value) => Self::Value(value),
        }
    }
}

fn network(address: IpAddr) -> Client {
    match Client::of(address) {
        Client::V4(address) => Client::V4(address & 0xffff_ff00),
        Client::V6(half) => Client::V6(half & 0xffff_ffff_ffff_0000),
    }
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Routes that name it share its counts; also the label of its metrics.
    pub name: Box<str>,
    /// Position among the limits of the plan.
    pub index: u32,
    /// Requests in a window.
    pub quota: u32,
    /// Seconds of the window.
    pub window: u32,
    /// Requests that may come at once.
    pub burst: u32,
    /// The longest time that a request waits instead of being refused.
    pub delay: Duration,
    /// The part of a request whose values are limited apart.
    pub by: RateBy,
}

/// The answer of a limit to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateDecision {
    /// `Ok`: how long the request waits first; `Err`: the seconds after which it may come again.
    pub result: Result<Duration, u32>,
    /// Requests that may still come now.
    pub remaining: u32,
    /// Seconds until all of the burst may come again.
    pub reset: u32,
    /// The place where the request was counted, for taking it back; 0 where nothing is counted.
    pub counted: u64,
}

const NANOS: u64 = 1_000_000_000;

impl RateLimit {
    /// Nanoseconds from one request to the next at an even pace; at least 1.
    pub fn interval(&self) -> u64 {
        (u64::from(self.window) * NANOS / u64::from(self.quota.max(1))).max(1)
    }

    /// Nanoseconds by which the arrival time may be ahead of now.
    pub fn tolerance(&self) -> u64 {
        self.interval().saturating_mul(u64::from(self.burst))
    }

    /// The decision about one more request at `now`, and the arrival time that is kept for its key; `None`: it stays.
    /// `arrival`: the time that is kept, 0 for none. Times are nanoseconds since the Unix epoch.
    pub fn decide(&self, arrival: u64, now: u64) -> (RateDecision, Option<u64>) {
        let (interval, tolerance) = (self.interval(), self.tolerance());
        let delay = u64::try_from(self.delay.as_nanos()).unwrap_or(u64::MAX);
        // A clock that was set back leaves times that are farther ahead than any that would be kept now.
        let farthest = now.saturating_add(tolerance).saturating_add(delay);
        let before = arrival.min(farthest).max(now);
        let next = before.saturating_add(interval);
        let over = (next - now).saturating_sub(tolerance);
        let (result, kept) = if over <= delay {
            (Ok(Duration::from_nanos(over)), Some(next))
        } else {
            let wait = over - delay;
            (
                Err(seconds(wait).max(1)),
                (arrival > farthest).then_some(before),
            )
        };
        let (remaining, reset) = self.standing(kept.unwrap_or(before), now);
        let decision = RateDecision {
            result,
            remaining,
            reset,
            counted: 0,
        };
        (decision, kept)
    }

    /// A request that passed is taken back, because another limit refused it: the arrival time that is kept, and the
    /// decision as the client sees it. A key that was forgotten meanwhile has nothing to take back.
    pub fn take_back(
        &self,
        passed: RateDecision,
        arrival: u64,
        now: u64,
    ) -> (RateDecision, Option<u64>) {
        if arrival == 0 {
            return (passed, None);
        }
        let kept = arrival.saturating_sub(self.interval());
        let (remaining, reset) = self.standing(kept, now);
        let decision = RateDecision {
            remaining,
            reset,
            ..passed
        };
        (decision, Some(kept))
    }

    /// Requests that may come at once, and the seconds until all of the burst may.
    fn standing(&self, arrival: u64, now: u64) -> (u32, u32) {
        let ahead = arrival.saturating_sub(now);
        let left = self.tolerance().saturating_sub(ahead) / self.interval();
        (u32::try_from(left).unwrap_or(u32::MAX), seconds(ahead))
    }

    /// Its member of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers §3).
    pub fn policy(&self) -> String {
        format!("\"{}\";q={};w={}", self.name, self.quota, self.window)
    }

    /// Its member of `RateLimit` (the same, §4).
    pub fn state(&self, decision: &RateDecision) -> String {
        format!(
            "\"{}\";r={};t={}",
            self.name, decision.remaining, decision.reset
        )
    }
}

/// Whole seconds, not less.
fn seconds(nanos: u64) -> u32 {
    u32::try_from(nanos.div_ceil(NANOS)).unwrap_or(u32::MAX)
}

const POLICY: FieldName = FieldName::from_static("ratelimit-policy");
const STATE: FieldName = FieldName::from_static("ratelimit");

/// Sets the fields of all limits that a request met (phase 15), in place of the origin's.
pub fn finish<'l>(
    met: impl Iterator<Item = (&'l RateLimit, RateDecision)> + Clone,
    headers: &mut Fields,
) {
    let policies: Vec<String> = met.clone().map(|(limit, _)| limit.policy()).collect();
    let states: Vec<String> = met
        .map(|(limit, decision)| limit.state(&decision))
        .collect();
    for (name, members) in [(POLICY, policies), (STATE, states)] {
        if let Ok(value) = HeaderValue::from_str(&members.join(", ")) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::header;

    const NOW: u64 = 1_800_000_000 * NANOS;

    fn limit(quota: u32, window: u32, burst: u32, delay: u64) -> RateLimit {
        RateLimit {
            name: "api".into(),
            index: 0,
            quota,
            window,
            burst,
            delay: Duration::from_millis(delay),
            by: RateBy::Address,
        }
    }

    /// The decisions about requests at these milliseconds.
    fn decided(limit: &RateLimit, at: &[u64]) -> Vec<Result<u64, u32>> {
        let mut arrival = 0;
        at.iter()
            .map(|millis| {
                let (decision, kept) = limit.decide(arrival, NOW + millis * 1_000_000);
                arrival = kept.unwrap_or(arrival);
                decision.result.map(|wait| wait.as_millis() as u64)
            })
            .collect()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_request_an_interval() {
        for (limit, at, want) in [
            // One a second, three at once.
            (
                limit(60, 60, 3, 0),
                &[0, 0, 0, 0, 999, 1_000, 1_000][..],
                &[Ok(0), Ok(0), Ok(0), Err(1), Err(1), Ok(0), Err(1)][..],
            ),
            // A refused request costs nothing.
            (
                limit(1, 10, 1, 0),
                &[0, 1, 5_000, 9_999, 10_000],
                &[Ok(0), Err(10), Err(5), Err(1), Ok(0)],
            ),
            // After a rest the whole burst may come again, and no more.
            (
                limit(60, 60, 2, 0),
                &[0, 0, 60_000, 60_000, 60_000],
                &[Ok(0), Ok(0), Ok(0), Ok(0), Err(1)],
            ),
            // Requests over the burst wait for their turn, as long as it is near.
            (
                limit(10, 1, 1, 250),
                &[0, 0, 0, 0, 100],
                &[Ok(0), Ok(100), Ok(200), Err(1), Ok(200)],
            ),
            (limit(1_000_000_000, 1, 1, 0), &[0, 1], &[Ok(0), Ok(0)]),
            (limit(1, 86_400, 1, 0), &[0, 1], &[Ok(0), Err(86_400)]),
            // The clock is set back by a day.
            (
                limit(1, 10, 1, 0),
                &[86_400_000, 0, 10_000],
                &[Ok(0), Err(10), Ok(0)],
            ),
        ] {
            assert_eq!(decided(&limit, at), want, "{limit:?}");
        }
    }

    #[test]
    fn the_fields_say_what_is_left_and_when_all_of_it_is_back() {
        let limit = limit(100, 60, 100, 0);
        let mut arrival = 0;
        let states: Vec<String> = (1..=101)
            .map(|_| {
                let (decision, kept) = limit.decide(arrival, NOW);
                arrival = kept.unwrap_or(arrival);
                limit.state(&decision)
            })
            .collect();
        let some: Vec<&str> = [0, 1, 99, 100]
            .into_iter()
            .filter_map(|at| states.get(at))
            .map(|state| &**state)
            .collect();
        let want = [
            "\"api\";r=99;t=1",
            "\"api\";r=98;t=2",
            "\"api\";r=0;t=60",
            "\"api\";r=0;t=60",
        ];
        assert_eq!(some, want);
        assert_eq!(limit.policy(), "\"api\";q=100;w=60");
        let mut headers = Fields::new();
        headers.insert(STATE, HeaderValue::from_static("\"origin\";r=1"));
        let (decision, _) = limit.decide(0, NOW);
        let other = RateLimit {
            name: "other".into(),
            ..limit.clone()
        };
        finish(
            [(&limit, decision), (&other, decision)].into_iter(),
            &mut headers,
        );
        assert_eq!(
            headers.get(POLICY).unwrap(),
            "\"api\";q=100;w=60, \"other\";q=100;w=60"
        );
        assert_eq!(
            headers.get(STATE).unwrap(),
            "\"api\";r=99;t=1, \"other\";r=99;t=1"
        );
    }

    #[test]
    fn a_key_is_the_value_and_the_address_where_there_is_none() {
        let mut headers = Fields::new();
        headers.append("x-key", HeaderValue::from_static("k"));
        headers.append("x-empty", HeaderValue::from_static(""));
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; a=c"));
        let v4 = IpAddr::from([192, 0, 2, 7]);
        let v6: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let (client, other) = (
            RateKey::Client(Client::of(v4)),
            RateKey::Client(Client::of(v6)),
        );
        let named = |name| RateBy::Header(FieldName::from_static(name));
        for (by, address, want) in [
            (RateBy::Address, v4, client),
            (RateBy::Address, v6, other),
            (
                RateBy::Network,
                v4,
                RateKey::Network(Client::V4(0xc000_0200)),
            ),
            (
                RateBy::Network,
                v6,
                RateKey::Network(Client::V6(0x2001_0db8_0001_0000)),
            ),
            (RateBy::Route, v4, RateKey::All),
            (named("x-key"), v4, RateKey::Value(b"k")),
            (named("x-empty"), v4, client),
            (named("x-none"), v4, client),
            (RateBy::Cookie("a".into()), v4, RateKey::Value(b"b")),
            (RateBy::Cookie("b".into()), v4, client),
            (RateBy::Claim("sub".into()), v4, RateKey::Value(b"u1")),
            (RateBy::Claim("role".into()), v4, client),
        ] {
            let found = RateKey::of(&by, address, &headers, |name| {
                (name == "sub").then_some("u1")
            });
            assert_eq!(found, want, "{by:?}");
        }
    }
}
