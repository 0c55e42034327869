//! `CACHE`, `JWT`, `EXPERIMENT` and secrets.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    headers::{header_name, select, select_of, status_key, unstarred},
    places,
    reader::{Fields, Problems, shown},
};
use crate::{
    cache::fill::Fill,
    experiment::{self, ConfigSpec, ExperimentBy, ExperimentSpec},
    identity::jwt::{JwtKeysSpec, JwtSpec},
    plan::{CachePolicy, Select, SetCookiePolicy},
    secret::Secret,
};

pub(super) fn cache(value: &Value, path: String, problems: &Problems) -> CachePolicy {
    let standard = CachePolicy::default();
    let Some(mut fields) = Fields::open(value, path, problems) else {
        return standard;
    };
    let enabled = fields.flag("enabled", standard.enabled);
    let ttl = fields.maybe_delta("ttl", standard.ttl);
    let default_ttl = fields.maybe_delta("default_ttl", standard.default_ttl);
    let min_ttl = fields.delta("min_ttl", standard.min_ttl);
    let max_ttl = fields.maybe_delta("max_ttl", standard.max_ttl);
    let heuristics = fields.flag("heuristics", standard.heuristics);
    let stale_while_revalidate = fields.maybe_delta("stale_while_revalidate", None);
    let stale_if_error = fields.maybe_delta("stale_if_error", None);
    let grace = fields.maybe_delta("grace", None);
    let sick_grace = fields.maybe_delta("sick_grace", None);
    let stale_when_disconnected =
        fields.delta("stale_when_disconnected", standard.stale_when_disconnected);
    let refresh_ahead = fields.flag("refresh_ahead", false);
    let beta = fields.number("refresh_beta", 1.0, 0.0, 1_000.0);
    let key_query = select(&mut fields, "query", standard.key_query, false);
    let listed = matches!(key_query, Select::Only(_) | Select::Except(_));
    let sort_query = match fields.some("sort_query") {
        None => listed,
        Some(_) => fields.flag("sort_query", listed),
    };
    let key_headers = names(&mut fields, "headers", Vec::new());
    let key_cookies = match fields.some("cookies") {
        None => None,
        Some(value) => select_of(&fields, "cookies", value, false),
    };
    let key_claims = fields
        .texts("claims")
        .into_iter()
        .filter(|(path, claim)| unstarred(path, claim, problems))
        .map(|(_, claim)| claim.into())
        .collect();
    let key_geo = places::facts(&mut fields, "geo");
    let compress = fields.flag("compress", standard.compress);
    let accept_encoding = fields.flag("accept_encoding", standard.accept_encoding);
    let choices = [
        ("refuse", SetCookiePolicy::Refuse),
        ("strip", SetCookiePolicy::Strip),
        ("store", SetCookiePolicy::Store),
    ];
    let mut accept_language = false;
    for (path, text) in fields.texts("normalise") {
        if text.eq_ignore_ascii_case("accept-language") {
            accept_language = true;
        } else {
            let message =
                "must be \"accept-language\"; Accept-Encoding is normalised by accept_encoding";
            problems.add(path, Some(format!("{text:?}")), message);
        }
    }
    let set_cookie = fields.choice("set_cookie", &choices, standard.set_cookie);
    let mut negative_ttl = Vec::new();
    for (path, key, value) in fields.map("negative_ttl") {
        let status = status_key(&path, key, problems);
        let seconds = fields.delta_of(&format!("negative_ttl.{key}"), value);
        negative_ttl.extend(status.zip(seconds));
    }
    let extension_guard = fields.flag("extension_guard", standard.extension_guard);
    let request_directives = fields.flag("request_directives", standard.request_directives);
    let collapse = fields.flag("collapse", standard.collapse);
    let slices = fields.flag("slices", standard.slices);
    let fills = [Fill::Second, Fill::First, Fill::Never].map(|fill| (fill.as_str(), fill));
    let fill = fields.choice("fill", &fills, standard.fill);
    if !slices && fill != standard.fill {
        problems.add(
            fields.at("fill"),
            Some(format!("{:?}", fill.as_str())),
            "has no effect where slices is false: leave one of them out",
        );
    }
    let targets = names(&mut fields, "targets", standard.targets);
    let tags = names(&mut fields, "tags", standard.tags);
    let send_tags = fields.flag("send_tags", false);
    let status_key = fields.flag("status_key", standard.status_key);
    if let Some(most) = max_ttl.filter(|most| *most < min_ttl) {
        problems.add(
            fields.at("min_ttl"),
            Some(min_ttl.to_string()),
            format!("must be ≤ max_ttl, which is {most}"),
        );
    }
    if let (Some(healthy), Some(sick)) = (grace, sick_grace)
        && sick < healthy
    {
        problems.add(
            fields.at("sick_grace"),
            Some(sick.to_string()),
            format!("must be ≥ grace, which is {healthy}: an unhealthy origin gets more time"),
        );
    }
    let winner = match (stale_if_error, sick_grace) {
        (Some(_), _) => Some("stale_if_error"),
        (None, Some(_)) => Some("sick_grace"),
        (None, None) => None,
    };
    if let Some(winner) = winner
        && ![0, standard.stale_when_disconnected].contains(&stale_when_disconnected)
    {
        problems.add(
            fields.at("stale_when_disconnected"),
            Some(stale_when_disconnected.to_string()),
            format!("has no effect beside {winner}, which wins over it: leave one of them out"),
        );
    }
    fields.end();
    CachePolicy {
        enabled,
        ttl,
        default_ttl,
        min_ttl,
        max_ttl,
        heuristics,
        stale_while_revalidate,
        stale_if_error,
        grace,
        sick_grace,
        stale_when_disconnected,
        refresh_ahead: refresh_ahead.then_some(beta),
        key_query,
        sort_query,
        key_headers,
        key_cookies,
        key_claims,
        key_geo,
        compress,
        accept_encoding,
        accept_language,
        set_cookie,
        negative_ttl,
        extension_guard,
        request_directives,
        collapse,
        slices,
        fill,
        targets,
        tags,
        send_tags,
        status_key,
    }
}

/// A list of field names.
fn names(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: Vec<crate::http::FieldName>,
) -> Vec<crate::http::FieldName> {
    match fields.raw(name) {
        None => default,
        Some(value) => {
            let items = fields.list_of(name, value);
            let texts = fields.only_texts(items);
            texts
                .into_iter()
                .filter_map(|(path, text)| header_name(&path, text, fields.problems))
                .collect()
        }
    }
}

/// `SECRET`. A problem never contains any of it, only the reason why it could not be read.
pub(super) fn secret(value: &Value, path: String, problems: &Problems) -> Option<Secret> {
    const FORM: &str = "must be a secret: env(\"NAME\"), secret_file(path) or a value";
    let Some(map) = value.as_object() else {
        problems.add(path, None, FORM);
        return None;
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str);
    if let Some(problem) = text("problem") {
        let source = match (text("env"), text("file")) {
            (Some(name), _) => format!("environment variable {name}: "),
            (_, Some(file)) => format!("file {file}: "),
            _ => String::new(),
        };
        problems.add(path, None, format!("{source}{problem}"));
        return None;
    }
    let bytes = match (text("value"), text("base64")) {
        (Some(value), None) => value.as_bytes().to_vec(),
        (None, Some(encoded)) => match STANDARD.decode(encoded.trim()) {
            Ok(bytes) => bytes,
            Err(_) => {
                problems.add(path, None, "is not base64 (RFC 4648 §4)");
                return None;
            }
        },
        _ => {
            problems.add(path, None, FORM);
            return None;
        }
    };
    if let Some(unknown) = map
        .keys()
        .find(|key| !matches!(key.as_str(), "value" | "base64" | "env" | "file"))
    {
        problems.add(
            path.clone(),
            None,
            format!("has the unknown field {unknown:?}"),
        );
    }
    if bytes.is_empty() {
        problems.add(path, None, "is empty");
        return None;
    }
    Some(Secret(bytes))
}

pub(super) fn jwt(
    value: &Value,
    path: String,
    realm: &str,
    problems: &Problems,
) -> Option<JwtSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let keys = fields
        .required("keys")
        .and_then(|keys| jwt_keys(keys, fields.at("keys"), problems));
    let algorithms = fields.some("algorithms").map(|value| {
        let items = fields.list_of("algorithms", value);
        fields
            .only_texts(items)
            .into_iter()
            .map(|(_, text)| text.to_owned())
            .collect::<Vec<_>>()
    });
    if let (Some(_), Some(keys)) = (&algorithms, &keys)
        && !matches!(keys, JwtKeysSpec::Jwks { .. } | JwtKeysSpec::JwksUrl { .. })
    {
        problems.add(
            fields.at("algorithms"),
            None,
            "is for key sets: a single key names its own algorithm",
        );
    }
    let issuer = owned(fields.texts("issuer"));
    let audience = owned(fields.texts("audience"));
    let leeway = fields.delta("leeway", 0);
    let require = match fields.raw("require") {
        None => vec!["exp".to_owned()],
        Some(value) => {
            let items = fields.list_of("require", value);
            owned(fields.only_texts(items))
        }
    };
    let cookie = fields.text("cookie").map(str::to_owned);
    let invalid_status = match fields.raw("invalid_status") {
        None => 403,
        Some(value) => match value.as_u64() {
            Some(401) => 401,
            Some(403) => 403,
            _ => {
                fields.wrong("invalid_status", value, "must be 401 or 403");
                403
            }
        },
    };
    let shared = fields.flag("shared", false);
    let forward = match fields.raw("forward") {
        None => vec![
            ("userId".to_owned(), "X-User-ID".to_owned()),
            ("role".to_owned(), "X-User-Role".to_owned()),
        ],
        Some(_) => {
            let mut forward = Vec::new();
            for (path, claim, field) in fields.map("forward") {
                match field.as_str() {
                    Some(field) => forward.push((claim.to_owned(), field.to_owned())),
                    None => problems.add(path, Some(shown(field)), "must be a field name"),
                }
            }
            forward
        }
    };
    let optional = fields.flag("optional", false);
    let realm = fields.text("realm").unwrap_or(realm).to_owned();
    fields.end();
    Some(JwtSpec {
        keys: keys?,
        algorithms,
        issuer,
        audience,
        leeway,
        require,
        cookie,
        invalid_status,
        shared,
        forward,
        optional,
        realm,
    })
}

fn owned(texts: Vec<(String, &str)>) -> Vec<String> {
    texts.into_iter().map(|(_, text)| text.to_owned()).collect()
}

#[derive(Clone, Copy)]
enum KeyKind {
    Secret,
    Pem,
    Jwks,
    JwksUrl,
}

fn jwt_keys(value: &Value, path: String, problems: &Problems) -> Option<JwtKeysSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    fields.secret = true;
    let kinds = [
        ("secret", KeyKind::Secret),
        ("pem", KeyKind::Pem),
        ("jwks", KeyKind::Jwks),
        ("jwks_url", KeyKind::JwksUrl),
    ];
    let kind = fields.required("kind")?;
    let kind = fields.choice_of("kind", kind, &kinds)?;
    let material = |fields: &mut Fields<'_>, name: &'static str| {
        let value = fields.required(name)?;
        secret(value, fields.at(name), problems)
    };
    let keys = match kind {
        KeyKind::Secret => {
            let secret = material(&mut fields, "secret");
            let algorithm = fields.required_text("algorithm").map(str::to_owned);
            secret
                .zip(algorithm)
                .map(|(secret, algorithm)| JwtKeysSpec::Secret { secret, algorithm })
        }
        KeyKind::Pem => {
            let pem = material(&mut fields, "pem");
            let algorithm = fields.required_text("algorithm").map(str::to_owned);
            pem.zip(algorithm)
                .map(|(pem, algorithm)| JwtKeysSpec::Pem { pem, algorithm })
        }
        KeyKind::Jwks => material(&mut fields, "jwks").map(|jwks| JwtKeysSpec::Jwks { jwks }),
        KeyKind::JwksUrl => {
            let url = fields.required_text("url").map(str::to_owned);
            let refresh = fields.delta("refresh", 300);
            let cooldown = fields.delta("cooldown", 30);
            let max_stale = fields.delta("max_stale", 86_400);
            url.map(|url| JwtKeysSpec::JwksUrl {
                url,
                refresh,
                cooldown,
                max_stale,
            })
        }
    };
    fields.end();
    keys
}

/// `config`, `config_interval` and `payload_header` of an experiment.
fn experiment_config(fields: &mut Fields<'_>) -> Option<ConfigSpec> {
    let text = fields.text("config");
    let interval = fields.timeout("config_interval", Duration::from_secs(5), true);
    let header = fields.text("payload_header");
    let Some(text) = text else {
        if let Some(header) = header {
            let message = "has no effect without config, which gives the payloads";
            let shown = Some(format!("{header:?}"));
            fields
                .problems
                .add(fields.at("payload_header"), shown, message);
        }
        return None;
    };
    let source = text.strip_prefix("kv:").and_then(|it| it.split_once('/'));
    let Some((binding, key)) = source.filter(|(it, key)| !it.is_empty() && !key.is_empty()) else {
        let message = "must be kv:BINDING/KEY, as in \"kv:EXPERIMENTS/experiment:{variant}\"";
        let shown = Some(format!("{text:?}"));
        fields.problems.add(fields.at("config"), shown, message);
        return None;
    };
    Some(ConfigSpec {
        binding: binding.to_owned(),
        key: key.to_owned(),
        interval,
        header: header.map(str::to_owned),
    })
}

pub(super) fn experiment(
    value: &Value,
    path: String,
    problems: &Problems,
) -> Option<ExperimentSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let name = fields.required_text("name").map(str::to_owned);
    let cookie = fields.text("cookie").unwrap_or("ab-variant").to_owned();
    fields.required("variants")?;
    let mut variants = Vec::new();
    for (path, pair) in fields.list("variants") {
        let read = match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(name), Value::Number(weight)]) => {
                weight.as_f64().map(|weight| (name, weight))
            }
            _ => None,
        };
        match read {
            Some((name, weight)) if weight >= 0.0 && weight.is_finite() => {
                variants.push((name.clone(), weight))
            }
            Some(_) => problems.add(path, Some(shown(pair)), "must have a weight ≥ 0"),
            None => problems.add(
                path,
                Some(shown(pair)),
                "must be a pair of a name and a weight",
            ),
        }
    }
    let modes = [
        ("cookie", experiment::Mode::Cookie),
        ("redirect", experiment::Mode::Redirect),
    ];
    let mode = fields.choice("mode", &modes, experiment::Mode::Cookie);
    let by = match fields.text("by") {
        None => ExperimentBy::Cookie,
        Some("sub") => ExperimentBy::Sub,
        Some(text) => match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => ExperimentBy::Header(name.to_owned()),
            Some(("claim", name)) if !name.is_empty() => ExperimentBy::Claim(name.to_owned()),
            _ => {
                let message = "must be null, \"sub\", \"header:NAME\" or \"claim:NAME\"";
                problems.add(fields.at("by"), Some(format!("{text:?}")), message);
                ExperimentBy::Cookie
            }
        },
    };
    let salt = fields.text("salt").unwrap_or_default().to_owned();
    let header = fields.text("header").unwrap_or("X-Variant").to_owned();
    let max_age = fields.delta("max_age", 2_592_000);
    let secure = fields.flag("secure", false);
    let same_sites = [("Strict", "Strict"), ("Lax", "Lax"), ("None", "None")];
    let same_site = fields.choice("same_site", &same_sites, "Lax").to_owned();
    let config = experiment_config(&mut fields);
    let conversion = fields.text("conversion").map(str::to_owned);
    fields.end();
    Some(ExperimentSpec {
        name: name?,
        cookie,
        variants,
        mode,
        by,
        salt,
        header,
        max_age,
        secure,
        same_site,
        config,
        conversion,
    })
}
