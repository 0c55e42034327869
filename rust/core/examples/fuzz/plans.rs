//! Plans: any text is compiled or refused with reasons, and every request can be explained against a compiled plan.

use std::sync::LazyLock;

use edgerouter_core::{
    explain::{self as explaining, ExplainRequest, ExplainResponse},
    http::FieldName,
    plan::{self, PathPattern, Plan, lint, table},
};
use http::{HeaderValue, StatusCode};

use super::{NOW, lines};

const EVERY_FIELD: &[u8] = include_bytes!("../../src/plan/compile/every_field.json");

static PLAN: LazyLock<Plan> =
    LazyLock::new(|| plan::compile(EVERY_FIELD).unwrap_or_else(|problems| panic!("{problems:?}")));

/// Two patterns and a path.
pub(crate) fn path_pattern(data: &[u8]) {
    let parts = lines(data, 3);
    let text = |at: usize| parts.get(at).map_or("/a/b", String::as_str);
    let path = text(2);
    let _ = PathPattern::glob(text(0)).map(|glob| glob.matches(path));
    let Ok(first) = PathPattern::parse(text(0)) else {
        return;
    };
    assert_eq!(
        first.matches(path),
        first.captures(path).is_some(),
        "matches and captures disagree"
    );
    if let Some(captured) = first.captures(path) {
        assert_eq!(captured.len(), first.parameters().count());
    }
    assert!(first.covers(&first) && first.intersects(&first));
    if first.is_exact() {
        assert!(std::str::from_utf8(first.literal_prefix()).is_ok_and(|path| first.matches(path)));
    }
    let Ok(second) = PathPattern::parse(text(1)) else {
        return;
    };
    assert_eq!(first.intersects(&second), second.intersects(&first));
    if second.matches(path) {
        assert!(
            !first.covers(&second) || first.matches(path),
            "covers, but does not match"
        );
        assert!(
            !first.matches(path) || first.intersects(&second),
            "both match, but do not intersect"
        );
    }
}

pub(crate) fn plan_json(data: &[u8]) {
    match plan::compile(data) {
        Ok(plan) => {
            assert_eq!(table::table(&plan).len(), plan.routes.len());
            let _ = (lint::lint(&plan), table::unreachable(&plan));
            let request = request("GET http://www.example.com/shop/a\ncookie: ab-variant=x");
            assert!(!explaining::explain(&plan, &request, NOW).steps.is_empty());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| !problem.message.is_empty()));
        }
    }
}

/// A first line of method and URL, and fields.
fn request(text: &str) -> ExplainRequest {
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let (method, url) = first.split_once(' ').unwrap_or(("GET", first));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let answer = headers
        .iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
        .collect::<Vec<(FieldName, HeaderValue)>>();
    ExplainRequest {
        method: method.to_owned(),
        url: url.to_owned(),
        headers,
        client: [127, 0, 0, 1].into(),
        scheme: None,
        places: None,
        readings: Default::default(),
        // The same fields as those of an origin's response.
        response: Some(ExplainResponse {
            status: StatusCode::OK,
            headers: answer.into_iter().collect(),
        }),
    }
}

pub(crate) fn explain(data: &[u8]) {
    let steps = explaining::explain(&PLAN, &request(&String::from_utf8_lossy(data)), NOW).steps;
    assert!(
        steps
            .iter()
            .all(|step| !step.phase.is_empty() && !step.decision.is_empty())
    );
    assert!(!steps.is_empty());
}
