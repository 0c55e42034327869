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
