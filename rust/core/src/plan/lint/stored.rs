//! Rules for routes whose responses are stored: what one visitor's response may give to another one.

use super::advice::Advice;
use crate::{
    forward,
    plan::{PathPattern, Select, SetCookiePolicy, table},
};

/// Request parts that the origin may depend on and the key does not contain: requests that carry them pass the cache.
pub(super) fn unkeyed(advice: &mut Advice<'_>) {
    const RULE: &str = "cache-poisoning";
    let (cache, sent) = (&advice.route.cache, &advice.route.forward);
    if !cache
        .key_query
        .with(&sent.unkeyed.query)
        .covers(&sent.query)
    {
        let message = format!(
            "query parameters go to the origin ({}) that are not in the key ({}): requests that carry them pass the cache",
            table::select(&sent.query),
            table::select(&cache.key_query)
        );
        advice.warn(RULE, message, "forward no more than cache.query, or declare in forward.unkeyed those that responses do not depend on");
    }
    // Without a choice of cookies the origin's own Vary: Cookie selects responses.
    if let Some(key) = &cache.key_cookies
        && !key.with(&sent.unkeyed.cookies).covers(&sent.cookies)
    {
        let message = format!(
            "cookies go to the origin ({}) that are not in the key ({}): requests that carry them pass the cache",
            table::select(&sent.cookies),
            table::select(key)
        );
        advice.warn(RULE, message, "forward no more than cache.cookies, or declare in forward.unkeyed those that responses do not depend on");
    }
    if let Select::Only(names) = &sent.headers {
        let unkeyed: Vec<&str> = names
            .iter()
            .map(|name| &**name)
            .filter(|name| {
                let is = |other: &crate::http::FieldName| other.as_str() == *name;
                forward::REWRITING.iter().any(is)
                    && !cache.key_headers.iter().any(is)
                    && !sent.unkeyed.fields.iter().any(is)
            })
            .collect();
        if !unkeyed.is_empty() {
            let message = format!(
                "{} go to the origin, origins answer by them, and they are not in the key: requests that carry them pass the cache",
                unkeyed.join(", ")
            );
            advice.warn(
                RULE,
                message,
                "add them to cache.headers, or don't forward them",
            );
        }
    }
}

/// Responses that were made with a visitor's cookies and are stored for everybody.
pub(super) fn cookies(advice: &mut Advice<'_>) {
    const RULE: &str = "set-cookie";
    let cache = &advice.route.cache;
    if cache.set_cookie == SetCookiePolicy::Store {
        advice.warn(
            RULE,
            "responses are stored with their cookies: everybody gets the cookie of the visitor whose request brought them",
            "use set_cookie=\"strip\" or \"refuse\", unless these cookies are the same for everybody",
        );
    }
    if advice.route.forward.cookies == Select::None || cache.key_cookies.is_some() {
        return;
    }
    if cache.set_cookie == SetCookiePolicy::Strip {
        advice.warn(
            RULE,
            "responses that set cookies are stored, though they were made with a visitor's own cookies",
            "send no cookies (cookies=\"none\"), or refuse such responses",
        );
    }
    if cache.ttl.is_some() || cache.min_ttl > 60 {
        advice.warn(
            RULE,
            "a lifetime is forced on responses although all cookies go to the origin, and they are in the key only where it says Vary: Cookie",
            "set cache.cookies to \"none\" or to a list",
        );
    }
}

/// A page under the name of a static file, stored because the policy gives it a lifetime.
pub(super) fn deception(advice: &mut Advice<'_>) {
    let cache = &advice.route.cache;
    let gives = cache.ttl.is_some() || cache.default_ttl.is_some() || cache.min_ttl > 0;
    // Without cookies the origin does not know the visitor.
    let personal = cache.key_cookies != Some(Select::None);
    let named =
        PathPattern::parse("/*.css").is_ok_and(|named| named.intersects(&advice.route.path));
    if gives && personal && named && !cache.extension_guard {
        advice.note(
            "cache-deception",
            "the policy gives lifetimes, and a page that the origin sends for a name such as /account/x.css would be stored for everybody",
            "set extension_guard=True, or have the origin send Cache-Control: private",
        );
    }
}

pub(super) fn shared_identity(advice: &mut Advice<'_>) {
    let Some(policy) = &advice.route.auth else {
        return;
    };
    if !advice.route.cache.key_claims.is_empty() {
        return;
    }
    if policy.shared && !policy.forward.is_empty() {
        advice.warn(
            "shared-identity",
            "all visitors share responses, and the origin receives the user's identity",
            "forward no claims (forward={}), or put them in the key (cache.claims)",
        );
    } else if !policy.shared {
        advice.note(
            "auth-not-shared",
            "the cache is on, but responses behind a token are not stored unless the origin allows it (RFC 9111 §3.5)",
            "say cache.DISABLED if that is meant, shared=True if responses depend on nobody, or choose cache.claims",
        );
    }
}
