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
fn an_answer_that_broke_off_is_no_good_one() {
    let mut health = Health::default();
    // Each was answered, and half of them broke off: by both counts it would be a third.
    health.answered(0, 20);
    health.answered(1, 19);
    for _ in 0..19 {
        assert_eq!(health.broke_off(PROBED, SLOT_MS), None);
    }
    assert_eq!(
        health.broke_off(PROBED, SLOT_MS),
        Some(Change::BecameUnhealthy)
    );
}

#[test]
fn failed_probes_count_only_in_a_row() {
    let mut health = Health::default();
    for ok in [false, false, true, false, false] {
        assert_eq!(health.probed(PROBED, ok, 0), None);
        assert!(health.is_healthy());
    }
    let change = health.probed(PROBED, false, 0);
    assert_eq!(change, Some(Change::BecameUnhealthy));
    assert!(!health.is_healthy());
}

#[test]
fn requests_are_judged_by_their_rate_in_the_window() {
    let out = Some(Change::BecameUnhealthy);
    for (thresholds, good, bad, want) in [
        // Few: so many in a row, and with probes they decide nothing.
        (ALONE, 0, 1, None),
        (ALONE, 1, 2, out),
        (PROBED, 0, 3, None),
        (PROBED, 0, 19, None),
        // Many: half of them.
        (PROBED, 0, 20, out),
        (PROBED, 10, 10, out),
        (PROBED, 1000, 999, None),
        (ALONE, 1000, 1, None),
    ] {
        let mut health = Health::default();
        health.answered(slot(5_000), good);
        let mut last = None;
        for _ in 0..bad {
            last = last.or(health.failed(thresholds, 5_000));
        }
        assert_eq!(last, want, "{good} good, {bad} bad, {thresholds:?}");
    }
}

#[test]
fn what_is_older_than_a_minute_counts_no_more() {
    let mut health = Health::default();
    assert_eq!(health.failed(ALONE, 0), None);
    assert_eq!(health.failed(ALONE, 61_000), None);
    assert_eq!(health.erred(ALONE, 119_000), Some(Change::BecameUnhealthy));
    let mut health = Health::default();
    health.answered(slot(0), 10_000);
    health.failed(ALONE, 70_000);
    let change = health.failed(ALONE, 70_000);
    assert_eq!(
        change,
        Some(Change::BecameUnhealthy),
        "yesterday's good days"
    );
    // Reported late, of a time that the window knows, and of one that it has forgotten.
    for (told, want) in [(80_000, None), (1_000, Some(Change::BecameUnhealthy))] {
        let mut health = Health::default();
        let mut last = None;
        for at in 0..20 {
            last = last.or(health.failed(PROBED, 100_000));
            if at == 0 {
                health.answered(slot(told), 21);
            }
        }
        assert_eq!(last, want, "{told}");
    }
    let mut health = Health::default();
    for _ in 0..9 {
        assert_eq!(health.erred(ALONE, 0), None);
        assert_eq!(health.succeeded(ALONE), None, "the row ends");
    }
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
fn a_trial_that_errs_has_failed() {
    let mut health = Health::default();
    assert_eq!(health.erred(ALONE, 0), None);
    assert!(!health.is_spotless());
    assert_eq!(health.succeeded(ALONE), None);
    assert!(health.is_spotless());
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
