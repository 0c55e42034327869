//! Origins and groups.

use std::{path::Path, sync::Arc};

use http::{HeaderValue, uri::Authority};

use super::index;
use crate::http::framing::head::HeadLimits;
use crate::plan::{
    Group, Origin, OriginId, OriginTls, Scheme, TlsVersion, UpstreamHost,
    limits::OriginLimits,
    spec::{GroupSpec, OriginSpec, Problems, nearest, suggestion},
};
use crate::problem::shown_url;
use crate::secret::Secret;

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

pub(super) fn group(
    spec: GroupSpec,
    path: &str,
    origins: &[Arc<str>],
    problems: &Problems,
) -> Group {
    let mut members = Vec::with_capacity(spec.members.len());
    for (at, member) in spec.members.iter().enumerate() {
        let place = format!("{path}.members[{at}]");
        let Some(origin) = origins.iter().position(|origin| **origin == **member) else {
            let names: Vec<&str> = origins.iter().map(|name| &**name).collect();
            problems.add(
                place,
                Some(format!("{member:?}")),
                format!("is not an origin{}", suggestion(nearest(member, &names))),
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
        name: spec.name.into(),
        members,
        failover_on: spec.failover_on,
        deadline: spec.deadline,
    }
}

pub(super) fn origin(
    spec: OriginSpec,
    limits: &OriginLimits,
    path: &str,
    problems: &Problems,
) -> Option<Origin> {
    let address = address(&spec.url, &format!("{path}.url"), problems);
    let upstream_host = match spec.host.as_str() {
        "origin" => Some(UpstreamHost::Origin),
        "viewer" => Some(UpstreamHost::Viewer),
        literal => {
            let value = literal
                .parse::<Authority>()
                .ok()
                .filter(|authority| !authority.as_str().contains('@'));
            let value = value.and_then(|_| HeaderValue::from_str(literal).ok());
            if value.is_none() {
                problems.add(
                    format!("{path}.host"),
                    shown_url(literal),
                    "must be \"origin\", \"viewer\" or a host",
                );
            }
            value.map(UpstreamHost::Literal)
        }
    };
    let ca_pem = match &spec.tls_ca {
        None => None,
        Some(secret) => certificates(secret, &format!("{path}.tls_ca"), problems),
    };
    if address
        .as_ref()
        .is_some_and(|address| address.scheme == Scheme::Http)
    {
        let given = [
            ("tls_ca", spec.tls_ca.is_some()),
            ("tls_server_name", spec.tls_server_name.is_some()),
            ("tls_verify", !spec.tls_verify),
            ("tls_certificate", spec.tls_certificate.is_some()),
            ("tls_versions", spec.tls_versions.is_some()),
            (
                "tls_pins",
                spec.tls_pins.as_ref().is_some_and(|pins| !pins.is_empty()),
            ),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            problems.add(
                format!("{path}.{name}"),
                None,
                "is for https origins, and this url is http",
            );
        }
    }
    if let Some(name) = &spec.tls_server_name
        && !matches!(
            crate::plan::HostPattern::parse(name),
            Ok(crate::plan::HostPattern::Exact(_))
        )
    {
        problems.add(
            format!("{path}.tls_server_name"),
            Some(format!("{name:?}")),
            "must be a host name",
        );
    }
    let address = address?;
    Some(Origin {
        name: spec.name.into(),
        scheme: address.scheme,
        host: address.host,
        port: address.port,
        authority: address.authority,
        path_prefix: address.path_prefix,
        upstream_host: upstream_host?,
        connect_timeout: spec.connect_timeout,
        first_byte_timeout: spec.first_byte_timeout,
        expect_timeout: spec.expect_timeout,
        between_bytes_timeout: spec.between_bytes_timeout,
        total_timeout: spec.total_timeout,
        max_connections: spec.max_connections,
        idle_connections: spec.idle_connections,
        idle_timeout: spec.idle_timeout,
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

struct Address {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    authority: HeaderValue,
    path_prefix: Arc<str>,
    socket: Option<Arc<Path>>,
}

/// The spellings of a unix socket: nginx's, without `http://` or with it, and Caddy's.
const SOCKETS: [&str; 3] = ["unix:/", "http://unix:/", "unix//"];

/// The longest path that fits an address of a socket (`sun_path`), without the terminating zero.
const MOST_SOCKET_PATH: usize = 107;

/// Reads `unix:/run/app.sock[:/prefix]`; `None`: the URL is not a socket.
fn socket(url: &str) -> Option<Result<Address, &'static str>> {
    let start = SOCKETS.iter().find(|start| {
        url.get(..start.len())
            .is_some_and(|own| own.eq_ignore_ascii_case(start))
    })?;
    let rest = url.get(start.len() - 1..)?;
    let (path, prefix) = match rest.split_once(':') {
        Some((path, prefix)) => (path, prefix),
        None => (rest, ""),
    };
    let prefix = prefix.trim_end_matches('/');
    if path.ends_with('/') || path.bytes().any(|byte| byte == 0) {
        return Some(Err(
            "must name a socket after unix:, as in \"unix:/run/app.sock\"",
        ));
    }
    if path.len() > MOST_SOCKET_PATH {
        return Some(Err(
            "has a path of more than 107 bytes, which is the most that a socket can have",
        ));
    }
    if !prefix.is_empty()
        && (!prefix.starts_with('/')
            || prefix.contains(['?', '#'])
            || prefix.parse::<http::uri::PathAndQuery>().is_err())
    {
        return Some(Err(
            "may have a path prefix after the socket and a \":\", as in \"unix:/run/app.sock:/prefix\"",
        ));
    }
    Some(Ok(Address {
        scheme: Scheme::Http,
        host: format!("unix:{path}").into(),
        port: 0,
        // A socket has no host name: servers behind one expect this.
        authority: HeaderValue::from_static("localhost"),
        path_prefix: prefix.into(),
        socket: Some(Path::new(path).into()),
    }))
}

/// Reads `scheme://host[:port][/prefix]`.
fn address(url: &str, path: &str, problems: &Problems) -> Option<Address> {
    if url.is_empty() {
        if !problems.at(path) {
            problems.add(path, None, "must not be empty");
        }
        return None;
    }
    let wrong = |value: Option<String>, message: &str| {
        problems.add(path, value, message);
        None
    };
    let shown = shown_url(url);
    match socket(url) {
        None => {}
        Some(Ok(address)) => return Some(address),
        Some(Err(message)) => return wrong(shown, message),
    }
    let lower = url.to_ascii_lowercase();
    let (scheme, rest) = if lower.starts_with("http://") {
        (Scheme::Http, url.get(7..).unwrap_or_default())
    } else if lower.starts_with("https://") {
        (Scheme::Https, url.get(8..).unwrap_or_default())
    } else if url.contains("://") {
        return wrong(shown, "must be http or https");
    } else {
        // The example has the whole value.
        let example = match &shown {
            Some(_) => format!(", as in \"http://{}\"", url.trim_start_matches('/')),
            None => String::new(),
        };
        return wrong(
            shown,
            &format!("must start with http:// or https://{example}"),
        );
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, prefix) = rest.split_at(end);
    if authority.contains('@') {
        return wrong(
            shown,
            "must have no user or password: give the origin an authorization header in headers",
        );
    }
    if prefix.contains(['?', '#']) {
        return wrong(
            shown,
            "must have no query and no fragment; a path prefix may stand after the host",
        );
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let Some((host, after)) = inside.split_once(']') else {
                return wrong(shown, "has a \"[\" without \"]\"");
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return wrong(shown, "has no IPv6 address between \"[\" and \"]\"");
            }
            (
                host,
                after
                    .strip_prefix(':')
                    .or(if after.is_empty() { None } else { Some("?") }),
            )
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return wrong(
                    shown,
                    "must have an IPv6 address in brackets, as in \"http://[::1]:8080\"",
                );
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = host.contains(':')
        || matches!(
            crate::plan::HostPattern::parse(host),
            Ok(crate::plan::HostPattern::Exact(_))
        );
    if !is_name {
        return wrong(
            shown,
            "must have a host name or address after the scheme; names outside ASCII in their xn-- form",
        );
    }
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let port = match port {
        None => default,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => {
                return wrong(
                    shown,
                    "must have a port from 1 to 65535 after the host, or none",
                );
            }
        },
    };
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && prefix.parse::<http::uri::PathAndQuery>().is_err() {
        return wrong(
            shown,
            "has a path prefix with characters that must be percent-encoded",
        );
    }
    let host = host.to_ascii_lowercase();
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let authority = if port == default {
        bracketed
    } else {
        format!("{bracketed}:{port}")
    };
    let valid = authority.parse::<Authority>().ok();
    match valid.and_then(|valid| HeaderValue::from_str(valid.as_str()).ok()) {
        Some(authority) => Some(Address {
            scheme,
            host: host.into(),
            port,
            authority,
            path_prefix: prefix.into(),
            socket: None,
        }),
        None => wrong(shown, "has no valid host"),
    }
}
