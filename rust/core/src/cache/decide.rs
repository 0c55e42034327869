//! Decides whether a stored response answers a request (RFC 9111 §4, §5.2.1; RFC 5861).

use http::StatusCode;

use super::freshness::Freshness;
use crate::{
    http::{cache_control::RequestDirectives, structured::Forward},
    outcome::Detail,
    plan::CachePolicy,
};

/// The use of a stored response: sent as it is, sent stale, or validated at the origin first (RFC 9111 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Sent as it is: its age is below its lifetime, and the request accepts that age.
    Fresh,
    /// Stale, and sent all the same.
    Stale(Allowance),
    /// The origin must validate it first.
    Validate(Reason),
}

/// The rule that lets a stale response be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// The request takes stale responses (§5.2.1.2).
    MaxStale,
    /// RFC 5861 §3.
    WhileRevalidate,
    /// The policy's `grace`.
    Grace,
    /// The policy's `sick_grace`: no origin of the group is healthy.
    SickGrace,
    /// RFC 5861 §4, of the response, of the policy or of the request: the origin has just failed.
    IfError,
    /// The policy's `stale_when_disconnected`: no origin can be reached (RFC 9111 §4.2.4).
    Disconnected,
}

impl From<Allowance> for Detail {
    fn from(why: Allowance) -> Self {
        match why {
            Allowance::MaxStale => Self::MaxStale,
            Allowance::WhileRevalidate => Self::StaleWhileRevalidate,
            Allowance::Grace => Self::Grace,
            Allowance::SickGrace => Self::SickGrace,
            Allowance::IfError => Self::StaleIfError,
            Allowance::Disconnected => Self::Disconnected,
        }
    }
}

impl Allowance {
    /// Spelling in log lines, metrics and `explain`.
    pub fn as_str(self) -> &'static str {
        Detail::from(self).as_str()
    }

    /// True if the response is refreshed in the background while the client gets it stale.
    pub fn revalidates(self) -> bool {
        self != Self::MaxStale
    }
}

/// The health of the origins that would validate a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginHealth {
    /// At least one of them is worth a request.
    Healthy,
    /// None of them is.
    Unhealthy,
}

/// The way in which the origins failed that would validate a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// One of them answered, with an error or with bytes that are not HTTP, or a bound of the edge prevented the
    /// request.
    Error,
    /// None of them answered: refused, reset, closed without an answer, timed out, or known to be unhealthy.
    Disconnected,
}

/// Why a request to the origin is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// §5.2.2.4.
    NoCache,
    /// §5.2.1.4, §5.4.
    RequestNoCache,
    /// §5.2.1.1.
    RequestMaxAge,
    /// §5.2.1.3.
    RequestMinFresh,
    /// §4.2.
    Expired,
}

impl From<Reason> for Detail {
    fn from(why: Reason) -> Self {
        match why {
            Reason::NoCache => Self::NoCache,
            Reason::RequestNoCache => Self::RequestNoCache,
            Reason::RequestMaxAge => Self::RequestMaxAge,
            Reason::RequestMinFresh => Self::RequestMinFresh,
            Reason::Expired => Self::Expired,
        }
    }
}

impl Reason {
    /// Spelling in log lines, metrics and `explain`.
    pub fn as_str(self) -> &'static str {
        Detail::from(self).as_str()
    }

    /// As `Cache-Status` says it.
    pub fn forward(self) -> Forward {
        match self {
            Self::NoCache | Self::Expired => Forward::Stale,
            Self::RequestNoCache | Self::RequestMaxAge | Self::RequestMinFresh => Forward::Request,
        }
    }
}

/// Decides whether a stored response may be sent at `now` (Unix seconds), by RFC 9111 §4.2, the request's directives
/// (§5.2.1) and the policy's allowances for stale use.
pub fn decide(
    stored: &Freshness,
    request: &RequestDirectives,
    policy: &CachePolicy,
    origin: OriginHealth,
    now: u64,
) -> Decision {
    if stored.always_validate {
        return Decision::Validate(Reason::NoCache);
    }
    if request.no_cache {
        return Decision::Validate(Reason::RequestNoCache);
    }
    let age = stored.age(now);
    let asked_stale = request.max_stale.filter(|_| !stored.must_revalidate);
    // max-age lowers the lifetime for this request, and max-stale goes beyond that one (§5.2.1.1).
    if let Some(most) = request.max_age
        && age > u64::from(most)
        && !(stored.immutable && stored.fresh(now))
        && asked_stale.is_none_or(|allowed| {
            allowed.is_some_and(|allowed| age - u64::from(most) > u64::from(allowed))
        })
    {
        return Decision::Validate(Reason::RequestMaxAge);
    }
    if stored.fresh(now) {
        let left = stored.ttl(now);
        if request
            .min_fresh
            .is_some_and(|least| left < i64::from(least))
        {
            return Decision::Validate(Reason::RequestMinFresh);
        }
        return Decision::Fresh;
    }
    if request.min_fresh.is_some() {
        return Decision::Validate(Reason::RequestMinFresh);
    }
    let staleness = stored.staleness(now);
    if let Some(allowed) = asked_stale
        && allowed.is_none_or(|allowed| staleness <= u64::from(allowed))
    {
        return Decision::Stale(Allowance::MaxStale);
    }
    // s-maxage implies proxy-revalidate, but for an origin that sends both the window applies (RFC 5861 §3).
    if !stored.must_revalidate {
        let unhealthy = policy
            .sick_grace
            .filter(|_| origin == OriginHealth::Unhealthy)
            .unwrap_or(0);
        let windows = [
            (stored.stale_while_revalidate, Allowance::WhileRevalidate),
            (policy.grace.unwrap_or(0), Allowance::Grace),
            (unhealthy, Allowance::SickGrace),
        ];
        if let Some((_, allowance)) = windows
            .into_iter()
            .find(|(window, _)| staleness < u64::from(*window))
        {
            return Decision::Stale(allowance);
        }
    }
    Decision::Validate(Reason::Expired)
}

/// The rule that lets a stored response stand in for an origin that failed (RFC 5861 §4): the window that the request
/// allows, the response's own, and the policy's `sick_grace`, as an origin that has just failed is unhealthy.
///
/// If none of them was given, a cache that is disconnected may still send stale responses (RFC 9111 §4.2.4), for as
/// long as the policy's `stale_when_disconnected` says. An answer of an origin, a 503 too, is no disconnection.
///
/// That holds "regardless of other freshness information": a request's `max-age` and `min-fresh` express a preference,
/// and the alternative here is no answer. Its `no-cache` is not about freshness: like that of a response it forbids
/// responses that were not validated (RFC 9111 §5.2.1.4), unless the request itself accepts them on an error.
pub fn on_error(
    stored: &Freshness,
    request: &RequestDirectives,
    policy: &CachePolicy,
    failure: Outage,
    now: u64,
) -> Option<Allowance> {
    if stored.always_validate || stored.must_revalidate {
        return None;
    }
    let within = |window: u32| window > 0 && stored.staleness(now) <= u64::from(window);
    if request.stale_if_error.is_some_and(within) {
        return Some(Allowance::IfError);
    }
    if request.no_cache {
        return None;
    }
    if stored.fresh(now) {
        return Some(Allowance::IfError);
    }
    [
        (stored.stale_if_error, Allowance::IfError),
        (policy.grace.unwrap_or(0), Allowance::Grace),
        (policy.sick_grace.unwrap_or(0), Allowance::SickGrace),
        (
            when_disconnected(stored, policy, failure),
            Allowance::Disconnected,
        ),
    ]
    .into_iter()
    .find(|(window, _)| within(*window))
    .map(|(_, allowance)| allowance)
}

/// The default window for disconnected caches; none if the response or the policy sets how long a stale response stands
/// in for its origin, which may be 0.
fn when_disconnected(stored: &Freshness, policy: &CachePolicy, failure: Outage) -> u32 {
    let configured = policy.stale_if_error.is_some() || policy.sick_grace.is_some();
    if failure == Outage::Disconnected && stored.when_disconnected && !configured {
        policy.stale_when_disconnected
    } else {
        0
    }
}

/// True if an answer counts as a failure of the origin (RFC 5861 §4).
pub fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests;
