//! The image that a request names by `url`: a path of this edge, or a URL.

use std::fmt;

use super::ImageRefusal;
use crate::{
    http::{PathAndQuery, percent, uri},
    plan::{ImageSources, OriginId, Plan, Route, Scheme, Target},
};

/// The value of `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUrl {
    /// A path of the requested host, normalised.
    Path(PathAndQuery),
    /// `https://host/path`.
    Absolute {
        /// Its scheme.
        scheme: Scheme,
        /// In lower case; IPv6 without brackets.
        host: String,
        /// The scheme's default where it names none.
        port: u16,
        /// Path and query, normalised.
        target: PathAndQuery,
    },
}

impl ImageUrl {
    /// Reads a decoded value.
    pub fn parse(text: &str) -> Result<Self, ImageRefusal> {
        let refused = |must: &str| ImageRefusal::new("url", text, must);
        if text.contains('#') || text.chars().any(char::is_control) {
            return Err(refused("must have no fragment and no control characters"));
        }
        if text.starts_with('/') && !text.starts_with("//") {
            // Without its dots it may begin with two, as a URL without a scheme does.
            let target = target(text).filter(|target| !target.as_str().starts_with("//"));
            return Ok(Self::Path(target.ok_or_else(|| refused("is no path"))?));
        }
        let form = "must be a path as in /photo.jpg, or a URL that begins with https:// or http://";
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (scheme, rest) = if lower.starts_with("https://") {
            (Scheme::Https, text.get(8..))
        } else if lower.starts_with("http://") {
            (Scheme::Http, text.get(7..))
        } else {
            return Err(refused(form));
        };
        let rest = rest.unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains(['@', '\\', '%']) {
            return Err(refused("must have no user, and a plain host"));
        }
        let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
            let (address, after) = inside.split_once(']').ok_or_else(|| refused(form))?;
            (
                address,
                after.strip_prefix(':').or(after.is_empty().then_some("")),
            )
        } else {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            (host, Some(port))
        };
        let port = match port {
            Some("") => Some(scheme.port()),
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|&port: &u16| port > 0)
            }
            _ => None,
        };
        let port = port.ok_or_else(|| refused("must have a port from 1 to 65535, or none"))?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        let host = host.trim_end_matches('.');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(refused("must have a host in its ASCII form"));
        }
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self::Absolute {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            target: target(&path).ok_or_else(|| refused("has no valid path"))?,
        })
    }
}

impl fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(target) => f.write_str(target.as_str()),
            Self::Absolute {
                scheme,
                host,
                port,
                target,
            } => {
                let (open, close) = if host.contains(':') {
                    ("[", "]")
                } else {
                    ("", "")
                };
                write!(f, "{}://{open}{host}{close}", scheme.as_str())?;
                if *port != scheme.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(target.as_str())
            }
        }
    }
}

/// A path and query in one spelling; bytes that a target may not have are escaped.
fn target(text: &str) -> Option<PathAndQuery> {
    let escaped = percent::encoded(text.as_bytes(), |byte| {
        byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)
    });
    let (path, query) = match escaped.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*escaped, None),
    };
    let path = uri::normalise_path(path).ok()?;
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    PathAndQuery::try_from(target).ok()
}

/// The path of this edge under which an image is found: its own, that of a URL of the requested host, or that of a URL
/// of one of these origins, as far as this edge has a route for it. `host`, `port`: as the viewer requested them.
pub fn own_path(
    plan: &Plan,
    origins: &[OriginId],
    url: &ImageUrl,
    host: &str,
    port: u16,
) -> Option<PathAndQuery> {
    let (scheme, named, at, target) = match url {
        ImageUrl::Path(target) => return Some(target.clone()),
        ImageUrl::Absolute {
            scheme,
            host,
            port,
            target,
        } => (scheme, host, port, target),
    };
    if *named == *host && *at == port {
        return Some(target.clone());
    }
    let origins = origins.iter().filter_map(|id| plan.origin(*id));
    let mut matching = origins.filter_map(|origin| {
        let is_its = origin.scheme == *scheme && *origin.host == **named && origin.port == *at;
        let rest = target.as_str().strip_prefix(&*origin.path_prefix)?;
        (is_its && rest.starts_with('/')).then(|| PathAndQuery::try_from(rest).ok())?
    });
    matching.next()
}

/// Why images of a route are not served under another path. The text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// It has no origin, or one that is not among the sources.
    #[error("The URL is of no origin that images may come from.")]
    Origin,
    /// Some requests may not have its responses, or have others.
    #[error("The URL is not open to everybody, or differs between visitors.")]
    Guarded,
    /// Its responses are not stored.
    #[error("The URL is not stored by this edge.")]
    Unstored,
}

/// The reason why the image of a path of this route is not served to everybody who names it; `None`: it is.
pub fn refusal(
    plan: &Plan,
    route: &Route,
    sources: &ImageSources,
    host: &str,
    path: &str,
) -> Option<NoSource> {
    let Target::Group(group) = route.target else {
        return Some(NoSource::Origin);
    };
    let members = plan.group(group).map_or(&[][..], |group| &group.members);
    if members.is_empty() || !members.iter().all(|id| sources.origins.contains(id)) {
        return Some(NoSource::Origin);
    }
    let mut hooks = route.hooks.viewer_request.iter();
    let is_hooked = hooks.any(|hook| hook.runs(host, path));
    if route.refuses() || !route.experiments.is_empty() || is_hooked {
        return Some(NoSource::Guarded);
    }
    (!route.cache.enabled).then_some(NoSource::Unstored)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(text: &str) -> Option<String> {
        match ImageUrl::parse(text).ok()? {
            ImageUrl::Path(target) => Some(target.as_str().to_owned()),
            ImageUrl::Absolute {
                scheme,
                host,
                port,
                target,
            } => Some(format!(
                "{} {host} {port} {}",
                scheme.as_str(),
                target.as_str()
            )),
        }
    }

    #[test]
    fn a_url_is_a_path_or_absolute() {
        for (text, want) in [
            ("/a.jpg", Some("/a.jpg")),
            ("/a b.jpg?v=1 2", Some("/a%20b.jpg?v=1%202")),
            ("/x/../a.jpg", Some("/a.jpg")),
            ("/ä.jpg", Some("/%C3%A4.jpg")),
            ("//evil.example/a", None),
            ("/\\evil", Some("/%5Cevil")),
            ("a.jpg", None),
            ("", None),
            ("/a#b", None),
            ("/a\nb", None),
            (
                "https://Img.Example.com/a?b",
                Some("https img.example.com 443 /a?b"),
            ),
            ("HTTP://h:8080", Some("http h 8080 /")),
            ("https://h?x", Some("https h 443 /?x")),
            ("https://[::1]:9/a", Some("https ::1 9 /a")),
            ("https://h./a", Some("https h 443 /a")),
            ("https://user@h/a", None),
            ("https://h\\@x/a", None),
            ("https://h%00/a", None),
            ("https://h:99999/a", None),
            ("https://h:0/a", None),
            ("https://./a", None),
            ("/.//h/a", None),
            ("https://:80/a", None),
            ("ftp://h/a", None),
            ("data:image/png;base64,AA", None),
        ] {
            assert_eq!(shown(text).as_deref(), want, "{text:?}");
        }
    }
}
