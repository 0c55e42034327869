//! Responses of the admin listener: text, JSON, and JSON about the fault of a request.

use bytes::Bytes;
use edgerouter_core::http::Named;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) fn text(status: StatusCode, body: &str) -> Answer {
    of(status, "text/plain; charset=utf-8", body.to_owned())
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    of(status, "application/json", format!("{value}\n"))
}

/// `{"error": {"field": …, "message": …}}`; `field` is null if the whole request is at fault.
pub(super) fn error(status: StatusCode, field: Option<&str>, message: &str) -> Answer {
    json(
        status,
        &serde_json::json!({"error": {"field": field, "message": message}}),
    )
}

pub(super) fn of(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

pub(super) fn with(mut answer: Answer, name: impl Named, value: &str) -> Answer {
    if let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(name.text()),
        HeaderValue::from_str(value),
    ) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
