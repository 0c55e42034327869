//! Plans as declared, and what they compile to: fields, defaults and mistakes, a file for each noun.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod caching;
mod callables;
mod compression;
mod experiments;
mod files;
mod guard;
mod images;
mod listeners;
mod origins;
mod prefetch;
mod responses;
mod routes;
mod site;

use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::plan::{Scheme, Select, Target};

fn compiled(plan: &Value) -> Plan {
    compile(&serde_json::to_vec(plan).unwrap()).unwrap_or_else(|problems| {
        panic!(
            "{}",
            problems
                .iter()
                .map(|problem| format!("{problem}\n"))
                .collect::<String>()
        )
    })
}

fn problems(plan: &Value) -> Vec<String> {
    compile(&serde_json::to_vec(plan).unwrap())
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A plan with one origin, and this route to it unless the route names another target.
fn with_route(route: &Value) -> Value {
    let mut route = route.clone();
    let has_target = [
        "to",
        "function",
        "redirect",
        "respond",
        "files",
        "image_sources",
    ]
    .iter()
    .any(|target| route.get(target).is_some());
    if !has_target {
        route["to"] = json!("o");
    }
    if route.get("pattern").is_none() {
        route["pattern"] = json!("/*");
    }
    json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://127.0.0.1:9001"}, {"name": "backup", "url": "http://127.0.0.1:9002"}],
        "callables": [{"name": "app.f"}],
        "routes": [route],
    })
}

fn full() -> Value {
    serde_json::from_str(include_str!("../every_field.json")).unwrap()
}

/// A problem of the plan contains this text, and none shows a secret of these tests.
#[track_caller]
fn assert_refused(plan: &Value, want: &str) {
    let got = problems(plan);
    assert!(
        got.iter().any(|problem| problem.contains(want)),
        "{plan}\nwant {want}\ngot  {got:#?}"
    );
    let shown = |secret: &str| got.iter().any(|problem| problem.contains(secret));
    assert!(
        !["s3cr3t", "hunter2", "k-secret"].into_iter().any(shown),
        "a secret is shown: {got:?}"
    );
}
