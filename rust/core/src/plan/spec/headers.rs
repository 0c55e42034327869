//! Names and values of fields, statuses, methods: single values with a grammar of their own.

use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::{
    reader::{Fields, Problems, shown},
    secret::secret,
};
use crate::{
    http::{FieldName, cdn_loop::CDN_LOOP},
    plan::{HeaderEdits, Select},
};

/// Fields that belong to one connection or to the framing of one message (RFC 9110 §7.6.1, RFC 9112 §6): only the edge
/// itself writes them.
const CONNECTION: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn header_name(path: &str, text: &str, problems: &Problems) -> Option<FieldName> {
    if !unstarred(path, text, problems) {
        return None;
    }
    match FieldName::from_bytes(text.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => {
            problems.add(
                path,
                Some(format!("{text:?}")),
                "is not a field name (RFC 9110 §5.1: letters, digits, \"-\" and a few others)",
            );
            None
        }
    }
}

/// A field name that a policy may edit.
pub(super) fn editable_name(path: &str, text: &str, problems: &Problems) -> Option<FieldName> {
    let name = header_name(path, text, problems)?;
    if CONNECTION.contains(&name.as_str()) {
        let message = "belongs to the connection or to the framing (RFC 9110 §7.6.1): the edge writes it, a policy can't";
        problems.add(path, Some(format!("{text:?}")), message);
        return None;
    }
    if name == CDN_LOOP {
        let message = "finds loops between CDNs (RFC 8586 §2): the edge writes it, a policy can't";
        problems.add(path, Some(format!("{text:?}")), message);
        return None;
    }
    Some(name)
}

/// A field value. It is never shown: it may be a key.
pub(super) fn header_value(path: &str, value: &Value, problems: &Problems) -> Option<HeaderValue> {
    let Some(text) = value.as_str() else {
        problems.add(path, None, "must be a string");
        return None;
    };
    match HeaderValue::from_str(text) {
        Ok(value) if text.trim_matches([' ', '\t']).len() == text.len() => Some(value),
        Ok(_) => {
            problems.add(
                path,
                None,
                "must not begin or end with white space (RFC 9110 §5.5)",
            );
            None
        }
        Err(_) => match HeaderValue::from_bytes(text.as_bytes()) {
            Ok(value) => Some(value),
            Err(_) => {
                problems.add(
                    path,
                    None,
                    "has a control character, which no field value may have (RFC 9110 §5.5)",
                );
                None
            }
        },
    }
}

/// An object of field names and values; a value may be a list.
pub(super) fn header_map(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Vec<(FieldName, HeaderValue)> {
    header_map_with(fields, name, |_, _, _| None)
}

/// Like `header_map`, but a value may also be a secret.
pub(super) fn secret_header_map(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Vec<(FieldName, HeaderValue)> {
    let secret = |path: &str, value: &Value, problems: &Problems| {
        value
            .is_object()
            .then(|| secret_value(path, value, problems))
    };
    header_map_with(fields, name, secret)
}

/// Never printed, even if the fields are.
fn secret_value(path: &str, value: &Value, problems: &Problems) -> Option<HeaderValue> {
    let secret = secret(value, path.to_owned(), problems)?;
    match HeaderValue::from_bytes(secret.as_bytes()) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(_) => {
            problems.add(
                path,
                None,
                "is a secret with line breaks, which a header field cannot contain",
            );
            None
        }
    }
}

fn header_map_with(
    fields: &mut Fields<'_>,
    name: &'static str,
    other: impl Fn(&str, &Value, &Problems) -> Option<Option<HeaderValue>>,
) -> Vec<(FieldName, HeaderValue)> {
    let mut read = Vec::new();
    for (path, key, value) in fields.map(name) {
        let Some(name) = editable_name(&path, key, fields.problems) else {
            continue;
        };
        let values: &[Value] = match value {
            Value::Array(values) => values,
            one => std::slice::from_ref(one),
        };
        for value in values {
            let value = other(&path, value, fields.problems)
                .unwrap_or_else(|| header_value(&path, value, fields.problems));
            if let Some(value) = value {
                read.push((name.clone(), value));
            }
        }
    }
    read
}

pub(super) fn edits(value: Option<&Value>, path: String, problems: &Problems) -> HeaderEdits {
    let Some(mut fields) = value.and_then(|value| Fields::open(value, path, problems)) else {
        return HeaderEdits::default();
    };
    let set = header_map(&mut fields, "set");
    let add = header_map(&mut fields, "add");
    let remove = fields.texts("remove");
    let remove = remove
        .iter()
        .filter_map(|(path, text)| editable_name(path, text, problems))
        .collect();
    for (name, _) in set.iter().chain(&add) {
        if *name == crate::http::header::HOST {
            let message = "is the origin's to choose: set `host` of the origin";
            problems.add(fields.path.clone(), Some("\"host\"".to_owned()), message);
        }
    }
    fields.end();
    HeaderEdits { remove, set, add }
}

pub(super) fn status(path: &str, value: &Value, problems: &Problems) -> Option<StatusCode> {
    let code = value.as_u64().and_then(|code| u16::try_from(code).ok());
    status_code(path, code, || shown(value), problems)
}

/// A status as the key of an object.
pub(super) fn status_key(path: &str, key: &str, problems: &Problems) -> Option<StatusCode> {
    status_code(path, key.parse().ok(), || format!("{key:?}"), problems)
}

fn status_code(
    path: &str,
    code: Option<u16>,
    shown: impl Fn() -> String,
    problems: &Problems,
) -> Option<StatusCode> {
    let status = code
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok());
    if status.is_none() {
        problems.add(path, Some(shown()), "must be a status code from 200 to 599");
    }
    status
}

/// Checks that a name has no `*`.
pub(super) fn unstarred(path: &str, text: &str, problems: &Problems) -> bool {
    if text.contains('*') {
        let message = "has a *, which stands for more names only at the end of those of query parameters and cookies";
        problems.add(path, Some(format!("{text:?}")), message);
        return false;
    }
    true
}

/// True if a name of query parameters or cookies is valid; a `*` at its end represents any rest.
pub(super) fn starred(path: &str, text: &str, problems: &Problems) -> bool {
    let message = match text.strip_suffix('*').unwrap_or(text) {
        "" if text.is_empty() => "must not be empty",
        "" => "stands for every name: write \"all\" or \"none\"",
        start if start.contains('*') => {
            "has a * before its end: it stands for more names only at the end"
        }
        _ => return true,
    };
    problems.add(path, Some(format!("{text:?}")), message);
    false
}

/// `SELECT`. `lower`: the names are field names.
pub(super) fn select(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: Select,
    lower: bool,
) -> Select {
    match fields.raw(name) {
        None => default,
        Some(value) => select_of(fields, name, value, lower).unwrap_or(default),
    }
}

pub(super) fn select_of(
    fields: &Fields<'_>,
    name: &str,
    value: &Value,
    lower: bool,
) -> Option<Select> {
    const FORM: &str = "must be \"all\", \"none\", {\"only\": [names]} or {\"except\": [names]}";
    let map = match value {
        Value::String(word) if word == "all" => return Some(Select::All),
        Value::String(word) if word == "none" => return Some(Select::None),
        Value::Object(map) => map,
        other => {
            fields.wrong(name, other, FORM);
            return None;
        }
    };
    let mut members = map.iter();
    let (Some((word, list)), None) = (members.next(), members.next()) else {
        fields.wrong(name, value, FORM);
        return None;
    };
    if !matches!(word.as_str(), "only" | "except") {
        fields.wrong(name, value, FORM);
        return None;
    }
    let inner = Fields::open(value, fields.at(name), fields.problems)?;
    let items = inner.list_of(word, list);
    let mut names = Vec::new();
    for (path, text) in inner.only_texts(items) {
        if lower {
            names
                .extend(header_name(&path, text, fields.problems).map(|name| name.as_str().into()));
        } else if starred(&path, text, fields.problems) {
            names.push(text.into());
        }
    }
    Some(match (word.as_str(), names.is_empty()) {
        ("only", true) => Select::None,
        ("only", false) => Select::Only(names),
        (_, true) => Select::All,
        (_, false) => Select::Except(names),
    })
}
