//! `SECURITY`: the fields by which browsers restrict pages.

use http::HeaderValue;
use serde_json::Value;

use super::{
    reader::{Fields, Problems},
    secret::secret,
};
use crate::{
    guard::{
        csp,
        nonce::{NoncePlaceholder, NoncedPolicy},
        security::{self, SecurityFields},
    },
    http::{FieldName, header},
};

/// A field of responses with its value.
type SetField = (FieldName, HeaderValue);

/// `nonce` of `security`. `named`: a policy has a place for it.
fn placeholder(fields: &mut Fields<'_>, named: bool) -> Option<NoncePlaceholder> {
    let at = fields.at("nonce");
    let Some(value) = fields.some("nonce") else {
        if named {
            let message = "is required: csp has 'nonce-{nonce}', and this is the text that pages have in its place";
            fields.problems.add(at, None, message);
        }
        return None;
    };
    if !named {
        let message = "has no effect: write 'nonce-{nonce}' in csp or csp_report_only";
        fields.problems.add(at, None, message);
        return None;
    }
    let placeholder = NoncePlaceholder::new(secret(value, at.clone(), fields.problems)?);
    if placeholder.is_none() {
        let message = "must be 24 to 64 letters, digits, \"-\" and \"_\", as random as a key";
        fields.problems.add(at, None, message);
    }
    placeholder
}

/// `security` of a site or a route.
pub(super) fn security(outer: &mut Fields<'_>) -> Option<SecurityFields> {
    let value = outer.some("security")?;
    let mut fields = Fields::open(value, outer.at("security"), outer.problems)?;
    let hsts = fields
        .some("hsts")
        .and_then(|value| hsts(value, fields.at("hsts"), fields.problems));
    let (mut set, nonced) = content_policies(&mut fields);
    set.extend(permissions_policy(&mut fields));
    if fields.flag("nosniff", true) {
        set.push((
            FieldName::from(header::X_CONTENT_TYPE_OPTIONS),
            HeaderValue::from_static("nosniff"),
        ));
    }
    one_word_fields(&mut fields, &mut set);
    let placeholder = placeholder(&mut fields, !nonced.is_empty());
    let replaces = fields.flag("override", true);
    if set.is_empty() && nonced.is_empty() && hsts.is_none() {
        let message = "has no effect: it sets no field";
        fields.problems.add(fields.path.clone(), None, message);
    }
    fields.end();
    Some(SecurityFields {
        nonced,
        placeholder,
        fields: set,
        hsts,
        replaces,
    })
}

/// `csp` and `csp_report_only`: those that are the same in each response, and those with a place for its nonce.
fn content_policies(fields: &mut Fields<'_>) -> (Vec<SetField>, Vec<NoncedPolicy>) {
    let (mut set, mut nonced) = (Vec::new(), Vec::new());
    for (name, field) in [
        ("csp", FieldName::from(header::CONTENT_SECURITY_POLICY)),
        ("csp_report_only", FieldName::from_static(csp::REPORT_ONLY)),
    ] {
        let Some(text) = fields.text(name) else {
            continue;
        };
        // Browsers pass over a source with other characters in silence (CSP 3 §2.2.1).
        let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii());
        match (csp::check(text), value) {
            (Ok(()), Some(value)) => match NoncedPolicy::new(field.clone(), text) {
                Some(policy) => nonced.push(policy),
                None => set.push((field, value)),
            },
            (Err(message), _) => fields.problems.add(fields.at(name), None, message),
            _ => fields
                .problems
                .add(fields.at(name), None, "must be one line of ASCII text"),
        }
    }
    (set, nonced)
}

fn permissions_policy(fields: &mut Fields<'_>) -> Option<SetField> {
    let text = fields.text("permissions_policy")?;
    match HeaderValue::from_str(text) {
        Ok(value) if is_permissions(text) => {
            Some((FieldName::from(header::PERMISSIONS_POLICY), value))
        }
        _ => {
            let message = "must be features with their allow lists, such as \"camera=(), geolocation=(self)\"";
            fields.problems.add(
                fields.at("permissions_policy"),
                Some(format!("{text:?}")),
                message,
            );
            None
        }
    }
}

/// The fields that are one of a few words each.
fn one_word_fields(fields: &mut Fields<'_>, set: &mut Vec<SetField>) {
    for (name, field, words, default) in [
        (
            "frame",
            FieldName::from(header::X_FRAME_OPTIONS),
            &["DENY", "SAMEORIGIN"][..],
            Some("SAMEORIGIN"),
        ),
        (
            "referrer_policy",
            FieldName::from(header::REFERRER_POLICY),
            &REFERRER[..],
            Some(STRICT_ORIGIN),
        ),
        (
            "coop",
            FieldName::from_static("cross-origin-opener-policy"),
            &OPENER[..],
            None,
        ),
        (
            "coep",
            FieldName::from_static("cross-origin-embedder-policy"),
            &["unsafe-none", "require-corp", "credentialless"][..],
            None,
        ),
        (
            "corp",
            FieldName::from_static("cross-origin-resource-policy"),
            &["same-site", "same-origin", "cross-origin"][..],
            None,
        ),
    ] {
        let choices: Vec<(&str, &'static str)> = words.iter().map(|word| (*word, *word)).collect();
        let word = match fields.raw(name) {
            None => default,
            Some(Value::Null) => None,
            Some(value) => fields.choice_of(name, value, &choices),
        };
        set.extend(word.map(|word| (field, HeaderValue::from_static(word))));
    }
}

/// HTML §7.1.3.
const OPENER: [&str; 4] = [
    "unsafe-none",
    "same-origin-allow-popups",
    "same-origin",
    "noopener-allow-popups",
];
/// The default of browsers, sent so that older ones have it, too.
const STRICT_ORIGIN: &str = "strict-origin-when-cross-origin";
/// Referrer Policy §3.
const REFERRER: [&str; 8] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    STRICT_ORIGIN,
    "unsafe-url",
];

fn hsts(value: &Value, path: String, problems: &Problems) -> Option<HeaderValue> {
    let mut fields = Fields::open(value, path, problems)?;
    let max_age = fields.delta("max_age", 63_072_000);
    let subdomains = fields.flag("include_subdomains", false);
    let preload = fields.flag("preload", false);
    if preload && (max_age < security::LEAST_PRELOAD || !subdomains) {
        let message = format!(
            "needs include_subdomains, and max_age of {} or more: browsers' lists take no other site",
            security::LEAST_PRELOAD
        );
        problems.add(fields.at("preload"), Some("true".to_owned()), message);
    }
    fields.end();
    security::hsts(max_age, subdomains, preload)
}

/// Members such as `camera=()`: a dictionary of structured fields (Permissions Policy §5.2).
fn is_permissions(text: &str) -> bool {
    text.split(',').all(|member| {
        member.trim().split_once('=').is_some_and(|(name, list)| {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            let is_list =
                matches!(list, "*" | "self") || (list.starts_with('(') && list.ends_with(')'));
            !name.is_empty() && is_name && is_list
        })
    })
}
