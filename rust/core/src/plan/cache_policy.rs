//! The policy by which the responses of a route are stored and reused.

use std::sync::Arc;

use http::StatusCode;

use super::Select;
use crate::{
    cache::{fill::Fill, vary::Reduced},
    geo::GeoFact,
    http::{FieldName, header},
};

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
    pub key_headers: Vec<FieldName>,
    /// `None`: cookies follow HTTP (they go upstream and only `Vary: Cookie` selects by them).
    pub key_cookies: Option<Select>,
    /// Verified claims in the key; only these go upstream, unless it is empty.
    pub key_claims: Vec<Arc<str>>,
    /// Facts about the client's place in the key. The route's fields carry them, which are in `key_headers` then.
    pub key_geo: Vec<GeoFact>,
    /// Responses are compressed, unless the route says otherwise or they may hold secrets.
    pub compress: bool,
    /// `Accept-Encoding`, reduced to `br`, `zstd`, `gzip` or `identity`, is in the key and goes upstream.
    pub accept_encoding: bool,
    /// `Accept-Language` goes upstream, and selects if `Vary` names it, in one canonical spelling of each meaning.
    pub accept_language: bool,
    /// `Refuse` by default.
    pub set_cookie: SetCookiePolicy,
    /// Lifetimes by status of errors that have none of their own, or if `ttl` is set.
    pub negative_ttl: Vec<(StatusCode, u32)>,
    /// A page or data under the name of a static file is not stored.
    pub extension_guard: bool,
    /// Honours the request's `Cache-Control` and `Pragma` (RFC 9111 §5.2.1, §5.4).
    pub request_directives: bool,
    /// Concurrent misses of one key share one fetch.
    pub collapse: bool,
    /// Store large responses in slices, and let range requests fill them.
    pub slices: bool,
    /// The range requests that do.
    pub fill: Fill,
    /// Targeted fields (RFC 9213), the most specific first; they win over `Cache-Control`.
    pub targets: Vec<FieldName>,
    /// Fields that name the tags of a response.
    pub tags: Vec<FieldName>,
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

    /// True if `negative_ttl` names the status.
    pub fn keeps(&self, status: StatusCode) -> bool {
        self.negative_ttl.iter().any(|(of, _)| *of == status)
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
            key_geo: Vec::new(),
            compress: false,
            accept_encoding: false,
            accept_language: false,
            set_cookie: SetCookiePolicy::Refuse,
            negative_ttl: Vec::new(),
            extension_guard: false,
            request_directives: true,
            collapse: true,
            slices: true,
            fill: Fill::Second,
            targets: vec![
                header::CDN_CACHE_CONTROL.into(),
                header::SURROGATE_CONTROL.into(),
            ],
            tags: vec![header::CACHE_TAG.into(), header::SURROGATE_KEY.into()],
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
