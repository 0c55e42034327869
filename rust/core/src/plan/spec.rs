//! The plan as Python sends it: plain values, read from JSON, checked one by one only.
//!
//! The reader knows the type and range of each single field; rules about two fields or the rest of the plan belong to
//! `compile`. It never stops at the first problem, and none of its messages ever holds a secret.

mod acme;
mod binding;
mod cache;
mod certificate;
mod error_page;
mod experiment;
mod forward;
mod guard;
mod headers;
mod hooks;
mod images;
mod jwt;
mod latency;
mod limits;
mod listener;
mod numbers;
mod origin_tls;
mod origins;
mod places;
mod reader;
mod route;
mod secret;
mod security;
mod site;
mod spelling;
mod target;
mod tracing;

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use super::{
    Balance, Binding, CachePolicy, Certificate, Condition, DiskCache, ErrorPage, FailMode,
    HeaderEdits, HealthCheck, ImagePolicy, Limits, Listener, OriginTimes, PoolBounds, Predict,
    Preflight, Redirect, Scheme, Select, TlsVersion, ViewerPolicy,
};

use crate::{
    access_log::AccessLogPolicy,
    experiment::ExperimentSpec,
    geo::{GeoFact, GeoPolicy},
    guard::{
        addresses::AddressPolicy, basic::BasicPolicy, cors::Cors, rate::RateLimit,
        security::SecurityFields, signed::SignedPolicy,
    },
    http::FieldName,
    identity::jwt::JwtSpec,
    secret::Secret,
    service_worker::ServiceWorker,
    trace::TracingPolicy,
};

pub(crate) use reader::{Problems, join};
pub(crate) use site::read;
pub(crate) use spelling::{nearest, suggestion};

/// The whole plan. Fields that could not be read have their defaults, and a problem each.
#[derive(Debug)]
pub(crate) struct PlanSpec {
    pub name: String,
    pub via: String,
    pub limits: Limits,
    pub listeners: Vec<Listener>,
    pub disk_cache: Option<DiskCache>,
    pub trusted_proxies: Vec<IpNet>,
    pub trusted_proxy_fields: Vec<Box<str>>,
    /// With the path of each.
    pub hosts: Vec<(String, String)>,
    pub addresses: Option<AddressPolicy>,
    pub security: Option<SecurityFields>,
    /// Of every route, with the path of each.
    pub rate_limits: Vec<(String, RateLimit)>,
    pub origins: Vec<OriginSpec>,
    pub groups: Vec<GroupSpec>,
    pub callables: Vec<CallableSpec>,
    pub hooks: Vec<HookSpec>,
    pub routes: Vec<RouteSpec>,
    /// Service workers, whose routes are in `routes` already.
    pub service_workers: Vec<ServiceWorker>,
    pub prefetch: Vec<PrefetchSpec>,
    pub bindings: Vec<Binding>,
    pub geo: Option<GeoPolicy>,
    /// `fetch`: hosts with the path of each, and networks.
    pub fetch: (Vec<(String, String)>, Vec<IpNet>),
    pub access_log: AccessLogPolicy,
    pub tracing: Option<TracingPolicy>,
}

/// A list of URLs to prefetch as declared.
#[derive(Debug)]
pub(crate) struct PrefetchSpec {
    pub urls: Vec<(String, String)>,
    pub every: Option<Duration>,
    pub on_start: bool,
    pub host: Option<String>,
    pub scheme: Scheme,
    pub headers: Vec<(FieldName, HeaderValue)>,
}

#[derive(Debug)]
pub(crate) struct OriginSpec {
    pub name: String,
    pub url: String,
    /// `origin`, `viewer` or a host.
    pub host: String,
    pub times: OriginTimes,
    pub pool: PoolBounds,
    pub retries: u8,
    pub headers: Vec<(FieldName, HeaderValue)>,
    pub health: Option<HealthCheck>,
    pub tls_server_name: Option<String>,
    pub tls_ca: Option<Secret>,
    pub tls_verify: bool,
    pub tls_certificate: Option<Certificate>,
    pub tls_versions: Option<Vec<TlsVersion>>,
    pub tls_pins: Option<Vec<[u8; 32]>>,
    pub rewrite_urls: bool,
}

#[derive(Debug)]
pub(crate) struct GroupSpec {
    pub name: String,
    pub members: Vec<String>,
    pub balance: Balance,
    /// `by` was given: the part of a request that is hashed.
    pub has_by: bool,
    /// By the name of a member.
    pub weights: Vec<(String, u32)>,
    pub failover_on: Vec<StatusCode>,
    pub deadline: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct CallableSpec {
    pub name: String,
    pub inline: bool,
    pub serial: bool,
    pub timeout: Option<Duration>,
    pub fail: FailMode,
    pub varies: Option<Vec<String>>,
}

/// The four phases of hooks, by Lambda@Edge's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookPhase {
    ViewerRequest,
    OriginRequest,
    OriginResponse,
    ViewerResponse,
}

#[derive(Debug)]
pub(crate) struct HookSpec {
    /// `None` if it could not be read.
    pub phase: Option<HookPhase>,
    pub pattern: Option<String>,
    pub host: Option<String>,
    pub call: Option<u64>,
    pub varies: Option<Vec<String>>,
    pub transforms: bool,
}

/// A route's target as declared.
#[derive(Debug)]
pub(crate) enum TargetSpec {
    To(String),
    Function(u64),
    Redirect(Redirect),
    Respond {
        status: StatusCode,
        headers: Vec<(FieldName, HeaderValue)>,
        body: String,
    },
    Files(FilesSpec),
    Images(ImageSourcesSpec),
    /// Unreadable, missing or given twice: reported already.
    Broken,
}

#[derive(Debug)]
pub(crate) struct RouteSpec {
    pub pattern: Option<String>,
    pub hosts: Vec<(String, String)>,
    pub methods: Vec<Method>,
    pub when: Vec<Condition>,
    pub priority: i32,
    pub target: TargetSpec,
    pub viewer: ViewerPolicy,
    pub index: Option<String>,
    pub fallback: Option<String>,
    pub strip_prefix: Option<String>,
    pub add_prefix: Option<String>,
    pub rewrite: Option<(String, String)>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub forward: Option<ForwardSpec>,
    pub cache: CachePolicy,
    pub auth: Option<JwtSpec>,
    pub preflight: Preflight,
    pub guard: GuardSpec,
    /// `auth` was given, readable or not.
    pub has_auth: bool,
    /// With the position in the declared list.
    pub experiments: Vec<(usize, ExperimentSpec)>,
    pub errors: Vec<(StatusCode, ErrorPage)>,
    /// `None`: as the cache policy says.
    pub compress: Option<bool>,
    pub images: Option<ImagePolicy>,
    pub predict: Option<Predict>,
}

/// `image_sources` as declared.
#[derive(Debug)]
pub(crate) struct ImageSourcesSpec {
    /// Names of origins and groups, with the path of each.
    pub origins: Vec<(String, String)>,
    /// Other hosts, with the path of each.
    pub hosts: Vec<(String, String)>,
    pub networks: Vec<IpNet>,
}

/// `files` as declared.
#[derive(Debug)]
pub(crate) struct FilesSpec {
    pub folder: String,
    pub index: Option<String>,
    pub fallback: Option<String>,
    pub precompressed: bool,
    pub listing: bool,
    pub immutable: Option<String>,
}

/// The guards of a route as declared.
#[derive(Debug, Default)]
pub(crate) struct GuardSpec {
    pub addresses: Option<AddressPolicy>,
    pub cors: Option<Cors>,
    /// With the path of each.
    pub limits: Vec<(String, RateLimit)>,
    pub signed: Option<SignedPolicy>,
    pub basic: Option<BasicPolicy>,
    pub security: Option<SecurityFields>,
}

/// `forward` as declared; `None`: derived from the key.
#[derive(Debug, Default)]
pub(crate) struct ForwardSpec {
    pub query: Option<Select>,
    pub headers: Option<Select>,
    pub cookies: Option<Select>,
    /// With the position of each.
    pub unkeyed: Vec<(String, UnkeyedSpec)>,
    /// `None`: those in the key.
    pub geo: Option<Vec<GeoFact>>,
}

/// One member of `forward.unkeyed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnkeyedSpec {
    Field(FieldName),
    Query(String),
    Cookie(String),
    Claim(String),
}
