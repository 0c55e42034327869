//! A route: which requests it takes, and what it does with them.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};

use super::{
    CachePolicy, CallableId, FileFolder, GroupId, HostPattern, ImagePolicy, ImageSources,
    PathPattern, Predict, RouteGuard, RouteId, Select,
};
use crate::{
    experiment::Experiment, geo::Country, guard::nonce::NoncePlaceholder, http::FieldName,
    identity::jwt::JwtPolicy,
};

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
    pub varies: Option<Arc<[FieldName]>>,
    /// It transforms content: the origin is requested for content without a coding.
    pub transforms: bool,
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
    pub path: Arc<PathPattern>,
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
    /// The part of `key_tag` that keeps its entries apart from those of another version; `None`: it shares them.
    pub apart: Option<Arc<str>>,
    /// Policies about clients and browsers; `None`: there are none, which costs a request one branch.
    pub guard: Option<Box<RouteGuard>>,
    /// Rules for the token of a request; `None`: no token is read.
    pub auth: Option<Arc<JwtPolicy>>,
    /// Matters only together with `auth`.
    pub preflight: Preflight,
    /// Their variants are always in the key; empty: none.
    pub experiments: Vec<Experiment>,
    /// Visitors of its requests may be counted: it has an experiment or a callable, or requests that convert reach it.
    pub counts_visitors: bool,
    /// Hooks whose pattern and host can match a request of this route.
    pub hooks: Hooks,
    /// Pages by status, from 400 to 599; others are sent as they are.
    pub errors: Vec<(StatusCode, ErrorPage)>,
    /// Responses are compressed for clients that accept it; never those that depend on a token.
    pub compress: bool,
    /// The text in pages for which a nonce is put, as the fields for browsers say.
    pub nonce: Option<NoncePlaceholder>,
    /// Each client may get other bytes: a nonce is put into pages, or a hook transforms them. Ranges are not answered.
    pub own_bytes: bool,
    /// The responses for whose sake it does not follow its cache policy, which compresses.
    pub uncompressed: Option<&'static str>,
    /// Variants of images that it makes; `None`: images pass as they are.
    pub images: Option<Arc<ImagePolicy>>,
    /// `None`: the route's next pages are not predicted.
    pub predict: Option<Predict>,
}

impl Route {
    /// True if some requests may not have its responses, so that no other path may lead to them.
    pub fn refuses(&self) -> bool {
        self.auth.is_some() || self.guard.as_ref().is_some_and(|guard| guard.refuses())
    }

    /// True if its responses may be stored.
    pub fn stores(&self) -> bool {
        self.cache.enabled && matches!(self.target, Target::Group(_) | Target::Function(_))
    }

    /// True if it depends on the client's country whether the route takes a request.
    pub fn is_by_country(&self) -> bool {
        let mut subjects = self.when.iter().map(|condition| &condition.subject);
        subjects.any(|subject| *subject == Subject::Country)
    }

    /// True if a hook transforms content for each client.
    pub fn transforms_for_clients(&self) -> bool {
        (self.hooks.viewer_response.iter()).any(|hook| hook.transforms)
    }

    /// True if the edge answers preflights in place of the origin.
    pub fn answers_preflights(&self) -> bool {
        self.guard
            .as_ref()
            .is_some_and(|guard| guard.cors.is_some())
    }
}

/// The source of a route's responses.
#[derive(Debug, Clone)]
pub enum Target {
    /// Origins, in order of preference.
    Group(GroupId),
    /// A Python function: called for each request, or where the cache of its route has no response.
    Function(CallableId),
    /// A redirect that the edge answers itself.
    Redirect(Redirect),
    /// A fixed response that the edge answers itself.
    Respond(FixedResponse),
    /// The files of a folder.
    Files(Arc<FileFolder>),
    /// Images that the query names.
    Images(Arc<ImageSources>),
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
    pub headers: Vec<(FieldName, HeaderValue)>,
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
    Header(FieldName),
    /// The name of a cookie; case matters.
    Cookie(Arc<str>),
    /// The name of a query parameter, decoded; the first of that name counts.
    Query(Arc<str>),
    /// The country of the client.
    Country,
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
    /// One of these countries.
    Country(Box<[Country]>),
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
    pub remove: Vec<FieldName>,
    /// Replace all lines of their fields.
    pub set: Vec<(FieldName, HeaderValue)>,
    /// Added beside the lines that are there.
    pub add: Vec<(FieldName, HeaderValue)>,
}

impl HeaderEdits {
    /// True if they change nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Every field that they remove, set or add.
    pub fn names(&self) -> impl Iterator<Item = &FieldName> {
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
    pub fields: Vec<FieldName>,
    /// Query parameters, declared as `query:NAME`.
    pub query: Vec<Arc<str>>,
    /// Cookies, declared as `cookie:NAME`.
    pub cookies: Vec<Arc<str>>,
    /// Verified claims, declared as `claim:NAME`.
    pub claims: Vec<Arc<str>>,
}
