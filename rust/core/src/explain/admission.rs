//! Phase 2 in words.

use std::fmt::Write as _;

use http::{HeaderValue, Method, Uri};

use super::{Admitted, ExplainRequest, Steps};
use crate::{
    admit::{LastAuthority, Refusal},
    http::{FieldName, Fields, PathAndQuery, RequestParts, TargetAuthority, WireName},
    path::PathEnd,
    plan::Scheme,
};

/// The request as it would arrive, admitted; `None` ends it.
pub(super) fn arrived(request: &ExplainRequest, steps: &mut Steps<'_>) -> Option<Admitted> {
    const PHASE: &str = "admit";
    let plan = steps.plan;
    let mut end = |decision: &str, reason: &str| steps.end(PHASE, decision, reason);
    let Ok(method) = Method::from_bytes(request.method.as_bytes()) else {
        return end("400", "the method is not a token (RFC 9110 §9.1)");
    };
    let Ok(url) = request.url.parse::<Uri>() else {
        return end("400", "the URL is malformed (RFC 9112 §3.2)");
    };
    let most = plan.limits.http.url_bytes;
    if request.url.len() > most {
        let reason = format!("the URL is longer than limits.http.url_bytes ({most})");
        return end("414", &reason);
    }
    let mut head = RequestParts::default();
    for (name, value) in &request.headers {
        match (
            FieldName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            (Ok(name), Ok(value)) => head.headers.append(name, value),
            _ => return end("400", "a header field is malformed (RFC 9110 §5)"),
        };
    }
    let scheme = match url.scheme_str() {
        Some("https") => Scheme::Https,
        Some(_) => Scheme::Http,
        None => request.scheme.unwrap_or(Scheme::Http),
    };
    let target = url
        .path_and_query()
        .map(|target| PathAndQuery::try_from(target.as_str()));
    let (Ok(target), Ok(authority)) = (
        target.transpose(),
        url.authority()
            .map(|authority| HeaderValue::from_str(authority.as_str()))
            .transpose(),
    ) else {
        return end("400", "the URL is malformed (RFC 9112 §3.2)");
    };
    head.method = method;
    head.target = target.unwrap_or_default();
    // The URL stands for a connection and a request on it, not for an absolute form.
    head.authority = authority.map(|value| TargetAuthority {
        value,
        is_https: false,
    });
    let before: Fields = head.headers.clone();
    let mut admitted = Admitted::arriving(Box::new(head), false, request.client, scheme);
    if let Err(answer) = admitted.admit(plan, None, &LastAuthority::default()) {
        let reason = match &answer {
            PathEnd::Refused(Refusal::BadHost) => "no usable Host (RFC 9110 §7.2)",
            PathEnd::Refused(Refusal::BadTarget) => {
                "the path has an invalid escape (RFC 3986 §2.1)"
            }
            PathEnd::Loop => "Via says that the request has passed this edge before",
            other => other.message(),
        };
        return end(answer.status().as_str(), reason);
    }
    let client = &admitted.client;
    let mut reason = format!("from {} over {}", client.address, client.scheme.as_str());
    if client.trusted_peer {
        let _ = write!(reason, ", as the trusted proxy {} says", request.client);
    }
    if admitted.viewer_path.path() != url.path() {
        let _ = write!(
            reason,
            "; the path {} in its normal form (RFC 3986 §6.2.2)",
            url.path()
        );
    }
    let removed: Vec<_> = before
        .keys()
        .filter(|name| !admitted.head.headers.contains_key(*name))
        .map(WireName::lower)
        .collect();
    if !removed.is_empty() {
        let _ = write!(
            reason,
            "; removed, since only the edge may set them: {}",
            removed.join(", ")
        );
    }
    let decision = format!(
        "{} {}{}",
        admitted.head.method,
        admitted.host(),
        admitted.viewer_path
    );
    steps.add(PHASE, decision, reason);
    Some(admitted)
}
