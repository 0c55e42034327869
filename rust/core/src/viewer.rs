//! Decisions about the requested URL (phase 4): an https redirect, another location, the path at the origin.
//!
//! Every result ends up in a `Location` that a browser follows or in a path that an origin trusts, so a client's
//! parameter may choose a page but never a host, a header line or a parent directory.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode};

use crate::{
    http::{Fields, PathAndQuery, header, percent},
    plan::{
        Redirect, Route, Scheme, ViewerPolicy,
        compile::{Template, TemplatePart},
    },
};

#[cfg(test)]
mod tests;

/// The decision of the route's https policy about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Https {
    /// The request goes on.
    Proceed,
    /// A redirect to the same URL by https.
    Redirect,
    /// 403, as CloudFront answers.
    Forbid,
}

/// Applies a route's policy to the scheme of a request.
pub fn https(policy: ViewerPolicy, scheme: Scheme) -> Https {
    match (policy, scheme) {
        (ViewerPolicy::AllowAll, _) | (_, Scheme::Https) => Https::Proceed,
        (ViewerPolicy::HttpsOnly, Scheme::Http) => Https::Forbid,
        (ViewerPolicy::RedirectToHttps, Scheme::Http) => Https::Redirect,
    }
}

/// True if a request is a CORS preflight (Fetch §4.8, "CORS-preflight fetch"). One with content is not: browsers send
/// none with it.
pub fn is_preflight(method: &Method, headers: &Fields, has_body: bool) -> bool {
    *method == Method::OPTIONS
        && !has_body
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// 301 where every client repeats the method anyway; else 308, which forbids to change it (RFC 9110 §15.4.9).
pub fn https_redirect_status(method: &Method) -> StatusCode {
    if matches!(*method, Method::GET | Method::HEAD) {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::PERMANENT_REDIRECT
    }
}

/// The same URL over https. A port other than http's becomes `port`, where the edge serves https itself; otherwise it
/// is kept, as browsers do when they switch to https by themselves (RFC 6797 §8.3). `None`: the host is not valid in a
/// field.
pub fn https_location(
    authority: &str,
    target: &PathAndQuery,
    port: Option<u16>,
) -> Option<HeaderValue> {
    let explicit = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'));
    let served = match (explicit, port) {
        (Some((host, _)), Some(port)) => Some(format!("{host}:{port}")),
        _ => None,
    };
    let authority = served.as_deref().unwrap_or(authority);
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    if host.is_empty() {
        return None;
    }
    let target = target.as_str();
    let slash = if target.starts_with('/') { "" } else { "/" };
    HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("https://{host}{slash}{target}")))
        .ok()
}

/// A `Location` that names exactly the requested URL.
///
/// A path that begins with `//` would be read as a host (RFC 3986 §4.2), and browsers read `\` as `/`: `/.` before it
/// prevents that and changes nothing else.
pub fn same_url(target: &PathAndQuery) -> Cow<'_, str> {
    rooted(Cow::Borrowed(target.as_str()))
}

fn rooted(target: Cow<'_, str>) -> Cow<'_, str> {
    match target.as_bytes() {
        [b'/', b'/' | b'\\', ..] => Cow::Owned(format!("/.{target}")),
        _ => target,
    }
}

/// The path at the origin and in the key: prefix removed, rewrite, prefix added, index document. Borrowed if unchanged.
pub fn target_path<'p>(route: &Route, path: &'p str) -> Cow<'p, str> {
    let mut target = inner_path(route, path);
    if let Some(prefix) = &route.add_prefix {
        target = Cow::Owned(format!("{prefix}{target}"));
    }
    if let Some(index) = &route.index
        && target.ends_with('/')
    {
        target = Cow::Owned(format!("{target}{index}"));
    }
    target
}

/// The part of it that stands behind the prefix that is added.
pub(crate) fn inner_path<'p>(route: &Route, path: &'p str) -> Cow<'p, str> {
    let mut target = Cow::Borrowed(path);
    if let Some(prefix) = &route.strip_prefix
        && let Some(rest) = without_prefix(path, prefix)
    {
        target = Cow::Borrowed(rest);
    }
    if let Some(rewrite) = &route.rewrite
        && let Some(captured) = rewrite.pattern.raw_captures(&target)
    {
        let rewritten = fill(&rewrite.to, &captured);
        // Pieces of a path may join to a dot segment that admission never saw: such a path is left alone.
        if !has_dot_segment(&rewritten) {
            target = Cow::Owned(rewritten);
        }
    }
    target
}

/// Removes a prefix that ends at a segment's end.
fn without_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    match path.strip_prefix(prefix)? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

fn fill(template: &str, captured: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    for piece in Template(template).pieces() {
        match piece {
            TemplatePart::Text(text) => filled.push_str(text),
            TemplatePart::Parameter(name) => filled.push_str(value_of(captured, name)),
        }
    }
    filled
}

fn value_of<'c>(captured: &[(&str, &'c str)], name: &str) -> &'c str {
    captured
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("", |(_, value)| value)
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| {
        segment.len() <= 6
            && matches!(
                segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
                "." | ".."
            )
    })
}

/// The part of a URL that a template's parameter is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlPart {
    Authority,
    Path,
    Query,
}

/// The `Location` of a redirect route. `None`: the client's value of a parameter is not allowed at that place.
pub fn redirect_location(
    route: &Route,
    redirect: &Redirect,
    path: &str,
    query: Option<&str>,
) -> Option<HeaderValue> {
    let mut location = String::with_capacity(redirect.location.len() + path.len());
    if redirect.location.contains('{') {
        let captured = route.path.raw_captures(path)?;
        for piece in Template(&redirect.location).pieces() {
            match piece {
                TemplatePart::Text(text) => location.push_str(text),
                TemplatePart::Parameter(name) => put(&mut location, value_of(&captured, name))?,
            }
        }
        if redirect.location.starts_with('/') && !redirect.location.starts_with("//") {
            location = rooted(Cow::Owned(location)).into_owned();
        }
    } else {
        location.push_str(&redirect.location);
    }
    if let Some(query) = query.filter(|query| redirect.query && !query.is_empty()) {
        let fragment = location.find('#').map(|at| location.split_off(at));
        location.push(if location.contains('?') { '&' } else { '?' });
        location.push_str(query);
        location.push_str(fragment.as_deref().unwrap_or_default());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(location)).ok()
}

fn part(location: &str) -> UrlPart {
    let lower = location
        .split_once("://")
        .map(|(_, rest)| rest)
        .or_else(|| location.strip_prefix("//"));
    match lower {
        Some(rest) if !rest.contains(['/', '?', '#']) => UrlPart::Authority,
        _ if location.contains(['?', '#']) => UrlPart::Query,
        _ => UrlPart::Path,
    }
}

/// Appends a parameter's value (as it was in the path: percent-encoded) in a form that stays within its part.
fn put(location: &mut String, value: &str) -> Option<()> {
    match part(location) {
        UrlPart::Authority => {
            let begins = location.ends_with("//");
            if !begins && value.starts_with('/') {
                // "https://host{rest}": the value is the whole path.
                encoded(location, value, b"\\");
                return Some(());
            }
            // At the beginning a whole name is allowed; later a dot would change the domain.
            let fits =
                |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || (begins && byte == b'.');
            value.bytes().all(fits).then(|| location.push_str(value))
        }
        UrlPart::Path => {
            encoded(location, value, b"\\");
            Some(())
        }
        UrlPart::Query => {
            encoded(location, value, b"\\&#+");
            Some(())
        }
    }
}

fn encoded(location: &mut String, value: &str, also: &[u8]) {
    location.push_str(&percent::encoded(value.as_bytes(), |byte| {
        !also.contains(&byte)
    }));
}
