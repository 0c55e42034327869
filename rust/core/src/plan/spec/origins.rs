//! Origins and groups.

use std::time::Duration;

use serde_json::Value;

use super::{
    GroupSpec, OriginSpec,
    headers::{header_name, secret_header_map, status},
    origin_tls,
    reader::{Fields, Problems},
    secret::secret,
};
use crate::plan::{Balance, HashBy, HealthCheck, OriginTimes, PoolBounds};

/// The largest weight of a member.
const MOST_WEIGHT: u64 = 65_535;

pub(super) fn origin(value: &Value, path: String, problems: &Problems) -> Option<OriginSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let headers = secret_header_map(&mut fields, "headers");
    if headers
        .iter()
        .any(|(name, _)| *name == crate::http::header::HOST)
    {
        let why = "is what the field host of the origin says: set host";
        problems.add(format!("{}.host", fields.at("headers")), None, why);
    }
    let spec = OriginSpec {
        name: fields.required_text("name").unwrap_or_default().to_owned(),
        url: fields.required_text("url").unwrap_or_default().to_owned(),
        host: fields.text("host").unwrap_or("origin").to_owned(),
        times: times(&mut fields),
        pool: pool(&mut fields),
        retries: u8::try_from(fields.whole("retries", 1, 0, 10)).unwrap_or(1),
        headers,
        health: fields
            .some("health")
            .and_then(|value| health(value, fields.at("health"), problems)),
        tls_server_name: fields.text("tls_server_name").map(str::to_owned),
        tls_ca: fields
            .some("tls_ca")
            .and_then(|value| secret(value, fields.at("tls_ca"), problems)),
        tls_verify: fields.flag("tls_verify", true),
        tls_certificate: origin_tls::certificate(&mut fields),
        tls_versions: origin_tls::versions(&mut fields),
        tls_pins: origin_tls::pins(&mut fields),
        rewrite_urls: fields.flag("rewrite_urls", true),
    };
    fields.end();
    Some(spec)
}

fn times(fields: &mut Fields<'_>) -> OriginTimes {
    let seconds = Duration::from_secs;
    OriginTimes {
        connect: fields.timeout("connect_timeout", seconds(2), true),
        first_byte: fields.timeout("first_byte_timeout", seconds(30), true),
        expect: fields.timeout("expect_timeout", seconds(1), false),
        between_bytes: fields.timeout("between_bytes_timeout", seconds(30), true),
        total: fields.maybe_timeout("total_timeout"),
    }
}

fn pool(fields: &mut Fields<'_>) -> PoolBounds {
    PoolBounds {
        most: fields.whole("max_connections", 256, 1, 1_000_000) as usize,
        idle: fields.whole("idle_connections", 64, 0, 1_000_000) as usize,
        idle_timeout: fields.timeout("idle_timeout", Duration::from_secs(60), false),
    }
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

pub(super) fn group(value: &Value, path: String, problems: &Problems) -> Option<GroupSpec> {
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
    let by = hash_by(&mut fields, problems);
    let balance = fields.choice(
        "balance",
        &[
            ("order", Spread::Order),
            ("round_robin", Spread::RoundRobin),
            ("least_requests", Spread::LeastRequests),
            ("hash", Spread::Hash),
        ],
        Spread::Order,
    );
    let weights = weights(&mut fields, problems);
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
        balance: match balance {
            Spread::Order => Balance::Order,
            Spread::RoundRobin => Balance::RoundRobin,
            Spread::LeastRequests => Balance::LeastRequests,
            Spread::Hash => Balance::Hash(by.clone().unwrap_or(HashBy::Url)),
        },
        has_by: by.is_some(),
        weights,
        failover_on,
        deadline,
    })
}

/// The words for `balance`.
#[derive(Debug, Clone, Copy)]
enum Spread {
    Order,
    RoundRobin,
    LeastRequests,
    Hash,
}

fn hash_by(fields: &mut Fields<'_>, problems: &Problems) -> Option<HashBy> {
    match fields.text("by")? {
        "url" => Some(HashBy::Url),
        "address" => Some(HashBy::Address),
        text => match text.split_once(':') {
            Some(("header", name)) => {
                header_name(&fields.at("by"), name, problems).map(HashBy::Header)
            }
            Some(("cookie", name)) if !name.is_empty() => Some(HashBy::Cookie(name.into())),
            _ => {
                let message = "must be \"url\", \"address\", \"header:NAME\" or \"cookie:NAME\"";
                problems.add(fields.at("by"), Some(format!("{text:?}")), message);
                None
            }
        },
    }
}

fn weights(fields: &mut Fields<'_>, problems: &Problems) -> Vec<(String, u32)> {
    let Some(value) = fields.some("weights") else {
        return Vec::new();
    };
    let Some(members) = Fields::open(value, fields.at("weights"), problems) else {
        return Vec::new();
    };
    let weight = |(name, value): (&String, &Value)| {
        let weight = members.whole_of(name, value, 0, MOST_WEIGHT, "")?;
        Some((name.clone(), u32::try_from(weight).unwrap_or(1)))
    };
    let given = value.as_object().into_iter().flatten();
    given.filter_map(weight).collect()
}
