//! Phase 2 in words.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri::PathAndQuery};

use super::{Asked, ExplainRequest, Steps};
use crate::{
    admit,
    http::uri,
    identity::client_address,
    plan::{Plan, Scheme},
};

pub(super) fn admitted(plan: &Plan, request: &ExplainRequest, steps: &mut Steps) -> Option<Asked> {
    const PHASE: &str = "admit";
    let bad = |steps: &mut Steps, reason: &str| steps.end(PHASE, "400", reason);
    let Ok(method) = Method::from_bytes(request.method.as_bytes()) else {
        return bad(steps, "the method is not a token (RFC 9110 §9.1)");
    };
    let Ok(url) = request.url.parse::<Uri>() else {
        return bad(steps, "the URL is malformed (RFC 9112 §3.2)");
    };
    if request.url.len() > plan.limits.http.url_bytes {
        return steps.end(
            PHASE,
            "414",
            format!(
                "the URL is longer than limits.http.url_bytes ({})",
                plan.limits.http.url_bytes
            ),
        );
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return bad(steps, "a header field is malformed (RFC 9110 §5)"),
        };
    }
    let tls = match url.scheme_str() {
        Some(scheme) => scheme == "https",
        None => request.scheme == Some(Scheme::Https),
    };
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.uri = url.clone();
    head.headers = headers;
    let client = client_address::resolve(request.client, &head.headers, &plan.trusted_proxies, tls);
    let Ok((authority, _)) = admit::authority(&head, client.scheme) else {
        return bad(steps, "no usable Host (RFC 9110 §7.2)");
    };
    let mut headers = head.headers;
    let outer = client
        .trusted_peer
        .then(|| admit::forwarded_host(&headers, client.scheme))
        .flatten()
        .unwrap_or_else(|| authority.clone());
    let host_of = |authority: &HeaderValue| -> String {
        authority
            .to_str()
            .ok()
            .and_then(|text| text.get(..admit::host_length(authority)))
            .unwrap_or_default()
            .to_owned()
    };
    let host = host_of(&authority);
    let before: Vec<HeaderName> = headers.keys().cloned().collect();
    plan.sanitiser(client.trusted_peer).clean(&mut headers);
    let Ok(path) = uri::normalise_path(url.path()) else {
        return bad(steps, "the path has an invalid escape (RFC 3986 §2.1)");
    };
    let whole = url
        .query()
        .map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
    let Ok(target) = whole.parse::<PathAndQuery>() else {
        return bad(steps, "the URL is malformed (RFC 9112 §3.2)");
    };
    let scheme = if client.scheme == Scheme::Https {
        "https"
    } else {
        "http"
    };
    let mut reason = format!("from {} over {scheme}", client.address);
    if client.trusted_peer {
        let _ = write!(reason, ", as the trusted proxy {} says", request.client);
    }
    if path != url.path() {
        let _ = write!(
            reason,
            "; the path {} in its normal form (RFC 3986 §6.2.2)",
            url.path()
        );
    }
    let removed: Vec<&str> = before
        .iter()
        .filter(|name| !headers.contains_key(*name))
        .map(HeaderName::as_str)
        .collect();
    if !removed.is_empty() {
        let _ = write!(
            reason,
            "; removed, since only the edge may set them: {}",
            removed.join(", ")
        );
    }
    steps.add(PHASE, format!("{method} {host}{target}"), reason);
    if plan.via.loops(&headers, 4) {
        return steps.end(
            PHASE,
            "508",
            "Via says that the request has passed this edge before",
        );
    }
    Some(Asked {
        method,
        host,
        outer: host_of(&outer),
        port: admit::port(&outer),
        target,
        headers,
        client,
    })
}
