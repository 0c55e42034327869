//! Prefixes, rewrites and the locations of redirects.

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::Template;
use crate::plan::{
    PathPattern, Redirect, Rewrite,
    spec::{Problems, nearest, suggestion},
};

/// A prefix without its final `/`; `None` if nothing remains.
pub(super) fn prefix(text: Option<&str>, path: &str, problems: &Problems) -> Option<Arc<str>> {
    let text = text?;
    let plain = text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains(['?', '#', '*', '{', '}'])
        && text.parse::<PathAndQuery>().is_ok();
    if !plain {
        problems.add(
            path,
            Some(format!("{text:?}")),
            "must be a plain path that starts with one \"/\"",
        );
        return None;
    }
    Some(text.trim_end_matches('/'))
        .filter(|text| !text.is_empty())
        .map(Into::into)
}

pub(super) fn rewrite(from: &str, to: &str, path: &str, problems: &Problems) -> Option<Rewrite> {
    let place = format!("{path}.to");
    if !to.starts_with('/') || to.starts_with("//") || to.contains(['?', '#', '*']) {
        problems.add(
            place.clone(),
            Some(format!("{to:?}")),
            "must be a path that starts with one \"/\", without query or wildcard",
        );
    }
    let pattern = match PathPattern::parse(from) {
        Ok(pattern) => pattern,
        Err(error) => {
            problems.add(
                format!("{path}.pattern"),
                Some(format!("{from:?}")),
                error.to_string(),
            );
            return None;
        }
    };
    parameters(to, Some(&pattern), &place, problems);
    Some(Rewrite {
        pattern,
        to: to.into(),
    })
}

pub(super) fn location(
    redirect: &Redirect,
    pattern: Option<&PathPattern>,
    path: &str,
    problems: &Problems,
) {
    let location = &*redirect.location;
    let shown = || Some(format!("{location:?}"));
    let lower = location.to_ascii_lowercase();
    if !(lower.starts_with('/') || lower.starts_with("http://") || lower.starts_with("https://")) {
        problems.add(
            path,
            shown(),
            "must be a URL (http:// or https://) or a path that starts with \"/\"",
        );
    }
    // Characters outside parameters that a Location must not contain (RFC 9110 §10.2.2, RFC 3986 §2).
    if location
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'"' | b'<' | b'>'))
    {
        problems.add(path, shown(), "must have no space, control or non-ASCII character and no backslash: percent-encode them");
    }
    parameters(location, pattern, path, problems);
}

/// Each parameter of a template must be one of the pattern.
fn parameters(text: &str, pattern: Option<&PathPattern>, path: &str, problems: &Problems) {
    let template = Template(text);
    if !template.is_balanced() {
        problems.add(path, Some(format!("{text:?}")), "has an unmatched brace");
        return;
    }
    let Some(pattern) = pattern else { return };
    let known: Vec<&str> = pattern.parameters().map(|name| &**name).collect();
    for name in template.parameters().filter(|name| !known.contains(name)) {
        let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
        let remedy = if known.contains(&bare) {
            format!("; here it is {{{bare}}}")
        } else if known.is_empty() {
            "; it has none".to_owned()
        } else {
            suggestion(nearest(name, &known).map(|near| format!("{{{near}}}")))
        };
        problems.add(
            path,
            Some(format!("{text:?}")),
            format!("has {{{name}}}, which the pattern \"{pattern}\" has not{remedy}"),
        );
    }
}
