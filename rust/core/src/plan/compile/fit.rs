//! Checks that the parts of a route fit together: target and path, key and forwarding, pages.

use http::{Method, uri::PathAndQuery};

use crate::plan::{
    CachePolicy, Preflight, Select,
    spec::{ForwardSpec, Problems, RouteSpec, TargetSpec, UnkeyedSpec, join},
};

/// Reports options that only an origin's response can use, on a route without an origin.
pub(super) fn target_fits(spec: &RouteSpec, path: &str, problems: &Problems) {
    let target = match &spec.target {
        TargetSpec::To(_) | TargetSpec::Broken => return,
        TargetSpec::Function(_) => "function",
        TargetSpec::Redirect(_) => "redirect",
        TargetSpec::Respond { .. } => "respond",
        TargetSpec::Files(_) => "files",
        TargetSpec::Images(_) => "image_sources",
    };
    let given = [
        ("index", spec.index.is_some()),
        ("fallback", spec.fallback.is_some()),
        ("strip_prefix", spec.strip_prefix.is_some()),
        ("add_prefix", spec.add_prefix.is_some()),
        ("rewrite", spec.rewrite.is_some()),
        ("forward", spec.forward.is_some()),
        ("errors", !spec.errors.is_empty() && target != "files"),
        ("headers.request", !spec.request_headers.is_empty()),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        let instead = match *name {
            "index" | "fallback" if target == "files" => format!(": give files.{name}"),
            _ => String::new(),
        };
        problems.add(
            format!("{path}.{name}"),
            None,
            format!("is for routes that go to an origin; this one has {target}{instead}"),
        );
    }
    unstored(spec, path, problems);
}

/// Reports a cache policy of a route that stores nothing by it. One that is switched off says what is true.
fn unstored(spec: &RouteSpec, path: &str, problems: &Problems) {
    if !spec.cache.enabled || spec.cache == CachePolicy::default() {
        return;
    }
    let message = match &spec.target {
        TargetSpec::Redirect(_) | TargetSpec::Respond { .. } => {
            "has no effect: the edge makes the response itself, for each request; remove it"
        }
        TargetSpec::Images(sources) if sources.hosts.is_empty() => {
            "has no effect without hosts of others: the route that serves an image says how its variants are stored; \
             remove it"
        }
        _ => return,
    };
    problems.add(format!("{path}.cache"), None, message);
}

/// A preflight that goes to the origin needs an origin, a token requirement to be exempt from, and a method that
/// reaches the route.
pub(super) fn preflight_fits(spec: &RouteSpec, path: &str, problems: &Problems) {
    if spec.preflight == Preflight::Token {
        return;
    }
    let methods = &spec.methods;
    let message = if !spec.has_auth {
        "has no effect without auth: a preflight goes to the origin anyway"
    } else if !matches!(spec.target, TargetSpec::To(_) | TargetSpec::Broken) {
        "is for routes that go to an origin"
    } else if !methods.is_empty() && !methods.contains(&Method::OPTIONS) {
        "has no effect without OPTIONS among the methods of the route"
    } else {
        return;
    };
    problems.add(format!("{path}.preflight"), None, message);
}

pub(super) fn cache_fits(spec: &RouteSpec, path: &str, problems: &Problems) {
    if !spec.cache.key_claims.is_empty() && !spec.has_auth {
        problems.add(
            format!("{path}.cache.claims"),
            None,
            "needs auth on this route: without a token there are no claims",
        );
    }
    for (at, name) in spec.cache.key_headers.iter().enumerate() {
        let message = match name.as_str() {
            "cookie" => {
                "would make every visitor's responses different: choose cookies by name in cache.cookies"
            }
            "accept-encoding" => {
                "has too many spellings: set cache.accept_encoding, which normalises it"
            }
            "host" => "is part of every key",
            // A client's own copy is removed, so all clients would have the same key.
            "x-forwarded-for" => {
                "is written by the edge for each client: choose facts about the place in cache.geo, or set enabled=False"
            }
            "authorization" => {
                "is different for everybody: verify it with auth and choose cache.claims"
            }
            _ => continue,
        };
        problems.add(
            format!("{path}.cache.headers[{at}]"),
            Some(format!("{:?}", name.as_str())),
            message,
        );
    }
    let Some(forward) = &spec.forward else { return };
    for (place, unkeyed) in &forward.unkeyed {
        if let Some(message) = no_unkeyed(spec, forward, unkeyed) {
            problems.add(place, None, message);
        }
    }
    if let Some(Select::None) = &forward.query
        && matches!(&spec.cache.key_query, Select::Only(_))
    {
        problems.add(
            format!("{path}.forward.query"),
            Some("\"none\"".to_owned()),
            "withholds from the origin what cache.query makes part of the key: responses could not depend on it",
        );
    }
    if let Some(headers) = &forward.headers {
        for name in spec
            .cache
            .key_headers
            .iter()
            .filter(|name| !headers.has(name.as_str()))
        {
            problems.add(
                format!("{path}.forward.headers"),
                Some(format!("{:?}", name.as_str())),
                "is part of the key (cache.headers) but withheld from the origin: responses could not depend on it",
            );
        }
    }
}

/// Why a declaration that something does not select responses would have no effect, or contradict another.
fn no_unkeyed(spec: &RouteSpec, forward: &ForwardSpec, unkeyed: &UnkeyedSpec) -> Option<String> {
    let cache = &spec.cache;
    if !cache.enabled {
        return Some("is for routes that store responses: this one's cache is off".to_owned());
    }
    let keyed = |part: &str| {
        Some(format!(
            "is in the key already, by cache.{part}: drop one of the two"
        ))
    };
    let withheld = |part: &str| {
        Some(format!(
            "does not go to the origin, by forward.{part}: drop one of the two"
        ))
    };
    let left_out = |part: &str| {
        Some(format!(
            "does not go to the origin: a name with * in cache.{part} leaves out more than it; name each there, or \
             set forward.{part}"
        ))
    };
    match unkeyed {
        UnkeyedSpec::Field(name) if *name == crate::http::header::COOKIE => Some(
            "would give one visitor's page to all: declare cookies by name, as \"cookie:NAME\""
                .to_owned(),
        ),
        UnkeyedSpec::Field(name) if cache.key_headers.contains(name) => keyed("headers"),
        UnkeyedSpec::Field(name)
            if (forward.headers.as_ref()).is_some_and(|sent| !sent.has(name.as_str())) =>
        {
            withheld("headers")
        }
        UnkeyedSpec::Field(_) => None,
        UnkeyedSpec::Query(name) if cache.key_query.has(name) => keyed("query"),
        UnkeyedSpec::Query(name) => match &forward.query {
            Some(sent) if !sent.has(name) => withheld("query"),
            None if is_left_out(&cache.key_query, name) => left_out("query"),
            _ => None,
        },
        UnkeyedSpec::Cookie(name) => match &cache.key_cookies {
            None => Some(
                "cookies follow HTTP here and are in no key: choose some in cache.cookies first"
                    .to_owned(),
            ),
            Some(key) if key.has(name) => keyed("cookies"),
            Some(key) => match &forward.cookies {
                Some(sent) if !sent.has(name) => withheld("cookies"),
                None if is_left_out(key, name) => left_out("cookies"),
                _ => None,
            },
        },
        UnkeyedSpec::Claim(name) if cache.key_claims.iter().any(|claim| **claim == **name) => {
            keyed("claims")
        }
        UnkeyedSpec::Claim(_) => (!spec.has_auth)
            .then(|| "needs auth on this route: without a token there are no claims".to_owned()),
    }
}

/// True if a name stays withheld although it is declared: the key leaves out a star that has others, too.
fn is_left_out(key: &Select, name: &str) -> bool {
    !key.with(&[name.into()]).has(name)
}

/// Responses that only some clients may have can hold a secret beside text that the client chose, and their length
/// would betray it (BREACH).
#[derive(Debug, Clone, Copy)]
struct Secret {
    /// The responses that may hold it, in words.
    of: &'static str,
    remedy: &'static str,
}

fn secret(spec: &RouteSpec) -> Option<Secret> {
    let token = spec.auth.as_ref().is_some_and(|auth| !auth.shared);
    let (of, remedy) = if token {
        (
            "that depend on a token",
            "declare with shared=True that they do not",
        )
    } else if spec.guard.basic.is_some() {
        (
            "behind a password",
            "serve what is no secret by a route without basic",
        )
    } else if spec.guard.signed.is_some() {
        (
            "behind a signature",
            "serve what is no secret by a route without signed",
        )
    } else {
        return None;
    };
    Some(Secret { of, remedy })
}

/// True if the route compresses, because it says so or because its cache policy does. Reports a route that says so and
/// must not, or cannot. If the policy says so, the other value is the reason why the route does not follow it.
pub(super) fn compress(
    spec: &RouteSpec,
    path: &str,
    problems: &Problems,
) -> (bool, Option<&'static str>) {
    match spec.compress {
        Some(false) => (false, None),
        Some(true) => {
            if let Some(message) = uncompressed(spec) {
                problems.add(format!("{path}.compress"), Some("true".to_owned()), message);
            }
            (true, None)
        }
        None => {
            let stores = matches!(spec.target, TargetSpec::To(_) | TargetSpec::Function(_));
            let follows = spec.cache.compress && stores;
            match secret(spec).filter(|_| follows) {
                Some(secret) => (false, Some(secret.of)),
                None => (follows, None),
            }
        }
    }
}

fn uncompressed(spec: &RouteSpec) -> Option<String> {
    let message = match &spec.target {
        TargetSpec::Redirect(_) => "has no effect on a redirect, which has no content; remove it",
        TargetSpec::Function(_) if !spec.cache.enabled => {
            "would betray secrets by the length of responses (BREACH): a function makes them for each request; remove it"
        }
        _ => {
            return secret(spec).map(|Secret { of, remedy }| {
                format!(
                    "would betray secrets by the length of responses {of} (BREACH); remove it, or {remedy}"
                )
            });
        }
    };
    Some(message.to_owned())
}

/// Predicted pages are fetched anonymously and stored for everybody.
pub(super) fn predict_fits(spec: &RouteSpec, path: &str, problems: &Problems) {
    if spec.predict.is_none() {
        return;
    }
    let message = if !matches!(spec.target, TargetSpec::To(_) | TargetSpec::Broken) {
        "is for routes that go to an origin"
    } else if spec.has_auth {
        "is for pages that anybody may see: this route demands a token (auth)"
    } else if spec.guard.signed.is_some() {
        "is for pages that anybody may see: this route demands a signature (signed)"
    } else if spec.guard.basic.is_some() {
        "is for pages that anybody may see: this route demands a password (basic)"
    } else if !spec.cache.enabled {
        "needs a route that stores: its cache is off"
    } else {
        return;
    };
    problems.add(format!("{path}.predict"), None, message);
}

pub(super) fn pages(spec: &RouteSpec, path: &str, problems: &Problems) {
    if let Some(index) = &spec.index
        && (index.is_empty()
            || index.contains(['/', '?', '#'])
            || format!("/{index}").parse::<PathAndQuery>().is_err())
    {
        problems.add(
            format!("{path}.index"),
            Some(format!("{index:?}")),
            "must be a file name as in \"index.html\"",
        );
    }
    let is_page = |page: &str| {
        page.starts_with('/') && !page.starts_with("//") && page.parse::<PathAndQuery>().is_ok()
    };
    if let Some(page) = &spec.fallback
        && !is_page(page)
    {
        problems.add(
            format!("{path}.fallback"),
            Some(format!("{page:?}")),
            "must be a path that starts with one \"/\"",
        );
    }
    for (status, page) in &spec.errors {
        let place = join(&format!("{path}.errors"), status.as_str());
        if !status.is_client_error() && !status.is_server_error() {
            problems.add(
                place.clone(),
                None,
                "must be the page of an error status (400 to 599)",
            );
        }
        if let Some(page) = page.path()
            && !is_page(page)
        {
            problems.add(
                place,
                Some(format!("{page:?}")),
                "must be a path that starts with one \"/\"",
            );
        }
    }
}
