//! The attempts of one request at the members of a group, as one state machine without I/O: which member is asked, the
//! same one again, the next one, or one beside it; which answer is taken; and when nothing more is tried.
//!
//! *Repeat* asks the same member again. That is for a connection that was reset or closed before it answered: a kept one
//! may have been closed by the origin just as the request left (RFC 9112 §9.3.1). *Fail over* asks another member.
//! Both only where repeating does no harm (RFC 9110 §9.2.2) and the body can be sent again.

use std::time::Duration;

use http::{Method, StatusCode};
use smallvec::SmallVec;

use crate::plan::{Group, OriginId};

/// How an attempt ended without a usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No address, no connection, no TLS: the request has not left.
    Unreachable,
    /// Reset or closed before an answer. `kept`: the connection had served before. `sent`: the origin may have the request.
    Closed { kept: bool, sent: bool },
    /// Nothing came in the time that the origin's policy gives it. `sent`: as in `Closed`.
    TimedOut { sent: bool },
    /// It stopped in the middle of its answer.
    BrokeOff,
    /// It answered what is no HTTP response.
    Malformed,
    /// The client broke off its own request: nothing that an origin does would help.
    Request,
    /// A bound of the edge's own was reached, such as `max_connections`.
    Bound,
}

impl Failure {
    /// Whether the origin may have acted on the request.
    pub fn sent(self) -> bool {
        match self {
            Self::Unreachable | Self::Bound => false,
            Self::Closed { sent, .. } | Self::TimedOut { sent } => sent,
            Self::BrokeOff | Self::Malformed | Self::Request => true,
        }
    }

    /// Whether the edge is disconnected from the origin (RFC 9111 §4.2.4): it was refused, reset or closed without a whole
    /// answer, or timed out. A bound of the edge's own, and an answer of whatever kind, is no disconnection.
    pub fn disconnected(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Closed { .. } | Self::TimedOut { .. } | Self::BrokeOff
        )
    }
}

/// What happened to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is ready to be sent for the first time.
    Ready,
    /// A member answered; nothing of the answer went to the client yet.
    Answered(OriginId, StatusCode),
    Failed(OriginId, Failure),
    /// This member, which is being asked, was found unhealthy meanwhile.
    Unhealthy(OriginId),
    /// The delay of [`Step::AskAfter`] is over.
    Due,
    /// The time for all attempts is over.
    Deadline,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the request to this member, beside those that are being asked still. `fresh`: on a new connection, as what one
    /// kept connection suffered the others may have, too.
    Ask {
        origin: OriginId,
        fresh: bool,
    },
    /// Report [`Event::Due`] after this long, unless something else happens before.
    AskAfter(Duration),
    /// Nothing new: a member is being asked.
    Wait,
    /// This member's answer is the one to use; what is still being asked is given up.
    Take(OriginId),
    GiveUp(GiveUp),
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveUp {
    pub why: Why,
    /// Every member was refused, reset, closed without an answer or timed out, or is known to be unhealthy: a stored
    /// response may be served because the edge is disconnected (RFC 9111 §4.2.4).
    pub disconnected: bool,
}

/// Why no further member is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The group is empty.
    NoMember,
    /// Every member was asked.
    Exhausted,
    /// Repeating could do harm: the method is not idempotent and the origin may have acted (RFC 9110 §9.2.2).
    NotIdempotent,
    /// The body is gone.
    NotReplayable,
    /// The client broke off its request.
    Request,
    /// The group's `deadline`.
    Deadline,
}

/// What is known of members when one is chosen.
pub trait Members {
    /// Whether a request should go there in its turn. Answering yes to an unhealthy one may begin its trial.
    fn admits(&self, origin: OriginId) -> bool;
    /// Whether it is counted among the healthy; asking changes nothing.
    fn is_healthy(&self, origin: OriginId) -> bool;
    /// Extra tries of a request that has not left on a new connection that was closed at once.
    fn retries(&self, origin: OriginId) -> u8;
}

/// How long a member that was found unhealthy has left to answer before one that is no better is asked beside it.
pub const BESIDE_UNHEALTHY: Duration = Duration::from_millis(250);

/// RFC 9110 §9.2.2; extension methods are not known to be.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Untried,
    /// `suspect`: found unhealthy since it was asked.
    Asked {
        suspect: bool,
    },
    Answered,
    Failed(Failure),
}

#[derive(Debug, Clone, Copy)]
struct Member {
    origin: OriginId,
    state: State,
    /// Times that it was asked again.
    repeats: u8,
}

/// One request's attempts.
#[derive(Debug)]
pub struct Attempts<'g> {
    failover_on: &'g [StatusCode],
    members: SmallVec<[Member; 4]>,
    idempotent: bool,
    replayable: bool,
    /// The last answer that was passed over for a better one.
    passed_over: Option<OriginId>,
}

impl<'g> Attempts<'g> {
    /// `replayable`: the body can be sent any number of times.
    pub fn new(group: &'g Group, method: &Method, replayable: bool) -> Self {
        let member = |origin: &OriginId| Member {
            origin: *origin,
            state: State::Untried,
            repeats: 0,
        };
        Self {
            failover_on: &group.failover_on,
            members: group.members.iter().map(member).collect(),
            idempotent: is_idempotent(method),
            replayable,
            passed_over: None,
        }
    }

    pub fn next(&mut self, event: Event, known: &impl Members) -> Step {
        match event {
            Event::Ready => match self.untried(known) {
                Some(origin) => self.ask(origin, false),
                None => self.end(Why::NoMember, known),
            },
            Event::Answered(origin, status) => self.answered(origin, status, known),
            Event::Failed(origin, failure) => self.failed(origin, failure, known),
            Event::Unhealthy(origin) => self.unhealthy(origin, known),
            Event::Due => self.due(known),
            Event::Deadline => {
                for member in &mut self.members {
                    if matches!(member.state, State::Asked { .. }) {
                        member.state = State::Failed(Failure::TimedOut { sent: true });
                    }
                }
                self.end(Why::Deadline, known)
            }
        }
    }

    /// Whether a verdict on a member that is being asked could change anything.
    pub fn heeds_health(&self) -> bool {
        self.idempotent
            && self.replayable
            && self
                .members
                .iter()
                .any(|member| member.state == State::Untried)
    }

    /// Whether there is a member that was not asked yet: the body and the fields are needed again.
    pub fn has_more(&self) -> bool {
        self.members
            .iter()
            .any(|member| member.state == State::Untried)
    }

    fn answered(&mut self, origin: OriginId, status: StatusCode, known: &impl Members) -> Step {
        self.set(origin, State::Answered);
        if !self.failover_on.contains(&status) || !self.idempotent {
            return Step::Take(origin);
        }
        self.passed_over = Some(origin);
        let stopped = (!self.replayable).then_some(Why::NotReplayable);
        self.go_on(stopped, known)
    }

    fn failed(&mut self, origin: OriginId, failure: Failure, known: &impl Members) -> Step {
        let repeats = self.member(origin).map_or(0, |member| member.repeats);
        self.set(origin, State::Failed(failure));
        if failure == Failure::Request {
            return self.end(Why::Request, known);
        }
        // What has not left is as good as new, whatever the method and the body.
        let stopped = if !failure.sent() {
            None
        } else if !self.idempotent {
            Some(Why::NotIdempotent)
        } else if !self.replayable {
            Some(Why::NotReplayable)
        } else {
            None
        };
        if stopped.is_none()
            && let Failure::Closed { kept, sent } = failure
            && (kept && repeats == 0 || !sent && repeats < known.retries(origin))
        {
            if let Some(member) = self.member_mut(origin) {
                member.repeats = repeats.saturating_add(1);
            }
            return self.ask(origin, true);
        }
        self.go_on(stopped, known)
    }

    /// After an attempt that brought nothing: the next member, unless one is being asked that nothing is known against.
    fn go_on(&mut self, stopped: Option<Why>, known: &impl Members) -> Step {
        if self.trusted_under_way() {
            return Step::Wait;
        }
        if stopped.is_none()
            && let Some(next) = self.untried(known)
        {
            return self.ask(next, false);
        }
        if self.under_way() {
            return Step::Wait;
        }
        self.end(stopped.unwrap_or(Why::Exhausted), known)
    }

    fn unhealthy(&mut self, origin: OriginId, known: &impl Members) -> Step {
        match self.member_mut(origin) {
            Some(Member {
                state: State::Asked { suspect },
                ..
            }) if !*suspect => *suspect = true,
            _ => return Step::Wait,
        }
        if !self.heeds_health() || self.trusted_under_way() {
            return Step::Wait;
        }
        let better = self
            .members
            .iter()
            .find(|member| member.state == State::Untried && known.admits(member.origin));
        match better.map(|member| member.origin) {
            Some(next) => self.ask(next, false),
            None => Step::AskAfter(BESIDE_UNHEALTHY),
        }
    }

    fn due(&mut self, known: &impl Members) -> Step {
        if !self.heeds_health() || self.trusted_under_way() {
            return Step::Wait;
        }
        match self.untried(known) {
            Some(next) => self.ask(next, false),
            None => Step::Wait,
        }
    }

    fn ask(&mut self, origin: OriginId, fresh: bool) -> Step {
        // One that was unhealthy from the start has no verdict to wait for.
        self.set(origin, State::Asked { suspect: false });
        Step::Ask { origin, fresh }
    }

    /// Nothing more is tried: an answer that was passed over is better than none.
    fn end(&self, why: Why, known: &impl Members) -> Step {
        if let Some(origin) = self.passed_over.filter(|_| why != Why::Request) {
            return Step::Take(origin);
        }
        let lost = |member: &Member| match member.state {
            State::Failed(failure) => failure.disconnected(),
            State::Untried => !known.is_healthy(member.origin),
            State::Asked { .. } | State::Answered => false,
        };
        Step::GiveUp(GiveUp {
            why,
            disconnected: !self.members.is_empty() && self.members.iter().all(lost),
        })
    }

    /// The next member that was not asked yet, healthy ones first.
    fn untried(&self, known: &impl Members) -> Option<OriginId> {
        let untried = || {
            self.members
                .iter()
                .filter(|member| member.state == State::Untried)
                .map(|member| member.origin)
        };
        untried()
            .find(|origin| known.admits(*origin))
            .or_else(|| untried().next())
    }

    fn under_way(&self) -> bool {
        let asked = |member: &Member| matches!(member.state, State::Asked { .. });
        self.members.iter().any(asked)
    }

    /// Whether a member is being asked that nothing is known against.
    fn trusted_under_way(&self) -> bool {
        let trusted = |member: &Member| member.state == State::Asked { suspect: false };
        self.members.iter().any(trusted)
    }

    fn member(&self, origin: OriginId) -> Option<&Member> {
        self.members.iter().find(|member| member.origin == origin)
    }

    fn member_mut(&mut self, origin: OriginId) -> Option<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.origin == origin)
    }

    fn set(&mut self, origin: OriginId, state: State) {
        if let Some(member) = self.member_mut(origin) {
            member.state = state;
        }
    }
}

/// The order in which members would be asked if each failed after the request had left: for `explain`.
pub fn order(group: &Group, method: &Method) -> Vec<OriginId> {
    struct Unknown;
    impl Members for Unknown {
        fn admits(&self, _: OriginId) -> bool {
            true
        }
        fn is_healthy(&self, _: OriginId) -> bool {
            true
        }
        fn retries(&self, _: OriginId) -> u8 {
            0
        }
    }
    let mut attempts = Attempts::new(group, method, true);
    let mut asked = Vec::new();
    let mut event = Event::Ready;
    while let Step::Ask { origin, .. } = attempts.next(event, &Unknown) {
        asked.push(origin);
        event = Event::Failed(origin, Failure::TimedOut { sent: true });
    }
    asked
}

#[cfg(test)]
mod tests;
