//! Counts as bytes that survive the process: a line of JSON, and 16 bytes for each visitor.
//!
//! Every count follows from the visitors, so nothing in the line can contradict them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::tally::{
    MOST_GOALS, MOST_RUNS, MOST_VARIANTS, MOST_VISITORS, Point, Run, RunId, Seen, Tally, VisitorKey,
};

const VERSION: u64 = 1;
const RECORD: usize = 16;
/// Bytes of the longest name.
const LONGEST: usize = 256;

/// Bytes that are no counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no such line, or it is not what this program writes.
    #[error("it does not begin as counts of experiments")]
    Head,
    /// Another program's, or a later one's.
    #[error("it is of another version")]
    Version,
    /// The visitors are not as many as announced, or contradict the line.
    #[error("its visitors are damaged")]
    Visitors,
}

/// The counts and the key of the visitors' numbers.
pub fn to_bytes(tally: &Tally, key: VisitorKey) -> Vec<u8> {
    let runs = tally.runs.iter().map(|run| {
        let points = run.history.iter();
        let names = |names: &[Arc<str>]| names.iter().map(|name| &**name).collect::<Value>();
        json!({
            "name": &*run.id.name,
            "run": run.id.run,
            "since": run.since,
            "last": run.last,
            "variants": names(&run.variants),
            "goals": names(&run.goals),
            "left_out": run.left_out,
            "every": run.every,
            "history": points
                .map(|point| json!([point.at, point.visitors, point.conversions]))
                .collect::<Value>(),
            "visitors": run.visitors.len(),
        })
    });
    let head = json!({
        "experiments": VERSION,
        "key": [key.0, key.1],
        "runs": runs.collect::<Value>(),
    });
    let mut bytes = head.to_string().into_bytes();
    bytes.reserve(1 + tally.visitors() * RECORD);
    bytes.push(b'\n');
    for (visitor, seen) in tally.runs.iter().flat_map(|run| &run.visitors) {
        bytes.extend_from_slice(&visitor.to_le_bytes());
        bytes.extend_from_slice(&[seen.variant, seen.goals, 0, 0]);
        bytes.extend_from_slice(&seen.value.to_le_bytes());
    }
    bytes
}

/// Reads them.
pub fn from_bytes(bytes: &[u8]) -> Result<(Tally, VisitorKey), Unreadable> {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let (head, rest) = line
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or(Unreadable::Head)?;
    let head: Value = serde_json::from_slice(head).map_err(|_| Unreadable::Head)?;
    match head.get("experiments").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(_) => return Err(Unreadable::Version),
        None => return Err(Unreadable::Head),
    }
    let key = head.get("key").and_then(numbers).ok_or(Unreadable::Head)?;
    let [first, second] = key.as_slice() else {
        return Err(Unreadable::Head);
    };
    let runs = head.get("runs").and_then(Value::as_array);
    let runs = runs
        .filter(|runs| runs.len() <= MOST_RUNS)
        .ok_or(Unreadable::Head)?;
    let (mut records, rest) = rest.get(1..).unwrap_or_default().as_chunks::<RECORD>();
    if !rest.is_empty() || records.len() > MOST_VISITORS {
        return Err(Unreadable::Visitors);
    }
    let mut tally = Tally::default();
    for run in runs {
        let (mut run, count) = run_of(run).ok_or(Unreadable::Head)?;
        let (own, others) = records
            .split_at_checked(count)
            .ok_or(Unreadable::Visitors)?;
        records = others;
        for record in own {
            if !restore(&mut run, record) {
                return Err(Unreadable::Visitors);
            }
        }
        tally.keep(run);
    }
    match records {
        [] => Ok((tally, (*first, *second))),
        _ => Err(Unreadable::Visitors),
    }
}

fn restore(run: &mut Run, record: &[u8; RECORD]) -> bool {
    let [a, b, c, d, e, f, g, h, variant, goals, _, _, i, j, k, l] = *record;
    let seen = Seen {
        variant,
        goals,
        value: f32::from_le_bytes([i, j, k, l]),
    };
    run.restore(u64::from_le_bytes([a, b, c, d, e, f, g, h]), seen)
}

fn numbers(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(Value::as_u64).collect()
}

fn names(value: &Value, most: usize) -> Option<Vec<Arc<str>>> {
    let list = value.as_array().filter(|list| list.len() <= most)?;
    let name = |value: &Value| {
        let text = value.as_str().filter(|text| text.len() <= LONGEST);
        text.map(Arc::from)
    };
    list.iter().map(name).collect()
}

/// A run without its visitors, and their number.
fn run_of(value: &Value) -> Option<(Run, usize)> {
    let number = |name: &str| value.get(name)?.as_u64();
    let id = RunId {
        name: value
            .get("name")?
            .as_str()
            .filter(|name| name.len() <= LONGEST)?
            .into(),
        run: number("run")?,
    };
    let mut run = Run::new(Arc::new(id), number("since")?);
    run.last = number("last")?;
    run.left_out = number("left_out")?;
    run.every = number("every")?.max(1);
    run.variants = names(value.get("variants")?, MOST_VARIANTS)?;
    run.goals = names(value.get("goals")?, MOST_GOALS)?;
    run.history = value
        .get("history")?
        .as_array()?
        .iter()
        .map(point)
        .collect::<Option<_>>()?;
    Some((run, usize::try_from(number("visitors")?).ok()?))
}

fn point(value: &Value) -> Option<Point> {
    let [at, visitors, conversions] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(Point {
        at: at.as_u64()?,
        visitors: numbers(visitors)?,
        conversions: conversions
            .as_array()?
            .iter()
            .map(numbers)
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::{super::tally::Sighting, *};

    fn id() -> Arc<RunId> {
        Arc::new(RunId {
            name: "home".into(),
            run: 7,
        })
    }

    fn take(tally: &mut Tally, visitor: u64, variant: &str, value: f64) {
        let one = Sighting {
            id: id(),
            visitor,
            variant: Some(variant.into()),
            conversion: (value > 0.0).then(|| ("request".into(), value)),
        };
        tally.take(&one, visitor);
    }

    fn counts() -> Tally {
        let mut tally = Tally::default();
        take(&mut tally, 1, "a", 3.0);
        take(&mut tally, 2, "b", 0.0);
        take(&mut tally, 3, "a", 0.0);
        take(&mut tally, 3, "b", 0.0);
        tally
    }

    #[test]
    fn kept_counts_are_the_same_and_go_on() {
        let mut before = counts();
        for visitor in 10..200 {
            take(&mut before, visitor, "a", 0.0);
        }
        let (mut after, key) = from_bytes(&to_bytes(&before, (3, u64::MAX))).unwrap();
        assert_eq!(key, (3, u64::MAX));
        assert_eq!(after.view(&id()), before.view(&id()));
        take(&mut after, 1, "a", 0.0);
        assert_eq!(after.visitors(), before.visitors());
    }

    #[test]
    fn damaged_counts_are_refused_and_never_panic() {
        let bytes = to_bytes(&counts(), (1, 2));
        for length in 0..bytes.len() {
            assert!(from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            let _ = from_bytes(&damaged);
        }
        let keyed = "{\"experiments\":1,\"key\":[1,2],\"runs\":7}\n";
        for text in ["", "\n", "{}\n", "{\"experiments\":2}\n", "[1]\n", keyed] {
            assert!(from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }
}
