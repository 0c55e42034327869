//! Lists of URLs to prefetch: each is resolved to the request of a visitor, and must find a route that stores.

use http::{HeaderValue, Method, Uri};

use super::Problems;
use crate::{
    admit,
    http::{Fields, PathAndQuery, uri::normalise_path},
    plan::{
        HostPattern, Prefetch, PrefetchTarget, Route, Router, Scheme, Target,
        matcher::{Probe, ProbeQuery},
        spec::PrefetchSpec,
    },
    problem::shown_url,
};

/// URLs of all lists together.
const MOST_URLS: usize = 10_000;

pub(super) fn lists(
    specs: Vec<PrefetchSpec>,
    routes: &[Route],
    router: &Router,
    problems: &Problems,
) -> Vec<Prefetch> {
    let urls: usize = specs.iter().map(|spec| spec.urls.len()).sum();
    if urls > MOST_URLS {
        problems.add(
            "prefetch",
            Some(urls.to_string()),
            format!("must have at most {MOST_URLS} URLs in all"),
        );
        return Vec::new();
    }
    specs
        .into_iter()
        .enumerate()
        .map(|(at, spec)| list(spec, &format!("prefetch[{at}]"), routes, router, problems))
        .collect()
}

fn list(
    spec: PrefetchSpec,
    path: &str,
    routes: &[Route],
    router: &Router,
    problems: &Problems,
) -> Prefetch {
    if spec.every.is_none() && !spec.on_start {
        problems.add(
            format!("{path}.every"),
            None,
            "must be given where on_start is false: the list would never be fetched",
        );
    }
    let host = match &spec.host {
        Some(host) => exact(host, &format!("{path}.host"), problems),
        None => only_host(routes),
    };
    let headers: Fields = spec.headers.iter().cloned().collect();
    let mut targets = Vec::with_capacity(spec.urls.len());
    for (place, url) in &spec.urls {
        let target = match target(url, host.as_deref(), spec.scheme) {
            Ok(target) => target,
            Err(message) => {
                problems.add(place, shown_url(url), message);
                continue;
            }
        };
        if let Err(message) = finds(&target, &headers, routes, router) {
            problems.add(place, shown_url(url), message);
        }
        targets.push(target);
    }
    Prefetch {
        targets,
        every: spec.every,
        on_start: spec.on_start,
        headers: spec.headers,
    }
}

fn exact(host: &str, path: &str, problems: &Problems) -> Option<String> {
    let message = match HostPattern::parse(host) {
        Ok(HostPattern::Exact(host)) => return Some(host.to_string()),
        Ok(_) => "must be one host, without wildcards".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.add(path, Some(format!("{host:?}")), message);
    None
}

/// The only host that the routes name; `None` if they name several or none.
fn only_host(routes: &[Route]) -> Option<String> {
    let mut hosts = routes.iter().flat_map(|route| &route.hosts);
    let HostPattern::Exact(first) = hosts.next()? else {
        return None;
    };
    hosts
        .all(|host| matches!(host, HostPattern::Exact(other) if other == first))
        .then(|| first.to_string())
}

fn target(url: &str, host: Option<&str>, scheme: Scheme) -> Result<PrefetchTarget, String> {
    const FORM: &str = "must be a path that starts with \"/\", or a URL of http or https";
    let uri: Uri = url.parse().map_err(|_| FORM.to_owned())?;
    let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
        (None, None) if url.starts_with('/') => {
            let host = host.ok_or(
                "needs host: the routes name no single host that visitors ask for; give host=\"www.example.com\" or a whole URL",
            )?;
            (scheme, host.to_owned())
        }
        (Some("http"), Some(authority)) => (Scheme::Http, authority.to_string()),
        (Some("https"), Some(authority)) => (Scheme::Https, authority.to_string()),
        _ => return Err(FORM.to_owned()),
    };
    if authority.contains('@') {
        return Err("must hold no user name".to_owned());
    }
    let path = normalise_path(uri.path()).map_err(|_| FORM.to_owned())?;
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    Ok(PrefetchTarget {
        scheme,
        authority: HeaderValue::from_str(&authority.to_ascii_lowercase())
            .map_err(|_| FORM.to_owned())?,
        path_and_query: PathAndQuery::try_from(target).map_err(|_| FORM.to_owned())?,
    })
}

/// Checks that the response could be stored at all.
fn finds(
    target: &PrefetchTarget,
    headers: &Fields,
    routes: &[Route],
    router: &Router,
) -> Result<(), String> {
    let host = target.authority.to_str().unwrap_or_default();
    let probe = Probe {
        host: host
            .get(..admit::host_length(target.authority.as_bytes()))
            .unwrap_or(host),
        path: target.path_and_query.path(),
        query: ProbeQuery::Of(&target.path_and_query),
        method: &Method::GET,
        headers,
        place: None,
    };
    let found = router.find(routes, &probe);
    let Some(route) = found.and_then(|id| routes.get(id.0 as usize)) else {
        return Err(format!("is answered by no route under the host {host}"));
    };
    if !matches!(route.target, Target::Group(_)) || !route.cache.enabled {
        return Err(format!(
            "is answered by the route {}, which stores nothing",
            route.label
        ));
    }
    Ok(())
}
