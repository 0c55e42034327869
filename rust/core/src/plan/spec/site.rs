//! The plan but its routes and limits: origins, groups, callables, hooks.

use std::time::Duration;

use crate::http::FieldName;
use ipnet::IpNet;
use serde_json::Value;

use super::{
    CallableSpec, GroupSpec, HookPhase, HookSpec, OriginSpec, PlanSpec, binding, guard,
    headers::{secret_header_map, select, status},
    images, latency, limits, listener, origin_tls, places,
    reader::{Fields, Problems},
    route,
    secret::secret,
    security, tracing,
};
use crate::{
    access_log::AccessLogPolicy,
    admit,
    plan::{DiskCache, FailMode, HealthCheck, Limits, OriginTimes, PoolBounds},
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
    if let Some(version) = fields.raw("version")
        && version.as_u64() != Some(VERSION)
    {
        fields.wrong(
            "version",
            version,
            format!("must be {VERSION}: the package and its core are of different releases"),
        );
    }
    let name = fields.required_text("name").unwrap_or("edge").to_owned();
    if !(1..=64).contains(&name.len())
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        problems.add(
            "name",
            Some(format!("{name:?}")),
            "must be 1 to 64 letters, digits, \"-\" and \"_\"",
        );
    }
    let limits = fields
        .raw("limits")
        .map_or_else(Limits::default, |value| limits::read(value, problems));
    let listeners = listener::all(&mut fields);
    let disk_cache = fields
        .some("disk_cache")
        .and_then(|value| disk_cache(value, problems));
    let trusted_proxies = networks(fields.texts("trusted_proxies"), problems);
    let hosts = fields.texts("hosts").into_iter();
    let hosts = hosts.map(|(path, text)| (path, text.to_owned())).collect();
    let addresses = guard::addresses(&mut fields);
    let security = security::security(&mut fields);
    let rate_limits = fields.each("rate_limits", guard::rate_limit);
    let mut trusted_proxy_fields: Vec<Box<str>> = Vec::new();
    for (path, text) in fields.texts("trusted_proxy_fields") {
        let name = text.to_ascii_lowercase();
        let known = match name.strip_suffix('*') {
            Some(prefix) => prefix == admit::NAMED_PREFIX,
            None => admit::is_named(&name) && FieldName::from_bytes(name.as_bytes()).is_ok(),
        };
        if !known {
            let names = admit::NAMED.join(", ");
            problems.add(
                path,
                Some(format!("{text:?}")),
                format!("must be one of {names}, cloudfront-viewer-*: other fields pass without"),
            );
        } else if trusted_proxies.is_empty() {
            let why = "has no effect: name the proxy in trusted_proxies";
            problems.add(path, Some(format!("{text:?}")), why);
        } else {
            trusted_proxy_fields.push(name.into());
        }
    }
    let via = fields.text("via").unwrap_or("edgerouter").to_owned();
    // The pseudonym is a token in Via and in Cache-Status (RFC 9110 §7.6.3, RFC 9211 §2).
    let is_token = via.starts_with(|c: char| c.is_ascii_alphabetic())
        && via.len() <= 64
        && via
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !is_token {
        problems.add(
            "via",
            Some(format!("{via:?}")),
            "must begin with a letter and have 1 to 64 letters, digits, \"-\", \".\" and \"_\"",
        );
    }
    let origins = fields.each("origins", origin);
    let groups = fields.each("groups", group);
    let callables = fields.each("callables", callable);
    let hooks = fields.each("hooks", hook);
    let mut routes: Vec<_> = fields
        .list("routes")
        .into_iter()
        .filter_map(|(path, value)| route::route(value, path, &name, problems))
        .collect();
    let service_workers = fields.each("service_workers", latency::service_worker);
    for worker in &service_workers {
        routes.extend(latency::route(worker, &name, &routes, problems));
    }
    let prefetch = fields.each("prefetch", latency::prefetch);
    let bindings = binding::all(&mut fields);
    let geo = fields
        .some("geo")
        .and_then(|value| places::geo(value, &trusted_proxy_fields, problems));
    let fetch = fields
        .some("fetch")
        .and_then(|value| images::foreign(value, "fetch".to_owned(), problems))
        .unwrap_or_default();
    let access_log = fields
        .some("access_log")
        .and_then(|value| access_log(value, problems))
        .unwrap_or_default();
    let tracing = fields
        .some("tracing")
        .and_then(|value| tracing::tracing(value, &name, problems));
    fields.end();
    Some(PlanSpec {
        tracing,
        access_log,
        name,
        via,
        limits,
        listeners,
        disk_cache,
        trusted_proxies,
        trusted_proxy_fields,
        hosts,
        addresses,
        security,
        rate_limits,
        origins,
        groups,
        callables,
        hooks,
        routes,
        service_workers,
        prefetch,
        bindings,
        geo,
        fetch,
    })
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

fn origin(value: &Value, path: String, problems: &Problems) -> Option<OriginSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let seconds = Duration::from_secs;
    let name = fields.required_text("name").unwrap_or_default().to_owned();
    let url = fields.required_text("url").unwrap_or_default().to_owned();
    let host = fields.text("host").unwrap_or("origin").to_owned();
    let times = OriginTimes {
        connect: fields.timeout("connect_timeout", seconds(2), true),
        first_byte: fields.timeout("first_byte_timeout", seconds(30), true),
        expect: fields.timeout("expect_timeout", seconds(1), false),
        between_bytes: fields.timeout("between_bytes_timeout", seconds(30), true),
        total: fields.maybe_timeout("total_timeout"),
    };
    let pool = PoolBounds {
        most: fields.whole("max_connections", 256, 1, 1_000_000) as usize,
        idle: fields.whole("idle_connections", 64, 0, 1_000_000) as usize,
        idle_timeout: fields.timeout("idle_timeout", seconds(60), false),
    };
    let retries = u8::try_from(fields.whole("retries", 1, 0, 10)).unwrap_or(1);
    let headers = secret_header_map(&mut fields, "headers");
    let health = fields
        .some("health")
        .and_then(|value| health(value, fields.at("health"), problems));
    let tls_server_name = fields.text("tls_server_name").map(str::to_owned);
    let tls_ca = fields
        .some("tls_ca")
        .and_then(|value| secret(value, fields.at("tls_ca"), problems));
    let tls_verify = fields.flag("tls_verify", true);
    let tls_certificate = origin_tls::certificate(&mut fields);
    let tls_versions = origin_tls::versions(&mut fields);
    let tls_pins = origin_tls::pins(&mut fields);
    let rewrite_urls = fields.flag("rewrite_urls", true);
    fields.end();
    Some(OriginSpec {
        name,
        url,
        host,
        times,
        pool,
        retries,
        headers,
        health,
        tls_server_name,
        tls_ca,
        tls_verify,
        tls_certificate,
        tls_versions,
        tls_pins,
        rewrite_urls,
    })
}

fn health(value: &Value, path: String, problems: &Problems) -> Option<HealthCheck> {
    let mut fields = Fields::open(value, path, problems)?;
    let probe = fields.required_text("path").unwrap_or("/");
    if !probe.starts_with('/') || probe.parse::<http::uri::PathAndQuery>().is_err() {
        problems.add(
            fields.at("path"),
            Some(format!("{probe:?}")),
            "must be a path that starts with \"/\"",
        );
    }
    let interval = fields.interval("interval", Duration::from_secs(10));
    let timeout = fields.timeout("timeout", Duration::from_secs(2), true);
    let count = |fields: &mut Fields<'_>, name, default| {
        u32::try_from(fields.whole(name, default, 1, 1_000)).unwrap_or(1)
    };
    let healthy_after = count(&mut fields, "healthy_after", 2);
    let unhealthy_after = count(&mut fields, "unhealthy_after", 3);
    let status = match fields.raw("status") {
        None => vec![http::StatusCode::OK],
        Some(value) => {
            let items = fields.list_of("status", value);
            if value.as_array().is_some_and(Vec::is_empty) {
                problems.add(
                    fields.at("status"),
                    None,
                    "must name at least one status, or the origin is never healthy",
                );
            }
            items
                .into_iter()
                .filter_map(|(path, value)| self::status(&path, value, problems))
                .collect()
        }
    };
    fields.end();
    Some(HealthCheck {
        path: probe.into(),
        interval,
        timeout,
        healthy_after,
        unhealthy_after,
        status,
    })
}

fn group(value: &Value, path: String, problems: &Problems) -> Option<GroupSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let name = fields.required_text("name").unwrap_or_default().to_owned();
    let declared = fields.required("members").is_some();
    let members: Vec<String> = fields
        .texts("members")
        .into_iter()
        .map(|(_, text)| text.to_owned())
        .collect();
    if declared && members.is_empty() {
        problems.add(fields.at("members"), None, "must name at least one origin");
    }
    let failover_on = match fields.raw("failover_on") {
        None => [500, 502, 503, 504]
            .into_iter()
            .filter_map(|code| http::StatusCode::from_u16(code).ok())
            .collect(),
        Some(value) => fields
            .list_of("failover_on", value)
            .into_iter()
            .filter_map(|(path, value)| status(&path, value, problems))
            .collect(),
    };
    let deadline = fields.maybe_timeout("deadline");
    fields.end();
    Some(GroupSpec {
        name,
        members,
        failover_on,
        deadline,
    })
}

fn callable(value: &Value, path: String, problems: &Problems) -> Option<CallableSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let name = fields.required_text("name").unwrap_or_default().to_owned();
    let inline = fields.flag("inline", false);
    let serial = fields.flag("serial", false);
    if inline && serial {
        problems.add(
            fields.at("inline"),
            Some("true".to_owned()),
            "can't be together with serial: it runs on the worker itself",
        );
    }
    let timeout = fields.maybe_timeout("timeout");
    let modes = [("closed", FailMode::Closed), ("open", FailMode::Open)];
    let fail = fields.choice("fail", &modes, FailMode::Closed);
    let varies = varies(&mut fields);
    fields.end();
    Some(CallableSpec {
        name,
        inline,
        serial,
        timeout,
        fail,
        varies,
    })
}

fn varies(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let value = fields.some("varies")?;
    let items = fields.list_of("varies", value);
    let texts = fields.only_texts(items).into_iter();
    Some(texts.map(|(_, text)| text.to_owned()).collect())
}

fn hook(value: &Value, path: String, problems: &Problems) -> Option<HookSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let phases = [
        ("viewer_request", HookPhase::ViewerRequest),
        ("origin_request", HookPhase::OriginRequest),
        ("origin_response", HookPhase::OriginResponse),
        ("viewer_response", HookPhase::ViewerResponse),
    ];
    let phase = fields
        .required("phase")
        .and_then(|value| fields.choice_of("phase", value, &phases));
    let pattern = fields.required_text("pattern").map(str::to_owned);
    let host = fields.text("host").map(str::to_owned);
    let call = fields.required("call");
    let call = call.and_then(|value| fields.whole_of("call", value, 0, u64::from(u32::MAX), ""));
    let varies = varies(&mut fields);
    let transforms = fields.flag("transforms", false);
    if transforms
        && matches!(
            phase,
            Some(HookPhase::ViewerRequest | HookPhase::OriginRequest)
        )
    {
        fields.problems.add(
            fields.at("transforms"),
            Some("true".to_owned()),
            "is for origin_response and viewer_response, which see the content of responses; remove it",
        );
    }
    fields.end();
    Some(HookSpec {
        phase,
        pattern,
        host,
        call,
        varies,
        transforms,
    })
}
