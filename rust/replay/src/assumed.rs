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

impl Assumed {
    /// The header section of the response to the request of a line. `length`: of the content; `path`: as the viewer
    /// requested it. It is taken to have a strong validator that changes with its length, and no `Vary` or
    /// `Set-Cookie`.
    pub(crate) fn headers(
        &self,
        line: &LogLine<'_>,
        status: StatusCode,
        length: u64,
        path: &str,
        now: u64,
    ) -> Fields {
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
            None if refused(line) => Some(HeaderValue::from_static("no-store")),
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
        headers
    }
}

/// True if nothing in the log says how long the response may be used.
pub(crate) fn is_assumed(line: &LogLine<'_>) -> bool {
    line.cache_control.is_empty() && !refused(line)
}

fn refused(line: &LogLine<'_>) -> bool {
    REFUSED.contains(&&*line.reason)
}
