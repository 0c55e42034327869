//! `ADDRESSES`, `CORS`, `RATE_LIMIT`, `SIGNED`, `BASIC` and the list of hosts.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::{
    GuardSpec,
    headers::header_name,
    places,
    reader::{Fields, Problems, join},
    secret::secret,
    security,
};
use crate::{
    guard::{
        addresses::{AddressPolicy, AddressSet, MOST_NETWORKS},
        basic::BasicPolicy,
        cors::{Cors, CorsNames, CorsSpec, OriginPattern},
        rate::{RateBy, RateLimit},
        signed::{MOST_KEYS, SignedPolicy, UrlKey},
    },
    http::FieldName,
};

/// Longest delay of a rate limit; `docs/limits.md` names it.
const MOST_DELAY: Duration = Duration::from_secs(30);

/// The guards of a route. `site`: the name of the plan.
pub(super) fn guards(fields: &mut Fields<'_>, site: &str) -> GuardSpec {
    GuardSpec {
        addresses: addresses(fields),
        cors: cors(fields),
        limits: fields.each("rate_limits", rate_limit),
        signed: signed(fields),
        basic: basic(fields, site),
        security: security::security(fields),
    }
}

/// A list of networks; a single address is a network of its own.
pub(super) fn networks(fields: &mut Fields<'_>, name: &'static str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (path, text) in fields.texts(name) {
        let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        let message = match text.parse::<IpNet>().or_else(|_| address()) {
            Ok(IpNet::V6(net))
                if net.prefix_len() >= 96 && net.addr().to_ipv4_mapped().is_some() =>
            {
                "must be written as IPv4: addresses in its IPv6 form are read as IPv4"
            }
            Ok(net) => {
                networks.push(net.trunc());
                continue;
            }
            Err(_) => "must be an address or a network as in \"10.0.0.0/8\"",
        };
        fields
            .problems
            .add(path, Some(format!("{text:?}")), message);
    }
    if networks.len() > MOST_NETWORKS {
        let message = format!("must have at most {MOST_NETWORKS} networks");
        fields
            .problems
            .add(fields.at(name), Some(networks.len().to_string()), message);
    }
    networks
}

/// `addresses` of a site or a route.
pub(super) fn addresses(outer: &mut Fields<'_>) -> Option<AddressPolicy> {
    let value = outer.some("addresses")?;
    let mut fields = Fields::open(value, outer.at("addresses"), outer.problems)?;
    let has_allow = fields.some("allow").is_some();
    let allow = networks(&mut fields, "allow");
    let deny = networks(&mut fields, "deny");
    let places = places::lists(&mut fields);
    if !has_allow && deny.is_empty() && places.is_none() && !outer.problems.at(&fields.path) {
        let message =
            "has no effect: name networks, countries or network operators to allow or deny";
        fields.problems.add(fields.path.clone(), None, message);
    }
    fields.end();
    Some(AddressPolicy {
        allow: has_allow.then(|| AddressSet::new(&allow)),
        deny: AddressSet::new(&deny),
        places,
    })
}

fn named(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: &[&str],
    fits: impl Fn(&str) -> bool,
    must: &str,
) -> CorsNames {
    let Some(value) = fields.some(name) else {
        return CorsNames::Only(default.iter().map(|one| (*one).into()).collect());
    };
    if value.as_str() == Some("*") {
        return CorsNames::All;
    }
    let items = fields.list_of(name, value);
    let mut names: Vec<Box<str>> = Vec::new();
    for (path, text) in fields.only_texts(items) {
        if text == "*" {
            let message = "must be the whole value: \"*\", not a member of the list";
            fields
                .problems
                .add(path, Some(format!("{text:?}")), message);
        } else if !fits(text) {
            fields.problems.add(path, Some(format!("{text:?}")), must);
        } else {
            names.push(text.into());
        }
    }
    CorsNames::Only(names.into())
}

fn cors(outer: &mut Fields<'_>) -> Option<Cors> {
    let value = outer.some("cors")?;
    let mut fields = Fields::open(value, outer.at("cors"), outer.problems)?;
    let mut readable = true;
    let origins = match fields.required("origins")? {
        Value::String(all) if all == "*" => None,
        value => {
            let mut origins = Vec::new();
            let items = fields.list_of("origins", value);
            for (path, text) in fields.only_texts(items) {
                match OriginPattern::parse(text) {
                    Ok(origin) => origins.push(origin),
                    Err(message) => {
                        readable = false;
                        fields
                            .problems
                            .add(path, Some(format!("{text:?}")), message);
                    }
                }
            }
            Some(origins)
        }
    };
    let is_method = |text: &str| {
        http::Method::from_bytes(text.as_bytes()).is_ok()
            && !text.bytes().any(|byte| byte.is_ascii_lowercase())
            && !matches!(text, "CONNECT" | "TRACE" | "TRACK")
    };
    let must = "must be a method that browsers send, in upper case (Fetch §2.2.1)";
    let methods = named(
        &mut fields,
        "methods",
        &["GET", "HEAD", "POST"],
        is_method,
        must,
    );
    let is_field = |text: &str| FieldName::from_bytes(text.as_bytes()).is_ok();
    let must = "must be the name of a field";
    let headers = named(&mut fields, "headers", &[], is_field, must);
    let expose = named(&mut fields, "expose", &[], is_field, must);
    let credentials = fields.flag("credentials", false);
    let max_age = fields.delta("max_age", 600);
    let spec = CorsSpec {
        origins,
        methods,
        headers,
        expose,
        credentials,
        max_age,
    };
    let compiled = match Cors::compile(&spec) {
        Ok(cors) => Some(cors),
        Err((name, message)) => {
            // The members that could not be read are reported already.
            if readable {
                fields.problems.add(fields.at(name), None, message);
            }
            None
        }
    };
    fields.end();
    compiled
}

pub(super) fn rate_limit(
    value: &Value,
    path: String,
    problems: &Problems,
) -> Option<(String, RateLimit)> {
    const DAY: u64 = 86_400;
    let mut fields = Fields::open(value, path.clone(), problems)?;
    let name = fields.required_text("name").unwrap_or_default();
    let is_label = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_label {
        let message = "must be 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
        problems.add(fields.at("name"), Some(format!("{name:?}")), message);
    }
    let most = 1_000_000_000;
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let quota = fields.required("requests");
    let quota = quota.and_then(|value| fields.whole_of("requests", value, 1, most, ""));
    let window = number(fields.whole("per", 60, 1, DAY));
    let burst = fields
        .some("burst")
        .and_then(|value| fields.whole_of("burst", value, 1, most, ""));
    let delay = fields.timeout("delay", Duration::ZERO, false);
    if delay > MOST_DELAY {
        let message = format!("must be ≤ {} seconds", MOST_DELAY.as_secs());
        problems.add(
            fields.at("delay"),
            Some(delay.as_secs_f64().to_string()),
            message,
        );
    }
    let by = match fields.text("by").unwrap_or("address") {
        "address" => Some(RateBy::Address),
        "network" => Some(RateBy::Network),
        "route" => Some(RateBy::Route),
        text => match text.split_once(':') {
            Some(("header", name)) => {
                header_name(&fields.at("by"), name, problems).map(RateBy::Header)
            }
            Some(("cookie", name)) if !name.is_empty() => Some(RateBy::Cookie(name.into())),
            Some(("claim", name)) if !name.is_empty() => Some(RateBy::Claim(name.into())),
            _ => {
                let message = "must be \"address\", \"network\", \"route\", \"header:NAME\", \"cookie:NAME\" or \"claim:NAME\"";
                problems.add(fields.at("by"), Some(format!("{text:?}")), message);
                None
            }
        },
    };
    fields.end();
    let quota = number(quota?);
    let limit = RateLimit {
        name: name.into(),
        index: 0,
        quota,
        window,
        burst: burst.map_or(quota, number),
        delay,
        by: by?,
    };
    if limit.tolerance() > 7 * DAY * 1_000_000_000 {
        let message = "is more than the quota of a week: such a burst would never be used up";
        problems.add(join(&path, "burst"), Some(limit.burst.to_string()), message);
    }
    Some((path, limit))
}

fn signed(outer: &mut Fields<'_>) -> Option<SignedPolicy> {
    let value = outer.some("signed")?;
    let mut fields = Fields::open(value, outer.at("signed"), outer.problems)?;
    let mut keys: Vec<(Box<str>, UrlKey)> = Vec::new();
    for kind in ["keys", "secrets"] {
        for (path, name, value) in fields.map(kind) {
            // It stands in a query as it is.
            let is_name = (1..=128).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !is_name {
                let message = "must be a name of letters, digits, \"-\", \"_\" and \".\", as Key-Pair-Id has it";
                fields
                    .problems
                    .add(path, Some(format!("{name:?}")), message);
                continue;
            }
            if keys.iter().any(|(known, _)| **known == *name) {
                fields
                    .problems
                    .add(path, None, "is the name of another key already");
                continue;
            }
            let Some(secret) = secret(value, path.clone(), fields.problems) else {
                continue;
            };
            let key = if kind == "secrets" {
                UrlKey::secret(secret.as_bytes())
            } else {
                std::str::from_utf8(secret.as_bytes())
                    .map_err(|_| "is not PEM: it is not text".to_owned())
                    .and_then(UrlKey::public)
            };
            match key {
                Ok(key) => keys.push((name.into(), key)),
                Err(message) => fields.problems.add(path, None, message),
            }
        }
    }
    let sha1 = fields.flag("sha1", true);
    let declared = fields.declares("keys") || fields.declares("secrets");
    if keys.len() > MOST_KEYS || !declared {
        let message = format!("must have 1 to {MOST_KEYS} keys, in keys (public ones) or secrets");
        fields.problems.add(fields.path.clone(), None, message);
    }
    fields.end();
    Some(SignedPolicy {
        keys: keys.into(),
        sha1,
    })
}

fn basic(outer: &mut Fields<'_>, site: &str) -> Option<BasicPolicy> {
    let value = outer.some("basic")?;
    let mut fields = Fields::open(value, outer.at("basic"), outer.problems)?;
    let users = fields.required("users");
    let users = users.and_then(|value| secret(value, fields.at("users"), fields.problems));
    let realm = fields.text("realm").unwrap_or(site);
    let policy = users.and_then(|users| {
        let text = std::str::from_utf8(users.as_bytes()).map_err(|_| "is not text".to_owned());
        match text.and_then(|text| BasicPolicy::read(text, realm)) {
            Ok(policy) => Some(policy),
            Err(message) => {
                fields.problems.add(fields.at("users"), None, message);
                None
            }
        }
    });
    fields.end();
    policy
}
