//! Fields of a client's request that are removed before anything reads them, both in the head and in the trailers.
//! `docs/request-fields.md` has the table.
//!
//! Servers behind the edge may read `_` as `-` (RFC 3875 §4.1.18 makes both `_`), so names are compared as if these
//! were one: a second spelling of a field that only the edge or a proxy may set is removed as well.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::LazyLock};

use smallvec::SmallVec;

use crate::http::{
    FieldName, Fields, Known, KnownSet, Named, WireName, header, is_token_byte, list,
};

/// The edge's own fields.
const EDGE_FIELDS: [&str; 11] = [
    "x-user-id",
    "x-user-role",
    "x-variant",
    "x-edge-request-id",
    "x-country-code",
    "x-geo-country",
    "x-geo-region",
    "x-geo-city",
    "x-geo-latitude",
    "x-geo-longitude",
    "x-geo-asn",
];
const EDGE_PREFIX: &str = "x-geo-";

/// Fields by which servers in front name the client, and `Proxy`, which CGI scripts mistake for their own proxy's
/// address (httpoxy). They are accepted from a trusted proxy only, and only if the plan names them
/// (`trusted_proxy_fields`).
pub const NAMED: [&str; 23] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cloudfront-forwarded-proto",
    "fastly-client-ip",
    "fly-client-ip",
    "proxy",
    "proxy-client-ip",
    "remote-user",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-nf-client-connection-ip",
    "x-proxyuser-ip",
    "x-remote-user",
];
/// Fields whose names begin so are removed as those of `NAMED` are.
pub const NAMED_PREFIX: &str = "cloudfront-viewer-";

/// Fields that only a trusted proxy may set: the request's source, and its URL before the proxy changed it. Frameworks
/// trust them (`X-Original-URL` bypasses a path rule, `X-Middleware-Subrequest` the middleware of Next.js), and cache
/// poisoning uses them.
const PROXY: [&str; 21] = [
    "forwarded",
    "forwarded-for",
    "forwarded-host",
    "forwarded-proto",
    "front-end-https",
    "x-arr-ssl",
    "x-forward-for",
    "x-forward-host",
    "x-forwarded",
    "x-host",
    "x-host-override",
    "x-http-host-override",
    "x-invoke-path",
    "x-middleware-subrequest",
    "x-now-route-matches",
    "x-override-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
];
const PROXY_PREFIXES: [&str; 2] = ["x-forwarded-", "x-original-"];

/// Fields that frame, route or identify: only their exact spelling is accepted.
const PLAIN_ONLY: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// True for a field in which the edge may say who a client is: none that frames or routes a request, or that the edge
/// or a proxy fills otherwise. `name` is in lower case.
pub fn may_identify(name: &str) -> bool {
    const OTHERS: [&str; 8] = [
        "accept-encoding",
        "content-type",
        "expect",
        "keep-alive",
        "proxy-connection",
        "range",
        "trailer",
        "via",
    ];
    let plain = plain(name);
    !PLAIN_ONLY.contains(&&*plain) && !OTHERS.contains(&&*plain) && !is_proxy_field(&plain)
}

/// A name that the plan lets trusted proxies set: one of `NAMED`, one that begins with `NAMED_PREFIX`, or all of those
/// (`cloudfront-viewer-*`).
pub fn is_named(name: &str) -> bool {
    NAMED.contains(&name) || name.starts_with(NAMED_PREFIX)
}

/// The name with `-` for each `_`.
fn plain(name: &str) -> Cow<'_, str> {
    if memchr::memchr(b'_', name.as_bytes()).is_some() {
        Cow::Owned(name.replace('_', "-"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Fields that the request had on arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct Present {
    pub connection: bool,
    pub content_length: bool,
    pub te: bool,
    pub upgrade: bool,
    pub via: bool,
}

impl Present {
    fn of(headers: &Fields) -> Self {
        Self {
            connection: headers.contains_key(header::CONNECTION),
            content_length: headers.contains_key(header::CONTENT_LENGTH),
            te: headers.contains_key(header::TE),
            upgrade: headers.contains_key(header::UPGRADE),
            via: headers.contains_key(header::VIA),
        }
    }
}

/// The rule for every field of a client's request.
#[derive(Debug, Clone, Copy)]
pub struct Sanitiser<'a> {
    /// Fields that the edge sets according to the plan: for tokens and experiments.
    pub edge_fields: &'a [FieldName],
    /// Fields of `NAMED` that trusted proxies set, in lower case.
    pub proxy_fields: &'a [Box<str>],
    /// The request came from a trusted proxy.
    pub trusted_peer: bool,
}

/// Known names that are forbidden to some clients: most names are known and none of these.
static SUSPECT: LazyLock<KnownSet> = LazyLock::new(|| {
    let strictest = Sanitiser {
        edge_fields: &[],
        proxy_fields: &[],
        trusted_peer: false,
    };
    Known::all()
        .filter(|known| strictest.forbids(known.as_str()))
        .collect()
});

impl Sanitiser<'_> {
    /// True if a client's copy of the field is removed. `name` is in lower case.
    pub fn forbids(&self, name: &str) -> bool {
        let plain = plain(name);
        let twin = matches!(plain, Cow::Owned(_));
        let plain: &str = &plain;
        let from_proxy = self.trusted_peer && !twin;
        // The first byte rules most fields out.
        let listed = match plain.as_bytes().first() {
            Some(b'x') => {
                EDGE_FIELDS.contains(&plain)
                    || plain.starts_with(EDGE_PREFIX)
                    || (NAMED.contains(&plain) && !(from_proxy && self.is_let_through(plain)))
                    || (is_proxy_field(plain) && !from_proxy)
            }
            Some(b'c' | b'f' | b'p' | b'r' | b't' | b'w') => {
                (is_named(plain) && !(from_proxy && self.is_let_through(plain)))
                    || (is_proxy_field(plain) && !from_proxy)
            }
            _ => false,
        };
        listed
            || self
                .edge_fields
                .iter()
                .any(|field| same(field.as_str(), plain))
            || (twin && PLAIN_ONLY.contains(&plain))
    }

    fn is_let_through(&self, plain: &str) -> bool {
        self.proxy_fields
            .iter()
            .any(|field| match field.strip_suffix('*') {
                Some(prefix) => plain.starts_with(prefix),
                None => **field == *plain,
            })
    }

    /// Removes all fields that `forbids` names, and all that are not forwarded. Reports which of the rare fields may be
    /// present, so that later phases need not search for the others.
    pub fn clean(&self, headers: &mut Fields) -> Present {
        let present = Present::of(headers);
        if present.connection {
            super::fields::strip_named(headers);
        }
        headers.retain(|name, _| match name.known() {
            Some(known) if !SUSPECT.has(known) => {
                !self.edge_fields.iter().any(|edge| name == *edge)
            }
            _ => !self.forbids(&name.lower()),
        });
        present
    }
}

fn is_proxy_field(plain: &str) -> bool {
    PROXY.contains(&plain)
        || PROXY_PREFIXES
            .iter()
            .any(|prefix| plain.starts_with(prefix))
}

/// True if a server that reads `_` as `-` takes the two names for one.
fn same(a: &str, b: &str) -> bool {
    let byte = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(byte).eq(b.bytes().map(byte))
}

/// True if `name` is one of `names`, or another spelling of one.
pub fn is_twin_of_any<'a>(name: &str, names: impl IntoIterator<Item = &'a FieldName>) -> bool {
    names.into_iter().any(|known| same(known.as_str(), name))
}

/// Removes the other spellings of a field that was just set or removed for the client; after a removal only those with
/// `_`, which nobody names on purpose.
pub fn without_twins(headers: &mut Fields, name: &FieldName) {
    let some = headers.contains_key(name);
    headers.retain(|known, _| known == *name || !is_twin(known, name, some));
}

/// True if `known` is another spelling of a name that is removed; of one that is not set only if it has `_`.
fn is_twin(known: WireName<'_>, name: &FieldName, set: bool) -> bool {
    let known = known.lower();
    same(&known, name.as_str()) && (set || known.contains('_'))
}

/// After a hook: removes the client's spellings of the fields that the hook set, changed or removed. `before`: the
/// fields that it was given.
pub fn without_twins_of_changes(before: &Fields, after: &mut Fields) {
    let ambiguous = |headers: &Fields| headers.keys().any(|name| name.as_wire().contains(&b'_'));
    if !ambiguous(before) && !ambiguous(after) {
        return;
    }
    let changed: SmallVec<[FieldName; 4]> = before
        .keys()
        .chain(after.keys())
        .filter(|name| !before.get_all(*name).iter().eq(after.get_all(*name).iter()))
        .map(WireName::owned)
        .collect();
    for name in &changed {
        let some = after.contains_key(name);
        after.retain(|known, _| known.is_in(&changed) || !is_twin(known, name, some));
    }
}

/// True if a field may be a trailer: not if it frames, routes, authenticates, or affects processing that precedes the
/// content (RFC 9110 §6.5.1).
fn may_be_late(name: &str) -> bool {
    const EARLY: [&str; 38] = [
        "age",
        "authentication-info",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
    ];
    !EARLY.contains(&&*plain(name))
}

/// The trailers that a request announces and may have (RFC 9110 §6.6.2): rewrites `Trailer` to name those, and removes
/// it if none is left. `kept`: whether the route forwards the field at all. No trailer repeats a field of the head, in
/// any spelling: it could override one that the edge set.
pub fn trailers(headers: &mut Fields, kept: impl Fn(&str) -> bool) -> Vec<FieldName> {
    if !headers.contains_key(header::TRAILER) {
        return Vec::new();
    }
    let mut names: Vec<FieldName> = Vec::new();
    let announced = headers.get_all(header::TRAILER).iter();
    for member in announced.flat_map(|line| list(line.as_bytes())) {
        if !member.iter().all(|&byte| is_token_byte(byte)) {
            continue;
        }
        let Ok(name) = FieldName::from_bytes(member) else {
            continue;
        };
        let text = name.as_str();
        if names.len() < MOST_TRAILERS
            && may_be_late(text)
            && kept(text)
            && !names.iter().any(|known| same(known.as_str(), text))
            && !headers.keys().any(|known| same(&known.lower(), text))
        {
            names.push(name);
        }
    }
    let text: Vec<&str> = names.iter().map(FieldName::as_str).collect();
    match http::HeaderValue::from_str(&text.join(", ")) {
        Ok(value) if !names.is_empty() => headers.insert(header::TRAILER, value),
        _ => {
            headers.remove(header::TRAILER);
        }
    }
    names
}

/// Removes the trailers that are not among `names`.
pub fn keep_only(trailers: &mut Fields, names: &[FieldName]) {
    trailers.retain(|name, _| name.is_in(names));
}

/// Largest number of trailer fields that one request forwards.
const MOST_TRAILERS: usize = 32;

/// Removes a response's trailers that may not be trailers, even if announced.
pub fn late(trailers: &mut Fields) {
    trailers.retain(|name, _| may_be_late(&name.lower()));
}
