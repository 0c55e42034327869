//! Routes that make variants of images: their sources, and bounds on the variants that anybody can have made.

use std::{fmt, sync::Arc};

use super::DeclaredNames;
use crate::{
    guard::addresses::AddressSet,
    plan::{
        HostPattern, ImageHost, ImageSources, Scheme,
        spec::{ImageSourcesSpec, Problems, RouteSpec, TargetSpec},
    },
};

/// Reports images on a route that has none, and open ranges that no signature closes.
pub(super) fn images_fit(spec: &RouteSpec, path: &str, problems: &Problems) {
    let has_sources = matches!(spec.target, TargetSpec::Images(_));
    if spec.images.is_none() && !has_sources {
        return;
    }
    if !has_sources && !matches!(spec.target, TargetSpec::To(_) | TargetSpec::Broken) {
        problems.add(
            format!("{path}.images"),
            None,
            "is for routes that go to an origin, and for edge.images",
        );
    }
    if !spec.cache.enabled {
        problems.add(
            format!("{path}.images"),
            None,
            "needs a route that stores: its cache is off, and every request would encode an image again",
        );
    }
    if has_sources && !spec.experiments.is_empty() {
        problems.add(
            format!("{path}.experiments"),
            None,
            "has no effect on images that a URL names; declare it on the route of the images",
        );
    }
    let Some(policy) = &spec.images else {
        return;
    };
    for (name, open) in [
        ("widths", policy.widths.is_none()),
        ("heights", policy.heights.is_none()),
        ("qualities", policy.qualities.is_none()),
    ] {
        if open && spec.guard.signed.is_none() {
            problems.add(
                format!("{path}.images.{name}"),
                Some("null".to_owned()),
                "would let anybody have any number of variants made: list them, or have URLs signed (signed)",
            );
        }
    }
}

/// Compiles the places that images may come from.
pub(super) fn sources(
    spec: ImageSourcesSpec,
    path: &str,
    names: &mut DeclaredNames,
    problems: &Problems,
) -> Option<Arc<ImageSources>> {
    let at = |field: &str| format!("{path}.image_sources.{field}");
    if spec.origins.is_empty() && spec.hosts.is_empty() {
        problems.add(
            format!("{path}.image_sources"),
            None,
            "must name an origin or a host that images may come from",
        );
    }
    if spec.hosts.is_empty() && !spec.networks.is_empty() {
        problems.add(
            at("networks"),
            None,
            "has no effect without hosts: origins may be anywhere",
        );
    }
    let mut origins = Vec::new();
    for (place, name) in &spec.origins {
        if let Some(group) = names.group(name, place, problems)
            && let Some(group) = names.groups.get(group.0 as usize)
        {
            origins.extend(group.members.iter().copied());
        }
    }
    origins.sort_unstable();
    origins.dedup();

    let hosts = spec.hosts.iter().filter_map(|(place, text)| {
        let host = image_host(text);
        if let Err(message) = &host {
            problems.add(place, Some(format!("{text:?}")), message.clone());
        }
        host.ok()
    });
    Some(Arc::new(ImageSources {
        origins: origins.into(),
        hosts: hosts.collect(),
        networks: AddressSet::new(&spec.networks),
    }))
}

/// Reads `img.example.com`, `*.example.com`, `http://img.example.com:8080`.
fn image_host(text: &str) -> Result<ImageHost, String> {
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Https, text),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(_) => {
            return Err("must be a host, with https:// or http:// before it or none".to_owned());
        }
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (
                host,
                port.ok_or("must have a port from 1 to 65535, or none")?,
            )
        }
        _ => (rest, scheme.port()),
    };
    let pattern = HostPattern::parse(host).map_err(|error| error.to_string())?;
    if pattern == HostPattern::Any {
        return Err("would fetch from everywhere: name hosts, as in \"*.example.com\"".to_owned());
    }
    Ok(ImageHost {
        scheme,
        host: pattern,
        port,
    })
}

impl fmt::Display for ImageHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.port() {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}
