//! The choice of the replica that answers a read.

use std::time::Duration;

/// Servers whose answers take about as long are equally near.
const SAME_PLACE: Duration = Duration::from_millis(2);

/// A replica that may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place in the list.
    pub(super) at: usize,
    /// Time of a question and its answer.
    pub(super) latency: Duration,
    /// It is known to have the changes that the read needs.
    pub(super) has: bool,
}

/// The nearest of those that have the changes, otherwise the nearest; equally near ones in turn. `None`: the primary is
/// nearer than any, or there is none.
pub(super) fn choose(
    candidates: &[Candidate],
    primary: Option<Duration>,
    turn: usize,
) -> Option<usize> {
    let any_has = candidates.iter().any(|it| it.has);
    let able = || candidates.iter().filter(|it| it.has == any_has);
    let nearest = able().map(|it| it.latency).min()?;
    if primary.is_some_and(|primary| primary + SAME_PLACE < nearest) {
        return None;
    }
    let near = || able().filter(|it| it.latency <= nearest + SAME_PLACE);
    let count = near().count().max(1);
    near().nth(turn % count).map(|it| it.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_replica_answers_unless_the_primary_is_nearer() {
        let of = |millis: &[(u64, bool)]| {
            let all = millis.iter().enumerate();
            all.map(|(at, &(millis, has))| Candidate {
                at,
                latency: Duration::from_millis(millis),
                has,
            })
            .collect::<Vec<_>>()
        };
        let primary = |millis| Some(Duration::from_millis(millis));
        for (candidates, primary, want) in [
            (of(&[]), primary(1), [None; 2]),
            (of(&[(80, true), (20, true)]), primary(90), [Some(1); 2]),
            (of(&[(80, true), (20, true)]), None, [Some(1); 2]),
            (of(&[(80, true), (20, true)]), primary(1), [None; 2]),
            (of(&[(2, true)]), primary(1), [Some(0); 2]),
            (
                of(&[(21, true), (20, true)]),
                primary(90),
                [Some(0), Some(1)],
            ),
            (of(&[(20, false), (80, true)]), primary(90), [Some(1); 2]),
            (of(&[(20, false), (80, false)]), primary(90), [Some(0); 2]),
            (of(&[(20, false), (80, true)]), primary(70), [None; 2]),
        ] {
            let found = [0, 1].map(|turn| choose(&candidates, primary, turn));
            assert_eq!(found, want, "{candidates:?} {primary:?}");
        }
    }
}
