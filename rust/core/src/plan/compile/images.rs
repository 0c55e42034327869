//! Routes that make variants of images: their sources, and bounds on the variants that anybody can have made.

use std::sync::Arc;

use ipnet::IpNet;

use super::DeclaredNames;
use crate::{
    guard::addresses::AddressSet,
    plan::{
        ForeignHost, ForeignHosts, ImageSources,
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

    Some(Arc::new(ImageSources {
        origins: origins.into(),
        foreign: foreign(&spec.hosts, &spec.networks, problems),
    }))
}

/// Compiles hosts of others, each with its path in the declaration.
pub(super) fn foreign(
    hosts: &[(String, String)],
    networks: &[IpNet],
    problems: &Problems,
) -> ForeignHosts {
    let hosts = hosts.iter().filter_map(|(place, text)| {
        let host = ForeignHost::parse(text);
        if let Err(message) = &host {
            problems.add(place, Some(format!("{text:?}")), message.clone());
        }
        host.ok()
    });
    ForeignHosts {
        hosts: hosts.collect(),
        networks: AddressSet::new(networks),
    }
}
