//! The page for an error status of a route.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::reader::{Fields, Problems, shown};
use crate::{
    http::header,
    plan::{ErrorPage, FixedResponse},
};

/// The largest error page that the edge holds itself; `docs/limits.md` names it.
const MOST_PAGE_BYTES: usize = 1 << 20;

/// A path, or a page that Python has read: compiling a plan does no I/O.
pub(super) fn error_page(
    value: &Value,
    path: String,
    status: StatusCode,
    problems: &Problems,
) -> Option<ErrorPage> {
    if let Some(path) = value.as_str() {
        return Some(ErrorPage::Path(path.into()));
    }
    if !value.is_object() {
        let form = "must be a path that starts with /, or a table with file or body";
        problems.add(path, Some(shown(value)), form);
        return None;
    }
    let mut fields = Fields::open(value, path.clone(), problems)?;
    let file = fields.text("file");
    let problem = fields.text("problem");
    let text = fields.text("body");
    let coded = fields.text("base64");
    let given = fields.text("content_type");
    let at = |name: &str| format!("{path}.{name}");
    fields.end();
    if let (Some(file), Some(problem)) = (file, problem) {
        problems.add(at("file"), Some(format!("{file:?}")), problem);
        return None;
    }
    let body = match (file, text, coded) {
        (None, Some(text), None) => text.as_bytes().to_vec(),
        (None, None, Some(coded)) => match STANDARD.decode(coded) {
            Ok(body) => body,
            Err(_) => {
                problems.add(at("base64"), None, "is not base64 (RFC 4648 §4)");
                return None;
            }
        },
        // An object that is not a page, or one whose file was not read.
        _ => {
            problems.add(path, None, "must have file, or body: exactly one");
            return None;
        }
    };
    if body.len() > MOST_PAGE_BYTES {
        let message = format!("is larger than {MOST_PAGE_BYTES} bytes; make the page smaller");
        problems.add(path, None, message);
        return None;
    }
    let html = body.trim_ascii_start().starts_with(b"<");
    let content_type = match given {
        None if html => HeaderValue::from_static("text/html; charset=utf-8"),
        None => HeaderValue::from_static("text/plain; charset=utf-8"),
        Some(given) => match HeaderValue::from_str(given) {
            Ok(value) if given.contains('/') => value,
            _ => {
                let form =
                    "must be a media type such as \"text/html; charset=utf-8\" (RFC 9110 §8.3)";
                problems.add(at("content_type"), Some(format!("{given:?}")), form);
                return None;
            }
        },
    };
    Some(ErrorPage::Fixed(FixedResponse {
        status,
        // For an error page: the next request may get another response.
        headers: vec![
            (header::CONTENT_TYPE.into(), content_type),
            (
                header::CACHE_CONTROL.into(),
                HeaderValue::from_static("no-store"),
            ),
            (
                header::X_CONTENT_TYPE_OPTIONS.into(),
                HeaderValue::from_static("nosniff"),
            ),
        ],
        body: body.into(),
    }))
}
