#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;

use super::*;
use crate::http::FieldName;

const A: OriginId = OriginId(0);
const B: OriginId = OriginId(1);
const C: OriginId = OriginId(2);
const D: OriginId = OriginId(3);

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Unhealthy members, and requests under way.
#[derive(Default)]
struct Known {
    sick: Vec<OriginId>,
    load: HashMap<u32, usize>,
}

impl Members for Known {
    fn admits(&self, origin: OriginId) -> bool {
        self.is_healthy(origin)
    }

    fn is_healthy(&self, origin: OriginId) -> bool {
        !self.sick.contains(&origin)
    }

    fn retries(&self, _: OriginId) -> u8 {
        0
    }

    fn under_way(&self, origin: OriginId) -> usize {
        self.load.get(&origin.0).copied().unwrap_or(0)
    }
}

fn sick(members: &[OriginId]) -> Known {
    Known {
        sick: members.to_vec(),
        ..Known::default()
    }
}

fn group(balance: Balance, weights: &[u32]) -> Group {
    let share = |(weight, name): (&u32, &&str)| MemberShare {
        weight: *weight,
        seed: seed(name),
    };
    Group {
        name: "site".into(),
        members: (0..weights.len() as u32).map(OriginId).collect(),
        balance,
        shares: weights.iter().zip(&NAMES).map(share).collect(),
        failover_on: Vec::new(),
        deadline: None,
    }
}

fn turns(group: &Group) -> Turns {
    Turns(vec![vec![0; group.members.len()]])
}

/// The orders of so many requests in a row.
fn orders(group: &Group, known: &Known, count: usize) -> Vec<Vec<OriginId>> {
    let mut turns = turns(group);
    let mut order = || turns.order((GroupId(0), group), None, known).to_vec();
    (0..count).map(|_| order()).collect()
}

fn firsts(group: &Group, known: &Known, count: usize) -> Vec<OriginId> {
    orders(group, known, count)
        .iter()
        .map(|order| order[0])
        .collect()
}

#[test]
fn each_member_has_its_turn_and_the_next_in_turn_stands_in() {
    let group = group(Balance::RoundRobin, &[1, 1, 1]);
    let want = [[A, B, C], [B, C, A], [C, A, B], [A, B, C]];
    assert_eq!(orders(&group, &Known::default(), 4), want);
}

#[test]
fn wherever_turns_begin_each_member_that_has_some_gets_its_share() {
    for (weights, want) in [
        (&[1, 1, 0][..], &[(A, 3), (B, 3)][..]),
        (&[2, 0, 1], &[(A, 4), (C, 2)]),
        (&[0, 0, 1], &[(C, 6)]),
    ] {
        let group = group(Balance::RoundRobin, weights);
        for random in 0..7 {
            let mut turns = Turns(vec![begun(&group, random)]);
            let mut came = HashMap::new();
            for _ in 0..6 {
                let order = turns.order((GroupId(0), &group), None, &Known::default());
                *came.entry(order[0]).or_insert(0) += 1;
            }
            assert_eq!(came, want.iter().copied().collect(), "{weights:?} {random}");
        }
    }
}

#[test]
fn a_weight_is_a_share_and_the_heavy_ones_turns_are_spread() {
    for (weights, want) in [
        (&[3, 1][..], &[A, A, B, A, A, A, B, A][..]),
        (&[1, 3], &[B, A, B, B, B, A, B, B]),
        (&[5, 1, 1], &[A, A, B, A, C, A, A]),
        (&[2, 2], &[A, B, A, B]),
    ] {
        let group = group(Balance::RoundRobin, weights);
        let got = firsts(&group, &Known::default(), want.len());
        assert_eq!(got, want, "{weights:?}");
    }
}

#[test]
fn the_turns_of_an_unhealthy_member_go_to_all_others_and_its_trial_comes_first() {
    let group = group(Balance::RoundRobin, &[1, 1, 1]);
    // It comes first, in case this request is its trial. If not, the second gets the request.
    let want = [[B, A, C], [B, C, A], [B, A, C], [B, C, A]];
    assert_eq!(orders(&group, &sick(&[B]), 4), want);
}

#[test]
fn with_no_healthy_member_all_have_their_turns() {
    let group = group(Balance::RoundRobin, &[1, 1, 0]);
    let want = [[A, B, C], [B, A, C], [A, B, C]];
    assert_eq!(orders(&group, &sick(&[A, B, C]), 3), want);
}

#[test]
fn a_member_of_weight_0_is_requested_where_no_other_is_healthy() {
    let group = group(Balance::RoundRobin, &[1, 0, 1, 0]);
    for (sick_ones, want) in [
        (&[][..], [[A, C, B, D], [C, A, B, D]]),
        (&[A], [[A, C, B, D], [A, C, B, D]]),
        (&[B], [[A, C, D, B], [C, A, D, B]]),
        // Both of weight 0 share what the others cannot take, behind the trials of these.
        (&[A, C], [[A, C, B, D], [A, C, D, B]]),
    ] {
        let got = orders(&group, &sick(sick_ones), 2);
        assert_eq!(got, want, "{sick_ones:?}");
    }
}

#[test]
fn the_member_with_the_fewest_requests_for_its_weight_gets_the_next() {
    for (name, weights, load, want) in [
        ("fewest", &[1, 1, 1][..], [4, 2, 3], &[B, C, A][..]),
        ("ties by turns", &[1, 1, 1], [1, 1, 5], &[A, B, C]),
        ("double weight", &[2, 1], [3, 2, 0], &[A, B]),
        ("double weight, double load", &[2, 1], [4, 1, 0], &[B, A]),
        ("weight 0", &[1, 0], [9, 0, 0], &[A, B]),
    ] {
        let group = group(Balance::LeastRequests, weights);
        let load = (0..3).zip(load).collect();
        let known = Known {
            load,
            sick: Vec::new(),
        };
        assert_eq!(orders(&group, &known, 1)[0], want, "{name}");
    }
}

#[test]
fn members_with_as_many_requests_have_turns() {
    let group = group(Balance::LeastRequests, &[1, 1, 1]);
    let load = [(0, 2), (1, 7), (2, 2)].into_iter().collect();
    let known = Known {
        load,
        sick: Vec::new(),
    };
    assert_eq!(firsts(&group, &known, 4), [A, C, A, C]);
}

#[test]
fn an_unhealthy_member_gets_nothing_for_having_no_requests() {
    let group = group(Balance::LeastRequests, &[1, 1]);
    let load = [(0, 0), (1, 9)].into_iter().collect();
    let known = Known {
        load,
        sick: vec![A],
    };
    // It comes first, as it may be due for its trial.
    assert_eq!(orders(&group, &known, 1), [[A, B]]);
}

fn key(number: u32) -> HashKey {
    HashKey::new(&number.to_be_bytes())
}

/// The number of keys of ten thousand that each member has.
fn kept(group: &Group) -> Vec<usize> {
    let first = |number| ranked(group, key(number))[0];
    let mut counts = vec![0; group.members.len()];
    for number in 0..10_000 {
        counts[first(number).0 as usize] += 1;
    }
    counts
}

#[test]
fn a_hash_spreads_keys_as_the_weights_say() {
    for (weights, want) in [
        (&[1, 1, 1, 1][..], &[2500, 2500, 2500, 2500][..]),
        (&[3, 1], &[7500, 2500]),
        (&[1, 2, 5], &[1250, 2500, 6250]),
        (&[1, 0], &[10_000, 0]),
    ] {
        let counts = kept(&group(Balance::Hash(HashBy::Url), weights));
        for (count, want) in counts.iter().zip(want) {
            assert!(count.abs_diff(*want) < 300, "{weights:?}: {counts:?}");
        }
    }
}

#[test]
fn a_member_that_leaves_moves_its_own_keys_only_and_to_those_that_stood_in() {
    let all = group(Balance::Hash(HashBy::Url), &[1, 2, 1, 1]);
    let mut fewer = all.clone();
    fewer.members.remove(1);
    fewer.shares.remove(1);
    let mut moved = 0;
    for number in 0..10_000 {
        let (before, after) = (ranked(&all, key(number)), ranked(&fewer, key(number)));
        let rest: Vec<OriginId> = before.iter().copied().filter(|id| *id != B).collect();
        assert_eq!(after.to_vec(), rest);
        moved += usize::from(before[0] == B);
    }
    assert!((3700..4300).contains(&moved), "{moved}");
}

#[test]
fn a_larger_weight_draws_keys_to_its_member_and_moves_no_other() {
    let [before, after] =
        [[1, 1, 1], [1, 1, 2]].map(|weights| group(Balance::Hash(HashBy::Url), &weights));
    for number in 0..2_000 {
        let (one, other) = (
            ranked(&before, key(number))[0],
            ranked(&after, key(number))[0],
        );
        assert!(one == other || other == C);
    }
}

#[test]
fn the_keys_of_a_member_depend_on_its_name_and_on_nothing_else() {
    // A change here moves every key of everybody at an update.
    let group = group(Balance::Hash(HashBy::Url), &[1, 1, 1]);
    let firsts: Vec<u32> = (0..12)
        .map(|number| ranked(&group, key(number))[0].0)
        .collect();
    assert_eq!(firsts, FIRSTS);
}

const FIRSTS: [u32; 12] = [1, 2, 0, 2, 1, 1, 1, 2, 1, 0, 0, 2];

#[test]
fn a_hash_is_of_the_part_that_the_balance_names() {
    let policy = CachePolicy::default();
    let target = |text: &str| PathAndQuery::try_from(text.to_owned()).unwrap();
    let fields = |fields: &[(&str, &str)]| {
        let mut headers = Fields::new();
        for (name, value) in fields {
            let name = FieldName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, http::HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    let of = |by: &HashBy, address: &str, host, path: &str, headers| {
        let address = address.parse().unwrap();
        HashKey::of(by, address, host, &target(path), &headers, &policy)
    };
    let (url, address) = (HashBy::Url, HashBy::Address);
    let header = HashBy::Header(FieldName::from_bytes(b"x-user").unwrap());
    let cookie = HashBy::Cookie("sid".into());
    let none = Fields::new;
    let same = [
        of(&url, "192.0.2.1", "a.example", "/x?q=1", none()),
        of(
            &url,
            "192.0.2.2",
            "a.example",
            "/x?q=1",
            fields(&[("x-user", "1")]),
        ),
    ];
    assert!(same[0].is_some() && same[0] == same[1]);
    for (host, path) in [
        ("b.example", "/x?q=1"),
        ("a.example", "/y?q=1"),
        ("a.example", "/x?q=2"),
    ] {
        assert_ne!(
            of(&url, "192.0.2.1", host, path, none()),
            same[0],
            "{host} {path}"
        );
    }
    let of_address = |text| of(&address, text, "a.example", "/", none());
    assert_ne!(of_address("192.0.2.1"), of_address("192.0.2.2"));
    assert_eq!(
        of_address("2001:db8::1"),
        of_address("2001:db8::ffff:2"),
        "one network"
    );
    assert_ne!(of_address("2001:db8::1"), of_address("2001:db8:0:1::1"));
    let of_header = |given| of(&header, "192.0.2.1", "a.example", "/", fields(given));
    assert_ne!(of_header(&[("x-user", "1")]), of_header(&[("x-user", "2")]));
    assert_eq!(
        of_header(&[("x-user", "1"), ("x-user", "2")]),
        of_header(&[("x-user", "1")])
    );
    let of_cookie = |given| of(&cookie, "192.0.2.1", "a.example", "/", fields(given));
    assert_eq!(
        of_cookie(&[("cookie", "b=1; sid=7")]),
        of_header(&[("x-user", "7")])
    );
    for (name, key) in [
        ("no field", of_header(&[])),
        ("an empty field", of_header(&[("x-user", "")])),
        ("no cookie", of_cookie(&[("cookie", "b=1")])),
    ] {
        assert_eq!(key, None, "{name}: it has its turn");
    }
}
