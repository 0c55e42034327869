//! The site's own fields, and the reading of the whole plan.

use ipnet::IpNet;
use serde_json::Value;

use super::{
    PlanSpec, binding, guard,
    headers::select,
    hooks, images, latency, limits, listener, origins, places,
    reader::{Fields, Problems},
    route, security, tracing,
};
use crate::{
    access_log::AccessLogPolicy,
    admit,
    http::FieldName,
    plan::{DiskCache, Limits},
};

const VERSION: u64 = 1;

/// Reads a plan. An unreadable part becomes a problem; returns the rest, or `None` if there is no object at all.
pub(crate) fn read(json: &[u8], problems: &Problems) -> Option<PlanSpec> {
    let value: Value = match serde_json::from_slice(json) {
        Ok(value) => value,
        Err(error) => {
            problems.add("", None, format!("the plan is not JSON: {error}"));
            return None;
        }
    };
    let mut fields = Fields::open(&value, "", problems)?;
    version(&mut fields);
    let name = name(&mut fields);
    let limits = fields
        .raw("limits")
        .map_or_else(Limits::default, |value| limits::read(value, problems));
    let listeners = listener::all(&mut fields);
    let disk_cache = fields
        .some("disk_cache")
        .and_then(|value| disk_cache(value, problems));
    let trusted_proxies = networks(fields.texts("trusted_proxies"), problems);
    let trusted_proxy_fields = trusted_proxy_fields(&mut fields, &trusted_proxies);
    // The fields are read in the order written here, in which messages about unknown ones list them.
    let mut spec = PlanSpec {
        limits,
        listeners,
        disk_cache,
        hosts: hosts(&mut fields),
        addresses: guard::addresses(&mut fields),
        security: security::security(&mut fields),
        rate_limits: fields.each("rate_limits", guard::rate_limit),
        via: via(&mut fields),
        origins: fields.each("origins", origins::origin),
        groups: fields.each("groups", origins::group),
        callables: fields.each("callables", hooks::callable),
        hooks: fields.each("hooks", hooks::hook),
        routes: fields.each("routes", |value, path, problems| {
            route::route(value, path, &name, problems)
        }),
        service_workers: fields.each("service_workers", latency::service_worker),
        prefetch: fields.each("prefetch", latency::prefetch),
        bindings: binding::all(&mut fields),
        geo: fields
            .some("geo")
            .and_then(|value| places::geo(value, &trusted_proxy_fields, problems)),
        fetch: fields
            .some("fetch")
            .and_then(|value| images::foreign(value, "fetch".to_owned(), problems))
            .unwrap_or_default(),
        access_log: fields
            .some("access_log")
            .and_then(|value| access_log(value, problems))
            .unwrap_or_default(),
        tracing: fields
            .some("tracing")
            .and_then(|value| tracing::tracing(value, &name, problems)),
        name,
        trusted_proxies,
        trusted_proxy_fields,
    };
    fields.end();
    for worker in &spec.service_workers {
        let route = latency::route(worker, &spec.name, &spec.routes, problems);
        spec.routes.extend(route);
    }
    Some(spec)
}

fn version(fields: &mut Fields<'_>) {
    if let Some(version) = fields.raw("version")
        && version.as_u64() != Some(VERSION)
    {
        fields.wrong(
            "version",
            version,
            format!("must be {VERSION}: the package and its core are of different releases"),
        );
    }
}

fn name(fields: &mut Fields<'_>) -> String {
    let name = fields.required_text("name").unwrap_or("edge").to_owned();
    if !(1..=64).contains(&name.len())
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        fields.problems.add(
            "name",
            Some(format!("{name:?}")),
            "must be 1 to 64 letters, digits, \"-\" and \"_\"",
        );
    }
    name
}

/// The request fields that are accepted from trusted proxies, each a name that the edge knows.
fn trusted_proxy_fields(fields: &mut Fields<'_>, trusted_proxies: &[IpNet]) -> Vec<Box<str>> {
    let mut accepted: Vec<Box<str>> = Vec::new();
    for (path, text) in fields.texts("trusted_proxy_fields") {
        let name = text.to_ascii_lowercase();
        let known = match name.strip_suffix('*') {
            Some(prefix) => prefix == admit::NAMED_PREFIX,
            None => admit::is_named(&name) && FieldName::from_bytes(name.as_bytes()).is_ok(),
        };
        if !known {
            let names = admit::NAMED.join(", ");
            fields.problems.add(
                path,
                Some(format!("{text:?}")),
                format!("must be one of {names}, cloudfront-viewer-*: other fields pass without"),
            );
        } else if trusted_proxies.is_empty() {
            let why = "has no effect: name the proxy in trusted_proxies";
            fields.problems.add(path, Some(format!("{text:?}")), why);
        } else {
            accepted.push(name.into());
        }
    }
    accepted
}

fn hosts(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let hosts = fields.texts("hosts").into_iter();
    hosts.map(|(path, text)| (path, text.to_owned())).collect()
}

/// The edge's pseudonym, a token in `Via` and in `Cache-Status` (RFC 9110 §7.6.3, RFC 9211 §2).
fn via(fields: &mut Fields<'_>) -> String {
    let via = fields.text("via").unwrap_or("edgerouter").to_owned();
    let is_token = via.starts_with(|c: char| c.is_ascii_alphabetic())
        && via.len() <= 64
        && via
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !is_token {
        fields.problems.add(
            "via",
            Some(format!("{via:?}")),
            "must begin with a letter and have 1 to 64 letters, digits, \"-\", \".\" and \"_\"",
        );
    }
    via
}

/// Addresses and networks.
pub(super) fn networks(texts: Vec<(String, &str)>, problems: &Problems) -> Vec<IpNet> {
    let mut found = Vec::with_capacity(texts.len());
    for (path, text) in texts {
        let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or_else(|_| address()) {
            Ok(net) => found.push(net.trunc()),
            Err(_) => problems.add(
                path,
                Some(format!("{text:?}")),
                "must be an address or a network as in \"10.0.0.0/8\"",
            ),
        }
    }
    found
}

fn access_log(value: &Value, problems: &Problems) -> Option<AccessLogPolicy> {
    let own = AccessLogPolicy::default();
    let mut fields = Fields::open(value, "access_log", problems)?;
    let query = select(&mut fields, "query", own.query, true);
    let user = fields.flag("user", own.user);
    fields.end();
    Some(AccessLogPolicy { query, user })
}

fn disk_cache(value: &Value, problems: &Problems) -> Option<DiskCache> {
    const LEAST: u64 = 1 << 20;
    const MOST: u64 = 1 << 44;
    let mut fields = Fields::open(value, "disk_cache", problems)?;
    let path = fields.required_text("path");
    if let Some(path) = path
        && (path.is_empty() || path.contains('\0'))
    {
        problems.add(
            fields.at("path"),
            Some(format!("{path:?}")),
            "must be a directory, such as \"/var/cache/edgerouter\"",
        );
    }
    let size = fields
        .required("size")
        .and_then(|value| fields.whole_of("size", value, LEAST, MOST, " bytes"));
    let segment_bytes = fields
        .some("segment_bytes")
        .and_then(|value| fields.whole_of("segment_bytes", value, 64 << 10, 1 << 30, " bytes"));
    let queue_bytes = fields.whole("queue_bytes", 32 << 20, 1 << 16, 1 << 36);
    fields.end();
    Some(DiskCache {
        path: path?.into(),
        size: size?,
        segment_bytes,
        queue_bytes,
    })
}
