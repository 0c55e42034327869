//! The experiments of routes, and the places where their settings are read.

use super::{DeclaredNames, routes::within};
use crate::{
    experiment::{ConfigSpec, Experiment, ExperimentBy, ExperimentSpec},
    http::FieldName,
    plan::{Conversion, Route, spec::Problems},
};

/// Compiles the experiments of a route. Adds to `fields` those that only the edge may set because of them.
pub(super) fn experiments(
    specs: Vec<(usize, ExperimentSpec)>,
    has_auth: bool,
    names: &DeclaredNames,
    path: &str,
    fields: &mut Vec<FieldName>,
    problems: &Problems,
) -> Vec<Experiment> {
    let mut seen: Vec<(usize, String, String, String)> = Vec::new();
    let mut compiled = Vec::with_capacity(specs.len());
    for (at, spec) in specs {
        let place = format!("{path}.experiments[{at}]");
        if matches!(spec.by, ExperimentBy::Sub | ExperimentBy::Claim(_)) && !has_auth {
            problems.add(
                format!("{place}.by"),
                None,
                "needs auth on this route: without a token there are no claims",
            );
        }
        for (other, name, cookie, header) in &seen {
            let same = [
                ("name", &spec.name, name, spec.name == *name),
                ("cookie", &spec.cookie, cookie, spec.cookie == *cookie),
                (
                    "header",
                    &spec.header,
                    header,
                    spec.header.eq_ignore_ascii_case(header),
                ),
            ];
            for (field, value, _, _) in same.iter().filter(|(.., same)| *same) {
                let message = format!(
                    "is that of experiments[{other}] too: two experiments of a route would overwrite each other"
                );
                problems.add(
                    format!("{place}.{field}"),
                    Some(format!("{value:?}")),
                    message,
                );
            }
        }
        if let Some(config) = &spec.config {
            config_fits(config, &spec, &seen, names, &place, problems);
            let header = config.header.as_ref().map(|name| name.as_bytes());
            fields.extend(header.and_then(|name| FieldName::from_bytes(name).ok()));
        }
        seen.push((
            at,
            spec.name.clone(),
            spec.cookie.clone(),
            spec.header.clone(),
        ));
        let payload = spec.config.as_ref().and_then(|it| it.header.clone());
        // The other names of this entry are none that an experiment can have.
        seen.extend(payload.map(|it| (at, String::new(), String::new(), it)));
        fields.extend(FieldName::from_bytes(spec.header.as_bytes()).ok());
        if let Some(text) = &spec.conversion
            && let Err(message) = Conversion::parse(text)
        {
            let value = Some(format!("{text:?}"));
            problems.add(format!("{place}.conversion"), value, message);
        }
        match Experiment::compile(spec) {
            Ok(experiment) => compiled.push(experiment),
            Err(found) => within(&place, found, problems),
        }
    }
    compiled
}

fn config_fits(
    config: &ConfigSpec,
    spec: &ExperimentSpec,
    seen: &[(usize, String, String, String)],
    names: &DeclaredNames,
    place: &str,
    problems: &Problems,
) {
    if !names
        .key_values
        .iter()
        .any(|name| **name == *config.binding)
    {
        problems.add(
            format!("{place}.config"),
            Some(format!("{:?}", config.binding)),
            "names no key-value store of the plan; declare it with edge.kv",
        );
    }
    let Some(header) = &config.header else {
        return;
    };
    let others = seen.iter().map(|(.., other)| other);
    let mut taken = others.chain([&spec.header]);
    if taken.any(|other| other.eq_ignore_ascii_case(header)) {
        problems.add(
            format!("{place}.payload_header"),
            Some(format!("{header:?}")),
            "has a variant or another payload already: they would overwrite each other",
        );
    }
}

/// Gives each experiment with settings of its own a place among the readings; those that read the same share one.
pub(super) fn place_readings(routes: &mut [Route]) {
    let mut next = 0;
    for at in 0..routes.len() {
        let (before, rest) = routes.split_at_mut(at);
        let Some(route) = rest.first_mut() else {
            return;
        };
        for experiment in &mut route.experiments {
            let mut known = before.iter().flat_map(|route| &route.experiments);
            let known = known.find(|known| known.reads_like(experiment));
            let known = known.and_then(|known| Some(known.config.as_ref()?.slot));
            if let Some(config) = &mut experiment.config {
                config.slot = known.unwrap_or(next);
                next += usize::from(known.is_none());
            }
        }
    }
}
