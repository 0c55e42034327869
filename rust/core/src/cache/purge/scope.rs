//! The scopes of a purge, and whether a stored response matches them.

use std::borrow::Cow;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use super::Pattern;
use crate::{
    cache::{key, tags},
    http::uri,
    plan::Plan,
    viewer,
};

/// One thing that a purge names, whatever the scheme. Hosts are lower case, paths normalised, `host: None` means every
/// host. A host matches every one of its ports; only the host of a URL with a port of its own (`h:8080`) matches that
/// port alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One URL with all its variants.
    Url {
        /// In lower case; with a port only if the purge names one.
        host: Option<String>,
        /// Normalised; as the viewer requests it or as it is in the key.
        path: String,
        /// Without `?`; `None` for a URL without a query.
        query: Option<String>,
    },
    /// Every path that a pattern matches.
    Path {
        /// In lower case; `None` for every host.
        host: Option<String>,
        /// The path, in which each `*` matches any number of bytes.
        pattern: String,
    },
    /// Every response of one host, in lower case.
    Host(String),
    /// Every response with this tag.
    Tag(String),
    /// Every stored response.
    Everything,
}

impl Scope {
    /// For labels of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Path { .. } => "path",
            Self::Host(_) => "host",
            Self::Tag(_) => "tag",
            Self::Everything => "everything",
        }
    }
}

/// A stored response as purges see it, and the request that found it, if any.
#[derive(Debug, Clone, Copy)]
pub struct PurgeSubject<'a> {
    /// The host in the key: lower case, without port.
    pub host: &'a str,
    /// Set also for the scheme's default port.
    pub port: u16,
    /// The path in the key: after the route's rewriting.
    pub path: &'a str,
    /// The query in the key: the parameters that the policy selected.
    pub query: Option<&'a str>,
    /// The path that the viewer requested when it was stored, if it differs.
    pub viewer: Option<&'a str>,
    /// Path and query of the current request.
    pub requested: Option<(&'a str, Option<&'a str>)>,
    /// Hashes of the response's tags, sorted.
    pub tags: &'a [u64],
}

impl<'a> PurgeSubject<'a> {
    /// Reads the key of a URL or of one of its variants.
    pub fn of(key: &'a [u8], viewer: Option<&'a str>, tags: &'a [u64]) -> Option<Self> {
        let (base, path, query) = key::url_parts(key)?;
        Some(Self {
            host: base.host,
            port: base.effective_port(),
            path,
            query,
            viewer,
            requested: None,
            tags,
        })
    }

    /// Every spelling of its path and query: as stored, as requested then, as requested now.
    fn spellings(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let own = (self.path, self.query);
        let viewer = self.viewer.map(|path| (path, self.query));
        let requested = self
            .requested
            .filter(|requested| *requested != own && Some(*requested) != viewer);
        [Some(own), viewer, requested].into_iter().flatten()
    }

    pub(super) fn any_url(&self, mut has: impl FnMut(u64) -> bool) -> bool {
        let with_port = format!("{}:{}", self.host, self.port);
        self.spellings().any(|(path, query)| {
            [self.host, "", &with_port]
                .iter()
                .any(|host| has(url_hash(host, path, query)))
        })
    }

    pub(super) fn fits(&self, host: Option<&str>, pattern: &Pattern) -> bool {
        host.is_none_or(|host| host == self.host)
            && self
                .spellings()
                .any(|(path, query)| pattern.matches(path, query))
    }
}

/// The hash under which a URL is marked; `host` is empty for every host, and `host:port` for one port of it. Spellings
/// of a query that differ in percent-encoding only have the same hash.
pub fn url_hash(host: &str, path: &str, query: Option<&str>) -> u64 {
    let mut text = Vec::with_capacity(host.len() + path.len() + query.map_or(0, str::len) + 2);
    text.extend_from_slice(host.as_bytes());
    text.push(0);
    text.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        text.push(b'?');
        match same_query(query) {
            Cow::Borrowed(query) => text.extend_from_slice(query.as_bytes()),
            Cow::Owned(query) => text.extend_from_slice(query.as_bytes()),
        }
    }
    tags::hash(&text)
}

/// Decodes escapes of unreserved characters and writes the others in upper case; broken ones stay as they are.
fn same_query(query: &str) -> Cow<'_, str> {
    if !query.contains('%') {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let code = from
            .get(1..3)
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = code else {
            out.push('%');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        match u8::from_str_radix(code, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push_str(&code.to_ascii_uppercase());
            }
        }
        rest = from.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The scopes of one purge, ready to be compared.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Hashes of the URLs' keys.
    pub urls: HashSet<u64, foldhash::fast::RandomState>,
    /// Patterns for paths, each with its host; `None` for every host.
    pub patterns: Vec<(Option<Box<str>>, Pattern)>,
    /// In lower case.
    pub hosts: HashSet<Box<str>, foldhash::fast::RandomState>,
    /// Hashes of tags.
    pub tags: HashSet<u64, foldhash::fast::RandomState>,
    /// True if the purge matches every response.
    pub everything: bool,
}

impl Matcher {
    /// `keys` are the URLs' hashes as [`url_hashes`] gave them for the plan in service when the purge was made.
    pub fn new(scopes: &[Scope], keys: &[u64]) -> Self {
        let mut matcher = Self::default();
        matcher.urls.extend(keys);
        for scope in scopes {
            match scope {
                Scope::Url { .. } => {}
                Scope::Path { host, pattern } => {
                    let pattern = Pattern::new(pattern);
                    if !pattern.is_everything() {
                        matcher
                            .patterns
                            .push((host.as_deref().map(Box::from), pattern));
                    } else if let Some(host) = host {
                        matcher.hosts.insert(host.as_str().into());
                    } else {
                        matcher.everything = true;
                    }
                }
                Scope::Host(host) => {
                    matcher.hosts.insert(host.as_str().into());
                }
                Scope::Tag(tag) => {
                    matcher.tags.insert(tags::hash(tag.as_bytes()));
                }
                Scope::Everything => matcher.everything = true,
            }
        }
        matcher
    }

    /// True if one of the scopes matches a stored response.
    pub fn matches(&self, subject: &PurgeSubject<'_>) -> bool {
        self.everything
            || (!self.urls.is_empty() && subject.any_url(|hash| self.urls.contains(&hash)))
            || (!self.hosts.is_empty() && self.hosts.contains(subject.host))
            || (!self.tags.is_empty()
                && (tags::has_any(subject.tags)
                    || subject.tags.iter().any(|tag| self.tags.contains(tag))))
            || self
                .patterns
                .iter()
                .any(|(host, pattern)| subject.fits(host.as_deref(), pattern))
    }
}

/// The hashes of every key under which a URL of the scopes may be stored: a purge names the viewer's URL, the key has
/// the route's form of it. The route may depend on more than the URL (conditions, cookies), so every route that the
/// path can reach counts: one too many costs a fetch at most.
pub fn url_hashes(scopes: &[Scope], plan: &Plan) -> Vec<u64> {
    let mut hashes = Vec::new();
    for scope in scopes {
        let Scope::Url { host, path, query } = scope else {
            continue;
        };
        let host = host.as_deref().unwrap_or_default();
        let query = query.as_deref();
        hashes.push(url_hash(host, path, query));
        for route in &plan.routes {
            if !route.path.matches(path) {
                continue;
            }
            let target = viewer::target_path(route, path);
            let mut selected = Vec::new();
            let selected = match query {
                Some(query) => {
                    let cache = &route.cache;
                    uri::select_query(query, &cache.key_query, cache.sort_query, &mut selected);
                    std::str::from_utf8(&selected).ok().filter(|selected| {
                        !selected.is_empty()
                            || (cache.key_query == crate::plan::Select::All && !cache.sort_query)
                    })
                }
                None => None,
            };
            hashes.push(url_hash(host, path, selected));
            hashes.push(url_hash(host, &target, selected));
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}
