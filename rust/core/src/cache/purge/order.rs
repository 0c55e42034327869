//! Orders to purge: read strictly; an error names the field and the remedy.

use http::Uri;
use serde_json::{Map, Value};

use super::{Scope, pattern::MOST_WILDCARDS};
use crate::{
    http::{percent, uri::normalise_path},
    plan::Scheme,
};

/// CloudFront's bound on a path, and ours on every text of a purge.
pub const MOST_TEXT: usize = 4_000;
/// Bound on the bytes of an order's `reference`.
pub const MOST_REFERENCE: usize = 128;

/// A purge as requested.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// The things to purge, normalised; with several, a response that matches any of them is purged.
    pub scopes: Vec<Scope>,
    /// Each scope as the caller spelled it.
    pub given: Vec<String>,
    /// Makes responses stale from now on instead of removing them.
    pub soft: bool,
    /// The caller's own name for it: an order with the same name is the same purge.
    pub reference: Option<String>,
    /// Only count the responses that it would match.
    pub dry_run: bool,
}

/// The mistake in an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Mistake {
    /// The field of the order, with its index in a list: `urls[2]`.
    pub field: String,
    /// The rule that it breaks, for the caller to read.
    pub message: String,
}

fn mistake<T>(field: impl Into<String>, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake {
        field: field.into(),
        message: message.into(),
    })
}

const FIELDS: [&str; 8] = [
    "urls",
    "paths",
    "hosts",
    "tags",
    "everything",
    "soft",
    "dry_run",
    "reference",
];

impl Order {
    /// Reads an order from JSON. Unknown fields, wrong types and texts over the bounds are mistakes.
    pub fn read(value: &Value) -> Result<Self, Mistake> {
        let Value::Object(fields) = value else {
            return mistake(
                "body",
                "must be an object such as {\"urls\": [\"https://…/\"]}",
            );
        };
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(64).collect();
            let known = FIELDS.join(", ");
            return match &*shown {
                "" => mistake("body", format!("has a field without a name; use {known}")),
                _ => mistake(shown, format!("is not a field; use {known}")),
            };
        }
        let (mut scopes, mut given) = (Vec::new(), Vec::new());
        for (field, read) in [
            ("urls", url as fn(&str) -> Result<Scope, String>),
            ("paths", path),
            ("hosts", |text| host(text).map(Scope::Host)),
            ("tags", tag),
        ] {
            for (index, text) in texts(fields, field)?.into_iter().enumerate() {
                let scope = read(text).or_else(|message| {
                    mistake(format!("{field}[{index}]"), format!("{text:?}: {message}"))
                })?;
                scopes.push(scope);
                given.push(text.to_owned());
            }
        }
        if flag(fields, "everything")? {
            scopes.push(Scope::Everything);
            given.push("/*".to_owned());
        }
        if scopes.is_empty() {
            return mistake("urls", "give urls, paths, hosts, tags or everything");
        }
        Ok(Self {
            scopes,
            given,
            soft: flag(fields, "soft")?,
            dry_run: flag(fields, "dry_run")?,
            reference: reference(fields)?,
        })
    }
}

/// Refuses an order that names more than `most` things.
pub fn bounded_number(order: &Order, most: usize) -> Result<(), Mistake> {
    let named = order.scopes.len();
    if named <= most {
        return Ok(());
    }
    let message = format!(
        "{named} things are named and one purge may name {most} (limits.purge.scopes); make it several"
    );
    mistake("urls", message)
}

fn flag(fields: &Map<String, Value>, field: &str) -> Result<bool, Mistake> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => mistake(field, "must be true or false"),
    }
}

fn reference(fields: &Map<String, Value>) -> Result<Option<String>, Mistake> {
    match fields.get("reference") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match reference_problem(text) {
            None => Ok(Some(text.clone())),
            Some(message) => mistake("reference", message),
        },
        Some(_) => mistake("reference", "must be a text"),
    }
}

/// Why a text is not a caller reference.
pub fn reference_problem(text: &str) -> Option<String> {
    (text.is_empty() || text.len() > MOST_REFERENCE || text.chars().any(char::is_control))
        .then(|| format!("must be 1 to {MOST_REFERENCE} bytes without control characters"))
}

fn texts<'v>(fields: &'v Map<String, Value>, field: &str) -> Result<Vec<&'v str>, Mistake> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .enumerate()
            .map(|(index, value)| match value {
                Value::String(text) => Ok(text.as_str()),
                _ => mistake(format!("{field}[{index}]"), "must be a text"),
            })
            .collect(),
        Some(_) => mistake(field, "must be a list of texts"),
    }
}

fn bounded(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > MOST_TEXT {
        return Err(format!("must be at most {MOST_TEXT} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must hold no control characters".to_owned());
    }
    Ok(())
}

/// `https://host/path?query`, as a viewer requests it. It means the URL by either scheme and at every port, unless it
/// names a port that is not its scheme's default.
fn url(text: &str) -> Result<Scope, String> {
    bounded(text)?;
    let named = text.split_once("://").and_then(|(scheme, rest)| {
        [Scheme::Http, Scheme::Https]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.as_str()))
            .map(|scheme| (scheme, rest))
    });
    let Some((scheme, rest)) = named else {
        return Err(
            "must begin with http:// or https://; for a path on every host use paths".to_owned(),
        );
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err("must hold no user name".to_owned());
    }
    let mut host = host(authority)?;
    if let Some(port) = port(authority)?.filter(|port| *port != scheme.port()) {
        host = format!("{host}:{port}");
    }
    let target = if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    };
    let (path, query) = split(&target)?;
    // In a URL a star is an ordinary character.
    Ok(Scope::Url {
        host: Some(host),
        path,
        query,
    })
}

/// `/path` on every host, or `host/path`; `*` stands for any characters.
pub fn path(text: &str) -> Result<Scope, String> {
    bounded(text)?;
    let (host, target) = match text.find('/') {
        Some(0) => (None, text),
        Some(at) => {
            let (name, target) = text.split_at(at);
            (Some(self::host(name)?), target)
        }
        None => return Err("must start with / (or be HOST/path)".to_owned()),
    };
    let (path, query) = split(target)?;
    if !target.contains('*') {
        return Ok(Scope::Url { host, path, query });
    }
    if target.matches('*').count() > MOST_WILDCARDS {
        return Err(format!("must hold at most {MOST_WILDCARDS} wildcards"));
    }
    let pattern = match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    Ok(Scope::Path { host, pattern })
}

/// Path and query in the edge's spelling.
fn split(target: &str) -> Result<(String, Option<String>), String> {
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = normalise_path(&encoded(path))
        .map_err(|error| error.to_string())?
        .into_owned();
    Ok((path, query.map(encoded)))
}

/// Escapes characters that cannot occur in a URL, as a browser does.
fn encoded(text: &str) -> String {
    percent::encoded(text.as_bytes(), |byte| {
        byte.is_ascii_graphic() && !b"\"<>`".contains(&byte)
    })
}

/// The port that an authority names; an empty one is none (RFC 3986 §6.2.3).
fn port(authority: &str) -> Result<Option<u16>, String> {
    let after = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    match after.split_once(':') {
        None | Some((_, "")) => Ok(None),
        Some((_, port)) => match port.parse() {
            Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(number)),
            _ => Err("its port must be a number from 0 to 65535".to_owned()),
        },
    }
}

/// Lower case, without port.
fn host(text: &str) -> Result<String, String> {
    bounded(text)?;
    if text.contains('*') {
        return Err("a host has no wildcards".to_owned());
    }
    // Text after a host is not part of it: to ignore it would purge more than was named.
    if text.contains(['/', '?', '#']) {
        return Err("is more than a host; name a part of a host with paths or urls".to_owned());
    }
    port(text)?;
    let authority = text.to_ascii_lowercase();
    let uri: Uri = format!("http://{authority}/")
        .parse()
        .map_err(|_| "is no host name or address".to_owned())?;
    match uri.authority() {
        Some(parsed) if !parsed.as_str().contains('@') && !parsed.host().is_empty() => {
            Ok(parsed.host().trim_end_matches('.').to_owned())
        }
        _ => Err("is no host name or address".to_owned()),
    }
}

fn tag(text: &str) -> Result<Scope, String> {
    bounded(text)?;
    if text.contains([' ', ',']) {
        return Err("a tag contains no space or comma; give several tags separately".to_owned());
    }
    Ok(Scope::Tag(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn of(host: Option<&str>, path: &str, query: Option<&str>) -> Scope {
        Scope::Url {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        }
    }

    #[test]
    fn urls_and_paths_get_the_edges_spelling() {
        for (text, want) in [
            (
                "https://Example.COM:8443/a?b=C#d",
                of(Some("example.com:8443"), "/a", Some("b=C")),
            ),
            ("http://h:80/", of(Some("h"), "/", None)),
            ("https://h:/", of(Some("h"), "/", None)),
            ("http://h:443/", of(Some("h:443"), "/", None)),
            ("http://[::1]:8080/", of(Some("[::1]:8080"), "/", None)),
            ("http://example.com", of(Some("example.com"), "/", None)),
            (
                "http://example.com?x",
                of(Some("example.com"), "/", Some("x")),
            ),
            (
                "http://example.com/%7euser/%c3%a9",
                of(Some("example.com"), "/~user/%C3%A9", None),
            ),
            (
                "http://example.com/é ü",
                of(Some("example.com"), "/%C3%A9%20%C3%BC", None),
            ),
            (
                "http://example.com/a/../b",
                of(Some("example.com"), "/b", None),
            ),
            ("http://[::1]:80/", of(Some("[::1]"), "/", None)),
            (
                "http://example.com/a*b",
                of(Some("example.com"), "/a*b", None),
            ),
        ] {
            assert_eq!(url(text), Ok(want), "{text}");
        }
        let wild = |host: Option<&str>, pattern: &str| Scope::Path {
            host: host.map(str::to_owned),
            pattern: pattern.to_owned(),
        };
        for (text, want) in [
            ("/a", of(None, "/a", None)),
            ("/a?x=1", of(None, "/a", Some("x=1"))),
            ("/a/*.css", wild(None, "/a/*.css")),
            ("shop.example/a*", wild(Some("shop.example"), "/a*")),
            ("/a?x=*", wild(None, "/a?x=*")),
            ("/*", wild(None, "/*")),
        ] {
            assert_eq!(path(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (order, field) in [
            (json!([]), "body"),
            (json!({}), "urls"),
            (json!({"everything": false}), "urls"),
            (json!({"everything": 1}), "everything"),
            (json!({"urls": "http://a/"}), "urls"),
            (json!({"urls": ["http://a/", 1]}), "urls[1]"),
            (json!({"urls": ["/a"]}), "urls[0]"),
            (json!({"urls": ["ftp://a/"]}), "urls[0]"),
            (json!({"urls": ["http://"]}), "urls[0]"),
            (json!({"urls": ["http://u@a/"]}), "urls[0]"),
            (json!({"urls": ["http://a/%zz"]}), "urls[0]"),
            (json!({"paths": ["a"]}), "paths[0]"),
            (json!({"paths": [""]}), "paths[0]"),
            (json!({"paths": ["/a\u{0}"]}), "paths[0]"),
            (
                json!({"paths": ["/".to_owned() + &"*a".repeat(17)]}),
                "paths[0]",
            ),
            (json!({"hosts": ["*.example"]}), "hosts[0]"),
            (json!({"hosts": ["a b"]}), "hosts[0]"),
            (json!({"hosts": ["shop.example/static"]}), "hosts[0]"),
            (json!({"hosts": ["http://shop.example"]}), "hosts[0]"),
            (json!({"hosts": ["shop.example?x"]}), "hosts[0]"),
            (json!({"hosts": ["shop.example#x"]}), "hosts[0]"),
            (json!({"hosts": ["shop.example:99999"]}), "hosts[0]"),
            (json!({"tags": ["a b"]}), "tags[0]"),
            (json!({"tags": ["x".repeat(4001)]}), "tags[0]"),
            (json!({"tags": ["a"], "soft": "yes"}), "soft"),
            (json!({"tags": ["a"], "reference": ""}), "reference"),
            (json!({"tags": ["a"], "hard": true}), "hard"),
            (json!({"tags": ["a"], "": true}), "body"),
        ] {
            assert_eq!(Order::read(&order).unwrap_err().field, field, "{order}");
        }
    }

    #[test]
    fn an_order_is_read_whole() {
        let order = Order::read(&json!({
            "urls": ["http://a/"], "paths": ["/x*"], "hosts": ["B"], "tags": ["t"],
            "everything": true, "soft": true, "dry_run": true, "reference": "r",
        }))
        .unwrap();
        let kinds: Vec<&str> = order.scopes.iter().map(Scope::kind).collect();
        assert_eq!(kinds, ["url", "path", "host", "tag", "everything"]);
        assert!(order.soft && order.dry_run);
        assert_eq!(order.reference.as_deref(), Some("r"));
    }
}
