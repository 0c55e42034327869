//! Origins of a plan, how their health is probed, and the groups in which they stand in for one another or share the
//! requests.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

use super::{OriginId, OriginTls, Scheme};
use crate::http::{FieldName, framing::head::HeadLimits};

/// The `Host` field of a request to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The origin's own host and port.
    Origin,
    /// The host that the viewer requested.
    Viewer,
    /// A fixed host, with a port if the declaration has one.
    Literal(HeaderValue),
}

/// A server that the edge requests responses from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The declared name: the label of its metrics and in logs.
    pub name: Arc<str>,
    /// `http` for a unix socket.
    pub scheme: Scheme,
    /// Host without port; IPv6 without brackets. For a unix socket `unix:` and its path.
    pub host: Arc<str>,
    /// 0 for a unix socket.
    pub port: u16,
    /// The path of its unix socket, if it has one.
    pub socket: Option<Arc<Path>>,
    /// The value of `Host` for [`UpstreamHost::Origin`]: host, and port unless it is the scheme's default.
    pub authority: HeaderValue,
    /// Prepended to every path; empty, or begins with `/` and does not end in one.
    pub path_prefix: Arc<str>,
    /// Declared as `host`; the origin's own by default.
    pub upstream_host: UpstreamHost,
    /// How long requests wait for it.
    pub times: OriginTimes,
    /// The bounds of its connections.
    pub pool: PoolBounds,
    /// Repetitions on a new connection after one failed before anything was sent; at most 10, 1 by default.
    pub retries: u8,
    /// The plan's limits on the head of a response.
    pub head_limits: HeadLimits,
    /// The plan's bound on the silence of an event stream.
    pub event_idle: Duration,
    /// Fields set on every request to it, over the client's; a value from a secret is marked sensitive.
    pub headers: Vec<(FieldName, HeaderValue)>,
    /// `None`: only requests decide whether it is healthy.
    pub health: Option<HealthCheck>,
    /// Without effect for `http`.
    pub tls: Arc<OriginTls>,
    /// The origin's own URLs in its responses become the viewer's.
    pub rewrite_urls: bool,
}

/// How long a request waits for an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginTimes {
    /// Time for a connection, name look-up and TLS handshake included, or for a place in a full pool; 2 s by default.
    pub connect: Duration,
    /// Time until the response begins, counted from the last piece of an upload that the origin took; 30 s by default.
    pub first_byte: Duration,
    /// How long content waits for the origin's 100.
    pub expect: Duration,
    /// Longest silence within a response's content; 30 s by default. Past it the response is cut off and not stored.
    pub between_bytes: Duration,
    /// Time for one attempt, content included; `None`: no bound.
    pub total: Option<Duration>,
}

impl OriginTimes {
    /// Time for the other members of a group after the first.
    pub const OTHERS: Duration = Duration::from_secs(5);

    /// The time until a response begins, and that for the others.
    pub fn with_others(&self) -> Duration {
        self.connect
            .saturating_add(self.first_byte)
            .saturating_add(Self::OTHERS)
    }
}

/// Bounds of the connections that one worker has to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolBounds {
    /// Connections in all, at least 1; 256 by default. Past it requests wait up to [`OriginTimes::connect`].
    pub most: usize,
    /// Idle connections that are kept; 64 by default, 0: none is kept.
    pub idle: usize,
    /// Time after which an idle connection is closed; 60 s by default.
    pub idle_timeout: Duration,
}

/// An active probe.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// Requested with GET; begins with `/`.
    pub path: Arc<str>,
    /// Time between two probes; 10 s by default.
    pub interval: Duration,
    /// Time for one probe; 2 s by default. Past it the probe has failed.
    pub timeout: Duration,
    /// Consecutive successes that make the origin healthy, 1 to 1,000; 2 by default.
    pub healthy_after: u32,
    /// Consecutive failures that make the origin unhealthy, 1 to 1,000; 3 by default.
    pub unhealthy_after: u32,
    /// Statuses that count as success, never empty; 200 by default.
    pub status: Vec<StatusCode>,
}

/// The part of a request whose values lead to one member each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// Host, path and query, as the cache's key has them.
    Url,
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Address,
    /// The first value of a field; by turns where there is none.
    Header(FieldName),
    /// The first value of a cookie; by turns where there is none.
    Cookie(Box<str>),
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("url"),
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// How the requests of a group are spread over its members (docs/routing.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The first member gets each request; the others stand in for it.
    Order,
    /// Each in its turn.
    RoundRobin,
    /// The one with the fewest requests of the worker under way.
    LeastRequests,
    /// By the hash of a part of the request.
    Hash(HashBy),
}

impl Balance {
    /// True if more than the first member gets requests while all are healthy.
    pub fn is_spread(&self) -> bool {
        *self != Self::Order
    }
}

/// The share of a member in the requests of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberShare {
    /// 1 by default; 0: requested only where no other member is healthy, or has a response.
    pub weight: u32,
    /// See [`seed`](crate::origin::balance::seed).
    pub seed: u64,
}

/// Origins that stand in for one another.
#[derive(Debug, Clone)]
pub struct Group {
    /// The declared name; for a group of one, the origin's.
    pub name: Arc<str>,
    /// In declaration order, which is that of preference for [`Balance::Order`]; never empty.
    pub members: Vec<OriginId>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// One for each member; empty for [`Balance::Order`].
    pub shares: Vec<MemberShare>,
    /// Response statuses after which the next member is tried. Empty for a single origin.
    pub failover_on: Vec<StatusCode>,
    /// The time for all attempts of one request until a response begins; `None`: see
    /// [`Plan::deadline`](super::Plan::deadline).
    pub deadline: Option<Duration>,
}
