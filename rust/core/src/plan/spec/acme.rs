//! The terms by which certificates are obtained.

use std::{collections::HashMap, path::PathBuf};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use super::{
    certificate::file_secret,
    reader::{Fields, Problems},
    secret::secret,
    spelling::listed,
};
use crate::{
    acme::normalised_name,
    outcome::Word as _,
    plan::{
        AcmePolicy, ChallengeKind, ExternalAccount, Issuer, Listener, OnDemand,
        acme::{DEFAULT_DIRECTORY, MOST_NAMES},
    },
    problem::shown_url,
    secret::Secret,
};

/// Reads the terms of one TLS policy.
pub(super) fn terms(value: &Value, path: String, problems: &Problems) -> Option<AcmePolicy> {
    let mut fields = Fields::open(value, path, problems)?;
    let on_demand = match fields.some("on_demand") {
        None | Some(Value::Bool(false)) => OnDemand::Never,
        Some(Value::Bool(true)) => OnDemand::Listed,
        Some(value) => fields
            .text_of("on_demand", value)
            .map_or(OnDemand::Never, |name| OnDemand::Allowed(name.into())),
    };
    let names = names(&mut fields, on_demand.callable().is_some());
    let email = fields.text("email").map(|email| {
        let is_address = email.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@')
        });
        if !is_address || email.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let why = "must be an address such as \"ops@example.com\"";
            problems.add(fields.at("email"), Some(format!("{email:?}")), why);
        }
        email.into()
    });
    let mut issuers = fields.each("issuers", issuer);
    if fields.raw("issuers").is_none() {
        issuers.push(Issuer {
            directory: DEFAULT_DIRECTORY.into(),
            ca: None,
            profile: None,
            external_account: None,
        });
    } else if issuers.is_empty() && !problems.at(&format!("{}[0]", fields.at("issuers"))) {
        let why = "must have at least one issuer; leave it out for Let's Encrypt";
        problems.add(fields.at("issuers"), None, why);
    }
    let storage = fields.required_text("storage").map(PathBuf::from);
    if storage
        .as_ref()
        .is_some_and(|path| path.as_os_str().is_empty())
    {
        let why = "must be a folder for accounts, keys and certificates, such as \"/var/lib/edgerouter/acme\"";
        problems.add(fields.at("storage"), None, why);
    }
    let dns = fields.text("dns").map(Box::from);
    let challenges = challenges(&mut fields, dns.is_some());
    let kinds = challenges.as_slice();
    let by_dns = kinds.contains(&ChallengeKind::Dns01);
    if by_dns != dns.is_some() {
        let (field, why) = match by_dns {
            true => (
                "dns",
                "is required by the challenge \"dns-01\": a callable that sets a record",
            ),
            false => ("dns", "has no effect: add \"dns-01\" to challenges"),
        };
        problems.add(fields.at(field), None, why);
    }
    for (at, name) in names.iter().enumerate() {
        if name.starts_with("*.") && !by_dns {
            let why = format!(
                "no certificate for a wildcard is obtained by {}; give each name, or dns, a callable that sets a record",
                listed(&kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())
            );
            problems.add(
                format!("{}[{at}]", fields.at("names")),
                Some(format!("{name:?}")),
                why,
            );
        }
    }
    fields.end();
    Some(AcmePolicy {
        names,
        email,
        issuers,
        storage: storage?,
        challenges,
        dns,
        on_demand,
    })
}

fn names(fields: &mut Fields<'_>, may_lack: bool) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let declared = match may_lack {
        true => None,
        false => fields.required("names"),
    };
    for (path, text) in fields.texts("names") {
        let shown = Some(format!("{text:?}"));
        match normalised_name(text) {
            Ok(name) if names.iter().any(|known| **known == *name) => {
                fields.problems.add(path, shown, "is named twice");
            }
            Ok(name) => names.push(name.into()),
            Err(fault) => fields.problems.add(path, shown, fault.to_string()),
        }
    }
    if declared
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
    {
        let why = "must have at least one name that a certificate is obtained for";
        fields.problems.add(fields.at("names"), None, why);
    }
    names
}

/// Without any, those that need no callable, or the one that there is a callable for.
fn challenges(fields: &mut Fields<'_>, by_dns: bool) -> Vec<ChallengeKind> {
    let mut kinds = Vec::new();
    let given = fields.raw("challenges").is_some();
    for (path, text) in fields.texts("challenges") {
        let kind = ChallengeKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text);
        let why = match kind {
            Some(kind) if !kinds.contains(&kind) => {
                kinds.push(kind);
                continue;
            }
            Some(_) => "is named twice".to_owned(),
            None => format!("must be one of {}", listed(ChallengeKind::WORDS)),
        };
        fields.problems.add(path, Some(format!("{text:?}")), why);
    }
    if !given && by_dns {
        kinds.push(ChallengeKind::Dns01);
    } else if !given {
        kinds.extend([ChallengeKind::Http01, ChallengeKind::TlsAlpn01]);
    } else if kinds.is_empty() {
        let why = format!("must have at least one of {}", listed(ChallengeKind::WORDS));
        fields.problems.add(fields.at("challenges"), None, why);
    }
    kinds
}

fn issuer(value: &Value, path: String, problems: &Problems) -> Option<Issuer> {
    let mut fields = Fields::open(value, path, problems)?;
    let directory = fields.text("directory").unwrap_or(DEFAULT_DIRECTORY);
    let is_https = directory.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    });
    if directory.contains('@') {
        let why = "must have no user or password: an account at the issuer is given by key_id and hmac_key";
        problems.add(fields.at("directory"), None, why);
    } else if !is_https {
        problems.add(
            fields.at("directory"),
            shown_url(directory),
            format!(
                "must be the URL of a directory of ACME by https, such as {DEFAULT_DIRECTORY:?}"
            ),
        );
    }
    let ca = fields.some("ca_file");
    let ca = ca.and_then(|value| file_secret(value, fields.at("ca_file"), problems));
    let profile = fields.text("profile");
    let is_word = |text: &str| {
        !text.is_empty() && text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if let Some(text) = profile.filter(|text| !is_word(text)) {
        let why = "must be the name of a profile that the issuer offers, such as \"shortlived\"";
        problems.add(fields.at("profile"), Some(format!("{text:?}")), why);
    }
    let key_id = fields.text("key_id");
    let hmac_key = fields.some("hmac_key");
    let external_account = match (key_id, hmac_key) {
        (Some(key_id), Some(value)) => {
            let path = fields.at("hmac_key");
            let decoded = secret(value, path.clone(), problems).map(|secret| decoded(&secret));
            if decoded.as_ref().is_some_and(Option::is_none) {
                problems.add(
                    path,
                    None,
                    "must be the key in Base64, as the issuer shows it",
                );
            }
            decoded.flatten().map(|hmac_key| ExternalAccount {
                key_id: key_id.into(),
                hmac_key,
            })
        }
        (None, None) => None,
        (given, _) => {
            let absent = if given.is_some() {
                "hmac_key"
            } else {
                "key_id"
            };
            let why = "is required: an external account has key_id and hmac_key, as the issuer shows them";
            problems.add(fields.at(absent), None, why);
            None
        }
    };
    fields.end();
    Some(Issuer {
        directory: directory.into(),
        ca,
        profile: profile.map(Into::into),
        external_account,
    })
}

/// Issuers show keys in base64url, some in Base64.
fn decoded(secret: &Secret) -> Option<Secret> {
    let text = std::str::from_utf8(secret.as_bytes()).ok()?.trim();
    let unpadded = text.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD
        .decode(unpadded)
        .or_else(|_| STANDARD.decode(text));
    bytes.ok().filter(|bytes| !bytes.is_empty()).map(Secret)
}

/// Refuses names that two policies obtain by different terms, and more names than are looked after.
pub(super) fn agree(listeners: &[Listener], problems: &Problems) {
    let mut known: HashMap<&str, &AcmePolicy> = HashMap::new();
    let mut allowing: Option<&AcmePolicy> = None;
    for (at, listener) in listeners.iter().enumerate() {
        for (position, policy) in listener.tls.iter().enumerate() {
            let Some(terms) = &policy.acme else { continue };
            if terms.on_demand.callable().is_some() {
                let path = format!("listeners[{at}].tls[{position}].acme.on_demand");
                if position > 0 {
                    let why = "has no effect: names that are not listed select the first policy; make it the first one";
                    problems.add(path, None, why);
                } else if allowing.is_some_and(|other| !same_terms(other, terms)) {
                    let why = "allows names by other terms than another listener; give both the same email, issuers, storage \
                               and challenges";
                    problems.add(path, None, why);
                }
                allowing = Some(terms);
            }
            for (number, name) in terms.names.iter().enumerate() {
                let other = *known.entry(name).or_insert(terms);
                if !same_terms(other, terms) {
                    problems.add(
                        format!("listeners[{at}].tls[{position}].acme.names[{number}]"),
                        Some(format!("{name:?}")),
                        "is obtained by other terms for another policy; give both the same email, issuers, storage and challenges",
                    );
                }
            }
        }
    }
    if known.len() > MOST_NAMES {
        let why = format!("certificates are obtained for at most {MOST_NAMES} names");
        problems.add("listeners", Some(known.len().to_string()), why);
    }
}

fn same_terms(one: &AcmePolicy, other: &AcmePolicy) -> bool {
    one.email == other.email
        && one.issuers == other.issuers
        && one.storage == other.storage
        && one.challenges == other.challenges
        && one.dns == other.dns
        && one.on_demand == other.on_demand
}
