#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn run(name: &str) -> Arc<RunId> {
    Arc::new(RunId {
        name: name.into(),
        run: 7,
    })
}

fn sighting(visitor: u64, variant: Option<&str>, conversion: Option<(&str, f64)>) -> Sighting {
    Sighting {
        id: run("home"),
        visitor,
        variant: variant.map(Arc::from),
        conversion: conversion.map(|(goal, value)| (goal.into(), value)),
    }
}

fn tally(sightings: &[Sighting]) -> Tally {
    let mut tally = Tally::default();
    for (at, one) in sightings.iter().enumerate() {
        tally.take(one, at as u64);
    }
    tally
}

fn arm(tally: &Tally, name: &str) -> Value {
    let view = tally.view(&run("home")).unwrap();
    let variants = view["variants"].as_array().unwrap().clone();
    variants
        .into_iter()
        .find(|one| one["variant"] == name)
        .unwrap()
}

#[test]
fn a_visitor_counts_once_and_converts_after_its_exposure_only() {
    let counts = tally(&[
        sighting(1, None, Some(("request", 0.0))),
        sighting(1, Some("a"), None),
        sighting(1, Some("a"), None),
        sighting(2, Some("b"), Some(("request", 0.0))),
        sighting(2, None, Some(("request", 0.0))),
        sighting(2, None, Some(("signup", 2.5))),
        sighting(2, None, Some(("signup", 1.5))),
        sighting(3, None, Some(("request", 0.0))),
    ]);
    let (a, b) = (arm(&counts, "a"), arm(&counts, "b"));
    assert_eq!((&a["visitors"], &b["visitors"]), (&json!(1), &json!(1)));
    assert_eq!(a["conversions"], json!({"request": 0, "signup": 0}));
    assert_eq!(b["conversions"], json!({"request": 1, "signup": 1}));
    assert_eq!((&b["value"], &b["squares"]), (&json!(4.0), &json!(16.0)));
}

#[test]
fn a_visitor_of_two_variants_is_in_none() {
    let counts = tally(&[
        sighting(1, Some("a"), Some(("request", 3.0))),
        sighting(1, Some("b"), None),
        sighting(1, None, Some(("signup", 1.0))),
        sighting(1, Some("a"), None),
    ]);
    assert_eq!(counts.view(&run("home")).unwrap()["mixed"], 1);
    for name in ["a", "b"] {
        let arm = arm(&counts, name);
        assert_eq!((&arm["visitors"], &arm["value"]), (&json!(0), &json!(0.0)));
        assert_eq!(arm["conversions"]["request"], 0);
    }
}

#[test]
fn variants_goals_runs_and_points_are_bounded() {
    let mut counts = Tally::default();
    for at in 0..MOST_VARIANTS as u64 + 2 {
        counts.take(&sighting(at, Some(&format!("v{at}")), None), at);
    }
    for goal in 0..MOST_GOALS + 3 {
        counts.take(&sighting(0, None, Some((&format!("g{goal}"), 0.0))), 99);
    }
    assert_eq!(counts.left_out(), 5);
    for visitor in 100..20_000 {
        counts.take(&sighting(visitor, Some("v0"), None), visitor);
    }
    let view = counts.view(&run("home")).unwrap();
    let points = view["history"].as_array().unwrap();
    assert!((MOST_POINTS / 2..=MOST_POINTS).contains(&points.len()));
    let at: Vec<u64> = points
        .iter()
        .map(|point| point["at"].as_u64().unwrap())
        .collect();
    assert!(at.is_sorted());
    for number in 0..MOST_RUNS as u64 {
        let id = run(&format!("e{number}"));
        let one = Sighting {
            id,
            ..sighting(1, Some("a"), None)
        };
        counts.take(&one, 50_000 + number);
    }
    assert!(
        counts.view(&run("home")).is_none(),
        "the one that was seen last the longest ago"
    );
    assert_eq!(counts.ids().count(), MOST_RUNS);
    assert_eq!(counts.visitors(), MOST_RUNS);
}
