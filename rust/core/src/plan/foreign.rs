//! Hosts that are no origins and that the edge may fetch from: for images, and for `ctx.fetch`.

use std::{fmt, net::Ipv6Addr};

use crate::guard::addresses::AddressSet;

use super::{HostPattern, Scheme, matcher::HostError};

/// Hosts of others, and the networks in which they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignHosts {
    /// Their names, or patterns of names.
    pub hosts: Box<[ForeignHost]>,
    /// Private networks in which those hosts may be.
    pub networks: AddressSet,
}

impl ForeignHosts {
    /// True if a request to that place may be made. An address of IPv6 is without brackets.
    pub fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        (self.hosts.iter()).any(|source| source.matches(scheme, host, port))
    }
}

/// A host of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignHost {
    /// `https` unless the declaration says `http`.
    pub scheme: Scheme,
    /// Its name, or a pattern of names.
    pub host: HostPattern,
    /// Its port.
    pub port: u16,
}

impl ForeignHost {
    /// Reads `img.example.com`, `*.example.com`, `http://img.example.com:8080`, `[2001:db8::1]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Https, text),
            // A scheme has no case (RFC 3986 §3.1).
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some(_) => {
                return Err("must be a host, with https:// or http:// before it or none".to_owned());
            }
        };
        if let Ok(address) = rest.parse() {
            return Err(HostError::Bare(address).to_string());
        }
        if rest.is_empty() {
            return Err("must name a host".to_owned());
        }
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
            return Err(
                "would fetch from everywhere: name hosts, as in \"*.example.com\"".to_owned(),
            );
        }
        Ok(Self {
            scheme,
            host: pattern,
            port,
        })
    }

    fn matches(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        let fits = self.scheme == scheme && self.port == port;
        match host.parse::<Ipv6Addr>() {
            Ok(address) => fits && self.address() == Some(address),
            Err(_) => fits && self.host.matches(host),
        }
    }

    /// The address that the declaration has in brackets. Each has many spellings (RFC 5952).
    fn address(&self) -> Option<Ipv6Addr> {
        let HostPattern::Exact(name) = &self.host else {
            return None;
        };
        name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
    }
}

impl fmt::Display for ForeignHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.port() {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}
