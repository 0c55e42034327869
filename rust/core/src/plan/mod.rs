//! The plan: a site's whole policy as one immutable value.
//!
//! `spec` reads the JSON that Python sends, `compile` checks it and gives a `Plan` or every problem at once, `matcher`
//! finds the route of a request. The types here are the ones that the engine and the other rooms read; nothing in them
//! changes after compilation, so a plan is shared by pointer and swapped whole.

mod acme;
pub mod apart;
pub mod binding;
mod cache_policy;
pub(crate) mod compile;
mod counted;
pub mod database_server;
pub mod dynamodb;
mod file_folder;
mod foreign;
mod guard;
mod images;
pub mod libsql_server;
pub mod limits;
pub mod lint;
mod listener;
pub mod matcher;
mod origin_tls;
mod route;
pub(crate) mod spec;
pub mod table;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::http::FieldName;
use crate::http::PathAndQuery;
use http::{HeaderValue, StatusCode};
use ipnet::IpNet;

pub use crate::{problem::Problem, select::Select};
pub use acme::{AcmePolicy, ChallengeKind, ExternalAccount, Issuer, OnDemand};
pub use binding::Binding;
pub use cache_policy::{CachePolicy, SetCookiePolicy};
pub use compile::compile;
pub use counted::{Conversion, CountedExperiment, REQUEST};
pub use file_folder::FileFolder;
pub use foreign::{ForeignHost, ForeignHosts};
pub use guard::{RouteGuard, SiteGuard};
pub use images::{ImagePolicy, ImageSources};
pub use limits::Limits;
pub use listener::{
    Certificate, ClientAuthentication, ClientFact, HttpProtocol, ListenAddress, Listener,
    ListenerId, ProxyRule, SecurityPolicy, TlsPolicy,
};
pub use matcher::{HostPattern, PathPattern, Router};
pub use origin_tls::{OriginTls, TlsVersion};
pub use route::{
    Condition, ErrorPage, FixedResponse, ForwardPolicy, HeaderEdits, Hook, Hooks, Preflight,
    Redirect, Rewrite, Route, Subject, Target, Test, Unkeyed, ViewerPolicy,
};

use crate::{
    access_log::AccessLogPolicy,
    admit::Sanitiser,
    experiment::{ConfigSource, Experiment},
    geo::GeoPolicy,
    http::{framing::head::HeadLimits, via::Via},
    trace::TracingPolicy,
};

/// Position of a route in [`Plan::routes`], in declaration order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);
/// Position of an origin in [`Plan::origins`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub u32);
/// Position of a group in [`Plan::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);
/// Position of a Python callable in [`Plan::callables`] and in the table that the Python side keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallableId(pub u32);

/// The beginning of the label of a route in [`Plan::direct`]; the name follows.
const DIRECT: &str = "origin ";

/// A compiled plan.
#[derive(Debug)]
pub struct Plan {
    /// The edge's name, also its distribution id.
    pub name: Arc<str>,
    /// Pseudonym in `Via` (RFC 9110 §7.6.3) and `Cache-Status` (RFC 9211 §2).
    pub via: Via,
    /// Bounds on what clients, origins and hooks can make grow; defaults where the declaration sets none.
    pub limits: Limits,
    /// Addresses for clients besides those that the process is started with; [`ListenerId`] is the position.
    pub listeners: Vec<Listener>,
    /// At least one TLS policy obtains its certificates, so that requests may be those of an issuer.
    pub answers_challenges: bool,
    /// The cache's second tier; `None`: memory only.
    pub disk_cache: Option<DiskCache>,
    /// Peers whose `X-Forwarded-*` fields are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Fields of `admit::NAMED` that they set, in lower case.
    pub trusted_proxy_fields: Vec<Box<str>>,
    /// Policies for every request.
    pub guard: SiteGuard,
    /// In declaration order; [`OriginId`] is the position.
    pub origins: Vec<Origin>,
    /// Declared groups, and after them one group of one for each origin that a route names directly.
    pub groups: Vec<Group>,
    /// Functions and hooks, in the order of the table that the Python side keeps.
    pub callables: Vec<Callable>,
    /// In declaration order; [`Plan::router`] has the order of precedence.
    pub routes: Vec<Route>,
    /// Those of requests that functions make by the name of an origin or group; their ids follow those of the others.
    pub direct: Vec<Route>,
    /// Finds the route of a request among [`Plan::routes`].
    pub router: Router,
    /// Request fields that only the edge may set: removed from every client request (docs/design.md §3, spoofing rule).
    /// Contains the names of all JWT `forward` maps and experiment headers besides the built-in list.
    pub edge_fields: Vec<FieldName>,
    /// Responses that set a cookie are marked for the site's service workers, which cannot see the cookie.
    pub marks_personal: bool,
    /// Lists of URLs that the edge requests itself; empty: none.
    pub prefetch: Vec<Prefetch>,
    /// Data that functions find on `ctx.env`.
    pub bindings: Vec<Binding>,
    /// The source of places of clients; `None`: none is looked up.
    pub geo: Option<Arc<GeoPolicy>>,
    /// At least one route predicts.
    pub predicts: bool,
    /// Those of all routes, each once.
    pub experiments: Vec<CountedExperiment>,
    /// Hosts that are no origins and that `ctx.fetch` may fetch from.
    pub fetch: ForeignHosts,
    /// The parts of a request that the access log shows.
    pub access_log: AccessLogPolicy,
    /// `None`: no request is traced.
    pub tracing: Option<TracingPolicy>,
    /// The newest tag of versions that were put beside others in this process; `None`: there was none.
    pub apart: Option<Arc<str>>,
    /// Hooks that no request meets: their position in the declaration, and their callable.
    pub idle_hooks: Vec<(usize, CallableId)>,
}

impl Plan {
    /// Route at a position; `None` for an id of another plan, such as one kept across a reload.
    pub fn route(&self, id: RouteId) -> Option<&Route> {
        let at = id.0 as usize;
        let direct = || self.direct.get(at.checked_sub(self.routes.len())?);
        self.routes.get(at).or_else(direct)
    }
    /// The route of requests that functions make by the name of an origin or group.
    pub fn direct(&self, name: &str) -> Option<&Route> {
        let mut routes = self.direct.iter();
        routes.find(|route| route.label.strip_prefix(DIRECT) == Some(name))
    }
    /// Group at a position; `None` for an id of another plan.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)
    }
    /// Origin at a position; `None` for an id of another plan.
    pub fn origin(&self, id: OriginId) -> Option<&Origin> {
        self.origins.get(id.0 as usize)
    }
    /// The experiments whose settings are read while the edge serves, each once, in the order of their readings.
    pub fn configured(&self) -> impl Iterator<Item = (&Experiment, &ConfigSource)> {
        let all = self.routes.iter().flat_map(|route| &route.experiments);
        let mut next = 0;
        all.filter_map(move |experiment| {
            let source = experiment.config.as_deref()?;
            let first = source.slot == next;
            next += usize::from(first);
            first.then_some((experiment, source))
        })
    }
    /// The rule for the fields of one client's request.
    pub fn sanitiser(&self, trusted_peer: bool) -> Sanitiser<'_> {
        Sanitiser {
            edge_fields: &self.edge_fields,
            proxy_fields: &self.trusted_proxy_fields,
            trusted_peer,
        }
    }

    /// The terms by which the TLS policies of all listeners obtain certificates.
    pub fn acme(&self) -> impl Iterator<Item = &AcmePolicy> {
        let policies = self.listeners.iter().flat_map(|listener| &listener.tls);
        policies.filter_map(|policy| policy.acme.as_ref())
    }

    /// True if at least one listener has TLS.
    pub fn serves_https(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| !listener.tls.is_empty())
    }

    /// The port of the first listener with TLS; `None` where there is none, or the system chooses it.
    pub fn https_port(&self) -> Option<u16> {
        let mut secured = self
            .listeners
            .iter()
            .filter(|listener| !listener.tls.is_empty());
        let port = secured.find_map(|listener| match &listener.address {
            ListenAddress::Tcp(address) => Some(address.port()),
            ListenAddress::Unix(_) => None,
        });
        port.filter(|port| *port != 0)
    }

    /// Callable at a position; `None` for an id of another plan.
    pub fn callable(&self, id: CallableId) -> Option<&Callable> {
        self.callables.get(id.0 as usize)
    }
    /// The time for all attempts at a group: its policy's, or its first member's time-outs plus some time for the
    /// others.
    pub fn deadline(&self, group: &Group) -> Duration {
        const OTHERS: Duration = Duration::from_secs(5);
        let first = group.members.first().and_then(|id| self.origin(*id));
        group.deadline.unwrap_or_else(|| {
            first.map_or(OTHERS, |origin| {
                origin
                    .connect_timeout
                    .saturating_add(origin.first_byte_timeout)
                    .saturating_add(OTHERS)
            })
        })
    }
}

/// The disk tier, whose responses survive a restart (`docs/storage.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    /// Directory of the files, locked while the edge runs.
    pub path: PathBuf,
    /// Bytes of all files together.
    pub size: u64,
    /// `None`: a 128th of the size.
    pub segment_bytes: Option<u64>,
    /// Bytes that may wait to be written.
    pub queue_bytes: u64,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text, port 80 by default (RFC 9110 §4.2.1).
    Http,
    /// Over TLS, port 443 by default (RFC 9110 §4.2.2).
    Https,
}

impl Scheme {
    /// The scheme in lower case, as in a URL and in `X-Forwarded-Proto`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// RFC 9110 §4.2.1, §4.2.2.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

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
    /// Time for a connection, name look-up and TLS handshake included, or for a place in a full pool; 2 s by default.
    pub connect_timeout: Duration,
    /// Time until the response begins, counted from the last piece of an upload that the origin took; 30 s by default.
    pub first_byte_timeout: Duration,
    /// How long content waits for the origin's 100.
    pub expect_timeout: Duration,
    /// Longest silence within a response's content; 30 s by default. Past it the response is cut off and not stored.
    pub between_bytes_timeout: Duration,
    /// Time for one attempt, content included; `None`: no bound.
    pub total_timeout: Option<Duration>,
    /// Bound of one worker's pool, at least 1; 256 by default. Past it requests wait up to `connect_timeout`.
    pub max_connections: usize,
    /// Idle connections that one worker keeps; 64 by default, 0: none is kept.
    pub idle_connections: usize,
    /// Time after which an idle connection is closed; 60 s by default.
    pub idle_timeout: Duration,
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

/// URLs that the edge requests itself, so that visitors find the responses stored.
#[derive(Debug, Clone)]
pub struct Prefetch {
    /// Absolute URLs, in declaration order.
    pub targets: Vec<PrefetchTarget>,
    /// Time between two rounds, a tenth more or less; `None`: no rounds but those of `on_start`.
    pub every: Option<Duration>,
    /// At the start and after a reload.
    pub on_start: bool,
    /// Request fields besides those that every such request has.
    pub headers: Vec<(FieldName, HeaderValue)>,
}

/// The extent to which a visitor's next pages are predicted and fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Predict {
    /// Least share of a page's visitors that went on to the next page.
    pub confidence: f64,
    /// Least number of those visitors.
    pub support: u32,
    /// Pages fetched for one navigation.
    pub pages: usize,
    /// Bound on predicted requests; 60 by default.
    pub requests_per_minute: u32,
    /// Bound on bytes of predicted responses; 10 MiB by default.
    pub bytes_per_minute: u64,
    /// Share of the visitors that the model learns from.
    pub sample: f64,
}

/// One URL as visitors request it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefetchTarget {
    /// Sent to the origin in `X-Forwarded-Proto`, and part of the key.
    pub scheme: Scheme,
    /// Value of `Host`, in lower case.
    pub authority: HeaderValue,
    /// The path is normalised as a visitor's is (RFC 3986 §6.2.2).
    pub path_and_query: PathAndQuery,
}

/// Origins in order of preference.
#[derive(Debug, Clone)]
pub struct Group {
    /// The declared name; for a group of one, the origin's.
    pub name: Arc<str>,
    /// The preferred one first; never empty.
    pub members: Vec<OriginId>,
    /// Response statuses after which the next member is tried. Empty for a single origin.
    pub failover_on: Vec<StatusCode>,
    /// The time for all attempts of one request until a response begins; `None`: see [`Plan::deadline`].
    pub deadline: Option<Duration>,
}

/// A Python function or hook as the Rust side knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// `module.qualname`, for metrics, logs and messages.
    pub name: Arc<str>,
    /// Runs on the worker's own thread, which it promises not to block; excludes `blocking` and `serial`.
    pub inline: bool,
    /// Accepted from older plans; plain callables run on threads anyway.
    pub blocking: bool,
    /// Runs on one thread, one at a time, together with all other serial callables.
    pub serial: bool,
    /// Time for one call, its time in the queue included; `limits.functions.timeout` by default.
    pub timeout: Duration,
    /// `Closed` by default.
    pub fail: FailMode,
    /// Of a function in front of which there is a cache: the names that select among its responses in place of what it
    /// reads, as [`Hook::varies`].
    pub varies: Option<Arc<[FieldName]>>,
}

/// The effect of a failed hook on its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// Continues as if the hook had returned nothing.
    Open,
    /// Answers 502 (raised) or 504 (too slow).
    Closed,
}
