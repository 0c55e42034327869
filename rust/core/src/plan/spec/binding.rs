//! Bindings as a plan declares them.

use std::time::Duration;

use serde_json::Value;

use super::{
    policies::secret,
    reader::{Fields, Problems},
};
use crate::{
    plan::binding::{Binding, BindingKind, DataAddress, is_name},
    secret::Secret,
};

/// The longest time for which a read may be answered without the file or server.
const LONGEST_STALENESS: Duration = Duration::from_secs(86_400);

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
    let url = fields.required("url").and_then(|value| match value {
        Value::String(text) => Some(Secret(text.clone().into())),
        value => secret(value, at.clone(), problems),
    });
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
    let staleness = fields.timeout("staleness", Duration::ZERO, false);
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
    if !staleness.is_zero() && matches!(kind, Some(BindingKind::Database | BindingKind::Documents))
    {
        let value = Some(staleness.as_secs_f64().to_string());
        let why = "has no effect here, as databases are never read from a cache; remove it";
        problems.add(fields.at("staleness"), value, why);
    }
    fields.end();
    Some(Binding {
        name: name?.into(),
        kind: kind?,
        address: address?,
        staleness,
    })
}
