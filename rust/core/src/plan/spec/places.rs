//! `geo` of a plan, and the lists of countries, network operators and facts that policies name.

use std::time::Duration;

use serde_json::Value;

use super::reader::{Fields, Problems, shown};
use crate::{
    admit,
    geo::{Country, GeoFact, GeoNaming, GeoPolicy, MOST_FILES, MOST_REGIONS, Region},
    guard::places::{MOST_ASNS, PlacePolicy},
    http::FieldName,
    plan::{Condition, Subject, Test},
};

/// Countries, sorted, each once.
pub(super) fn countries(fields: &mut Fields<'_>, name: &'static str) -> Vec<Country> {
    let mut found = Vec::new();
    for (path, text) in fields.texts(name) {
        match Country::parse(text.as_bytes()) {
            Some(country) => found.push(country),
            None => {
                let message = "must be the two letters of a country (ISO 3166-1) as in \"DE\"";
                fields
                    .problems
                    .add(path, Some(format!("{text:?}")), message);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The condition that a client is in one of these countries.
pub(super) fn by_country(fields: Fields<'_>, countries: &[Country]) -> Option<Condition> {
    let at = fields.at("country");
    if countries.is_empty() && !fields.problems.at(&at) {
        let message = "must name at least one country";
        fields.problems.add(at, None, message);
    }
    fields.end();
    Some(Condition {
        subject: Subject::Country,
        test: Test::Country(countries.into()),
    })
}

fn asns(fields: &mut Fields<'_>, name: &'static str) -> Vec<u32> {
    let mut found = Vec::new();
    for (path, value) in fields.list(name) {
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => found.push(number),
            None => fields.problems.add(
                path,
                Some(shown(value)),
                "must be the number of an autonomous system as in 64500",
            ),
        }
    }
    if found.len() > MOST_ASNS {
        let message = format!("must have at most {MOST_ASNS} numbers");
        let count = Some(found.len().to_string());
        fields.problems.add(fields.at(name), count, message);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The lists of an address policy that are about places; `None` if it has none.
pub(super) fn lists(fields: &mut Fields<'_>) -> Option<Box<PlacePolicy>> {
    let policy = PlacePolicy {
        allow_countries: fields
            .some("allow_countries")
            .map(|_| countries(fields, "allow_countries").into()),
        deny_countries: countries(fields, "deny_countries").into(),
        allow_asns: fields
            .some("allow_asns")
            .map(|_| asns(fields, "allow_asns").into()),
        deny_asns: asns(fields, "deny_asns").into(),
    };
    (!policy.is_empty()).then(|| Box::new(policy))
}

/// Facts, in the order of [`GeoFact::ALL`], each once.
pub(super) fn facts(fields: &mut Fields<'_>, name: &'static str) -> Vec<GeoFact> {
    let mut named = Vec::new();
    for (path, value) in fields.list(name) {
        let word = value.as_str();
        match GeoFact::ALL.iter().find(|(known, _)| Some(*known) == word) {
            Some((_, fact)) => named.push(*fact),
            None => {
                let words: Vec<_> = GeoFact::ALL.iter().map(|(word, _)| *word).collect();
                let message = format!("must be one of {}", words.join(", "));
                fields.problems.add(path, Some(shown(value)), message);
            }
        }
    }
    let all = GeoFact::ALL.iter().map(|(_, fact)| *fact);
    all.filter(|fact| named.contains(fact)).collect()
}

/// `geo` of the plan. `trusted`: the fields that trusted proxies may set, in lower case.
pub(super) fn geo(value: &Value, trusted: &[Box<str>], problems: &Problems) -> Option<GeoPolicy> {
    let mut fields = Fields::open(value, "geo", problems)?;
    let mut files = Vec::new();
    for (path, text) in fields.texts("files") {
        if text.is_empty() || text.contains('\0') {
            let message = "must be a file in MaxMind's format as in \"GeoLite2-City.mmdb\"";
            problems.add(path, Some(format!("{text:?}")), message);
        } else {
            files.push(text.into());
        }
    }
    if files.len() > MOST_FILES {
        let message = format!("must be at most {MOST_FILES} files");
        problems.add(fields.at("files"), Some(files.len().to_string()), message);
    }
    let interval = fields.interval("interval", Duration::from_secs(5));
    let namings = [
        ("x-geo", GeoNaming::XGeo),
        ("cloudfront", GeoNaming::CloudFront),
    ];
    let naming = fields.choice("naming", &namings, GeoNaming::XGeo);
    let mut country_fields = Vec::new();
    for (path, text) in fields.texts("country_fields") {
        let name = text.to_ascii_lowercase();
        let own = GeoFact::ALL
            .iter()
            .any(|(_, fact)| fact.field(naming) == *name);
        let believed = trusted.iter().any(|field| match field.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => **field == *name,
        });
        let message = if own {
            "is set by the edge itself: choose the other naming"
        } else if !(admit::is_named(&name) && believed) {
            "must be in trusted_proxy_fields: only a trusted proxy may name the country"
        } else {
            country_fields.extend(FieldName::from_bytes(name.as_bytes()).ok());
            continue;
        };
        problems.add(path, Some(format!("{text:?}")), message);
    }
    let regions = regions(&mut fields);
    let count_countries = fields.flag("count_countries", false);
    let named = fields.some("files").or(fields.some("country_fields"));
    if named.is_none() {
        let message = "has no effect: name files, or country_fields of trusted proxies";
        problems.add(fields.path.clone(), None, message);
    }
    fields.end();
    Some(GeoPolicy {
        files,
        interval,
        naming,
        country_fields,
        regions: regions.into(),
        count_countries,
    })
}

fn regions(fields: &mut Fields<'_>) -> Vec<Region> {
    let mut found = Vec::new();
    for (path, name, value) in fields.map("regions") {
        let degrees = |at: usize, most: f64| {
            let number = value.as_array().filter(|pair| pair.len() == 2)?.get(at)?;
            number.as_f64().filter(|degrees| degrees.abs() <= most)
        };
        let is_name =
            (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        match (degrees(0, 90.0), degrees(1, 180.0)) {
            (Some(latitude), Some(longitude)) if is_name => found.push(Region {
                name: name.into(),
                latitude,
                longitude,
            }),
            _ => {
                let message = "must be a name of 1 to 64 visible characters, and its latitude and longitude in degrees \
                               as in [50.1, 8.7]";
                fields.problems.add(path, Some(shown(value)), message);
            }
        }
    }
    if found.len() > MOST_REGIONS {
        let message = format!("must be at most {MOST_REGIONS} regions");
        let count = Some(found.len().to_string());
        fields.problems.add(fields.at("regions"), count, message);
    }
    found
}
