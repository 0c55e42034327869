//! The plan: a site's whole policy as one immutable value.
//!
//! `spec` reads the JSON that Python sends, `compile` checks it and gives a `Plan` or every problem at once, `matcher`
//! finds the route of a request. The types here are the ones that the engine and the other rooms read; nothing in them
//! changes after compilation, so a plan is shared by pointer and swapped whole.

pub(crate) mod compile;
pub mod limits;
pub mod lint;
pub mod matcher;
pub(crate) mod spec;
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
    /// Bounds on what clients, origins and hooks can make grow; defaults where the declaration sets none.
    pub limits: Limits,
    /// The cache's second tier; `None`: memory only.
    pub disk_cache: Option<DiskCache>,
    /// Peers whose `X-Forwarded-*` fields are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Fields of `admit::NAMED` that they set, in lower case.
    pub trusted_proxy_fields: Vec<Box<str>>,
    /// In declaration order; [`OriginId`] is the position.
    pub origins: Vec<Origin>,
    /// Declared groups, and after them one group of one for each origin that a route names directly.
    pub groups: Vec<Group>,
    /// Functions and hooks, in the order of the table that the Python side keeps.
    pub callables: Vec<Callable>,
    /// In declaration order; [`Plan::router`] has the order of precedence.
    pub routes: Vec<Route>,
    /// Finds the route of a request among [`Plan::routes`].
    pub router: Router,
    /// Request fields that only the edge may set: removed from every client request (docs/design.md §3, spoofing rule).
    /// Contains the names of all JWT `forward` maps and experiment headers besides the built-in list.
    pub edge_fields: Vec<HeaderName>,
    /// Responses that set a cookie are marked for the site's service workers, which cannot see the cookie.
    pub marks_personal: bool,
    /// Lists of URLs that the edge requests itself; empty: none.
    pub prefetch: Vec<Prefetch>,
    /// At least one route predicts.
    pub predicts: bool,
    /// The parts of a request that the access log shows.
    pub access_log: AccessLogPolicy,
    /// Hooks that no request meets: their position in the declaration, and their callable.
    pub idle_hooks: Vec<(usize, CallableId)>,
}

impl Plan {
    /// Route at a position; `None` for an id of another plan, such as one kept across a reload.
    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.0 as usize)
    }
    /// Group at a position; `None` for an id of another plan.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)
    }
    /// Origin at a position; `None` for an id of another plan.
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
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `None`: only requests decide whether it is healthy.
    pub health: Option<HealthCheck>,
    /// Without effect for `http`.
    pub tls: OriginTls,
    /// The origin's own URLs in its responses become the viewer's.
    pub rewrite_urls: bool,
}

/// How an `https` origin is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    /// `false` accepts any certificate; `true` by default.
    pub verify: bool,
    /// Name in SNI and in the certificate; `None`: the host of the URL.
    pub server_name: Option<Arc<str>>,
    /// PEM certificates that replace the system's roots.
    pub ca_pem: Option<Arc<str>>,
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
    /// The Python callable of the hook.
    pub call: CallableId,
    /// Matches the path as the viewer requested it.
    pub pattern: PathPattern,
    /// `None`: every host of the route.
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
    /// Before the look-up in the cache, for every request.
    pub viewer_request: Vec<Hook>,
    /// After a miss, before the request goes to an origin.
    pub origin_request: Vec<Hook>,
    /// Before the response is stored.
    pub origin_response: Vec<Hook>,
    /// Before the response is sent, stored or not, unless the edge itself answered before the look-up.
    pub viewer_response: Vec<Hook>,
}

impl Hooks {
    /// True if no request of the route calls a hook.
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
    /// Its position in the declaration.
    pub id: RouteId,
    /// The pattern as declared, host included: the route's label in metrics, logs and `explain`.
    pub label: Arc<str>,
    /// Any of them; empty: every host.
    pub hosts: Vec<HostPattern>,
    /// Its `{name}` parameters may be used in a redirect or a rewrite.
    pub path: PathPattern,
    /// Empty: every method.
    pub methods: Vec<Method>,
    /// Further conditions; all must hold.
    pub when: Vec<Condition>,
    /// Higher first, before every other rule of precedence; 0 by default.
    pub priority: i32,
    /// Exactly one source of responses.
    pub target: Target,
    /// Treatment of plain `http`; allowed by default.
    pub viewer: ViewerPolicy,
    /// Appended to a path that ends in `/`, as in `index.html`; `None`: the path stays.
    pub index: Option<Arc<str>>,
    /// Path of the page that replaces 404 and 403 for a navigation, with status 200; for single-page applications.
    pub fallback: Option<Arc<str>>,
    /// Removed from the path for the origin, and sent in `X-Forwarded-Prefix`.
    pub strip_prefix: Option<Arc<str>>,
    /// Prepended to the path for the origin, after `strip_prefix`.
    pub add_prefix: Option<Arc<str>>,
    /// Another path for the origin.
    pub rewrite: Option<Rewrite>,
    /// Edits of the request to the origin.
    pub request_headers: HeaderEdits,
    /// Edits of the response to the viewer; the stored response keeps its own fields.
    pub response_headers: HeaderEdits,
    /// The parts of a request that go upstream.
    pub forward: ForwardPolicy,
    /// Resolved; `cache.STANDARD` by default.
    pub cache: CachePolicy,
    /// Part of the cache key if another route could store its own response under the same URL: after a rewrite, under a
    /// condition, for a page in place of another. `None` if the URL is enough.
    pub key_tag: Option<Arc<str>>,
    /// Rules for the token of a request; `None`: no token is read.
    pub auth: Option<Arc<JwtPolicy>>,
    /// Matters only together with `auth`.
    pub preflight: Preflight,
    /// Their variants are always in the key; empty: none.
    pub experiments: Vec<Experiment>,
    /// Hooks whose pattern and host can match a request of this route.
    pub hooks: Hooks,
    /// Pages by status, from 400 to 599; others are sent as they are.
    pub errors: Vec<(StatusCode, ErrorPage)>,
    /// Reserved for compression at the edge; has no effect yet.
    pub compress: bool,
    /// `None`: the route's next pages are not predicted.
    pub predict: Option<Predict>,
}

/// The source of a route's responses.
#[derive(Debug, Clone)]
pub enum Target {
    /// Origins, in order of preference.
    Group(GroupId),
    /// A Python function, called for each request.
    Function(CallableId),
    /// A redirect that the edge answers itself.
    Redirect(Redirect),
    /// A fixed response that the edge answers itself.
    Respond(FixedResponse),
}

/// A redirect that a route answers with (RFC 9110 §15.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// May contain `{name}` parameters of the route's pattern.
    pub location: Arc<str>,
    /// 301, 302, 303, 307 or 308; 302 by default.
    pub status: StatusCode,
    /// Append the request's query.
    pub query: bool,
}

/// A response that is the same for every request, without an origin.
#[derive(Debug, Clone)]
pub struct FixedResponse {
    /// 200 to 599; 200 by default.
    pub status: StatusCode,
    /// In declaration order; names may repeat.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Text in UTF-8; may be empty.
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
    /// The path that it is fetched from; `None` for a fixed page.
    pub fn path(&self) -> Option<&Arc<str>> {
        match self {
            Self::Path(path) => Some(path),
            Self::Fixed(_) => None,
        }
    }
}

/// Another path for the origin: `/old/{rest:path}` becomes `/new/{rest}`.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Paths that are rewritten; others stay.
    pub pattern: PathPattern,
    /// May contain `{name}` parameters of `pattern`.
    pub to: Arc<str>,
}

/// A condition on the request besides host, path and method.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The part of the request that is tested.
    pub subject: Subject,
    /// For a field with several lines, one that passes is enough.
    pub test: Test,
}

/// The part of a request that a condition tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Every line of the field is tested on its own.
    Header(HeaderName),
    /// The name of a cookie; case matters.
    Cookie(Arc<str>),
    /// The name of a query parameter, decoded; the first of that name counts.
    Query(Arc<str>),
}

/// The test of a condition. Only `Present(false)` holds for an absent subject.
#[derive(Debug, Clone)]
pub enum Test {
    /// Present, even if empty (`true`), or absent (`false`).
    Present(bool),
    /// Equal byte for byte.
    Equals(Arc<str>),
    /// A glob over the whole value: `*` and `?`, nothing is normalised.
    Matches(PathPattern),
}

/// How a route treats requests that came over plain `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerPolicy {
    /// Served like `https`.
    AllowAll,
    /// Refused with 403.
    HttpsOnly,
    /// Redirected to the same URL with `https`.
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
    /// All lines of these fields.
    pub remove: Vec<HeaderName>,
    /// Replace all lines of their fields.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added beside the lines that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// True if they change nothing.
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
    /// Query parameters; by default those in the key and in `unkeyed`, and all on a route without a cache.
    pub query: Select,
    /// Fields, in lower case; by default all that a client may send to an origin.
    pub headers: Select,
    /// Cookies; by default those in the key and in `unkeyed`, and all without a cache or if `key_cookies` is `None`.
    pub cookies: Select,
    /// Parts that go upstream although responses do not depend on them.
    pub unkeyed: Unkeyed,
    /// The policy forwards something that is neither in the key nor selected by `Vary` nor `unkeyed`: requests that
    /// carry such a thing pass the cache.
    pub strays: bool,
}

/// Parts that go upstream and are declared not to select responses. Names of query parameters and cookies may end in
/// `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unkeyed {
    /// Request fields, even if the response's `Vary` names them.
    pub fields: Vec<HeaderName>,
    /// Query parameters, declared as `query:NAME`.
    pub query: Vec<Arc<str>>,
    /// Cookies, declared as `cookie:NAME`.
    pub cookies: Vec<Arc<str>>,
    /// Verified claims, declared as `claim:NAME`.
    pub claims: Vec<Arc<str>>,
}

/// How responses are stored and reused, resolved. Durations in whole seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePolicy {
    /// `false`: nothing is stored or served from the store.
    pub enabled: bool,
    /// Replaces the origin's lifetime, except for 5xx and for statuses in `negative_ttl`.
    pub ttl: Option<u32>,
    /// The lifetime if the origin gives none, except for 4xx and 5xx.
    pub default_ttl: Option<u32>,
    /// Least lifetime, also for responses that nothing else gives one; 0: no bound. `ttl` is not bounded.
    pub min_ttl: u32,
    /// Greatest lifetime, at least `min_ttl`; `None`: no bound. `ttl` is not bounded.
    pub max_ttl: Option<u32>,
    /// A tenth of the time since `Last-Modified`, if nothing else gives a lifetime (RFC 9111 §4.2.2).
    pub heuristics: bool,
    /// Window for responses that have none of their own (RFC 5861 §3); `None`: none.
    pub stale_while_revalidate: Option<u32>,
    /// Window for responses that have none of their own (RFC 5861 §4); `None`: `stale_when_disconnected` alone.
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
    /// Query parameters in the key; all by default.
    pub key_query: Select,
    /// The query is sorted by name, in the key and upstream.
    pub sort_query: bool,
    /// Request fields in the key, besides those that `Vary` names.
    pub key_headers: Vec<HeaderName>,
    /// `None`: cookies follow HTTP (they go upstream and only `Vary: Cookie` selects by them).
    pub key_cookies: Option<Select>,
    /// Verified claims in the key; only these go upstream, unless it is empty.
    pub key_claims: Vec<Arc<str>>,
    /// `Accept-Encoding`, reduced to `br`, `gzip` or `identity`, is in the key and goes upstream.
    pub accept_encoding: bool,
    /// `Accept-Language` goes upstream, and selects if `Vary` names it, in one canonical spelling of each meaning.
    pub accept_language: bool,
    /// `Refuse` by default.
    pub set_cookie: SetCookiePolicy,
    /// Lifetimes by status of errors that have none of their own, or if `ttl` is set.
    pub negative_ttl: Vec<(StatusCode, u32)>,
    /// Honours the request's `Cache-Control` and `Pragma` (RFC 9111 §5.2.1, §5.4).
    pub request_directives: bool,
    /// Concurrent misses of one key share one fetch.
    pub collapse: bool,
    /// Store large responses in slices, and let range requests fill them.
    pub slices: bool,
    /// The range requests that do.
    pub fill: Fill,
    /// Targeted fields (RFC 9213), the most specific first; they win over `Cache-Control`.
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
