//! Origins and groups.

use std::sync::Arc;

use http::{HeaderValue, uri::Authority};

use super::{index, origin_url::OriginUrl};
use crate::{
    http::framing::head::HeadLimits,
    origin::balance,
    plan::{
        Balance, Group, HostPattern, MemberShare, Origin, OriginId, OriginTls, Scheme, TlsVersion,
        UpstreamHost,
        limits::OriginLimits,
        spec::{GroupSpec, OriginSpec, Problems, nearest, suggestion},
    },
    problem::shown_url,
    secret::Secret,
};

/// Checks names: present, usable as labels, and unique among origins and groups together, since `to` may name either.
pub(super) fn names(origins: &[Arc<str>], groups: &[GroupSpec], problems: &Problems) {
    let mut seen: Vec<(&str, String)> = Vec::new();
    let all = origins
        .iter()
        .enumerate()
        .map(|(at, name)| (&**name, format!("origins[{at}]")))
        .chain(
            groups
                .iter()
                .enumerate()
                .map(|(at, group)| (group.name.as_str(), format!("groups[{at}]"))),
        );
    for (name, place) in all {
        if name.is_empty() {
            // The reader has reported an absent name, but not an empty one.
            let path = format!("{place}.name");
            if !problems.at(&path) {
                problems.add(path, None, "must not be empty");
            }
            continue;
        }
        if name.len() > 64
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        {
            problems.add(
                format!("{place}.name"),
                Some(format!("{name:?}")),
                "must be 1 to 64 letters, digits, \"-\", \".\" and \"_\"",
            );
        }
        match seen.iter().find(|(known, _)| *known == name) {
            Some((_, first)) => {
                problems.add(
                    format!("{place}.name"),
                    Some(format!("{name:?}")),
                    format!("is the name of {first} already"),
                );
            }
            None => seen.push((name, place)),
        }
    }
}

/// Compiles the groups.
pub(super) fn groups(
    specs: Vec<GroupSpec>,
    origins: &[Arc<str>],
    problems: &Problems,
) -> Vec<Group> {
    let names: Vec<Arc<str>> = specs.iter().map(|spec| spec.name.as_str().into()).collect();
    let numbered = specs.into_iter().enumerate();
    numbered
        .map(|(at, spec)| group(spec, &format!("groups[{at}]"), (origins, &names), problems))
        .collect()
}

fn group(
    spec: GroupSpec,
    path: &str,
    (origins, groups): (&[Arc<str>], &[Arc<str>]),
    problems: &Problems,
) -> Group {
    let mut members = Vec::with_capacity(spec.members.len());
    for (at, member) in spec.members.iter().enumerate() {
        let place = format!("{path}.members[{at}]");
        let Some(origin) = origins.iter().position(|origin| **origin == **member) else {
            problems.add(
                place,
                Some(format!("{member:?}")),
                no_origin(member, origins, groups),
            );
            continue;
        };
        let id = OriginId(index(origin));
        if members.contains(&id) {
            problems.add(place, Some(format!("{member:?}")), "is a member already");
        } else {
            members.push(id);
        }
    }
    Group {
        shares: shares(&spec, path, problems),
        name: spec.name.into(),
        members,
        balance: spec.balance,
        failover_on: spec.failover_on,
        deadline: spec.deadline,
    }
}

/// Why a text names no member of a group.
fn no_origin(member: &str, origins: &[Arc<str>], groups: &[Arc<str>]) -> String {
    let names: Vec<&str> = origins.iter().map(|name| &**name).collect();
    if groups.iter().any(|group| **group == *member) {
        "is a group; the members of a group are origins: name those of that group".to_owned()
    } else if member.contains("://") {
        "is a URL; declare its server as an origin, and name that".to_owned()
    } else {
        format!("is not an origin{}", suggestion(nearest(member, &names)))
    }
}

/// The shares of the members, and whether what is said about them fits.
fn shares(spec: &GroupSpec, path: &str, problems: &Problems) -> Vec<MemberShare> {
    if spec.has_by && !matches!(spec.balance, Balance::Hash(_)) {
        let message = "is the part of a request that is hashed, and needs balance \"hash\"";
        problems.add(format!("{path}.by"), None, message);
    }
    let members: Vec<&str> = spec.members.iter().map(String::as_str).collect();
    for (name, weight) in &spec.weights {
        if !members.contains(&name.as_str()) {
            problems.add(
                format!("{path}.weights.{name}"),
                Some(weight.to_string()),
                format!("is not a member{}", suggestion(nearest(name, &members))),
            );
        }
    }
    if !spec.balance.is_spread() {
        if !spec.weights.is_empty() {
            let message = "needs balance \"round_robin\", \"least_requests\" or \"hash\": in order the first member gets \
                           each request";
            problems.add(format!("{path}.weights"), None, message);
        }
        return Vec::new();
    }
    let share = |name: &&str| {
        let said = spec.weights.iter().find(|(member, _)| member == name);
        MemberShare {
            weight: said.map_or(1, |(_, weight)| *weight),
            seed: balance::seed(name),
        }
    };
    let shares: Vec<MemberShare> = members.iter().map(share).collect();
    if !shares.is_empty() && shares.iter().all(|share| share.weight == 0) {
        let message = "must leave a member with a weight above 0";
        problems.add(format!("{path}.weights"), None, message);
    }
    shares
}

/// Gives each group whose requests are spread the time that its slowest member needs, unless it has its own.
pub(super) fn deadlines(groups: &mut [Group], origins: &[Origin]) {
    for group in groups.iter_mut().filter(|group| group.balance.is_spread()) {
        let members = group.members.iter();
        let times = members.filter_map(|id| origins.get(id.0 as usize));
        let slowest = times.map(|origin| origin.times.with_others()).max();
        group.deadline = group.deadline.or(slowest);
    }
}

/// Compiles the origins; `None` stands for one that is reported.
pub(super) fn origins(
    specs: Vec<OriginSpec>,
    limits: &OriginLimits,
    problems: &Problems,
) -> Vec<Option<Origin>> {
    let numbered = specs.into_iter().enumerate();
    numbered
        .map(|(at, spec)| origin(spec, limits, &format!("origins[{at}]"), problems))
        .collect()
}

fn origin(
    spec: OriginSpec,
    limits: &OriginLimits,
    path: &str,
    problems: &Problems,
) -> Option<Origin> {
    let address = OriginUrl::read(&spec.url, &format!("{path}.url"), problems);
    let upstream_host = upstream_host(&spec.host, path, problems);
    let ca_pem = (spec.tls_ca.as_ref())
        .and_then(|secret| certificates(secret, &format!("{path}.tls_ca"), problems));
    if matches!(&address, Some(address) if address.scheme == Scheme::Http) {
        has_no_tls(&spec, path, problems);
    }
    server_name_fits(&spec, path, problems);
    let address = address?;
    Some(Origin {
        name: spec.name.into(),
        scheme: address.scheme,
        host: address.host,
        port: address.port,
        authority: address.authority,
        path_prefix: address.path_prefix,
        upstream_host: upstream_host?,
        times: spec.times,
        pool: spec.pool,
        retries: spec.retries,
        head_limits: HeadLimits {
            bytes: limits.head_bytes,
            fields: limits.head_fields,
        },
        event_idle: limits.event_idle_timeout,
        headers: spec.headers,
        health: spec.health,
        socket: address.socket,
        rewrite_urls: spec.rewrite_urls,
        tls: Arc::new(OriginTls {
            verify: spec.tls_verify,
            server_name: spec.tls_server_name.map(Into::into),
            ca_pem,
            client: spec.tls_certificate,
            versions: spec
                .tls_versions
                .unwrap_or_else(|| TlsVersion::ALL.to_vec()),
            pins: spec.tls_pins.unwrap_or_default(),
        }),
    })
}

/// The `Host` of requests to the origin.
fn upstream_host(given: &str, path: &str, problems: &Problems) -> Option<UpstreamHost> {
    match given {
        "origin" => return Some(UpstreamHost::Origin),
        "viewer" => return Some(UpstreamHost::Viewer),
        _ => {}
    }
    let authority = given.parse::<Authority>().ok();
    let value = authority
        .filter(|authority| !authority.as_str().contains('@'))
        .and_then(|_| HeaderValue::from_str(given).ok());
    if value.is_none() {
        problems.add(
            format!("{path}.host"),
            shown_url(given),
            "must be \"origin\", \"viewer\" or a host",
        );
    }
    value.map(UpstreamHost::Literal)
}

/// Reports settings of TLS for an origin that is reached without it.
fn has_no_tls(spec: &OriginSpec, path: &str, problems: &Problems) {
    let pins = spec.tls_pins.as_ref();
    let given = [
        ("tls_ca", spec.tls_ca.is_some()),
        ("tls_server_name", spec.tls_server_name.is_some()),
        ("tls_verify", !spec.tls_verify),
        ("tls_certificate", spec.tls_certificate.is_some()),
        ("tls_versions", spec.tls_versions.is_some()),
        ("tls_pins", pins.is_some_and(|pins| !pins.is_empty())),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        problems.add(
            format!("{path}.{name}"),
            None,
            "is for https origins, and this url is http",
        );
    }
}

fn server_name_fits(spec: &OriginSpec, path: &str, problems: &Problems) {
    if let Some(name) = &spec.tls_server_name
        && !matches!(HostPattern::parse(name), Ok(HostPattern::Exact(_)))
    {
        problems.add(
            format!("{path}.tls_server_name"),
            Some(format!("{name:?}")),
            "must be a host name",
        );
    }
}

fn certificates(secret: &Secret, path: &str, problems: &Problems) -> Option<Arc<str>> {
    match std::str::from_utf8(secret.as_bytes()) {
        Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Some(pem.into()),
        _ => {
            problems.add(
                path,
                None,
                "must be certificates in PEM (\"-----BEGIN CERTIFICATE-----\")",
            );
            None
        }
    }
}
