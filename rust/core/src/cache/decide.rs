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
    /// One of them answered, with an error or with bytes that are not HTTP, or a bound of the edge prevented the request.
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
mod tests {
    use super::*;
    use crate::cache::freshness::LifetimeRule;

    const STORED: Freshness = Freshness {
        lifetime: 60,
        rule: LifetimeRule::MaxAge,
        initial_age: 0,
        stored_at: 1000,
        stale_while_revalidate: 30,
        stale_if_error: 100,
        must_revalidate: false,
        always_validate: false,
        immutable: false,
        when_disconnected: false,
    };

    #[test]
    fn requests_and_responses_both_have_a_say() {
        let none = RequestDirectives::default();
        let expired = Decision::Validate(Reason::Expired);
        let policy = CachePolicy::default();
        for (stored, request, at, want) in [
            (STORED, none, 1059, Decision::Fresh),
            (
                STORED,
                none,
                1060,
                Decision::Stale(Allowance::WhileRevalidate),
            ),
            (STORED, none, 1090, expired),
            (
                Freshness {
                    must_revalidate: true,
                    ..STORED
                },
                none,
                1060,
                expired,
            ),
            (
                Freshness {
                    always_validate: true,
                    ..STORED
                },
                none,
                1000,
                Decision::Validate(Reason::NoCache),
            ),
            (
                STORED,
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
                1000,
                Decision::Validate(Reason::RequestNoCache),
            ),
            (
                STORED,
                RequestDirectives {
                    max_age: Some(5),
                    ..none
                },
                1005,
                Decision::Fresh,
            ),
            (
                STORED,
                RequestDirectives {
                    max_age: Some(5),
                    ..none
                },
                1006,
                Decision::Validate(Reason::RequestMaxAge),
            ),
            (
                STORED,
                RequestDirectives {
                    min_fresh: Some(30),
                    ..none
                },
                1040,
                Decision::Validate(Reason::RequestMinFresh),
            ),
            (
                STORED,
                RequestDirectives {
                    max_stale: Some(None),
                    ..none
                },
                9999,
                Decision::Stale(Allowance::MaxStale),
            ),
            (
                STORED,
                RequestDirectives {
                    max_stale: Some(Some(40)),
                    ..none
                },
                1100,
                Decision::Stale(Allowance::MaxStale),
            ),
            (
                STORED,
                RequestDirectives {
                    max_stale: Some(Some(40)),
                    ..none
                },
                1101,
                expired,
            ),
        ] {
            assert_eq!(
                decide(&stored, &request, &policy, OriginHealth::Healthy, at),
                want,
                "{request:?} at {at}"
            );
        }
        let if_error = Some(Allowance::IfError);
        assert_eq!(
            on_error(&STORED, &none, &policy, Outage::Error, 1160),
            if_error
        );
        assert_eq!(on_error(&STORED, &none, &policy, Outage::Error, 1161), None);
        let soft = RequestDirectives {
            max_age: Some(0),
            ..none
        };
        let immutable = Freshness {
            immutable: true,
            ..STORED
        };
        assert_eq!(
            decide(&immutable, &soft, &policy, OriginHealth::Healthy, 1059),
            Decision::Fresh
        );
        assert_eq!(
            decide(&immutable, &soft, &policy, OriginHealth::Healthy, 1060),
            Decision::Validate(Reason::RequestMaxAge)
        );
        let longer = RequestDirectives {
            max_stale: Some(Some(10)),
            ..soft
        };
        assert_eq!(
            decide(&STORED, &longer, &policy, OriginHealth::Healthy, 1010),
            Decision::Fresh
        );
        assert_eq!(
            decide(&STORED, &longer, &policy, OriginHealth::Healthy, 1011),
            Decision::Validate(Reason::RequestMaxAge)
        );
        let patient = RequestDirectives {
            stale_if_error: Some(200),
            ..none
        };
        assert_eq!(
            on_error(&STORED, &patient, &policy, Outage::Error, 1260),
            if_error
        );
        assert_eq!(
            on_error(&STORED, &patient, &policy, Outage::Error, 1261),
            None
        );
        // RFC 5861 §4: "regardless of other freshness information"; RFC 9111 §5.2.1.4 is none.
        for (request, want) in [
            (soft, if_error),
            (
                RequestDirectives {
                    min_fresh: Some(5),
                    ..none
                },
                if_error,
            ),
            (
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
                None,
            ),
            (
                RequestDirectives {
                    no_cache: true,
                    ..patient
                },
                if_error,
            ),
        ] {
            assert_eq!(
                on_error(&STORED, &request, &policy, Outage::Error, 1100),
                want,
                "{request:?}"
            );
        }
    }

    #[test]
    fn grace_is_short_while_the_origin_is_healthy_and_long_while_it_is_sick() {
        use OriginHealth::{Healthy, Unhealthy};
        let none = RequestDirectives::default();
        let policy = CachePolicy {
            grace: Some(40),
            sick_grace: Some(3600),
            ..CachePolicy::default()
        };
        let plain = Freshness {
            stale_while_revalidate: 0,
            stale_if_error: 0,
            ..STORED
        };
        let strict = Freshness {
            must_revalidate: true,
            ..plain
        };
        let unusable = Freshness {
            always_validate: true,
            ..plain
        };
        let stale = Decision::Stale;
        let expired = Decision::Validate(Reason::Expired);
        for (stored, request, health, at, want) in [
            (plain, none, Healthy, 1059, Decision::Fresh),
            (plain, none, Unhealthy, 1059, Decision::Fresh),
            (plain, none, Healthy, 1060, stale(Allowance::Grace)),
            (plain, none, Healthy, 1099, stale(Allowance::Grace)),
            (plain, none, Healthy, 1100, expired),
            (plain, none, Unhealthy, 1100, stale(Allowance::SickGrace)),
            (plain, none, Unhealthy, 4659, stale(Allowance::SickGrace)),
            (plain, none, Unhealthy, 4660, expired),
            // RFC 5861 §3: what the origin or the policy names there comes first.
            (
                STORED,
                none,
                Unhealthy,
                1089,
                stale(Allowance::WhileRevalidate),
            ),
            (STORED, none, Unhealthy, 1090, stale(Allowance::Grace)),
            // RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10: no policy is above must-revalidate.
            (strict, none, Healthy, 1060, expired),
            (strict, none, Unhealthy, 1060, expired),
            // §5.2.2.4.
            (
                unusable,
                none,
                Unhealthy,
                1060,
                Decision::Validate(Reason::NoCache),
            ),
            // §5.2.1: nor above the request, where the policy lets it speak.
            (
                plain,
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
                Unhealthy,
                1060,
                Decision::Validate(Reason::RequestNoCache),
            ),
            (
                plain,
                RequestDirectives {
                    max_age: Some(60),
                    ..none
                },
                Unhealthy,
                1061,
                Decision::Validate(Reason::RequestMaxAge),
            ),
        ] {
            assert_eq!(
                decide(&stored, &request, &policy, health, at),
                want,
                "{request:?}, {health:?} at {at}"
            );
        }
        for (stored, at, want) in [
            (plain, 1059, Some(Allowance::IfError)),
            (plain, 1100, Some(Allowance::Grace)),
            (plain, 1101, Some(Allowance::SickGrace)),
            (plain, 4660, Some(Allowance::SickGrace)),
            (plain, 4661, None),
            (strict, 1060, None),
            (unusable, 1000, None),
        ] {
            assert_eq!(
                on_error(&stored, &none, &policy, Outage::Error, at),
                want,
                "{at}"
            );
        }
    }

    #[test]
    fn a_disconnected_cache_may_send_what_nothing_forbids() {
        let none = RequestDirectives::default();
        let policy = CachePolicy::default();
        let plain = Freshness {
            stale_while_revalidate: 0,
            stale_if_error: 0,
            when_disconnected: true,
            ..STORED
        };
        let disconnected = Some(Allowance::Disconnected);
        let day = 86_400;
        for (stored, request, policy, failure, at, want) in [
            (
                plain,
                none,
                &policy,
                Outage::Disconnected,
                1060,
                disconnected,
            ),
            (
                plain,
                none,
                &policy,
                Outage::Disconnected,
                1060 + day,
                disconnected,
            ),
            (plain, none, &policy, Outage::Disconnected, 1061 + day, None),
            // RFC 9111 §4.2.4: an answer, of whatever status, is no disconnection.
            (plain, none, &policy, Outage::Error, 1060, None),
            // §5.2.2.2, §5.2.2.8, §5.2.2.10 and §5.2.2.4.
            (
                Freshness {
                    must_revalidate: true,
                    ..plain
                },
                none,
                &policy,
                Outage::Disconnected,
                1060,
                None,
            ),
            (
                Freshness {
                    always_validate: true,
                    ..plain
                },
                none,
                &policy,
                Outage::Disconnected,
                1060,
                None,
            ),
            // The origin's own word, 0 included, and the statuses that do not stand in.
            (
                Freshness {
                    when_disconnected: false,
                    ..plain
                },
                none,
                &policy,
                Outage::Disconnected,
                1060,
                None,
            ),
            // §5.2.1.4.
            (
                plain,
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
                &policy,
                Outage::Disconnected,
                1060,
                None,
            ),
            // A wish for something fresher is none against the only answer that there is.
            (
                plain,
                RequestDirectives {
                    max_age: Some(0),
                    min_fresh: Some(10),
                    ..none
                },
                &policy,
                Outage::Disconnected,
                1060,
                disconnected,
            ),
            (
                plain,
                none,
                &CachePolicy {
                    stale_when_disconnected: 0,
                    ..CachePolicy::default()
                },
                Outage::Disconnected,
                1060,
                None,
            ),
            (
                plain,
                none,
                &CachePolicy {
                    stale_if_error: Some(0),
                    ..CachePolicy::default()
                },
                Outage::Disconnected,
                1060,
                None,
            ),
            (
                plain,
                none,
                &CachePolicy {
                    sick_grace: Some(10),
                    ..CachePolicy::default()
                },
                Outage::Disconnected,
                1071,
                None,
            ),
            (
                plain,
                none,
                &CachePolicy {
                    grace: Some(10),
                    ..CachePolicy::default()
                },
                Outage::Disconnected,
                1071,
                disconnected,
            ),
        ] {
            let got = on_error(&stored, &request, policy, failure, at);
            assert_eq!(got, want, "{stored:?}, {request:?}, {failure:?} at {at}");
        }
    }
}
