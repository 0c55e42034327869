//! `JWT`.

use serde_json::Value;

use super::{
    reader::{Fields, Problems, shown},
    secret::secret,
};
use crate::identity::jwt::{JwtKeysSpec, JwtSpec};

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
