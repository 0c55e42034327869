//! Whom to ask next (phase 11): the members of a group in order, while the request may be sent again.
//!
//! A request may be repeated when its method is idempotent (RFC 9110 §9.2.2) or when no origin can have begun to act on
//! it, and when its body can be sent again. Members that probes hold for dead come last, not never: all of them dead is
//! more likely our error than theirs.

use http::{Method, StatusCode};

use crate::plan::{Group, OriginId};

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// There was none yet.
    First,
    /// A member answered; nothing of the answer went to the viewer yet.
    Answered(StatusCode),
    /// No answer: not connected, reset, too slow. `sent`: the origin may have seen the request.
    Failed { sent: bool },
    /// A part of the answer is with the viewer already.
    Started,
}

/// Why the next member is asked or not: for `explain`, logs and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Ask(OriginId),
    /// The answer is none to fail over on.
    Accepted,
    /// Repeating could do harm: the method is not idempotent and the origin may have acted (RFC 9110 §9.2.2).
    NotIdempotent,
    /// The body is gone.
    NotReplayable,
    /// Every member was asked.
    Exhausted,
}

/// RFC 9110 §9.2.2; extension methods are not known to be.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The next member to ask, or why there is none.
pub fn choose(
    group: &Group,
    tried: &[OriginId],
    healthy: impl Fn(OriginId) -> bool,
    method: &Method,
    replayable: bool,
    attempt: Attempt,
) -> Choice {
    match attempt {
        Attempt::First => {}
        Attempt::Started => return Choice::Accepted,
        Attempt::Answered(status) if !group.failover_on.contains(&status) => {
            return Choice::Accepted;
        }
        Attempt::Answered(_) | Attempt::Failed { sent: true } if !is_idempotent(method) => {
            return Choice::NotIdempotent;
        }
        Attempt::Answered(_) | Attempt::Failed { .. } if !replayable => {
            return Choice::NotReplayable;
        }
        Attempt::Answered(_) | Attempt::Failed { .. } => {}
    }
    let untried = || {
        group
            .members
            .iter()
            .copied()
            .filter(|member| !tried.contains(member))
    };
    match untried()
        .find(|member| healthy(*member))
        .or_else(|| untried().next())
    {
        Some(member) => Choice::Ask(member),
        None => Choice::Exhausted,
    }
}

/// As [`choose`], without the reason.
pub fn next(
    group: &Group,
    tried: &[OriginId],
    healthy: impl Fn(OriginId) -> bool,
    method: &Method,
    replayable: bool,
    attempt: Attempt,
) -> Option<OriginId> {
    match choose(group, tried, healthy, method, replayable, attempt) {
        Choice::Ask(member) => Some(member),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn group() -> Group {
        Group {
            name: "site".into(),
            members: vec![OriginId(0), OriginId(1), OriginId(2)],
            failover_on: vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND],
        }
    }

    #[test]
    fn the_next_member_is_asked_only_where_repeating_is_safe() {
        use Attempt::{Answered, Failed, First, Started};
        let unavailable = Answered(StatusCode::SERVICE_UNAVAILABLE);
        let second = Choice::Ask(OriginId(1));
        for (method, replayable, attempt, want) in [
            (Method::GET, true, First, second),
            (Method::POST, false, First, second),
            (Method::GET, true, unavailable, second),
            (Method::PUT, true, unavailable, second),
            (Method::PUT, false, unavailable, Choice::NotReplayable),
            (
                Method::GET,
                true,
                Answered(StatusCode::OK),
                Choice::Accepted,
            ),
            (
                Method::GET,
                true,
                Answered(StatusCode::INTERNAL_SERVER_ERROR),
                Choice::Accepted,
            ),
            (Method::POST, true, unavailable, Choice::NotIdempotent),
            (
                Method::POST,
                true,
                Failed { sent: true },
                Choice::NotIdempotent,
            ),
            (Method::POST, true, Failed { sent: false }, second),
            (
                Method::POST,
                false,
                Failed { sent: false },
                Choice::NotReplayable,
            ),
            (Method::GET, true, Failed { sent: true }, second),
            (Method::GET, true, Started, Choice::Accepted),
        ] {
            let tried = [OriginId(0)];
            let got = choose(&group(), &tried, |_| true, &method, replayable, attempt);
            assert_eq!(got, want, "{method} replayable={replayable} {attempt:?}");
        }
    }

    #[test]
    fn healthy_members_come_first_and_dead_ones_last() {
        let healthy = |id: OriginId| id == OriginId(2);
        let mut tried = Vec::new();
        let mut attempt = Attempt::First;
        while let Some(id) = next(&group(), &tried, healthy, &Method::GET, true, attempt) {
            tried.push(id);
            attempt = Attempt::Failed { sent: false };
        }
        assert_eq!(tried, [OriginId(2), OriginId(0), OriginId(1)]);
        assert_eq!(
            choose(&group(), &tried, healthy, &Method::GET, true, attempt),
            Choice::Exhausted
        );
    }

    #[test]
    fn a_lone_origin_never_fails_over() {
        let lone = Group {
            name: "one".into(),
            members: vec![OriginId(7)],
            failover_on: Vec::new(),
        };
        assert_eq!(
            next(&lone, &[], |_| false, &Method::GET, true, Attempt::First),
            Some(OriginId(7))
        );
        let failed = Attempt::Failed { sent: false };
        assert_eq!(
            next(&lone, &[OriginId(7)], |_| true, &Method::GET, true, failed),
            None
        );
    }
}
