//! The attempts of one request at the members of a group, as one state machine without I/O: which member gets the
//! request, the same one again, the next one, or a second one in parallel; which response is taken; and when nothing
//! more is tried.
//!
//! *Repeat* requests from the same member again, after its connection was reset or closed before a response: an origin
//! may close a kept connection just as the request leaves (RFC 9112 §9.3.1). *Fail over* requests from another member.
//! Both happen only where repeating does no harm (RFC 9110 §9.2.2) and the body can be sent again.

use std::time::Duration;

use http::{Method, StatusCode};
use smallvec::SmallVec;

use crate::plan::{Group, OriginId};

/// The end of an attempt without a usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No address, connection or TLS session: the request has not left.
    Unreachable,
    /// Reset or closed before a response.
    Closed {
        /// The connection had served a request before.
        kept: bool,
        /// The origin may have received the request.
        sent: bool,
    },
    /// Nothing came in the time that the origin's policy gives it.
    TimedOut {
        /// The origin may have received the request.
        sent: bool,
    },
    /// It stopped in the middle of its response.
    BrokeOff,
    /// It sent bytes that are no HTTP response.
    Malformed,
    /// The client broke off its own request: nothing that an origin does would help.
    Request,
    /// A bound of the edge was reached, such as `max_connections`.
    Bound,
}

impl Failure {
    /// True if the origin may have acted on the request.
    pub fn sent(self) -> bool {
        match self {
            Self::Unreachable | Self::Bound => false,
            Self::Closed { sent, .. } | Self::TimedOut { sent } => sent,
            Self::BrokeOff | Self::Malformed | Self::Request => true,
        }
    }

    /// True if the edge is disconnected from the origin (RFC 9111 §4.2.4): it was refused, reset or closed without a
    /// whole response, or timed out. A bound of the edge, and a response of whatever kind, is no disconnection.
    pub fn disconnected(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Closed { .. } | Self::TimedOut { .. } | Self::BrokeOff
        )
    }
}

/// An event in the life of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is ready to be sent for the first time.
    Ready,
    /// A member responded; the client has got nothing of it yet.
    Answered(OriginId, StatusCode),
    /// An attempt with this member ended without a usable response.
    Failed(OriginId, Failure),
    /// This member, whose response is awaited, was found unhealthy meanwhile.
    Unhealthy(OriginId),
    /// The delay of [`Step::RequestAfter`] is over.
    Due,
    /// The time for all attempts is over.
    Deadline,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the request to this member, in parallel to those whose response is awaited. `fresh`: on a new connection,
    /// as the other kept ones may have been closed like the one that failed.
    Request {
        /// The member to which the request is sent.
        origin: OriginId,
        /// True if no kept connection may be used.
        fresh: bool,
    },
    /// Report [`Event::Due`] after this long, unless something else happens before.
    RequestAfter(Duration),
    /// Nothing new: a response is awaited.
    Wait,
    /// Use this member's response; cancel the other attempts.
    Take(OriginId),
    /// No attempt is left; the client gets an error, or a stored response.
    GiveUp(GiveUp),
}

/// Why no response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveUp {
    /// The reason, for the log and for the status that is sent.
    pub why: Why,
    /// Every member was refused, reset, closed without a response or timed out, or is known to be unhealthy: a stored
    /// response may be served because the edge is disconnected (RFC 9111 §4.2.4).
    pub disconnected: bool,
}

/// Why no further member gets the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The group is empty.
    NoMember,
    /// Every member got the request.
    Exhausted,
    /// Repeating could do harm: the method is not idempotent and the origin may have acted (RFC 9110 §9.2.2).
    NotIdempotent,
    /// The body cannot be sent again.
    NotReplayable,
    /// The client broke off its request.
    Request,
    /// The group's `deadline`.
    Deadline,
}

/// The health of members when one is chosen.
pub trait Members {
    /// True if a request should go there in its turn. True for an unhealthy one may begin its trial.
    fn admits(&self, origin: OriginId) -> bool;
    /// True if it is counted among the healthy; changes nothing.
    fn is_healthy(&self, origin: OriginId) -> bool;
    /// Extra tries of a request that has not left on a new connection that was closed at once.
    fn retries(&self, origin: OriginId) -> u8;
    /// Requests under way at it, as far as this worker knows.
    fn under_way(&self, origin: OriginId) -> usize;
}

/// Time that a member found unhealthy has left to respond before a member that is no better gets the request, too.
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
    /// `suspect`: found unhealthy since it got the request.
    Pending {
        suspect: bool,
    },
    Answered,
    Failed(Failure),
}

#[derive(Debug, Clone, Copy)]
struct Member {
    origin: OriginId,
    state: State,
    /// Number of repeats.
    repeats: u8,
}

/// One request's attempts.
#[derive(Debug)]
pub struct Attempts<'g> {
    failover_on: &'g [StatusCode],
    members: SmallVec<[Member; 4]>,
    idempotent: bool,
    replayable: bool,
    /// The last member whose response was passed over for a better one.
    passed_over: Option<OriginId>,
}

impl<'g> Attempts<'g> {
    /// At the members in declaration order. `replayable`: the body can be sent any number of times.
    pub fn new(group: &'g Group, method: &Method, replayable: bool) -> Self {
        Self::in_order(group, &group.members, method, replayable)
    }

    /// At the members in this order, as [`super::balance`] has decided it.
    pub fn in_order(
        group: &'g Group,
        order: &[OriginId],
        method: &Method,
        replayable: bool,
    ) -> Self {
        let member = |origin: &OriginId| Member {
            origin: *origin,
            state: State::Untried,
            repeats: 0,
        };
        Self {
            failover_on: &group.failover_on,
            members: order.iter().map(member).collect(),
            idempotent: is_idempotent(method),
            replayable,
            passed_over: None,
        }
    }

    /// Decides the next step after an event. `known`: the members of the group, and their health now.
    pub fn next(&mut self, event: Event, known: &impl Members) -> Step {
        match event {
            Event::Ready => match self.untried(known) {
                Some(origin) => self.request(origin, false),
                None => self.end(Why::NoMember, known),
            },
            Event::Answered(origin, status) => self.answered(origin, status, known),
            Event::Failed(origin, failure) => self.failed(origin, failure, known),
            Event::Unhealthy(origin) => self.unhealthy(origin, known),
            Event::Due => self.due(known),
            Event::Deadline => {
                for member in &mut self.members {
                    if matches!(member.state, State::Pending { .. }) {
                        member.state = State::Failed(Failure::TimedOut { sent: true });
                    }
                }
                self.end(Why::Deadline, known)
            }
        }
    }

    /// True if a change in the health of a pending member could change the next step.
    pub fn heeds_health(&self) -> bool {
        self.idempotent
            && self.replayable
            && self
                .members
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
        // A request that has not left may be sent again, whatever its method and body.
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
            return self.request(origin, true);
        }
        self.go_on(stopped, known)
    }

    /// The step after a failed attempt: the next member, unless one that is not suspect is pending.
    fn go_on(&mut self, stopped: Option<Why>, known: &impl Members) -> Step {
        if self.trusted_is_pending() {
            return Step::Wait;
        }
        if stopped.is_none()
            && let Some(next) = self.untried(known)
        {
            return self.request(next, false);
        }
        if self.is_pending() {
            return Step::Wait;
        }
        self.end(stopped.unwrap_or(Why::Exhausted), known)
    }

    fn unhealthy(&mut self, origin: OriginId, known: &impl Members) -> Step {
        match self.member_mut(origin) {
            Some(Member {
                state: State::Pending { suspect },
                ..
            }) if !*suspect => *suspect = true,
            _ => return Step::Wait,
        }
        if !self.heeds_health() || self.trusted_is_pending() {
            return Step::Wait;
        }
        let better = self
            .members
            .iter()
            .find(|member| member.state == State::Untried && known.admits(member.origin));
        match better.map(|member| member.origin) {
            Some(next) => self.request(next, false),
            None => Step::RequestAfter(BESIDE_UNHEALTHY),
        }
    }

    fn due(&mut self, known: &impl Members) -> Step {
        if !self.heeds_health() || self.trusted_is_pending() {
            return Step::Wait;
        }
        match self.untried(known) {
            Some(next) => self.request(next, false),
            None => Step::Wait,
        }
    }

    fn request(&mut self, origin: OriginId, fresh: bool) -> Step {
        // A member that was unhealthy from the start cannot become suspect.
        self.set(origin, State::Pending { suspect: false });
        Step::Request { origin, fresh }
    }

    /// Ends the attempts: a response that was passed over is better than none.
    fn end(&self, why: Why, known: &impl Members) -> Step {
        if let Some(origin) = self.passed_over.filter(|_| why != Why::Request) {
            return Step::Take(origin);
        }
        let lost = |member: &Member| match member.state {
            State::Failed(failure) => failure.disconnected(),
            State::Untried => !known.is_healthy(member.origin),
            State::Pending { .. } | State::Answered => false,
        };
        Step::GiveUp(GiveUp {
            why,
            disconnected: !self.members.is_empty() && self.members.iter().all(lost),
        })
    }

    /// The next untried member, healthy ones first.
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

    fn is_pending(&self) -> bool {
        let pending = |member: &Member| matches!(member.state, State::Pending { .. });
        self.members.iter().any(pending)
    }

    /// True if a member is pending that is not suspect.
    fn trusted_is_pending(&self) -> bool {
        let trusted = |member: &Member| member.state == State::Pending { suspect: false };
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

/// The members of `order` that would get the request if each failed after it had left: for `explain`.
pub fn tried(group: &Group, order: &[OriginId], method: &Method) -> Vec<OriginId> {
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
        fn under_way(&self, _: OriginId) -> usize {
            0
        }
    }
    let mut attempts = Attempts::in_order(group, order, method, true);
    let mut tried = Vec::new();
    let mut event = Event::Ready;
    while let Step::Request { origin, .. } = attempts.next(event, &Unknown) {
        tried.push(origin);
        event = Event::Failed(origin, Failure::TimedOut { sent: true });
    }
    tried
}

#[cfg(test)]
mod tests;
