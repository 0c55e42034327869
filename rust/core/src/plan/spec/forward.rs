//! `FORWARD`: the parts of a request that go to the origin.

use serde_json::Value;

use super::{
    ForwardSpec, UnkeyedSpec,
    headers::{header_name, select_of, starred},
    places,
    reader::{Fields, Problems},
};

pub(super) fn forward(value: &Value, path: String, problems: &Problems) -> Option<ForwardSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let choice = |fields: &mut Fields<'_>, name, lower| {
        let value = fields.some(name)?;
        select_of(fields, name, value, lower)
    };
    let query = choice(&mut fields, "query", false);
    let headers = choice(&mut fields, "headers", true);
    let cookies = choice(&mut fields, "cookies", false);
    let geo = fields
        .some("geo")
        .map(|_| places::facts(&mut fields, "geo"));
    let unkeyed = fields
        .texts("unkeyed")
        .into_iter()
        .filter_map(|(path, text)| {
            let spec = unkeyed(&path, text, problems)?;
            Some((path, spec))
        })
        .collect();
    fields.end();
    Some(ForwardSpec {
        query,
        headers,
        cookies,
        unkeyed,
        geo,
    })
}

/// `NAME` of a field, `query:NAME`, `cookie:NAME` or `claim:NAME`.
fn unkeyed(path: &str, text: &str, problems: &Problems) -> Option<UnkeyedSpec> {
    let Some((kind, name)) = text.split_once(':') else {
        return header_name(path, text, problems).map(UnkeyedSpec::Field);
    };
    match kind {
        "query" => starred(path, name, problems).then(|| UnkeyedSpec::Query(name.to_owned())),
        "cookie" => starred(path, name, problems).then(|| UnkeyedSpec::Cookie(name.to_owned())),
        "claim" if !name.is_empty() => Some(UnkeyedSpec::Claim(name.to_owned())),
        _ => {
            let message =
                "must be the name of a field, \"query:NAME\", \"cookie:NAME\" or \"claim:NAME\"";
            problems.add(path, Some(format!("{text:?}")), message);
            None
        }
    }
}
