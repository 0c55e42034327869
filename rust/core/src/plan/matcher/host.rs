//! Host patterns: a name, a name with everything below it, or any.

use std::{fmt, sync::Arc};

/// A compiled host pattern. Hosts compare without regard to case and without their port (RFC 9110 §4.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `www.example.com`, lower case.
    Exact(Arc<str>),
    /// `*.example.com`, kept as `.example.com`: subdomains of any depth, not the name itself.
    Below(Arc<str>),
    /// `*`
    Any,
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// An empty text; every host is written `*`.
    #[error("must not be empty; for every host leave it out or write \"*\"")]
    Empty,
    /// A port after the name.
    #[error("must have no port: a host matches every port")]
    Port,
    /// An address of IPv6 as it stands alone.
    #[error("must be in brackets, as an address of IPv6 is in URLs: \"[{0}]\"")]
    Bare(std::net::Ipv6Addr),
    /// A URL in place of a host.
    #[error("must have no scheme: write the host alone")]
    Scheme,
    /// A `*` inside a label or after the first one.
    #[error("may have \"*\" only as the whole or as the first label (\"*.example.com\")")]
    Star,
    /// An internationalised name that is not in the form of RFC 5890 §2.3.2.1.
    #[error("must be in its ASCII form (\"xn--…\")")]
    NotAscii,
    /// The begin of a regular expression, as locations of nginx have it.
    #[error(
        "begins a regular expression; a pattern is a path such as /static/*: * stands for any text, {{name}} for one segment"
    )]
    Expression,
    /// A character or length that no host name has (RFC 1123 §2.1).
    #[error(
        "is not a host name: labels of letters, digits, \"-\" and \"_\", at most 63 bytes each, 253 in all"
    )]
    NotAName,
}

impl HostPattern {
    /// Reads `www.example.com`, `*.example.com` or `*`, in any case.
    pub fn parse(source: &str) -> Result<Self, HostError> {
        if source == "*" {
            return Ok(Self::Any);
        }
        if source.is_empty() {
            return Err(HostError::Empty);
        }
        if source.contains("://") {
            return Err(HostError::Scheme);
        }
        if source.starts_with(['~', '^']) {
            return Err(HostError::Expression);
        }
        if !source.is_ascii() {
            return Err(HostError::NotAscii);
        }
        let lower = source.to_ascii_lowercase();
        if let Some(inside) = lower.strip_prefix('[') {
            let (address, after) = inside.split_once(']').ok_or(HostError::NotAName)?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| HostError::NotAName)?;
            return if after.is_empty() {
                Ok(Self::Exact(lower.into()))
            } else {
                Err(HostError::Port)
            };
        }
        if lower.contains(':') {
            return Err(lower.parse().map_or(HostError::Port, HostError::Bare));
        }
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let (below, name) = name
            .strip_prefix("*.")
            .map_or((false, name), |rest| (true, rest));
        if name.contains('*') {
            return Err(HostError::Star);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(HostError::NotAName);
        }
        Ok(if below {
            Self::Below(format!(".{name}").into())
        } else {
            Self::Exact(name.into())
        })
    }

    /// True if a host (without port) matches.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(suffix) => {
                host.len() > suffix.len()
                    && host
                        .as_bytes()
                        .get(host.len() - suffix.len()..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
            }
            Self::Any => true,
        }
    }

    /// True if every host that matches `other` matches this too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(_), Self::Exact(name)) => self.matches(name),
            (Self::Below(own), Self::Below(other)) => other.ends_with(&**own),
            (Self::Exact(own), Self::Exact(other)) => own == other,
            _ => false,
        }
    }

    /// True if some host matches both: two host patterns either nest or have nothing in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Larger is more specific: names, then longer suffixes before shorter, then any host.
    pub(super) fn specificity(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(suffix) => suffix.len(),
            Self::Any => 0,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// True if two lists of hosts share a host; an empty list is every host.
pub(crate) fn hosts_intersect(left: &[HostPattern], right: &[HostPattern]) -> bool {
    left.is_empty()
        || right.is_empty()
        || left
            .iter()
            .any(|own| right.iter().any(|other| own.intersects(other)))
}

/// True if the left list certainly has every host of the right one.
pub(crate) fn hosts_cover(left: &[HostPattern], right: &[HostPattern]) -> bool {
    let any = [HostPattern::Any];
    let right = if right.is_empty() { &any } else { right };
    left.is_empty()
        || right
            .iter()
            .all(|other| left.iter().any(|own| own.covers(other)))
}
