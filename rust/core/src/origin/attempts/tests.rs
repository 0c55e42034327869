#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;

use super::{Event::*, *};
use crate::plan::Balance;

const A: OriginId = OriginId(0);
const B: OriginId = OriginId(1);
const C: OriginId = OriginId(2);

/// Members that are unhealthy, from the start or since, and how often a request that has not left is repeated.
struct Known {
    sick: RefCell<Vec<OriginId>>,
    retries: u8,
}

impl Members for Known {
    fn admits(&self, origin: OriginId) -> bool {
        self.is_healthy(origin)
    }

    fn is_healthy(&self, origin: OriginId) -> bool {
        !self.sick.borrow().contains(&origin)
    }

    fn retries(&self, _: OriginId) -> u8 {
        self.retries
    }

    fn under_way(&self, _: OriginId) -> usize {
        0
    }
}

fn known(sick: &[OriginId], retries: u8) -> Known {
    Known {
        sick: RefCell::new(sick.to_vec()),
        retries,
    }
}

fn well() -> Known {
    known(&[], 0)
}

fn group(members: &[OriginId]) -> Group {
    Group {
        name: "site".into(),
        members: members.to_vec(),
        balance: Balance::Order,
        shares: Vec::new(),
        failover_on: vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND],
        deadline: None,
    }
}

fn request(origin: OriginId) -> Step {
    Step::Request {
        origin,
        fresh: false,
    }
}

fn again(origin: OriginId) -> Step {
    Step::Request {
        origin,
        fresh: true,
    }
}

fn give_up(why: Why, disconnected: bool) -> Step {
    Step::GiveUp(GiveUp { why, disconnected })
}

const TIMED_OUT: Failure = Failure::TimedOut { sent: true };
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

fn closed(kept: bool, sent: bool) -> Failure {
    Failure::Closed { kept, sent }
}

/// The steps that follow each of the events, from the first request on.
fn run(
    members: &[OriginId],
    method: Method,
    replayable: bool,
    known: &Known,
    script: &[(Event, Step)],
) {
    let group = group(members);
    let mut attempts = Attempts::new(&group, &method, replayable);
    for (at, (event, want)) in script.iter().enumerate() {
        if let Unhealthy(origin) = event {
            known.sick.borrow_mut().push(*origin);
        }
        let got = attempts.next(*event, known);
        assert_eq!(
            got, *want,
            "{method} replayable={replayable} {at}: {event:?}"
        );
    }
}

#[test]
fn the_next_member_gets_the_request_only_where_repeating_is_safe() {
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    for (method, replayable, event, want) in [
        (
            get.clone(),
            true,
            Answered(A, StatusCode::OK),
            Step::Take(A),
        ),
        (
            get.clone(),
            true,
            Answered(A, StatusCode::INTERNAL_SERVER_ERROR),
            Step::Take(A),
        ),
        (get.clone(), true, Answered(A, UNAVAILABLE), request(B)),
        (put.clone(), true, Answered(A, UNAVAILABLE), request(B)),
        (put.clone(), false, Answered(A, UNAVAILABLE), Step::Take(A)),
        (post.clone(), true, Answered(A, UNAVAILABLE), Step::Take(A)),
        (get.clone(), true, Failed(A, TIMED_OUT), request(B)),
        (put.clone(), true, Failed(A, TIMED_OUT), request(B)),
        (
            put.clone(),
            false,
            Failed(A, TIMED_OUT),
            give_up(Why::NotReplayable, false),
        ),
        (
            post.clone(),
            true,
            Failed(A, TIMED_OUT),
            give_up(Why::NotIdempotent, false),
        ),
        // A request that was not sent goes to another member, whatever its method.
        (
            post.clone(),
            false,
            Failed(A, Failure::Unreachable),
            request(B),
        ),
        (post.clone(), false, Failed(A, Failure::Bound), request(B)),
        (
            post.clone(),
            false,
            Failed(A, Failure::TimedOut { sent: false }),
            request(B),
        ),
        (get.clone(), true, Failed(A, Failure::Malformed), request(B)),
        (get.clone(), true, Failed(A, Failure::BrokeOff), request(B)),
        (
            get.clone(),
            true,
            Failed(A, Failure::Request),
            give_up(Why::Request, false),
        ),
    ] {
        let script = [(Ready, request(A)), (event, want)];
        run(&[A, B], method, replayable, &well(), &script);
    }
}

#[test]
fn the_same_member_gets_the_request_again_only_after_a_connection_that_closed_before_an_answer() {
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    for (method, replayable, retries, failure, want) in [
        (get.clone(), true, 0, closed(true, true), again(A)),
        (put.clone(), true, 0, closed(true, true), again(A)),
        (Method::DELETE, true, 0, closed(true, true), again(A)),
        (
            put.clone(),
            false,
            0,
            closed(true, true),
            give_up(Why::NotReplayable, false),
        ),
        (
            post.clone(),
            true,
            0,
            closed(true, true),
            give_up(Why::NotIdempotent, false),
        ),
        (post.clone(), false, 0, closed(true, false), again(A)),
        // A new connection that fails counts against the member.
        (get.clone(), true, 9, closed(false, true), request(B)),
        (get.clone(), true, 0, closed(false, false), request(B)),
        (post.clone(), false, 1, closed(false, false), again(A)),
        // A repeated time-out would double the wait, and the load of a slow member.
        (get.clone(), true, 9, TIMED_OUT, request(B)),
        (get.clone(), true, 9, Failure::Malformed, request(B)),
    ] {
        let script = [(Ready, request(A)), (Failed(A, failure), want)];
        run(&[A, B], method, replayable, &known(&[], retries), &script);
    }
    let script = [
        (Ready, request(A)),
        (Failed(A, closed(true, true)), again(A)),
        (Failed(A, closed(false, true)), request(B)),
        (Failed(B, closed(true, true)), again(B)),
        (
            Failed(B, closed(false, true)),
            give_up(Why::Exhausted, true),
        ),
    ];
    run(&[A, B], get, true, &well(), &script);
}

#[test]
fn healthy_members_come_first_and_dead_ones_last() {
    let script = [
        (Ready, request(C)),
        (Failed(C, Failure::Unreachable), request(A)),
        (Failed(A, Failure::Unreachable), request(B)),
        (
            Failed(B, Failure::Unreachable),
            give_up(Why::Exhausted, true),
        ),
    ];
    run(&[A, B, C], Method::GET, true, &known(&[A, B], 0), &script);
}

#[test]
fn an_unhealthy_member_gets_company_and_the_first_response_wins() {
    let script = [
        (Ready, request(A)),
        (Unhealthy(C), Step::Wait),
        (Unhealthy(A), request(B)),
        (Unhealthy(A), Step::Wait),
        (Answered(A, StatusCode::OK), Step::Take(A)),
    ];
    run(&[A, B], Method::GET, true, &well(), &script);
    let script = [
        (Ready, request(A)),
        (Unhealthy(A), request(B)),
        (Failed(A, TIMED_OUT), Step::Wait),
        (Answered(B, StatusCode::OK), Step::Take(B)),
    ];
    run(&[A, B], Method::GET, true, &well(), &script);
    // A failed member beside a suspect one makes room for the next.
    let script = [
        (Ready, request(A)),
        (Unhealthy(A), request(B)),
        (Failed(B, Failure::Unreachable), request(C)),
        (Failed(C, Failure::Unreachable), Step::Wait),
        (Failed(A, TIMED_OUT), give_up(Why::Exhausted, true)),
    ];
    run(&[A, B, C], Method::GET, true, &well(), &script);
    // A response to fail over on waits for the other member's, and is better than none.
    let script = [
        (Ready, request(A)),
        (Unhealthy(A), request(B)),
        (Answered(B, UNAVAILABLE), Step::Wait),
        (Failed(A, TIMED_OUT), Step::Take(B)),
    ];
    run(&[A, B], Method::GET, true, &well(), &script);
    for (method, replayable) in [(Method::POST, true), (Method::PUT, false)] {
        let script = [(Ready, request(A)), (Unhealthy(A), Step::Wait)];
        run(&[A, B], method, replayable, &well(), &script);
    }
    run(
        &[A],
        Method::GET,
        true,
        &well(),
        &[(Ready, request(A)), (Unhealthy(A), Step::Wait)],
    );
}

#[test]
fn a_member_that_is_no_better_gets_the_request_after_a_while() {
    let later = Step::RequestAfter(BESIDE_UNHEALTHY);
    let sick = known(&[B], 0);
    let script = [
        (Ready, request(A)),
        (Unhealthy(A), later),
        (Due, request(B)),
        (Due, Step::Wait),
        (Deadline, give_up(Why::Deadline, true)),
    ];
    run(&[A, B], Method::GET, true, &sick, &script);
    let sick = known(&[B], 0);
    let script = [
        (Ready, request(A)),
        (Unhealthy(A), later),
        (Failed(A, Failure::Unreachable), request(B)),
        (Due, Step::Wait),
    ];
    run(&[A, B], Method::GET, true, &sick, &script);
}

#[test]
fn disconnected_is_only_what_lost_every_member() {
    for (members, members_known, events, disconnected) in [
        (&[A][..], well(), &[Failure::Unreachable][..], true),
        (&[A], well(), &[closed(false, true)], true),
        (&[A], well(), &[TIMED_OUT], true),
        (&[A], well(), &[Failure::BrokeOff], true),
        (&[A], well(), &[Failure::Bound], false),
        (&[A], well(), &[Failure::Malformed], false),
        (&[A, B], well(), &[Failure::Unreachable, TIMED_OUT], true),
        (
            &[A, B],
            well(),
            &[Failure::Unreachable, Failure::Bound],
            false,
        ),
    ] {
        let group = group(members);
        let mut attempts = Attempts::new(&group, &Method::GET, true);
        let mut step = attempts.next(Ready, &members_known);
        for failure in events {
            let Step::Request { origin, .. } = step else {
                panic!("{step:?}")
            };
            step = attempts.next(Failed(origin, *failure), &members_known);
        }
        assert_eq!(step, give_up(Why::Exhausted, disconnected), "{events:?}");
    }
    // At the deadline a member that was not tried counts if it is known to be unhealthy.
    for (members_known, disconnected) in [(well(), false), (known(&[B], 0), true)] {
        let script = [
            (Ready, request(A)),
            (Deadline, give_up(Why::Deadline, disconnected)),
        ];
        run(&[A, B], Method::GET, true, &members_known, &script);
    }
    let script = [
        (Ready, request(A)),
        (Answered(A, UNAVAILABLE), request(B)),
        (Failed(B, Failure::Unreachable), Step::Take(A)),
    ];
    run(&[A, B], Method::GET, true, &well(), &script);
    run(
        &[],
        Method::GET,
        true,
        &well(),
        &[(Ready, give_up(Why::NoMember, false))],
    );
}

#[test]
fn no_member_gets_the_request_without_end() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    let group = group(&[A, B, C]);
    for _ in 0..2_000 {
        let known = known(&[B], 2);
        let mut attempts = Attempts::new(&group, &Method::GET, true);
        let mut pending: Vec<OriginId> = Vec::new();
        let mut total = 0;
        let mut event = Ready;
        loop {
            match attempts.next(event, &known) {
                Step::Request { origin, .. } => {
                    assert!(
                        !pending.contains(&origin),
                        "two attempts at one member at a time"
                    );
                    pending.push(origin);
                    total += 1;
                }
                Step::Take(_) | Step::GiveUp(_) => break,
                Step::Wait | Step::RequestAfter(_) => {}
            }
            assert!(
                !pending.is_empty(),
                "nothing is under way and nothing is tried"
            );
            let at = usize::try_from(draw(pending.len() as u64)).unwrap();
            event = match draw(4) {
                0 => Unhealthy(pending[at]),
                1 => Due,
                2 => Answered(pending.swap_remove(at), UNAVAILABLE),
                _ => {
                    let failures = [closed(true, true), closed(false, false), TIMED_OUT];
                    let failure = failures[usize::try_from(draw(3)).unwrap()];
                    Failed(pending.swap_remove(at), failure)
                }
            };
        }
        assert!(total <= 3 * 4, "{total}");
    }
}
