//! Replaces an origin's own URLs in its responses by the viewer's: the inner host and prefix become the outer ones in
//! `Location`, `Content-Location`, `Refresh` and in the `Domain` and `Path` of cookies (RFC 9110 §10.2.2, §8.7; RFC
//! 6265 §4.1.2.3, §4.1.2.4).
//!
//! An origin that is reached under another name or path than the viewer's writes its own into redirects. Anything else
//! stays as it is: a URL of another host, a path outside the prefix that the origin is reached under, and one that it
//! has mapped itself (as `X-Forwarded-Prefix` lets it). A path that a pattern rewrote cannot be mapped back, only its
//! host.

use std::borrow::Cow;

use http::HeaderValue;

use crate::{
    admit,
    http::{FieldValue, Fields, KnownSet, header},
    plan::{Origin, Route, Scheme, UpstreamHost},
};

/// The inner names of one origin on one route, and the outer ones.
#[derive(Debug, Clone, Copy)]
pub struct Outward<'a> {
    /// Names that the origin may use for itself and the viewer does not.
    inner: [&'a str; 2],
    inner_scheme: Scheme,
    outer: &'a str,
    outer_host: &'a str,
    outer_scheme: Scheme,
    /// Prefixes of every path at the origin, outermost first.
    added: [&'a str; 2],
    /// Prefix of every path that the viewer requests.
    stripped: &'a str,
    /// True if paths can be mapped at all.
    paths: bool,
}

impl<'a> Outward<'a> {
    /// `sent` is the host of the request to the origin, `outer` the one that the viewer requested. `None` if the
    /// origin's names are the viewer's, or if the origin's settings leave them as they are.
    pub fn new(
        origin: &'a Origin,
        route: &'a Route,
        sent: &'a str,
        outer: &'a str,
        scheme: Scheme,
    ) -> Option<Self> {
        if !origin.rewrite_urls {
            return None;
        }
        let own = origin.authority.to_str().unwrap_or_default();
        let inner = match &origin.upstream_host {
            UpstreamHost::Viewer => [sent, ""],
            UpstreamHost::Origin => [own, ""],
            UpstreamHost::Literal(host) => [host.to_str().unwrap_or_default(), own],
        };
        let inner = inner.map(|name| {
            if name.eq_ignore_ascii_case(outer) {
                ""
            } else {
                name
            }
        });
        let added = [
            &*origin.path_prefix,
            route.add_prefix.as_deref().unwrap_or_default(),
        ];
        let stripped = route.strip_prefix.as_deref().unwrap_or_default();
        let paths = route.rewrite.is_none() && (!stripped.is_empty() || added != ["", ""]);
        if inner == ["", ""] && !paths {
            return None;
        }
        let host = outer
            .get(..admit::host_length(outer.as_bytes()))
            .unwrap_or(outer);
        Some(Self {
            inner,
            inner_scheme: origin.scheme,
            outer,
            outer_host: host,
            outer_scheme: scheme,
            added,
            stripped,
            paths,
        })
    }

    /// True if a response has fields in which an origin may name itself. Most have none.
    pub fn concerns(headers: &Fields) -> bool {
        const NAMING: KnownSet = KnownSet::of(&[
            header::LOCATION,
            header::CONTENT_LOCATION,
            header::REFRESH,
            header::SET_COOKIE,
        ]);
        !headers.has_none_of(NAMING)
    }

    /// Rewrites the origin's URLs in a response. `own` receives the replaced values of `Location` and
    /// `Content-Location`.
    pub fn apply(&self, headers: &mut Fields, own: &mut Fields) {
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            headers.edit(name, |line| {
                let outer = value(&self.url(&text(line))?)?;
                own.append(name, line);
                Some(outer)
            });
        }
        headers.edit(header::REFRESH, |line| value(&self.refresh(&text(line))?));
        headers.edit(header::SET_COOKIE, |line| {
            HeaderValue::from_bytes(&self.cookie(line.as_bytes())?).ok()
        });
    }

    /// The viewer's form of a URL reference; `None` if it stays.
    fn url(&self, reference: &str) -> Option<String> {
        let reference = reference.trim_matches([' ', '\t']);
        let (scheme, after) = match reference.strip_prefix("//") {
            // A reference without a scheme has that of the request that the origin received (RFC 3986 §4.2).
            Some(after) => (None, after),
            None => match reference.split_once("://") {
                Some((scheme, after)) if scheme.eq_ignore_ascii_case("http") => {
                    (Some(Scheme::Http), after)
                }
                Some((scheme, after)) if scheme.eq_ignore_ascii_case("https") => {
                    (Some(Scheme::Https), after)
                }
                _ => return self.reference(reference),
            },
        };
        let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
        let (authority, rest) = after.split_at_checked(end)?;
        if !self.is_inner(authority, scheme.unwrap_or(self.inner_scheme)) {
            return None;
        }
        let (path, rest) = rest.split_at_checked(rest.find(['?', '#']).unwrap_or(rest.len()))?;
        let path = match self.path(if path.is_empty() { "/" } else { path }) {
            Mapped::Stays if path.is_empty() => Cow::Borrowed(""),
            Mapped::Stays => Cow::Borrowed(path),
            Mapped::To(outer) => Cow::Owned(outer),
            // No URL of the viewer reaches it.
            Mapped::Outside => return None,
        };
        Some(match scheme {
            None => format!("//{}{path}{rest}", self.outer),
            // The scheme of the request to the origin stands for the viewer's; another scheme is intended, as in a
            // redirect to https, and has its own port.
            Some(scheme) if scheme == self.inner_scheme || scheme == self.outer_scheme => {
                format!(
                    "{}://{}{path}{rest}",
                    self.outer_scheme.as_str(),
                    self.outer
                )
            }
            Some(scheme) => format!("{}://{}{path}{rest}", scheme.as_str(), self.outer_host),
        })
    }

    /// A reference without an authority. Only a path from the root can be mapped; any other is relative to the viewer's
    /// URL.
    fn reference(&self, reference: &str) -> Option<String> {
        if !reference.starts_with('/') {
            return None;
        }
        let end = reference.find(['?', '#']).unwrap_or(reference.len());
        let (path, rest) = reference.split_at_checked(end)?;
        match self.path(path) {
            // The rest of a path must not be read as a host (RFC 3986 §4.2), and browsers read `\` as `/`.
            Mapped::To(outer) if outer.starts_with("//") || outer.starts_with("/\\") => {
                Some(format!("/.{outer}{rest}"))
            }
            Mapped::To(outer) => Some(format!("{outer}{rest}")),
            Mapped::Stays | Mapped::Outside => None,
        }
    }

    /// `5; url=/next` (HTML, "shared declarative refresh steps"; no RFC defines it).
    fn refresh(&self, value: &str) -> Option<String> {
        let at = value.find([';', ','])? + 1;
        let (before, after) = value.split_at_checked(at)?;
        let target = after.trim_start();
        let rest = match target.get(..3) {
            Some(name) if name.eq_ignore_ascii_case("url") => target.get(3..)?.trim_start(),
            _ => return None,
        };
        let url = rest.strip_prefix('=')?.trim_start();
        let (quote, url) = match url.as_bytes().first() {
            Some(b'"') => ("\"", url.get(1..)?),
            Some(b'\'') => ("'", url.get(1..)?),
            _ => ("", url),
        };
        let end = if quote.is_empty() {
            url.trim_end().len()
        } else {
            url.find(quote).unwrap_or(url.len())
        };
        let outer = self.url(url.get(..end)?)?;
        Some(format!("{before} url={quote}{outer}{quote}"))
    }

    /// A cookie whose attributes name the inner host or path; `None` if it stays.
    fn cookie(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = line.split(|&byte| byte == b';');
        let pair = parts.next()?;
        let name = pair.trim_ascii_start();
        let prefixed = |prefix: &[u8]| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        // These prefixes guarantee the attributes; a browser drops the cookie if they differ (RFC 6265bis §4.1.3).
        if prefixed(b"__Host-") || prefixed(b"__Secure-") {
            return None;
        }
        let mut out = pair.to_vec();
        let mut changed = false;
        for part in parts {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (part.get(..at)?, part.get(at + 1..)?),
                None => (part, &b""[..]),
            };
            let (name, value) = (name.trim_ascii(), value.trim_ascii());
            if name.eq_ignore_ascii_case(b"domain") && self.is_inner_domain(value) {
                changed = true;
                continue;
            }
            out.push(b';');
            let path = std::str::from_utf8(value)
                .ok()
                .filter(|path| name.eq_ignore_ascii_case(b"path") && path.starts_with('/'));
            match path.map(|path| self.path(path)) {
                Some(Mapped::To(outer)) => {
                    changed = true;
                    // `/shop/` would not be sent to `/shop` (RFC 6265 §5.1.4).
                    let outer = match outer.strip_suffix('/') {
                        Some(shorter)
                            if !shorter.is_empty() && (value == b"/" || !value.ends_with(b"/")) =>
                        {
                            shorter
                        }
                        _ => &outer,
                    };
                    out.extend_from_slice(b" Path=");
                    out.extend_from_slice(outer.as_bytes());
                }
                _ => out.extend_from_slice(part),
            }
        }
        changed.then_some(out)
    }

    fn is_inner(&self, authority: &str, scheme: Scheme) -> bool {
        let default = format!(":{}", scheme.port());
        let authority = authority.strip_suffix(&default).unwrap_or(authority);
        self.inner
            .iter()
            .any(|inner| !inner.is_empty() && inner.eq_ignore_ascii_case(authority))
    }

    fn is_inner_domain(&self, domain: &[u8]) -> bool {
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        self.inner
            .iter()
            .filter(|inner| !inner.is_empty())
            .any(|inner| {
                let host = match inner.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                    _ => inner,
                };
                // One host with two names, of which the viewer knows one.
                host.as_bytes().eq_ignore_ascii_case(domain)
                    && !host.eq_ignore_ascii_case(self.outer_host)
            })
    }

    /// The viewer's path for one at the origin: removes the prefixes that were added, restores the one that was
    /// removed.
    fn path(&self, path: &str) -> Mapped {
        if !self.paths {
            return Mapped::Stays;
        }
        let mut rest = path;
        for prefix in self.added.iter().filter(|prefix| !prefix.is_empty()) {
            match below(rest, prefix) {
                Some(after) => rest = after,
                // The origin may have mapped it already.
                None if !self.stripped.is_empty() && below(path, self.stripped).is_some() => {
                    return Mapped::Stays;
                }
                None => return Mapped::Outside,
            }
        }
        if self.stripped.is_empty() {
            return Mapped::To(rest.to_owned());
        }
        if self.added == ["", ""] && below(path, self.stripped).is_some() {
            return Mapped::Stays;
        }
        Mapped::To(format!("{}{rest}", self.stripped))
    }
}

/// A value as text. Bytes outside ASCII, which some origins do not encode, are one character each: they stay as they
/// are.
fn text(value: FieldValue<'_>) -> Cow<'_, str> {
    match value.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.as_bytes().iter().copied().map(char::from).collect()),
    }
}

/// A text of `text` as a value.
fn value(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(char).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

enum Mapped {
    Stays,
    To(String),
    /// No URL of the viewer leads to it.
    Outside,
}

/// The rest after a prefix that ends at a segment's end.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    match path.strip_prefix(prefix)? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::plan::compile;

    /// `Location` as the viewer gets it, from an origin at `http://app.internal/app` behind `/shop/*`.
    fn seen(said: &[u8]) -> Fields {
        let plan = compile(
            &serde_json::to_vec(&json!({
                "name": "t",
                "origins": [{"name": "o", "url": "http://app.internal/app"}],
                "routes": [{"pattern": "/shop/*", "to": "o", "strip_prefix": "/shop"}],
            }))
            .unwrap(),
        )
        .unwrap();
        let viewer = "shop.example:8443";
        let outward = Outward::new(
            plan.origins.first().unwrap(),
            plan.routes.first().unwrap(),
            viewer,
            viewer,
            Scheme::Https,
        )
        .unwrap();
        let mut headers = Fields::new();
        for name in [header::LOCATION, header::REFRESH, header::SET_COOKIE] {
            headers.insert(name, HeaderValue::from_bytes(said).unwrap());
        }
        outward.apply(&mut headers, &mut Fields::new());
        headers
    }

    #[test]
    fn bytes_outside_ascii_stay_as_they_are() {
        for path in [
            &b"caf\xe9?a=\xff#\xe9"[..],
            "stra\u{df}e?q=\u{2323}".as_bytes(),
        ] {
            let said = [b"http://app.internal/app/", path].concat();
            let want = [b"https://shop.example:8443/shop/", path].concat();
            let headers = seen(&said);
            assert_eq!(headers.get(header::LOCATION).unwrap().as_bytes(), want);
            let headers = seen(&[b"5; url=", &*said].concat());
            let want = [b"5; url=", &*want].concat();
            assert_eq!(headers.get(header::REFRESH).unwrap().as_bytes(), want);
        }
    }

    #[test]
    fn what_is_recognisably_its_own_is_the_viewers() {
        for (said, want) in [
            ("/app", "/shop/"),
            ("/app/a?b#c", "/shop/a?b#c"),
            (
                "http://app.internal/app/a",
                "https://shop.example:8443/shop/a",
            ),
            (
                "https://app.internal/app/a",
                "https://shop.example:8443/shop/a",
            ),
            ("//app.internal/app/a", "//shop.example:8443/shop/a"),
            ("http://app.internal/a", "http://app.internal/a"),
            ("http://app.internal", "http://app.internal"),
            (
                "http://app.internal.:80/app/",
                "http://app.internal.:80/app/",
            ),
            ("ftp://app.internal/app/a", "ftp://app.internal/app/a"),
            ("/shop/a", "/shop/a"),
            ("/other", "/other"),
        ] {
            assert_eq!(
                seen(said.as_bytes()).get(header::LOCATION).unwrap(),
                want,
                "{said}"
            );
        }
    }

    #[test]
    fn whatever_it_says_no_path_becomes_a_host() {
        for said in [
            &b"/app//evil.example"[..],
            b"/app/\\evil.example",
            b"/app\\evil.example",
            b"//",
            b"///evil.example",
            b"http://",
            b"http:///app/x",
            b"http://app.internal\\@evil.example/app/",
            b"5;url=",
            b"5;url='",
            b"url=/app",
            b";;;Path=;Domain",
            b"a=b;Path=/app//evil;Domain=.",
            b"\xff; Path=/app; Domain=app.internal",
            b"",
        ] {
            let headers = seen(said);
            let location = headers.get(header::LOCATION).unwrap().as_bytes();
            let moved = location != said;
            let as_host = location.starts_with(b"//") || location.starts_with(b"/\\");
            assert!(!(moved && as_host), "{location:?}");
        }
    }
}
