//! The key and the origin agree (docs/design.md §3, agreement rule): whether a request whose response may be stored may
//! carry a thing upstream, and why.
//!
//! Nothing here knows of a store or an origin. A thing that is none of the four is dropped if the edge itself would add
//! it. If the client sent it and the forward policy forwards it, the request passes the cache: its response is not
//! stored, and no stored response is used for it.

use http::HeaderValue;
use smallvec::SmallVec;

use super::vary::{self, Vary};
use crate::{
    forward::REWRITING,
    http::{FieldName, Fields, cookie, header, uri},
    identity::jwt::{Claims, Forwarded},
    plan::{Route, Select},
    select,
};

/// Why a thing may go upstream with a request whose response may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// (a) The key contains it.
    Keyed,
    /// (b) It is an ordinary request field: the origin's `Vary` selects by it (RFC 9111 §4.1).
    Selectable,
    /// (c) The edge adds it for its own hop.
    Hop,
    /// (d) The policy declares that responses do not depend on it.
    Declared,
}

/// A thing that a request carries upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried<'a> {
    /// A query parameter, by its decoded name.
    Query(&'a str),
    /// A cookie, by its name.
    Cookie(&'a [u8]),
    /// A field that the client sent.
    Field(&'a FieldName),
    /// A field that carries a verified claim to the origin.
    Claim {
        /// The claim's name in the token.
        claim: &'a str,
        /// The request field in which the origin receives it.
        field: &'a FieldName,
    },
    /// The field that carries an experiment's variant to the origin.
    Variant,
    /// A field that a hook set, changed or removed.
    Hook(&'a FieldName),
}

/// Fields that the edge writes for its hop. A client's own copies are removed, or are those of a trusted proxy.
const HOP: [&str; 7] = [
    "via",
    "cdn-loop",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "traceparent",
];

/// The parts of a request that the route's key contains.
#[derive(Debug, Clone, Copy)]
pub struct Sees<'a> {
    /// The route that the request matched; its policy and experiments decide what the key contains.
    pub route: &'a Route,
    /// Fields that hooks set, changed or removed before the key was made.
    pub hooked: &'a [FieldName],
}

impl Sees<'_> {
    /// True if the key contains a parameter, by its decoded name.
    pub fn query(&self, name: &str) -> bool {
        self.route.cache.key_query.has(name)
    }

    /// True if the key contains a cookie, by its name.
    pub fn cookie(&self, name: impl AsRef<[u8]>) -> bool {
        let key = self.route.cache.key_cookies.as_ref();
        key.is_some_and(|key| key.has(name))
    }

    /// True if the key contains all that goes upstream of a field. For `Cookie`: only the key's cookies go upstream.
    pub fn field(&self, name: &FieldName) -> bool {
        let cache = &self.route.cache;
        cache.key_headers.contains(name)
            || self.hooked.contains(name)
            || (*name == header::ACCEPT_ENCODING && cache.accept_encoding)
            || (*name == header::COOKIE && cache.key_cookies.is_some())
            || *name == header::HOST
    }

    /// True if the key contains a claim of the token, by its name.
    pub fn claim(&self, name: &str) -> bool {
        let mut key = self.route.cache.key_claims.iter();
        key.any(|claim| **claim == *name)
    }

    /// True if the policy declares that responses do not depend on a field.
    pub fn declared(&self, name: &FieldName) -> bool {
        self.route.forward.unkeyed.fields.contains(name)
    }

    /// Why a thing may go upstream; `None`: it may not, if the response is to be stored.
    pub fn because(&self, carried: Carried<'_>) -> Option<Because> {
        let unkeyed = &self.route.forward.unkeyed;
        let keyed = |keyed: bool| keyed.then_some(Because::Keyed);
        let declared = |declared: bool| declared.then_some(Because::Declared);
        match carried {
            Carried::Query(name) => keyed(self.query(name))
                .or_else(|| declared(select::any(&unkeyed.query, name.as_bytes()))),
            // If the policy does not mention cookies they follow HTTP: `Cookie` is a field like others.
            Carried::Cookie(_) if self.route.cache.key_cookies.is_none() => {
                Some(Because::Selectable)
            }
            Carried::Cookie(name) => {
                keyed(self.cookie(name)).or_else(|| declared(select::any(&unkeyed.cookies, name)))
            }
            Carried::Field(name) => keyed(self.field(name))
                .or_else(|| declared(self.declared(name)))
                .or_else(|| HOP.contains(&name.as_str()).then_some(Because::Hop))
                // A rewriting field names another URL or method than the one in the key.
                .or_else(|| (!REWRITING.contains(name)).then_some(Because::Selectable)),
            Carried::Claim { claim, field } => keyed(self.claim(claim))
                .or_else(|| declared(self.shares_claim(claim, field)))
                // Without a choice of claims, all claims that the edge forwards to the origin are in the key.
                .or_else(|| keyed(self.route.cache.key_claims.is_empty())),
            Carried::Variant => Some(Because::Keyed),
            Carried::Hook(name) => {
                keyed(self.field(name)).or_else(|| declared(self.declared(name)))
            }
        }
    }

    fn shares_claim(&self, claim: &str, field: &FieldName) -> bool {
        self.route.auth.as_ref().is_some_and(|auth| auth.shared)
            || self.declared(field)
            || select::any(&self.route.forward.unkeyed.claims, claim.as_bytes())
    }

    /// The fields of verified claims that become part of the key by themselves: they are forwarded to the origin, and
    /// the policy neither names other claims nor declares that responses do not depend on these.
    pub fn identity(&self, claims: Option<&Claims>) -> SmallVec<[(FieldName, HeaderValue); 2]> {
        let Some(claims) = claims.filter(|_| self.route.cache.key_claims.is_empty()) else {
            return SmallVec::new();
        };
        let fields = claims.forward().iter();
        fields
            .filter(|one| !self.shares_claim(&one.claim, &one.field))
            .map(|one| (one.field.clone(), one.value.clone()))
            .collect()
    }

    /// True if a field of a claim may go upstream with a request whose response may be stored.
    pub fn may_forward(&self, forwarded: &Forwarded) -> bool {
        let carried = Carried::Claim {
            claim: &forwarded.claim,
            field: &forwarded.field,
        };
        self.because(carried).is_some()
    }

    /// Keeps the names of `Vary` by which stored responses are selected: all but those that are in the key anyway, and
    /// those that the policy declares not to select.
    pub fn selecting(&self, names: &mut SmallVec<[FieldName; 4]>) {
        names.retain(|name| !self.field(name) && !self.declared(name));
    }

    /// True if `Vary` names the field in which the edge reports each client's address. The request of a client
    /// has no such field that could be compared (RFC 9111 §4.1), so the response is for that client only.
    pub fn varies_by_client(&self, response: &Fields) -> bool {
        let name = FieldName::known(header::X_FORWARDED_FOR);
        response.contains_key(header::VARY)
            && matches!(vary::of(response), Vary::Names(names) if names.contains(&name))
            && !self.declared(&name)
    }

    /// True if the response to a POST may be stored for its URL: nothing was removed from the request on its way
    /// upstream.
    pub fn posted(&self, headers: &Fields, query: Option<&str>, claims: Option<&Claims>) -> bool {
        let mut fields = headers.keys();
        let mut forwarded = claims.into_iter().flat_map(Claims::forward);
        self.stray(headers, query).is_none()
            && fields.all(|name| self.because(Carried::Field(&name.owned())).is_some())
            && forwarded.all(|one| self.may_forward(one))
    }

    /// The first thing that a client's request would carry upstream against the rule: the request passes the cache.
    pub fn stray(&self, headers: &Fields, query: Option<&str>) -> Option<Stray> {
        let sent = &self.route.forward;
        if !sent.strays {
            return None;
        }
        for (name, _) in uri::query_pairs(query.unwrap_or_default()) {
            let name = uri::decode(name);
            if sent.query.has(&*name) && self.because(Carried::Query(&name)).is_none() {
                return Some(Stray::Query(name.into_owned()));
            }
        }
        for (name, _) in cookie::pairs(headers) {
            if sent.cookies.has(name) && self.because(Carried::Cookie(name)).is_none() {
                return Some(Stray::Cookie(String::from_utf8_lossy(name).into_owned()));
            }
        }
        if matches!(sent.headers, Select::Only(_)) {
            for name in headers
                .keys()
                .filter(|name| sent.headers.has(&*name.lower()))
            {
                let name = name.owned();
                if self.because(Carried::Field(&name)).is_none() {
                    return Some(Stray::Field(name));
                }
            }
        }
        None
    }
}

/// A part of the request that makes it pass the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// A query parameter, by its decoded name.
    Query(String),
    /// A cookie, by its name; bytes that are not UTF-8 are replaced.
    Cookie(String),
    /// A request field.
    Field(FieldName),
}

impl std::fmt::Display for Stray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Query(name) => write!(f, "the query parameter {name}"),
            Self::Cookie(name) => write!(f, "the cookie {name}"),
            Self::Field(name) => write!(f, "the field {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::plan::{self, Plan};

    fn plan(cache: serde_json::Value, forward: serde_json::Value, shared: bool) -> Plan {
        let plan = json!({
            "name": "t",
            "origins": [{"name": "o", "url": "http://o"}],
            "routes": [{
                "pattern": "/*", "to": "o", "cache": cache, "forward": forward,
                "auth": {
                    "keys": {"kind": "secret", "secret": {"value": "k".repeat(32)}, "algorithm": "HS256"},
                    "shared": shared, "optional": true,
                },
            }],
        });
        plan::compile(plan.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn each_thing_is_one_of_the_four_or_none() {
        let keyed = json!({"query": {"only": ["q"]}, "cookies": {"only": ["c"]}, "headers": ["X-K"], "claims": ["role"]});
        let sent = json!({
            "query": "all", "cookies": "all",
            "unkeyed": ["X-D", "query:u_*", "cookie:s", "claim:plan", "X-User-ID"],
        });
        let plan = plan(keyed, sent, false);
        let route = plan.routes.first().unwrap();
        let hooked = [FieldName::from_static("x-h")];
        let sees = Sees {
            route,
            hooked: &hooked,
        };
        let field = FieldName::from_static;
        let claim =
            |claim: &'static str, name: &'static FieldName| Carried::Claim { claim, field: name };
        static USER: FieldName = FieldName::known(header::X_USER_ID);
        static OTHER: FieldName = FieldName::from_static("x-other");
        let names = [
            "x-k",
            "x-d",
            "x-h",
            "x-p",
            "via",
            "x-original-url",
            "cookie",
        ]
        .map(field);
        let [key, declared, hook, plain, via, original, cookie] = &names;
        for (carried, want) in [
            (Carried::Query("q"), Some(Because::Keyed)),
            (Carried::Query("u_x"), Some(Because::Declared)),
            (Carried::Query("x"), None),
            (Carried::Cookie(b"c"), Some(Because::Keyed)),
            (Carried::Cookie(b"s"), Some(Because::Declared)),
            (Carried::Cookie(b"\xff"), None),
            (Carried::Field(key), Some(Because::Keyed)),
            (Carried::Field(declared), Some(Because::Declared)),
            (Carried::Field(plain), Some(Because::Selectable)),
            (Carried::Field(via), Some(Because::Hop)),
            (Carried::Field(original), None),
            (Carried::Field(cookie), Some(Because::Keyed)),
            (claim("role", &OTHER), Some(Because::Keyed)),
            (claim("plan", &OTHER), Some(Because::Declared)),
            (claim("sub", &USER), Some(Because::Declared)),
            (claim("sub", &OTHER), None),
            (Carried::Variant, Some(Because::Keyed)),
            (Carried::Hook(hook), Some(Because::Keyed)),
            (Carried::Hook(plain), None),
        ] {
            assert_eq!(sees.because(carried), want, "{carried:?}");
        }
    }

    #[test]
    fn cookies_are_a_field_where_the_policy_says_nothing_about_them() {
        let plan = plan(json!({}), json!({}), true);
        let route = plan.routes.first().unwrap();
        let sees = Sees { route, hooked: &[] };
        assert_eq!(
            sees.because(Carried::Cookie(b"a")),
            Some(Because::Selectable)
        );
        assert!(!route.forward.strays);
    }

    #[test]
    fn strays_are_found_only_where_they_go_upstream() {
        let mut headers = Fields::new();
        headers.insert(
            header::COOKIE,
            HeaderValue::from_bytes(b"a=1; s=\xff").unwrap(),
        );
        let none = json!({"query": "none", "cookies": "none"});
        for (cache, forward, want) in [
            (json!({}), json!({}), None),
            (none.clone(), json!({}), None),
            (
                none.clone(),
                json!({"query": "all"}),
                Some(Stray::Query("q".into())),
            ),
            (
                none.clone(),
                json!({"cookies": {"only": ["s"]}}),
                Some(Stray::Cookie("s".into())),
            ),
            (none.clone(), json!({"cookies": {"only": ["x"]}}), None),
            (none, json!({"query": "all", "unkeyed": ["query:q"]}), None),
            (
                json!({"cookies": ["a"]}),
                json!({"unkeyed": ["cookie:s"]}),
                None,
            ),
        ] {
            let cache = match cache {
                cache if cache["cookies"].is_array() => {
                    json!({"cookies": {"only": cache["cookies"]}})
                }
                cache => cache,
            };
            let plan = plan(cache, forward, true);
            let route = plan.routes.first().unwrap();
            let sees = Sees { route, hooked: &[] };
            assert_eq!(sees.stray(&headers, Some("q=1")), want);
        }
    }
}
