//! `images` and `image_sources` of a route.

use ipnet::IpNet;
use serde_json::Value;

use super::{
    ImageSourcesSpec, TargetSpec, guard,
    reader::{Fields, Problems},
};
use crate::{
    images::{ImageFormat, MOST_PIXELS},
    plan::ImagePolicy,
};

/// Sizes or qualities of one list; `docs/limits.md` names it.
const MOST_LISTED: usize = 64;

pub(super) fn policy(value: &Value, path: String, problems: &Problems) -> Option<ImagePolicy> {
    let mut fields = Fields::open(value, path, problems)?;
    let standard = ImagePolicy::default();
    let most = u64::from(MOST_PIXELS);
    let widths = numbers(&mut fields, "widths", most).unwrap_or(standard.widths);
    let heights = numbers(&mut fields, "heights", most);
    // No list of its own: the same as for the widths.
    let heights = match heights {
        Some(Some(listed)) if listed.is_empty() => widths.clone(),
        Some(heights) => heights,
        None => widths.clone(),
    };
    let qualities = numbers(&mut fields, "qualities", 100).unwrap_or(standard.qualities);
    let quality = match fields.raw("quality") {
        None => Some(standard.quality),
        Some(value) => {
            let number = fields.whole_of("quality", value, 1, 100, "");
            number.and_then(|number| u8::try_from(number).ok())
        }
    };
    let formats = formats(&mut fields).unwrap_or(standard.formats);
    let treatments = [("pass", true), ("refuse", false)];
    let svg = fields.choice("svg", &treatments, standard.svg);
    let avif = fields.choice("avif", &treatments, standard.avif);
    let hints = fields.flag("hints", standard.hints);
    fields.end();
    Some(ImagePolicy {
        widths,
        heights,
        qualities,
        quality: quality?,
        formats,
        svg,
        avif,
        hints,
    })
}

/// A list of numbers from 1, sorted; `Some(None)` for null.
fn numbers<N: TryFrom<u64> + Ord>(
    fields: &mut Fields<'_>,
    name: &'static str,
    most: u64,
) -> Option<Option<Box<[N]>>> {
    let value = fields.raw(name)?;
    if value.is_null() {
        return Some(None);
    }
    let items = fields.list_of(name, value);
    if items.len() > MOST_LISTED {
        fields.wrong(
            name,
            &items.len().into(),
            format!("must have at most {MOST_LISTED} members"),
        );
    }
    let mut numbers: Vec<N> = items
        .into_iter()
        .filter_map(|(path, item)| {
            let number = item.as_u64().filter(|number| (1..=most).contains(number));
            if number.is_none() {
                let message = format!("must be a whole number from 1 to {most}");
                fields.problems.add(path, Some(item.to_string()), message);
            }
            N::try_from(number?).ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    Some(Some(numbers.into()))
}

/// `"auto"`, or a list of formats in any order.
fn formats(fields: &mut Fields<'_>) -> Option<Box<[ImageFormat]>> {
    let value = fields.raw("formats")?;
    if value == "auto" {
        return None;
    }
    let items = fields.list_of("formats", value);
    let mut named = Vec::new();
    for (path, text) in fields.only_texts(items) {
        match ImageFormat::named(text) {
            Some(format) => named.push(format),
            None => {
                let known = ImageFormat::ALL.map(ImageFormat::as_str).join(", ");
                let message = format!("must be one of {known}");
                fields
                    .problems
                    .add(path, Some(format!("{text:?}")), message);
            }
        }
    }
    if named.is_empty() {
        fields.wrong(
            "formats",
            value,
            "must be \"auto\" or name at least one format",
        );
    }
    let ordered = ImageFormat::ALL.into_iter();
    Some(ordered.filter(|format| named.contains(format)).collect())
}

/// Networks in which hosts of others may be. One of all addresses would let a name of others lead anywhere.
fn private_networks(fields: &mut Fields<'_>) -> Vec<IpNet> {
    for (path, text) in fields.texts("networks") {
        let is_all = text
            .parse::<IpNet>()
            .is_ok_and(|network| network.prefix_len() == 0);
        if is_all {
            let message =
                "must be a private network such as \"10.1.0.0/16\", and none of all addresses";
            fields
                .problems
                .add(path, Some(format!("{text:?}")), message);
        }
    }
    guard::networks(fields, "networks")
}

/// `fetch` of the plan: hosts with the path of each, and networks.
pub(super) fn foreign(
    value: &Value,
    path: String,
    problems: &Problems,
) -> Option<(Vec<(String, String)>, Vec<IpNet>)> {
    let mut fields = Fields::open(value, path, problems)?;
    let hosts = fields.texts("hosts").into_iter();
    let hosts: Vec<_> = hosts.map(|(path, text)| (path, text.to_owned())).collect();
    let networks = private_networks(&mut fields);
    if hosts.is_empty() {
        fields.problems.add(
            fields.at("hosts"),
            None,
            "must name a host that functions may fetch from",
        );
    }
    fields.end();
    Some((hosts, networks))
}

pub(super) fn sources(value: &Value, path: String, problems: &Problems) -> Option<TargetSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let owned = |texts: Vec<(String, &str)>| {
        texts
            .into_iter()
            .map(|(path, text)| (path, text.to_owned()))
            .collect()
    };
    let origins = owned(fields.texts("origins"));
    let hosts = owned(fields.texts("hosts"));
    let networks = private_networks(&mut fields);
    fields.end();
    Some(TargetSpec::Images(ImageSourcesSpec {
        origins,
        hosts,
        networks,
    }))
}
