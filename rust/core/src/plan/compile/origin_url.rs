//! URLs of origins: `scheme://host[:port][/prefix]`, or a unix socket with an optional prefix.

use std::{borrow::Cow, net::Ipv6Addr, path::Path, sync::Arc};

use http::{
    HeaderValue,
    uri::{Authority, PathAndQuery},
};

use crate::{
    plan::{HostPattern, Scheme, spec::Problems},
    problem::shown_url,
};

/// The spellings of a unix socket: nginx's, without `http://` or with it, and Caddy's.
const SOCKETS: [&str; 3] = ["unix:/", "http://unix:/", "unix//"];

/// The longest path that fits an address of a socket (`sun_path`), without the terminating zero.
const MOST_SOCKET_PATH: usize = 107;

/// A requirement that a URL does not meet.
type Must = Cow<'static, str>;

/// The parts of a URL of an origin.
pub(super) struct OriginUrl {
    pub(super) scheme: Scheme,
    /// Without port; IPv6 without brackets. For a unix socket `unix:` and its path.
    pub(super) host: Arc<str>,
    /// 0 for a unix socket.
    pub(super) port: u16,
    /// Host, and port unless it is the scheme's default.
    pub(super) authority: HeaderValue,
    /// Empty, or begins with `/` and does not end in one.
    pub(super) path_prefix: Arc<str>,
    pub(super) socket: Option<Arc<Path>>,
}

impl OriginUrl {
    /// Reads a URL; adds a problem at `path` if it is none.
    pub(super) fn read(url: &str, path: &str, problems: &Problems) -> Option<Self> {
        if url.is_empty() {
            if !problems.at(path) {
                problems.add(path, None, "must not be empty");
            }
            return None;
        }
        Self::parse(url)
            .map_err(|must| problems.add(path, shown_url(url), must))
            .ok()
    }

    fn parse(url: &str) -> Result<Self, Must> {
        let is_socket = |start: &&&str| {
            let own = url.get(..start.len());
            own.is_some_and(|own| own.eq_ignore_ascii_case(start))
        };
        if let Some(start) = SOCKETS.iter().find(is_socket) {
            return socket(url.get(start.len() - 1..).unwrap_or_default());
        }
        let (scheme, rest) = scheme(url)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, prefix) = rest.split_at(end);
        if authority.contains('@') {
            return Err(
                "must have no user or password: give the origin an authorization header in headers"
                    .into(),
            );
        }
        if prefix.contains(['?', '#']) {
            return Err(
                "must have no query and no fragment; a path prefix may stand after the host".into(),
            );
        }
        let default = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            None => default,
            Some(text) => port_of(text)?,
        };
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && prefix.parse::<PathAndQuery>().is_err() {
            return Err("has a path prefix with characters that must be percent-encoded".into());
        }
        let host = host.to_ascii_lowercase();
        let bracketed = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        let authority = match port == default {
            true => bracketed,
            false => format!("{bracketed}:{port}"),
        };
        let valid = authority.parse::<Authority>().ok();
        let authority = valid.and_then(|valid| HeaderValue::from_str(valid.as_str()).ok());
        Ok(Self {
            scheme,
            host: host.into(),
            port,
            authority: authority.ok_or("has no valid host")?,
            path_prefix: prefix.into(),
            socket: None,
        })
    }
}

/// The scheme of a URL, and what follows its `://`.
fn scheme(url: &str) -> Result<(Scheme, &str), Must> {
    let after = |start: &str| {
        let own = url.get(..start.len())?;
        own.eq_ignore_ascii_case(start)
            .then(|| url.get(start.len()..))
            .flatten()
    };
    if let Some(rest) = after("http://") {
        return Ok((Scheme::Http, rest));
    }
    if let Some(rest) = after("https://") {
        return Ok((Scheme::Https, rest));
    }
    if url.contains("://") {
        return Err("must be http or https".into());
    }
    Err(match shown_url(url) {
        Some(_) => {
            let url = url.trim_start_matches('/');
            format!("must start with http:// or https://, as in \"http://{url}\"").into()
        }
        None => "must start with http:// or https://".into(),
    })
}

/// The host of an authority without its brackets, and the text after its `:`.
fn host_and_port(authority: &str) -> Result<(&str, Option<&str>), Must> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']').ok_or("has a \"[\" without \"]\"")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between \"[\" and \"]\"".into());
            }
            // Other text behind the bracket is refused as a port.
            let port = (!after.is_empty()).then(|| after.strip_prefix(':').unwrap_or("?"));
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(
                    "must have an IPv6 address in brackets, as in \"http://[::1]:8080\"".into(),
                );
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.contains(':') || matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_))) {
        return Ok((host, port));
    }
    Err(
        "must have a host name or address after the scheme; names outside ASCII in their xn-- form"
            .into(),
    )
}

fn port_of(text: &str) -> Result<u16, Must> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port > 0);
    port.ok_or("must have a port from 1 to 65535 after the host, or none".into())
}

/// Reads what follows `unix:`: `/run/app.sock[:/prefix]`.
fn socket(rest: &str) -> Result<OriginUrl, Must> {
    let (path, prefix) = rest.split_once(':').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if path.ends_with('/') || path.bytes().any(|byte| byte == 0) {
        return Err("must name a socket after unix:, as in \"unix:/run/app.sock\"".into());
    }
    if path.len() > MOST_SOCKET_PATH {
        return Err(
            "has a path of more than 107 bytes, which is the most that a socket can have".into(),
        );
    }
    let is_prefix = prefix.is_empty()
        || prefix.starts_with('/')
            && !prefix.contains(['?', '#'])
            && prefix.parse::<PathAndQuery>().is_ok();
    if !is_prefix {
        return Err("may have a path prefix after the socket and a \":\", as in \"unix:/run/app.sock:/prefix\"".into());
    }
    Ok(OriginUrl {
        scheme: Scheme::Http,
        host: format!("unix:{path}").into(),
        port: 0,
        // A socket has no host name: servers behind one expect this.
        authority: HeaderValue::from_static("localhost"),
        path_prefix: prefix.into(),
        socket: Some(Path::new(path).into()),
    })
}
