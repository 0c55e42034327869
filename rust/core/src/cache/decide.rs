//! Whether a stored response answers a request (RFC 9111 §4, §5.2.1; RFC 5861).

use super::freshness::Freshness;
use crate::{
    http::{cache_control::RequestDirectives, structured::Forward},
    plan::CachePolicy,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Fresh,
    /// Stale, and sent all the same. `revalidate`: refresh it behind (stale-while-revalidate).
    Stale {
        revalidate: bool,
    },
    /// Ask the origin first.
    Validate(Reason),
}

/// Why the origin must be asked.
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

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCache => "no-cache",
            Self::RequestNoCache => "request-no-cache",
            Self::RequestMaxAge => "request-max-age",
            Self::RequestMinFresh => "request-min-fresh",
            Self::Expired => "expired",
        }
    }

    /// As `Cache-Status` says it.
    pub fn forward(self) -> Forward {
        match self {
            Self::NoCache | Self::Expired => Forward::Stale,
            Self::RequestNoCache | Self::RequestMaxAge | Self::RequestMinFresh => Forward::Request,
        }
    }
}

pub fn decide(
    stored: &Freshness,
    request: &RequestDirectives,
    _policy: &CachePolicy,
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
    if request.max_age.is_some_and(|most| age > u64::from(most)) && asked_stale.is_none() {
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
        return Decision::Stale { revalidate: false };
    }
    // s-maxage implies proxy-revalidate, but an origin that says both wants the window (RFC 5861 §3).
    if stored.stale_while_revalidate > 0
        && staleness < u64::from(stored.stale_while_revalidate)
        && !stored.must_revalidate
    {
        return Decision::Stale { revalidate: true };
    }
    Decision::Validate(Reason::Expired)
}

/// Whether a stored response may stand in for an origin that failed (RFC 5861 §4).
pub fn may_serve_on_error(stored: &Freshness, now: u64) -> bool {
    if stored.always_validate || stored.must_revalidate {
        return false;
    }
    stored.fresh(now)
        || stored.staleness(now) <= u64::from(stored.stale_if_error) && stored.stale_if_error > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Freshness = Freshness {
        lifetime: 60,
        initial_age: 0,
        stored_at: 1000,
        stale_while_revalidate: 30,
        stale_if_error: 100,
        must_revalidate: false,
        always_validate: false,
    };

    #[test]
    fn requests_and_responses_both_have_a_say() {
        let none = RequestDirectives::default();
        let expired = Decision::Validate(Reason::Expired);
        let policy = CachePolicy::default();
        for (stored, request, at, want) in [
            (STORED, none, 1059, Decision::Fresh),
            (STORED, none, 1060, Decision::Stale { revalidate: true }),
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
                Decision::Stale { revalidate: false },
            ),
            (
                STORED,
                RequestDirectives {
                    max_stale: Some(Some(40)),
                    ..none
                },
                1100,
                Decision::Stale { revalidate: false },
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
                decide(&stored, &request, &policy, at),
                want,
                "{request:?} at {at}"
            );
        }
        assert!(may_serve_on_error(&STORED, 1160));
        assert!(!may_serve_on_error(&STORED, 1161));
    }
}
