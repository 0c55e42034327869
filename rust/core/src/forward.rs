//! The header section of the request that goes to an origin (phase 11's input).
//!
//! Hop-by-hop fields end here (RFC 9110 §7.6.1), the route's forward policy chooses which parts of the viewer's request
//! the origin may see, and the fields that the edge vouches for (client address, scheme, host, identity, variant) are
//! set last, so that nothing before could have forged them. Client-sent copies were removed on admission.

use std::{fmt::Write as _, net::IpAddr};

use http::{HeaderValue, Method, Version};

use crate::{
    admit::{self, Authority},
    http::{FieldName, Fields, KnownSet, Value, cdn_loop::CDN_LOOP, cookie, header, via::Via},
    plan::{ForwardPolicy, HeaderEdits, Origin, Route, Scheme, Select, UpstreamHost},
};

/// Fields that describe the body or the message itself, or its way: a forward policy never drops them.
const ALWAYS: KnownSet = KnownSet::of(&[
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::COOKIE,
    header::VIA,
]);

/// The viewer's data that a request to an origin carries.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// Address of the connection's peer (`address_value`), appended to `X-Forwarded-For`.
    pub peer: &'a HeaderValue,
    /// Scheme of the viewer's connection, for `X-Forwarded-Proto`.
    pub scheme: Scheme,
    /// `Host` as the viewer sent it, including the port.
    pub authority: &'a Authority,
    /// HTTP version of the viewer's request, for `Via`.
    pub version: Version,
}

/// The part that is the same for every member of a group: policy applied, edge fields set.
pub fn base(
    headers: &mut Fields,
    route: &Route,
    viewer: Viewer<'_>,
    edge_set: &[(FieldName, HeaderValue)],
    via: &Via,
) {
    // The canonical spelling of the cookies in the key: pieces of `Cookie` that are not cookies are not in it.
    let one_spelling = route.cache.enabled && route.cache.key_cookies.is_some();
    select(headers, &route.forward, one_spelling);
    // An expectation applies to one hop: the sender of the request adds it again (RFC 9110 §10.1.1).
    headers.remove(header::EXPECT);
    if route.cache.enabled && route.cache.accept_encoding {
        normalise_accept_encoding(headers);
    }
    // A placeholder cannot be found in coded content.
    if route.nonce.is_some() {
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    if route.cache.enabled && route.cache.accept_language {
        normalise_accept_language(headers);
    }
    forwarded(headers, viewer);
    via.append(headers, viewer.version);
    for (name, value) in edge_set {
        headers.insert(name.clone(), value.clone());
    }
    edit(headers, &route.request_headers);
    for name in route.request_headers.names() {
        admit::without_twins(headers, name);
    }
}

/// Takes one hop from `Max-Forwards` of an OPTIONS; false: none is left, and the request ends here (RFC 9110 §7.6.2). A
/// value that is no number goes on as it is. A TRACE goes nowhere.
pub fn takes_hop(method: &Method, headers: &mut Fields) -> bool {
    if *method != Method::OPTIONS {
        return true;
    }
    let Some(line) = headers.sole(header::MAX_FORWARDS) else {
        return true;
    };
    let digits = line.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return true;
    }
    let number = std::str::from_utf8(digits).map(str::parse::<u64>);
    let hops = number.ok().and_then(Result::ok).unwrap_or(u64::MAX);
    let Some(left) = hops.checked_sub(1) else {
        return false;
    };
    headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
    true
}

/// The part that differs between origins: `Host` and the origin's own fields.
pub fn address(headers: &mut Fields, origin: &Origin, viewer_authority: &impl Value) {
    match &origin.upstream_host {
        UpstreamHost::Origin => headers.insert(header::HOST, &origin.authority),
        UpstreamHost::Viewer => headers.insert(header::HOST, viewer_authority),
        UpstreamHost::Literal(host) => headers.insert(header::HOST, host),
    }
    for (name, _) in &origin.headers {
        headers.remove(name);
    }
    for (name, value) in &origin.headers {
        headers.append(name.clone(), value.clone());
        admit::without_twins(headers, name);
    }
}

/// Removes fields that would make the origin send less than the whole response: the edge evaluates conditions and
/// ranges on the response that it stores.
pub fn unconditional(headers: &mut Fields) {
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ] {
        headers.remove(name);
    }
}

/// Fields by which frameworks change the URL or the method that a request is for.
pub const REWRITING: [FieldName; 11] = [
    FieldName::known(header::X_FORWARDED_PREFIX),
    FieldName::from_static("x-forwarded-scheme"),
    FieldName::from_static("x-host"),
    FieldName::from_static("x-http-host-override"),
    FieldName::from_static("x-http-method"),
    FieldName::from_static("x-http-method-override"),
    FieldName::from_static("x-method-override"),
    FieldName::known(header::X_ORIGINAL_HOST),
    FieldName::known(header::X_ORIGINAL_URL),
    FieldName::known(header::X_REWRITE_URL),
    FieldName::from_static("x-script-name"),
];

/// Makes a preflight that was let through without a token a plain preflight: removes credentials, and fields that would
/// turn it into another method or URL.
pub fn preflight(headers: &mut Fields) {
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::COOKIE);
    for name in REWRITING {
        headers.remove(name);
    }
}

/// Removes fields that would make the origin answer for another URL or method than the one whose response is stored,
/// unless the route forwards the field by name or has it in its key. Proxies in front forward such fields from clients,
/// so theirs are removed, too. A field that is forwarded and not keyed makes the request pass the cache
/// (`cache::agreement`).
pub fn without_rewriting(headers: &mut Fields, route: &Route, method: &Method) {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return;
    }
    for name in REWRITING {
        if headers.contains_key(&name)
            && !route.cache.key_headers.contains(&name)
            // A field that the route sets is the same for every request.
            && !route.request_headers.set.iter().any(|(set, _)| *set == name)
            && !matches!(&route.forward.headers, Select::Only(names) if names.iter().any(|chosen| **chosen == *name.as_str()))
        {
            headers.remove(name);
        }
    }
}

/// Sends the prefix that was removed from the path to the origin, after that of a trusted proxy if it names one.
pub fn prefix(headers: &mut Fields, route: &Route) {
    let edits = &route.request_headers;
    let edited = edits
        .remove
        .iter()
        .any(|name| *name == header::X_FORWARDED_PREFIX)
        || edits
            .set
            .iter()
            .chain(&edits.add)
            .any(|(name, _)| *name == header::X_FORWARDED_PREFIX);
    let Some(stripped) = route.strip_prefix.as_ref().filter(|_| !edited) else {
        return;
    };
    let mut whole = match headers.get(header::X_FORWARDED_PREFIX) {
        Some(outer) if outer.as_bytes().starts_with(b"/") => {
            outer.as_bytes().trim_ascii_end().to_vec()
        }
        _ => Vec::new(),
    };
    while whole.last() == Some(&b'/') {
        whole.pop();
    }
    whole.extend_from_slice(stripped.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::X_FORWARDED_PREFIX, value);
    }
}

/// Applies edits: `remove`, then `set`, then `add`.
pub fn edit(headers: &mut Fields, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name.clone(), value.clone());
    }
}

fn select(headers: &mut Fields, policy: &ForwardPolicy, one_spelling: bool) {
    if policy.headers != Select::All {
        headers.retain(|name, _| {
            let name_lower = name.lower();
            name.is_of(ALWAYS) || CDN_LOOP == *name_lower || policy.headers.has(&*name_lower)
        });
    }
    keep_cookies(headers, policy, one_spelling);
}

/// Keeps the cookies that the origin may see.
pub fn cookies(headers: &mut Fields, route: &Route) {
    let one_spelling = route.cache.enabled && route.cache.key_cookies.is_some();
    keep_cookies(headers, &route.forward, one_spelling);
}

fn keep_cookies(headers: &mut Fields, policy: &ForwardPolicy, one_spelling: bool) {
    match &policy.cookies {
        Select::All if !one_spelling => {}
        Select::None => {
            headers.remove(header::COOKIE);
        }
        chosen => cookie::retain(headers, |name| chosen.has(name)),
    }
}

fn normalise_accept_language(headers: &mut Fields) {
    if let Some(value) = crate::http::accept::normalised_language(headers) {
        headers.insert(header::ACCEPT_LANGUAGE, value);
    }
}

fn normalise_accept_encoding(headers: &mut Fields) {
    let encodings = crate::http::accept::normalised_encoding(headers);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings));
}

/// Appends the peer to `X-Forwarded-For`; whether an earlier value may stay was decided on admission.
fn forwarded(headers: &mut Fields, viewer: Viewer<'_>) {
    let peer = viewer.peer;
    let chain = match headers.get(header::X_FORWARDED_FOR) {
        None => peer.clone(),
        Some(_) => {
            let mut chain = Vec::new();
            for value in headers.get_all(&header::X_FORWARDED_FOR) {
                chain.extend_from_slice(value.as_bytes());
                chain.extend_from_slice(b", ");
            }
            chain.extend_from_slice(peer.as_bytes());
            HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone())
        }
    };
    headers.insert(header::X_FORWARDED_FOR, chain);
    headers.insert(
        header::X_FORWARDED_PROTO,
        HeaderValue::from_static(match viewer.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }),
    );
    headers.insert(header::X_FORWARDED_HOST, viewer.authority);
}

/// An address as a field value.
pub fn address_value(address: IpAddr) -> HeaderValue {
    // The longest textual IPv6 address has 45 characters.
    let mut text = smallvec::SmallVec::<[u8; 64]>::new();
    struct Ascii<'a>(&'a mut smallvec::SmallVec<[u8; 64]>);
    impl std::fmt::Write for Ascii<'_> {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0.extend_from_slice(s.as_bytes());
            Ok(())
        }
    }
    let _ = write!(Ascii(&mut text), "{address}");
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
}
