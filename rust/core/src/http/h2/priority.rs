//! The order in which responses of one connection are sent (RFC 9218).

use crate::http::{FieldValue, Fields, structured::Bare, structured::dictionary};

/// The priority of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    /// From 0, the first, to 7 (RFC 9218 §4.1).
    pub urgency: u8,
    /// It is of use in pieces (RFC 9218 §4.2). Responses that nobody gave a priority share the connection as these do.
    pub incremental: bool,
}

/// The place of a response among those that wait: the least is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    urgency: u8,
    incremental: bool,
    order: u64,
}

const USUAL: Priority = Priority {
    urgency: 3,
    incremental: true,
};

impl Default for Priority {
    fn default() -> Self {
        USUAL
    }
}

impl Priority {
    /// Of a request's fields.
    pub fn of_request(headers: &Fields) -> Self {
        Self::stated(headers, None).unwrap_or(USUAL)
    }

    /// After the fields of the response, whose members take the place of those of the request (RFC 9218 §8).
    #[must_use]
    pub fn merged(self, response: &Fields) -> Self {
        Self::stated(response, Some(self)).unwrap_or(self)
    }

    /// `None`: no field states a priority, or it is malformed.
    fn stated(headers: &Fields, before: Option<Self>) -> Option<Self> {
        let mut lines = headers.get_all("priority").iter().peekable();
        lines.peek()?;
        let members = dictionary(lines.map(FieldValue::as_bytes))?;
        let mut priority = before.unwrap_or(Self {
            incremental: false,
            ..USUAL
        });
        for (key, value) in members {
            match (key, value) {
                // Values of another type or range are ignored (§4).
                (b"u", Bare::Integer([digit @ b'0'..=b'7'])) => priority.urgency = digit - b'0',
                (b"i", Bare::True) => priority.incremental = true,
                (b"i", Bare::False) => priority.incremental = false,
                _ => {}
            }
        }
        Some(priority)
    }

    /// The place of a response on a stream. `turn`: the number of turns that all streams have had. Of one urgency,
    /// those that are of use only as a whole come first, by their streams; the others take turns (RFC 9218 §10).
    pub fn rank(self, stream: u32, turn: u64) -> Rank {
        Rank {
            urgency: self.urgency,
            incremental: self.incremental,
            order: if self.incremental {
                turn
            } else {
                stream.into()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(lines: &[&'static str]) -> Fields {
        let lines = lines.iter();
        lines
            .map(|line| ("priority", HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn a_priority_is_what_the_fields_say_as_far_as_they_are_well_formed() {
        for (request, response, want) in [
            (&[][..], &[][..], (3, true)),
            (&["u=1"], &[], (1, false)),
            (&["u=7, i"], &[], (7, true)),
            (&["i"], &[], (3, true)),
            (&["i=?0"], &[], (3, false)),
            (&["u=0", "i"], &[], (0, true)),
            (&["u=8"], &[], (3, false)),
            (&["u=-1, i"], &[], (3, true)),
            (&["u=1.5"], &[], (3, false)),
            (&["u=1, =", "i"], &[], (3, true)),
            (&["x=1, u=2"], &[], (2, false)),
            (&["u=5, i"], &["u=1"], (1, true)),
            (&["u=5"], &["i"], (5, true)),
            (&[], &["u=1"], (1, true)),
            (&["u=5, i"], &["?"], (5, true)),
            (&["u=5, i"], &["i=1"], (5, true)),
            (&["u=5, i"], &["i=?0"], (5, false)),
            (&["u=1, x=:aGk=:"], &[], (1, false)),
            (&["u=1, x=1.2.3"], &[], (3, true)),
        ] {
            let priority = Priority::of_request(&fields(request)).merged(&fields(response));
            let got = (priority.urgency, priority.incremental);
            assert_eq!(got, want, "{request:?} {response:?}");
        }
    }

    #[test]
    fn urgent_responses_come_first_then_whole_ones_and_the_others_take_turns() {
        let priority = |urgency, incremental| Priority {
            urgency,
            incremental,
        };
        let mut ranks = [
            (4, priority(3, true).rank(9, 1)),
            (1, priority(0, true).rank(11, 7)),
            (6, priority(7, false).rank(1, 0)),
            (2, priority(3, false).rank(3, 9)),
            (5, priority(3, true).rank(5, 2)),
            (3, priority(3, false).rank(7, 0)),
        ];
        ranks.sort_by_key(|(_, rank)| *rank);
        assert_eq!(ranks.map(|(place, _)| place), [1, 2, 3, 4, 5, 6]);
    }
}
