//! `tracing` of a plan.

use std::time::Duration;

use http::Uri;
use serde_json::Value;

use super::{
    headers::{secret_header_map, select},
    reader::{Fields, Problems},
    secret::secret,
};
use crate::{
    select::Select,
    trace::{Believed, ShownTo, TracingPolicy},
};

/// `edge`: its name, which names the service where nothing else does.
pub(super) fn tracing(value: &Value, edge: &str, problems: &Problems) -> Option<TracingPolicy> {
    let mut fields = Fields::open(value, "tracing", problems)?;
    let endpoint = fields.text("endpoint").unwrap_or_default();
    if !endpoint.is_empty()
        && let Err(why) = receiver(endpoint)
    {
        // It may hold a password.
        problems.add(fields.at("endpoint"), None, why);
    }
    let headers = secret_header_map(&mut fields, "headers");
    let service = fields.text("service").unwrap_or(edge);
    let mut resource = vec![
        ("service.name".into(), service.into()),
        ("telemetry.sdk.name".into(), "edgerouter".into()),
        ("telemetry.sdk.language".into(), "rust".into()),
        (
            "telemetry.sdk.version".into(),
            env!("CARGO_PKG_VERSION").into(),
        ),
    ];
    for (path, name, value) in fields.map("attributes") {
        match value.as_str() {
            Some(value) => resource.push((name.into(), value.into())),
            None => problems.add(path, None, "must be a string"),
        }
    }
    let ratio = match fields.raw("ratio").map(|value| (value, value.as_f64())) {
        None => 0.01,
        Some((_, Some(ratio))) if (0.0..=1.0).contains(&ratio) => ratio,
        Some((value, _)) => {
            fields.wrong("ratio", value, "must be a number from 0 to 1");
            0.0
        }
    };
    let errors = fields.flag("keep_errors", true);
    let slow = match fields.raw("keep_slow") {
        None => Some(Duration::from_secs(1)),
        Some(_) => fields.maybe_timeout("keep_slow"),
    };
    let believed = [
        ("nobody", Believed::Nobody),
        ("proxies", Believed::Proxies),
        ("everybody", Believed::Everybody),
    ];
    let believe = fields.choice("believe", &believed, Believed::Proxies);
    let query = select(&mut fields, "query", Select::None, false);
    let shown = [
        ("nobody", ShownTo::Nobody),
        ("debug", ShownTo::Debug),
        ("everybody", ShownTo::Everybody),
    ];
    let server_timing = fields.choice("server_timing", &shown, ShownTo::Nobody);
    let debug_token = fields
        .some("debug_token")
        .and_then(|value| secret(value, fields.at("debug_token"), problems));
    let queue_spans = fields.whole("queue_spans", 8_192, 64, 1_000_000) as usize;
    let timeout = fields.timeout("timeout", Duration::from_secs(10), true);
    fields.end();
    Some(TracingPolicy {
        endpoint: (!endpoint.is_empty()).then(|| endpoint.into()),
        headers,
        resource,
        threshold: TracingPolicy::threshold(ratio),
        errors,
        slow,
        believe,
        query,
        server_timing,
        debug_token,
        queue_spans,
        timeout,
    })
}

fn receiver(url: &str) -> Result<(), &'static str> {
    const FORM: &str =
        "must be a URL of http or https with a host, as in \"http://127.0.0.1:4318\"";
    let url: Uri = url.parse().map_err(|_| FORM)?;
    let authority = url.authority().ok_or(FORM)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(FORM);
    }
    if authority.as_str().contains('@') {
        return Err("must have no user and password: put them into headers");
    }
    Ok(())
}
