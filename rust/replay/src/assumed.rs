//! The response of a line: the parts that the log has, and assumptions in place of the others.

use edgerouter_core::{
    http::{Fields, date, header},
    plan::PathPattern,
};
use http::{HeaderValue, StatusCode};

use crate::line::LogLine;

/// Response fields that are assumed for the paths of a pattern.
#[derive(Debug)]
pub struct Assumption {
    /// As a route's path.
    pub pattern: PathPattern,
    /// The value of `Cache-Control`.
    pub cache_control: HeaderValue,
}

/// The assumptions about responses; the first one that fits counts.
#[derive(Debug, Default)]
pub struct Assumed {
    /// In their order.
    pub lifetimes: Vec<Assumption>,
}

/// The words of edgerouter's log for a response that says of itself that it is not to be stored.
const REFUSED: [&[u8]; 4] = [b"no-store", b"private", b"set-cookie", b"vary-star"];

/// A response as an origin would have sent it.
#[derive(Debug)]
pub(crate) struct AssumedResponse {
    pub status: StatusCode,
    pub headers: Fields,
    pub length: u64,
    /// `Cache-Control` is that of the log.
    pub from_log: bool,
}

impl Assumed {
    /// The response to the request of a line. `length`: of the content; `path`: as the viewer requested it. It is taken
    /// to have a strong validator that changes with its length, and no `Vary` or `Set-Cookie`.
    pub(crate) fn response(
        &self,
        line: &LogLine<'_>,
        status: StatusCode,
        length: u64,
        path: &str,
        now: u64,
    ) -> AssumedResponse {
        let mut headers = Fields::with_capacity(8);
        headers.insert(header::DATE, date::format(now));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Ok(kind) = HeaderValue::from_bytes(&line.content_type)
            && !kind.is_empty()
        {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let logged = HeaderValue::from_bytes(&line.cache_control).ok();
        let logged = logged.filter(|value| !value.is_empty());
        let from_log = logged.is_some();
        let refused = REFUSED.contains(&&*line.reason);
        let lasting = status.is_success()
            || matches!(
                status,
                StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT
            );
        let assumed = || {
            let mut all = self.lifetimes.iter();
            let fitting = all.find(|one| one.pattern.matches(path))?;
            lasting.then(|| fitting.cache_control.clone())
        };
        let value = match logged {
            None if refused => Some(HeaderValue::from_static("no-store")),
            None => assumed(),
            logged => logged,
        };
        if let Some(value) = value {
            headers.insert(header::CACHE_CONTROL, value);
        }
        if status == StatusCode::OK
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{length:x}\""))
        {
            headers.insert(header::ETAG, tag);
        }
        AssumedResponse {
            status,
            headers,
            length,
            from_log: from_log || refused,
        }
    }
}
