//! The plan: a site's whole policy as one immutable value.
//!
//! `spec` reads the JSON that Python sends, `compile` checks it and gives a `Plan` or every problem at once, `matcher`
//! finds the route of a request. The types here are the ones that the engine and the other rooms read; nothing in them
//! changes after compilation, so a plan is shared by pointer and swapped whole.

mod acme;
pub mod apart;
pub mod binding;
mod cache_policy;
mod callable;
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
mod origin;
mod origin_tls;
mod prefetch;
mod route;
pub(crate) mod spec;
pub mod table;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use crate::{problem::Problem, select::Select};
pub use acme::{AcmePolicy, ChallengeKind, ExternalAccount, Issuer, OnDemand};
pub use binding::Binding;
pub use cache_policy::{CachePolicy, SetCookiePolicy};
pub use callable::{Callable, FailMode};
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
pub use origin::{
    Balance, Group, HashBy, HealthCheck, MemberShare, Origin, OriginTimes, PoolBounds, UpstreamHost,
};
pub use origin_tls::{OriginTls, TlsVersion};
pub use prefetch::{Predict, Prefetch, PrefetchTarget};
pub use route::{
    Condition, ErrorPage, FixedResponse, ForwardPolicy, HeaderEdits, Hook, Hooks, Preflight,
    Redirect, Rewrite, Route, Subject, Target, Test, Unkeyed, ViewerPolicy,
};

use crate::{
    access_log::AccessLogPolicy,
    admit::Sanitiser,
    experiment::{ConfigSource, Experiment},
    geo::GeoPolicy,
    http::{FieldName, via::Via},
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
    /// Routes of requests that functions make by the name of an origin or group; their ids follow those of the others.
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
    /// The experiments of all routes, each once.
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
    /// others. The compiler sets that of a group whose requests are spread: by the slowest member.
    pub fn deadline(&self, group: &Group) -> Duration {
        let first = group.members.first().and_then(|id| self.origin(*id));
        group.deadline.unwrap_or_else(|| {
            first.map_or(OriginTimes::OTHERS, |origin| origin.times.with_others())
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
