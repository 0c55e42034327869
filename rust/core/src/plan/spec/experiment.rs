//! `EXPERIMENT`.

use std::time::Duration;

use serde_json::Value;

use super::reader::{Fields, Problems, shown};
use crate::experiment::{self, ConfigSpec, ExperimentBy, ExperimentSpec};

/// `config`, `config_interval` and `payload_header` of an experiment.
fn experiment_config(fields: &mut Fields<'_>) -> Option<ConfigSpec> {
    let text = fields.text("config");
    let interval = fields.interval("config_interval", Duration::from_secs(5));
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
