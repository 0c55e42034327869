//! Bindings as a plan declares them.

use std::time::Duration;

use serde_json::Value;

use super::{
    reader::{Fields, Problems},
    secret::secret,
};
use crate::{
    plan::{
        binding::{
            Binding, BindingKind, DataAddress, MOST_REPLICAS, SHORTEST_BOOKMARK_KEY, is_name,
            replica,
        },
        database_server::DatabaseServer,
    },
    secret::Secret,
};

/// The longest time for which a read may be answered without the file or server.
const LONGEST_STALENESS: Duration = Duration::from_secs(86_400);
/// The time that a replica may be behind where the plan names none, and the shortest that can be named: to find it out
/// takes a part of it.
const REPLICA_STALENESS: Duration = Duration::from_secs(10);
const SHORTEST_REPLICA_STALENESS: Duration = Duration::from_secs(1);

pub(super) fn all(fields: &mut Fields<'_>) -> Vec<Binding> {
    let problems = fields.problems;
    let mut found: Vec<Binding> = Vec::new();
    for (path, value) in fields.list("bindings") {
        let at = format!("{path}.name");
        let Some(binding) = binding(value, path, problems) else {
            continue;
        };
        if found.iter().any(|known| known.name == binding.name) {
            let value = Some(format!("{:?}", binding.name));
            problems.add(at, value, "is the name of another binding already");
        }
        found.push(binding);
    }
    found
}

fn binding(value: &Value, path: String, problems: &Problems) -> Option<Binding> {
    let mut fields = Fields::open(value, path, problems)?;
    let name = fields.required_text("name");
    if let Some(name) = name.filter(|name| !is_name(name)) {
        problems.add(
            fields.at("name"),
            Some(format!("{name:?}")),
            "must be a name for ctx.env: a letter, then letters, digits and \"_\", 64 at most",
        );
    }
    let kinds = [
        ("kv", BindingKind::KeyValue),
        ("database", BindingKind::Database),
        ("documents", BindingKind::Documents),
    ];
    let kind = fields
        .required("kind")
        .and_then(|value| fields.choice_of("kind", value, &kinds));
    let at = fields.at("url");
    let url = fields.required("url");
    let url = url.and_then(|value| text_or_secret(value, at.clone(), problems));
    let address = url.and_then(|url| match DataAddress::parse(&url) {
        Ok(address) => Some(address),
        Err(why) => {
            problems.add(at, None, why);
            None
        }
    });
    if let (Some(kind), Some(address)) = (kind, &address)
        && let Some(why) = address.misfit(kind)
    {
        problems.add(fields.at("url"), None, why);
    }
    let replicas = replicas(&mut fields, kind, address.as_ref(), problems);
    let has_replicas = !replicas.is_empty();
    let bookmark_key = bookmark_key(&mut fields, has_replicas, problems);
    let unsaid = if has_replicas {
        REPLICA_STALENESS
    } else {
        Duration::ZERO
    };
    let auth_token = auth_token(&mut fields, address.as_ref(), problems);
    let staleness = fields.timeout("staleness", unsaid, false);
    if has_replicas && staleness < SHORTEST_REPLICA_STALENESS {
        let value = Some(staleness.as_secs_f64().to_string());
        let why = "must be ≥ 1 second with replicas; read the primary by a session that begins with \"first-primary\"";
        problems.add(fields.at("staleness"), value, why);
    }
    if staleness > LONGEST_STALENESS {
        let value = Some(staleness.as_secs_f64().to_string());
        problems.add(fields.at("staleness"), value, "must be ≤ 86400 seconds");
    }
    if !staleness.is_zero() && address == Some(DataAddress::Memory) {
        let value = Some(staleness.as_secs_f64().to_string());
        problems.add(
            fields.at("staleness"),
            value,
            "has no effect on memory:, which is read directly; remove it",
        );
    }
    if !staleness.is_zero()
        && !has_replicas
        && matches!(kind, Some(BindingKind::Database | BindingKind::Documents))
    {
        let value = Some(staleness.as_secs_f64().to_string());
        let why = "has no effect here, as databases without replicas are never read from a cache; remove it";
        problems.add(fields.at("staleness"), value, why);
    }
    fields.end();
    Some(Binding {
        name: name?.into(),
        kind: kind?,
        address: address?,
        staleness,
        replicas,
        bookmark_key,
        auth_token,
    })
}

fn text_or_secret(value: &Value, at: String, problems: &Problems) -> Option<Secret> {
    match value {
        Value::String(text) => Some(Secret(text.clone().into())),
        value => secret(value, at, problems),
    }
}

fn replicas(
    fields: &mut Fields<'_>,
    kind: Option<BindingKind>,
    primary: Option<&DataAddress>,
    problems: &Problems,
) -> Vec<DatabaseServer> {
    let mut found: Vec<DatabaseServer> = Vec::new();
    let listed = fields.list("replicas");
    if listed.len() > MOST_REPLICAS {
        let why = format!(
            "has {} servers, and {MOST_REPLICAS} are the most",
            listed.len()
        );
        problems.add(fields.at("replicas"), None, why);
    }
    if !listed.is_empty() && matches!(kind, Some(BindingKind::KeyValue | BindingKind::Documents)) {
        let why = "have no effect here, as only databases have them; remove them";
        problems.add(fields.at("replicas"), None, why);
        return found;
    }
    for (at, value) in listed {
        let url = text_or_secret(value, at.clone(), problems);
        let (Some(url), Some(primary)) = (url, primary) else {
            continue;
        };
        match replica(&url, primary) {
            Ok(server) if found.iter().any(|known| known.place == server.place) => {
                problems.add(at, None, "is the server of another replica already");
            }
            Ok(server) => found.push(server),
            Err(why) => problems.add(at, None, why),
        }
    }
    found
}

fn bookmark_key(
    fields: &mut Fields<'_>,
    has_replicas: bool,
    problems: &Problems,
) -> Option<Secret> {
    let at = fields.at("bookmark_key");
    let value = fields.some("bookmark_key")?;
    let key = text_or_secret(value, at.clone(), problems)?;
    if !has_replicas {
        let why = "has no effect without replicas; remove it";
        problems.add(at, None, why);
    } else if key.as_bytes().len() < SHORTEST_BOOKMARK_KEY {
        let why = format!("must have {SHORTEST_BOOKMARK_KEY} bytes or more, drawn at random");
        problems.add(at, None, why);
    }
    Some(key)
}

fn auth_token(
    fields: &mut Fields<'_>,
    address: Option<&DataAddress>,
    problems: &Problems,
) -> Option<Secret> {
    let at = fields.at("auth_token");
    let value = fields.some("auth_token")?;
    let token = text_or_secret(value, at.clone(), problems)?;
    // It goes into a field of HTTP.
    if !token.as_bytes().iter().all(u8::is_ascii_graphic) {
        problems.add(
            at.clone(),
            None,
            "must be visible characters of ASCII without spaces",
        );
    }
    if address.is_some_and(|it| !matches!(it, DataAddress::LibSql(_))) {
        let why = "has no effect here, as only libsql:// has it; remove it";
        problems.add(at, None, why);
    }
    Some(token)
}
