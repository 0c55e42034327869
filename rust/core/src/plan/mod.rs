//! The plan: a site's whole policy as one immutable value.
//!
//! `spec` reads the JSON that Python sends, `compile` checks it and gives a `Plan` or every problem at once, `matcher`
//! finds the route of a request. The types here are the ones that the engine and the other rooms read; nothing in them
//! changes after compilation, so a plan is shared by pointer and swapped whole.

pub mod compile;
pub mod limits;
pub mod lint;
pub mod matcher;
pub mod spec;
pub mod table;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use ipnet::IpNet;

pub use crate::{problem::Problem, select::Select};
pub use compile::compile;
pub use limits::Limits;
pub use matcher::{HostPattern, PathPattern, Router};

use crate::{
    access_log::AccessLogPolicy,
    admit::Sanitiser,
    cache::{fill::Fill, vary::Reduced},
    experiment::Experiment,
    http::{framing::head::HeadLimits, via::Via},
    identity::jwt::JwtPolicy,
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

/// A compiled plan.
#[derive(Debug)]
pub struct Plan {
    /// The edge's name, also its distribution id.
    pub name: Arc<str>,
    /// Pseudonym in `Via` (RFC 9110 §7.6.3) and `Cache-Status` (RFC 9211 §2).
    pub via: Via,
    pub limits: Limits,
    /// The cache's second tier; `None`: memory only.
    pub disk_cache: Option<DiskCache>,
    /// Peers whose `X-Forwarded-*` fields are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Fields of `admit::NAMED` that they set, in lower case.
    pub trusted_proxy_fields: Vec<Box<str>>,
    pub origins: Vec<Origin>,
    /// Declared groups, and after them one group of one for each origin that a route names directly.
    pub groups: Vec<Group>,
    pub callables: Vec<Callable>,
    pub routes: Vec<Route>,
    pub router: Router,
    /// Request fields that only the edge may set: removed from every client request (docs/design.md §3, spoofing rule).
    /// Contains the names of all JWT `forward` maps and experiment headers besides the built-in list.
    pub edge_fields: Vec<HeaderName>,
    /// Responses that set a cookie are marked for the site's service workers, which cannot see the cookie.
    pub marks_personal: bool,
    pub prefetch: Vec<Prefetch>,
    /// At least one route predicts.
    pub predicts: bool,
    pub access_log: AccessLogPolicy,
    /// Hooks that no request meets: their position in the declaration, and their callable.
    pub idle_hooks: Vec<(usize, CallableId)>,
}

impl Plan {
    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.0 as usize)
    }
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)
    }
    pub fn origin(&self, id: OriginId) -> Option<&Origin> {
        self.origins.get(id.0 as usize)
    }
    /// The rule for the fields of one client's request.
    pub fn sanitiser(&self, trusted_peer: bool) -> Sanitiser<'_> {
        Sanitiser {
            edge_fields: &self.edge_fields,
            proxy_fields: &self.trusted_proxy_fields,
            trusted_peer,
        }
    }

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
    Http,
    Https,
}

impl Scheme {
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
    Literal(HeaderValue),
}

/// A server that the edge requests responses from.
#[derive(Debug, Clone)]
pub struct Origin {
    pub name: Arc<str>,
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
    pub upstream_host: UpstreamHost,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    /// How long content waits for the origin's 100.
    pub expect_timeout: Duration,
    pub between_bytes_timeout: Duration,
    pub total_timeout: Option<Duration>,
    pub max_connections: usize,
    pub idle_connections: usize,
    pub idle_timeout: Duration,
    pub retries: u8,
    /// The plan's limits on the head of a response.
    pub head_limits: HeadLimits,
    /// The plan's bound on the silence of an event stream.
    pub event_idle: Duration,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub health: Option<HealthCheck>,
    pub tls: OriginTls,
    /// The origin's own URLs in its responses become the viewer's.
    pub rewrite_urls: bool,
}

/// How an `https` origin is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    pub verify: bool,
    pub server_name: Option<Arc<str>>,
    /// PEM certificates that replace the system's roots.
    pub ca_pem: Option<Arc<str>>,
}

/// An active probe.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    pub path: Arc<str>,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    pub status: Vec<StatusCode>,
}

/// URLs that the edge requests itself, so that visitors find the responses stored.
#[derive(Debug, Clone)]
pub struct Prefetch {
    pub targets: Vec<PrefetchTarget>,
    pub every: Option<Duration>,
    /// At the start and after a reload.
    pub on_start: bool,
    /// Request fields besides those that every such request has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
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
    pub requests_per_minute: u32,
    pub bytes_per_minute: u64,
    /// Share of the visitors that the model learns from.
    pub sample: f64,
}

/// One URL as visitors request it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefetchTarget {
    pub scheme: Scheme,
    pub authority: HeaderValue,
    pub path_and_query: PathAndQuery,
}

/// Origins in order of preference.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: Arc<str>,
    pub members: Vec<OriginId>,
    /// Response statuses after which the next member is tried. Empty for a single origin.
    pub failover_on: Vec<StatusCode>,
    /// The time for all attempts of one request until a response begins; `None`: see [`Plan::deadline`].
    pub deadline: Option<Duration>,
}

/// A Python function or hook as the Rust side knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    pub name: Arc<str>,
    pub inline: bool,
    /// Accepted from older plans; plain callables run on threads anyway.
    pub blocking: bool,
    /// Runs on one thread, one at a time, together with all other serial callables.
    pub serial: bool,
    pub timeout: Duration,
    pub fail: FailMode,
}

/// The effect of a failed hook on its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// Continues as if the hook had returned nothing.
    Open,
    /// Answers 502 (raised) or 504 (too slow).
    Closed,
}

/// A hook that may run on a route: it runs if `pattern` and `host` match the request.
#[derive(Debug, Clone)]
pub struct Hook {
    pub call: CallableId,
    pub pattern: PathPattern,
    pub host: Option<HostPattern>,
    /// Every request of the route matches: the pattern need not be tried.
    pub always: bool,
    /// The selecting names that the declaration gives in place of the hook's observed reads; cookies as
    /// [`crate::cache::vary::cookie`] names them.
    pub varies: Option<Arc<[HeaderName]>>,
}

impl Hook {
    /// True if it runs for a request of its route. `path`: as the viewer requested it.
    pub fn runs(&self, host: &str, path: &str) -> bool {
        self.host.as_ref().is_none_or(|own| own.matches(host))
            && (self.always || self.pattern.matches(path))
    }
}

/// The hooks of a route by phase, in declaration order.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    pub viewer_request: Vec<Hook>,
    pub origin_request: Vec<Hook>,
    pub origin_response: Vec<Hook>,
    pub viewer_response: Vec<Hook>,
}

impl Hooks {
    pub fn is_empty(&self) -> bool {
        self.viewer_request.is_empty()
            && self.origin_request.is_empty()
            && self.origin_response.is_empty()
            && self.viewer_response.is_empty()
    }
}

/// One line of the route table.
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    /// The pattern as declared, host included: the route's label in metrics, logs and `explain`.
    pub label: Arc<str>,
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty: every method.
    pub methods: Vec<Method>,
    pub when: Vec<Condition>,
    pub priority: i32,
    pub target: Target,
    pub viewer: ViewerPolicy,
    pub index: Option<Arc<str>>,
    pub fallback: Option<Arc<str>>,
    pub strip_prefix: Option<Arc<str>>,
    pub add_prefix: Option<Arc<str>>,
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub forward: ForwardPolicy,
    pub cache: CachePolicy,
    /// Part of the cache key if another route could store its own response under the same URL: after a rewrite, under a
    /// condition, for a page in place of another. `None` if the URL is enough.
    pub key_tag: Option<Arc<str>>,
    pub auth: Option<Arc<JwtPolicy>>,
    pub preflight: Preflight,
    pub experiments: Vec<Experiment>,
    pub hooks: Hooks,
    pub errors: Vec<(StatusCode, ErrorPage)>,
    pub compress: bool,
    pub predict: Option<Predict>,
}

/// The source of a route's responses.
#[derive(Debug, Clone)]
pub enum Target {
    Group(GroupId),
    Function(CallableId),
    Redirect(Redirect),
    Respond(FixedResponse),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// May contain `{name}` parameters of the route's pattern.
    pub location: Arc<str>,
    pub status: StatusCode,
    /// Append the request's query.
    pub query: bool,
}

#[derive(Debug, Clone)]
pub struct FixedResponse {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: bytes::Bytes,
}

/// The page that replaces a response of an error status.
#[derive(Debug, Clone)]
pub enum ErrorPage {
    /// Served by the route of this path.
    Path(Arc<str>),
    /// Fixed, independent of origins.
    Fixed(FixedResponse),
}

impl ErrorPage {
    pub fn path(&self) -> Option<&Arc<str>> {
        match self {
            Self::Path(path) => Some(path),
            Self::Fixed(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Rewrite {
    pub pattern: PathPattern,
    pub to: Arc<str>,
}

/// A condition on the request besides host, path and method.
#[derive(Debug, Clone)]
pub struct Condition {
    pub subject: Subject,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Header(HeaderName),
    Cookie(Arc<str>),
    Query(Arc<str>),
}

#[derive(Debug, Clone)]
pub enum Test {
    Present(bool),
    Equals(Arc<str>),
    Matches(PathPattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerPolicy {
    AllowAll,
    HttpsOnly,
    RedirectToHttps,
}

/// How a CORS preflight, which never has a token (Fetch §4.8), is treated on a route that requires one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preflight {
    /// Like any request without a token: it is refused.
    #[default]
    Token,
    /// It goes to the origin, anonymously.
    Origin,
}

/// Edits of a header section: `remove`, then `set`, then `add`.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Every field that they remove, set or add.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let given = self.set.iter().chain(&self.add);
        self.remove.iter().chain(given.map(|(name, _)| name))
    }
}

/// The parts of a request that go upstream, resolved: `auto` is replaced at compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardPolicy {
    pub query: Select,
    pub headers: Select,
    pub cookies: Select,
    pub unkeyed: Unkeyed,
    /// The policy forwards something that is neither in the key nor selected by `Vary` nor `unkeyed`: requests that
    /// carry such a thing pass the cache.
    pub strays: bool,
}

/// Parts that go upstream and are declared not to select responses. Names of query parameters and cookies may end in
/// `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unkeyed {
    pub fields: Vec<HeaderName>,
    pub query: Vec<Arc<str>>,
    pub cookies: Vec<Arc<str>>,
    pub claims: Vec<Arc<str>>,
}

/// How responses are stored and reused, resolved. Durations in whole seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePolicy {
    pub enabled: bool,
    pub ttl: Option<u32>,
    pub default_ttl: Option<u32>,
    pub min_ttl: u32,
    pub max_ttl: Option<u32>,
    pub heuristics: bool,
    pub stale_while_revalidate: Option<u32>,
    pub stale_if_error: Option<u32>,
    /// How long a stale response is served at once and refreshed in the background, whatever the response allows,
    /// unless it has must-revalidate.
    pub grace: Option<u32>,
    /// The same while no origin of the group is healthy.
    pub sick_grace: Option<u32>,
    /// How long past its expiry a response is sent while no origin can be reached, if neither response nor policy
    /// limits its use in place of a failed one (RFC 9111 §4.2.4). 0: not at all.
    pub stale_when_disconnected: u32,
    /// Refresh ahead of expiry, by chance: XFetch's beta.
    pub refresh_ahead: Option<f64>,
    pub key_query: Select,
    /// The query is sorted by name, in the key and upstream.
    pub sort_query: bool,
    pub key_headers: Vec<HeaderName>,
    /// `None`: cookies follow HTTP (they go upstream and only `Vary: Cookie` selects by them).
    pub key_cookies: Option<Select>,
    pub key_claims: Vec<Arc<str>>,
    pub accept_encoding: bool,
    /// `Accept-Language` goes upstream, and selects if `Vary` names it, in one canonical spelling of each meaning.
    pub accept_language: bool,
    pub set_cookie: SetCookiePolicy,
    pub negative_ttl: Vec<(StatusCode, u32)>,
    pub request_directives: bool,
    pub collapse: bool,
    /// Store large responses in slices, and let range requests fill them.
    pub slices: bool,
    /// The range requests that do.
    pub fill: Fill,
    pub targets: Vec<HeaderName>,
    /// Fields that name the tags of a response.
    pub tags: Vec<HeaderName>,
    /// Viewers see those fields.
    pub send_tags: bool,
    /// `Cache-Status` shows the key.
    pub status_key: bool,
}

/// In seconds.
const DAY: u32 = 86_400;

impl CachePolicy {
    /// The request fields that go upstream in reduced form.
    pub fn reduced(&self) -> Reduced {
        Reduced {
            encoding: self.accept_encoding,
            language: self.accept_language,
        }
    }
}

impl Default for CachePolicy {
    /// `cache.STANDARD`: RFC 9111 to the letter; the whole URL is the key.
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: None,
            default_ttl: None,
            min_ttl: 0,
            max_ttl: None,
            heuristics: true,
            stale_while_revalidate: None,
            stale_if_error: None,
            grace: None,
            sick_grace: None,
            stale_when_disconnected: DAY,
            refresh_ahead: None,
            key_query: Select::All,
            sort_query: false,
            key_headers: Vec::new(),
            key_cookies: None,
            key_claims: Vec::new(),
            accept_encoding: false,
            accept_language: false,
            set_cookie: SetCookiePolicy::Refuse,
            negative_ttl: Vec::new(),
            request_directives: true,
            collapse: true,
            slices: true,
            fill: Fill::Second,
            targets: vec![
                HeaderName::from_static("cdn-cache-control"),
                HeaderName::from_static("surrogate-control"),
            ],
            tags: vec![
                HeaderName::from_static("cache-tag"),
                HeaderName::from_static("surrogate-key"),
            ],
            send_tags: false,
            status_key: false,
        }
    }
}

/// How a response with `Set-Cookie` is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookiePolicy {
    /// Not stored.
    Refuse,
    /// Stored without the field.
    Strip,
    /// Stored with the field, as RFC 9111 allows (§7.3 only warns).
    Store,
}
