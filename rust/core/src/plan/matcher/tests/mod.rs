//! Matching against the obvious matcher and the documented rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hosts;
mod patterns;
mod precedence;
mod reach;

use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::{
    http::Fields,
    plan::{Plan, compile},
};

/// A small generator: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.roll(of.len())]
    }

    fn text(&mut self, of: &[&str], most: usize) -> String {
        (0..=self.roll(most)).map(|_| self.pick(of)).collect()
    }
}

/// The obvious matcher: exponential, and correct.
fn slow(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', rest @ ..] => (0..=path.len()).any(|n| slow(rest, &path[n..])),
        [b'?', rest @ ..] => !path.is_empty() && slow(rest, &path[1..]),
        [b'{', ..] => {
            let end = pattern.iter().position(|byte| *byte == b'}').unwrap();
            let (name, rest) = (&pattern[1..end], &pattern[end + 1..]);
            if name.ends_with(b":path") {
                return (0..=path.len()).any(|n| slow(rest, &path[n..]));
            }
            (1..=path.len())
                .take_while(|n| path[n - 1] != b'/')
                .any(|n| slow(rest, &path[n..]))
        }
        [byte, rest @ ..] => path.first() == Some(byte) && slow(rest, &path[1..]),
    }
}

fn random_pattern(dice: &mut Dice) -> Option<(String, PathPattern)> {
    let mut text = "/".to_owned();
    let mut names = ["{a}", "{b}", "{c:path}", "{d}"].into_iter();
    for _ in 0..dice.roll(7) {
        match dice.roll(9) {
            0 | 1 => text.push('*'),
            2 => text.push('?'),
            3 | 4 => text.push_str(names.next().unwrap_or("x")),
            _ => text.push_str(dice.pick(&["/", "x", "y", "xy"])),
        }
    }
    PathPattern::parse(&text)
        .ok()
        .map(|pattern| (text, pattern))
}

/// A plan of these routes, each of which answers by itself.
fn plan(routes: Value) -> Plan {
    let routes: Vec<Value> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let mut route = route.clone();
            route["respond"] = json!({"status": 200});
            route
        })
        .collect();
    let json = serde_json::to_vec(&json!({"name": "test", "routes": routes})).unwrap();
    compile(&json).unwrap_or_else(|problems| {
        panic!(
            "{}",
            problems
                .iter()
                .map(|p| format!("{p}\n"))
                .collect::<String>()
        )
    })
}

/// The number of the route that takes a request. Both ways of finding it agree.
fn ask(
    plan: &Plan,
    method: &str,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<u32> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let headers: Fields = headers
        .iter()
        .map(|(name, value)| {
            (
                crate::http::FieldName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    let probe = Probe {
        host,
        path,
        query: ProbeQuery::Text(query),
        place: None,
        method: &method,
        headers: &headers,
    };
    let found = plan.router.find(&plan.routes, &probe);
    let first = plan
        .router
        .candidates(&plan.routes, &probe)
        .into_iter()
        .find(|(_, verdict)| *verdict == MatchResult::Matches);
    assert_eq!(
        found,
        first.map(|(id, _)| id),
        "find and candidates must agree"
    );
    found.map(|id| id.0)
}

fn labels(plan: &Plan) -> Vec<String> {
    plan.routes
        .iter()
        .map(|route| format!("{} {} {:?}", route.label, route.priority, route.methods))
        .collect()
}
