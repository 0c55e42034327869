//! How Python and the log spell what a request has: its id, its scheme, its version.

use edgerouter_core::plan::Scheme;
use http::Version;

/// A request's id as Python and the log have it.
pub(crate) fn id(number: u64) -> String {
    format!("{number:016x}")
}

/// A version of HTTP as ASGI writes it.
pub(crate) fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The version that such a text names.
pub(crate) fn version_of(text: &str) -> Version {
    match text {
        "1.0" => Version::HTTP_10,
        "2" => Version::HTTP_2,
        "3" => Version::HTTP_3,
        _ => Version::HTTP_11,
    }
}

pub(crate) fn scheme_of(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}
